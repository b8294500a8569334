"""Writing recordings, in the layouts that can be read."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from spikerecon.errors import OutputError, UsageError
from spikerecon.files import appearing, check_free
from spikerecon.recording import raw1000
from spikerecon.recording.layouts import LAYOUTS, Bytes, Geometry, Size, unpack

BLOCK_PLANES = 1000
"""Planes in a file of a SpikeLink folder."""


def write_recording(
    path: str | Path, chunks: Iterable[Bytes], width: int, *, layout: str = "packed", overwrite: bool = False
) -> int:
    """Writes chunks of packed rows, uint8 (planes, height, ceil(width / 8)), in a layout.

    Rows come upright and are stored as cameras do: bottom row first in `packed` and `row-headers` (with empty headers)
    and in the blocks of `spikelink`, a folder, which are packed. Only `npz` keeps all planes in memory until the end.

    Written under a temporary name in the same folder and renamed at the end, so that a failure leaves nothing behind.
    Returns the number of planes. Raises OutputError if the file exists and `overwrite` is false, if a folder of that
    name exists, if nothing came, or it cannot be written; UsageError if planes fill no whole bytes, change in size, or
    have a size that the layout does not know.
    """
    path = Path(path)
    check_recording(path, layout, overwrite)
    planes = 0

    def counted() -> Iterator[tuple[Size, Bytes]]:
        nonlocal planes
        for chunk in chunks:
            count, height, row_bytes = chunk.shape
            if not planes:
                size = _written(layout, (width, height))
            if (row_bytes, height) != (math.ceil(width / 8), size[1]):
                raise UsageError(f"{path}: {height} rows of {row_bytes} bytes are no plane of {width}x{size[1]}")
            yield size, chunk
            planes += count

    with appearing(path, overwrite) as unfinished:
        _WRITERS[layout](unfinished, counted())
        if not planes:
            raise OutputError(f"{path}: there are no planes to write")
    return planes


def check_recording(path: Path, layout: str, overwrite: bool = False) -> None:
    """Raises what `write_recording` raises before any work."""
    if layout not in _WRITERS:
        raise UsageError(f"unknown layout {layout!r}: write one of {', '.join(_WRITERS)}")
    if path.suffix.lower() == ".npz" and layout != "npz":
        raise UsageError(f"{path}: .npz files hold arrays, not {layout} planes: give another suffix, or the layout npz")
    if path.is_dir() or (layout == "spikelink" and path.exists()):
        raise OutputError(f"{path}: is a folder, or is to become one; give a name that is not there yet")
    check_free(path, overwrite)


def _written(layout: str, size: Size) -> Size:
    """The size, where the layout knows it."""
    if min(size) < 1:
        raise UsageError(f"{size[0]}x{size[1]} is no size of pictures")
    sizes = {"raw1000": (raw1000.SIZE,), "row-headers": LAYOUTS["row-headers"].sizes}.get(layout, (size,))
    if size not in sizes:
        known = " or ".join(f"{across}x{down}" for across, down in sizes)
        raise UsageError(f"{layout} is a layout of {known}, not of {size[0]}x{size[1]}")
    return size


Chunks = Iterator[tuple[Size, Bytes]]


def _write_plain(path: Path, chunks: Chunks, layout: str) -> None:
    with open(path, "wb") as file:
        for size, rows in chunks:
            file.write(Geometry(LAYOUTS[layout], *size).raw(rows[:, ::-1]).tobytes())


def _write_raw(path: Path, chunks: Chunks) -> None:
    with open(path, "wb") as file:
        for _, rows in chunks:
            file.write(raw1000.encode(rows).tobytes())


def _write_npz(path: Path, chunks: Chunks) -> None:
    parts = [unpack(rows, width) for (width, _), rows in chunks]
    if parts:
        with open(path, "wb") as file:
            np.savez_compressed(file, spk=np.concatenate(parts))


def _write_blocks(path: Path, chunks: Chunks) -> None:
    path.mkdir()
    written = 0
    for size, rows in chunks:
        geometry = Geometry(LAYOUTS["packed"], *size)
        while len(rows):
            block, there = divmod(written, BLOCK_PLANES)
            part, rows = rows[: BLOCK_PLANES - there], rows[BLOCK_PLANES - there :]
            folder = path / str(block % 4)
            folder.mkdir(exist_ok=True)
            with open(folder / f"{block}.dat", "ab") as file:
                file.write(geometry.raw(part[:, ::-1]).tobytes())
            written += len(part)


_WRITERS: dict[str, Callable[[Path, Chunks], None]] = {
    "packed": partial(_write_plain, layout="packed"),
    "row-headers": partial(_write_plain, layout="row-headers"),
    "raw1000": _write_raw,
    "npz": _write_npz,
    "spikelink": _write_blocks,
}
