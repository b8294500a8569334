"""The sensor, and what it records of a scene."""

import tracemalloc

import numpy as np
import pytest
from conftest import Still, spikes

from spikerecon import scenes
from spikerecon import simulate as sim
from spikerecon.errors import UsageError

NO_NOISE = sim.SensorNoise(
    threshold_spread=0,
    row_spread=0,
    dark_current=0,
    dark_spread=0,
    photons_per_spike=np.inf,
    stuck_fraction=0,
    dead_fraction=0,
)


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
        scene = scenes.make_scene("fan", 37, 26)
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

    scene = scenes.make_scene("fan", 64, 48)
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


# --- sequences.json ---


def test_sequence_entry_has_the_form_of_the_evaluation_set():
    entry = sim.sequence_entry("out/my_fan.dat", scenes.Fan(48, 32), [40, 50], planes=101, noise=sim.SensorNoise())
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
    assert sim.sequence_entry("a.dat", scenes.Fan(48, 32), [40], planes=101, bayer="rggb")["bayer"] == "rggb"
