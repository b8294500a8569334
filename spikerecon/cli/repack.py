"""spikerecon repack"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikerecon.cli.console import note_if_short, progress, say
from spikerecon.cli.options import InputOptions, files_of, input_options, overwrite_option, quiet_option
from spikerecon.files import check_file
from spikerecon.windows import stop_of

if TYPE_CHECKING:
    from spikerecon.recording import Bytes, Recording

CHUNK = 100  # planes at a time


@click.command("repack")
@click.argument("path", metavar="INPUT")
@click.option("-o", "--output", required=True, metavar="OUT.dat")
@input_options
@overwrite_option
@quiet_option
def command(path: str, output: str, source: InputOptions, overwrite: bool, quiet: bool) -> None:
    """Write a recording of any layout, or a part of it, as packed planes.

    Nothing but pixels is kept, bottom row first, as in most published recordings. What is packed already comes out
    byte by byte as it was.

    \b
    spikerecon repack capture -o capture.dat
    spikerecon repack capture.dat -o part.dat --start 1s --end 1.5s --crop 100,50,200,150
    """
    from spikerecon.recording import write_recording

    start, end = source.span()
    check_file(Path(output), overwrite, sources=files_of(path))
    with source.open(path) as recording:
        end = stop_of(recording.planes, start, end)
        width, height = recording.width, recording.height
        total = None if end is None else end - start
        with progress(total, step=1, planes_per_second=source.rate, quiet=quiet, unit="planes") as shown:
            chunks = _chunks(recording, start, end, shown.update)
            written = write_recording(output, chunks, width, overwrite=overwrite)
        source.check_ended(recording)
    note_if_short(output, written, quiet)
    say(f"{output}: {width}x{height}, {written} planes, packed", quiet)


def _chunks(recording: Recording, start: int, end: int | None, on_progress: Callable[[int], None]) -> Iterator[Bytes]:
    first = start
    while end is None or first < end:
        rows = recording.read(first, first + CHUNK if end is None else min(first + CHUNK, end))
        if not len(rows):
            if first == start:  # a stream has ended: which planes it had is known now
                stop_of(recording.planes, start, end)
            return
        first += len(rows)
        yield rows
        on_progress(first - start)
