"""What commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from spikerecon.files import appearing, check_file

LINE_EVERY = 10.0  # seconds between progress lines where there is no terminal


class Progress:
    """How far the work is, with frames (or another `unit`) a second, and the real-time factor where there is a rate."""

    def __init__(self, total: int | None, step: int, planes_per_second: float | None, unit: str) -> None:
        self.total, self.unit = total, unit
        self._real_time = step / planes_per_second if planes_per_second else None
        self._began = self._said = time.monotonic()
        self.done = 0

    def text(self) -> str:
        """Speed so far: "12.3 frames/s, 0.006x real time"."""
        speed = self.done / max(time.monotonic() - self._began, 1e-9)
        real_time = f", {speed * self._real_time:.2g}x real time" if self._real_time else ""
        return f"{speed:.3g} {self.unit}/s{real_time}"

    def update(self, done: int) -> None:
        self.done = done
        now = time.monotonic()
        if now - self._said < LINE_EVERY:
            return
        self._said = now
        left = ""
        if self.total:
            left = f", {(self.total - done) * (now - self._began) / done:.0f} s left"
        click.echo(f"{done}{f'/{self.total}' if self.total else ''} {self.unit}, {self.text()}{left}", err=True)


class _Silent(Progress):
    def update(self, done: int) -> None:
        self.done = done


class _Bar(Progress):
    def __init__(self, total: int | None, step: int, planes_per_second: float | None, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        super().__init__(total, step, planes_per_second, unit)
        self._bar = RichProgress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, speed="")
        self._bar.start()

    def update(self, done: int) -> None:
        self.done = done
        self._bar.update(self._task, completed=done, speed=self.text())

    def stop(self) -> None:
        self._bar.stop()


@contextmanager
def progress(
    total: int | None, *, step: int, planes_per_second: float | None, quiet: bool, unit: str = "frames"
) -> Iterator[Progress]:
    """A bar on a terminal that can draw one, a line every ten seconds elsewhere, nothing where `quiet`."""
    terminal = sys.stderr is not None and sys.stderr.isatty()  # a daemon may have closed it
    if quiet:
        yield _Silent(total, step, planes_per_second, unit)
    elif terminal and os.environ.get("TERM") != "dumb":
        bar = _Bar(total, step, planes_per_second, unit)
        try:
            yield bar
        finally:
            bar.stop()
    else:
        yield Progress(total, step, planes_per_second, unit)


def say(text: str, quiet: bool = False) -> None:
    """A line on stderr."""
    if not quiet:
        click.echo(text, err=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def check_json(file: str | None, overwrite: bool, sources: Iterable[Path]) -> None:
    """Find out before any work whether `write_json` can write there, and may. Raises OutputError."""
    if file not in (None, "-"):
        check_file(Path(file), overwrite, sources=sources)


def write_json(value: Any, file: str, overwrite: bool = False) -> None:
    """Indented JSON to a file, or to stdout for `-`. Raises OutputError, also where the file has come to be there.

    Infinite numbers, which JSON has not, are null.
    """
    text = json.dumps(_finite(value), indent=2, allow_nan=False)
    if file == "-":
        click.echo(text)
        return
    with appearing(Path(file), overwrite) as unfinished:
        unfinished.write_text(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def note_if_short(output: str, planes: int, quiet: bool) -> None:
    """Say of a recording that was written where it is too short to be reconstructed."""
    from spikerecon.recording import MIN_PLANES

    if planes < MIN_PLANES:
        say(f"note: {output} holds fewer than the {MIN_PLANES} planes that other commands need", quiet)


def rates_text(planes_per_second: float, step: int, fps: float) -> str:
    """The three rates that get mixed up, and the slow motion they give."""
    frames = planes_per_second / step
    planes = "plane" if step == 1 else f"{step} planes"
    return (
        f"{planes_per_second:g} planes/s, a frame every {planes} = {frames:g} frames/s, "
        f"played at {fps:g} = {frames / fps:.3g}x slow motion"
    )
