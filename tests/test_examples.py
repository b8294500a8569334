"""What examples/ and the README promise, run as they are."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from spikerecon.comparison import HEADING
from spikerecon.engine import Reconstructor
from spikerecon.recording import open_recording
from spikerecon.video import read_video

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def test_the_example_recording_is_the_built_in_fan(tmp_path):
    with open_recording(EXAMPLES / "fan.dat") as recording:
        assert (recording.width, recording.height, recording.planes) == (400, 250, 300)


def test_the_example_program(tmp_path, monkeypatch, capsys):
    target = tmp_path / "fan.mp4"
    monkeypatch.setattr(sys, "argv", ["reconstruct.py", str(EXAMPLES / "fan.dat"), str(target)])
    runpy.run_path(str(EXAMPLES / "reconstruct.py"), run_name="__main__")
    assert len(list(read_video(target))) == 4
    assert "4 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(("source", "panels"), [("fan", 4), (str(EXAMPLES / "fan.dat"), 3)])
def test_the_pictures_of_the_readme(tmp_path, source, panels):
    target = tmp_path / "out.png"
    subprocess.run([sys.executable, EXAMPLES / "pictures.py", source, target], check=True)
    with Image.open(target) as picture:
        width = 240 if source == "fan" else 400
        assert picture.size == (panels * width, 250 + HEADING)


def test_what_a_picture_costs_is_measured(capsys):
    pytest.importorskip("matplotlib")
    measure = runpy.run_path(str(EXAMPLES / "cost.py"))["measure"]
    assert measure(Reconstructor("tfp"), width=64, height=48) > 0
    assert capsys.readouterr().out.startswith("| tfp | float32 | 64x48 | 20 |")


def test_the_readme_s_program(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    exec(compile(program, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("100 (250, 400)")
    assert len(list(read_video("fan.mp4"))) == 13


def test_the_readme_names_only_commands_and_options_that_there_are():
    from spikerecon.cli import main

    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"^spikerecon (\w+)", text, re.MULTILINE):
        assert name in main.commands
    known = {"--help"} | {
        flag
        for command in main.commands.values()
        for option in command.params
        for flag in (*option.opts, *option.secondary_opts)
    }
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        assert flag in known, flag
