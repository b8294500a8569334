"""The command line: one file a command. The only place that prints, and the only one that ends the process."""

from __future__ import annotations

import warnings
from typing import Any

import click

from spikerecon import __version__
from spikerecon.cli import bench, convert, evaluate, frames, info, simulate, train, weights
from spikerecon.errors import RecordingWarning, SpikeReconError

INTERRUPTED = 130


class _Program(click.Group):
    """Turns errors into one line on stderr and an exit status, and warnings about recordings into a line each."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RecordingWarning)
            plain = warnings.showwarning

            def show(message: Any, category: type[Warning], *rest: Any) -> None:
                if issubclass(category, RecordingWarning):
                    click.echo(f"warning: {message}", err=True)
                else:
                    plain(message, category, *rest)

            warnings.showwarning = show  # type: ignore[assignment]
            try:
                return super().invoke(ctx)
            except SpikeReconError as error:
                click.echo(f"error: {error}", err=True)
                ctx.exit(error.exit_status)
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                click.echo(f"error: {error.filename or 'system'}: {error.strerror or error}", err=True)
                ctx.exit(1)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)
                ctx.exit(INTERRUPTED)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="spikerecon")
def main() -> None:
    """Turn spike camera recordings into pictures and high-frame-rate video.

    \b
    spikerecon convert fan.dat -o fan.mp4      a video
    spikerecon frames fan.dat --center 1200    single pictures
    spikerecon bench                           how fast it is here
    """


for module in (convert, frames, bench, info, simulate, evaluate, train, weights):
    main.add_command(module.command)
