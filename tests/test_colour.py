"""Colour cameras: from light behind a Bayer filter to pictures in colour, through a file on the way."""

import itertools
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, Command, Still, contents, needs_colour
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spikerecon import colour as colours
from spikerecon import engine as engines
from spikerecon.colour import check_demosaic, check_pattern, demosaic, mosaic
from spikerecon.comparison import HEADING
from spikerecon.engine import Reconstructor
from spikerecon.errors import OutputError, UsageError
from spikerecon.metrics import psnr
from spikerecon.names import BAYER_PATTERNS
from spikerecon.planes import join_colours, split_colours
from spikerecon.recording import auto_gain, from_rows, open_recording, pack, unpack, write_recording
from spikerecon.scenes import Scene, make_scene
from spikerecon.simulate import simulate
from spikerecon.video import read_video

pytestmark = needs_colour

COLOURS = {"red": (0.9, 0, 0), "green": (0, 0.9, 0), "blue": (0, 0, 0.9), "skin": (0.9, 0.6, 0.3)}


class Drift:
    """Colours with the fall of detail that photographs have, sliding by 0.2 pixels a plane; periodic."""

    velocity = (0.2, 0.07)

    def __init__(self, width: int, height: int) -> None:
        rng = np.random.default_rng(0)
        self.width, self.height = width, height
        self.across, self.down = np.fft.rfftfreq(width), np.fft.fftfreq(height)[:, None]
        frequency = np.hypot(self.across, self.down)
        frequency[0, 0] = np.inf
        grey, *tints = (np.fft.rfft2(rng.standard_normal((height, width))) / frequency**1.5 for _ in range(4))
        self.waves = [grey + 0.3 * tint for tint in tints]
        self.contrast = [0.16 / np.fft.irfft2(wave, (height, width)).std() for wave in self.waves]

    def light(self, t: float) -> np.ndarray:
        moved = np.exp(-2j * np.pi * t * (self.across * self.velocity[0] + self.down * self.velocity[1]))
        waves = (np.fft.irfft2(wave * moved, (self.height, self.width)) for wave in self.waves)
        picture = np.stack([0.5 + c * wave for c, wave in zip(self.contrast, waves, strict=True)], axis=-1)
        return picture.clip(0, 1).astype(np.float32)


def filmed(scene: Scene, pattern: str, planes: int = 60):
    rows = np.concatenate(list(simulate(scene, planes=planes, bayer=pattern)))
    return from_rows(rows, scene.width)


def half_and_half(height: int, width: int) -> np.ndarray:
    """Red above, and below it green at the left and blue at the right."""
    picture = np.zeros((height, width, 3))
    picture[: height // 2, :, 0] = 0.9
    picture[height // 2 :, : width // 2, 1] = 0.9
    picture[height // 2 :, width // 2 :, 2] = 0.9
    return picture


# --- the filter and the way back ---------------------------------------------------------------------


def test_patterns_are_read_row_by_row():
    colours = np.broadcast_to(np.float32([1, 2, 3]), (3, 5, 3))
    assert mosaic(colours, "bggr").tolist() == [[3, 2, 3, 2, 3], [2, 1, 2, 1, 2], [3, 2, 3, 2, 3]]
    assert mosaic(colours, "grbg")[:2, :2].tolist() == [[2, 1], [3, 2]]


@settings(deadline=None)  # the library takes seconds to import
@given(st.sampled_from(BAYER_PATTERNS), st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_what_a_pixel_saw_stays(pattern: str, height: int, width: int, seed: int):
    seen = np.random.default_rng(seed).random((height, width), np.float32)
    picture = demosaic(seen, pattern)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    np.testing.assert_allclose(mosaic(picture, pattern), seen, atol=1e-6)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_flat_colours_have_no_borders(pattern: str):
    picture = np.broadcast_to(np.float32(COLOURS["skin"]), (7, 9, 3))
    np.testing.assert_allclose(demosaic(mosaic(picture, pattern), pattern), picture, atol=1e-6)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_pictures_go_on_mirrored(pattern: str):
    seen = np.random.default_rng(0).random((7, 8), np.float32)
    inner = np.s_[20:-20, 20:-20]
    mirrored = demosaic(np.pad(seen, 20, mode="reflect"), pattern)
    np.testing.assert_allclose(demosaic(seen, pattern), mirrored[inner], atol=1e-6)


def test_detail_keeps_its_colours():
    picture = make_scene("pan", colour=True).light(30)
    found = demosaic(mosaic(picture, "bggr"), "bggr")
    assert psnr(found, picture) > 29.9  # 29.3 by the one way, 29.6 by the other


@pytest.mark.parametrize("check", [check_pattern, check_demosaic, lambda pattern: Reconstructor("tfp", bayer=pattern)])
def test_unknown_patterns_are_refused(check):
    with pytest.raises(UsageError, match="unknown Bayer pattern 'rgb': choose bggr, rggb, gbrg, grbg"):
        check("rgb")


def test_grey_and_colour_are_not_mixed_up():
    with pytest.raises(UsageError, match=r"shape \(4, 8\) is not in colour"):
        list(simulate(Still(np.ones((4, 8))), planes=2, bayer="bggr"))
    with pytest.raises(UsageError, match="needs a colour camera"):
        list(simulate(Still(np.ones((4, 8, 3))), planes=2))


# --- the engine --------------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(1, 2), st.integers(2, 9), st.integers(2, 9))
def test_splitting_and_joining_is_exact(batch: int, planes: int, height: int, width: int):
    mixed = torch.arange(batch * planes * height * width).reshape(batch, planes, height, width).float()
    apart = split_colours(mixed)
    assert apart.shape == (4 * batch, planes, (height + 1) // 2, (width + 1) // 2)
    for plane in range(planes):
        assert torch.equal(join_colours(apart[:, plane])[:, :height, :width], mixed[:, plane])
    for place, (down, right) in enumerate(itertools.product((0, 1), repeat=2)):
        part = mixed[:, :, down::2, right::2]
        assert torch.equal(apart[place::4, :, : part.shape[2], : part.shape[3]], part)
        # What fills up an odd size is of the colour that belongs there.
        assert set(apart[place::4].unique().tolist()) <= set(mixed[:, :, down::2, right::2].unique().tolist())


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 19), (24, 17)])
def test_flat_colours_through_a_file(tmp_path: Path, pattern: str, size: tuple[int, int]):
    tfp = Reconstructor("tfp", window=60, device="cpu", bayer=pattern)
    width, height = size
    for name, colour in COLOURS.items():
        scene = Still(np.broadcast_to(colour, (height, width, 3)))
        write_recording(tmp_path / name, simulate(scene, planes=60, full_scale_rate=1, bayer=pattern), width)
        with open_recording(tmp_path / name, size=size) as recording:
            (frame,) = tfp.frames(recording)
        assert frame.rate.shape == (height, width, 3)
        assert frame.rate.dtype == np.float32
        np.testing.assert_allclose(frame.rate, np.broadcast_to(colour, frame.rate.shape), atol=0.06)
        np.testing.assert_allclose(frame.rate.mean((0, 1)), colour, atol=0.01)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
@pytest.mark.parametrize("layout", ["packed", "npz"])  # stored upside down, and upright
def test_every_colour_is_where_it_was(tmp_path: Path, pattern: str, layout: str):
    picture = half_and_half(16, 24)
    chunks = simulate(Still(picture), planes=60, full_scale_rate=1, bayer=pattern)
    write_recording(tmp_path / "a", chunks, 24, layout=layout)
    with open_recording(tmp_path / "a", layout=layout, size=(24, 16)) as recording:
        (frame,) = Reconstructor("tfp", window=60, device="cpu", bayer=pattern).frames(recording)
    inside = np.s_[np.r_[0:6, 10:16]][:, None], np.r_[0:10, 14:24]
    assert np.abs(frame.rate - picture)[inside].max() < 0.06


@pytest.mark.parametrize(("merge", "width", "height"), [(1, 40, 36), (2, 41, 37)])
def test_each_colour_is_a_picture_of_its_own(monkeypatch: pytest.MonkeyPatch, merge: int, width: int, height: int):
    """The network's mosaics are those of the four colours one by one, whatever the batch."""
    monkeypatch.setattr(engines, "demosaic", lambda seen, pattern: seen)
    recording = filmed(Drift(width, height), "bggr", planes=180)
    planes = unpack(recording.read(0, 180), width)
    if width % 2:
        planes = np.pad(planes, ((0, 0), (0, 1), (0, 1)), mode="reflect")
    options = {"device": "cpu", "precision": "float32", "merge": merge}
    colour = Reconstructor("stir", bayer="bggr", batch_size=2, **options)
    frames = list(colour.frames(recording, [60, 80, 100]))
    plain = Reconstructor(colour.method, **options)
    for down, right in itertools.product((0, 1), repeat=2):
        alone = from_rows(pack(planes[:, down::2, right::2]), planes.shape[2] // 2)
        for frame, expected in zip(frames, plain.frames(alone, [60, 80, 100]), strict=True):
            found = frame.rate[down::2, right::2]
            assert np.abs(found - expected.rate[: found.shape[0], : found.shape[1]]).max() < 1e-4


def test_a_block_is_encoded_once(monkeypatch: pytest.MonkeyPatch):
    colour = Reconstructor("stir", device="cpu", bayer="rggb")
    encoded = []
    plain = colour.quick.encode
    monkeypatch.setattr(colour.quick, "encode", lambda blocks: encoded.append(len(blocks)) or plain(blocks))
    frames = list(colour.frames(filmed(Drift(32, 32), "rggb", planes=120)))
    assert [frame.center for frame in frames] == [30, 50, 70, 90]
    assert encoded == 6 * [4]


@pytest.mark.parametrize("method", ["tfp", "tfi"])
def test_methods_that_look_at_one_pixel_see_the_same(monkeypatch: pytest.MonkeyPatch, method: str):
    monkeypatch.setattr(engines, "demosaic", lambda seen, pattern: seen)
    recording = filmed(Drift(33, 31), "gbrg")
    (colour,) = Reconstructor(method, device="cpu", bayer="gbrg").frames(recording)
    (grey,) = Reconstructor(method, device="cpu").frames(recording)
    assert np.array_equal(colour.rate, grey.rate)


@pytest.mark.parametrize("method", ["tfp", "tfstp"])
def test_colours_are_interpolated_beside_the_method(monkeypatch: pytest.MonkeyPatch, method: str):
    recording = filmed(Drift(32, 24), "bggr", planes=100)
    engine = Reconstructor(method, device="cpu", bayer="bggr")
    plain = Reconstructor(method, device="cpu")
    threads = []

    def remembering(seen: np.ndarray, pattern: str) -> np.ndarray:
        threads.append(threading.current_thread())
        return demosaic(seen, pattern)

    monkeypatch.setattr(engines, "demosaic", remembering)
    centers = [40, 43, 60, 61, 62]
    for frame, grey in zip(engine.frames(recording, centers), plain.frames(recording, centers), strict=True):
        assert frame.center == grey.center
        assert np.array_equal(frame.rate, demosaic(grey.rate, "bggr"))
    assert len(threads) == 5
    assert threading.current_thread() not in threads


def test_a_single_row_has_no_pattern():
    recording = from_rows(np.ones((60, 1, 2), np.uint8), 16, "line.dat")
    with pytest.raises(UsageError, match=r"line\.dat: 16x1 pixels hold no Bayer pattern"):
        next(Reconstructor("tfp", device="cpu", bayer="bggr").frames(recording))


@pytest.mark.parametrize(("method", "least"), [("tfp", 25), ("stir", 30)])
def test_slow_motion(method: str, least: float):
    scene = Drift(96, 64)
    (frame,) = Reconstructor(method, device="cpu", bayer="bggr").frames(filmed(scene, "bggr"))
    assert psnr(np.clip(frame.rate / 0.6, 0, 1), scene.light(30)) > least


# --- the command line --------------------------------------------------------------------------------


@pytest.fixture
def three_colours(tmp_path: Path) -> Path:
    scene = Still(half_and_half(48, 64))
    write_recording(tmp_path / "colours.dat", simulate(scene, planes=100, bayer="bggr"), 64)
    return tmp_path / "colours.dat"


def looks_like(found: np.ndarray, tolerance: float) -> None:
    """Red above, green and blue below, all as bright as can be."""
    assert found.shape == (48, 64, 3)
    for area, colour in (((6, 6), 0), ((6, 57), 0), ((41, 6), 1), ((41, 57), 2)):
        middle = found[area[0] - 4 : area[0] + 5, area[1] - 4 : area[1] + 5].astype(float).mean((0, 1))
        assert np.abs(middle - 255 * np.eye(3)[colour]).max() < tolerance


def test_the_frames_command_in_colour(spikerecon: Command, three_colours: Path):
    words = (*SMALL, "--method", "tfp", "--window", 60, "--bayer", "bggr", "--center", 50)
    spikerecon("frames", three_colours, *words, "-o", "one.png")
    looks_like(np.asarray(Image.open("one.png")), 12)
    said = spikerecon("frames", three_colours, *words, "-o", "two.png", "--bit-depth", 16).stderr
    assert ", in colour (bggr)," in said
    assert (Path("two.png").read_bytes()[24:26]) == bytes([16, 2])  # RGB of 16 bit


def test_a_crop_keeps_its_colours(spikerecon: Command, three_colours: Path):
    """An odd first column or row is where the pattern begins with another colour."""
    words = ("--method", "tfp", "--window", 60, "--bayer", "bggr", "--gain", 1, "--center", 50)
    spikerecon("frames", three_colours, *SMALL, *words, "-o", "whole.png")
    whole = np.asarray(Image.open("whole.png")).astype(int)
    for left, top in ((1, 0), (0, 1), (1, 1), (2, 2)):
        spikerecon("frames", three_colours, *SMALL, *words, "-o", "part.png", "-y", "--crop", f"{left},{top},40,40")
        part = np.asarray(Image.open("part.png")).astype(int)
        same = np.s_[4:-4, 4:-4]  # the picture ends elsewhere
        assert np.abs(part - whole[top : top + 40, left : left + 40])[same].max() <= 1


def test_methods_compared_in_colour(spikerecon: Command, three_colours: Path):
    spikerecon(
        "frames", three_colours, *SMALL, "--bayer", "bggr", "--compare", "tfp,tfstp", "--center", 50, "-o", "a.png"
    )
    sheet = np.asarray(Image.open("a.png"))
    assert sheet.shape == (48 + HEADING, 2 * 64, 3)
    assert (sheet[:HEADING] > 100).any()
    for picture in (sheet[HEADING:, :64], sheet[HEADING:, 64:]):
        assert picture[6, 30].argmax() == 0  # red above
        assert picture[41, 6].argmax() == 1
        assert picture[41, 57].argmax() == 2


def test_a_flawed_pixel_takes_the_spikes_of_its_own_colour(spikerecon: Command, three_colours: Path, tmp_path: Path):
    with open_recording(three_colours, size=(64, 48)) as recording:
        planes = unpack(recording.read(0, recording.planes), 64)
    planes[:, 40, 40] = 0  # blue in the blue: the pixels beside it, of other colours, are dark
    write_recording(tmp_path / "flawed.dat", [pack(planes)], 64)
    words = (*SMALL, "--method", "tfp", "--window", 60, "--bayer", "bggr", "--center", 50, "--gain", 1)
    said = spikerecon("frames", "flawed.dat", *words, "-o", "mended.png").stderr
    assert "mended 0 stuck and 1 dead pixels" in said
    assert np.asarray(Image.open("mended.png"))[40, 40, 2] > 100


@pytest.mark.parametrize(
    ("output", "codec", "tolerance"),
    [("a.mp4", "h264", 15), ("a.mkv", "ffv1", 12), ("a.mov", "h264-lossless", 12), ("a.gif", "h264", 12)],
)
def test_the_convert_command_in_colour(
    spikerecon: Command, three_colours: Path, output: str, codec: str, tolerance: float
):
    words = (*SMALL, "--method", "tfp", "--window", 60, "--bayer", "bggr", "--codec", codec, "--json")
    told = json.loads(spikerecon("convert", three_colours, "-o", output, *words).stdout)
    found = list(read_video(output, colour=True))
    assert len(found) == told["frames"] == 3
    assert told["bayer"] == "bggr"
    for picture in found:
        looks_like(picture, tolerance)


def test_pictures_in_colour_from_standard_input(spikerecon: Command, three_colours: Path):
    words = (*SMALL, "--method", "tfp", "--window", 60, "--bayer", "bggr", "-q")
    spikerecon("convert", "-", "-o", "out", *words, input=three_colours.read_bytes())
    assert len(contents(Path("out"))) == 3
    looks_like(np.asarray(Image.open("out/000002.png")), 12)


@pytest.mark.parametrize(("depth", "other"), [(8, 16), (16, 8)])
def test_pictures_in_colour_go_on_in_their_own_depth(spikerecon: Command, three_colours: Path, depth: int, other: int):
    words = ("convert", three_colours, *SMALL, "--method", "tfp", "--window", 60, "--bayer", "bggr", "-o", "out", "-q")
    spikerecon(*words, "--bit-depth", depth)
    whole = contents(Path("out"))
    Path("out/000002.png").unlink()
    said = spikerecon(*words, "--bit-depth", other, "--resume", status=1).stderr
    assert "000001.png: is not what these options make" in said
    spikerecon(*words, "--bit-depth", depth, "--resume")
    assert contents(Path("out")) == whole


def test_one_gain_for_all_colours(spikerecon: Command, tmp_path: Path):
    scene = Still(np.broadcast_to((0.8, 0.4, 0.2), (48, 64, 3)))
    write_recording(tmp_path / "flat.dat", simulate(scene, planes=60, bayer="rggb"), 64)
    words = (*SMALL, "--method", "tfp", "--window", 60, "--bayer", "rggb", "--center", 30, "--json")
    (told,) = json.loads(spikerecon("frames", "flat.dat", *words).stdout)
    with open_recording("flat.dat", size=(64, 48)) as recording:
        assert told["gain"] == pytest.approx(auto_gain(recording))
    assert told["gain"] == pytest.approx(1 / 0.48, rel=0.05)
    found = np.asarray(Image.open(told["file"])).astype(float).mean((0, 1)) / 255
    assert found == pytest.approx([0.48 * told["gain"], 0.24 * told["gain"], 0.12 * told["gain"]], abs=0.03)


@pytest.mark.parametrize("source", ["pan", "video.mkv", "pictures"])
def test_simulating_and_evaluating_in_colour(spikerecon: Command, source: str):
    if source == "video.mkv":
        spikerecon("simulate", "pan", *SMALL, "-o", "pan.dat", "--bayer", "rggb", "--planes", 140, "-q")
        convert = ("--bayer", "rggb", "--method", "tfp", "--window", 60, "--codec", "ffv1", "-q")
        spikerecon("convert", "pan.dat", *SMALL, "-o", source, *convert)
    elif source == "pictures":
        Path(source).mkdir()
        for i in range(4):
            Image.fromarray(np.full((48, 64, 3), (250, 120, 40 + i), np.uint8)).save(f"pictures/{i}.png")
    size = SMALL if source == "pan" else ()
    words = ("--bayer", "gbrg", "--planes", 60, "--truth", "truth", "-q")
    spikerecon("simulate", source, *size, "-o", "colour.dat", *words)
    (entry,) = json.loads(Path("truth/sequences.json").read_text())
    assert entry["bayer"] == "gbrg"
    with Image.open("truth/colour_000030.png") as true:
        assert (true.mode, true.size) == ("RGB", (64, 48))
        assert np.ptp(np.asarray(true).astype(int).mean((0, 1))) > 1  # not grey
    words = ("--method", "tfp", "--json", "-", "-q", "--sheet", "sheet.png")
    (score,) = json.loads(spikerecon("evaluate", "truth/sequences.json", *words).stdout)["results"]
    assert score["psnr"] > {"pan": 12, "video.mkv": 18, "pictures": 25}[source]
    with Image.open("sheet.png") as sheet:
        assert (sheet.mode, sheet.width) == ("RGB", 4 * 64)


# --- without the library -----------------------------------------------------------------------------


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "colour_demosaicing", None)
    colours._ways.cache_clear()
    yield
    colours._ways.cache_clear()


@pytest.mark.usefixtures("without_library")
def test_a_missing_library_is_told():
    words = r"colour needs colour-demosaicing: pip install 'spikerecon\[colour\]'"
    for attempt in (
        lambda: check_demosaic("bggr"),
        lambda: demosaic(np.zeros((4, 4), np.float32), "bggr"),
        lambda: Reconstructor("tfp", bayer="bggr"),
    ):
        with pytest.raises(OutputError, match=words):
            attempt()
    list(simulate(Drift(16, 16), planes=2, bayer="bggr"))  # filming needs none


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("command", ["convert -o out.mp4", "frames --center 50 -o out.png"])
def test_a_missing_library_is_told_before_any_work(spikerecon: Command, three_colours: Path, command: str):
    name, *rest = command.split()
    result = spikerecon(name, three_colours, *rest, *SMALL, "--method", "tfp", "--bayer", "bggr", status=1)
    assert result.stderr == "error: colour needs colour-demosaicing: pip install 'spikerecon[colour]'\n"
    assert list(contents(Path())) == ["colours.dat"]
