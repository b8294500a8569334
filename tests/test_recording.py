"""Layouts byte by byte, how layout and size are settled, streams, wrong files, and memory."""

import io
import json
import os
import subprocess
import sys
import threading
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from spikerecon.errors import OutputError, RecordingError, RecordingWarning, UsageError
from spikerecon.names import LAYOUT_NAMES
from spikerecon.recording import (
    Bytes,
    Recording,
    auto_gain,
    auto_merge,
    from_rows,
    open_recording,
    pack,
    parse_size,
    rate_summary,
    spike_counts,
    unpack,
    write_recording,
)
from spikerecon.recording.detect import Content
from spikerecon.recording.layouts import LAYOUTS

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_eval = pytest.mark.skipif(not (SHARED / "eval").is_dir(), reason="needs the evaluation sequences")
needs_real = pytest.mark.skipif(not (SHARED / "real").is_dir(), reason="needs the real capture")


def rate_map(recording: Recording, *planes: int, **options: int) -> np.ndarray:
    counts, counted = spike_counts(recording, *planes, **options)
    return (counts / counted).astype(np.float32)


@pytest.fixture(autouse=True)
def no_warning_unless_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        yield


def scene(width, height, planes=60, seed=0):
    """0/1 planes (planes, height, width) of a still picture: discs on a slope, integrated until they fire."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    light = 0.05 + 0.2 * x / width
    for row, column, radius in rng.random((25, 3)) * (height, width, min(width, height) / 6):
        light[(y - row) ** 2 + (x - column) ** 2 < radius**2] = rng.uniform(0.05, 0.5)
    charge = rng.random((height, width))
    planes_out = np.empty((planes, height, width), np.uint8)
    for plane in planes_out:
        charge += light
        plane[:] = charge >= 1
        charge -= plane
    return planes_out


def packed(planes):
    """The bytes of a packed file, spelled out without the package: bottom row first, lowest bit first."""
    bits = planes[:, ::-1].reshape(len(planes), -1, 8)
    return (bits << np.arange(8)).sum(-1).astype(np.uint8).tobytes()


def with_headers(planes, header):
    """A row-header file; `header` are uint8 (planes, height, 2) or what broadcasts to it."""
    rows = np.frombuffer(packed(planes), np.uint8).reshape(len(planes), 250, 50)
    headers = np.broadcast_to(np.asarray(header, np.uint8), (len(planes), 250, 2))
    return np.concatenate([rows, headers], 2).tobytes()


def noise(planes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, planes * 12500, np.uint8)


def saved(folder, data, name="r.dat"):
    path = folder / name
    path.write_bytes(bytes(data))
    return path


def test_packed_byte_by_byte(tmp_path):
    # 16x2: first the two bytes of the bottom row, then those of the top row; bit 0 is the leftmost pixel.
    plane = bytes([0b00000001, 0b10000000, 0b00000010, 0b00000000])
    path = saved(tmp_path, plane * 60)
    with open_recording(path, size=(16, 2)) as recording:
        assert (recording.planes, recording.width, recording.height) == (60, 16, 2)
        assert (recording.layout, recording.flip) == ("packed", True)
        rows = recording.read(0, 1)
        assert rows.tolist() == [[[0b00000010, 0], [1, 0b10000000]]]
        top, bottom = unpack(rows, 16)[0]
    assert np.flatnonzero(top).tolist() == [1]
    assert np.flatnonzero(bottom).tolist() == [0, 15]
    with open_recording(path, size=(16, 2), flip=False) as recording:
        assert recording.read(0, 1).tolist() == [[[1, 0b10000000], [0b00000010, 0]]]


def test_packed_rows_that_fill_no_bytes(tmp_path):
    # 4x4 is 16 bits: two rows in each byte, the lower four bits first.
    path = saved(tmp_path, bytes([0b0010_0001, 0b1111_1000]) * 60)
    with open_recording(path, size=(4, 4)) as recording:
        rows = recording.read(59, 60)
    assert rows.shape == (1, 4, 1)
    assert rows[0, :, 0].tolist() == [0b1111, 0b1000, 0b0010, 0b0001]


def test_row_headers_byte_by_byte(tmp_path):
    # In each of 250 rows 50 bytes of pixels, then two bytes that are none.
    row = [0b00000001] + [0] * 48 + [0b10000000]
    plane = row + [0xAA, 0x55] + ([0] * 50 + [0xFF, 0x00]) * 248 + [0b00000110] + [0] * 49 + [0xFF, 0xFF]
    assert len(plane) == 13000
    with open_recording(saved(tmp_path, plane * 60), layout="row-headers") as recording:
        assert recording.planes == 60
        pixels = unpack(recording.read(30, 31), recording.width)[0]
    assert pixels.shape == (250, 400)
    assert np.argwhere(pixels).tolist() == [[0, 1], [0, 2], [249, 0], [249, 399]]


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_npz_is_not_flipped(tmp_path, dtype):
    planes = np.zeros((60, 3, 10), dtype)
    planes[:, 0, 9] = 1
    np.savez(tmp_path / "r.npz", spk=planes, label=3, names=np.array(["a", "b"]))
    with open_recording(tmp_path / "r.npz") as recording:
        assert (recording.layout, recording.flip, recording.width, recording.height) == ("npz", False, 10, 3)
        assert recording.read(0, 1).tolist() == [[[0, 0b10], [0, 0], [0, 0]]]
        assert (unpack(recording.read(0, 99), 10) == planes).all()
    with open_recording(tmp_path / "r.npz", flip=True) as recording:
        assert recording.read(0, 1)[0, 2].tolist() == [0, 0b10]


def test_pack_and_unpack_are_inverse():
    planes = np.random.default_rng(1).integers(0, 2, (3, 5, 11), np.uint8)
    assert pack(planes).shape == (3, 5, 2)
    assert (unpack(pack(planes), 11) == planes).all()


def test_reads_end_where_the_recording_ends(tmp_path):
    planes = scene(40, 24, 64)
    with open_recording(saved(tmp_path, packed(planes)), size=(40, 24)) as recording:
        assert (unpack(recording.read(50, 70), 40) == planes[50:]).all()
        assert recording.read(64, 70).shape == recording.read(900, 901).shape == (0, 24, 5)
        assert recording.read(3, 3).shape == (0, 24, 5)
        for start, stop in ((-1, 5), (5, 4)):
            with pytest.raises(UsageError, match=f"planes {start} to {stop} are no range"):
                recording.read(start, stop)


# Layout and size from the bytes


@pytest.mark.parametrize("planes", [60, 78, 630])  # 630 planes are 63 of 1000x1000 too
def test_auto_400x250(tmp_path, planes):
    path = saved(tmp_path, (packed(scene(400, 250, 63)) * 10)[: planes * 12500])
    with open_recording(path) as recording:
        assert (recording.layout, recording.width, recording.height) == ("packed", 400, 250)
        assert recording.planes == planes
        assert "400x250 packed" in recording.why


def test_auto_1000x1000(tmp_path):
    planes = scene(1000, 1000, 60)
    with open_recording(saved(tmp_path, packed(planes))) as recording:
        assert (recording.width, recording.height, recording.planes) == (1000, 1000, 60)
        assert (unpack(recording.read(7, 8), 1000)[0] == planes[7]).all()


COUNTER = np.arange(250, dtype="<u2").view(np.uint8).reshape(250, 2)


@pytest.mark.parametrize("header", [0, 255, COUNTER], ids=["zeros", "ones", "row counter"])
def test_auto_row_headers_where_both_divide(tmp_path, header):
    path = saved(tmp_path, with_headers(scene(400, 250, 75), header))
    assert path.stat().st_size == 3 * 325000  # 78 planes packed
    with open_recording(path) as recording:
        assert (recording.layout, recording.planes) == ("row-headers", 75)


def test_auto_looks_at_the_header_columns_of_a_picture_without_structure(tmp_path):
    planes = np.unpackbits(noise(75)).reshape(75, 250, 400)
    with open_recording(saved(tmp_path, with_headers(planes, COUNTER))) as recording:
        assert (recording.layout, recording.planes) == ("row-headers", 75)


def test_auto_refuses_to_guess(tmp_path):
    path = saved(tmp_path, noise(78))
    both = r"could be 400x250 packed \(12500.*\) or 400x250 row-headers \(13000.*does not tell: give --size"
    with pytest.raises(RecordingError, match=both):
        open_recording(path)
    with pytest.raises(RecordingError, match="does not tell: give --layout"):
        open_recording(path, size=(400, 250))
    assert open_recording(path, layout="packed", size=(400, 250)).planes == 78
    assert open_recording(path, layout="row-headers").planes == 75
    with pytest.raises(RecordingError, match="or 1000x1000 packed"):
        open_recording(saved(tmp_path, noise(600)))


def test_325000_bytes_are_either_and_too_few(tmp_path):
    with pytest.raises(RecordingError, match="holds 26 whole planes of 400x250 packed; at least 60"):
        open_recording(saved(tmp_path, packed(scene(400, 250, 26))))
    with pytest.raises(RecordingError, match="holds 25 whole planes of 400x250 row-headers; at least 60"):
        open_recording(saved(tmp_path, with_headers(scene(400, 250, 25), 0)))
    with pytest.raises(RecordingError, match=r"400x250 packed .* or 400x250 row-headers .*does not tell"):
        open_recording(saved(tmp_path, noise(26)))


def test_auto_doubts_a_size_that_only_the_byte_count_suggests(tmp_path):
    path = saved(tmp_path, noise(61))
    with pytest.warns(RecordingWarning, match="rows do not look like a picture; if it is another size"):
        assert open_recording(path).planes == 61
    path = saved(tmp_path, packed(scene(640, 360, 125)))  # 288 planes of 400x250
    with pytest.raises(RecordingError, match=r"but its content looks like .*: give --size"):
        open_recording(path)
    assert open_recording(path, size=(640, 360)).planes == 125


def test_auto_refuses_what_looks_like_another_layout(tmp_path):
    cut = packed(scene(400, 250, 130))[: 120 * 13_000]  # cut off, and as long as 120 planes with row headers
    wanted = "whole planes of 400x250 row-headers .*, but its content looks like 400x250 packed .*: give "
    with pytest.raises(RecordingError, match=wanted + "--size WIDTHxHEIGHT or --layout"):
        open_recording(saved(tmp_path, cut))
    with pytest.raises(RecordingError, match=wanted + "--layout"):
        open_recording(saved(tmp_path, cut), size=(400, 250))
    with pytest.warns(RecordingWarning, match="the last plane is cut off"):
        assert open_recording(saved(tmp_path, cut), layout="packed").planes == 124
    both = saved(tmp_path, packed(scene(400, 250, 130)))
    with pytest.warns(RecordingWarning, match="its content looks like 400x250 packed .*; as 400x250 row-headers"):
        assert open_recording(both, layout="row-headers").planes == 125


def test_too_few_planes_may_be_of_another_size(tmp_path):
    with pytest.raises(RecordingError, match=r"holds 5 whole planes .*; if it is of another size, give --size"):
        open_recording(saved(tmp_path, packed(scene(100, 50, 100))))


# Cut-off files and wrong sizes


@pytest.mark.parametrize("options", [{}, {"size": (400, 250)}, {"layout": "packed"}], ids=str)
def test_a_cut_off_plane_is_left_out(tmp_path, options):
    path = saved(tmp_path, packed(scene(400, 250, 80))[:-37])
    with pytest.warns(RecordingWarning, match=r"r\.dat: the last plane is cut off: its 12463 bytes") as caught:
        recording = open_recording(path, **options)
    assert (recording.planes, recording.leftover_bytes, recording.layout) == (79, 12463, "packed")
    assert recording.notes == [str(caught[0].message)]


def test_a_cut_off_plane_of_any_size_and_of_row_headers(tmp_path):
    with pytest.warns(RecordingWarning, match="its 28790 bytes"):
        recording = open_recording(saved(tmp_path, packed(scene(640, 360, 70))[:-10]), size=(640, 360))
    assert recording.planes == 69
    with pytest.warns(RecordingWarning, match="its 12999 bytes"):
        recording = open_recording(saved(tmp_path, with_headers(scene(400, 250, 70), 0)[:-1]))
    assert (recording.planes, recording.layout) == (69, "row-headers")


def test_a_cut_off_plane_without_structure_is_believed_at_the_size_of_a_camera(tmp_path):
    path = saved(tmp_path, noise(70)[:-1])
    with pytest.warns(RecordingWarning, match="its 12499 bytes"):
        assert open_recording(path, size=(400, 250)).planes == 69
    with pytest.raises(RecordingError, match=r"no whole number of planes of 400x250 packed .* give --size"):
        open_recording(path)


@pytest.mark.parametrize("size", [(400, 248), (392, 250), (300, 200), (1000, 1000)])
def test_a_size_that_does_not_divide(tmp_path, size):
    path = saved(tmp_path, packed(scene(400, 250, 101)))
    wanted = rf"1262500 bytes are no whole number of planes of {size[0]}x{size[1]} packed .*400x250 packed"
    with pytest.raises(RecordingError, match=wanted):
        open_recording(path, size=size)
    path = saved(tmp_path, noise(101))
    with pytest.raises(RecordingError, match=r"nor does its content look like it; .*give --layout packed as well"):
        open_recording(path, size=(300, 200))
    with pytest.warns(RecordingWarning) as caught:
        assert open_recording(path, size=(300, 200), layout="packed").planes == 168
    told = [str(warning.message) for warning in caught if warning.category is RecordingWarning]
    assert ["cut off" in each for each in told] == [True, False]
    assert "nor does its content look like it" in told[1]


# Wrong input


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"x" * 1000), "no whole number of planes"),
        (lambda path: path.write_bytes(packed(scene(400, 250, 59))), "59 whole planes .* at least 60"),
    ],
)
def test_wrong_files(tmp_path, make, wanted):
    make(tmp_path / "r.dat")
    with pytest.raises(RecordingError, match=wanted) as caught:
        open_recording(tmp_path / "r.dat")
    assert str(caught.value).startswith(str(tmp_path / "r.dat"))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"a": np.zeros((60, 4, 8)), "b": np.zeros((60, 4, 8))}, r"exactly one array .* holds 2 \(a, b\)"),
        ({"a": np.zeros(60)}, "holds none"),
        ({"a": np.full((60, 4, 8), 2)}, "'a' .* values other than 0 and 1"),
        ({"a": np.full((60, 4, 8), -1)}, "values other than 0 and 1"),
        ({"a": np.zeros((60, 4, 8), np.float32)}, "is float32: planes are of integers"),
        ({"a": np.ones((59, 4, 8), bool)}, "59 whole planes .* at least 60"),
        ({"a": np.ones((60, 0, 8), bool)}, "60 planes of 8x0"),
        ({"a": np.array([[[None]]])}, "not a sound .npz"),
    ],
)
def test_wrong_npz(tmp_path, arrays, wanted):
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(RecordingError, match=wanted) as caught:
        open_recording(tmp_path / "r.npz")
    assert "\n" not in str(caught.value)


def test_a_zip_of_other_things_is_no_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "r.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(RecordingError, match=r"needs exactly one array of \(planes, height, width\), holds none"):
        open_recording(tmp_path / "r.npz")


@pytest.mark.parametrize("damage", [lambda data: data[:-50], lambda data: b"PK" + b"\n" * 9, lambda data: b"\x93"])
def test_a_damaged_npz(tmp_path, damage):
    np.savez_compressed(tmp_path / "r.npz", a=scene(40, 30))
    path = saved(tmp_path, damage((tmp_path / "r.npz").read_bytes()), "r.npz")
    with pytest.raises(RecordingError, match=r"not a sound \.npz") as caught:
        open_recording(path)
    assert "\n" not in str(caught.value)


def test_options_that_make_no_sense(tmp_path):
    path = saved(tmp_path, packed(scene(400, 250, 60)))
    with pytest.raises(UsageError, match="unknown layout 'avi': take one of auto, packed, row-headers, raw1000, npz"):
        open_recording(path, layout="avi")
    with pytest.raises(UsageError, match="5x5 does not fill whole bytes"):
        open_recording(path, size=(5, 5))
    with pytest.raises(UsageError, match="row headers are known at 400x250 only"):
        open_recording(path, layout="row-headers", size=(80, 40))
    np.savez(tmp_path / "r.npz", a=scene(40, 30))
    with pytest.raises(RecordingError, match="60 planes of 40x30, not 30x40"):
        open_recording(tmp_path / "r.npz", size=(30, 40))


def test_constant_planes_get_a_warning(tmp_path):
    planes = scene(400, 250, 101)
    planes[95:98], planes[2] = 0, 1
    with pytest.warns(RecordingWarning) as caught:
        recording = open_recording(saved(tmp_path, packed(planes)))
    assert [str(one.message).split("r.dat: ")[1] for one in caught] == [
        "constant planes: 3 of 60 looked at are without a single spike, the first is 95",
        "constant planes: 1 of 60 looked at are with a spike in every pixel, the first is 2",
    ]
    assert len(recording.notes) == 2
    with pytest.warns(RecordingWarning, match="60 of 60 looked at are without a single spike"):
        open_recording(saved(tmp_path, bytes(12500 * 60)), size=(400, 250))


@pytest.mark.parametrize(("text", "size"), [("400x250", (400, 250)), (" 8X3 ", (8, 3))])
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "400", "400x", "x250", "0x8", "-4x2", "4x2x1", "4.0x2", "٤x٢"])
def test_parse_size_refuses(text):
    with pytest.raises(UsageError, match="not WIDTHxHEIGHT"):
        parse_size(text)


# Streams


def test_a_stream_is_read_forwards(monkeypatch):
    planes = scene(40, 24, 700)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed(planes))))
    with open_recording("-", size=(40, 24)) as recording:
        assert (recording.name, recording.planes, recording.flip) == ("standard input", None, True)
        for start, stop in ((0, 60), (20, 80), (20, 30), (100, 160), (600, 650), (680, 740)):
            assert (unpack(recording.read(start, stop), 40) == planes[start:stop]).all()
        assert recording.planes == 700
        assert recording.read(900, 960).shape == (0, 24, 5)
        with pytest.raises(RecordingError, match="standard input: plane 0 has gone by"):
            recording.read(0, 1)


def test_a_stream_that_ends_while_planes_are_passed_over():
    recording = open_recording(io.BytesIO(packed(scene(40, 24, 70))), size=(40, 24))
    assert len(recording.read(1000, 1060)) == 0
    assert recording.planes == 70


def test_a_stream_is_read_to_its_end_however_far_that_is_thought():
    planes = scene(40, 24, 300)
    recording = open_recording(io.BytesIO(packed(planes)), size=(40, 24))
    assert (unpack(recording.read(10, 2**62), 40) == planes[10:]).all()


def test_what_is_read_is_the_reader_s_to_change():
    planes = scene(40, 24, 100)
    stream = open_recording(io.BytesIO(packed(planes)), size=(40, 24), flip=False)
    for recording in (stream, from_rows(pack(planes), 40)):
        before = recording.read(0, 60).copy()
        recording.read(0, 60)[:] = 0
        assert (recording.read(0, 60) == before).all()


def test_a_stream_that_ends_within_a_plane():
    recording = open_recording(io.BytesIO(packed(scene(40, 24, 70))[:-7]), size=(40, 24))
    with pytest.warns(RecordingWarning, match="the last plane is cut off: its 113 bytes are left out"):
        assert len(recording.read(0, 100)) == 69
    assert (recording.planes, recording.leftover_bytes, len(recording.notes)) == (69, 113, 1)


def test_planes_larger_than_the_file_are_not_looked_at(tmp_path, monkeypatch):
    """They may not go into the memory."""
    (tmp_path / "small.dat").write_bytes(bytes(60 * 12500))  # as long as whole planes of 400x250
    plain = Content.rates

    def rates(content, geometry):
        assert geometry.plane_bytes <= content.total_bytes
        return plain(content, geometry)

    monkeypatch.setattr(Content, "rates", rates)
    with pytest.raises(RecordingError, match="holds 0 whole planes of 40000x40000"):
        open_recording(tmp_path / "small.dat", size=(40000, 40000))


def test_streams_need_a_size_and_planes():
    with pytest.raises(UsageError, match="does not tell its size"):
        open_recording(io.BytesIO())
    with pytest.raises(UsageError, match="only be packed planes, not npz"):
        open_recording(io.BytesIO(), size=(40, 24), layout="npz")
    with pytest.raises(RecordingError, match="holds 0 whole planes of 40x24 packed"):
        open_recording(io.BytesIO(), size=(40, 24)).read(0, 60)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_a_stream(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    source = saved(tmp_path, packed(scene(40, 24, 70)))
    with subprocess.Popen(["sh", "-c", f"cat '{source}' > '{tmp_path / 'pipe'}'"]) as writer:
        with open_recording(tmp_path / "pipe", size=(40, 24)) as recording:
            assert len(recording.read(0, 99)) == 70
        assert writer.wait() == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_without_a_size_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening would wait for somebody who writes
    with pytest.raises(UsageError, match="does not tell its size"):
        open_recording(tmp_path / "pipe")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be waited for")
def test_a_stream_that_does_not_wait_is_waited_for():
    planes = scene(40, 24, 70)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with subprocess.Popen([sys.executable, "-c", SLOWLY], stdin=subprocess.PIPE, stdout=writing) as writer:
        os.close(writing)
        writer.stdin.write(packed(planes))
        writer.stdin.close()
        with open(reading, "rb", buffering=0) as stream:
            recording = open_recording(stream, size=(40, 24))
            assert np.array_equal(unpack(recording.read(0, 99), 40), planes)


SLOWLY = """
import sys, time
while piece := sys.stdin.buffer.read(3000):
    time.sleep(0.1)
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
"""


def test_what_is_closed_is_not_read(tmp_path):
    folder = tmp_path / "blocks"
    write_recording(folder, [pack(scene(40, 24, 70))], 40, layout="spikelink")
    np.savez(tmp_path / "r.npz", scene(40, 24, 70))
    stream = io.BytesIO(packed(scene(40, 24, 70)))
    for source in (saved(tmp_path, packed(scene(40, 24, 70))), folder, tmp_path / "r.npz", stream):
        with open_recording(source, size=(40, 24)) as recording:
            assert len(recording.read(0, 9)) == 9
        with pytest.raises(RecordingError, match="is closed"):
            recording.read(0, 9)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
def test_a_forked_process_has_its_own_place_in_a_file(tmp_path):
    with open_recording(saved(tmp_path, noise(70)), size=(400, 250)) as recording:
        recording.read(0, 5)
        place = recording._source.store._file.tell()
        child = os.fork()
        if not child:
            recording.read(60, 70)
            os._exit(0)
        os.waitpid(child, 0)
        assert recording._source.store._file.tell() == place


@pytest.mark.parametrize(
    ("change", "width"),
    [
        (lambda rows: rows, 200),
        (lambda rows: rows, 0),
        (lambda rows: rows, 63.5),
        (np.int64, 64),
        (lambda rows: rows[0], 64),
        (unpack, 64),
    ],
)
def test_rows_in_memory_are_packed_and_of_their_width(change, width):
    rows = pack(scene(64, 24, 60))
    assert from_rows(rows, 64).width == from_rows(rows, np.uint8(64)).width == 64
    changed = unpack(rows, 64) if change is unpack else change(rows)
    with pytest.raises(UsageError, match="no packed rows of"):
        from_rows(changed, width)


# Rates, writing, memory


def test_rates(tmp_path):
    planes = np.zeros((2000, 8, 8), np.uint8)
    planes[::4] = 1
    planes[:, 0, 0], planes[:, 0, 1] = 0, 1
    np.savez(tmp_path / "r.npz", a=planes)
    rates = rate_map(open_recording(tmp_path / "r.npz"))
    assert (rates.shape, rates.dtype) == ((8, 8), np.float32)
    assert (rates[1:] == 0.25).all()
    summary = rate_summary(rates)
    assert (summary.never, summary.always, summary.p50) == (1, 1, 0.25)
    assert summary.mean == pytest.approx(16.5 / 64)
    stream = open_recording(io.BytesIO(packed(planes)), size=(8, 8))
    assert (rate_map(stream) == rates).all()


def test_write_recording(tmp_path):
    planes = scene(20, 14, 70)  # rows of 2.5 bytes
    assert write_recording(tmp_path / "r.dat", iter([pack(planes[:33]), pack(planes[33:])]), 20) == 70
    assert (tmp_path / "r.dat").read_bytes() == packed(planes)
    with open_recording(tmp_path / "r.dat", size=(20, 14)) as recording:
        assert (unpack(recording.read(0, 70), 20) == planes).all()
    with pytest.raises(OutputError, match=r"r\.dat: exists already"):
        write_recording(tmp_path / "r.dat", [pack(planes)], 20)
    write_recording(tmp_path / "r.dat", [pack(planes[:1])], 20, overwrite=True)
    assert (tmp_path / "r.dat").stat().st_size == 35
    write_recording(tmp_path / "wide.dat", [pack(scene(40, 24))], 40)
    assert (tmp_path / "wide.dat").read_bytes() == packed(scene(40, 24))


def test_a_failed_write_leaves_nothing(tmp_path):
    def failing():
        yield np.zeros((1, 8, 1), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recording(tmp_path / "r.dat", failing(), 8)
    with pytest.raises(UsageError, match="3x3 does not fill whole bytes"):
        write_recording(tmp_path / "r.dat", [np.zeros((1, 3, 1), np.uint8)], 3)
    with pytest.raises(UsageError, match="4 rows of 1 bytes are no plane of 8x8"):
        write_recording(tmp_path / "r.dat", [np.zeros((1, 8, 1), np.uint8), np.zeros((1, 4, 1), np.uint8)], 8)
    with pytest.raises(OutputError, match="no planes to write"):
        write_recording(tmp_path / "r.dat", [], 8)
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        write_recording(tmp_path / "none" / "r.dat", [np.zeros((1, 8, 1), np.uint8)], 8)
    with pytest.raises(OutputError, match="is a folder"):
        write_recording(tmp_path, [], 8, overwrite=True)
    assert list(tmp_path.iterdir()) == []


READ_THROUGH = """
import json, resource, sys, warnings
from spikerecon.recording import open_recording
warnings.simplefilter("ignore")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform == "darwin" else 1024)
with open_recording(sys.argv[1], size=(400, 250)) as recording:
    recording.read(0, 200)
    before = peak()
    spikes = sum(int(recording.read(n, n + 200).any()) for n in range(0, recording.planes, 200))
print(json.dumps([recording.planes, before, peak()]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files and getrusage")
def test_memory_does_not_grow_with_the_length(tmp_path):
    with open(tmp_path / "long.dat", "wb") as file:
        file.truncate(50_000 * 12500)
    command = [sys.executable, "-c", READ_THROUGH, str(tmp_path / "long.dat")]
    planes, before, after = json.loads(subprocess.check_output(command, text=True))
    assert planes == 50_000
    assert after - before < 10  # MiB, of 596


def test_a_huge_file_opens_by_its_size(tmp_path):
    with open(tmp_path / "huge.dat", "wb") as file:
        file.truncate(8_000_000 * 12500)  # 100 GB, none of it on the disk
    with pytest.warns(RecordingWarning, match="constant planes"):
        recording = open_recording(tmp_path / "huge.dat", layout="packed", size=(400, 250))
    assert recording.planes == 8_000_000
    assert recording.read(7_999_999, 8_000_001).shape == (1, 250, 50)


def test_threads_read_one_after_the_other(tmp_path, monkeypatch):
    file = saved(tmp_path, noise(70))
    with open_recording(file, size=(400, 250)) as recording:
        expected = recording.read(0, 70)
        plain, busy = recording._source.read, threading.Lock()

        def read(start, stop):
            assert busy.acquire(blocking=False)
            try:
                return plain(start, stop)
            finally:
                busy.release()

        monkeypatch.setattr(recording._source, "read", read)
        with ThreadPoolExecutor(8) as pool:
            for start, rows in pool.map(lambda i: (i % 60, recording.read(i % 60, i % 60 + 10)), range(200)):
                assert np.array_equal(rows, expected[start : start + 10])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32])
def test_numbers_of_numpy_are_plane_numbers(tmp_path, kind):
    """A plane's place is counted in bytes, which small ones cannot hold."""
    planes = noise(110)
    path = saved(tmp_path, planes)
    with open_recording(path, size=(np.int16(400), np.uint8(250)), layout="packed") as recording:
        assert (recording.read(kind(100), kind(110)) == recording.read(100, 110)).all()
        for start, stop in ((1.0, 2.0), ("1", "2"), (None, 3)):
            with pytest.raises(UsageError, match="are not counted in whole numbers"):
                recording.read(start, stop)
    assert open_recording(path, size=[400, 250], layout="packed").width == 400  # as JSON has it
    for size in ("400x250", (400,), (400.0, 250.0)):
        with pytest.raises(UsageError, match=r"is not .width, height. in pixels"):
            open_recording(path, size=size)


def test_a_file_that_shrinks(tmp_path):
    path = saved(tmp_path, packed(scene(400, 250, 60)))
    recording = open_recording(path)
    os.truncate(path, 1000)
    with pytest.raises(RecordingError, match="became shorter while it was read"):
        recording.read(0, 60)


def test_what_is_imported():
    code = "import sys, spikerecon.recording, spikerecon.windows; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_layouts_have_the_names_agreed_on():
    assert LAYOUT_NAMES == ("auto", "packed", "row-headers", "raw1000", "npz", "spikelink")
    assert LAYOUT_NAMES[1:] == (*LAYOUTS, "raw1000", "npz", "spikelink")


# Recordings that this package did not write


@needs_eval
@pytest.mark.parametrize("name", ["fan", "slow_pan", "low_light", "very_fast"])
def test_evaluation_sequences_are_upright(name):
    from PIL import Image

    truth = np.asarray(Image.open(SHARED / "eval" / f"{name}_050.png"), float).ravel()
    with open_recording(SHARED / "eval" / f"{name}.dat") as recording:
        assert (recording.planes, recording.width, recording.height) == (101, 400, 250)
        rates = unpack(recording.read(40, 60), 400).mean(0)
    upright = np.corrcoef(rates.ravel(), truth)[0, 1]
    assert upright > 0.6
    assert upright > np.corrcoef(rates[::-1].ravel(), truth)[0, 1] + 0.3


@needs_eval
def test_evaluation_sequences_with_row_headers(tmp_path):
    for path in sorted((SHARED / "eval").glob("*.dat")):
        rows = np.fromfile(path, np.uint8).reshape(101, 250, 50)[:75]
        data = np.concatenate([rows, np.zeros((75, 250, 2), np.uint8)], 2)
        assert open_recording(saved(tmp_path, data.tobytes())).layout == "row-headers"
        packed_planes = np.concatenate([rows, rows[:3]])  # the same number of bytes
        assert open_recording(saved(tmp_path, packed_planes.tobytes())).layout == "packed"


@needs_real
def test_real_capture():
    with open_recording(SHARED / "real" / "uhsr_sample.npz") as recording:
        assert (recording.planes, recording.width, recording.height) == (200, 250, 250)
        assert not recording.notes
        summary = rate_summary(rate_map(recording))
    assert summary.mean == pytest.approx(0.03, abs=0.005)
    assert summary.never > 0


def flat(rate: float, planes: int) -> Bytes:
    """Packed rows of 16x8 pixels that all fire at one rate, with phases of their own."""
    phase = np.random.default_rng(2).random((8, 16))
    charge = np.floor(phase + rate * np.arange(planes + 1)[:, None, None])
    return pack(np.diff(charge, axis=0).astype(np.uint8))


@pytest.mark.parametrize(
    ("rate", "planes", "merged"),
    [(0.5, 600, 1), (0.04, 600, 1), (0.025, 600, 2), (0.01, 900, 4), (0.01, 200, 3), (0.01, 60, 1)],
)
def test_dark_recordings_are_merged_as_far_as_they_go(rate: float, planes: int, merged: int):
    assert auto_merge(from_rows(flat(rate, planes), 16)) == pytest.approx(merged, abs=merged // 5)


def test_rates_of_a_part():
    rows = np.concatenate([flat(0.1, 100), flat(0.5, 100)])
    recording = from_rows(rows, 16)
    assert rate_map(recording, end=100).mean() == pytest.approx(0.1, abs=0.01)
    assert rate_map(recording, 100).mean() == pytest.approx(0.5, abs=0.01)
    for start, end, words in (
        (100, 100, "planes 100 to 100 are no range"),
        (0, 201, "end 201 is out of range: this recording has 200 planes"),
        (300, None, "start 300 is out of range: this recording has 200 planes"),
    ):
        with pytest.raises(UsageError, match=words):
            rate_map(recording, start, end)


def test_bright_pixels_bound_the_merging():
    rows = flat(0.01, 600)
    assert auto_merge(from_rows(rows, 16)) > 2
    rows[:, 0] = flat(0.45, 600)[:, 0]
    assert auto_merge(from_rows(rows, 16)) == 2


def test_gain_of_too_short_a_part_is_refused():
    for end, words in ((130, "fewer than one window of 60"), (50, "no range")):
        with pytest.raises(UsageError, match=f"planes 100 to {end} are {words}"):
            auto_gain(from_rows(flat(0.2, 300), 16), 100, end)


def test_gain_makes_the_brightest_white_but_not_for_stuck_pixels():
    rows = flat(0.25, 600)
    assert auto_gain(from_rows(rows, 16)) == pytest.approx(4, rel=0.1)
    rows[:, 3, 0] |= 1
    assert auto_gain(from_rows(rows, 16)) == pytest.approx(4, rel=0.1)
    assert auto_gain(from_rows(np.zeros_like(rows), 16)) == 1
