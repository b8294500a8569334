"""Wrong inputs and interrupted work: one line, the right exit status, and nothing written."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import SMALL, Command, contents
from PIL import Image
from safetensors.torch import save_file

from spikerecon import checkpoint
from spikerecon.cli import main
from spikerecon.engine import Reconstructor

PLANE = 64 * 48 // 8  # bytes


class Bomb:
    """What an unsafe loader would run when it reads this."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: Path, fan_file: Path) -> Path:
    """The current folder, full of things that are wrong in some way."""
    monkeypatch.chdir(tmp_path)
    data = small_file.read_bytes()
    Path("small.dat").write_bytes(data)
    Path("short.dat").write_bytes(data[: 59 * PLANE])
    Path("empty.dat").touch()
    Path("packed.npz").write_bytes(data)
    Path("fan.dat").write_bytes(fan_file.read_bytes())
    Path("noise.dat").write_bytes(np.random.default_rng(0).bytes(12_345))
    for name in ("there", "full", "sub"):
        Path(name).mkdir()
    Path("full/000000.png").write_bytes(data)
    Path("sub/small.dat").write_bytes(data)
    Path("sub/true_000030.png").write_text("keep me")
    Path("taken.mp4").write_text("keep me")
    Path("taken.png").write_text("keep me")
    Path("taken.dat").write_text("keep me")
    Path("bundled.safetensors").write_bytes(checkpoint.find("stir").read_bytes()[:100_000])
    Path("noise.safetensors").write_bytes(np.random.default_rng(0).bytes(5000))
    save_file({"weight": torch.zeros(3)}, "foreign.safetensors")
    torch.save(Bomb(), "bomb.pth")
    Path("bomb-plain.pth").write_bytes(pickle.dumps({"weight": Bomb()}))
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    Path("no.json").write_text("{")
    Path("pictures").mkdir()
    for number in range(3):
        Image.new("L", (64, 64)).save(f"pictures/{number}.png")
    Path("gone.json").write_text('[{"name": "x", "file": "x.dat"}]')
    for name in ("small.mp4", "small.png"):
        Path(name).write_bytes(data)
    Path("scored").mkdir()
    entry = {"name": "x", "file": "x.dat", "width": 64, "height": 48, "full_scale_rate": 0.6}
    Path("scored/sequences.json").write_text(json.dumps([entry | {"centers": [50], "truth": ["x.png"]}]))
    for name in ("x.dat", "x.png"):
        (Path("scored") / name).write_bytes(data)
    Path("blocks/0").mkdir(parents=True)
    Path("blocks/0/0.dat").write_bytes(data)
    Path("gap").mkdir()
    Path("gap/000001.png").write_text("keep me")
    return tmp_path


CONVERT = f"convert small.dat {' '.join(SMALL)} --method tfp -o out.mp4"
SCORE = "evaluate scored/sequences.json"
STIR = f"convert small.dat {' '.join(SMALL)} -o out.mp4"
BUILT_IN = "frames --center 60 --method tfp"
FRAMES = f"frames small.dat {' '.join(SMALL)} --method tfp"

# What is said of it, exit status, command
WRONG = [
    # recordings
    ("--layout is for recordings, not for the built-in fan", 2, f"{BUILT_IN} --layout raw1000"),
    ("--flip is for recordings", 2, f"{BUILT_IN} --no-flip"),
    ("--start is for recordings", 2, "bench --start 100 --method tfp"),
    ("--end is for recordings", 2, f"{BUILT_IN} --end 100"),
    ("the built-in fan has no flawed pixels", 2, f"{BUILT_IN} --mend"),
    ("end 5000 is out of range: this recording has 100 planes", 2, f"{FRAMES} --center 50 --end 5000"),
    ("holds 0 whole planes of 4000000x2500000", 1, "info small.dat --size 4000000x2500000"),
    ("there is too little memory", 1, "info - --size 40000000x25000000"),
    ("out-%d.png: single pictures get their centre", 2, f"{FRAMES} --center 50 -o out-%d.png"),
    ("out.npz: .npz files hold arrays, not packed planes", 2, "simulate fan -o out.npz"),
    ("out.npz: .npz files hold arrays, not packed planes", 2, f"repack small.dat -o out.npz {' '.join(SMALL)}"),
    ("packed.npz: is not a sound .npz file: it is no zip archive", 1, "info packed.npz"),
    ("missing.dat: no such file", 1, "convert missing.dat -o out.mp4"),
    ("missing.dat: no such file", 1, "info missing.dat"),
    ("missing.dat: no such file", 1, "bench missing.dat"),
    ("missing.dat: no such file", 1, "frames missing.dat --center 60"),
    ("missing.json: no such file", 1, "evaluate missing.json"),
    ("empty.dat: is empty", 1, "convert empty.dat -o out.mp4"),
    ("there: is a folder", 1, "convert there -o out.mp4"),
    ("at least 60 are needed", 1, f"convert short.dat {' '.join(SMALL)} -o out.mp4"),
    ("no whole number of planes", 1, "convert small.dat --size 63x48 -o out.mp4"),
    ("size '64' is not WIDTHxHEIGHT", 2, "convert small.dat --size 64 -o out.mp4"),
    ("does not fill whole bytes", 2, "convert small.dat --size 3x3 -o out.mp4"),
    ("give --size", 1, "convert noise.dat -o out.mp4"),
    ("row headers are known at 400x250 only", 2, "info small.dat --layout row-headers --size 64x48"),
    ("a stream does not tell its size", 2, "convert - -o out.mp4"),
    ("a stream can be read once only", 2, "bench - --size 64x48 --method tfp"),
    ("rate 0 is not a number", 2, f"{CONVERT} --rate 0"),
    # what to make of it
    ("planes 90 to 20 are no range", 2, f"{CONVERT} --start 90 --end 20"),
    ("start 5000 is out of range: this recording has 100 planes", 2, f"{CONVERT} --start 5000"),
    ("fewer than one window of 60", 2, f"{CONVERT} --start 50"),
    ("end 101 is out of range", 2, f"{CONVERT} --end 101"),
    ("'soon' is neither a plane nor a time", 2, f"{CONVERT} --start soon"),
    ("step 0 is out of range", 2, f"{CONVERT} --step 0"),
    ("step -5 is out of range", 2, f"{CONVERT} --step -5"),
    ("a window of 0 planes", 2, f"{CONVERT} --window 0"),
    ("fewer than one window of 500", 2, f"{CONVERT} --window 500"),
    ("the window of stir is set by its weights", 2, f"{STIR} --window 40"),
    ("gain 'bright' is neither auto nor a number", 2, f"{CONVERT} --gain bright"),
    ("--weights are those of stir", 2, f"{CONVERT} --weights stir-lite"),
    ("--weights are those of stir", 2, "bench --method tfi --weights stir"),
    ("gain and gamma must be above 0, and no more than 1e+09", 2, f"{CONVERT} --gain 1e10"),
    ("gain and gamma must be above 0", 2, f"{CONVERT} --gain 0"),
    ("gain and gamma must be above 0", 2, f"{CONVERT} --gain -1"),
    ("gain and gamma must be above 0", 2, f"{CONVERT} --gain nan"),
    ("gain and gamma must be above 0", 2, f"{CONVERT} --gain inf"),
    ("gain and gamma must be above 0", 2, f"{CONVERT} --gamma 0"),
    ("gain and gamma must be above 0", 2, f"{CONVERT} --gamma nan"),
    ("'--gamma': 'big' is not", 2, f"{CONVERT} --gamma big"),
    ("fps must be from 0.01", 2, f"{CONVERT} --fps 0"),
    ("crf must be from 0", 2, f"{CONVERT} --crf 99"),
    ("16 bit needs PNG", 2, f"{CONVERT} --bit-depth 16"),
    ("ffv1 does not go into", 2, f"{CONVERT} --codec ffv1"),
    ("'--bayer': 'rgb' is not one of", 2, f"{CONVERT} --bayer rgb"),
    ("'--precision': 'half' is not one of", 2, f"{STIR} --precision half"),
    ("unknown device 'gpu'", 2, f"{STIR} --device gpu"),
    ("unknown device 'meta'", 2, f"{STIR} --device meta"),
    ("batch size '0' is no whole number", 2, f"{STIR} --batch-size 0"),
    ("batch size 'many' is no whole number", 2, f"{STIR} --batch-size many"),
    ("'--method': 'magic' is not one of", 2, f"{CONVERT} --method magic"),
    ("tfstp has no window", 2, f"{STIR} --method tfstp --window 20"),
    ("--compare and --method exclude each other", 2, f"{CONVERT} --compare tfp,tfi"),
    ("--compare and --method exclude each other", 2, f"{FRAMES} --center 60 --compare tfp,tfi"),
    ("unknown method 'magic'", 2, f"{STIR} --compare tfp,magic"),
    ("unknown method ''", 2, f"{STIR} --compare tfp,"),
    ("--compare tfp names one method", 2, f"{STIR} --compare tfp"),
    ("the window of stir is set by its weights", 2, f"{STIR} --compare stir,tfstp --window 40"),
    ("a stream can be read once only", 2, f"convert - {' '.join(SMALL)} --compare tfp,tfi -o out.mp4"),
    ("a stream can be read once only", 2, f"frames - {' '.join(SMALL)} --center 60 --compare tfp,tfi"),
    ("100 planes takes centers 30 to 90", 2, f"frames small.dat {' '.join(SMALL)} --center 15 --compare tfp,tfstp"),
    # where to
    ("out.avi: unknown suffix .avi", 2, "convert small.dat -o out.avi"),
    ("out.txt: single pictures go to a .png file or a folder", 2, f"{FRAMES} --center 60 -o out.txt"),
    ("needs one number", 2, "convert small.dat -o out.png"),
    ("taken.mp4: exists already; give -y", 1, "convert small.dat -o taken.mp4"),
    ("full: is not empty; give -y", 1, "convert small.dat -o full"),
    ("nowhere: this folder does not exist", 1, "convert small.dat -o nowhere/out.mp4"),
    ("nowhere: this folder does not exist", 1, "convert small.dat -o nowhere/out/%06d.png"),
    ("2 inputs need an output with {name} in it", 2, "convert small.dat fan.dat -o out.mp4"),
    ("two inputs would become the same output", 2, "convert small.dat sub/small.dat -o {name}.gif"),
    ("small.mp4: is what is to be read", 1, f"convert small.mp4 {' '.join(SMALL)} --method tfp -o small.mp4 -y"),
    ("small.mp4: is what is to be read", 1, f"{CONVERT} --flat small.mp4 -o small.mp4 -y"),
    ("small.png: is what is to be read", 1, f"frames small.png {' '.join(SMALL)} --center 50 -o small.png -y"),
    ("small.png: is what is to be read", 1, "info small.png --size 64x48 --plot small.png -y"),
    ("0.dat: is what is to be read", 1, "repack blocks --size 64x48 -o blocks/0/0.dat -y"),
    ("full/000000.png: is what is to be read", 1, "simulate full -o full/000000.png -y"),
    ("x.png: is what is to be read", 1, "evaluate scored/sequences.json --sheet scored/x.png -y --method tfp"),
    ("x.dat: is what is to be read", 1, "evaluate scored/sequences.json --json scored/x.dat -y --method tfp"),
    ("000000.png: is missing, but 000001.png is there", 1, f"{CONVERT} -o gap --resume"),
    ("needs one number", 2, f"{CONVERT} -o %09999999999d.png"),
    ("Missing option '-o'", 2, "convert small.dat"),
    ("Missing argument 'INPUT...'", 2, "convert"),
    ("No such option '--sharpen'", 2, "convert small.dat -o out.mp4 --sharpen"),
    ("No such command 'paint'", 2, "paint"),
    ("No such option '--loud'", 2, "--loud info small.dat"),
    # frames
    ("center 5 is out of range", 2, f"{FRAMES} --center 5"),
    ("center 95 is out of range", 2, f"{FRAMES} --center 60 --center 95 -o out"),
    ("center 5 is out of range: centers start at 10", 2, "frames --center 5 --method tfp"),
    ("start 5000 is out of range: this recording has 100 planes", 2, f"{FRAMES} --center 60 --start 5000"),
    ("center 45 is out of range: planes 40 to 100 take centers 50 to 90", 2, f"{FRAMES} --center 45 --start 40"),
    ("center 45 is out of range: planes 0 to 50 take centers 10 to 40", 2, f"{FRAMES} --center 45 --end 50 --gain 1"),
    ("999999970 single pictures are more than 1000000", 2, f"{FRAMES} --centers 30:1000000000:1"),
    ("is neither a plane nor a time", 2, f"{FRAMES} --center 60 --end {'9' * 5000}"),
    ("at 1e+308 planes a second is beyond all planes", 2, f"{FRAMES} --center 60 --end 10s --rate 1e308"),
    ("is not WIDTHxHEIGHT", 2, f"info small.dat --size {'9' * 5000}x10"),
    ("is not LEFT,TOP,WIDTH,HEIGHT", 2, f"{FRAMES} --center 60 --crop 0,0,9,{'9' * 5000}"),
    ("no picture asked for", 2, FRAMES),
    ("the built-in fan is grey: --bayer needs a recording", 2, "frames --center 60 --bayer bggr"),
    ("range '30:1000' is not START:STOP:STEP", 2, f"{FRAMES} --centers 30:1000"),
    ("'soon' is neither a plane nor a time", 2, f"{FRAMES} --at soon"),
    ("center 4000 is out of range", 2, f"{FRAMES} --at 0.1s"),
    ("rate inf is not a number", 2, f"{FRAMES} --at 1s --rate inf"),
    ("rate inf is not a number", 2, "repack small.dat -o out.dat --start 1s --rate inf"),
    ("taken.png: exists already; give -y", 1, f"{FRAMES} --center 60 -o taken.png"),
    ("nowhere: this folder does not exist", 1, f"{FRAMES} --center 60 -o nowhere/out.png"),
    ("nowhere: this folder does not exist", 1, f"{FRAMES} --center 60 -o nowhere/out"),
    ("2 pictures do not fit in the one file", 2, f"{FRAMES} --center 60 --center 61 -o out.png"),
    ("'convert' writes videos", 2, f"{FRAMES} --center 60 -o out.mp4"),
    # weights
    ("no weights 'missing'", 1, f"{STIR} --weights missing"),
    ("bundled.safetensors is not a safetensors file or is damaged", 1, f"{STIR} --weights bundled.safetensors"),
    ("noise.safetensors is not a safetensors file or is damaged", 1, f"{STIR} --weights noise.safetensors"),
    ("foreign.safetensors holds no 'config'", 1, f"{STIR} --weights foreign.safetensors"),
    ("small.dat is not a safetensors file", 1, "weights check small.dat"),
    ("bomb.pth is a PyTorch checkpoint", 1, f"{STIR} --weights bomb.pth"),
    ("bomb.pth is refused", 1, "weights import bomb.pth -o out.safetensors"),
    ("bomb-plain.pth is refused", 1, "weights import bomb-plain.pth -o out.safetensors"),
    ("noise.dat is", 1, "weights import noise.dat -o out.safetensors"),
    ("other.pth does not fit the network", 1, "weights import other.pth -o out.safetensors"),
    ("no such file: missing.pth", 1, "weights import missing.pth -o out.safetensors"),
    ("weights are written as .safetensors", 2, "weights import bomb.pth -o out.pth"),
    # the others
    ("--frames and --step are whole numbers", 2, "bench --method tfp --frames 0"),
    ("no way window by window to compare it with", 2, "bench --method tfstp --compare reference -q"),
    ("too few to time", 2, "bench small.dat --size 64x48 --method tfp --step 40"),
    ("no.json: is no list of sequences", 1, "evaluate no.json --method tfp"),
    ("gone.json: entry 0 is no sequence", 1, "evaluate gone.json --method tfp"),
    ("taken.dat: exists already; give -y", 1, "evaluate gone.json --method tfp --json taken.dat"),
    ("gone.json: is what is to be read", 1, "evaluate gone.json --method tfp --json gone.json -y"),
    ("nowhere: this folder does not exist", 1, "evaluate gone.json --method tfp --json nowhere/scores.json"),
    ("./same.png: is to be both the JSON and the sheet", 2, "evaluate gone.json --json same.png --sheet ./same.png"),
    ("nowhere: this folder does not exist", 1, "bench --json nowhere/bench.json"),
    ("taken.dat: exists already; give -y", 1, "bench --json taken.dat"),
    ("small.dat: is what is to be read", 1, "bench small.dat --json small.dat -y"),
    ("noise.safetensors: is what is to be", 1, "bench --weights noise.safetensors --json noise.safetensors -y"),
    ("foreign.safetensors: is what is", 1, f"{SCORE} --weights foreign.safetensors --json foreign.safetensors -y"),
    ("full/000000.png: is what is to be read", 1, "convert full/000000.png --size 64x48 --method tfp -o full -y"),
    ("neither a built-in scene (fan, pan) nor a video", 1, "simulate volcano -o out.dat"),
    ("the built-in fan is grey: in colour there is pan", 2, "simulate fan -o out.dat --bayer bggr"),
    ("noise.dat: cannot be read as video", 1, "simulate noise.dat -o out.dat"),
    ("there: holds no pictures", 1, "simulate there -o out.dat"),
    ("taken.dat: exists already; give -y", 1, "simulate fan -o taken.dat"),
    ("nowhere: this folder does not exist", 1, "simulate fan --size 64x48 -o nowhere/out.dat --truth true"),
    ("taken.mp4: is what is to be read", 1, "simulate taken.mp4 -o taken.mp4 -y"),
    ("true_000030.png: exists already", 1, "simulate fan --size 64x48 -o true.dat --planes 60 --truth sub"),
    ("out.dat: is the scene or the recording", 1, "simulate fan --size 64x48 -o out.dat --truth out.dat"),
    ("-: this is not written to standard output", 1, "simulate fan -o -"),
    ("-: this is not written to standard output", 1, "repack small.dat --size 64x48 -o -"),
    ("-: this is not written to standard output", 1, "convert small.dat --size 64x48 -o -"),
    ("taken.mp4: is not a folder", 1, "simulate fan --size 64x48 -o out.dat --truth taken.mp4"),
    ("planes 0 to 50 are 50, fewer than", 2, "simulate fan --size 64x48 -o out.dat --planes 50 --truth true"),
    ("cannot simulate 0 planes", 2, "simulate fan --size 64x48 -o out.dat --planes 0"),
    ("does not fill whole bytes", 2, "simulate fan --size 63x47 -o out.dat --truth true"),
    ("no such folder of pictures: nowhere", 2, "train --images nowhere -o run"),
    ("no pictures in there", 2, "train --images there -o run"),
    ("must be above 0", 2, "train --images there -o run --steps 0"),
    ("taken.dat: is not a folder", 1, "train --images pictures -o taken.dat --steps 1"),
    ("run: lies in pictures: its curve would be trained on", 1, "train --images pictures -o pictures/run --steps 1"),
    ("there is a folder, not a checkpoint", 1, "weights import there -o out.safetensors"),
    ("there: is a folder, or is to become one", 1, "simulate fan --size 64x48 -o there --layout spikelink -y"),
    ("taken.dat: is a folder, or is to become one", 1, "simulate fan -o taken.dat --layout spikelink -y"),
    ("-: this is not written to standard output", 1, "simulate fan -o - --layout spikelink"),
    ("nowhere: this folder does not exist", 1, "simulate fan -o nowhere/out --layout spikelink"),
    ("pictures lasts 40 planes at 20 a picture: not start 500", 2, "simulate pictures -o out.dat --start 500"),
    (
        "pictures lasts 40 planes at 20 a picture: not 35 planes",
        2,
        "simulate pictures -o out.dat --start 9 --planes 35",
    ),
]


@pytest.mark.parametrize(("said", "status", "command"), WRONG, ids=[command for _, _, command in WRONG])
def test_wrong_inputs(folder: Path, said: str, status: int, command: str):
    before = contents(folder)
    result = CliRunner().invoke(main, command.split(), input=b"")
    assert contents(folder) == before
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_cuda_that_is_not_there(folder: Path, device: str):
    for command in (STIR, f"{FRAMES} --center 60", "bench", "train --images there -o run"):
        test_wrong_inputs(folder, f"device '{device}' is not there", 1, f"{command} --device {device}")


def test_a_stream_that_ends_before_the_first_window(folder: Path):
    before = contents(folder)
    words = ["convert", "-", *SMALL, "--method", "tfp", "-o", "out.mp4"]
    result = CliRunner().invoke(main, words, input=Path("short.dat").read_bytes())
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "at least 60 are needed" in result.stderr
    assert contents(folder) == before


def test_a_stream_that_ends_before_the_center(folder: Path):
    before = contents(folder)
    words = ["frames", "-", *SMALL, "--method", "tfp", "--center", "1000", "-o", "out"]
    result = CliRunner().invoke(main, words, input=Path("small.dat").read_bytes())
    assert result.exit_code == 2
    assert result.stderr.startswith("error: center 1000 is out of range: this recording of 100 planes")
    assert len(result.stderr.splitlines()) == 1
    assert contents(folder) == before


def test_a_cut_off_recording_is_converted_with_a_warning(spikerecon: Command, fan_file: Path):
    Path("cut.dat").write_bytes(fan_file.read_bytes()[:-1])
    words = ("--method", "tfp", "--step", 100, "-q")
    result = spikerecon("convert", "cut.dat", "-o", "out.gif", *words)
    assert result.stderr == "warning: cut.dat: the last plane is cut off: its 12499 bytes are left out\n"
    assert Path("out.gif").exists()


def test_several_wrong_inputs_are_a_line_each(folder: Path):
    before = contents(folder)
    result = CliRunner().invoke(main, ["convert", "missing.dat", "empty.dat", "-o", "{name}.mp4"])
    assert result.exit_code == 1
    assert [line.split(":")[:2] for line in result.stderr.splitlines()] == [
        ["error", " missing.dat"],
        ["error", " empty.dat"],
        ["error", " 2 of 2 recordings could not be converted"],
    ]
    assert contents(folder) == before


def test_a_true_picture_that_is_damaged(spikerecon: Command):
    spikerecon("simulate", "pan", *SMALL, "-o", "pan.dat", "--planes", 61, "--truth", "truth")
    Path("truth/pan_000030.png").write_text("no picture")
    result = spikerecon("evaluate", "truth/sequences.json", "--method", "tfp", "-q", status=1)
    assert len(result.stderr.splitlines()) == 1
    assert "pan_000030.png" in result.stderr


def test_a_true_picture_of_another_size(spikerecon: Command):
    spikerecon("simulate", "pan", *SMALL, "-o", "pan.dat", "--planes", 61, "--truth", "truth")
    Image.new("L", (32, 32)).save("truth/pan_000030.png")
    result = spikerecon("evaluate", "truth/sequences.json", "--method", "tfp", "-q", status=2)
    assert len(result.stderr.splitlines()) == 1


# Interrupted


@pytest.mark.parametrize("output", ["out.mp4", "out.gif"])
def test_an_interrupt_leaves_nothing(
    spikerecon: Command, small_file: Path, monkeypatch: pytest.MonkeyPatch, output: str
):
    plain = Reconstructor.frames

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Any]:
        yield next(plain(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(Reconstructor, "frames", interrupted)
    words = ("--method", "tfp", "-q")
    result = spikerecon("convert", small_file, "-o", output, *SMALL, *words, status=130)
    assert (result.stdout, result.stderr) == ("", "interrupted\n")
    assert contents(Path()) == {}


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")
def test_a_closed_terminal_leaves_nothing(
    spikerecon: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: Path
):
    def closed(*arguments: Any, **options: Any) -> Iterator[Any]:
        yield next(plain(*arguments, **options))
        signal.raise_signal(signal.SIGHUP)

    plain = Reconstructor.frames
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Reconstructor, "frames", closed)
    words = ("convert", small_file, "-o", "out.mp4", *SMALL, "--method", "tfp", "-q")
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        assert spikerecon(*words, status=129).stderr == "terminated\n"
        assert contents(tmp_path) == {}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        spikerecon(*words)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("first", "status", "said"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_a_second_signal_lets_the_cleaning_up_end(
    spikerecon: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_file: Path,
    first: str,
    status: int,
    said: str,
    second: str,
):
    """As the impatient send it, and torchrun to a training process that a scheduler has told already."""
    plain, cleaned_up = Reconstructor.frames, []

    def terminated(*arguments: Any, **options: Any) -> Iterator[Any]:
        try:
            yield next(plain(*arguments, **options))
            signal.raise_signal(getattr(signal, first))
        finally:
            signal.raise_signal(getattr(signal, second))
            cleaned_up.append(True)

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Reconstructor, "frames", terminated)
    result = spikerecon("convert", small_file, "-o", "out.mp4", *SMALL, "--method", "tfp", "-q", status=status)
    assert (result.stderr, cleaned_up) == (f"{said}\n", [True])
    assert contents(tmp_path) == {}
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize(("number", "status", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_leaves_nothing(tmp_path: Path, small_file: Path, number: str, status: int, said: str):
    (tmp_path / "long.dat").write_bytes(small_file.read_bytes() * 500)
    words = ["convert", "long.dat", "-o", "out.mp4", *SMALL, "--method", "tfp", "--step", "1", "-q", "--device", "cpu"]
    command = [sys.executable, "-m", "spikerecon", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".*.mp4")):  # until ffmpeg is at work
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(getattr(signal, number))
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, said + "\n")
    assert list(contents(tmp_path)) == ["long.dat"]


IMPATIENT = """
import threading
from spikerecon.cli import main

join = threading.Thread.join
threading.Thread.join = lambda thread, timeout=None: join(thread, 0.5 if timeout else None)
main(prog_name="spikerecon")
"""  # waits less for a thread that is stuck


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_an_interrupt_while_waiting_for_standard_input(tmp_path: Path, small_file: Path):
    words = ["convert", "-", "-o", "out.mp4", *SMALL, "--method", "tfp", "-q", "--device", "cpu"]
    command = [sys.executable, "-c", IMPATIENT, *words]
    streams = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **streams) as process:  # type: ignore[call-overload]
        process.stdin.write(small_file.read_bytes())
        process.stdin.flush()  # and more could come
        until = time.monotonic() + 60
        while not list(tmp_path.glob(".*.mp4")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == b"interrupted\n"
    assert contents(tmp_path) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path, small_file: Path):
    name = b"\xff.dat"
    (tmp_path / os.fsdecode(name)).write_bytes(small_file.read_bytes())
    command = [sys.executable, "-m", "spikerecon", "info", name, *SMALL]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # as Python has it in most locales
    done = subprocess.run(command, cwd=tmp_path, env=strict, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("\\udcff.dat")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_standard_streams(folder: Path):
    """As daemons have them."""
    convert = f"{sys.executable} -m spikerecon convert"
    words = f"{' '.join(SMALL)} --method tfp -o out.gif"
    for command, status in ((f"{convert} - {words} <&-", 1), (f"{convert} small.dat {words} 2>&-", 0)):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert done.returncode == status
        assert done.stderr == ("error: standard input: is closed: give a file, or a pipe\n" if status else "")
    assert Path("out.gif").is_file()
