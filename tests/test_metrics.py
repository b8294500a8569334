import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from spikerecon.errors import OutputError, UsageError
from spikerecon.metrics import modelled, psnr, ssim
from spikerecon.names import MODELLED


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    truth = rng.random((15, 17))
    return np.clip(truth + 0.1 * rng.standard_normal(truth.shape), 0, 1), truth


def test_psnr_of_known_errors():
    truth = np.full((4, 5), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    assert psnr(np.ones((4, 5)), np.zeros((4, 5))) == pytest.approx(0)
    one_pixel_off = truth.copy()
    one_pixel_off[0, 0] += 0.2
    assert psnr(one_pixel_off, truth) == pytest.approx(10 * math.log10(20 / 0.04))


def test_equal_pictures(pictures):
    _, truth = pictures
    assert psnr(truth, truth) == math.inf
    assert ssim(truth, truth) == pytest.approx(1)


def test_float32_is_computed_in_float64():
    truth = np.zeros((12, 12), np.float32)
    assert psnr(truth + np.float32(2**-20), truth) == pytest.approx(200 * math.log10(4), abs=1e-6)


def brute_force_ssim(x, y):
    """Window by window, straight from the definition with two-dimensional weights."""
    at = range(-5, 6)
    weights = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in at] for i in at])
    weights /= weights.sum()
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a = (weights * (a - mean_a) ** 2).sum()
            variance_b = (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 0.01**2)
                * (2 * covariance + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2))
            )
    return sum(values) / len(values)


def test_ssim_agrees_with_its_definition(pictures):
    assert ssim(*pictures) == pytest.approx(brute_force_ssim(*pictures), abs=1e-12)
    assert 0.5 < ssim(*pictures) < 0.99


def test_ssim_of_flat_pictures():
    # Without any variance only the luminance term is left.
    expected = (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)
    assert ssim(np.full((11, 11), 0.2), np.full((11, 11), 0.6)) == pytest.approx(expected)


def test_ssim_is_symmetric_and_falls_below_zero_for_a_negative(pictures):
    prediction, truth = pictures
    assert ssim(prediction, truth) == pytest.approx(ssim(truth, prediction))
    assert ssim(1 - truth, truth) < 0


def test_in_colour(pictures):
    prediction, truth = pictures
    channels = [prediction, truth, prediction[::-1]]
    colour, true = np.stack(channels, axis=-1), np.stack([truth] * 3, axis=-1)
    assert ssim(colour, true) == pytest.approx(np.mean([ssim(channel, truth) for channel in channels]))
    errors = [np.mean((channel - truth) ** 2) for channel in channels]
    assert psnr(colour, true) == pytest.approx(-10 * math.log10(np.mean(errors)))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_must_agree(metric):
    with pytest.raises(UsageError, match=r"one shape .*\(12, 13\) and \(13, 12\)"):
        metric(np.zeros((12, 13)), np.zeros((13, 12)))
    with pytest.raises(UsageError, match="one shape"):
        metric(np.zeros((12, 13, 4)), np.zeros((12, 13, 4)))


def test_ssim_needs_room_for_its_window():
    with pytest.raises(UsageError, match="20x10 pixels is too small"):
        ssim(np.zeros((10, 20)), np.zeros((10, 20)))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("name", MODELLED)
def test_modelled_measures_get_both_pictures(pictures, monkeypatch, capsys, name, colour):
    """What pyiqa is asked for: it fetches its models, so it has a stand-in here."""

    def create_metric(asked, device):
        def metric(prediction, truth):
            assert prediction.shape == truth.shape == (1, 3, 15, 17)
            assert prediction.dtype == truth.dtype
            expected = pictures[0][..., None] * scale
            assert np.allclose(prediction[0].movedim(0, -1), expected, atol=1e-6)
            return (prediction - truth).abs().mean()

        assert asked == name
        print("Loading pretrained model")
        return metric

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    scale = np.array([1, 0.5, 0.25]) if colour else 1.0
    prediction, truth = (picture[..., None] * scale if colour else picture for picture in pictures)
    assert modelled(name)(prediction, truth) == pytest.approx(np.abs(prediction - truth).mean())
    assert capsys.readouterr() == ("", "")


def test_pictures_that_cannot_be_measured_are_told(pictures, monkeypatch):
    def metric(*_: object) -> float:
        raise RuntimeError("Kernel size can't be greater\n than actual input size")

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=lambda *_, **__: metric))
    with pytest.raises(UsageError, match="lpips cannot be measured of a picture of 17x15 pixels: Kernel size can't"):
        modelled("lpips")(*pictures)


def test_modelled_measures_that_cannot_be_had(monkeypatch, tmp_path):
    def create_metric(name, device):
        raise OSError("no way out")

    with pytest.raises(UsageError, match="choose lpips, niqe, brisque"):
        modelled("psnr")
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(OutputError, match=r"niqe needs pyiqa: pip install 'spikerecon\[quality\]'"):
        modelled("niqe")
    monkeypatch.delitem(sys.modules, "pyiqa")
    (tmp_path / "pyiqa.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OutputError, match="needs pyiqa, which does not start here: No module named 'nothing_of_that"):
        modelled("niqe")
    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    with pytest.raises(OutputError, match="could not get its model: no way out"):
        modelled("niqe")
