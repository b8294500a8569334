"""Windows of planes and their centres.

Centre c is the instant at which plane c starts. A window of n planes around it is [c - n // 2, c - n // 2 +
n), that is [c - 30, c + 30) for 60 planes, [c - 30, c + 31) for the 61 of published weights.
"""

import operator
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
    planes: int | None,
    *,
    start: int = 0,
    end: int | None = None,
    step: int = 20,
    before: int = WINDOW // 2,
    after: int = WINDOW // 2,
) -> range:
    """Centres c whose windows [c - before, c + after) fit into planes [start, end), the first at start + before.

    `planes` is the length of the recording, or None for a stream whose end is not known: without `end` the
    range then goes on for ever, and whoever reads stops where planes run out. Raises UsageError for a step
    out of range and for a range that is empty, not inside the recording, or shorter than one window.
    """
    try:
        step, start, end = operator.index(step), operator.index(start), None if end is None else operator.index(end)
    except TypeError:
        raise UsageError(f"step {step}, start {start} and end {end} are to be whole numbers of planes") from None
    if not 1 <= step <= sys.maxsize:
        raise UsageError(f"step {step} is out of range: it counts planes, from 1")
    stop = stop_of(planes, start, end)
    if stop is None:
        stop = sys.maxsize
    found = range(start + before, stop - after + 1, step)
    if not found:
        raise UsageError(f"planes {start} to {stop} are {stop - start}, fewer than one window of {before + after}")
    return found


def check_center(
    center: int, planes: int | None, before: int, after: int, *, start: int = 0, end: int | None = None
) -> None:
    """Raises UsageError unless [center - before, center + after) lies in planes [start, end) of a recording.

    With `planes` and `end` None (a stream whose end is not known) only its start is checked.
    """
    stop, first = stop_of(planes, start, end), start + before
    if stop is None:
        if center < first:
            raise UsageError(f"center {center} is out of range: centers start at {first}")
        return
    whole = start == 0 and end is None
    if stop - start < before + after:
        what = f"a recording of {planes} planes has" if whole else f"planes {start} to {stop} have"
        raise UsageError(f"{what} no center: a window takes {before + after}")
    if not first <= center <= stop - after:
        what = f"this recording of {planes} planes takes" if whole else f"planes {start} to {stop} take"
        raise UsageError(f"center {center} is out of range: {what} centers {first} to {stop - after}")


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
