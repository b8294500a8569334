"""Recordings seen through something: crops, and flawed pixels, found and mended."""

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Command, Still, contents, examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spikerecon.errors import RecordingError, RecordingWarning, UsageError
from spikerecon.names import LAYOUT_NAMES
from spikerecon.recording import (
    MIN_PLANES,
    Flaws,
    Recording,
    cropped,
    find_flaws,
    flaws_of_flat,
    from_rows,
    mended,
    open_recording,
    pack,
    parse_crop,
    unpack,
    write_recording,
)
from spikerecon.scenes import Scene, make_scene
from spikerecon.simulate import SensorNoise, SpikeSensor, simulate
from spikerecon.video import read_video

few = examples(20)
FIXED = {"row-headers": (400, 250), "raw1000": (1000, 1000)}


@cache
def random_rows(width: int, height: int, planes: int = MIN_PLANES) -> np.ndarray:
    rows = np.random.default_rng(width * height).integers(0, 256, (planes, height, -(-width // 8)), np.uint8)
    rows[:, :, -1] &= 255 >> -width % 8
    rows.flags.writeable = False
    return rows


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int, str], Recording]:
    """Opens `random_rows`, stored in any layout."""

    @cache
    def written(width: int, height: int, layout: str) -> Path:
        path = tmp_path_factory.mktemp("stored") / "r"
        write_recording(path, [random_rows(width, height)], width, layout=layout)
        return path

    def opened(width: int, height: int, layout: str) -> Recording:
        if layout == "memory":
            return from_rows(random_rows(width, height), width)
        if layout == "stream":
            stream = io.BytesIO(written(width, height, "packed").read_bytes())
            return open_recording(stream, size=(width, height))
        return open_recording(written(width, height, layout), layout=layout, size=(width, height))

    return opened


# Crops


@few
@given(data=st.data())
def test_a_crop_is_a_slice_of_the_planes(data: st.DataObject, stored: Callable[[int, int, str], Recording]):
    layout = data.draw(st.sampled_from([*LAYOUT_NAMES[1:], "stream", "memory"]))
    width, height = FIXED.get(layout) or (data.draw(st.integers(1, 40)), 8 * data.draw(st.integers(1, 3)))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    across, down = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 70), st.integers(0, 70))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        with stored(width, height, layout) as recording:
            part = cropped(recording, (left, top, across, down))
            assert (part.width, part.height, part.planes) == (across, down, recording.planes)
            found = part.read(start, stop)
    expected = unpack(random_rows(width, height), width)[start:stop, top : top + down, left : left + across]
    assert (found == pack(expected)).all()
    assert found.flags.c_contiguous


@pytest.mark.parametrize("crop", [(0, 0, 0, 5), (0, 0, 5, 0), (0, 0, 9, 1), (-1, 1, 2, 2), (1, 1, 8, 1), (0, 7, 1, 2)])
def test_a_crop_lies_in_the_picture(crop: tuple[int, int, int, int]):
    with pytest.raises(UsageError, match=f"^crop {','.join(map(str, crop))} is no part of a picture of 8x8$"):
        cropped(from_rows(random_rows(8, 8), 8), crop)


def test_a_crop_is_four_whole_numbers():
    recording = from_rows(random_rows(300, 8), 300)
    part = cropped(recording, np.array([200, 1, 80, 5], np.uint8))  # whose sum is more than it can hold
    assert (part.read(0, 9) == cropped(recording, (200, 1, 80, 5)).read(0, 9)).all()
    for crop in ((0.0, 0.0, 5.0, 5.0), (1, 2, 3), None):
        with pytest.raises(UsageError, match=r"is not \(left, top, width, height\) in pixels"):
            cropped(recording, crop)


def test_parse_crop():
    assert parse_crop(" 1,2, 30,40") == (1, 2, 30, 40)


@pytest.mark.parametrize("text", ["", "1,2,3", "0,0,0,5", "0,0,8,00", "-1,0,2,2", "0,0,2.5,2", "1;2;3;4", "٣,0,1,1"])
def test_parse_crop_refuses(text: str):
    with pytest.raises(UsageError, match="is not LEFT,TOP,WIDTH,HEIGHT"):
        parse_crop(text)


def test_a_crop_of_a_crop():
    rows = random_rows(40, 24)
    part = cropped(cropped(from_rows(rows, 40), (5, 3, 30, 20)), (7, 2, 9, 4))
    assert (unpack(part.read(0, 9), 9) == unpack(rows, 40)[:9, 5:9, 12:21]).all()


def test_a_crop_of_a_stream_follows_it_to_its_end():
    data = random_rows(16, 8, 70).tobytes()
    stream = open_recording(io.BytesIO(data + b"cut off"), size=(16, 8))
    part = cropped(stream, (3, 1, 8, 4))
    assert part.planes is None
    assert len(part.read(0, 60)) == 60
    with pytest.warns(RecordingWarning, match="its 7 bytes are left out") as caught:
        assert len(part.read(20, 80)) == 50
    assert (part.planes, stream.planes, part.leftover_bytes) == (70, 70, 7)
    assert part.notes == stream.notes == [str(caught[0].message)]
    assert len(caught) == 1


def test_what_is_seen_through_a_view_is_told_once_and_closed_with_it(tmp_path: Path, small_file: Path):
    path = tmp_path / "r.dat"
    path.write_bytes(small_file.read_bytes() + b"cut off")
    with pytest.warns(RecordingWarning, match="its 7 bytes are left out"):
        recording = open_recording(path, size=(64, 48))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with cropped(recording, (0, 0, 8, 8)) as part:
            part.read(0, 70)
    assert part.notes == recording.notes
    assert (part.name, part.layout, part.flip, part.why) == (str(path), "packed", True, recording.why)
    with pytest.raises(RecordingError, match="closed"):
        recording.read(0, 1)


# Flaws found


CLEAN = SensorNoise(stuck_fraction=0, dead_fraction=0)
FLAWED = SensorNoise(stuck_fraction=3e-3, dead_fraction=3e-3)


def even(rate: float, width: int = 72, height: int = 56) -> Still:
    return Still(np.full((height, width), rate))


def recorded(scene: Scene, noise: SensorNoise | None = None, planes: int = 200, seed: int = 0) -> Recording:
    rows = np.concatenate(list(simulate(scene, planes=planes, full_scale_rate=1, noise=noise, seed=seed)))
    return from_rows(rows, scene.width)


def true_flaws(scene: Scene, seed: int = 0) -> Flaws:
    """Those of `FLAWED`."""
    sensor = SpikeSensor(scene.height, scene.width, np.random.default_rng(seed), FLAWED)
    return Flaws(sensor._dead, sensor._stuck)


def same(found: Flaws, true: Flaws) -> bool:
    return bool((found.dead == true.dead).all() and (found.stuck == true.stuck).all())


def places(mask: np.ndarray) -> list[list[int]]:
    return np.argwhere(mask).tolist()


@pytest.mark.parametrize(("rate", "planes"), [(0.1, 60), (0.03, 200), (0.3, 200), (0.45, 200), (0.1, 700)])
def test_known_flaws_are_counted_right(rate: float, planes: int):
    scene = even(rate)
    true = true_flaws(scene)
    assert (true.dead.sum(), true.stuck.sum()) == (16, 11)
    found = find_flaws(recorded(scene, FLAWED, planes))
    assert same(found, true)
    assert str(found) == "11 stuck and 16 dead pixels"


def test_known_flaws_are_counted_right_before_a_moving_scene():
    scene = make_scene("pan", 72, 56)
    dimmed = type("Dimmed", (), {"width": 72, "height": 56, "light": lambda _, t: 0.6 * scene.light(t)})()
    assert same(find_flaws(recorded(dimmed, FLAWED, 400)), true_flaws(dimmed))


def test_stuck_pixels_are_found_in_the_dark_and_dead_ones_are_not():
    found = find_flaws(recorded(even(0.001), FLAWED))
    assert (found.stuck == true_flaws(even(0.001)).stuck).all()
    assert not found.dead.any()


RAMP = np.tile(np.linspace(0, 1.5, 72), (56, 1))
CHECKS = np.kron(np.indices((7, 9)).sum(0) % 2, np.ones((8, 8)))


@pytest.mark.parametrize(
    "scene",
    [
        even(0),
        even(0.004),
        even(0.97),
        even(1),
        even(3),
        Still(RAMP),
        Still(RAMP / 20),
        Still(CHECKS),
        Still(0.5 * CHECKS),
        make_scene("pan", 72, 56),
        make_scene("fan", 72, 56),
    ],
    ids=["black", "dark", "bright", "limit", "saturated", "ramp", "dark ramp", "checks", "grey checks", "pan", "fan"],
)
@pytest.mark.parametrize("planes", [60, 250])
def test_no_false_alarm(scene: Scene, planes: int):
    assert not find_flaws(recorded(scene, CLEAN, planes)).dead.any()
    assert not find_flaws(recorded(scene, CLEAN, planes)).stuck.any()


def point(width: float) -> np.ndarray:
    y, x = np.mgrid[:24, :32]
    return np.exp(-((y - 9) ** 2 + (x - 13) ** 2) / (2 * width**2))


@pytest.mark.parametrize("width", [0.7, 1, 1.5, 2])
@pytest.mark.parametrize("height", [1.5, 3])
def test_a_point_of_light_is_not_stuck_and_a_dark_spot_not_dead(width: float, height: float):
    assert not find_flaws(recorded(Still(0.02 + height * point(width)))).stuck.any()
    assert not find_flaws(recorded(Still(0.3 * np.maximum(1 - height * point(width), 0)))).dead.any()


@pytest.mark.parametrize("width", [1.5, 2, 3])
def test_the_darkest_pixel_of_a_shade_is_not_dead(width: float):
    counts = unpack(recorded(Still(0.3 * (1 - point(width)))).read(0, 200), 32).sum(0)
    assert (counts == 0).sum() == 1
    assert not find_flaws(recorded(Still(0.3 * (1 - point(width))))).dead.any()


def test_a_thin_line_is_not_dead():
    picture = np.full((24, 32), 0.3)
    picture[8], picture[12:20, 9] = 0, 0
    assert not find_flaws(recorded(Still(picture))).dead.any()


def test_flaws_at_the_border_are_found():
    rows = recorded(even(0.2, 33, 17)).read(0, 200)
    planes = unpack(rows, 33)
    planes[:, 0, 0], planes[:, 16, 20], planes[:, 5, 32], planes[:, 16, 32] = 0, 0, 1, 1
    found = find_flaws(from_rows(pack(planes), 33))
    assert places(found.dead) == [[0, 0], [16, 20]]
    assert places(found.stuck) == [[5, 32], [16, 32]]


def test_flaws_are_sought_in_the_planes_asked_for():
    planes = unpack(recorded(even(0.2, 32, 24)).read(0, 200), 32)
    planes[:100, 5, 6], planes[:100, 9, 9] = 0, 1
    recording = from_rows(pack(planes), 32)
    found = find_flaws(recording, 0, 100)
    assert (places(found.dead), places(found.stuck)) == ([[5, 6]], [[9, 9]])
    assert str(find_flaws(recording)) == "0 stuck and 0 dead pixels"


def yellow(rate: float = 0.2) -> np.ndarray:
    """What a BGGR mosaic sees of yellow light: no blue."""
    picture = np.full((24, 32), rate)
    picture[::2, ::2] = 0
    return picture


def test_under_a_bayer_filter_neighbours_are_of_the_same_colour():
    planes = unpack(recorded(Still(yellow())).read(0, 200), 32)
    planes[:, 7, 8], planes[:, 0, 5] = 0, 1
    recording = from_rows(pack(planes), 32)
    found = find_flaws(recording, spacing=2)
    assert (places(found.dead), places(found.stuck)) == ([[7, 8]], [[0, 5]])
    assert (unpack(mended(recording, found).read(0, 200), 32)[:, 7, 8] == planes[:, 7, 6]).all()
    assert find_flaws(recording).dead.sum() > 100


def test_the_flaws_of_a_stream_are_not_sought():
    stream = open_recording(io.BytesIO(random_rows(16, 8, 70).tobytes()), size=(16, 8))
    with pytest.raises(UsageError, match="can be read once only"):
        find_flaws(stream)
    assert len(stream.read(0, 70)) == 70


# Flat fields


def test_a_flat_field_shows_what_is_weak_and_what_lies_together():
    picture = 0.2 * np.linspace(1, 0.6, 32) * np.ones((24, 1))
    dead, stuck = np.zeros((2, 24, 32), bool)
    dead[4, 5] = dead[4, 6] = dead[10] = dead[15, 3] = True
    stuck[7, 20] = stuck[8, 20] = stuck[20, 9] = True
    picture[dead], picture[stuck] = 0, 1
    picture[15, 3] *= 0.4
    picture[20, 9] = 0.45
    assert same(flaws_of_flat(recorded(Still(picture), CLEAN)), Flaws(dead, stuck))


@pytest.mark.parametrize("rate", [0.06, 0.3, 0.45])
def test_a_flat_field_without_flaws(rate: float):
    flat = recorded(even(rate, 40, 24), CLEAN, 700)
    assert str(flaws_of_flat(flat)) == "0 stuck and 0 dead pixels"
    assert str(flaws_of_flat(flat, spacing=2)) == "0 stuck and 0 dead pixels"


def test_a_flat_field_under_a_bayer_filter():
    picture = yellow(0.3)
    picture[::2, ::2] = 0.1
    picture[7, 8], picture[6, 6] = 0.1, 0.3
    found = flaws_of_flat(recorded(Still(picture)), spacing=2)
    assert (places(found.dead), places(found.stuck)) == ([[7, 8]], [[6, 6]])


@pytest.mark.parametrize(("rate", "word"), [(0, "dark"), (0.03, "dark"), (0.6, "bright"), (1, "bright")])
def test_a_flat_field_that_cannot_tell(rate: float, word: str):
    with pytest.raises(RecordingError, match=f"^planes in memory: is too {word} for a flat field: half of") as caught:
        flaws_of_flat(recorded(even(rate)))
    assert "\n" not in str(caught.value)


# Mending


def mended_plainly(planes: np.ndarray, flaws: Flaws) -> np.ndarray:
    """Pixel by pixel: the nearest of all that are sound and of the same colour."""
    flawed, spacing = flaws.dead | flaws.stuck, flaws.spacing
    found = planes.copy()
    for y, x in np.argwhere(flawed):
        _, _, _, _, row, column = min(
            ((row - y) ** 2 + (column - x) ** 2, abs(row - y), row - y, column - x, row, column)
            for row, column in np.argwhere(~flawed)
            if (row - y) % spacing == (column - x) % spacing == 0
        )
        found[:, y, x] = planes[:, row, column]
    return found


@few
@given(
    width=st.integers(2, 19),
    height=st.integers(2, 9),
    share=st.floats(0, 0.6),
    spacing=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_flawed_pixels_fire_as_their_nearest_sound_neighbours(
    width: int, height: int, share: float, spacing: int, seed: int
):
    lot = np.random.default_rng(seed).random((height, width))
    lot[:2, :2] = 1  # of each colour there is a sound one
    flaws = Flaws(lot < share / 2, (lot >= share / 2) & (lot < share), spacing)
    recording = from_rows(random_rows(width, height), width)  # which cannot be written to
    expected = mended_plainly(unpack(recording.read(0, 60), width), flaws)
    assert (mended(recording, flaws).read(0, 60) == pack(expected)).all()
    assert (mended(recording, flaws).read(3, 5) == pack(expected[3:5])).all()


def test_without_flaws_there_is_nothing_to_mend():
    recording = from_rows(random_rows(8, 8), 8)
    assert mended(recording, Flaws(*np.zeros((2, 8, 8), bool))) is recording


@pytest.mark.parametrize(
    ("shape", "value", "wanted"),
    [((6, 8), 0, "is 8x8; the flaws are of 8x6 pixels"), ((8, 8), 1, "every pixel is flawed")],
)
def test_mending_that_makes_no_sense(shape: tuple[int, int], value: int, wanted: str):
    mask = np.full(shape, value, bool)
    with pytest.raises(UsageError, match=wanted):
        mended(from_rows(random_rows(8, 8), 8), Flaws(mask, mask))


def test_a_mended_picture_is_nearer_to_the_truth():
    scene = Still(0.3 + 0.1 * np.sin(np.arange(72) / 5) * np.ones((56, 1)))
    recording = recorded(scene, replace(FLAWED, dark_current=0), 100)
    error = [
        float(np.square(unpack(each.read(30, 70), 72).mean(0) - scene.picture).mean())
        for each in (recording, mended(recording, find_flaws(recording)))
    ]
    assert error[1] < error[0] / 5


# The commands


TFP = (*SMALL, "--method", "tfp", "--gain", 2)
PAN_FLAWS = ((20, 30), (9, 9), (30, 50))
TOLD = "r.dat: mended 2 stuck and 1 dead pixels\n"


@pytest.fixture
def pan(spikerecon: Command, small_file: Path) -> np.ndarray:
    """In the current folder r.dat, the pan of `small_file` with two stuck pixels and a dead one, whose planes these
    are; sound.dat, the same mended; and flat.dat, a flat field with one more dead pixel."""
    with open_recording(small_file, size=(64, 48)) as recording:
        planes = unpack(recording.read(0, 100), 64)
    flat = unpack(recorded(even(0.2, 64, 48)).read(0, 200), 64)
    for each in (planes, flat):
        for (y, x), value in zip(PAN_FLAWS, (1, 1, 0), strict=True):
            each[:, y, x] = value
    flat[:, 40, 40] = 0
    write_recording("r.dat", [pack(planes)], 64)
    write_recording("flat.dat", [pack(flat)], 64)
    write_recording("sound.dat", [pack(mended_by_hand(planes))], 64)
    return planes


def mended_by_hand(planes: np.ndarray, *more: tuple[int, int]) -> np.ndarray:
    found = planes.copy()
    for y, x in (*PAN_FLAWS, *more):
        found[:, y, x] = planes[:, y, x - 1]
    return found


def pictures(folder: str) -> list[bytes | None]:
    return list(contents(Path(folder)).values())


@pytest.mark.parametrize("verb", ["convert", "frames"])
def test_flaws_are_mended_and_told(spikerecon: Command, pan: np.ndarray, verb: str):
    words = (*TFP, *(("--centers", "30:71:20") if verb == "frames" else ()))
    result = spikerecon(verb, "r.dat", "-o", "mended", *words)
    assert result.stderr.startswith(TOLD)
    assert "mended" not in spikerecon(verb, "sound.dat", "-o", "expected", *words).stderr.replace("mended/", "")
    assert len(pictures("mended")) == 3
    assert pictures("mended") == pictures("expected")
    for output, more in {"left": ("--no-mend",), "quiet": ("-q",)}.items():
        result = spikerecon(verb, "r.dat", "-o", output, *words, *more)
        assert "mended" not in result.stderr
    assert pictures("quiet") == pictures("mended")
    assert pictures("left")[0] != pictures("mended")[0]


def test_flaws_of_a_flat_field_are_mended(spikerecon: Command, pan: np.ndarray):
    write_recording("expected.dat", [pack(mended_by_hand(pan, (40, 40)))], 64)
    spikerecon("convert", "expected.dat", "-o", "expected", *TFP)
    for output, path in {"file": "r.dat", "stream": "-"}.items():
        words = (*TFP, "--flat", "flat.dat")
        result = spikerecon("convert", path, "-o", output, *words, input=Path("r.dat").read_bytes())
        assert "mended 2 stuck and 2 dead pixels" in result.stderr
        assert pictures(output) == pictures("expected")


def test_a_flat_field_is_as_upright_as_its_recording(spikerecon: Command, pan: np.ndarray):
    spikerecon("convert", "r.dat", "-o", "expected", *TFP, "--flat", "flat.dat")
    for name in ("r", "flat"):
        with open_recording(f"{name}.dat", size=(64, 48)) as recording:
            Path(f"{name}-upright.dat").write_bytes(recording.read(0, recording.planes or 0).tobytes())
    words = (*TFP, "--flat", "flat-upright.dat", "--no-flip")
    assert "mended 2 stuck and 2 dead pixels" in spikerecon("convert", "r-upright.dat", "-o", "found", *words).stderr
    assert pictures("found") == pictures("expected")


def test_a_flat_field_is_read_in_its_own_layout(spikerecon: Command, pan: np.ndarray):
    with open_recording("flat.dat", size=(64, 48)) as flat:
        write_recording("flat.npz", [flat.read(0, 200)], 64, layout="npz")
    words = (*TFP, "--layout", "packed", "--flat")
    assert "mended 2 stuck and 2 dead" in spikerecon("convert", "r.dat", "-o", "out", *words, "flat.npz").stderr
    write_recording("even.dat", [recorded(even(0.2, 64, 48)).read(0, 200)], 64)
    assert (
        "even.dat: shows no flawed pixels\n" in spikerecon("convert", "r.dat", "-o", "as-is", *words, "even.dat").stderr
    )


def test_a_stream_is_not_mended_unless_a_flat_field_is_there(spikerecon: Command, pan: np.ndarray):
    data = Path("r.dat").read_bytes()
    said = spikerecon("convert", "-", "-o", "stream", *TFP, input=data).stderr
    assert "note: flawed pixels are left as they are: give --flat to have them mended\n" in said
    spikerecon("convert", "r.dat", "-o", "left", *TFP, "--no-mend")
    assert pictures("stream") == pictures("left")
    refused = spikerecon("convert", "-", "-o", "x", *TFP, "--mend", input=data, status=2)
    assert refused.stderr == (
        "error: standard input: a stream can be read once only: find its flaws in a flat field (--flat)\n"
    )


@pytest.mark.parametrize(
    ("words", "status", "wanted"),
    [
        (("--flat", "flat.dat", "--no-mend"), 2, "--flat and --no-mend exclude each other"),
        (("--flat", "-"), 2, "a flat field is a file"),
        (("--flat", "none.dat"), 1, "none.dat: no such file"),
        (("--flat", "raw.dat"), 1, "raw.dat: has the row trailers of raw1000, a layout of 1000x1000, not of 64x48"),
        (("--flat", "small.npz"), 1, "60 planes of 32x24, not 64x48"),
        (("--flat", "dark.npz"), 1, "dark.npz: is too dark for a flat field"),
    ],
)
def test_flat_fields_that_are_refused(
    spikerecon: Command, pan: np.ndarray, words: tuple[object, ...], status: int, wanted: str
):
    write_recording("raw.dat", [random_rows(1000, 1000)], 1000, layout="raw1000")
    np.savez("small.npz", a=np.ones((60, 24, 32), np.uint8))
    np.savez("dark.npz", a=np.random.default_rng(0).random((60, 48, 64)) < 0.05)
    result = spikerecon("convert", "r.dat", "-o", "out", *TFP, *words, status=status)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert wanted in line
    assert not Path("out").exists()


def test_a_crop_is_what_a_repacked_crop_gives(spikerecon: Command, small_file: Path):
    crop = ("--crop", "13,8,32,24")
    spikerecon("repack", small_file, "-o", "part.dat", *SMALL, *crop)
    part, rest = ("--size", "32x24"), ("--method", "tfp", "--json")
    for stream in (None, small_file.read_bytes()):
        path, folder = (small_file, "file") if stream is None else ("-", "stream")
        told = spikerecon("convert", path, "-o", folder, *SMALL, *crop, *rest, input=stream)
        assert ": 32x24, " in told.stderr
        assert '"width": 32' in told.stdout
    spikerecon("convert", "part.dat", "-o", "expected", *part, *rest)
    assert pictures("file") == pictures("expected")
    words = ("--method", "stir", "--bin", "auto", "--center", 50)
    spikerecon("frames", small_file, "-o", "a.png", *SMALL, *crop, *words)
    spikerecon("frames", "part.dat", "-o", "b.png", *part, *words)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    told = spikerecon("info", small_file, *SMALL, *crop).stdout
    assert "32x24, stored upside down" in told


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_crop_of_odd_size(spikerecon: Command, small_file: Path, suffix: str):
    words = (*SMALL, "--method", "tfp", "--crop", "3,5,31,17")
    spikerecon("convert", small_file, "-o", f"odd.{suffix}", *words)
    assert {picture.shape for picture in read_video(f"odd.{suffix}")} == {(17, 31)}


def test_built_in_scenes_are_cropped_too(spikerecon: Command):
    words = ("--method", "tfp", "--crop", "100,50,40,30", "--gain", 1)
    spikerecon("frames", "--center", 60, "-o", "part.png", *words)
    spikerecon("frames", "--center", 60, "-o", "whole.png", "--method", "tfp", "--gain", 1)
    part, whole = (np.asarray(Image.open(name)) for name in ("part.png", "whole.png"))
    assert (part == whole[50:80, 100:140]).all()


def test_a_crop_of_the_built_in_scene_is_timed(spikerecon: Command):
    words = ("--method", "tfp", "--crop", "100,50,40,30", "--frames", 1, "--json", "-", "-q")
    assert '"width": 40' in spikerecon("bench", *words).stdout


def test_a_crop_is_mended_by_pixels_outside_of_it(spikerecon: Command, pan: np.ndarray):
    crop = ("--crop", "30,20,8,8")  # begins with a stuck pixel
    assert spikerecon("convert", "r.dat", "-o", "part", *TFP, *crop).stderr.startswith(TOLD)
    spikerecon("convert", "sound.dat", "-o", "expected", *TFP, *crop)
    assert pictures("part") == pictures("expected")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--crop", "60,0,8,8"), "crop 60,0,8,8 is no part of a picture of 64x48"),
        (("--crop", "60,0,8"), "crop '60,0,8' is not LEFT,TOP,WIDTH,HEIGHT"),
        (("--crop", ""), "crop '' is not LEFT,TOP,WIDTH,HEIGHT"),
    ],
)
@pytest.mark.parametrize("verb", ["convert", "frames", "info", "bench"])
def test_crops_that_are_refused(
    spikerecon: Command, small_file: Path, verb: str, words: tuple[object, ...], wanted: str
):
    more = {"convert": ("-o", "out"), "frames": ("--center", 50, "-o", "out")}.get(verb, ())
    result = spikerecon(verb, small_file, *SMALL, *more, *words, status=2)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {wanted}")
    assert contents(Path()) == {}


def test_info_counts_flaws(spikerecon: Command, pan: np.ndarray):
    told = spikerecon("info", "r.dat", *SMALL).stdout
    assert "  trouble       2 stuck and 1 dead pixels, of 2 that always fire and 1 that never do\n" in told
    facts = json.loads(spikerecon("info", "r.dat", *SMALL, "--json").stdout)
    assert facts["flaws"] == {"dead": 1, "stuck": 2}
    piped = spikerecon("info", "-", *SMALL, "--json", input=Path("r.dat").read_bytes())
    assert json.loads(piped.stdout)["flaws"] == facts["flaws"]
