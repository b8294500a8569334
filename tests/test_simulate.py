import itertools
import tracemalloc

import numpy as np
import pytest

from spikerecon import simulate as sim
from spikerecon.errors import UsageError
from spikerecon.metrics import psnr
from spikerecon.recording import unpack

NO_NOISE = sim.SensorNoise(
    threshold_spread=0,
    row_spread=0,
    dark_current=0,
    dark_spread=0,
    photons_per_spike=np.inf,
    stuck_fraction=0,
    dead_fraction=0,
)


class Still:
    """A scene that does not change."""

    def __init__(self, picture):
        self.picture = np.asarray(picture, np.float32)
        self.height, self.width = self.picture.shape

    def light(self, t):
        return self.picture


def spikes(scene, **options):
    """All spikes of a simulation: uint8 (planes, height, width)."""
    return np.concatenate([unpack(rows, scene.width) for rows in sim.simulate(scene, **options)])


# --- The sensor ---


def test_counts_are_the_floor_of_phase_and_light():
    # In multiples of 1/1024, sums are exact in float32: every count must agree, after every plane.
    rng = np.random.default_rng(1)
    sensor = sim.SpikeSensor(9, 11, rng)
    sensor.charge = rng.integers(0, 1024, (9, 11)).astype(np.float32) / 1024
    phase = sensor.charge.copy()
    light = rng.integers(0, 1025, (200, 9, 11)) / 1024
    fired = np.cumsum([sensor.expose(plane) for plane in light], axis=0)
    np.testing.assert_array_equal(fired, np.floor(phase + np.cumsum(light, axis=0)))


def test_spikes_are_zero_and_one_in_uint8():
    sensor = sim.SpikeSensor(3, 4, np.random.default_rng(0))
    fired = sensor.expose(np.full((3, 4), 0.5))
    assert fired.dtype == np.uint8
    assert fired.shape == (3, 4)
    assert set(np.unique(fired)) <= {0, 1}


def test_full_light_fires_in_every_plane_and_more_is_lost():
    sensor = sim.SpikeSensor(3, 4, np.random.default_rng(0))
    for _ in range(5):
        assert sensor.expose(np.full((3, 4), 2.5)).all()
    assert sum(int(sensor.expose(np.zeros((3, 4))).sum()) for _ in range(5)) == 0


def test_phases_are_spread_evenly():
    phase = sim.SpikeSensor(100, 100, np.random.default_rng(0)).charge
    counts, _ = np.histogram(phase, bins=10, range=(0, 1))
    assert counts.sum() == phase.size
    np.testing.assert_allclose(counts, 1000, atol=150)


@pytest.mark.parametrize("rate", [0.03, 0.25, 0.6, 1.0])
def test_rate_of_constant_light(rate):
    fired = spikes(Still(np.full((20, 24), 0.8)), planes=200, full_scale_rate=rate)
    counts = fired.sum(axis=0, dtype=int)
    assert counts.max() - counts.min() <= 1
    assert counts.mean() == pytest.approx(200 * rate * 0.8, abs=0.1)


# --- The stream ---


@pytest.mark.parametrize("noise", [None, sim.SensorNoise()], ids=["clean", "noisy"])
def test_bytes_depend_on_the_seed_and_not_on_the_chunks(noise):
    def stream(seed, chunk):
        scene = sim.make_scene("fan", 37, 26)
        return np.concatenate(
            list(sim.simulate(scene, planes=23, start=5, seed=seed, noise=noise, chunk=chunk))
        ).tobytes()

    assert stream(1, 100) == stream(1, 100) == stream(1, 7) == stream(1, 1)
    assert stream(1, 100) != stream(2, 100)


def test_chunks_are_packed_rows():
    chunks = list(sim.simulate(Still(np.ones((6, 13))), planes=7, full_scale_rate=1, chunk=3))
    assert [chunk.shape for chunk in chunks] == [(3, 6, 2), (3, 6, 2), (1, 6, 2)]
    assert all(chunk.dtype == np.uint8 for chunk in chunks)
    assert (chunks[0] == [0b11111111, 0b00011111]).all()  # the lowest bit is the leftmost pixel


def test_light_of_a_plane_is_the_mean_over_it():
    class Ramp:
        width = height = 16

        def light(self, t):
            return np.full((16, 16), t / 100, np.float32)

    # Over planes 10 to 90 the mean instant is 50.
    counts = spikes(Ramp(), planes=80, start=10, full_scale_rate=1).sum(axis=0, dtype=int)
    assert counts.mean() == pytest.approx(40, abs=0.2)


def test_memory_does_not_grow_with_length():
    def peak(planes):
        tracemalloc.start()
        for _ in sim.simulate(scene, planes=planes, chunk=10):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    scene = sim.make_scene("fan", 64, 48)
    peak(20)  # what numpy keeps from its first use
    assert peak(400) < 1.2 * peak(40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"full_scale_rate": 0}, r"full-scale rate 0 is outside \(0, 1\]"),
        ({"full_scale_rate": 1.01}, r"full-scale rate 1.01 is outside"),
        ({"full_scale_rate": float("nan")}, r"full-scale rate nan is outside"),
        ({"planes": 0}, "cannot simulate 0 planes"),
        ({"chunk": 0}, "0 at a time"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_values_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        sim.simulate(Still(np.ones((4, 8))), **{"planes": 5, **options})


# --- Noise ---


def test_noise_of_nothing_changes_nothing():
    scene = Still(np.linspace(0, 1, 400).reshape(20, 20))
    sensor = sim.SpikeSensor(20, 20, np.random.default_rng(0), NO_NOISE)
    phase = sensor.charge.copy()
    counts = sum(sensor.expose(scene.picture * 0.5).astype(int) for _ in range(100))
    # Rounding in float32 can move a spike across the end.
    assert np.abs(counts - (phase + 50 * scene.picture)).max() <= 1 + 1e-3


def noisy_counts(level, planes, **noise):
    settings = sim.SensorNoise(**{**vars(NO_NOISE), **noise})
    return spikes(Still(np.full((100, 100), level)), planes=planes, full_scale_rate=1, noise=settings).sum(
        axis=0, dtype=int
    )


def test_threshold_spread():
    counts = noisy_counts(0.5, 1000, threshold_spread=0.03)
    assert counts.std() / counts.mean() == pytest.approx(0.03, rel=0.1)


def test_rows_differ():
    counts = noisy_counts(0.5, 1000, row_spread=0.02)
    assert counts.mean(axis=1).std() / counts.mean() == pytest.approx(0.02, rel=0.3)
    assert np.ptp(counts, axis=1).max() <= 1


def test_dark_current():
    assert noisy_counts(0, 1000, dark_current=0.002).mean() == pytest.approx(2, abs=0.1)


def test_pixels_differ_in_the_dark():
    counts = noisy_counts(0, 10000, dark_current=0.004, dark_spread=0.6)
    assert np.median(counts) == pytest.approx(40, abs=1)
    assert np.log(counts).std() == pytest.approx(0.6, rel=0.03)


def test_shot_noise():
    # 200 planes of 0.5 collect the light of 100 spikes, with a variance of 100 / 50; the phase adds 1 / 6.
    counts = noisy_counts(0.5, 200, photons_per_spike=50)
    assert counts.mean() == pytest.approx(100, abs=0.2)
    assert counts.var() == pytest.approx(100 / 50 + 1 / 6, rel=0.15)


def test_shot_noise_adds_no_light_in_the_dark():
    assert noisy_counts(0.01, 1000, photons_per_spike=10).mean() == pytest.approx(10, abs=0.1)


def test_stuck_and_dead_pixels():
    counts = noisy_counts(0.5, 50, stuck_fraction=0.02, dead_fraction=0.01)
    assert np.mean(counts == 50) == pytest.approx(0.02, abs=0.005)
    assert np.mean(counts == 0) == pytest.approx(0.01, abs=0.005)


# --- Scenes ---


@pytest.mark.parametrize("name", sim.SCENES)
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (20, 45), (400, 250)])
def test_truth_of_built_in_scenes(name, size):
    scene = sim.make_scene(name, *size)
    assert (scene.width, scene.height) == size
    for t in (0, 0.25, 77.3, 123_456.75):
        picture = sim.truth(scene, t)
        assert picture.shape == size[::-1]
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
        # Clipping may only take rounding errors away: what the sensor sees is what the truth shows.
        np.testing.assert_allclose(scene.light(t), picture, atol=1e-5)
    assert picture.std() > 0.05


@pytest.mark.parametrize("name", sim.SCENES)
def test_scenes_are_drawn_from_their_seed(name):
    first, same, other = (sim.make_scene(name, 48, 40, seed).light(30) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.05


def test_wrong_scenes():
    with pytest.raises(UsageError, match="no scene is called 'fun': there are fan, pan"):
        sim.make_scene("fun")
    with pytest.raises(UsageError, match="15x40 pixels is too small"):
        sim.make_scene("fan", 15, 40)
    for name in sim.SCENES:
        with pytest.raises(UsageError, match="seed -1 is negative"):
            sim.film(name, planes=60, seed=-1)


def test_fan_turns():
    fan = sim.Fan(120, 100)
    now = fan.light(40)
    np.testing.assert_allclose(fan.light(40 + fan.period), now, atol=0.02)
    # The five blades have greys and dots of their own, so a fifth of a turn is not enough.
    for part in (0.02, 0.2, 0.5):
        assert psnr(fan.light(40 + part * fan.period), now) < 25
    # It turns at a speed of one pixel a plane at the tips, which are inside the guard.
    assert 0.7 * np.pi * 100 < fan.period < np.pi * 100


def test_fan_turns_clockwise():
    # The mark on the hub has black and white quarters: look along a small circle for the shift that fits.
    fan = sim.Fan(400, 250)
    angles = np.arange(360) * np.pi / 180
    rows = np.rint(0.475 * 249 + 6 * np.sin(angles)).astype(int)  # row numbers grow downwards
    columns = np.rint(199.5 + 6 * np.cos(angles)).astype(int)
    before, after = (fan.light(t)[rows, columns] for t in (0, fan.period / 12))
    fit = [np.sum(np.roll(before, shift) * after) for shift in range(-80, 81)]
    assert int(np.argmax(fit)) - 80 == pytest.approx(30, abs=5)


def test_moving_blades_blur_and_what_stands_still_does_not():
    fan = sim.Fan()
    true = sim.truth(fan, 1200)
    blades, wall = np.s_[30:90, 150:250], np.s_[30:200, 5:85]

    def tfp(scene):
        return np.clip(spikes(scene, planes=60, start=1170).mean(axis=0) / sim.FULL_SCALE_RATE, 0, 1)

    moving, still = tfp(fan), tfp(Still(true))
    assert psnr(moving[blades], true[blades]) < 22
    assert psnr(moving[wall], true[wall]) > 35
    assert psnr(still[blades], true[blades]) > 35


def test_pan_moves_by_its_velocity():
    pan = sim.Pan(64, 48)
    # After one whole period of the swing only the steady motion is left: take it back by whole pixels.
    pan.velocity = (0.5, 0.25)
    before, after = pan.light(0), pan.light(pan.swing_period)
    np.testing.assert_allclose(after, np.roll(before, (250, 500), axis=(0, 1)), atol=1e-5)
    # The swing makes it faster and slower in between.
    pan.velocity = (0.5, 0.0)
    quarter = np.roll(before, 125 + 12, axis=1)  # 250 planes and 24 ahead, at half a pixel each
    np.testing.assert_allclose(pan.light(250), quarter, atol=1e-5)


def test_pan_stays_sharp_between_pixels():
    pan = sim.Pan(64, 48)
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
    grey, colour = sim.make_scene("pan", 64, 48), sim.make_scene("pan", 64, 48, colour=True)
    picture = sim.truth(colour, 30)
    assert picture.shape == (48, 64, 3)
    assert np.abs(np.diff(picture, axis=-1)).mean() > 0.05
    assert np.corrcoef(picture.mean(-1).ravel(), grey.light(30).ravel())[0, 1] > 0.9


def test_golden_fan():
    fired = spikes(sim.make_scene("fan", 80, 48, seed=3), planes=60, start=1170, seed=4)
    np.testing.assert_allclose(fired.reshape(60, 4, 12, 5, 16).mean(axis=(0, 2, 4)), GOLDEN_FAN, atol=2e-3)


# --- Videos ---


def frames(levels, height=5, width=8):
    return [np.full((height, width), level, np.uint8) for level in levels]


def test_video_frames_are_blended():
    scene = sim.VideoScene(lambda: frames([0, 255, 51]), planes_per_frame=10)
    assert (scene.width, scene.height, scene.planes) == (8, 5, 20)
    for t, expected in [(0, 0), (5, 0.5), (10, 1), (15, 0.6), (20, 0.2), (2.5, 0.25)]:  # the last goes back
        picture = sim.truth(scene, t)
        assert picture.dtype == np.float32
        np.testing.assert_allclose(picture, expected, atol=1e-6)


def test_video_in_colour():
    levels = np.uint8([[[0, 100, 200]]])
    scene = sim.VideoScene(lambda: [np.tile(levels, (5, 8, 1)), np.tile(levels + 55, (5, 8, 1))], planes_per_frame=10)
    assert (scene.width, scene.height, scene.planes) == (8, 5, 10)
    np.testing.assert_allclose(sim.truth(scene, 5)[2, 3] * 255, [27.5, 127.5, 227.5], atol=1e-3)


def test_video_is_streamed():
    read = 0

    def endless():
        nonlocal read
        for level in itertools.cycle([10, 200]):
            read += 1
            yield np.full((4, 8), level, np.uint8)

    scene = sim.VideoScene(endless, planes_per_frame=2)
    assert read == 2
    counts = spikes(scene, planes=20, full_scale_rate=1).sum(axis=0)
    assert read == 11
    assert counts.mean() == pytest.approx(20 * 105 / 255, abs=0.5)


def test_video_errors():
    with pytest.raises(UsageError, match="too short"):
        sim.VideoScene(lambda: frames([1]), 10)
    with pytest.raises(UsageError, match=r"of one size: number 2 is not \(8x5 and 9x5\)"):
        sim.VideoScene(lambda: frames([1]) + frames([1], width=9), 10)
    for number in (0, float("nan"), float("inf"), 1e308):
        with pytest.raises(UsageError, match="more than 0, and 1,000,000 at most"):
            sim.VideoScene(lambda: frames([1, 2]), number)
    uneven = sim.VideoScene(lambda: frames([1, 2]) + frames([1], width=9), 10)
    with pytest.raises(UsageError, match="number 3 is not"):
        uneven.light(15)
    with pytest.raises(UsageError):
        uneven.light(15)
    scene = sim.VideoScene(lambda: frames([1, 2]), 10)
    with pytest.raises(UsageError, match="before the first frame"):
        scene.light(-1)
    with pytest.raises(UsageError, match="too short"):
        spikes(scene, planes=11)
    assert spikes(scene, planes=10).shape == (10, 5, 8)


# --- sequences.json ---


def test_sequence_entry_has_the_form_of_the_evaluation_set():
    entry = sim.sequence_entry("out/my_fan.dat", sim.Fan(48, 32), [40, 50], planes=101, noise=sim.SensorNoise())
    assert entry == {
        "name": "my_fan",
        "file": "my_fan.dat",
        "width": 48,
        "height": 32,
        "planes": 101,
        "full_scale_rate": 0.6,
        "sensor_noise": True,
        "centers": [40, 50],
        "truth": ["my_fan_000040.png", "my_fan_000050.png"],
    }
    assert sim.sequence_entry("a.dat", sim.Fan(48, 32), [40], planes=101, bayer="rggb")["bayer"] == "rggb"
