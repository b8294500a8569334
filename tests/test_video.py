"""Videos and sequences of pictures: what is written comes back, and what fails leaves nothing behind."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import colourful, ffmpeg_children, moving_ramp, png_bit_depth
from PIL import Image

from spikerecon import video
from spikerecon.engine import Frame
from spikerecon.errors import OutputError, RecordingError, RecordingWarning, UsageError
from spikerecon.pictures import check_png, write_png
from spikerecon.video import check_output, open_writer, read_video

pytestmark = pytest.mark.usefixtures("nothing_left_over")
SMALL = (64, 48)


def save(
    path: Path | str, pictures: Iterable[np.ndarray], size: tuple[int, int] | None = None, **options: Any
) -> video.Writer:
    if size is None:
        height, width, *channels = next(iter(pictures)).shape
        size, options = (width, height), {"colour": bool(channels), **options}
    with open_writer(path, size=size, **options) as writer:
        for picture in pictures:
            writer.write(picture)
    return writer


def header(path: Path) -> dict:
    """What imageio-ffmpeg, an independent reader, finds in the file's header."""
    reader = imageio_ffmpeg.read_frames(path)
    try:
        return next(reader)
    finally:
        reader.close()


def what_ffmpeg_says(path: Path, *options: str) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *options, "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr


# --- what is written comes back ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(400, 250), (401, 251), (17, 16)])
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "h264-lossless"),
        ("a.mov", "h264-lossless"),
        ("a.mkv", "h264-lossless"),
        ("a.mkv", "ffv1"),
        ("a.gif", "h264"),
    ],
)
def test_lossless_comes_back_exactly(tmp_path: Path, name: str, codec: str, size: tuple[int, int]) -> None:
    pictures = moving_ramp(size, 5)
    save(tmp_path / name, pictures, codec=codec, fps=50)
    np.testing.assert_array_equal(list(read_video(tmp_path / name)), pictures)


def soft_colours(size: tuple[int, int], count: int) -> list[np.ndarray]:
    """Colours of all kinds in wide waves, as H.264 is made for."""
    y, x = np.mgrid[: size[1], : size[0]] / 40
    waves = [[np.sin(x + 0.1 * i), np.sin(y - 0.2 * i), np.cos(x + y + 0.1 * i)] for i in range(count)]
    return [np.stack([np.rint(127.5 * (1 + wave)) for wave in three], axis=-1).astype(np.uint8) for three in waves]


def colours_in(path: Path, bit_depth: int = 8) -> np.ndarray:
    """All pictures as another reader finds them: (pictures, height, width, 3)."""
    kind, bits = ("rgb24", 24) if bit_depth == 8 else ("rgb48le", 48)
    reader = imageio_ffmpeg.read_frames(path, pix_fmt=kind, bits_per_pixel=bits)
    width, height = next(reader)["size"]
    found = [np.frombuffer(data, np.uint8 if bit_depth == 8 else "<u2") for data in reader]
    return np.reshape(found, (-1, height, width, 3))


@pytest.mark.parametrize("size", [(400, 250), (401, 251), (17, 16)])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "h264-lossless"), ("a.mov", "h264-lossless"), ("a.mkv", "h264-lossless"), ("a.mkv", "ffv1")],
)
def test_lossless_colour_comes_back_exactly(tmp_path: Path, name: str, codec: str, size: tuple[int, int]) -> None:
    pictures = colourful(size, 3)
    save(tmp_path / name, pictures, codec=codec, fps=50)
    np.testing.assert_array_equal(list(read_video(tmp_path / name, colour=True)), pictures)
    np.testing.assert_array_equal(colours_in(tmp_path / name), pictures)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("size", [(200, 150), (201, 151)])
def test_h264_keeps_colours_and_size(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    pictures = soft_colours(size, 2)
    path = tmp_path / f"a{suffix}"
    save(path, pictures)
    for back in (np.array(list(read_video(path, colour=True))), colours_in(path)):
        assert back.shape == (2, size[1], size[0], 3)
        assert np.abs(back.astype(float) - pictures).mean() < 2
    said = what_ffmpeg_says(path)
    assert "(pc, bt709" in said  # untagged, players would guess the matrix from the size
    assert ("4:4:4" in said) == (size[0] % 2 == 1)


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)])
def test_h264_keeps_flat_colours(tmp_path: Path, size: tuple[int, int], colour: tuple[int, ...]) -> None:
    save(tmp_path / "a.mp4", [np.full((size[1], size[0], 3), colour, np.uint8)] * 2, crf=1)
    back = next(iter(read_video(tmp_path / "a.mp4", colour=True))).astype(int)
    assert np.abs(back - colour).max() <= 2
    if len(set(colour)) == 1:
        assert np.ptp(back, axis=-1).max() == 0  # grey stays grey


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_a_gif_in_colour(tmp_path: Path, size: tuple[int, int]) -> None:
    few = [np.kron(np.random.default_rng(i).integers(0, 256, (8, 8, 3)), np.ones((7, 9, 1), int)) for i in range(4)]
    pictures = [picture[: size[1], : size[0]].astype(np.uint8) for picture in (*few, few[-1])]
    save(tmp_path / "few.gif", pictures, fps=50)
    found = np.array(list(read_video(tmp_path / "few.gif", colour=True)))
    assert found.shape == (5, size[1], size[0], 3)
    assert np.abs(found.astype(int) - pictures).max() <= 2  # each picture has a palette for its own 64 colours
    many = soft_colours(size, 3)
    save(tmp_path / "many.gif", many, fps=50)
    assert np.abs(np.array(list(read_video(tmp_path / "many.gif", colour=True))).astype(float) - many).mean() < 5


def test_ffv1_keeps_16_bits_of_colour(tmp_path: Path) -> None:
    pictures = colourful((401, 251), 2, bit_depth=16)
    save(tmp_path / "a.mkv", pictures, codec="ffv1", bit_depth=16)
    np.testing.assert_array_equal(colours_in(tmp_path / "a.mkv", bit_depth=16), pictures)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_png_in_colour(tmp_path: Path, bit_depth: int) -> None:
    pictures = colourful((65, 49), 2, bit_depth)
    save(tmp_path / "out", pictures, bit_depth=bit_depth)
    write_png(tmp_path / "odd %d name.png", pictures[1][:, ::-1], overwrite=True)
    for path, expected in (
        (tmp_path / "out" / "000000.png", pictures[0]),
        (tmp_path / "out" / "000001.png", pictures[1]),
        (tmp_path / "odd %d name.png", pictures[1][:, ::-1]),
    ):
        assert path.read_bytes()[24:26] == bytes([bit_depth, 2])  # 2: RGB
        np.testing.assert_array_equal(colours_in(path.rename(tmp_path / "a.png"), bit_depth), [expected])


def test_firing_rates_in_colour_are_saved_in_colour(tmp_path: Path) -> None:
    rates = [picture / np.float32(510) for picture in colourful(SMALL, 3)]
    video.save(tmp_path / "a.mkv", rates, gain=2, codec="ffv1")
    np.testing.assert_array_equal(list(read_video(tmp_path / "a.mkv", colour=True)), colourful(SMALL, 3))


def test_pictures_of_a_folder_are_read_in_colour(tmp_path: Path) -> None:
    save(tmp_path / "out", colourful(SMALL, 2))
    np.testing.assert_array_equal(list(video.read_pictures(tmp_path / "out", colour=True)), colourful(SMALL, 2))
    assert next(video.read_pictures(tmp_path / "out")).shape == (48, 64)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
@pytest.mark.parametrize("size", [(400, 250), (401, 251)])
def test_h264_keeps_size_count_and_looks(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    pictures = moving_ramp(size, 10)
    path = tmp_path / f"a{suffix}"
    writer = save(path, pictures)
    back = np.array(list(read_video(path)))
    assert writer.pictures == 10
    assert back.shape == (10, size[1], size[0])
    assert np.abs(back.astype(float) - pictures).mean() < 1
    assert header(path)["size"] == size


@pytest.mark.parametrize("size", [(512, 64), (513, 65)])
@pytest.mark.parametrize("crf", [1, 18])
def test_h264_keeps_all_grey_levels(tmp_path: Path, size: tuple[int, int], crf: int) -> None:
    ramp = np.tile((np.arange(size[0]) // 2).clip(0, 255).astype(np.uint8), (size[1], 1))
    save(tmp_path / "a.mp4", [ramp] * 2, crf=crf)
    back = next(iter(read_video(tmp_path / "a.mp4")))
    assert (back.min(), back.max()) == (0, 255)
    assert len(np.unique(back)) >= 250
    assert np.abs(back.astype(int) - ramp).max() <= 2


def test_h264_is_what_players_show(tmp_path: Path) -> None:
    save(tmp_path / "a.mp4", moving_ramp((400, 250), 2))
    said = what_ffmpeg_says(tmp_path / "a.mp4")
    assert "h264 (High)" in said
    assert "yuvj420p(pc" in said or "yuv420p(pc" in said
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # playable before it is all there


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("size", [(400, 250), (401, 251)])
def test_nvenc_encodes_as_well_or_says_that_it_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], colour: bool
) -> None:
    pictures = soft_colours(size, 3) if colour else moving_ramp(size, 3)
    path = tmp_path / "a.mp4"
    if complaint := video._nvenc_complaint():
        with pytest.raises(OutputError, match=r"a\.mp4: there is no NVENC to encode it with .*; use the codec h264"):
            check_output(path, codec="h264-nvenc")
        monkeypatch.setattr(video, "_nvenc_complaint", lambda: None)
        with pytest.raises(OutputError) as caught:
            save(path, pictures, codec="h264-nvenc")
        assert str(caught.value) == f"{path}: encoding failed: {complaint}"  # and not of its options
        assert list(tmp_path.iterdir()) == []
        return
    save(path, pictures, codec="h264-nvenc")
    back = np.array(list(read_video(path, colour=colour)))
    assert back.shape == np.shape(pictures)
    assert np.abs(back.astype(float) - pictures).mean() < 2
    assert "(pc" in what_ffmpeg_says(path)


def test_large_picture(tmp_path: Path) -> None:
    pictures = moving_ramp((1000, 1000), 1)
    save(tmp_path / "a.mp4", pictures, crf=1)
    (back,) = read_video(tmp_path / "a.mp4")
    assert np.abs(back.astype(float) - pictures[0]).mean() < 0.5


def test_ffv1_keeps_16_bits(tmp_path: Path) -> None:
    pictures = moving_ramp((401, 251), 3, bit_depth=16)
    save(tmp_path / "a.mkv", pictures, codec="ffv1", bit_depth=16)
    reader = imageio_ffmpeg.read_frames(tmp_path / "a.mkv", pix_fmt="gray16le", bits_per_pixel=16)
    next(reader)
    back = [np.frombuffer(data, "<u2").reshape(251, 401) for data in reader]
    np.testing.assert_array_equal(back, pictures)


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("target", ["out", "out.d/", "out.mp4/", "out/%06d.png"])
def test_png_sequence(tmp_path: Path, target: str, bit_depth: int) -> None:
    pictures = moving_ramp(SMALL, 3, bit_depth)
    save(f"{tmp_path}/{target}", pictures, bit_depth=bit_depth)
    (folder,) = tmp_path.iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["000000.png", "000001.png", "000002.png"]
    for number, picture in enumerate(pictures):
        assert png_bit_depth(folder / f"{number:06d}.png") == bit_depth
        np.testing.assert_array_equal(Image.open(folder / f"{number:06d}.png"), picture)


def test_png_pattern_names(tmp_path: Path) -> None:
    save(tmp_path / "fan-%d.png", moving_ramp(SMALL, 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fan-0.png", "fan-1.png"]


def test_views_and_byte_orders_are_written_right(tmp_path: Path) -> None:
    picture = moving_ramp((64, 48), 1, 16)[0]
    view = np.repeat(picture, 2, axis=1)[:, ::2]
    assert not view.flags.c_contiguous
    save(tmp_path / "a.mkv", [view], codec="ffv1", bit_depth=16)
    reader = imageio_ffmpeg.read_frames(tmp_path / "a.mkv", pix_fmt="gray16le", bits_per_pixel=16)
    next(reader)
    np.testing.assert_array_equal(np.frombuffer(next(reader), "<u2").reshape(48, 64), picture)
    reader.close()
    write_png(tmp_path / "a.png", view)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)


# --- time -------------------------------------------------------------------------------------------


def display_times(path: Path) -> list[Fraction]:
    """When each picture is shown, in seconds, as the file says it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    command += ["-c", "copy", "-f", "framecrc", "-"]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    (unit,) = (Fraction(line.split()[-1]) for line in said.splitlines() if line.startswith("#tb"))
    return sorted(int(line.split(",")[2]) * unit for line in said.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (60, Fraction(60)),
        (23.976, Fraction(2997, 125)),
        (30000 / 1001, Fraction(30000, 1001)),
        (0.5, Fraction(1, 2)),
        (20_000, Fraction(20_000)),
        (1_000_000, Fraction(1_000_000)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_playback_rate_is_exact(tmp_path: Path, suffix: str, fps: float, exact: Fraction) -> None:
    path = tmp_path / f"a{suffix}"
    writer = save(path, moving_ramp(SMALL, 6), fps=fps)
    assert writer.fps == float(exact)
    assert writer.notes == []
    assert display_times(path) == [number / exact for number in range(6)]


def test_playback_rate_as_another_reader_sees_it(tmp_path: Path) -> None:
    save(tmp_path / "a.mp4", moving_ramp(SMALL, 60), fps=30)
    assert header(tmp_path / "a.mp4")["fps"] == 30
    assert header(tmp_path / "a.mp4")["duration"] == 2


def test_matroska_has_no_more_than_1000_pictures_a_second(tmp_path: Path) -> None:
    save(tmp_path / "a.mkv", moving_ramp(SMALL, 3), fps=1000)
    assert len(set(display_times(tmp_path / "a.mkv"))) == 3
    with pytest.raises(UsageError, match=r"fps must be from 0.01 to 1000, not 2000; write .mp4 for more"):
        check_output(tmp_path / "b.mkv", fps=2000)


@pytest.mark.parametrize(("fps", "delay"), [(60, 20), (50, 20), (30, 30), (25, 40), (1, 1000), (40_000, 20)])
def test_gif_times(tmp_path: Path, fps: float, delay: int) -> None:
    writer = save(tmp_path / "a.gif", moving_ramp(SMALL, 4), fps=fps)
    assert writer.fps == pytest.approx(1000 / delay)
    assert bool(writer.notes) == (fps != 1000 / delay)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4  # type: ignore[attr-defined]
        for number in range(4):
            gif.seek(number)
            assert gif.info["duration"] == delay
    assert len(list(read_video(tmp_path / "a.gif"))) == 4


def test_gif_says_what_became_of_the_rate(tmp_path: Path) -> None:
    output = check_output(tmp_path / "a.gif", fps=60)
    assert output.fps == 50
    assert output.notes == ("GIF times pictures in steps of 10 ms, 50 a second at most: plays at 50 fps instead of 60",)


def test_pictures_that_do_not_change_are_all_kept(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.gif"):
        save(tmp_path / name, [np.full((48, 64), 77, np.uint8)] * 7)
        assert len(list(read_video(tmp_path / name))) == 7


# --- what cannot be done is refused before anything happens ----------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, r"unknown suffix .avi; use .mp4, .mov, .mkv, .gif, or for PNG pictures a folder"),
        ("a.png", {}, r"needs one number, as in out/%06d.png"),
        ("a%d-%d.png", {}, "needs one number"),
        ("a%s.png", {}, "needs one number"),
        ("a.mp4", {"codec": "av1"}, "unknown codec av1; known are h264, h264-lossless, h264-nvenc, ffv1"),
        ("a.mp4", {"codec": "ffv1"}, "ffv1 does not go into this kind of file; write .mkv"),
        ("a.gif", {"codec": "h264-lossless"}, "does not go into this kind of file"),
        ("out/", {"codec": "ffv1"}, "does not go into this kind of file"),
        ("a.mp4", {"bit_depth": 16}, "16 bit needs PNG pictures, or .mkv with the codec ffv1"),
        ("a.gif", {"bit_depth": 16}, "16 bit needs"),
        ("a.mkv", {"bit_depth": 16}, "16 bit needs"),
        ("a.mp4", {"bit_depth": 10}, "bit depth must be 8 or 16, not 10"),
        ("a.mp4", {"crf": 52}, "crf must be from 0"),
        ("a.mp4", {"crf": -1}, "crf must be from 0"),
        ("a.mp4", {"crf": float("nan")}, "crf must be from 0"),
        ("a.mp4", {"fps": 0}, "fps must be from 0.01 to 1000000, not 0"),
        ("a.mp4", {"fps": -60}, "fps must be"),
        ("a.mp4", {"fps": float("nan")}, "fps must be"),
        ("a.mp4", {"fps": float("inf")}, "fps must be"),
        ("a.gif", {"fps": 0}, "fps must be"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, name: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_output(f"{tmp_path}/{name}", **options)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or len(options) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none/a.mp4", "none/there/", "none/there/%06d.png"])
def test_missing_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="this folder does not exist"):
        check_output(f"{tmp_path}/{name}")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file/a.mp4", "file", "file/%06d.png"):
        with pytest.raises(OutputError, match="file: is not a folder"):
            check_output(f"{tmp_path}/{name}")
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path / "a.mp4", overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="no permission"):
            check_output(tmp_path / "a.mp4")
    finally:
        tmp_path.chmod(0o755)


def test_existing_video_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already; give -y to replace it"):
        save(path, moving_ramp(SMALL, 2))
    assert path.read_bytes() == b"precious"
    with pytest.raises(ZeroDivisionError), open_writer(path, size=SMALL, overwrite=True):
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"precious"
    save(path, moving_ramp(SMALL, 2), overwrite=True)
    assert len(list(read_video(path))) == 2


def test_existing_pictures_are_kept_unless_told(tmp_path: Path) -> None:
    pictures = moving_ramp(SMALL, 3)
    save(tmp_path / "out", pictures)
    before = (tmp_path / "out" / "000000.png").read_bytes()
    for target in ("out", "out/%06d.png"):
        with pytest.raises(OutputError, match="give -y"):
            check_output(tmp_path / target)
    writer = save(tmp_path / "out", pictures[1:], overwrite=True)
    assert (tmp_path / "out" / "000000.png").read_bytes() != before
    assert writer.notes == [f"{tmp_path / 'out' / '000002.png'} and what may follow it is left from an earlier run"]
    assert save(tmp_path / "out" / "b%02d.png", pictures).notes == []  # other names are free


def test_existing_folder_with_a_dot_in_its_name_gets_pictures(tmp_path: Path) -> None:
    (tmp_path / "run.2").mkdir()
    save(tmp_path / "run.2", moving_ramp(SMALL, 1))
    assert (tmp_path / "run.2" / "000000.png").is_file()


def test_single_png_is_refused_up_front(tmp_path: Path) -> None:
    picture = moving_ramp(SMALL, 1)[0]
    with pytest.raises(UsageError, match=r"a single picture is written as \.png"):
        check_png(tmp_path / "a.jpg")
    with pytest.raises(OutputError, match="does not exist"):
        write_png(tmp_path / "none" / "a.png", picture)
    with pytest.raises(UsageError, match="float32"):
        write_png(tmp_path / "a.png", picture.astype(np.float32))
    assert list(tmp_path.iterdir()) == []
    write_png(tmp_path / "a.png", picture)
    with pytest.raises(OutputError, match="exists already"):
        write_png(tmp_path / "a.png", picture)
    write_png(tmp_path / "a.png", picture, overwrite=True)


# --- what fails leaves nothing behind ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "out"])
def test_no_pictures(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(OutputError, match="there are no pictures to write"),
        open_writer(tmp_path / name, size=SMALL),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rates", "gain", "message"),
    [
        (np.zeros((4, 4), np.float32), 1, "is made of pictures, which are arrays"),
        ([Frame(30, np.zeros((4, 4), np.float32))], 1, "of a frame it is frame.rate"),
        ([np.zeros((4, 4), np.float32)], "auto", "gain and gamma are numbers, not 'auto'"),
        ([np.full((4, 4), np.nan, np.float32)], 1, "firing rates that are not numbers"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "out"])
def test_what_are_no_pictures(tmp_path: Path, name: str, rates: Any, gain: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        video.save(tmp_path / name, rates, gain=gain)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def save_one_and_raise(path: Path, error: type[BaseException]) -> None:
    with open_writer(path, size=SMALL) as writer:
        writer.write(moving_ramp(SMALL, 1)[0])
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_exception_leaves_nothing(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        save_one_and_raise(tmp_path / name, error)
    assert list(tmp_path.iterdir()) == []


def test_finished_pictures_stay_when_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        save_one_and_raise(tmp_path / "out", KeyboardInterrupt)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["000000.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="finds ffmpeg through /proc")
@pytest.mark.parametrize("more", [0, 1, 200])
def test_killed_ffmpeg(tmp_path: Path, more: int) -> None:
    def pictures() -> Iterator[np.ndarray]:
        picture = moving_ramp((400, 250), 1)[0]
        yield picture
        (pid,) = ffmpeg_children()
        os.kill(pid, 9)
        for _ in range(more):
            yield picture

    with pytest.raises(OutputError, match=r"a\.mp4: encoding failed: ffmpeg was ended by SIGKILL"):
        save(tmp_path / "a.mp4", pictures(), size=(400, 250))
    assert list(tmp_path.iterdir()) == []


def test_ffmpegs_own_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_encoder_options", lambda *_: "-c:v no-such-encoder")
    with pytest.raises(OutputError, match=r"a\.mp4: encoding failed: ffmpeg: Unknown encoder") as caught:
        save(tmp_path / "a.mp4", moving_ramp(SMALL, 1))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_missing_pictures_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that ends well with fewer pictures than it was given."""
    monkeypatch.setattr(video, "_encoder_options", lambda *_: "-c:v libx264 -frames:v 3")
    with pytest.raises(OutputError, match="the encoder kept 3 of 5 pictures"):
        save(tmp_path / "a.mp4", moving_ramp(SMALL, 5))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the file size")
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "out"])
def test_full_disk(tmp_path: Path, name: str) -> None:
    """A limit on the size of files stands in for the full disk; it ends ffmpeg with SIGXFSZ."""
    script = f"""
import resource, sys
import numpy as np
from spikerecon.errors import OutputError
from spikerecon.video import open_writer
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).integers(0, 256, (250, 400), np.uint8)
try:
    with open_writer({str(tmp_path / name)!r}, size=(400, 250)) as writer:
        for _ in range(20):
            writer.write(noise)
except OutputError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert ("SIGXFSZ" if name != "out" else "File too large") in done.stderr
    assert done.stderr.count("\n") == 1
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["a.mp4", "out"])
@pytest.mark.parametrize(
    "wrong", [np.zeros((48, 65), np.uint8), np.zeros((48, 64), np.uint16), np.zeros((48, 64, 1), np.uint8)]
)
def test_wrong_picture(tmp_path: Path, name: str, wrong: np.ndarray) -> None:
    with (
        pytest.raises(OutputError, match=r"picture 0 is .*, expected uint8 \(48, 64\)"),
        open_writer(tmp_path / name, size=SMALL) as writer,
    ):
        writer.write(wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["-a b'c.mp4", "time 12:30.mp4", "100%d.mp4", "x" * 240 + ".mp4", "é.gif"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(name, moving_ramp(SMALL, 2))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert len(list(read_video(name))) == 2


# --- reading ----------------------------------------------------------------------------------------


def test_read_video_stretches_limited_range(tmp_path: Path) -> None:
    """Most videos keep luma in 16 to 235; that is black to white all the same."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "gray"]
    command += ["-video_size", "256x2", "-i", "-", "-pix_fmt", "yuv420p", "-qp", "0", str(tmp_path / "a.mp4")]
    ramp = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    subprocess.run(command, input=ramp.tobytes(), check=True)
    (back,) = read_video(tmp_path / "a.mp4")
    assert np.abs(back.astype(int) - ramp).max() <= 1


def test_read_video_can_be_left_early(tmp_path: Path) -> None:
    save(tmp_path / "a.mp4", moving_ramp((400, 250), 30))
    pictures = read_video(tmp_path / "a.mp4")
    next(pictures)
    pictures.close()  # type: ignore[attr-defined]


def test_broken_pictures_of_a_folder_are_named(tmp_path: Path) -> None:
    write_png(tmp_path / "0.png", np.zeros((400, 400), np.uint8))
    whole = (tmp_path / "0.png").read_bytes()
    for broken in (whole[:-40], whole.replace(b"IDAT", b"ID\0T"), b"no picture"):
        (tmp_path / "0.png").write_bytes(broken)
        with pytest.raises(RecordingError, match=r"0\.png: cannot be read as a picture"):
            list(video.read_pictures(tmp_path))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_finished_writer_holds_nothing_open(tmp_path: Path) -> None:
    def save() -> video.Writer:
        return video.save(tmp_path / "a.mp4", [np.zeros((48, 64), np.float32)] * 2, gain=1.0, overwrite=True)

    save()
    before = len(list(Path("/proc/self/fd").iterdir()))
    writers = [save() for _ in range(3)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert writers[0].pictures == 2


def test_read_video_errors(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        list(read_video(tmp_path / "none.mp4"))
    (tmp_path / "junk.mp4").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.mp4").write_bytes(b"")
    save(tmp_path / "cut.mp4", moving_ramp((400, 250), 10))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:2500])
    for name in ("junk.mp4", "empty.mp4", "cut.mp4"):
        with pytest.raises(RecordingError, match=f"{name}: cannot be read as video: ffmpeg: ") as caught:
            list(read_video(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_import_is_light() -> None:
    script = "import sys, spikerecon.video; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_what_makes_the_pictures_is_ended_where_writing_fails(tmp_path):
    made = (np.zeros((8, 8 + i), np.float32) for i in range(50))
    with pytest.raises(OutputError, match="picture 1 is uint8"):
        video.save(tmp_path / "a.mp4", made, gain=1.0)
    assert made.gi_frame is None


def test_only_videos_need_ffmpeg():
    """It is not everywhere that one trains, or writes single pictures."""
    words = "import sys; sys.modules['imageio_ffmpeg'] = None; import spikerecon.benchmark, spikerecon.training.loop"
    words += "; from spikerecon.errors import OutputError; from spikerecon.video import check_output"
    words += "; check_output('pictures/')\ntry: check_output('a.mp4')\nexcept OutputError as error: print(error)"
    found = subprocess.run([sys.executable, "-c", words], check=True, capture_output=True, text=True)
    assert found.stdout == "there is no ffmpeg here; install imageio-ffmpeg again\n"


@pytest.mark.parametrize("name", ["out.mp4", "pictures/"])
def test_what_came_while_pictures_were_made_stays(tmp_path: Path, name: str) -> None:
    file = tmp_path / ("out.mp4" if name == "out.mp4" else "pictures/000001.png")

    def write() -> None:
        with open_writer(f"{tmp_path}/{name}", size=SMALL) as writer:
            for picture in moving_ramp(SMALL, 2):
                writer.write(picture)
                file.write_text("mine")

    with pytest.raises(OutputError, match=f"{file.name}: exists already"):
        write()
    assert file.read_text() == "mine"


def test_a_video_that_is_cut_off_is_read_with_a_warning(tmp_path):
    rng = np.random.default_rng(0)
    with open_writer(tmp_path / "a.mkv", size=(64, 48)) as writer:
        for _ in range(60):
            writer.write(rng.integers(0, 256, (48, 64), dtype=np.uint8))
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    with pytest.warns(RecordingWarning, match=r"damaged or cut off, \d+ pictures could be read"):
        assert 1 < len(list(read_video(tmp_path / "a.mkv"))) < 60


def test_an_output_has_a_name():
    with pytest.raises(UsageError, match="has no name"):
        check_output("")


def test_crf_makes_smaller_files(tmp_path):
    noise = list(np.random.default_rng(0).integers(0, 256, (20, 48, 64), dtype=np.uint8))
    for crf in (10, 18, 45):
        save(tmp_path / f"{crf}.mp4", noise, crf=crf)
    sizes = [(tmp_path / f"{crf}.mp4").stat().st_size for crf in (10, 18, 45)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[2]
