"""Flawed pixels of the sensor: dead ones, which never fire, and stuck ones, which always do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from spikerecon.errors import RecordingError
from spikerecon.recording.opening import Recording
from spikerecon.recording.rates import COUNTED_RUN, spike_counts

LEAST = 4
"""Spikes a run of planes that the neighbours of a dead pixel have at least; see `flaws_in`."""

Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Flaws:
    """Flawed pixels: `dead` and `stuck`, bool (height, width).

    `spacing` is how far apart pixels of the same colour are: 1, or 2 under a Bayer filter.
    """

    dead: NDArray[np.bool_]
    stuck: NDArray[np.bool_]
    spacing: int = 1

    def __str__(self) -> str:
        return f"{self.stuck.sum()} stuck and {self.dead.sum()} dead pixels"


def find_flaws(recording: Recording, start: int = 0, end: int | None = None, *, spacing: int = 1) -> Flaws:
    """The flawed pixels of a recording: `flaws_in` the `spike_counts` of its planes between `start` and `end`.

    Raises UsageError for a stream, of which nothing would be left to reconstruct, and as `spike_counts`.
    """
    recording.check_whole("find its flaws in a flat field (--flat)")
    return flaws_in(*spike_counts(recording, start, end), spacing=spacing)


def flaws_in(counts: Counts, planes: int, *, spacing: int = 1) -> Flaws:
    """Pixels that never fire, or always, where nothing in the picture explains it.

    counts: spikes of each pixel in `planes` planes, (height, width), as `spike_counts` has them. Flaws beside each
    other, and on sharp edges that stand still, are left alone: `flaws_of_flat` finds those too.
    """
    fewest, most = _neighbours(counts, spacing)
    runs = _runs(planes)
    # A pixel collects light until it fires, so its spikes are nearly regular: one that is silent has had the light of
    # less than one spike in each run of planes. Where its eight neighbours have had four times as much or more, it is
    # no part of something dark, unless that ends right there. Then neighbours differ: those at the corners of the
    # darkest pixel of a shade have twice the light of those at its sides, as light rises with the square of the
    # distance, and at an edge they differ more. So they must agree better than that. In the dark, silence says nothing.
    dead = (counts == 0) & (fewest >= LEAST * runs) & (most <= 1.5 * fewest + runs)
    # A point of light that saturates its pixel lights the neighbours too: spread as a Gaussian it gives those at the
    # sides more than half of its light, or else more than twice that of those at the corners. So neither may be,
    # unless all of them are nearly dark, as no lens draws so sharply.
    agree = most <= 2 * fewest + planes / 20
    return Flaws(dead, _saturated(counts, most, planes) & agree, spacing)


def flaws_of_flat(recording: Recording, *, spacing: int = 1) -> Flaws:
    """The flawed pixels of a sensor, from a recording of something evenly lit.

    Here every pixel can be held against the median of the 5x5 around it: those under half of it count as dead, those
    over twice of it, and those that always fire, as stuck. Raises RecordingError where it is too dark or too bright
    to tell.
    """
    counts, planes = spike_counts(recording)
    least, usual = 2 * LEAST * _runs(planes), np.median(counts)
    if usual < least or usual > planes / 2:
        fault = "dark" if usual < least else "bright"
        wanted = f"half of its pixels fire {usual:g} times in {planes} planes, and {least} to {planes // 2} are wanted"
        raise RecordingError(f"{recording.name}: is too {fault} for a flat field: {wanted}")
    reach = 2 * spacing
    windows = sliding_window_view(np.pad(counts, reach, mode="reflect"), (2 * reach + 1, 2 * reach + 1))
    around = np.stack([np.median(row, axis=(1, 2)) for row in windows[:, :, ::spacing, ::spacing]])
    return Flaws(counts < around / 2, (counts > 2 * around) | _saturated(counts, around, planes), spacing)


def _runs(planes: int) -> int:
    """Runs of planes, one behind the other, that `spike_counts` counts in, or more."""
    return -(-planes // COUNTED_RUN)


def _saturated(counts: Counts, around: NDArray[Any], planes: int) -> NDArray[np.bool_]:
    """Pixels that always fire where those around fire in half of the planes at most."""
    return (counts == planes) & (around <= planes / 2)


def _neighbours(counts: Counts, spacing: int) -> tuple[Counts, Counts]:
    """The fewest and the most spikes among the eight neighbours of each pixel; the picture is mirrored at its edges."""
    height, width = counts.shape
    padded = np.pad(counts, spacing, mode="reflect")
    steps = [(down, across) for down in range(3) for across in range(3) if (down, across) != (1, 1)]
    around = [padded[spacing * down :, spacing * across :][:height, :width] for down, across in steps]
    return np.minimum.reduce(around), np.maximum.reduce(around)
