"""How often the pixels fire: what is needed to look at a recording, and to show it at the right brightness."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import UsageError
from spikerecon.recording.layouts import MIN_PLANES, unpack
from spikerecon.recording.opening import Recording, spread
from spikerecon.windows import stop_of

GOOD_RATE = 0.045
"""Spikes per plane of a usual pixel in a recording that is bright enough for STIR.

Measured with the bundled weights on the built-in scenes at 0.03 spikes a plane for white, with a sensor's noise: two
to three planes in one were best, where much stands still and where everything moves.
"""

COUNTED_RUN = 200
"""Planes one behind the other in which spikes are counted, up to three times in a recording."""

_SPIKES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)  # in each byte


def spike_counts(recording: Recording, start: int = 0, end: int | None = None) -> tuple[NDArray[np.uint32], int]:
    """Spikes of each pixel, uint32 (height, width), between planes `start` and `end`, and in how many planes.

    Counted in `COUNTED_RUN` planes each from the start, the middle and the end, or in all if there are no more than
    three times as many; of a stream, in the first of them. Raises UsageError for planes that the recording does not
    have; of a stream, where it has none from `start` on.
    """
    last, most = stop_of(recording.planes, start, end), 3 * COUNTED_RUN
    if recording.planes is None or last is None:
        ranges = [range(start, start + most if end is None else min(end, start + most))]
    else:
        ranges = [range(start + part.start, start + part.stop) for part in spread(last - start, COUNTED_RUN)]
    counts, planes = np.zeros((recording.height, recording.width), np.uint32), 0
    for part in ranges:
        for first in range(part.start, part.stop, 20):
            rows = recording.read(first, min(first + 20, part.stop))
            counts += unpack(rows, recording.width).sum(0, dtype=np.uint32)
            planes += len(rows)
    if not planes:
        raise UsageError(f"plane {start} is beyond the end of {recording.name}")
    return counts, planes


def rate_over_time(recording: Recording) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Plane numbers, int64 (N,), and the mean firing rate of all pixels at each, float64 (N,), in spikes per plane:
    over 20 planes at up to 200 even places."""
    planes = recording.planes or 0
    starts = np.unique(np.linspace(0, max(planes - 20, 0), min(200, planes // 20 + 1), dtype=np.int64))
    spikes = [_SPIKES[recording.read(int(start), int(start) + 20)].mean() for start in starts]
    return starts + 10, np.array(spikes) * math.ceil(recording.width / 8) / recording.width


@dataclass(frozen=True)
class RateSummary:
    """Over the pixels: mean and percentiles in spikes per plane, and how many never or always fired."""

    mean: float
    p1: float
    p50: float
    p99: float
    p99_9: float
    never: int
    always: int


def rate_summary(rates: NDArray[np.float32]) -> RateSummary:
    """Sums up the firing rates of all pixels, float32 (height, width), in spikes per plane."""
    p1, p50, p99, p99_9 = np.percentile(rates, (1, 50, 99, 99.9)).tolist()
    never, always = int((rates == 0).sum()), int((rates == 1).sum())
    return RateSummary(float(rates.mean(dtype=np.float64)), p1, p50, p99, p99_9, never, always)


def auto_gain(recording: Recording, start: int = 0, end: int | None = None) -> float:
    """The factor that turns firing rates into display values in [0, 1] for a whole recording.

    Sets to white what 99.5 % of the pixels stay below, by windows of 60 planes from up to five places between planes
    `start` and `end` (of a stream: the first window). Pixels that never or always fire in a window do not count:
    they tell of no light, or are stuck. It is 1.0 where nothing is lit. Raises UsageError for planes that the recording
    does not have, or fewer than 60.
    """
    rates = _window_rates(recording, start, end)
    lit = rates[(rates > 0) & (rates < 1)]
    return float(1 / np.percentile(lit, 99.5)) if len(lit) else 1.0


def auto_merge(recording: Recording, start: int = 0, end: int | None = None, *, window: int = MIN_PLANES) -> int:
    """How many planes of a dark recording to merge into one: 1 where it is bright enough.

    So many that the median pixel fires in about `GOOD_RATE` of the merged planes, but no more than the brightest
    pixels allow, as one that fires more than once in as many planes loses spikes, and no more than leave a window of
    `window` merged planes. Looks where `auto_gain` looks, and raises what that raises.
    """
    rates = _window_rates(recording, start, end).mean(0)
    lit = rates[(rates > 0) & (rates < 1)]
    if not len(lit):
        return 1
    median, bright = np.percentile(lit, (50, 99))
    wanted = min(round(GOOD_RATE / median), int(1 / bright))
    last = recording.planes if end is None else end
    return max(1, wanted if last is None else min(wanted, (last - start) // window))


def _window_rates(recording: Recording, start: int, end: int | None) -> NDArray[np.float32]:
    """Firing rates, float32 (windows, height, width), of 60 planes each at up to five places.

    Raises UsageError where there are no 60 planes from `start` on.
    """
    stop = stop_of(recording.planes, start, end)
    if stop is not None and stop - start < MIN_PLANES:
        raise UsageError(f"planes {start} to {stop} are fewer than one window of {MIN_PLANES}")
    starts = [start]
    if recording.planes is not None and stop is not None:
        starts = np.linspace(start, stop - MIN_PLANES, 5, dtype=int).tolist()
    windows = []
    for first in dict.fromkeys(starts):
        rows = recording.read(first, first + MIN_PLANES)
        if len(rows) < MIN_PLANES:
            there = f"{len(rows)} planes from {first} on: fewer than one window of {MIN_PLANES}"
            raise UsageError(f"{recording.name}: ends at plane {recording.planes}, which leaves {there}")
        windows.append(unpack(rows, recording.width).mean(0, dtype=np.float32))
    return np.stack(windows)
