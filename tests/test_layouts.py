"""Layouts with trailers, folders of blocks, growing files: written, damaged, and read again."""

import io
import json
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Command, contents, examples
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spikerecon.errors import OutputError, RecordingError, RecordingWarning, UsageError
from spikerecon.names import LAYOUT_NAMES
from spikerecon.recording import (
    MIN_PLANES,
    open_recording,
    pack,
    rate_over_time,
    unpack,
    write_recording,
)
from spikerecon.scenes import make_scene
from spikerecon.simulate import simulate

PLANE, ROW, HALF = 128_000, 128, 64  # bytes of raw1000

few = examples(10)


def noise(width: int, height: int, planes: int = MIN_PLANES) -> np.ndarray:
    """Packed rows of random planes; every eighth pixel fires."""
    rng = np.random.default_rng(width + height)
    random = [rng.integers(0, 256, (planes, height, (width + 7) // 8), np.uint8) for _ in range(3)]
    return pack(unpack(random[0] & random[1] & random[2], width))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return noise(1000, 1000, 63)


@pytest.fixture(scope="module")
def raw(rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("raw") / "raw.dat"
    assert write_recording(path, [rows[:40], rows[40:]], 1000, layout="raw1000") == 63
    return path.read_bytes()


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def read_all(path: Path, **options: object) -> tuple[np.ndarray, list[str]]:
    """Packed rows of all planes, and what was noted on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        with open_recording(path, **options) as recording:  # type: ignore[arg-type]
            found = recording.read(0, recording.planes or 10**6)
            return found, [note.split(": ", 1)[1] for note in recording.notes]


# raw1000


def test_raw1000_bit_by_bit(tmp_path: Path):
    """Spelled out without the package: half-rows of 500 pixels, 10 bits of line, 2 of channel."""
    rng = np.random.default_rng(5)
    planes = rng.integers(0, 2, (2, 1000, 1000), np.uint8)
    # Any order of lines will do that starts and ends like the camera's: here interleaved.
    order = [(line, channel) for line in range(1, 501) for channel in range(4)]
    order.remove((500, 0))
    order.insert(0, (500, 0))
    data = bytearray()
    for plane in planes:
        for half, (line, channel) in zip(plane.reshape(2000, 500), order, strict=True):
            bits = sum(int(bit) << i for i, bit in enumerate(half)) | line << 500 | channel << 510
            data += bits.to_bytes(64, "little")
    found, notes = read_all(saved(tmp_path / "r.dat", bytes(data) * 30))
    assert notes == []
    assert (unpack(found[:2], 1000) == planes).all()
    assert (found[58:] == found[:2]).all()


def test_raw1000_is_recognized_by_its_trailers(tmp_path: Path, raw: bytes):
    with open_recording(saved(tmp_path / "r.dat", raw[5000:])) as recording:
        assert (recording.layout, recording.width, recording.height) == ("raw1000", 1000, 1000)
        assert (recording.planes, recording.flip, recording.notes) == (62, False, [])
        assert recording.why == "trailers number its rows, and the first plane starts at byte 123000"
    with pytest.raises(UsageError, match="raw1000 is a layout of 1000x1000, not of 400x250"):
        open_recording(tmp_path / "r.dat", layout="raw1000", size=(400, 250))
    packed = saved(tmp_path / "p.dat", noise(1000, 1000).tobytes())
    with pytest.raises(RecordingError, match="no two whole planes with the row trailers of raw1000"):
        open_recording(packed, layout="raw1000")


@few
@given(start=st.integers(0, 2 * PLANE), cut=st.integers(0, PLANE - 1))
def test_raw1000_starts_and_ends_anywhere(tmp_path: Path, raw: bytes, rows: np.ndarray, start: int, cut: int):
    path = saved(tmp_path / "r.dat", raw[start : len(raw) - cut])
    first, planes = -(-start // PLANE), 63 - (cut > 0)
    found, notes = read_all(path)
    assert (found == rows[first:planes]).all()
    assert notes == ([f"the last plane is cut off: its {PLANE - cut} bytes are left out"] if cut else [])


@few
@given(
    gaps=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 999), st.integers(1, 40 * ROW)), min_size=1, max_size=4)
)
def test_raw1000_with_lost_bytes(tmp_path: Path, raw: bytes, rows: np.ndarray, gaps: list[tuple[int, int, int]]):
    """Half-rows that bytes were lost of are dark and reported with their plane; all others are where they were.

    A half-row behind a gap that is no whole number of half-rows may be dark, too: its beginning cannot be checked.
    """
    kept = np.ones(len(raw), bool)
    for plane, row, lost in gaps:
        at = plane * PLANE + row * ROW
        kept[at : at + lost] = False
    found, notes = read_all(saved(tmp_path / "r.dat", np.frombuffer(raw, np.uint8)[kept].tobytes()))
    assert len(found) == 63
    whole = kept.reshape(-1, HALF).all(1)
    pixels, true = (unpack(planes, 1000).reshape(-1, 500) for planes in (found, rows))
    dark = ~pixels.any(1)
    assert dark[~whole].all()
    assert (pixels[~dark] == true[~dark]).all()
    assert np.count_nonzero(dark & whole) <= len(gaps)
    named = {int(note.split(":")[0].removeprefix("plane ")) for note in notes}
    assert named == set(np.flatnonzero(dark.reshape(63, -1).any(1)).tolist())


@few
@given(halves=st.sets(st.integers(2000, 62 * 2000 - 1), min_size=1, max_size=15), bits=st.integers(1, 4095))
def test_raw1000_with_damaged_trailers(tmp_path: Path, raw: bytes, rows: np.ndarray, halves: set[int], bits: int):
    data = np.frombuffer(raw, np.uint8).copy().reshape(-1, HALF)
    at = sorted(halves)
    data[at, 62] ^= np.uint8((bits & 15) << 4)
    data[at, 63] ^= np.uint8(bits >> 4)
    found, notes = read_all(saved(tmp_path / "r.dat", data.tobytes()))
    expected = unpack(rows, 1000).reshape(-1, 500)
    expected[at] = 0
    assert (unpack(found, 1000).reshape(-1, 500) == expected).all()
    bad = sorted({(half // 2000, half % 2000 // 2) for half in at})
    # Each once, in the order in which they were read: opening looks at planes here and there.
    named = sorted(int(note.split(":")[0].removeprefix("plane ")) for note in notes)
    assert named == sorted({plane for plane, _ in bad})


def test_raw1000_keeps_what_lies_right_before_a_gap(tmp_path: Path, raw: bytes, rows: np.ndarray):
    """Half of a half-row before it and half of one behind make one that looks right, which begins before the gap."""
    begin = 40 * PLANE + 700 * HALF
    found, notes = read_all(saved(tmp_path / "r.dat", raw[:begin] + raw[begin + 41_940 :]))
    assert "plane 40: rows 350-677 are missing or damaged, and left dark" in notes
    assert (found[40, :350] == rows[40, :350]).all()
    assert (found[40, 678:] == rows[40, 678:]).all()


def test_raw1000_losses_that_add_up_to_whole_planes(tmp_path: Path, raw: bytes, rows: np.ndarray):
    """Behind both of them everything is in step with what is before: only what is in between tells."""
    lost = raw[: 20 * PLANE] + raw[20 * PLANE + PLANE // 2 : 50 * PLANE] + raw[50 * PLANE + PLANE // 2 :]
    found, _ = read_all(saved(tmp_path / "r.dat", lost))
    assert len(found) == 63
    dark = np.zeros((63, 1000), bool)
    dark[[20, 50], :500] = True
    assert (found[~dark] == rows[~dark]).all()
    assert not found[dark].any()


def test_raw1000_names_rows_and_stops_listing(tmp_path: Path, raw: bytes):
    data = bytearray(raw)
    for row in (3, 17, 18, 19):
        data[5 * PLANE + row * ROW + 63] ^= 255
    for plane in range(20, 39):
        data[plane * PLANE + 62] ^= 240
    _, notes = read_all(saved(tmp_path / "r.dat", bytes(data)))
    assert notes[0] == "plane 5: rows 3, 17-19 are missing or damaged, and left dark"
    assert "plane 20: row 0 is missing or damaged, and left dark" in notes
    assert len(notes) == 20
    data[60 * PLANE + 62] ^= 240
    _, notes = read_all(saved(tmp_path / "r.dat", bytes(data)))
    assert len(notes) == 21
    assert notes[-1] == "more planes have rows missing or damaged; they are not listed"


def test_raw1000_with_a_broken_end_and_a_gap(tmp_path: Path, raw: bytes, rows: np.ndarray):
    data = raw[: 10 * PLANE] + raw[10 * PLANE + 3 * ROW : -2 * PLANE] + bytes(2 * PLANE)
    found, notes = read_all(saved(tmp_path / "r.dat", data))
    assert (found[:10] == rows[:10]).all()
    assert (found[11:61] == rows[11:61]).all()
    assert not found[61:].any()
    assert notes[0] == "plane 10: rows 0-2 are missing or damaged, and left dark"


def test_raw1000_with_a_broken_start(tmp_path: Path, raw: bytes, rows: np.ndarray):
    found, _ = read_all(saved(tmp_path / "r.dat", bytes(4 * PLANE) + raw[4 * PLANE :]))
    assert not found[:4].any()
    assert (found[4:] == rows[4:]).all()


def test_raw1000_with_rows_put_in(tmp_path: Path, raw: bytes, rows: np.ndarray):
    """Bytes too many are like a plane that ends early: nothing comes to stand in a wrong row."""
    data = raw[: 10 * PLANE + 7 * ROW] + bytes(3 * ROW + 5) + raw[10 * PLANE + 7 * ROW :]
    found, notes = read_all(saved(tmp_path / "r.dat", data))
    assert len(found) == 64
    assert (found[:10] == rows[:10]).all()
    assert (found[10, :7] == rows[10, :7]).all()
    assert (found[11, 8:] == rows[10, 8:]).all()
    assert (found[12:] == rows[11:]).all()
    assert len(notes) == 2


# 2000x1000


@pytest.mark.parametrize(("size", "planes"), [((2000, 1000), 60), ((1000, 1000), 120), ((400, 250), 1200)])
def test_sizes_whose_planes_fill_each_other(tmp_path: Path, size: tuple[int, int], planes: int):
    """15,000,000 bytes are all of these; the content tells."""
    rows = np.concatenate(list(simulate(make_scene("pan", *size), planes=6)))
    write_recording(tmp_path / "r.dat", [rows] * (planes // 6), size[0])
    assert (tmp_path / "r.dat").stat().st_size == 15_000_000
    with open_recording(tmp_path / "r.dat") as recording:
        assert (recording.width, recording.height, recording.planes) == (*size, planes)


# SpikeLink folders


def blocks(folder: Path, numbers: list[int], planes: np.ndarray, each: int) -> None:
    """Blocks of `each` packed planes, bottom row first."""
    for i, number in enumerate(numbers):
        target = folder / str(i % 4)
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{number}.dat").write_bytes(planes[i * each : (i + 1) * each, ::-1].tobytes())


def test_spikelink_is_in_the_order_of_numbers(tmp_path: Path):
    rows = noise(64, 48, 130)
    blocks(tmp_path / "r", list(range(5, 18)), rows, 10)
    (tmp_path / "r" / "0" / "notes.txt").write_text("not a block")
    with open_recording(tmp_path / "r", size=(64, 48)) as recording:
        assert (recording.layout, recording.planes, recording.flip) == ("spikelink", 130, True)
        assert recording.why.startswith("a SpikeLink folder of 13 blocks, 5 to 17: layout")
        assert (recording.read(0, 130) == rows).all()
        for start, stop in ((0, 1), (9, 11), (5, 75), (129, 200)):
            assert (recording.read(start, stop) == rows[start:stop]).all()


def test_spikelink_names_missing_and_cut_off_blocks(tmp_path: Path):
    rows = noise(64, 48, 130)
    blocks(tmp_path / "r", list(range(13)), rows, 10)
    (tmp_path / "r" / "3" / "3.dat").unlink()
    (tmp_path / "r" / "0" / "4.dat").unlink()
    cut = tmp_path / "r" / "1" / "5.dat"
    cut.write_bytes(cut.read_bytes()[:-1])
    found, notes = read_all(tmp_path / "r", size=(64, 48))
    assert notes[:3] == [
        "missing block 3-4: its planes are left dark, 3840 bytes a block",
        "block 5 ends within a plane: its last 383 bytes are left out",
        "block 5 is shorter than most (3840 bytes): what follows may come too early",
    ]
    assert (found[:30] == rows[:30]).all()
    assert not found[30:50].any()
    assert (found[50:59] == rows[50:59]).all()
    assert (found[59:] == rows[60:]).all()


def test_a_spikelink_block_that_lacks_planes_is_told(tmp_path: Path):
    rows = noise(64, 48, 130)
    blocks(tmp_path / "r", list(range(13)), rows, 10)
    for number in (5, 12):  # the last may be as short as it likes
        cut = tmp_path / "r" / str(number % 4) / f"{number}.dat"
        cut.write_bytes(cut.read_bytes()[: 4 * 384])
    _, notes = read_all(tmp_path / "r", size=(64, 48))
    assert notes == ["block 5 is shorter than most (3840 bytes): what follows may come too early"]


def test_spikelink_of_other_layouts(tmp_path: Path, raw: bytes, rows: np.ndarray):
    for block in range(3):
        folder = tmp_path / "r" / str(block)
        folder.mkdir(parents=True)
        (folder / f"{block}.dat").write_bytes(raw[block * 21 * PLANE : (block + 1) * 21 * PLANE])
    with open_recording(tmp_path / "r") as recording:
        assert (recording.layout, recording.flip) == ("spikelink", False)
        assert (recording.read(0, 63) == rows).all()


def test_wrong_folders(tmp_path: Path):
    (tmp_path / "r" / "0").mkdir(parents=True)
    with pytest.raises(RecordingError, match="is a folder, but not of SpikeLink"):
        open_recording(tmp_path / "r")
    with pytest.raises(UsageError, match="is a folder, not an"):
        open_recording(tmp_path / "r", layout="npz")
    with pytest.raises(UsageError, match="SpikeLink recordings are folders"):
        open_recording(saved(tmp_path / "r.dat", b"1"), layout="spikelink")
    (tmp_path / "r" / "1").mkdir()
    for name in ("0/7.dat", "1/007.dat"):
        saved(tmp_path / "r" / name, b"1")
    with pytest.raises(RecordingError, match="has the same number as"):
        open_recording(tmp_path / "r", size=(8, 8))
    (tmp_path / "r" / "1" / "007.dat").rename(tmp_path / "r" / "1" / "1000000000000.dat")
    with pytest.raises(RecordingError, match="only 2 of the blocks 7-1000000000000 are there"):
        open_recording(tmp_path / "r", size=(8, 8))


# All layouts


SIZES = {"row-headers": (400, 250), "raw1000": (1000, 1000)}


@pytest.mark.parametrize("layout", LAYOUT_NAMES[1:])
@few
@given(data=st.data())
def test_every_layout_is_read_as_it_was_written(tmp_path: Path, layout: str, data: st.DataObject):
    width, height = SIZES.get(layout) or data.draw(
        st.tuples(st.integers(1, 70), st.integers(1, 40)).filter(lambda size: size[0] * size[1] % 8 == 0)
    )
    rows = noise(width, height, data.draw(st.integers(60, 70)))
    split = data.draw(st.integers(0, 70))
    path = tmp_path / f"{layout}-{time.monotonic_ns()}.{'npz' if layout == 'npz' else 'dat'}"
    assert write_recording(path, [rows[:split], rows[split:]], width, layout=layout) == len(rows)
    found, _ = read_all(path, layout=layout, size=(width, height))
    assert (found == rows).all()


def test_blocks_of_a_written_folder(tmp_path: Path):
    rows = noise(8, 8, 2500)
    write_recording(tmp_path / "r", [rows[:700], rows[700:2400], rows[2400:]], 8, layout="spikelink")
    sizes = {name: len(data) for name, data in contents(tmp_path / "r").items() if data is not None}
    assert sizes == {"0/0.dat": 8000, "1/1.dat": 8000, "2/2.dat": 4000}
    assert (read_all(tmp_path / "r", size=(8, 8))[0] == rows).all()
    with pytest.raises(OutputError, match="is a folder"):
        write_recording(tmp_path / "r", [rows], 8, layout="spikelink", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="to become one; give a name"):
        write_recording(tmp_path / "file", [rows], 8, layout="spikelink", overwrite=True)
    with pytest.raises(UsageError, match="raw1000 is a layout of 1000x1000, not of 8x8"):
        write_recording(tmp_path / "x", [rows], 8, layout="raw1000")
    with pytest.raises(UsageError, match="unknown layout 'avi': write one of packed"):
        write_recording(tmp_path / "x", [rows], 8, layout="avi")
    with pytest.raises(OutputError, match="no planes"):
        write_recording(tmp_path / "x", [], 8, layout="spikelink")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "r"]


# The commands


def test_repack_gives_packed_bytes_back(spikerecon: Command, small_file: Path):
    spikerecon("repack", small_file, "-o", "again.dat", *SMALL)
    assert Path("again.dat").read_bytes() == small_file.read_bytes()
    spikerecon("repack", "-", "-o", "piped.dat", *SMALL, input=small_file.read_bytes())
    assert Path("piped.dat").read_bytes() == small_file.read_bytes()


@pytest.mark.parametrize("layout", LAYOUT_NAMES[1:])
def test_repack_from_every_layout(spikerecon: Command, layout: str):
    width, height = SIZES.get(layout, (64, 48))
    for name, stored in (("stored", layout), ("packed", "packed")):
        write_recording(name, [noise(width, height)], width, layout=stored)
    spikerecon("repack", "stored", "-o", "again", "--layout", layout, "--size", f"{width}x{height}")
    assert Path("again").read_bytes() == Path("packed").read_bytes()


def test_arrays_of_sizes_that_fill_no_bytes(tmp_path: Path):
    rows = noise(33, 17)
    write_recording(tmp_path / "r.npz", [rows], 33, layout="npz")
    assert (read_all(tmp_path / "r.npz")[0] == rows).all()
    with pytest.raises(UsageError, match="33x17 does not fill whole bytes"):
        write_recording(tmp_path / "r.dat", [rows], 33)


def test_arrays_are_known_without_their_suffix(tmp_path: Path):
    rows = noise(64, 48)
    write_recording(tmp_path / "r.dat", [rows], 64, layout="npz")
    assert (read_all(tmp_path / "r.dat")[0] == rows).all()


def test_repack_of_a_stream_that_ends_before(spikerecon: Command, small_file: Path):
    words = ("repack", "-", *SMALL, "-o", "r.dat", "--start", 200)
    said = spikerecon(*words, input=small_file.read_bytes(), status=2).stderr
    assert said == "error: start 200 is out of range: this recording has 100 planes\n"
    assert not Path("r.dat").exists()


def test_repack_of_a_part(spikerecon: Command, small_file: Path):
    words = ("--start", 10, "--end", "2ms", "--crop", "13,8,32,24")
    result = spikerecon("repack", small_file, "-o", "part.dat", *SMALL, *words)
    assert "part.dat: 32x24, 70 planes, packed" in result.stderr
    whole, _ = read_all(small_file, size=(64, 48))
    part, _ = read_all(Path("part.dat"), size=(32, 24))
    assert (unpack(part, 32) == unpack(whole, 64)[10:80, 8:32, 13:45]).all()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--crop", "60,0,8,8"), "crop 60,0,8,8 is no part of a picture of 64x48"),
        (("--crop", "0,0,3,3"), "3x3 does not fill whole bytes"),
        (("--end", 101), "end 101 is out of range: this recording has 100 planes"),
        (("--start", 100), "start 100 is out of range: this recording has 100 planes"),
    ],
)
def test_repack_refuses(spikerecon: Command, small_file: Path, words: tuple[object, ...], wanted: str):
    result = spikerecon("repack", small_file, "-o", "r.dat", *SMALL, *words, status=2)
    assert wanted in result.stderr
    assert not Path("r.dat").exists()


def test_repack_does_not_write_over_what_it_reads(spikerecon: Command, small_file: Path):
    before = small_file.read_bytes()
    result = spikerecon("repack", small_file, "-o", small_file, "-y", *SMALL, status=1)
    assert "is what is to be read" in result.stderr
    assert small_file.read_bytes() == before


def test_simulate_raw1000(spikerecon: Command):
    spikerecon("simulate", "pan", "-o", "raw.dat", "--layout", "raw1000", "--planes", 60)
    told = json.loads(spikerecon("info", "raw.dat", "--json").stdout)
    assert (told["layout"], told["width"], told["height"], told["planes"]) == ("raw1000", 1000, 1000, 60)


def test_evaluate_knows_the_layout_of_what_was_simulated(spikerecon: Command):
    words = ("--size", "64x48", "--planes", 60, "--truth", "true")
    spikerecon("simulate", "pan", "-o", "r.npz", "--layout", "npz", *words)
    (entry,) = json.loads(Path("true/sequences.json").read_text())
    assert entry["layout"] == "npz"
    assert "mean" in spikerecon("evaluate", "true/sequences.json", "--method", "tfp").stdout


def test_info_draws(spikerecon: Command, small_file: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib")
    spikerecon("info", small_file, *SMALL, "--plot", "r.png")
    with Image.open("r.png") as picture:
        assert picture.size == (1320, 840)
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert [path.name for path in Path().iterdir()] == ["r.png"]
    refused = spikerecon("info", small_file, *SMALL, "--plot", "r.png", status=1)
    assert "r.png: exists already" in refused.stderr
    spikerecon("info", small_file, *SMALL, "--plot", "r.png", "-y")
    refused = spikerecon("info", "-", *SMALL, "--plot", "s.png", input=small_file.read_bytes(), status=2)
    assert "a stream can be read once only" in refused.stderr
    for name, wanted, status in (("r.pdf", "is a .png file", 2), ("none/r.png", "this folder does not exist", 1)):
        assert wanted in spikerecon("info", small_file, *SMALL, "--plot", name, status=status).stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = spikerecon("info", small_file, *SMALL, "--plot", "t.png", status=1)
    assert refused.stderr == "error: a plot needs matplotlib: pip install 'spikerecon[plot]'\n"


def test_convert_follows(spikerecon: Command, small_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spikerecon.cli.convert.FOLLOW_SECONDS", 0.5)
    data = small_file.read_bytes()
    path = saved(Path("r.dat").absolute(), data[: 70 * 384])
    writer = threading.Timer(0.3, append, (path, data[70 * 384 :]))
    writer.start()
    words = ("--method", "tfp", "--gain", 1.5, "--step", 10, *SMALL)
    result = spikerecon("convert", path, "-o", "followed", "--follow", *words)
    assert "64x48, still growing (packed)" in result.stderr
    writer.join()
    spikerecon("convert", small_file, "-o", "whole", *words)
    assert contents(Path("followed")) == contents(Path("whole"))


# Growing files


def test_a_growing_file_is_followed(tmp_path: Path):
    rows = noise(64, 48, 300)
    data = rows[:, ::-1].tobytes()
    path = saved(tmp_path / "r.dat", data[:1000])

    def write() -> None:
        with open(path, "ab", buffering=0) as file:
            for first in range(1000, len(data), 10_000):
                file.write(data[first : first + 10_000])
                time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    with open_recording(path, size=(64, 48), follow=1.0) as recording:
        assert recording.planes is None
        for start in (0, 100, 50, 240):
            assert (recording.read(start, start + 60) == rows[start : start + 60]).all()
        assert (recording.read(250, 320) == rows[250:]).all()
        assert recording.planes == 300
    writer.join()


def test_a_growing_raw_capture_with_a_gap(tmp_path: Path, raw: bytes, rows: np.ndarray):
    lost = raw[: 45 * PLANE] + raw[45 * PLANE + ROW :]
    path = saved(tmp_path / "r.dat", lost)
    with pytest.warns(RecordingWarning, match="plane 45: row 0 is missing"):
        assert open_recording(path, follow=0.2).planes == 63  # it has ended
    path.write_bytes(lost[: 40 * PLANE + 100])
    writer = threading.Timer(0.3, append, (path, lost[40 * PLANE + 100 :]))
    writer.start()
    with pytest.warns(RecordingWarning, match="plane 45: row 0 is missing"):
        found = open_recording(path, size=(1000, 1000), follow=1.0).read(0, 100)
    assert (np.delete(found, 45, 0) == np.delete(rows, 45, 0)).all()
    writer.join()


def test_a_growing_spikelink_folder_waits_for_a_late_block(tmp_path: Path):
    """The four channels are written side by side: their blocks come, and end, in any order."""
    rows = noise(64, 48, 300)
    blocks = [rows[first : first + 60, ::-1].tobytes() for first in range(0, 300, 60)]
    folder = tmp_path / "capture"
    for channel in range(4):
        (folder / str(channel)).mkdir(parents=True)

    def put(number: int, part: slice = slice(None)) -> None:
        append(folder / str(number % 4) / f"{number}.dat", blocks[number][part])

    put(0, slice(70 * 48))  # it is still being written
    put(2)

    def write() -> None:
        for number in (4, 0, 3, 1):
            time.sleep(0.2)
            put(number, slice(70 * 48, None) if number == 0 else slice(None))

    writer = threading.Thread(target=write)
    writer.start()
    with open_recording(folder, layout="packed", size=(64, 48), follow=1.0) as recording:
        assert recording.planes is None
        assert (recording.read(0, 60) == rows[:60]).all()
        assert (recording.read(40, 300) == rows[40:]).all()
    writer.join()
    assert recording.notes == []


def test_a_growing_spikelink_folder_without_a_block(tmp_path: Path):
    rows = noise(64, 48, 240)
    for number in (0, 1, 3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / f"{number}.dat").write_bytes(rows[60 * number : 60 * number + 60, ::-1].tobytes())
    other = tmp_path / "0" / "4.dat"
    writer = threading.Timer(0.3, lambda: other.write_bytes(bytes(60 * 384)))
    writer.start()
    with open_recording(tmp_path, size=(64, 48), layout="packed", follow=0.6) as recording:
        assert (recording.read(0, 60) == rows[:60]).all()
        assert recording.planes is None
        with pytest.warns(RecordingWarning, match="missing block 2: its planes are left dark"):
            found = recording.read(60, 300)
    writer.join()
    assert len(recording.notes) == 1
    assert (found[:60] == rows[60:120]).all()
    assert not found[60:120].any()
    assert (found[120:180] == rows[180:]).all()


def test_npz_cannot_be_followed(tmp_path: Path):
    np.savez(tmp_path / "r.npz", a=np.zeros((60, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="cannot be followed"):
        open_recording(tmp_path / "r.npz", follow=1)


def test_rate_over_time(tmp_path: Path):
    planes = np.zeros((5000, 8, 12), np.uint8)
    planes[2500:] = 1
    write_recording(tmp_path / "r.dat", [pack(planes)], 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        when, rates = rate_over_time(open_recording(tmp_path / "r.dat", size=(12, 8)))
    assert len(when) == len(rates) == 200
    assert (rates[when < 2490] == 0).all()
    assert rates[when > 2510] == pytest.approx(1)


def test_streams_need_no_following():
    stream = io.BytesIO(noise(8, 8, 80).tobytes())
    with pytest.raises(UsageError, match="a stream waits by itself: leave out --follow"):
        open_recording(stream, size=(8, 8), follow=5)
    assert len(open_recording(stream, size=(8, 8)).read(0, 99)) == 80


@pytest.mark.parametrize("change", ["cut", "replaced", "removed"])
def test_a_followed_file_that_becomes_another(tmp_path: Path, change: str):
    """It would be one recording up to there, and another one from there on."""
    rows = noise(64, 48, 90)
    path = saved(tmp_path / "r.dat", rows[:, ::-1].tobytes())
    recording = open_recording(path, size=(64, 48), follow=0.3)
    assert (recording.read(0, 60) == rows[:60]).all()
    match change:
        case "cut":
            path.write_bytes(b"")
            with pytest.raises(RecordingError, match="became shorter while it was read"):
                recording.read(60, 120)
            return
        case "replaced":
            saved(tmp_path / "other", bytes(384 * 200)).rename(path)
        case "removed":
            path.unlink()
    with pytest.warns(RecordingWarning, match="was replaced or removed while it was read"):
        assert (recording.read(60, 120) == rows[60:]).all()


def test_a_followed_folder_whose_block_becomes_shorter(tmp_path: Path):
    blocks(tmp_path, [0, 1], noise(64, 48, 120), 60)
    recording = open_recording(tmp_path, layout="packed", size=(64, 48), follow=0.3)
    recording.read(0, 60)
    (tmp_path / "1" / "1.dat").write_bytes(b"")
    with pytest.raises(RecordingError, match="became shorter while it was read"):
        recording.read(60, 200)
