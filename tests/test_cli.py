"""The commands but convert: frames, bench, info, simulate, evaluate, weights and train."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import SMALL, Command, contents
from PIL import Image

from spikerecon import __version__
from spikerecon.cli import main
from spikerecon.cli.console import Progress, progress
from spikerecon.comparison import HEADING
from spikerecon.pictures import eight_bit
from spikerecon.recording import open_recording
from spikerecon.scenes import make_scene, truth
from spikerecon.simulate import simulate
from spikerecon.video import read_video

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "official_checkpoint"
COMMANDS = ["convert", "frames", "bench", "info", "repack", "simulate", "evaluate", "train", "weights"]
TFP = ("--method", "tfp", "--gain", 1.5)


def grey(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def strict_json(text: str) -> Any:
    """Without the Infinity and NaN that other readers of JSON stumble over."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


# spikerecon itself


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_version(spikerecon: Command, command: list[str]):
    assert spikerecon(*command, "--version").stdout.strip() == f"spikerecon, version {__version__}"


def test_every_command_is_there():
    assert sorted(main.commands) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("told", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_idle_threads_leave_their_cores_unless_told_otherwise(
    spikerecon: Command, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], spins: str | None
):
    rest = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    monkeypatch.setattr(os, "environ", rest | told)
    spikerecon("weights", "list")
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_torch_is_imported_when_a_command_runs():
    """It takes seconds, and reads then how its threads are to wait."""
    program = "import sys, spikerecon.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("command", [*COMMANDS, "weights list", "weights import", "weights check"])
def test_help_shows_an_example(spikerecon: Command, command: str):
    shown = spikerecon(*command.split(), "--help").stdout
    if command != "weights":
        assert f"\n  spikerecon {command}" in shown


# frames


def test_frames_of_a_recording(spikerecon: Command, small_file: Path):
    result = spikerecon("frames", small_file, "--center", 60, "--center", 40, "-o", "out", *SMALL, *TFP)
    assert list(contents(Path("out"))) == ["small_000040.png", "small_000060.png"]
    assert "out/small_000060.png" in result.stderr
    assert result.stdout == ""
    spikerecon("convert", small_file, "-o", "all", "--start", 10, *SMALL, *TFP)  # the first centre is 40
    assert np.array_equal(grey("out/small_000040.png"), grey("all/000000.png"))
    assert np.array_equal(grey("out/small_000060.png"), grey("all/000001.png"))


def test_centers_at_even_distances_are_added(spikerecon: Command, small_file: Path):
    spikerecon("frames", small_file, "--centers", "30:71:20", "--center", 33, *SMALL, *TFP)
    assert list(contents(Path())) == [f"small_{center:06d}.png" for center in (30, 33, 50, 70)]


def test_frames_at_a_time(spikerecon: Command, small_file: Path):
    words = ("--at", "1.25ms", "--at", "0.0015s", "--center", 40, "--centers", "30:61:30")
    spikerecon("frames", small_file, "-o", "a", *SMALL, *TFP, *words)
    names = [f"small_{center:06d}.png" for center in (30, 40, 50, 60)]
    assert list(contents(Path("a"))) == names
    spikerecon("frames", small_file, "-o", "b", *SMALL, *TFP, "--rate", 20000, "--at", "2.5ms")
    assert list(contents(Path("b"))) == [names[2]]
    assert Path("b", names[2]).read_bytes() == Path("a", names[2]).read_bytes()
    spikerecon("frames", "-o", "c", *TFP, "--at", "2 ms")
    assert list(contents(Path("c"))) == ["fan_000080.png"]


def test_a_single_frame_in_a_file_of_its_own(spikerecon: Command, small_file: Path):
    words = (*TFP, "--bit-depth", 16, "--json")
    result = spikerecon("frames", small_file, "--center", 50, "-o", "one.png", *SMALL, *words)
    assert grey("one.png").dtype in (np.uint16, np.int32)
    assert Path("one.png").read_bytes()[24] == 16
    assert strict_json(result.stdout) == [{"center": 50, "file": "one.png", "gain": 1.5}]


def test_a_center_counts_from_the_first_plane_whatever_the_start(spikerecon: Command, small_file: Path):
    for output, words in {"a.png": (), "b.png": ("--start", 40)}.items():
        spikerecon("frames", small_file, "--center", 50, "-o", output, *SMALL, *TFP, *words)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_frames_of_standard_input(spikerecon: Command, small_file: Path):
    data = small_file.read_bytes()
    spikerecon("frames", "-", "--center", 50, "--center", 90, *SMALL, *TFP, input=data)
    spikerecon("frames", small_file, "--center", 50, "--center", 90, *SMALL, *TFP)
    for center in ("000050", "000090"):
        assert Path(f"stdin_{center}.png").read_bytes() == Path(f"small_{center}.png").read_bytes()


@pytest.mark.parametrize("method", ["tfp", "stir"])
def test_frames_of_the_built_in_fan(spikerecon: Command, method: str):
    spikerecon("frames", "--center", 1200, "--center", 1300, "--method", method, "-q")
    assert list(contents(Path())) == ["fan_001200.png", "fan_001300.png"]
    light = truth(make_scene("fan"), 1200)
    for name, least in (("fan_001200.png", 0.7), ("fan_001300.png", 0.0)):
        assert grey(name).shape == light.shape
        assert np.corrcoef(grey(name).ravel(), light.ravel())[0, 1] > least


@pytest.mark.parametrize("words", [(), ("--window", 40, "--bin", 2)])
def test_methods_on_one_sheet(spikerecon: Command, small_file: Path, words: tuple[object, ...]):
    words = (*SMALL, "--center", 60, "--gain", 1.5, "--gamma", 2.2, "--device", "cpu", *words)
    names = ("tfp", "tfi", "tfstp", "stir")
    if "--bin" in words:  # the network's windows do not fit in
        names = names[:3]
    said = spikerecon("frames", small_file, *words, "--compare", ",".join(names), "-o", "sheet.png").stderr
    assert said.splitlines()[-1] == "sheet.png"
    assert said.splitlines()[0] == f"{small_file}: 64x48, 100 planes (packed)"
    assert [line.split(":")[0] for line in said.splitlines()[1:-1]] == list(names)
    assert said.count("gain 1.5\n") == 1
    sheet = grey("sheet.png")
    assert sheet.shape == (HEADING + 48, len(names) * 64)
    for i, name in enumerate(names):
        own = words if name in ("tfp", "tfi") else [word for word in words if word not in ("--window", 40)]
        spikerecon("frames", small_file, *own, "--method", name, "-o", f"{name}.png")
        panel = sheet[:, i * 64 : (i + 1) * 64]
        assert panel[:HEADING].max() > 150
        assert np.array_equal(panel[HEADING:], grey(f"{name}.png"))


def test_methods_on_a_sheet_of_the_built_in_fan(spikerecon: Command):
    spikerecon("frames", "--center", 60, "--compare", "tfp,tfstp", "-q")
    left, right = np.split(grey("fan_000060.png")[HEADING:].astype(float), 2, axis=1)
    for panel in (left, right):
        assert np.corrcoef(panel.ravel(), truth(make_scene("fan"), 60).ravel())[0, 1] > 0.7


# bench


def test_bench_of_the_network(spikerecon: Command, small_file: Path):
    words = (*SMALL, "--frames", 1, "--compare", "reference", "--step", 10, "--rate", 20000)
    result = spikerecon("bench", small_file, *words, "--json", "bench.json")
    figures = strict_json(Path("bench.json").read_text())
    keys = "frames_per_second ms_per_frame realtime_factor peak_memory_bytes device precision batch_size stages compare"
    assert set(keys.split()) <= set(figures)
    assert figures["ms_per_frame"] == pytest.approx(1000 / figures["frames_per_second"])
    assert figures["realtime_factor"] == pytest.approx(figures["frames_per_second"] * 10 / 20000)
    assert figures["peak_memory_bytes"] > 0
    assert figures["compare"]["reference"]["ratio"] > 0
    assert sum(figures["stages"].values()) == pytest.approx(1)
    for heading in ("ms a frame", "frames/s", "real time", "peak memory", "parameters", "times faster", "  decode"):
        assert f"\n{heading}  " in result.stdout


def test_bench_where_peak_memory_is_not_told(spikerecon: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spikerecon.benchmark.sys", SimpleNamespace(platform="win32"))
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    result = spikerecon("bench", "--method", "tfp", "--frames", 1, "--json", "bench.json")
    assert strict_json(Path("bench.json").read_text())["peak_memory_bytes"] is None
    assert "not told here" in result.stdout


def test_bench_without_a_recording(spikerecon: Command):
    words = ("--method", "tfp", "--frames", 1, "--compare", "reference", "--json", "-", "-q")
    result = spikerecon("bench", *words)
    figures = strict_json(result.stdout)
    assert (figures["method"], figures["width"], figures["height"], figures["frames"]) == ("tfp", 400, 250, 1)
    assert figures["compare"]["reference"]["psnr"] is None  # the frames are equal
    assert result.stderr == ""
    assert contents(Path()) == {}


def test_bench_of_a_method_without_windows(spikerecon: Command):
    figures = strict_json(spikerecon("bench", "--method", "tfstp", "--frames", 1, "--json", "-", "-q").stdout)
    assert (figures["method"], figures["frames"], figures["compare"]) == ("tfstp", 1, {})


# info


def test_info(spikerecon: Command, fan_file: Path):
    result = spikerecon("info", fan_file, "--rate", 20000)
    assert result.stderr == ""
    for fact in ("400x250, stored upside down", "packed: ", "100, 5 ms at 20000 planes/s", "spikes a plane on average"):
        assert fact in result.stdout


def test_info_as_json(spikerecon: Command, small_file: Path):
    facts = strict_json(spikerecon("info", small_file, *SMALL, "--json").stdout)
    assert facts.pop("why")
    rates = facts.pop("firing_rate")
    assert set(rates) == {"mean", "p1", "p50", "p99", "p99_9", "never", "always"}
    assert 0 < rates["p50"] < 1
    assert facts.pop("flaws") == {"dead": 0, "stuck": 0}
    assert facts == {
        "input": str(small_file),
        "layout": "packed",
        "width": 64,
        "height": 48,
        "flip": True,
        "planes": 100,
        "rate": 40000,
        "seconds": 0.0025,
        "leftover_bytes": 0,
        "planes_counted": 100,
        "notes": [],
    }


def test_info_tells_what_its_rates_were_counted_in(spikerecon: Command):
    spikerecon("simulate", "fan", "-o", "long.dat", *SMALL, "--planes", 700)
    assert "(counted in 600 planes)" in spikerecon("info", "long.dat", *SMALL).stdout
    assert strict_json(spikerecon("info", "long.dat", *SMALL, "--json").stdout)["planes_counted"] == 600


def test_info_of_standard_input(spikerecon: Command, small_file: Path):
    facts = strict_json(spikerecon("info", "-", *SMALL, "--json", input=small_file.read_bytes()).stdout)
    assert (facts["planes"], facts["layout"]) == (100, "packed")


def test_info_of_a_stream_that_ends_before_its_end_is_told(spikerecon: Command, small_file: Path):
    result = spikerecon("info", "-", *SMALL, "--end", 500, input=small_file.read_bytes())
    assert "ended at plane 100, before --end 500" in result.stderr


def test_info_of_a_cut_off_recording_warns_once(spikerecon: Command, fan_file: Path):
    Path("cut.dat").write_bytes(fan_file.read_bytes()[:-500])
    result = spikerecon("info", "cut.dat", "--json")
    facts = strict_json(result.stdout)
    assert (facts["planes"], facts["leftover_bytes"]) == (99, 12000)
    assert result.stderr == "warning: cut.dat: the last plane is cut off: its 12000 bytes are left out\n"
    assert facts["notes"] == [result.stderr.removeprefix("warning: ").strip()]


# simulate and evaluate


@pytest.mark.parametrize("scene", ["fan", "pan"])
def test_simulating_built_in_scenes(spikerecon: Command, scene: str):
    result = spikerecon("simulate", scene, *SMALL, "-o", "out.dat", "--planes", 70)
    assert result.stderr == "out.dat: 64x48, 70 planes\n"
    with open_recording("out.dat", size=(64, 48)) as recording:
        assert recording.planes == 70


def test_the_same_seed_gives_the_same_bytes(spikerecon: Command):
    for name, words in {"a": (), "b": (), "c": ("--seed", 1)}.items():
        spikerecon("simulate", "fan", *SMALL, "-o", f"{name}.dat", "--planes", 60, "--noise", "-q", *words)
    a, b, c = (Path(f"{name}.dat").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_pictures_of_16_bit_keep_their_brightness(spikerecon: Command, small_file: Path):
    found = {}
    for depth in (8, 16):
        words = ("--method", "tfp", "--step", 10, "--bit-depth", depth, "-q")
        spikerecon("convert", small_file, "-o", f"deep{depth}", *SMALL, *words)
        spikerecon("simulate", f"deep{depth}", "-o", f"{depth}.dat", "-q")
        with open_recording(f"{depth}.dat", size=(64, 48)) as recording:
            found[depth] = np.unpackbits(recording.read(0, 80)).mean()
    assert found[16] == pytest.approx(found[8], rel=0.02)
    for depth in (8, 16):
        with Image.open(f"deep{depth}/000000.png") as image:
            found[depth] = np.asarray(eight_bit(image, "RGB"), float)
    assert np.abs(found[16] - found[8]).max() <= 1


@pytest.mark.parametrize("source", ["video.mkv", "pictures"])
def test_simulating_from_pictures(spikerecon: Command, small_file: Path, source: str):
    words = ("--codec", "ffv1") if source == "video.mkv" else ()
    spikerecon("convert", small_file, "-o", source, *SMALL, "--method", "tfp", "--step", 10, *words)  # five pictures
    spikerecon("simulate", source, "-o", "again.dat", "--planes-per-frame", 20, "--truth", "truth")
    with open_recording("again.dat", size=(64, 48)) as recording:
        assert recording.planes == 80
    light = list(read_video("video.mkv"))[2] if words else grey("pictures/000002.png")  # at plane 40
    spikerecon("frames", "again.dat", *SMALL, "--center", 40, "-o", "seen.png", "--method", "tfp", "--window", 40)
    assert np.corrcoef(grey("seen.png").ravel(), light.ravel())[0, 1] > 0.8


def test_truth_of_a_folder_is_evaluated(spikerecon: Command):
    words = ("--planes", 61, "--truth", "truth", "--layout", "spikelink", "-q")
    spikerecon("simulate", "pan", *SMALL, "-o", "capture", *words)
    result = spikerecon("evaluate", "truth/sequences.json", "--method", "tfp", "-q")
    assert "capture" in result.stdout


def test_truth_is_what_evaluate_needs(spikerecon: Command):
    Path("sub").mkdir()
    words = ("--planes", 100, "--truth", "sub/truth", "--truth-step", 20)
    spikerecon("simulate", "pan", *SMALL, "-o", "pan.dat", *words)
    (entry,) = strict_json(Path("sub/truth/sequences.json").read_text())
    assert entry["centers"] == [30, 50, 70]
    names = [f"pan_{center:06d}.png" for center in entry["centers"]]
    assert list(contents(Path("sub/truth"))) == [*names, "sequences.json"]
    light = truth(make_scene("pan", 64, 48), 50)
    assert np.abs(grey("sub/truth/pan_000050.png") / 65535 - light).max() < 1e-4

    result = spikerecon("evaluate", "sub/truth/sequences.json", "--method", "tfp", "--json", "scores.json")
    scores = strict_json(Path("scores.json").read_text())
    assert set(scores) == {"method", "weights", "bin", "precision", "results", "mean"}
    assert (scores["method"], scores["weights"]) == ("tfp", "mean of 20 planes")
    assert (scores["bin"], scores["precision"]) == (1, "float32")
    assert [(r["name"], r["center"]) for r in scores["results"]] == [("pan", 30), ("pan", 50), ("pan", 70)]
    for key in ("psnr", "ssim"):
        assert scores["mean"][key] == pytest.approx(np.mean([r[key] for r in scores["results"]]))
    assert scores["mean"]["psnr"] > 12
    last = result.stdout.splitlines()[-1]
    assert last.split() == ["mean", f"{scores['mean']['psnr']:.2f}", f"{scores['mean']['ssim']:.4f}"]


def test_truth_is_not_put_among_the_pictures_that_are_filmed(spikerecon: Command, small_file: Path):
    spikerecon("convert", small_file, "-o", "scene", *SMALL, "--method", "tfp")
    before = contents(Path())
    words = ("simulate", "scene", "-o", "again.dat", "--planes-per-frame", 60, "--truth", "scene/")
    assert "scene: is the scene or the recording" in spikerecon(*words, status=1).stderr
    assert contents(Path()) == before


def test_truth_that_was_replaced_in_part_is_not_evaluated(spikerecon: Command, monkeypatch: pytest.MonkeyPatch):
    words = ("-o", "a.dat", *SMALL, "--planes", 100, "--truth", "true")
    spikerecon("simulate", "fan", *words)
    before = contents(Path("true"))

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("spikerecon.pictures.write_png", stopped)
        spikerecon("simulate", "pan", *words, "-y", status=130)
    assert set(before) - set(contents(Path("true"))) == {"sequences.json"}


def test_truth_of_a_built_in_scene_may_be_named_after_it(spikerecon: Command):
    spikerecon("simulate", "fan", "-o", "fan.dat", *SMALL, "--planes", 100, "--truth", "fan")
    spikerecon("evaluate", "fan/sequences.json", "--method", "tfp")


def test_truth_is_found_through_a_link(spikerecon: Command):
    Path("deep/er").mkdir(parents=True)
    Path("link").symlink_to("deep/er")
    spikerecon("simulate", "fan", "-o", "fan.dat", *SMALL, "--planes", 100, "--truth", "link")
    spikerecon("evaluate", "link/sequences.json", "--method", "tfp")


def test_evaluate_prints_json_alone(spikerecon: Command):
    spikerecon("simulate", "pan", *SMALL, "-o", "pan.dat", "--planes", 61, "--truth", "truth")
    result = spikerecon("evaluate", "truth/sequences.json", "--json", "-", "-q")
    scores = strict_json(result.stdout)
    assert scores["method"] == "stir"
    assert scores["weights"].startswith("weights stir (")
    assert [r["center"] for r in scores["results"]] == [30]
    assert result.stderr == ""


def test_evaluate_measures_more_where_asked_to(spikerecon: Command, monkeypatch: pytest.MonkeyPatch):
    stand_in = SimpleNamespace(create_metric=lambda name, device: lambda *pictures: len(name))
    monkeypatch.setitem(sys.modules, "pyiqa", stand_in)
    spikerecon("simulate", "pan", *SMALL, "-o", "pan.dat", "--planes", 61, "--truth", "truth")
    words = ("--method", "tfp", "--measure", "niqe", "--measure", "lpips", "--measure", "niqe")
    result = spikerecon("evaluate", "truth/sequences.json", *words, "--json", "scores.json")
    heading, _, *_, last = result.stdout.splitlines()
    assert heading.split() == ["sequence", "center", "PSNR", "dB", "SSIM", "NIQE", "LPIPS"]
    assert last.split()[-2:] == ["4.0000", "5.0000"]
    scores = strict_json(Path("scores.json").read_text())
    assert list(scores["mean"]) == list(scores["results"][0])[2:] == ["psnr", "ssim", "niqe", "lpips"]


# weights


def test_weights_list(spikerecon: Command):
    heading, _, *rows = spikerecon("weights", "list").stdout.splitlines()
    assert heading.split()[0] == "name"
    assert any(row.split()[0] == "stir" for row in rows)


def test_weights_check_of_what_is_bundled(spikerecon: Command):
    shown = spikerecon("weights", "check").stdout
    assert "stir.safetensors: sound, " in shown
    assert "\n  block_planes    20" in shown


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the layout of the published checkpoint")
def test_published_weights_are_imported_and_used(spikerecon: Command, small_file: Path):
    spec = importlib.util.spec_from_file_location("example_state", PUBLISHED / "example_state.py")
    assert spec
    assert spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.save({key: torch.from_numpy(value) for key, value in example.state().items()}, "published.pth")
    result = spikerecon("weights", "import", "published.pth", "-o", "imported.safetensors")
    assert "61-plane windows" in result.stderr
    shown = spikerecon("weights", "check", "imported.safetensors").stdout
    assert "imported.safetensors: sound, " in shown
    assert "imported from published.pth" in shown
    assert "embedding.shortcut." in shown
    words = ("--weights", "imported.safetensors", "--json")
    told = strict_json(spikerecon("convert", small_file, "-o", "out.gif", *SMALL, *words).stdout)
    assert told["weights"].startswith("weights imported (")
    assert (told["first_center"], told["frames"]) == (30, 2)  # centre 70 needs plane 100, which is not there


# train


def test_training_goes_on_and_its_weights_can_be_used(spikerecon: Command, small_file: Path):
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        squares = np.kron(rng.integers(0, 256, (12, 16), np.uint8), np.ones((8, 8), np.uint8))
        Image.fromarray(squares).save(f"photos/{i}.png")
    words = ("train", "--images", "photos", "-o", "run", "--patch", 32, "--batch", 2, "--width", 0.5, "--device", "cpu")
    said = spikerecon(*words, "--steps", 2).stderr.splitlines()
    assert re.fullmatch("run: step 0 of 2, on cpu in (bfloat16|float32)", said[0])
    assert said[-1] == "run/weights.safetensors: ready"
    first = Path("run/weights.safetensors").read_bytes()

    said = spikerecon(*words, "--steps", 3).stderr.splitlines()
    assert said[0].startswith("run: step 2 of 3, on cpu in ")
    assert said[1].startswith("step 3/3: loss ")
    assert Path("run/weights.safetensors").read_bytes() != first

    spikerecon("convert", small_file, "-o", "out.gif", *SMALL, "--weights", "run/weights.safetensors", "-q")
    assert len(list(read_video("out.gif"))) == 3

    # Another network cannot go on with it.
    result = CliRunner().invoke(main, [*map(str, words), "--steps", "4", "--width", "1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: run: ")
    assert len(result.stderr.splitlines()) == 1


def test_simulate_does_what_it_is_told(spikerecon: Command):
    words = ("pan", *SMALL, "--planes", 61, "-q")
    spikerecon("simulate", *words, "-o", "plain.dat")
    spikerecon("simulate", *words, "-o", "noisy.dat", "--noise")
    spikerecon("simulate", *words, "-o", "later.dat", "--start", 40, "--truth", "truth", "--full-scale-rate", 0.3)
    data = contents(Path())
    assert data["noisy.dat"] != data["plain.dat"]
    scene = make_scene("pan", 64, 48)
    later = np.concatenate(list(simulate(scene, planes=61, start=40, full_scale_rate=0.3)))
    with open_recording("later.dat", size=(64, 48)) as recording:
        np.testing.assert_array_equal(recording.read(0, 61), later)
    (entry,) = strict_json(Path("truth/sequences.json").read_text())
    assert entry["full_scale_rate"] == 0.3
    assert np.abs(grey("truth/later_000030.png") / 65535 - truth(scene, 70)).max() < 1e-4


def test_truth_tells_of_the_recording_that_replaced_a_link(spikerecon: Command):
    Path("old.dat").write_text("keep me")
    Path("out.dat").symlink_to("old.dat")
    spikerecon("simulate", "pan", *SMALL, "-o", "out.dat", "--planes", 61, "--truth", "truth", "-y")
    (entry,) = strict_json(Path("truth/sequences.json").read_text())
    assert entry["file"] == "../out.dat"
    assert Path("old.dat").read_text() == "keep me"


def test_a_terminal_that_draws_no_bar_gets_lines(monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with progress(10, step=1, planes_per_second=None, quiet=False) as shown:
        assert type(shown) is Progress


def test_a_plot_takes_any_name(spikerecon: Command, small_file: Path):
    pytest.importorskip("matplotlib")
    for name in ("$1_$2.dat", "a\udcff.dat"):
        Path(name).write_bytes(small_file.read_bytes())
        spikerecon("info", name, *SMALL, "--plot", "plot.png", "-y")
        assert Path("plot.png").stat().st_size > 1000


def test_info_counts_the_part_that_is_asked_for(spikerecon: Command):
    scene = make_scene("pan", 64, 48)
    dark, bright = (np.concatenate(list(simulate(scene, planes=100, full_scale_rate=rate))) for rate in (0.1, 0.8))
    data = np.concatenate([dark, bright]).tobytes()
    Path("halves.dat").write_bytes(data)

    def mean(source: str, *words: Any, **given: Any) -> float:
        facts = strict_json(spikerecon("info", source, *SMALL, "--json", *words, **given).stdout)
        assert facts["planes_counted"] == 100
        return facts["firing_rate"]["mean"]

    early, late = mean("halves.dat", "--end", 100), mean("halves.dat", "--start", 100)
    assert late > 5 * early
    assert mean("-", "--end", 100, input=data) == early
