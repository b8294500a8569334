"""Windows of planes and their centres.

Centre c is the instant at which plane c starts. A window of n planes around it is [c - n // 2, c - n // 2 +
n), that is [c - 30, c + 30) for 60 planes, [c - 30, c + 31) for the 61 of published weights.
"""

import re
import sys

from spikerecon.errors import UsageError

WINDOW = 60


def stop_of(planes: int | None, start: int, end: int | None) -> int | None:
    """The plane to stop before: `end`, by default that of the recording (None: not known).

    Raises UsageError where the recording ends before, and where there is nothing from `start` on.
    """
    if planes is not None and (start >= planes or (end or 0) > planes):
        beyond = f"start {start}" if start >= planes else f"end {end}"
        raise UsageError(f"{beyond} is out of range: this recording has {planes} planes")
    stop = planes if end is None else end
    if start < 0 or (stop is not None and stop <= start):
        raise UsageError(f"planes {start} to {stop} are no range; planes count from 0")
    return stop


def centers(
    planes: int | None, *, start: int = 0, end: int | None = None, step: int = 20, window: int = WINDOW
) -> range:
    """Centres of the windows that fit into planes [start, end), the first at start + window // 2.

    `planes` is the length of the recording, or None for a stream whose end is not known: without `end` the
    range then goes on for ever, and whoever reads stops where planes run out. Raises UsageError for a step
    under 1 and for a range that is empty, not inside the recording, or shorter than one window.
    """
    if step < 1:
        raise UsageError(f"step {step} is out of range: it counts planes, from 1")
    stop = stop_of(planes, start, end)
    if stop is None:
        stop = sys.maxsize
    before = window // 2
    found = range(start + before, stop - (window - before) + 1, step)
    if not found:
        raise UsageError(f"planes {start} to {stop} are {stop - start}, fewer than one window of {window}")
    return found


def check_center(center: int, planes: int | None, before: int, after: int) -> None:
    """Raises UsageError unless [center - before, center + after) lies in a recording of that many planes.

    With `planes` None (a stream whose end is not known) only its start is checked.
    """
    if planes is None:
        if center < before:
            raise UsageError(f"center {center} is out of range: centers start at {before}")
    elif planes < before + after:
        raise UsageError(f"a recording of {planes} planes has no center: a window takes {before + after}")
    elif not before <= center <= planes - after:
        takes = f"takes centers {before} to {planes - after}"
        raise UsageError(f"center {center} is out of range: this recording of {planes} planes {takes}")


def parse_range(text: str) -> range:
    """The range of a text `START:STOP:STEP` in planes, STOP left out as in Python. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,18}):(\d{1,18}):(\d{1,18})", text.strip(), re.ASCII)
    if not match or not int(match[3]) or not (found := range(*map(int, match.groups()))):
        raise UsageError(f"range {text!r} is not START:STOP:STEP in planes, such as 30:1000:20")
    return found


def parse_moment(text: str, rate: float) -> int:
    """The plane that a text names: a number (`1200`) or a time (`0.5s`, `12.5ms`) at `rate` planes a second.

    Times go to the nearest plane. Raises UsageError.
    """
    match = re.fullmatch(r"(\d{1,18})|(\d{1,18}\.?\d*|\.\d+)\s*(ms|s)", text.strip(), re.ASCII)
    if not match:
        raise UsageError(f"{text!r} is neither a plane nor a time, such as 1200, 0.5s or 12.5ms")
    if match[1]:
        return int(match[1])
    plane = float(match[2]) * rate / (1000 if match[3] == "ms" else 1)
    if plane > sys.maxsize:
        raise UsageError(f"{text!r} at {rate:g} planes a second is beyond all planes")
    return round(plane)
