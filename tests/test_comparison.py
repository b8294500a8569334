"""Methods side by side."""

import numpy as np
import pytest

from spikerecon import comparison
from spikerecon.comparison import HEADING, headed, side_by_side, tiled
from spikerecon.engine import Reconstructor
from spikerecon.simulate import film


def test_a_heading_is_white_above_the_picture():
    picture = np.full((20, 64), 0.3, np.float32)
    drawn = headed(picture, "tfp", white=0.6)
    assert drawn.dtype == np.float32
    assert drawn.shape == (HEADING + 20, 64)
    assert np.array_equal(drawn[HEADING:], picture)
    assert drawn[:HEADING].min() == 0
    assert 0.3 < drawn[:HEADING].max() <= 0.6  # thin strokes are not quite white
    assert not np.array_equal(drawn, headed(picture, "tfi", white=0.6))


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 2, 2), (5, 2, 3), (7, 3, 3)]
)
def test_pictures_are_wrapped_into_rows(monkeypatch: pytest.MonkeyPatch, count: int, rows: int, columns: int):
    monkeypatch.setattr(comparison, "SHEET_WIDTH", 100)
    pictures = [np.full((16, 32), i + 1.0) for i in range(count)]
    drawn = tiled(pictures, [f"number {i}" for i in range(count)])
    height = HEADING + 16
    assert drawn.shape == (rows * height, columns * 32)
    for i in range(rows * columns):
        row, column = divmod(i, columns)
        place = drawn[row * height : (row + 1) * height, column * 32 : (column + 1) * 32]
        assert (place[HEADING:] == (i + 1 if i < count else 0)).all()


def test_pictures_wider_than_a_sheet_are_one_below_the_other():
    assert tiled([np.zeros((10, 2500))] * 2, ["a", "b"]).shape == (2 * (HEADING + 10), 2500)


def test_frames_side_by_side_are_those_of_each_method():
    fan = film("fan", planes=120, width=64, height=48)
    engines = [Reconstructor(name, device="cpu") for name in ("tfp", "tfi", "tfstp")]
    centers = [40, 50, 90]
    alone = [[frame.rate for frame in engine.frames(fan, centers)] for engine in engines]
    frames = list(side_by_side(engines, fan, centers))
    assert [frame.center for frame in frames] == centers
    for i, frame in enumerate(frames):
        assert np.array_equal(frame.rate[HEADING:], np.concatenate([rates[i] for rates in alone], axis=1))
    (single,) = side_by_side(engines[:1], fan, [50])
    assert np.array_equal(single.rate, alone[0][1])
