"""Raw captures of the 1000x1000 camera: half-rows with trailers.

A plane is 1000 rows of two half-rows of 64 bytes: 500 pixels, then 12 bits, the trailer: 10 bits for the line (1-500)
and 2 for the channel (0-3). A plane starts behind a half-row of channel 3, line 500, and its first half-row is of
channel 0, line 500; the file itself may start anywhere. In which order the lines come in between is learnt from the
file. Every half-row is put where its trailer says, so rows that were lost or damaged do not shift the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikerecon.recording.layouts import Bytes
from spikerecon.recording.sources import StoredSource
from spikerecon.recording.stores import Store, spans

SIZE = (1000, 1000)
PLANE_BYTES = 128_000
HALF_ROW = 64  # bytes
HALF_ROWS = 2000
FIRST, LAST = 500 | 0 << 10, 500 | 3 << 10  # trailers of a plane's first and last half-row
HEAD_PLANES = 16  # looked at to recognize the layout
CHAIN = 4  # half-rows with the right trailers one behind the other are no chance
REPORTED_PLANES = 20  # damaged planes that are reported one by one
PROBES = 2000  # places at which a recording is looked at for gaps, one a plane at most

Trailers = NDArray[np.uint16]


def trailers_of(halves: Bytes) -> Trailers:
    """Trailers (line | channel << 10) of half-rows (..., 64)."""
    return _trailers(halves[..., 62], halves[..., 63])


def _trailers(low: Bytes, high: Bytes) -> Trailers:
    return np.bitwise_or(low >> np.uint8(4), high.astype(np.uint16) << np.uint16(4), dtype=np.uint16)


def written_trailers() -> Trailers:
    """An order of lines to write: from both edges to the middle, upper half by channels 0 and 1, lower by 2 and 3."""
    row, half = np.divmod(np.arange(HALF_ROWS), 2)
    line = np.where(row < 500, 500 - row, row - 499)
    return (line | (2 * (row >= 500) + half) << 10).astype(np.uint16)


def decode(halves: Bytes) -> Bytes:
    """Packed rows (planes, 1000, 125) of half-rows (planes, 1000, 2, 64)."""
    rows = np.empty((*halves.shape[:2], 125), np.uint8)
    left, right = halves[:, :, 0], halves[:, :, 1]
    # The right half starts in the middle of a byte.
    rows[:, :, :62] = left[:, :, :62]
    rows[:, :, 62] = left[:, :, 62] & 15 | right[:, :, 0] << 4
    np.left_shift(right[:, :, 1:63], 4, out=rows[:, :, 63:])
    rows[:, :, 63:] |= right[:, :, :62] >> 4
    return rows


def encode(rows: Bytes) -> Bytes:
    """Stored planes, uint8 (planes, 128000), of packed rows (planes, 1000, 125): undoes `decode`."""
    halves = np.zeros((len(rows), 1000, 2, HALF_ROW), np.uint8)
    halves[:, :, 0, :62] = rows[:, :, :62]
    halves[:, :, 0, 62] = rows[:, :, 62] & 15
    halves[:, :, 1, :63] = rows[:, :, 62:] >> 4
    halves[:, :, 1, :62] |= rows[:, :, 63:] << 4
    trailers = written_trailers().reshape(1000, 2)
    halves[:, :, :, 62] |= (trailers << 4).astype(np.uint8)
    halves[:, :, :, 63] = trailers >> 4
    return halves.reshape(len(rows), PLANE_BYTES)


def learn_trailers(store: Store) -> Trailers | None:
    """The trailers of a plane, in order, if the store starts like a raw capture: uint16 (2000,)."""
    head = store.read(0, min(store.size, HEAD_PLANES * PLANE_BYTES))
    if len(head) < 2 * PLANE_BYTES:
        return None
    trailers = _trailers_anywhere(head)
    starts = 2 + np.flatnonzero((trailers[:-HALF_ROW] == LAST) & (trailers[HALF_ROW:] == FIRST))
    starts = starts[np.isin(starts + PLANE_BYTES, [*starts, len(head)])]
    if not len(starts):
        return None
    planes = [trailers_of(head[start : start + PLANE_BYTES].reshape(-1, HALF_ROW)) for start in starts]
    order = np.sort(planes, axis=0)[len(planes) // 2]  # the median: a damaged plane does not count
    lines = order & 1023
    distinct = len(np.unique(order)) == HALF_ROWS
    return order if distinct and lines.min() == 1 and lines.max() == 500 else None


def _trailers_anywhere(raw: Bytes) -> Trailers:
    """What the trailer would be if a half-row's last two bytes were at each of the bytes."""
    return _trailers(raw[:-1], raw[1:])


@dataclass(frozen=True)
class _Run:
    """Bytes [begin, end) of a file without a gap, and how many bytes were lost before them.

    Where a gap begins is not known to the byte, so its two runs overlap; trailers tell what belongs to which.
    """

    begin: int
    end: int
    lost: int


@dataclass(frozen=True)
class _Place:
    """A half-row in a file, and where it is in its plane (in bytes)."""

    offset: int
    phase: int


class RawSource(StoredSource):
    """Planes of a raw capture, numbered by their starts.

    Gaps are found when it is opened: where two neighbouring probes are in step nothing is missing in between (but for
    whole planes, which leave no trace), and else bisection finds it. There are so many probes that gaps which add up to
    whole planes are seen, too, unless they lie close to each other; a long file has no more of them than a short one.
    Bytes that were put in count as the loss of what a plane has besides. Trailers are checked again in all that is
    read; rows that are missing or damaged are dark.
    """

    def __init__(self, store: Store, trailers: Trailers) -> None:
        super().__init__(store)
        self._trailers = trailers
        self._number = np.full(4096, -HALF_ROWS, np.int16)
        self._number[trailers] = np.arange(HALF_ROWS, dtype=np.int16)
        self._reported: set[int] = set()
        everywhere = (self._locate(start, store.size) for start in range(0, store.size, PLANE_BYTES))
        place = next(place for place in everywhere if place)  # where trailers were learnt there are some
        self.first_byte = (place.offset - place.phase) % PLANE_BYTES
        self._last = place
        self._runs = [_Run(0, store.size, 0)]
        self._count()

    def refresh(self) -> None:
        self.store.refresh()
        self._count()

    def gaps(self) -> list[int]:
        """The plane at which each gap begins, at the earliest."""
        pairs = zip(self._runs, self._runs[1:], strict=False)
        return [max(self._virtual(after.begin, before.lost), 0) // PLANE_BYTES for before, after in pairs]

    def read(self, start: int, stop: int) -> Bytes:
        stop = min(stop, self.planes)
        start = min(start, stop)
        first, last = start * HALF_ROWS, stop * HALF_ROWS
        halves = np.zeros((last - first, HALF_ROW), np.uint8)
        sound = np.zeros(last - first, bool)
        for run in self._runs:
            begin = max(first, -(-self._virtual(run.begin, run.lost) // HALF_ROW))
            end = min(last, self._virtual(run.end, run.lost) // HALF_ROW)
            if begin >= end:
                continue
            shift = self.first_byte - run.lost
            part = self.store.read(begin * HALF_ROW + shift, end * HALF_ROW + shift).reshape(-1, HALF_ROW)
            right = trailers_of(part) == self._trailers[np.arange(begin, end) % HALF_ROWS]
            if end - begin == last - first and right.all():
                halves, sound = part, right
                break
            halves[begin - first : end - first][right] = part[right]
            sound[begin - first : end - first] |= right
        if not sound.all():
            self._report(start, sound.reshape(-1, 1000, 2))
        return decode(halves.reshape(-1, 1000, 2, HALF_ROW))

    def _virtual(self, offset: int, lost: int) -> int:
        """Where a byte would be if the file started with plane 0 and nothing was lost."""
        return offset - self.first_byte + lost

    def _count(self) -> None:
        """Finds the gaps in what has not been looked at yet, and counts the planes."""
        size = self.store.size
        for probe in self._probes(self._last.offset, size):
            for before, after in self._gaps(self._last, probe):
                run = self._runs[-1]
                # What is found behind a gap may begin before it: half of what was before and half of what was behind.
                self._runs[-1] = _Run(run.begin, min(after.offset + HALF_ROW, size), run.lost)
                lost = run.lost + _lost(before, after)
                self._runs.append(_Run(self._resumes(before, after, run.lost, lost), size, lost))
            self._last = probe
        run = self._runs[-1]
        self._runs[-1] = _Run(run.begin, size, run.lost)
        self.planes, self.leftover_bytes = divmod(max(self._virtual(size, run.lost), 0), PLANE_BYTES)

    def _probes(self, start: int, stop: int) -> Iterator[_Place]:
        """Half-rows behind byte `start`, in order: at even distances, and as near to byte `stop` as there are any."""
        found = start
        for wanted in range(start + PLANE_BYTES, stop, max(PLANE_BYTES, (stop - start) // PROBES)):
            if wanted > found and (place := self._locate(wanted, stop)) is not None:
                yield place
                found = place.offset
        back = PLANE_BYTES
        while stop - back > found:
            if (place := self._locate(stop - back, stop)) is not None:
                yield place
                return
            back *= 2

    def _gaps(self, before: _Place, after: _Place) -> Iterator[tuple[_Place, _Place]]:
        """Pairs of half-rows with a gap between them, as close to it as can be told."""
        if not _lost(before, after):
            return
        for share in (0.5, 0.25, 0.75):  # there may be damage in the middle
            middle = before.offset + 1 + int(share * (after.offset - before.offset))
            found = self._locate(middle, after.offset)
            if found is not None:
                yield from self._gaps(before, found)
                yield from self._gaps(found, after)
                return
        yield before, after

    def _resumes(self, before: _Place, after: _Place, lost_before: int, lost: int) -> int:
        """The byte behind a gap from which on half-rows are whole."""
        earliest = max(before.offset, after.offset - HEAD_PLANES * PLANE_BYTES)
        first = -(-self._virtual(earliest, lost) // HALF_ROW)
        last = self._virtual(after.offset, lost) // HALF_ROW + CHAIN
        shift = self.first_byte - lost
        part = self.store.read(first * HALF_ROW + shift, last * HALF_ROW + shift).reshape(-1, HALF_ROW)
        right = trailers_of(part) == self._trailers[np.arange(first, last) % HALF_ROWS]
        number = first + int((right[:-1] & right[1:]).argmax())
        if (lost - lost_before) % HALF_ROW:  # its trailer is right, but what is before that may be of another half-row
            number += 1
        return number * HALF_ROW + shift

    def _locate(self, start: int, stop: int) -> _Place | None:
        """The first half-row that starts at byte `start` or later and is in order with those behind it."""
        reach = CHAIN * HALF_ROW
        for length in (16 * HALF_ROW, 2 * PLANE_BYTES):
            raw = self.store.read(start, max(start, min(stop, start + length)))
            if len(raw) < reach:
                return None
            number = self._number[_trailers_anywhere(raw)[HALF_ROW - 2 :]]
            count = len(raw) - reach + 1
            chained = number[:count] >= 0
            for i in range(1, CHAIN):
                chained &= number[i * HALF_ROW :][:count] == (number[:count] + i) % HALF_ROWS
            if chained.any():
                at = int(chained.argmax())
                return _Place(start + at, int(number[at]) * HALF_ROW)
        return None

    def _report(self, start: int, sound: NDArray[np.bool_]) -> None:
        bad = np.logical_not(sound.all(2))
        for plane in np.flatnonzero(bad.any(1)).tolist():
            number = start + plane
            if number in self._reported or len(self._reported) > REPORTED_PLANES:
                continue
            self._reported.add(number)
            if len(self._reported) > REPORTED_PLANES:
                self.notes.append("more planes have rows missing or damaged; they are not listed")
                return
            rows = spans(np.flatnonzero(bad[plane]).tolist())
            which = ", ".join(rows[:5]) + (f" and {len(rows) - 5} more places" if len(rows) > 5 else "")
            verb = "row {} is" if bad[plane].sum() == 1 else "rows {} are"
            self.notes.append(f"plane {number}: {verb.format(which)} missing or damaged, and left dark")


def _lost(before: _Place, after: _Place) -> int:
    """Bytes missing between two half-rows, less whole planes."""
    return (after.phase - before.phase - (after.offset - before.offset)) % PLANE_BYTES
