"""spikerecon convert: every kind of output, several inputs, standard input, what it says, and what memory it takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import SMALL, Command, contents
from PIL import Image

from spikerecon.comparison import HEADING
from spikerecon.engine import Reconstructor
from spikerecon.methods import Stir
from spikerecon.pictures import to_uint
from spikerecon.recording import open_recording, pack, write_recording
from spikerecon.video import read_video


def pictures(
    file: Path, method: str = "tfp", gain: float = 1.5, bit_depth: int = 8, **options: Any
) -> list[np.ndarray]:
    """What convert has to write, computed by hand."""
    engine = Reconstructor(method, device="cpu", precision="float32")
    with open_recording(file, size=(64, 48)) as recording:
        centers = engine.centers(recording, **options)
        return [to_uint(frame.rate, gain, bit_depth=bit_depth) for frame in engine.frames(recording, centers)]


def far_apart(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    assert len(found) == len(expected)
    assert {picture.shape for picture in found} == {expected[0].shape}
    return float(np.abs(np.array(found, float) - np.array(expected, float)).mean())


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "gif"])
def test_a_video_holds_the_frames(spikerecon: Command, small_file: Path, suffix: str):
    result = spikerecon("convert", small_file, "-o", f"out.{suffix}", *SMALL, "--method", "tfp", "--gain", 1.5)
    assert result.stdout == ""
    found = list(read_video(f"out.{suffix}"))
    assert far_apart(found, pictures(small_file)) <= (0 if suffix == "gif" else 8)
    assert list(contents(Path())) == [f"out.{suffix}"]


@pytest.mark.parametrize(("codec", "difference"), [("h264-lossless", 1), ("ffv1", 0)])
def test_lossless_codecs(spikerecon: Command, small_file: Path, codec: str, difference: int):
    words = ("--method", "tfp", "--gain", 1.5, "--codec", codec)
    spikerecon("convert", small_file, "-o", "out.mkv", *SMALL, *words)
    assert far_apart(list(read_video("out.mkv")), pictures(small_file)) <= difference


def test_sixteen_bits_in_a_video(spikerecon: Command, small_file: Path):
    words = ("--method", "tfp", "--gain", 1.5, "--codec", "ffv1", "--bit-depth", 16)
    spikerecon("convert", small_file, "-o", "out.mkv", *SMALL, *words)
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "out.mkv", "-f", "rawvideo", "-pix_fmt", "gray16le"]
    raw = subprocess.run([*decode, "-"], check=True, capture_output=True).stdout
    found = list(np.frombuffer(raw, "<u2").reshape(-1, 48, 64))
    assert far_apart(found, pictures(small_file, bit_depth=16)) == 0


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize(("output", "names"), [("out", "out/{:06d}.png"), ("p%03d.png", "p{:03d}.png")])
def test_pictures(spikerecon: Command, small_file: Path, output: str, names: str, bit_depth: int):
    words = ("--method", "tfp", "--gain", 1.5, "--bit-depth", bit_depth)
    spikerecon("convert", small_file, "-o", output, *SMALL, *words)
    expected = pictures(small_file, bit_depth=bit_depth)
    found = [np.asarray(Image.open(names.format(i))) for i in range(len(expected))]
    assert far_apart(found, expected) == 0
    assert len(list(Path().rglob("*.png"))) == len(expected)


@pytest.mark.parametrize("method", ["tfp", "tfi", "tfstp", "stir"])
def test_methods(spikerecon: Command, small_file: Path, method: str):
    words = ("--method", method, "--gain", 1.5, "--precision", "float32", "--device", "cpu")
    spikerecon("convert", small_file, "-o", "out", *SMALL, *words)
    found = [np.asarray(Image.open(path)) for path in sorted(Path("out").iterdir())]
    assert far_apart(found, pictures(small_file, method)) == 0


def test_methods_side_by_side(spikerecon: Command, small_file: Path):
    words = ("--compare", "tfp,stir", "--gain", 1.5, "--precision", "float32", "--device", "cpu")
    result = spikerecon("convert", small_file, "-o", "out.mkv", *SMALL, *words, "--codec", "ffv1", "--json")
    found = list(read_video("out.mkv"))
    both = zip(pictures(small_file, "tfp"), pictures(small_file, "stir"), strict=True)
    assert far_apart([picture[HEADING:] for picture in found], [np.hstack(pair) for pair in both]) == 0
    assert min(picture[:HEADING].max() for picture in found) > 150
    told = json.loads(result.stdout)
    assert (told["method"], told["width"], told["frames"]) == ("tfp,stir", 64, 3)
    assert told["weights"].startswith("mean of 20 planes; weights stir (")
    said = result.stderr.splitlines()
    assert [line.split(":")[0] for line in said[2:4]] == ["tfp", "stir"]
    assert sum("gain 1.5" in line for line in said) == 1


def test_the_widest_window_sets_the_centres_of_a_comparison(spikerecon: Command, small_file: Path):
    words = ("--compare", "tfstp,tfp", "--window", 80, "--json", "--dry-run")
    told = json.loads(spikerecon("convert", small_file, "-o", "out.gif", *SMALL, *words).stdout)
    assert (told["first_center"], told["frames"]) == (40, 2)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precisions(spikerecon: Command, small_file: Path, precision: str):
    words = ("--gain", 1.5, "--precision", precision, "--device", "cpu", "--batch-size", 2)
    spikerecon("convert", small_file, "-o", "out", *SMALL, *words)
    found = [np.asarray(Image.open(path)) for path in sorted(Path("out").iterdir())]
    assert far_apart(found, pictures(small_file, "stir")) < 2


def test_a_window_of_its_own(spikerecon: Command, small_file: Path):
    words = ("--method", "tfp", "--window", 1, "--gain", 1)
    spikerecon("convert", small_file, "-o", "out", *SMALL, *words)
    planes = np.array([np.asarray(Image.open(path)) for path in Path("out").iterdir()])
    assert set(np.unique(planes)) == {0, 255}  # a single plane is spikes and nothing between


def test_the_camera_layout_is_found_out(spikerecon: Command, fan_file: Path):
    result = spikerecon("convert", fan_file, "-o", "fan.mp4", "--method", "tfp", "--json")
    assert {picture.shape for picture in read_video("fan.mp4")} == {(250, 400)}
    assert json.loads(result.stdout)["layout"] == "packed"


def test_what_it_says(spikerecon: Command, small_file: Path):
    said = spikerecon(
        "convert", small_file, "-o", "out.mp4", *SMALL, "--device", "cpu", "--precision", "float32"
    ).stderr
    assert "64x48, 100 planes (packed)" in said
    assert "40000 planes/s, a frame every 20 planes = 2000 frames/s, played at 60 = 33.3x slow motion" in said
    assert "stir: weights stir (" in said
    assert "on cpu in float32, gain " in said
    assert "out.mp4: 3 frames, " in said
    said = spikerecon("convert", small_file, "-o", "all.mp4", *SMALL, "--step", 1, "--dry-run").stderr
    assert "a frame every plane = 40000 frames/s" in said


def test_quiet_is_silent(spikerecon: Command, small_file: Path):
    result = spikerecon("convert", small_file, "-o", "out.gif", *SMALL, "--method", "tfp", "-q")
    assert (result.stdout, result.stderr) == ("", "")
    assert Path("out.gif").exists()


def test_json_alone_is_on_stdout(spikerecon: Command, small_file: Path):
    words = ("--rate", 20000, "--step", 10, "--fps", 25)
    result = spikerecon("convert", small_file, "-o", "out.mp4", *SMALL, "--method", "tfp", "--json", *words)
    told = json.loads(result.stdout)
    assert told.pop("seconds") > 0
    assert told.pop("gain") > 0
    assert told.pop("precision") in ("float32", "bfloat16", "float16")
    assert told.pop("device").startswith(("cpu", "cuda"))
    assert told == {
        "input": str(small_file),
        "output": "out.mp4",
        "width": 64,
        "height": 48,
        "layout": "packed",
        "frames": 5,
        "first_center": 30,
        "step": 10,
        "bin": 1,
        "bayer": None,
        "rate": 20000,
        "fps": 25,
        "method": "tfp",
        "weights": "mean of 20 planes",
    }


def test_a_gif_tells_the_rate_it_really_has(spikerecon: Command, small_file: Path):
    result = spikerecon("convert", small_file, "-o", "out.gif", *SMALL, "--method", "tfp", "--json")
    assert json.loads(result.stdout)["fps"] == 50
    assert "note: GIF" in result.stderr


def test_a_dry_run_writes_nothing(spikerecon: Command, small_file: Path):
    result = spikerecon("convert", small_file, "-o", "out", *SMALL, "--dry-run", "--json")
    assert contents(Path()) == {}
    assert json.loads(result.stdout)["frames"] == 3
    assert "would write 3 frames to out" in result.stderr


@pytest.mark.parametrize(
    ("words", "first_center", "frames"),
    [
        (("--start", 20), 50, 2),
        (("--start", 20, "--end", 80), 50, 1),
        (("--start", "0.5ms", "--end", "2ms"), 50, 1),
        (("--end", "0.0025s"), 30, 3),
        (("--start", "1ms", "--rate", 20000), 50, 2),
        (("--step", 1), 30, 41),
        (("--step", 1000), 30, 1),
    ],
)
def test_a_part_of_the_recording(
    spikerecon: Command, small_file: Path, words: tuple[object, ...], first_center: int, frames: int
):
    result = spikerecon("convert", small_file, "-o", "out.gif", *SMALL, "--method", "tfp", "--json", *words)
    told = json.loads(result.stdout)
    assert (told["first_center"], told["frames"]) == (first_center, frames)
    assert len(list(read_video("out.gif"))) == frames


def test_every_plane_costs_a_block_at_most_once(spikerecon: Command, small_file: Path, monkeypatch: pytest.MonkeyPatch):
    encoded: list[int] = []
    plain = Stir.encode
    monkeypatch.setattr(Stir, "encode", lambda self, blocks: encoded.append(len(blocks)) or plain(self, blocks))
    words = (*SMALL, "--crop", "0,0,16,16", "--end", 80, "--step", 1, "-q")
    spikerecon("convert", small_file, "-o", "all.gif", *words)
    assert len(list(read_video("all.gif"))) == 21
    assert sum(encoded) == 61  # as many as there are blocks of 20 planes in 80


@pytest.mark.parametrize("words", [(), ("--start", 20), ("--end", 90, "--step", 7)])
@pytest.mark.parametrize("method", ["tfp", "tfstp"])
def test_standard_input_gives_the_same_as_a_file(
    spikerecon: Command, small_file: Path, method: str, words: tuple[object, ...]
):
    rest = (*SMALL, "--method", method, "-q", *words)
    spikerecon("convert", small_file, "-o", "file", *rest, "--gain", 2)
    spikerecon("convert", "-", "-o", "stream", *rest, "--gain", 2, input=small_file.read_bytes())
    assert contents(Path("file")) == contents(Path("stream"))
    spikerecon("convert", "-", "-o", "auto", *rest, input=small_file.read_bytes())  # reads for the gain first


def test_gain_and_gamma(spikerecon: Command, small_file: Path):
    for output, words in {"plain": (), "bright": ("--gain", 4), "shadows": ("--gamma", 2.2)}.items():
        spikerecon("convert", small_file, "-o", output, *SMALL, "--method", "tfp", "--gain", 1, *words)
    mean = {name: np.asarray(Image.open(f"{name}/000000.png")).mean() for name in ("plain", "bright", "shadows")}
    assert mean["plain"] < mean["shadows"]
    assert mean["plain"] < mean["bright"]


def test_overwriting_on_demand(spikerecon: Command, small_file: Path):
    Path("out.gif").write_text("old")
    spikerecon("convert", small_file, "-o", "out.gif", *SMALL, "--method", "tfp", "-y")
    assert len(list(read_video("out.gif"))) == 3


def test_several_inputs_go_on_after_one_that_fails(spikerecon: Command, small_file: Path):
    Path("two.dat").write_bytes(small_file.read_bytes())
    words = (*SMALL, "--method", "tfp", "-q", "--json")
    result = spikerecon("convert", small_file, "missing.dat", "two.dat", "-o", "{name}.gif", *words, status=1)
    assert result.stderr.splitlines() == [
        "error: missing.dat: no such file",
        "error: 1 of 3 recordings could not be converted",
    ]
    assert [told["output"] for told in json.loads(result.stdout)] == ["small.gif", "two.gif"]
    assert sorted(contents(Path())) == ["small.gif", "two.dat", "two.gif"]


def test_several_inputs_go_on_where_a_name_is_too_long(spikerecon: Command, small_file: Path):
    for name in ("a", "b" * 245, "c"):
        Path(f"{name}.dat").write_bytes(small_file.read_bytes())
    words = ("a.dat", f"{'b' * 245}.dat", "c.dat", *SMALL, "--method", "tfp", "--json", "-o", "{name}_wide_%06d.png")
    result = spikerecon("convert", *words, status=1)
    assert [each["input"] for each in json.loads(result.stdout)] == ["a.dat", "c.dat"]
    assert "File name too long" in result.stderr
    assert "1 of 3 recordings could not be converted" in result.stderr


def test_several_inputs_never_become_one_output(spikerecon: Command, small_file: Path):
    for name in ("a", "b", "50%"):
        Path(f"{name}.dat").write_bytes(small_file.read_bytes())
    Path("out/a").mkdir(parents=True)
    Path("out/b").symlink_to("a")
    words = (*SMALL, "--method", "tfp", "-y")
    result = spikerecon("convert", "a.dat", "b.dat", *words, "-o", "out/{name}/x.mp4", status=2)
    assert "would become the same output" in result.stderr
    result = spikerecon("convert", "50%.dat", *words, "-o", "{name}_%06d.png", status=2)
    assert "50%.dat: the % of its name would count as part of the pattern" in result.stderr
    spikerecon("convert", "50%.dat", *words, "-o", "{name}.mp4")
    assert Path("50%.mp4").is_file()


def test_no_input_is_replaced_before_it_is_read(spikerecon: Command, small_file: Path):
    for name in ("a.dat", "xa.mp4"):
        Path(name).write_bytes(small_file.read_bytes())
    words = ("a.dat", "xa.mp4", *SMALL, "--method", "tfp", "-y", "-o", "x{name}.mp4")
    said = spikerecon("convert", *words, status=1).stderr
    assert "error: a.dat: xa.mp4: is what is to be read" in said
    assert Path("xa.mp4").read_bytes() == small_file.read_bytes()
    assert Path("xxa.mp4").is_file()


def test_of_several_inputs_the_one_with_an_error_is_named(spikerecon: Command, small_file: Path):
    Path("short.dat").write_bytes(small_file.read_bytes()[: 70 * 384])
    words = (*SMALL, "--method", "tfp", "--end", 90, "-q")
    result = spikerecon("convert", small_file, "short.dat", "-o", "{name}.gif", *words, status=1)
    assert "error: short.dat: end 90 is out of range: this recording has 70 planes" in result.stderr


MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""  # from a process of its own, as a child starts with the memory of whoever starts it


@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
def test_memory_does_not_grow_with_length(tmp_path: Path, fan_file: Path):
    peak = {}
    for planes in (2000, 20_000):
        recording = tmp_path / f"{planes}.dat"
        recording.write_bytes(fan_file.read_bytes() * (planes // 100))
        words = ["convert", recording, "-o", recording.with_suffix(".mp4"), "-q", "--device", "cpu"]
        words += ["--method", "tfp", "--step", "20", "--crf", "51"]
        measure = [sys.executable, "-c", MEASURE, sys.executable, "-m", "spikerecon", *words]
        peak[planes] = int(subprocess.run(measure, check=True, stdout=subprocess.PIPE).stdout)
    assert 0.9 < peak[20_000] / peak[2000] < 1.1


def test_pictures_go_on_where_they_were_interrupted(spikerecon: Command, small_file: Path):
    words = (*SMALL, "--method", "tfp", "--step", 10, "--gain", 1.5)
    spikerecon("convert", small_file, "-o", "whole", *words)
    whole = contents(Path("whole"))
    assert len(whole) > 3
    spikerecon("convert", small_file, "-o", "part", *words, "--resume")  # nothing is there yet
    assert contents(Path("part")) == whole
    for name in list(whole)[2:]:
        (Path("part") / name).unlink()
    before = [(Path("part") / name).stat().st_mtime_ns for name in list(whole)[:2]]
    result = spikerecon("convert", small_file, "-o", "part", *words, "--resume", "--json")
    assert "2 pictures are there: going on behind them" in result.stderr
    assert json.loads(result.stdout)["frames"] == len(whole) - 2
    assert contents(Path("part")) == whole
    assert [(Path("part") / name).stat().st_mtime_ns for name in list(whole)[:2]] == before
    assert "all pictures are there" in spikerecon("convert", small_file, "-o", "part", *words, "--resume").stderr
    assert (
        "these options make 1 pictures"
        in spikerecon("convert", small_file, "-o", "part", *words, "--step", 90, "--resume", status=1).stderr
    )
    (Path("part") / next(iter(whole))).unlink()
    result = spikerecon("convert", small_file, "-o", "part", *words, "--resume", status=1)
    assert f"000000.png: is missing, but {list(whole)[-1]} is there" in result.stderr
    (Path("part") / next(iter(whole))).write_bytes(next(iter(whole.values())))
    (Path("part") / list(whole)[-1]).write_bytes(b"no picture")
    result = spikerecon("convert", small_file, "-o", "part", *words, "--resume", status=1)
    assert f"{list(whole)[-1]}: cannot be read as a picture" in result.stderr
    (Path("part") / list(whole)[-1]).unlink()
    flat = np.tile((np.arange(200) % 5 == 0)[:, None, None], (1, 48, 64))
    flat[:, 20, 30] = False  # a pixel that is to be mended, and was not
    write_recording("flat.dat", [pack(flat)], 64)
    others = (("--gain", 1.52), ("--bit-depth", 16), ("--crop", "0,0,32,32"), ("--method", "tfi"), ("--start", 9))
    for more in (*others, ("--flat", "flat.dat")):
        result = spikerecon("convert", small_file, "-o", "part", *words, *more, "--resume", status=1)
        assert "is not what these options make of plane" in result.stderr
    for output, more, said in (
        ("a.mp4", (), "error: a.mp4: a video is written at once: only PNG pictures can be gone on with\n"),
        ("part", ("-y",), "error: part: going on with pictures and replacing them exclude each other\n"),
    ):
        assert spikerecon("convert", small_file, "-o", output, *words, "--resume", *more, status=2).stderr == said


def test_a_stream_that_ends_before_start_says_so(spikerecon: Command, small_file: Path):
    words = ("convert", "-", *SMALL, "--method", "tfp", "--gain", 1, "-o", "out.mp4", "--start")
    for start, wanted in ((200, "start 200 is out of range"), (50, "planes 50 to 100 are 50, fewer than one window")):
        said = spikerecon(*words, start, input=small_file.read_bytes(), status=2).stderr
        assert f"error: {wanted}" in said
        assert not Path("out.mp4").exists()


def test_the_gain_of_a_stream_is_that_of_its_first_planes(spikerecon: Command, small_file: Path):
    """A file is looked at in several places."""
    words, told = (
        (*SMALL, "--method", "tfp"),
        "note: the gain is that of the first 60 planes used: give --gain for another\n",
    )
    assert told in spikerecon("convert", "-", *words, "-o", "stream", input=small_file.read_bytes()).stderr
    assert told not in spikerecon("convert", small_file, *words, "-o", "file").stderr


@pytest.mark.parametrize("method", ["tfp", "tfstp"])
def test_pictures_of_a_stream_go_on(spikerecon: Command, small_file: Path, method: str):
    words = ("convert", "-", *SMALL, "--method", method, "--step", 10, "--gain", 1.5)
    data = small_file.read_bytes()
    spikerecon(*words, "-o", "whole", input=data)
    whole = contents(Path("whole"))
    spikerecon(*words, "-o", "part", "--end", 80, input=data)
    assert 0 < len(contents(Path("part"))) < len(whole)
    spikerecon(*words, "-o", "part", "--resume", input=data)
    assert contents(Path("part")) == whole
    result = spikerecon(*words, "-o", "part", "--resume", "--json", input=data)
    assert "all pictures are there" in result.stderr
    told = json.loads(result.stdout)
    assert (told["frames"], told["first_center"]) == (0, None)
    result = spikerecon(*words, "-o", "part", "--resume", "--json", "--dry-run", input=data)  # its end is not known yet
    assert json.loads(result.stdout)["frames"] is None
    assert "would write all frames" in result.stderr
    cut = data[: 65 * 64 * 48 // 8]
    said = spikerecon(*words, "-o", "part", "--resume", input=cut, status=1).stderr
    assert "000004.png: the recording ends before it" in said


def test_what_is_measured_is_the_part_that_is_used(spikerecon: Command):
    for name, rate in {"dark": 0.05, "bright": 0.8}.items():
        spikerecon("simulate", "pan", "-o", f"{name}.dat", *SMALL, "--planes", 200, "--full-scale-rate", rate)
    Path("both.dat").write_bytes(Path("dark.dat").read_bytes() + Path("bright.dat").read_bytes())

    def told(*words: object) -> Any:
        return json.loads(spikerecon(*words, *SMALL, "--method", "tfp", "--bin", "auto", "-q").stdout)

    bins = []
    for name, center, part in (("dark", 100, ("--end", 200)), ("bright", 300, ("--start", 200))):
        alone = told("convert", f"{name}.dat", "-o", "out", "--dry-run", "--json")
        within = told("convert", "both.dat", *part, "-o", "out", "--dry-run", "--json")
        assert (within["bin"], within["gain"]) == (alone["bin"], alone["gain"])
        (frame,) = told("frames", "both.dat", *part, "--center", center, "-o", f"{name}.png", "--json")
        assert frame["gain"] == alone["gain"]
        assert told("bench", "both.dat", *part, "--frames", 1, "--step", 5, "--json", "-")["bin"] == alone["bin"]
        bins.append(alone["bin"])
    assert bins[0] > bins[1] == 1


def test_merging_leaves_room_for_the_widest_window(spikerecon: Command, small_file: Path):
    dark = ("--planes", 200, "--full-scale-rate", 0.03, "--noise")
    spikerecon("simulate", "fan", "-o", "dark.dat", *SMALL, *dark)
    words = ("convert", "dark.dat", *SMALL, "--method", "tfp", "--bin", "auto", "--dry-run", "--json")
    for window, most in ((20, 3), (100, 2)):
        result = spikerecon(*words, "-o", "out", "--window", window)
        assert json.loads(result.stdout)["bin"] == most


def test_a_stream_that_ends_before_its_end_is_told(spikerecon: Command, small_file: Path):
    data = small_file.read_bytes()
    words = ("-", *SMALL, "--end", 5000)
    result = spikerecon("convert", words[0], "-o", "out", *words[1:], "--method", "tfp", "--json", input=data)
    assert "warning: standard input: ended at plane 100, before --end 5000" in result.stderr
    assert json.loads(result.stdout)["precision"] == "float32"  # TFP has no network
    assert len(contents(Path("out"))) == json.loads(result.stdout)["frames"] > 1
    result = spikerecon("repack", words[0], "-o", "out.dat", *words[1:], input=data)
    assert "warning: standard input: ended at plane 100, before --end 5000" in result.stderr
    assert Path("out.dat").read_bytes() == data


def test_folders_keep_the_dots_of_their_names(spikerecon: Command):
    for name in ("2026.01", "2026.02"):
        spikerecon("simulate", "fan", *SMALL, "-o", name, "--layout", "spikelink", "--planes", 60, "-q")
    spikerecon("convert", "2026.01", "2026.02", "-o", "{name}.mp4", *SMALL, "--method", "tfp", "-q")
    Path("link").symlink_to("2026.01")
    for path in ("2026.01", "link"):
        spikerecon("frames", path, "--center", 30, *SMALL, "--method", "tfp", "-q")
    spikerecon("simulate", "fan", *SMALL, "-o", "flat.dat", "--planes", 60, "-q")
    words = ("--layout", "spikelink", "--flat", "flat.dat", *SMALL, "--method", "tfp", "-q")
    spikerecon("frames", "2026.01", "--center", 30, "-o", "mended.PNG", *words)
    assert {"2026.01.mp4", "2026.02.mp4", "2026.01_000030.png", "link_000030.png", "mended.PNG"} < set(contents(Path()))


def test_a_size_the_wrong_way_round_is_doubted(spikerecon: Command, fan_file: Path):
    result = spikerecon("info", fan_file, "--size", "250x400")
    assert "its content looks like 400x250 packed (12500 bytes a plane); as 250x400" in result.stderr
    assert "looks like" not in spikerecon("info", fan_file, "--size", "400x250").stderr
