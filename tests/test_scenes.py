"""Scenes to film: the built-in ones and videos."""

import itertools

import numpy as np
import pytest
from conftest import Still, spikes

from spikerecon.errors import UsageError
from spikerecon.metrics import psnr
from spikerecon.scenes import SCENES, Fan, Pan, VideoScene, make_scene, truth
from spikerecon.simulate import FULL_SCALE_RATE, film


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (20, 45), (400, 250)])
def test_truth_of_built_in_scenes(name, size):
    scene = make_scene(name, *size)
    assert (scene.width, scene.height) == size
    for t in (0, 0.25, 77.3, 123_456.75):
        picture = truth(scene, t)
        assert picture.shape == size[::-1]
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        # Clipping may only take rounding errors away: what the sensor sees is what the truth shows.
        np.testing.assert_allclose(scene.light(t), picture, atol=1e-5)
    assert picture.std() > 0.05


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_drawn_from_their_seed(name):
    first, same, other = (make_scene(name, 48, 40, seed).light(30) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.05


def test_wrong_scenes():
    with pytest.raises(UsageError, match="no scene is called 'fun': there are fan, pan"):
        make_scene("fun")
    with pytest.raises(UsageError, match="15x40 pixels is too small"):
        make_scene("fan", 15, 40)
    for name in SCENES:
        with pytest.raises(UsageError, match="seed -1 is negative"):
            film(name, planes=60, seed=-1)


def test_fan_turns():
    fan = Fan(120, 100)
    now = fan.light(40)
    np.testing.assert_allclose(fan.light(40 + fan.period), now, atol=0.02)
    # The five blades have greys and dots of their own, so a fifth of a turn is not enough.
    for part in (0.02, 0.2, 0.5):
        assert psnr(fan.light(40 + part * fan.period), now) < 25
    # It turns at a speed of one pixel a plane at the tips, which are inside the guard.
    assert 0.7 * np.pi * 100 < fan.period < np.pi * 100


def test_fan_turns_clockwise():
    # The mark on the hub has black and white quarters: look along a small circle for the shift that fits.
    fan = Fan(400, 250)
    angles = np.arange(360) * np.pi / 180
    rows = np.rint(0.475 * 249 + 6 * np.sin(angles)).astype(int)  # row numbers grow downwards
    columns = np.rint(199.5 + 6 * np.cos(angles)).astype(int)
    before, after = (fan.light(t)[rows, columns] for t in (0, fan.period / 12))
    fit = [np.sum(np.roll(before, shift) * after) for shift in range(-80, 81)]
    assert int(np.argmax(fit)) - 80 == pytest.approx(30, abs=5)


def test_moving_blades_blur_and_what_stands_still_does_not():
    fan = Fan()
    true = truth(fan, 1200)
    blades, wall = np.s_[30:90, 150:250], np.s_[30:200, 5:85]

    def tfp(scene):
        return np.clip(spikes(scene, planes=60, start=1170).mean(axis=0) / FULL_SCALE_RATE, 0, 1)

    moving, still = tfp(fan), tfp(Still(true))
    assert psnr(moving[blades], true[blades]) < 22
    assert psnr(moving[wall], true[wall]) > 35
    assert psnr(still[blades], true[blades]) > 35


def test_pan_moves_by_its_velocity():
    pan = Pan(64, 48)
    # After one whole period of the swing only the steady motion is left: take it back by whole pixels.
    pan.velocity = (0.5, 0.25)
    before, after = pan.light(0), pan.light(pan.swing_period)
    np.testing.assert_allclose(after, np.roll(before, (250, 500), axis=(0, 1)), atol=1e-5)
    # The swing makes it faster and slower in between.
    pan.velocity = (0.5, 0.0)
    quarter = np.roll(before, 125 + 12, axis=1)  # 250 planes and 24 ahead, at half a pixel each
    np.testing.assert_allclose(pan.light(250), quarter, atol=1e-5)


def test_pan_stays_sharp_between_pixels():
    pan = Pan(64, 48)
    detail = [np.abs(np.diff(pan.light(t), axis=1)).mean() for t in np.linspace(0, 4, 17)]
    assert min(detail) > 0.85 * max(detail)


# Spikes per plane on a 4x5 grid of blocks, as simulated when the test was written. Bytes would be too strict:
# sine and FFT differ in their last bits between builds of numpy, and any of them can move a spike by a plane.
GOLDEN_FAN = [
    [0.298, 0.332, 0.270, 0.210, 0.128],
    [0.266, 0.273, 0.240, 0.179, 0.113],
    [0.245, 0.224, 0.207, 0.157, 0.126],
    [0.271, 0.252, 0.172, 0.176, 0.160],
]


def test_pan_in_colour_has_the_same_shapes():
    grey, colour = make_scene("pan", 64, 48), make_scene("pan", 64, 48, colour=True)
    picture = truth(colour, 30)
    assert picture.shape == (48, 64, 3)
    assert np.abs(np.diff(picture, axis=-1)).mean() > 0.05
    assert np.corrcoef(picture.mean(-1).ravel(), grey.light(30).ravel())[0, 1] > 0.9


def test_golden_fan():
    fired = spikes(make_scene("fan", 80, 48, seed=3), planes=60, start=1170, seed=4)
    np.testing.assert_allclose(fired.reshape(60, 4, 12, 5, 16).mean(axis=(0, 2, 4)), GOLDEN_FAN, atol=2e-3)


def frames(levels, height=5, width=8):
    return [np.full((height, width), level, np.uint8) for level in levels]


def test_video_frames_are_blended():
    scene = VideoScene(lambda: frames([0, 255, 51]), planes_per_frame=10)
    assert (scene.width, scene.height, scene.planes) == (8, 5, 20)
    for t, expected in [(0, 0), (5, 0.5), (10, 1), (15, 0.6), (20, 0.2), (2.5, 0.25)]:  # the last goes back
        picture = truth(scene, t)
        assert picture.dtype == np.float32
        np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_video_in_colour():
    levels = np.uint8([[[0, 100, 200]]])
    scene = VideoScene(lambda: [np.tile(levels, (5, 8, 1)), np.tile(levels + 55, (5, 8, 1))], planes_per_frame=10)
    assert (scene.width, scene.height, scene.planes) == (8, 5, 10)
    np.testing.assert_allclose(truth(scene, 5)[2, 3] * 255, [27.5, 127.5, 227.5], atol=1e-3)


def test_video_is_streamed():
    read = 0

    def endless():
        nonlocal read
        for level in itertools.cycle([10, 200]):
            read += 1
            yield np.full((4, 8), level, np.uint8)

    scene = VideoScene(endless, planes_per_frame=2)
    assert read == 2
    counts = spikes(scene, planes=20, full_scale_rate=1).sum(axis=0)
    assert read == 11
    assert counts.mean() == pytest.approx(20 * 105 / 255, abs=0.5)


def test_video_errors():
    with pytest.raises(UsageError, match="too short"):
        VideoScene(lambda: frames([1]), 10)
    with pytest.raises(UsageError, match=r"of one size: number 2 is not \(8x5 and 9x5\)"):
        VideoScene(lambda: frames([1]) + frames([1], width=9), 10)
    for number in (0, float("nan"), float("inf"), 1e308):
        with pytest.raises(UsageError, match="more than 0, and 1,000,000 at most"):
            VideoScene(lambda: frames([1, 2]), number)
    uneven = VideoScene(lambda: frames([1, 2]) + frames([1], width=9), 10)
    with pytest.raises(UsageError, match="number 3 is not"):
        uneven.light(15)
    with pytest.raises(UsageError):
        uneven.light(15)
    scene = VideoScene(lambda: frames([1, 2]), 10)
    with pytest.raises(UsageError, match="before the first frame"):
        scene.light(-1)
    with pytest.raises(UsageError, match="too short"):
        spikes(scene, planes=11)
    assert spikes(scene, planes=10).shape == (10, 5, 8)
