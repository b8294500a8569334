"""spikerecon frames"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spikerecon.cli.console import say, write_json
from spikerecon.cli.options import (
    Maker,
    Reconstruction,
    files_of,
    json_option,
    name_of,
    overwrite_option,
    quiet_option,
    reconstruction_options,
)
from spikerecon.errors import UsageError

if TYPE_CHECKING:
    from spikerecon.engine import Frame


MOST = 1_000_000  # pictures


@click.command("frames")
@click.argument("path", required=False, metavar="[INPUT]")
@click.option("--center", type=int, multiple=True, help="The plane that starts at the picture's instant.")
@click.option("--centers", metavar="START:STOP:STEP", help="Centres at even distances.")
@click.option("--at", multiple=True, metavar="TIME", help="The picture's instant as a time: 12.5ms, 0.5s.")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    default=".",
    help="A .png file, or a folder (made where it is missing). [default: here]",
)
@reconstruction_options
@overwrite_option
@json_option
@quiet_option
def command(
    path: str | None,
    center: tuple[int, ...],
    centers: str | None,
    at: tuple[str, ...],
    output: str,
    what: Reconstruction,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write single pictures of a recording; without INPUT, of a built-in scene: a fan.

    \b
    spikerecon frames fan.dat --center 150
    spikerecon frames fan.dat --at 2ms --at 5.5ms --crop 100,50,200,150
    spikerecon frames fan.dat --centers 50:270:20 -o pictures
    spikerecon frames --center 1200
    spikerecon frames --center 1200 --compare tfp,tfi,tfstp,stir
    """
    from spikerecon import video, windows
    from spikerecon.pictures import check_png, to_uint, write_png

    series = windows.parse_range(centers) if centers else range(0)
    if len(series) > MOST:
        raise UsageError(f"{len(series)} single pictures are more than {MOST}: 'convert' writes whole recordings")
    wanted = sorted({*center, *map(what.source.moment, at), *series})
    if not wanted:
        raise UsageError("no picture asked for: give --center N, --at TIME or --centers START:STOP:STEP")
    if path is None and what.picture.bayer:
        raise UsageError("the built-in fan is grey: --bayer needs a recording")
    if path is None and (what.mending.mend or what.mending.flat):
        raise UsageError("the built-in fan has no flawed pixels: --mend and --flat need a recording")
    name = "fan" if path is None else name_of(path)
    one_file = output.lower().endswith(".png")
    if one_file:
        if re.search(r"%\d*d", output):
            raise UsageError(f"{output}: single pictures get their centre as a number: give a folder, or a plain name")
        if len(wanted) > 1:
            raise UsageError(f"{len(wanted)} pictures do not fit in the one file {output}: give a folder")
        files = [Path(output)]
    else:
        files = [Path(output) / f"{name}_{c:06d}.png" for c in wanted]
        if not Path(output).is_dir():
            if Path(output).suffix and not output.endswith("/"):
                raise UsageError(
                    f"{output}: single pictures go to a .png file or a folder (end it with /); 'convert' writes videos"
                )
            video.check_output(output)  # its parent must be there, too
    sources = files_of(path, what.mending.flat)
    for file in files:
        if file.parent.is_dir() or one_file:
            check_png(file, overwrite=overwrite, sources=sources)
    pictures = _built_in(what, wanted) if path is None else _recorded(path, what, wanted, quiet)
    written: list[dict[str, Any]] = []
    for file, (frame, maker) in zip(files, pictures, strict=True):
        if not written:
            if path is not None:
                say(maker.recording.about, quiet)
            say(maker.about, quiet)
            file.parent.mkdir(exist_ok=True)
        write_png(file, to_uint(frame.rate, **maker.levels), overwrite=overwrite)
        say(str(file), quiet)
        written.append({"center": frame.center, "file": str(file), "gain": maker.levels["gain"]})
    if as_json:
        write_json(written, "-")


def _recorded(path: str, what: Reconstruction, wanted: list[int], quiet: bool) -> Iterator[tuple[Frame, Maker]]:
    """Frames, and what made them."""
    from spikerecon.windows import check_center

    with what.opened(path, quiet=quiet) as (recording, maker):
        before, after = maker.around
        for center in (wanted[0], wanted[-1]):
            check_center(center, recording.planes, before, after, start=maker.start, end=maker.end)
        for frame in maker.frames(recording, wanted):
            yield frame, maker


def _built_in(what: Reconstruction, wanted: list[int]) -> Iterator[tuple[Frame, Maker]]:
    """The same of the built-in fan. Films just the planes around each centre: it turns for ever."""
    from spikerecon.engine import Frame
    from spikerecon.windows import WINDOW, check_center

    maker = what.maker(what.source.filmed(60))
    before, after = maker.around
    for center in wanted:
        check_center(center, None, before, 0)
        first = max(center - max(engine.reach for engine in maker.engines), 0)
        first -= first % maker.widest.merge  # merged as from plane 0 on
        recording = what.source.filmed(max(center + after - first, WINDOW), first)
        (frame,) = maker.frames(recording, [center - first])
        yield Frame(center, frame.rate), maker
