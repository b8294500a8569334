"""spikerecon frames"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spikerecon.cli.console import say, write_json
from spikerecon.cli.options import (
    InputOptions,
    MendOptions,
    MethodOptions,
    PictureOptions,
    compare_option,
    input_options,
    json_option,
    mend_options,
    method_options,
    overwrite_option,
    picture_options,
    quiet_option,
)
from spikerecon.errors import UsageError

if TYPE_CHECKING:
    from spikerecon.engine import Frame


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
@input_options
@mend_options
@method_options
@compare_option
@picture_options
@overwrite_option
@json_option
@quiet_option
def command(
    path: str | None,
    center: tuple[int, ...],
    centers: str | None,
    at: tuple[str, ...],
    output: str,
    source: InputOptions,
    mending: MendOptions,
    run: MethodOptions,
    compare: str | None,
    picture: PictureOptions,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write single pictures of a recording; without INPUT, of a built-in scene: a fan.

    \b
    spikerecon frames fan.dat --center 1200
    spikerecon frames fan.dat --at 12.5ms --at 30ms --crop 100,50,200,150
    spikerecon frames fan.dat --centers 100:2000:100 -o pictures
    spikerecon frames --center 1200
    spikerecon frames --center 1200 --compare tfp,tfi,tfstp,stir
    """
    from spikerecon import video, windows

    wanted = sorted({*center, *map(source.moment, at), *(windows.parse_range(centers) if centers else ())})
    if not wanted:
        raise UsageError("no picture asked for: give --center N, --at TIME or --centers START:STOP:STEP")
    if path is None and picture.bayer:
        raise UsageError("the built-in fan is grey: --bayer needs a recording")
    name = "fan" if path is None else "stdin" if path == "-" else Path(path).stem
    if output.endswith(".png"):
        if len(wanted) > 1:
            raise UsageError(f"{len(wanted)} pictures do not fit in the one file {output}: give a folder")
        files = [Path(output)]
    else:
        files = [Path(output) / f"{name}_{c:06d}.png" for c in wanted]
        # Its parent must be there, too.
        if not Path(output).is_dir() and video.check_output(output).container:
            raise UsageError(f"{output}: single pictures go to a .png file or a folder; 'convert' writes videos")
    for file in files:
        if file.parent.is_dir() or output.endswith(".png"):
            video.check_png(file, overwrite=overwrite)
    if path is None:
        pictures = _built_in(run, compare, source, picture, wanted)
    else:
        pictures = _recorded(path, run, compare, source, mending, picture, wanted, quiet)
    written: list[dict[str, Any]] = []
    for file, (frame, levels, about) in zip(files, pictures, strict=True):
        if not written:
            say(f"{about}, gain {levels['gain']:.4g}", quiet)
            file.parent.mkdir(exist_ok=True)
        image = video.to_uint(frame.rate, **levels)
        video.write_png(file, image, overwrite=overwrite)
        say(str(file), quiet)
        written.append({"center": frame.center, "file": str(file), "gain": levels["gain"]})
    if as_json:
        write_json(written, "-")


def _recorded(
    path: str,
    run: MethodOptions,
    compare: str | None,
    source: InputOptions,
    mending: MendOptions,
    picture: PictureOptions,
    wanted: list[int],
    quiet: bool,
) -> Iterator[tuple[Frame, dict[str, Any], str]]:
    """Frames, the levels to draw them with, and what made them."""
    from spikerecon.comparison import side_by_side

    with source.open(path, mending=mending, bayer=picture.bayer, quiet=quiet) as recording:
        start, end = source.span()
        engines = run.reconstructors(compare, recording, start, end, source.pattern(picture.bayer))
        levels = picture.levels(recording, start, end)
        about = "\n".join(engine.about for engine in engines)
        for frame in side_by_side(engines, recording, wanted, start=start, white=1 / levels["gain"]):
            yield frame, levels, about


def _built_in(
    run: MethodOptions, compare: str | None, source: InputOptions, picture: PictureOptions, wanted: list[int]
) -> Iterator[tuple[Frame, dict[str, Any], str]]:
    """The same of the built-in fan. Films just the planes around each centre: it turns for ever."""
    from spikerecon.comparison import side_by_side
    from spikerecon.engine import Frame
    from spikerecon.simulate import film
    from spikerecon.windows import check_center

    sample = source.cropped(film("fan", planes=60))
    engines, levels = run.reconstructors(compare, sample), picture.levels(sample, 0, None)
    about = "\n".join(engine.about for engine in engines)
    for center in wanted:
        check_center(center, None, max(engine.before for engine in engines), 0)
        before = min(center, max(engine.reach for engine in engines))
        after = max(engine.window - engine.before for engine in engines)
        recording = source.cropped(film("fan", planes=before + after, start=center - before))
        (frame,) = side_by_side(engines, recording, [before], white=1 / levels["gain"])
        yield Frame(center, frame.rate), levels, about
