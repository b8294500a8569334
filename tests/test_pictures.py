"""Single pictures: what is shown of firing rates, and PNG files."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import colourful, moving_ramp, png_bit_depth
from PIL import Image

from spikerecon import pictures
from spikerecon.errors import OutputError, UsageError
from spikerecon.pictures import pictures_in, to_uint, write_png

pytestmark = pytest.mark.usefixtures("nothing_left_over")
SMALL = (64, 48)


def test_to_uint() -> None:
    rate = np.array([[0, 0.25, 0.5], [1, 2, -1]], np.float32)
    assert to_uint(rate).tolist() == [[0, 64, 128], [255, 255, 0]]
    assert to_uint(rate).dtype == np.uint8
    assert to_uint(rate, bit_depth=16).tolist() == [[0, 16384, 32768], [65535, 65535, 0]]
    assert to_uint(rate, bit_depth=16).dtype == np.uint16
    assert to_uint(rate, gain=2).tolist() == [[0, 128, 255], [255, 255, 0]]
    assert to_uint(rate, gamma=2).tolist() == [[0, 128, 180], [255, 255, 0]]
    assert rate[1, 2] == -1  # the input is left alone


def test_to_uint_reaches_every_value() -> None:
    for bit_depth, count in ((8, 256), (16, 65536)):
        rate = np.arange(count, dtype=np.float32) / np.float32(count - 1)
        assert (to_uint(rate, bit_depth=bit_depth) == np.arange(count)).all()


@pytest.mark.parametrize("options", [{"gain": 0}, {"gain": 1e39}, {"gamma": 0}, {"gamma": 1e-300}, {"bit_depth": 12}])
def test_to_uint_refuses(options: dict) -> None:
    with pytest.raises(UsageError):
        to_uint(np.zeros((1, 1), np.float32), **options)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_write_png(tmp_path: Path, bit_depth: int) -> None:
    picture = moving_ramp((401, 251), 1, bit_depth)[0]
    write_png(tmp_path / "a.png", picture)
    assert png_bit_depth(tmp_path / "a.png") == bit_depth
    np.testing.assert_array_equal(Image.open(tmp_path / "a.png"), picture)
    with pytest.raises(UsageError, match="is not a uint8 or uint16 picture"):
        write_png(tmp_path / "b.png", picture[:0])


def test_a_png_that_ffmpeg_cannot_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "raw_pictures", lambda *_, **__: "-pix_fmt no-such-pixels")
    with pytest.raises(OutputError, match=r"a\.png: cannot be written: ffmpeg: ") as caught:
        write_png(tmp_path / "a.png", colourful(SMALL, 1, bit_depth=16)[0])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_only_has_the_name_of_a_picture_is_none(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", moving_ramp(SMALL, 1)[0])
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    assert pictures_in(tmp_path) == [tmp_path / "a.png"]
