"""The command line: one file a command. The only place that prints, and the only one that ends the process."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from spikerecon import __version__
from spikerecon.cli import bench, convert, evaluate, frames, info, repack, simulate, train, weights
from spikerecon.cli.signals import ENDING, ending_goes_to
from spikerecon.errors import RecordingWarning, SpikeReconError, UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of malloc.h


class _Program(click.Group):
    """Turns errors into one line on stderr and an exit status, and warnings about recordings into a line each."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _errors_as_lines(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _warnings_as_lines(), ending_goes_to(_end), _errors_as_lines(ctx):
            return super().invoke(ctx)


class _Ended(KeyboardInterrupt):
    """By SIGINT (Ctrl-C), SIGTERM, or SIGHUP of a terminal that closes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _errors_as_lines(ctx: click.Context) -> Iterator[None]:
    try:
        yield
        return
    except SpikeReconError as error:
        line, status = f"error: {error}", error.exit_status
    except click.UsageError as error:
        if error.message.startswith("Usage: "):  # a group without a command shows its help
            raise
        hint = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        line, status = f"error: {error.format_message().rstrip('.')}{hint}", UsageError.exit_status
    except MemoryError:
        line, status = "error: there is too little memory for this: give a smaller --size, --crop or --batch-size", 1
    except BrokenPipeError:  # whoever read our output has seen enough: click knows
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        line, status = f"error: {where}{error.strerror or error}", 1
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, _Ended) else signal.SIGINT
        line, status = "interrupted" if number == signal.SIGINT else "terminated", 128 + number
    click.echo(line, err=True)
    ctx.exit(status)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", RecordingWarning)
        plain = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, RecordingWarning):
                click.echo(f"warning: {message}", err=True)
            else:
                plain(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _end(number: int, _: Any) -> None:
    for each in ENDING:  # launchers, and people, say it twice: what is being saved is not to be cut
        signal.signal(each, signal.SIG_IGN)
    raise _Ended(number)


version_option = click.version_option(__version__, prog_name="spikerecon")


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@version_option
def main() -> None:
    """Turn spike camera recordings into pictures and high-frame-rate video.

    \b
    spikerecon convert fan.dat -o fan.mp4      a video
    spikerecon frames fan.dat --center 150     single pictures
    spikerecon bench                           how fast it is here
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    _keep_freed_memory()
    _leave_idle_cores()


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next picture.

    It would hand large blocks back at once, and to get them anew takes a third of the time of a 1000x1000 picture.
    The process is ours here: in a library that would be for the program to decide.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):  # musl has none
        return
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1)):
        library.mallopt(parameter, value)


def _leave_idle_cores() -> None:
    """Have torch's threads (GNU's OpenMP) hand back their core when they have waited some 0.1 ms for the next work.

    They would hold it for milliseconds, which on a busy machine keeps the very thread from it that they wait for.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # read when torch is imported


for module in (convert, frames, bench, info, repack, simulate, evaluate, train, weights):
    main.add_command(version_option(module.command))
