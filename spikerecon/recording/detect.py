"""Which layout and size has a file without trailers? The byte count tells, then the content."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import RecordingError
from spikerecon.recording.layouts import MIN_PLANES, Geometry, known_geometries
from spikerecon.recording.stores import Store

NO_WHOLE = "are no whole number of planes of"


class Content:
    """Firing rates of up to 60 planes from the middle of the bytes of a store, as any geometry would read them."""

    def __init__(self, store: Store, total_bytes: int) -> None:
        self._store = store
        self.total_bytes = total_bytes
        self._agreement: dict[Geometry, tuple[float, float]] = {}

    def rates(self, geometry: Geometry) -> NDArray[np.float64]:
        """Firing rates (height, row bits), row headers included."""
        size = geometry.plane_bytes
        whole = self.total_bytes // size
        first = max(whole // 2 - 30, 0)
        planes = range(first, min(first + 60, whole))
        counts = np.zeros(size * 8, np.uint8)
        for plane in planes:
            counts += np.unpackbits(self._store.read(plane * size, (plane + 1) * size), bitorder="little")
        return (counts / max(len(planes), 1)).reshape(geometry.height, geometry.row_bits)

    def rows_agree(self, geometry: Geometry) -> tuple[float, float]:
        """Covariance of the rates of vertical neighbours, and their correlation.

        A wrong row length compares pixels that are no neighbours; a wrong plane length blurs the rates. Both
        lower the covariance, and the noise of single pixels does not add: the right geometry has the most.
        """
        if geometry not in self._agreement:
            self._agreement[geometry] = _neighbours_agree(self.rates(geometry)[:, : geometry.width])
        return self._agreement[geometry]

    def folds(self, geometry: Geometry, other: Geometry) -> bool:
        """Whether each row of `geometry` looks like several rows of `other`, next to each other.

        Rows that are two apart often agree nearly as well as neighbours, so `fits` cannot tell 2000 from 1000 columns.
        """
        if geometry.row_bits == other.row_bits or geometry.row_bits % other.row_bits:
            return False
        folded, correlation = _neighbours_agree(self.rates(geometry).reshape(-1, other.row_bits))
        return folded >= self.rows_agree(geometry)[0] and correlation > _chance(other)

    def fits(self, geometry: Geometry, rivals: list[Geometry]) -> bool:
        """Whether rows agree beyond chance, and clearly more than as any of the rivals.

        On simulated scenes and a real capture, rivals of the right geometry had up to 0.71 of its covariance,
        most under 0.5; wrong ones had a rival with 0.79 or more, or no correlation.
        """
        covariance, correlation = self.rows_agree(geometry)
        return correlation > _chance(geometry) and all(self.rows_agree(r)[0] < 0.75 * covariance for r in rivals)

    def header_unlike_picture(self, geometry: Geometry) -> bool:
        """Whether the columns after the pixels differ from those of the picture, in rate or spread."""
        if not geometry.layout.header_bits:
            return False
        rates = self.rates(geometry)
        columns = np.stack([rates.mean(0), rates.var(0)])
        picture, header = columns[:, : geometry.width], columns[:, geometry.width :]
        return bool((abs(header.mean(1) - picture.mean(1)) > 6 * picture.std(1) + 1e-9).any())


def _neighbours_agree(rates: NDArray[np.float64]) -> tuple[float, float]:
    """Covariance of the rates of vertical neighbours, and their correlation."""
    rates = rates - rates.mean()
    covariance = float((rates[1:] * rates[:-1]).sum() / rates.size)
    return covariance, covariance / max(float(rates.var()), 1e-12)


def _chance(geometry: Geometry) -> float:
    """The correlation that noise may have."""
    return max(0.05, 5 / math.sqrt(geometry.width * geometry.height))


@dataclass(frozen=True)
class Verdict:
    """The geometry of a file, why it is this one, and a doubt to warn of ("" for none)."""

    geometry: Geometry
    why: str
    doubt: str = ""


@dataclass(frozen=True)
class Question:
    """Which of the `candidates` a file is: what was given leaves those, in the order of `known_geometries`.

    The byte count of a file that is `growing` says nothing.
    """

    content: Content
    name: str
    candidates: list[Geometry]
    layout_given: bool
    size_given: bool
    growing: bool

    def settle(self) -> Verdict:
        """Raises RecordingError where nothing tells, or the byte count and the content tell different things."""
        total = self.content.total_bytes
        whole = [one for one in self.candidates if total % one.plane_bytes == 0 and not self.growing]
        whole = [one for one in whole if total // one.plane_bytes >= MIN_PLANES] or whole
        if len(self.candidates) == 1:
            verdict = self._as_given(self.candidates[0])
        elif len(whole) == 1:
            verdict = self._by_byte_count(whole[0])
        else:
            verdict = self._by_content(whole)
        size = verdict.geometry.plane_bytes
        cut_off = total % size and total > size and not self.growing
        return self._cut_off(verdict) if cut_off else verdict

    def _as_given(self, geometry: Geometry) -> Verdict:
        total, size = self.content.total_bytes, geometry.plane_bytes
        as_long = [one for one in known_geometries() if one.plane_bytes == size or total % one.plane_bytes == 0]
        doubt = ""
        if other := self._clearly_looks_like(as_long, geometry):
            doubt = f"its content looks like {other}; as {geometry}, which was given, rows do not agree"
        return Verdict(geometry, "layout and size as given", doubt)

    def _by_byte_count(self, geometry: Geometry) -> Verdict:
        fact = f"{self.content.total_bytes} bytes are whole planes of {geometry}"
        if other := self._clearly_looks_like(self.candidates, geometry):
            raise RecordingError(f"{self.name}: {fact}, but its content looks like {other}: give {self._missing}")
        why, doubt = f"{fact}, and not {MIN_PLANES} of another known layout", ""
        if not self.size_given and not self.content.fits(geometry, []):
            doubt = f"{why}, but its rows do not look like a picture; if it is another size, give --size"
        return Verdict(geometry, why, doubt)

    def _by_content(self, whole: list[Geometry]) -> Verdict:
        """whole: the candidates of which the file is whole planes; none, or several."""
        content, possible = self.content, whole or self.candidates
        contest = [one for one in possible if not any(content.folds(one, other) for other in possible)]
        best = max(contest, key=lambda one: content.rows_agree(one)[0])
        rivals = [one for one in contest if one != best]
        names = " or ".join(map(str, possible))
        if content.fits(best, rivals if whole else rivals + best.neighbours()):
            return Verdict(best, f"of {names}, neighbouring rows agree as {best}")
        if whole and (headed := [one for one in contest if content.header_unlike_picture(one)]):
            return Verdict(headed[0], f"of {names}, the bits after the pixels are unlike the picture as {headed[0]}")
        if self.size_given and not whole:
            return Verdict(self.candidates[0], "size as given, in the usual layout")
        fact = f"{content.total_bytes} bytes {'could be' if whole or self.growing else NO_WHOLE} {names}"
        raise RecordingError(f"{self.name}: its {fact}, and the content does not tell: give {self._missing}")

    def _cut_off(self, verdict: Verdict) -> Verdict:
        """The verdict where a last plane is cut off: a size that no camera has may just be wrong."""
        geometry, known = verdict.geometry, known_geometries()
        fact = f"{self.content.total_bytes} bytes {NO_WHOLE} {geometry}"
        if other := self._clearly_looks_like(known, geometry):
            raise RecordingError(f"{self.name}: {fact}; its content looks like {other}")
        if geometry in known or self.content.fits(geometry, known + geometry.neighbours()):
            return verdict
        doubt = f"{fact}, nor does its content look like it"
        if not self.layout_given:
            hint = f"if it is right, and the last plane cut off, give --layout {geometry.layout.name} as well"
            raise RecordingError(f"{self.name}: {doubt}; {hint}")
        return replace(verdict, doubt=doubt)

    def _clearly_looks_like(self, others: list[Geometry], geometry: Geometry) -> Geometry | None:
        """Another geometry that the content fits clearly better, if there is one."""
        if self.content.total_bytes < geometry.plane_bytes:
            return None  # there is nothing to compare, and planes of that size may not go into the memory
        return next((one for one in others if one != geometry and self.content.fits(one, [geometry])), None)

    @property
    def _missing(self) -> str:
        """The options that could still tell."""
        return " or ".join(["--size WIDTHxHEIGHT"] * (not self.size_given) + ["--layout"] * (not self.layout_given))
