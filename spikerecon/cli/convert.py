"""spikerecon convert"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spikerecon.cli.console import progress, rates_text, say, write_json
from spikerecon.cli.options import (
    Maker,
    Reconstruction,
    files_of,
    json_option,
    name_of,
    overwrite_option,
    quiet_option,
    reconstruction_options,
    step_option,
)
from spikerecon.errors import OutputError, SpikeReconError, UsageError
from spikerecon.names import CODECS

if TYPE_CHECKING:
    from spikerecon.engine import Frame

FOLLOW_SECONDS = 5.0
# Of white, on average and in any pixel: what another device, or where TFSTP began, may change. Between bfloat16 and
# float32 it is up to 0.0014 and 0.012.
SAME_WITHIN = 0.003
SAME_PIXEL_WITHIN = 0.05


@click.command("convert")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, metavar="OUT", help="Video, folder or pattern; see above.")
@reconstruction_options
@step_option
@click.option("--fps", type=float, default=60, show_default=True, help="Playback pictures a second.")
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    default="h264",
    show_default=True,
    help="Of a video; nvenc is the encoder of an NVIDIA card.",
)
@click.option("--crf", type=float, default=18, show_default=True, help="H.264 quality: 0 lossless, 51 worst.")
@overwrite_option
@click.option("--resume", is_flag=True, help="Go on behind the PNG pictures that are there.")
@click.option(
    "--follow",
    is_flag=True,
    help=f"INPUT, which is there, is still being written: go on until it has not grown for {FOLLOW_SECONDS:g} s.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
@json_option
@quiet_option
def command(
    inputs: tuple[str, ...],
    output: str,
    what: Reconstruction,
    step: int,
    fps: float,
    codec: str,
    crf: float,
    overwrite: bool,
    resume: bool,
    follow: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn a whole recording into a video or pictures.

    OUT is a video by its suffix (.mp4 .mov .mkv .gif), or PNG pictures: a folder, or a pattern like
    out/%06d.png. With several inputs it holds {name}, which stands for each input's name. INPUT can be - for
    packed planes on standard input.

    \b
    spikerecon convert fan.dat -o fan.mp4
    spikerecon convert *.dat -o "videos/{name}.mp4" --step 10
    spikerecon convert fan.dat -o methods.mp4 --compare tfp,stir
    """
    if len(inputs) > 1 and "{name}" not in output:
        raise UsageError(f"{len(inputs)} inputs need an output with {{name}} in it, such as 'videos/{{name}}.mp4'")
    targets = [output.replace("{name}", name_of(path)) for path in inputs]
    for path, target in zip(inputs, targets, strict=True):
        if target.lower().endswith(".png") and "{name}" in output and "%" in name_of(path):
            raise UsageError(f"{path}: the % of its name would count as part of the pattern: give a folder")
    if len({os.path.realpath(target) for target in targets}) < len(targets):
        raise UsageError("two inputs would become the same output: convert them one by one")
    bit_depth = int(what.picture.bit_depth)
    writing = {"fps": fps, "codec": codec, "crf": crf, "bit_depth": bit_depth}
    writing |= {"overwrite": overwrite, "resume": resume}
    sources = files_of(*inputs, what.mending.flat)
    results, failed = [], 0
    for path, target in zip(inputs, targets, strict=True):
        try:
            results.append(_convert(path, target, what, step, writing, sources, follow, dry_run, quiet))
        except (SpikeReconError, OSError) as error:
            if len(inputs) == 1 or isinstance(error, BrokenPipeError):
                raise
            failed += 1
            said = str(error) if isinstance(error, SpikeReconError) else error.strerror or str(error)
            where = "" if path in said else f"{path}: "
            click.echo(f"error: {where}{said}", err=True)
    if as_json:
        write_json(results if len(inputs) > 1 else results[0], "-")
    if failed:
        raise SpikeReconError(f"{failed} of {len(inputs)} recordings could not be converted")


def _convert(
    path: str,
    target: str,
    what: Reconstruction,
    step: int,
    writing: dict[str, Any],
    sources: list[Path],
    follow: bool,
    dry_run: bool,
    quiet: bool,
) -> dict[str, Any]:
    from spikerecon import video

    checked = video.check_output(target, **writing, sources=sources)
    opened = what.opened(path, follow=FOLLOW_SECONDS if follow else None, quiet=quiet)
    with opened as (recording, maker), ExitStack() as stack:
        start, end = what.source.span()
        engine, rate = maker.widest, what.source.rate
        centers = engine.centers(recording, start=start, end=end, step=step)
        endless = recording.planes is None and end is None  # until a stream's end is read
        levels = maker.levels
        there = checked.first
        if there > len(centers):
            raise OutputError(f"{checked.path}: these options make {len(centers)} pictures: other ones made those")
        pictures = stack.enter_context(closing(maker.frames(recording, centers[max(there - 1, 0) :])))
        if there:  # the last of them is made again, to be compared
            say(f"{there} pictures are there: going on behind them", quiet)
            _check_alike(checked.name(there - 1), next(pictures, None), levels)
            centers = centers[there:]
        total = None if endless else len(centers)
        say(recording.about, quiet)
        say(rates_text(rate, step, checked.fps), quiet)
        say(maker.about, quiet)
        for note in checked.notes:
            say(f"note: {note}", quiet)
        result = {
            "input": path,
            "output": str(checked.path),
            "width": recording.width,
            "height": recording.height,
            "layout": recording.layout,
            "frames": total,
            "first_center": centers[0] if centers else None,
            "step": step,
            "rate": rate,
            "fps": checked.fps,
            **_facts(maker),
        }
        if dry_run:
            say(f"would write {total if total is not None else 'all'} frames to {checked.path}", quiet)
            return result
        began = time.perf_counter()
        with progress(total, step=step, planes_per_second=rate, quiet=quiet) as shown:
            if (following := next(pictures, None)) is None:
                if not there:  # a stream has ended: which planes it had is known now
                    engine.centers(recording, start=start, end=end, step=step)
                say(f"{checked.path}: all pictures are there", quiet)
                return {**result, "frames": 0, "first_center": None}
            written = video.save(
                target,
                (frame.rate for frame in itertools.chain([following], pictures)),
                on_progress=shown.update,
                **(levels | writing),
            )
        what.source.check_ended(recording)
        for note in written.notes[len(checked.notes) :]:
            say(f"note: {note}", quiet)
        say(f"{checked.path}: {written.pictures} frames, {shown.text()}", quiet)
        return {**result, "frames": written.pictures, "seconds": round(time.perf_counter() - began, 3)}


def _facts(maker: Maker) -> dict[str, Any]:
    """What the pictures come from, as it goes into JSON."""
    engine = maker.widest
    return {
        "gain": maker.levels["gain"],
        "bin": engine.merge,
        "bayer": maker.picture.bayer,
        "method": ",".join(engine.method.name for engine in maker.engines),
        "weights": "; ".join(engine.method.about for engine in maker.engines),
        "device": str(engine.device),
        "precision": ",".join(engine.precision for engine in maker.engines),
    }


def _check_alike(picture: Path, frame: Frame | None, levels: dict[str, Any]) -> None:
    """Raises OutputError where a picture that is there is not this frame, which these options make, and RecordingError
    where it is none."""
    import numpy as np

    from spikerecon.pictures import load_picture, to_uint

    there = np.asarray(load_picture(picture))
    if frame is None:
        raise OutputError(f"{picture}: the recording ends before it: other options, or another recording, made it")
    made = to_uint(frame.rate, **levels)
    depth = picture.read_bytes()[24:25]  # a PNG's bits a channel
    alike = there.shape == made.shape and depth == bytes([8 * made.itemsize])
    if made.ndim == 3 and made.dtype == np.uint16:  # which pillow reads as 8 bit
        made = np.rint(made / 257).astype(np.uint8)
    white = np.iinfo(made.dtype).max
    differ = np.abs(there.astype(float) - made) / white if alike else np.ones(1)
    if differ.mean() > SAME_WITHIN or differ.max() > SAME_PIXEL_WITHIN:
        raise OutputError(
            f"{picture}: is not what these options make of plane {frame.center}: go on with those of the first "
            f"run (the gain is {levels['gain']:.4g} now; --follow mends no pixels), or into another folder"
        )
