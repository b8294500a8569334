"""Bits and bytes: packed rows, and where each pixel is in a plane as it is stored."""

import math
import operator
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import UsageError

MIN_PLANES = 60
"""A recording with fewer planes holds no whole window and is refused."""

Size = tuple[int, int]  # width, height
Crop = tuple[int, int, int, int]  # left, top, width, height
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """How the planes of a headerless file are stored: bottom row first.

    `sizes` are those of the cameras that write it, and `header_bits` follow the pixels of each row.
    """

    name: str
    sizes: tuple[Size, ...]
    header_bits: int = 0


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("packed", ((400, 250), (1000, 1000), (2000, 1000))),
        Layout("row-headers", ((400, 250),), header_bits=16),
    )
}


def pack(planes: NDArray[np.uint8] | NDArray[np.bool_]) -> Bytes:
    """Packed rows, uint8 (planes, height, ceil(width / 8)), of 0/1 planes (planes, height, width)."""
    return np.packbits(planes, axis=-1, bitorder="little")


def unpack(rows: Bytes, width: int) -> Bytes:
    """0/1 planes, uint8 (planes, height, width), of packed rows (planes, height, ceil(width / 8))."""
    return np.unpackbits(rows, axis=-1, count=width, bitorder="little")


def crop_rows(rows: Bytes, crop: Crop) -> Bytes:
    """The part (left, top, width, height) of packed rows (planes, height, bytes), as packed rows."""
    left, top, width, height = crop
    rows = rows[:, top : top + height, left // 8 : math.ceil((left + width) / 8)]
    if left % 8 or width % 8:
        rows = pack(unpack(rows, left % 8 + width)[:, :, left % 8 :])
    return rows


def checked_size(size: Size | None) -> Size | None:
    """A size as two plain integers. Raises UsageError for anything else."""
    if size is None:
        return None
    try:
        width, height = map(operator.index, size)
    except (TypeError, ValueError):
        raise UsageError(f"size {size!r} is not (width, height) in pixels, such as (400, 250)") from None
    return width, height


def parse_size(text: str) -> Size:
    """(width, height) of a text like `400x250`. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text.strip(), re.ASCII)
    if not match or 0 in (size := (int(match[1]), int(match[2]))):
        raise UsageError(f"size {text!r} is not WIDTHxHEIGHT in pixels, such as 400x250")
    return size


def parse_crop(text: str) -> Crop:
    """(left, top, width, height) of a text like `100,50,200,100`. Raises UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", re.sub(r"\s", "", text), re.ASCII)
    if not match or 0 in (int(match[3]), int(match[4])):
        raise UsageError(f"crop {text!r} is not LEFT,TOP,WIDTH,HEIGHT in pixels, such as 100,50,200,100")
    left, top, width, height = (int(number) for number in match.groups())
    return left, top, width, height


@dataclass(frozen=True)
class Geometry:
    """A layout at a size: where each pixel of each plane is in a file."""

    layout: Layout
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.row_bits * self.height % 8:
            raise UsageError(f"size {self.width}x{self.height} does not fill whole bytes; its area must be 8n")

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.layout.name} ({self.plane_bytes} bytes a plane)"

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def row_bits(self) -> int:
        return self.width + self.layout.header_bits

    @property
    def plane_bytes(self) -> int:
        return self.row_bits * self.height // 8

    def neighbours(self) -> "list[Geometry]":
        """The next sizes in all four directions that fill whole bytes."""
        high = 8 // math.gcd(self.row_bits, 8)
        sizes = [(self.width + 8 * i, self.height + high * j) for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        return [Geometry(self.layout, *size) for size in sizes if min(size) > 0]

    def rows(self, raw: Bytes) -> Bytes:
        """Packed rows of stored planes (planes, bytes a plane), without what follows the pixels of each row."""
        if self.row_bits % 8 == 0:
            return raw.reshape(len(raw), self.height, self.row_bits // 8)[:, :, : math.ceil(self.width / 8)]
        bits = unpack(raw, self.height * self.row_bits).reshape(len(raw), self.height, self.row_bits)
        return pack(bits[:, :, : self.width])

    def raw(self, rows: Bytes) -> Bytes:
        """Stored planes (planes, bytes a plane) of packed rows: undoes `rows`, with zeros after each row's pixels."""
        if self.row_bits % 8 == 0 and self.width % 8 == 0:
            rows = np.pad(rows, ((0, 0), (0, 0), (0, self.layout.header_bits // 8)))
            return rows.reshape(len(rows), self.plane_bytes)
        bits = np.pad(unpack(rows, self.width), ((0, 0), (0, 0), (0, self.layout.header_bits)))
        return pack(bits.reshape(len(rows), self.row_bits * self.height))


def known_geometries() -> list[Geometry]:
    """What cameras write without numbering its rows."""
    return [Geometry(layout, *size) for layout in LAYOUTS.values() for size in layout.sizes]
