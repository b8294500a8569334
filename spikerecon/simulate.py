"""Light to spikes: an integrate-and-fire sensor, and what it records of a scene."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikerecon.colour import check_pattern, mosaic
from spikerecon.errors import UsageError
from spikerecon.recording import Recording, from_rows, pack
from spikerecon.scenes import Scene, check_seed, make_scene

FULL_SCALE_RATE = 0.6


@dataclass(frozen=True)
class SensorNoise:
    """What a real sensor adds, as far as a capture in the dark tells. Spreads are standard deviations, relative to the
    nominal value."""

    threshold_spread: float = 0.04  # of the firing threshold, pixel by pixel
    row_spread: float = 0.01  # of the gain, row by row
    dark_current: float = 0.002  # spikes per plane without any light, of half of the pixels less
    dark_spread: float = 0.9  # of its logarithm, pixel by pixel: most of the noise where light is short
    photons_per_spike: float = 2000.0  # shot noise: a pixel counts photons (the capture's intervals allow no fewer)
    stuck_fraction: float = 1e-4  # pixels that fire in every plane
    dead_fraction: float = 1e-4  # pixels that never fire


class SpikeSensor:
    """Integrate-and-fire pixels (STIR paper, equation 1): each fires when the light it collected reaches 1.

    A spike takes its light off, what is left over stays. Pixels start at a random phase, uniform in [0, 1),
    so that without noise the number of spikes of a pixel is exactly floor(phase + the sum of its light).
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator, noise: SensorNoise | None = None):
        self.charge = rng.random((height, width), dtype=np.float32)
        self._rng = rng
        self._noise = noise
        if noise is not None:
            threshold = 1 + noise.threshold_spread * rng.standard_normal((height, width), np.float32)
            rows = 1 + noise.row_spread * rng.standard_normal((height, 1), np.float32)
            self._gain = rows / np.maximum(threshold, 0.1)
            lot = rng.random((height, width))
            self._stuck = lot < noise.stuck_fraction
            self._dead = lot >= 1 - noise.dead_fraction
            spread = noise.dark_spread * rng.standard_normal((height, width), np.float32)
            self._dark = np.float32(noise.dark_current) * np.exp(spread)

    def expose(self, light: ArrayLike) -> NDArray[np.uint8]:
        """Collect the light of one plane; returns its spikes: uint8 (height, width), 1 where a pixel fired.

        `light` is (height, width) in spikes per plane. A pixel fires at most once in a plane: light above 1
        is lost.
        """
        light = np.asarray(light, np.float32)
        if self._noise is not None:
            light = self._disturb(light, self._noise)
        self.charge += np.clip(light, 0, 1)
        fired = self.charge >= 1
        self.charge -= fired
        return fired.view(np.uint8)

    def _disturb(self, light: NDArray[np.float32], noise: SensorNoise) -> NDArray[np.float32]:
        light = light + self._dark
        if np.isfinite(noise.photons_per_spike):
            photons = self._rng.poisson(light * noise.photons_per_spike)
            light = (photons / noise.photons_per_spike).astype(np.float32)
        light = light * self._gain
        light[self._stuck] = 1
        light[self._dead] = 0
        return light


def simulate(
    scene: Scene,
    *,
    planes: int,
    full_scale_rate: float = FULL_SCALE_RATE,
    start: int = 0,
    seed: int = 0,
    noise: SensorNoise | None = None,
    bayer: str | None = None,
    chunk: int = 100,
) -> Iterator[NDArray[np.uint8]]:
    """Film `planes` planes of a scene from plane `start` on, in constant memory.

    Yields packed rows, uint8 (up to `chunk` planes, height, ceil(width / 8)). Intensity 1 fires
    `full_scale_rate` spikes per plane; the light of a plane is the mean of two instants in it. `seed` is the
    sensor's: the same arguments give the same bytes, whatever `chunk` is. With `bayer`, one of
    `names.BAYER_PATTERNS`, a scene in colour is filmed by a colour camera. Raises UsageError for a value out of range,
    and, when it is filmed, for a scene in colour without a pattern or the other way round.
    """
    if not 0 < full_scale_rate <= 1:
        raise UsageError(f"full-scale rate {full_scale_rate} is outside (0, 1] spikes per plane")
    if planes < 1 or chunk < 1:
        raise UsageError(f"cannot simulate {planes} planes, {chunk} at a time: both must be at least 1")
    check_seed(seed)
    if bayer is not None:
        check_pattern(bayer)
    sensor = SpikeSensor(scene.height, scene.width, np.random.default_rng(seed), noise)
    scale = np.float32(full_scale_rate / 2)

    def light(k: int) -> NDArray[np.float32]:
        twice = scene.light(k + 0.25) + scene.light(k + 0.75)
        if bayer is not None:
            twice = mosaic(twice, bayer)
        elif twice.ndim == 3:
            raise UsageError("a scene in colour needs a colour camera: give its Bayer pattern")
        return scale * twice

    def chunks() -> Iterator[NDArray[np.uint8]]:
        for first in range(start, start + planes, chunk):
            instants = range(first, min(first + chunk, start + planes))
            yield pack(np.stack([sensor.expose(light(k)) for k in instants]))

    return chunks()


def film(name: str, *, planes: int, start: int = 0, width: int = 400, height: int = 250, seed: int = 0) -> Recording:
    """A recording in memory of a built-in scene, without noise, at the default rate; see `simulate`."""
    scene = make_scene(name, width, height, seed)
    rows = np.concatenate(list(simulate(scene, planes=planes, start=start, seed=seed)))
    return from_rows(rows, width, f"built-in {name}")


def sequence_entry(
    file: str | Path,
    scene: Scene,
    centers: Sequence[int],
    *,
    planes: int,
    full_scale_rate: float = FULL_SCALE_RATE,
    noise: SensorNoise | None = None,
    bayer: str | None = None,
) -> dict[str, Any]:
    """What `sequences.json` says of a recording; its `truth` names picture files, one for each centre.

    Centres count from the first plane of the recording.
    """
    name = Path(file).stem
    return {
        "name": name,
        "file": Path(file).name,
        "width": scene.width,
        "height": scene.height,
        "planes": planes,
        "full_scale_rate": full_scale_rate,
        "sensor_noise": noise is not None,
        **({} if bayer is None else {"bayer": bayer}),
        "centers": list(centers),
        "truth": [f"{name}_{center:06d}.png" for center in centers],
    }
