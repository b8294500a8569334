"""Which layout and size has a file without trailers? The byte count tells, then the content."""

import math

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import RecordingError
from spikerecon.recording.layouts import MIN_PLANES, Geometry, known_geometries
from spikerecon.recording.stores import Store


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


def settle(
    content: Content, name: str, candidates: list[Geometry], *, layout_given: bool, size_given: bool, growing: bool
) -> tuple[Geometry, str, str]:
    """The geometry of a file, why it is this one, and a doubt to warn of ("" for none).

    The byte count of a file that is `growing` says nothing.
    """
    total, doubt = content.total_bytes, ""
    ask = " or ".join(["--size WIDTHxHEIGHT"] * (not size_given) + ["--layout"] * (not layout_given))
    whole = [one for one in candidates if total % one.plane_bytes == 0 and not growing]
    whole = [one for one in whole if total // one.plane_bytes >= MIN_PLANES] or whole
    if len(candidates) == 1:
        geometry, why = candidates[0], "layout and size as given"
        others = [one for one in known_geometries() if one != geometry]
        others = [one for one in others if one.plane_bytes == geometry.plane_bytes or total % one.plane_bytes == 0]
        if alike := [one for one in others if content.fits(one, [geometry])]:
            doubt = f"its content looks like {alike[0]}; as {geometry}, which was given, rows do not agree"
    elif len(whole) == 1:
        geometry = whole[0]
        if alike := [one for one in candidates if one != geometry and content.fits(one, [geometry])]:
            fact = f"{total} bytes are whole planes of {geometry}, but its content looks like {alike[0]}"
            raise RecordingError(f"{name}: {fact}: give {ask}")
        why = f"{total} bytes are whole planes of {geometry}, and not {MIN_PLANES} of another known layout"
        if not size_given and not content.fits(geometry, []):
            doubt = f"{why}, but its rows do not look like a picture; if it is another size, give --size"
    else:
        contest = whole or candidates
        contest = [one for one in contest if not any(content.folds(one, other) for other in contest)]
        geometry = max(contest, key=lambda one: content.rows_agree(one)[0])
        rivals = [one for one in contest if one != geometry]
        names = " or ".join(map(str, whole or candidates))
        if content.fits(geometry, rivals if whole else rivals + geometry.neighbours()):
            why = f"of {names}, neighbouring rows agree as {geometry}"
        elif whole and (headed := [one for one in contest if content.header_unlike_picture(one)]):
            geometry = headed[0]
            why = f"of {names}, the bits after the pixels are unlike the picture as {geometry}"
        elif size_given and not whole:
            geometry, why = candidates[0], "size as given, in the usual layout"
        else:
            fact = "could be" if whole or growing else "are no whole number of planes of"
            raise RecordingError(f"{name}: its {total} bytes {fact} {names}, and the content does not tell: give {ask}")
    if total % geometry.plane_bytes and total > geometry.plane_bytes and not growing:
        others = [one for one in known_geometries() if one != geometry]
        alike = [one for one in others if content.fits(one, [geometry])]
        camera = geometry in known_geometries()
        fact = f"{total} bytes are no whole number of planes of {geometry}"
        if alike:
            raise RecordingError(f"{name}: {fact}; its content looks like {alike[0]}")
        if not camera and not content.fits(geometry, others + geometry.neighbours()):
            doubt = f"{fact}, nor does its content look like it"
            if not layout_given:
                hint = f"if it is right, and the last plane cut off, give --layout {geometry.layout.name} as well"
                raise RecordingError(f"{name}: {doubt}; {hint}")
    return geometry, why, doubt
