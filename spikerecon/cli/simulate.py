"""spikerecon simulate"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spikerecon.cli.console import note_if_short, progress, say, write_json
from spikerecon.cli.options import overwrite_option, quiet_option
from spikerecon.errors import OutputError, RecordingError, UsageError
from spikerecon.files import check_file, check_folder, check_name
from spikerecon.names import BAYER_PATTERNS, LAYOUT_NAMES

if TYPE_CHECKING:
    from spikerecon.recording import Bytes
    from spikerecon.scenes import Scene

TRUTH = "sequences.json"  # in a folder of true pictures


@click.command("simulate")
@click.argument("source", metavar="SOURCE")
@click.option("-o", "--output", required=True, metavar="OUT.dat")
@click.option("--planes", type=int, help="Planes to film. [default: 1000, or the whole video]")
@click.option("--start", type=int, default=0, show_default=True, help="Plane of the scene to begin with.")
@click.option("--size", metavar="WIDTHxHEIGHT", help="Of a built-in scene. [default: 400x250, of raw1000 1000x1000]")
@click.option(
    "--layout",
    type=click.Choice(LAYOUT_NAMES[1:]),
    default="packed",
    show_default=True,
    help="How to store the planes.",
)
@click.option(
    "--planes-per-frame",
    type=float,
    default=20,
    show_default=True,
    help="Planes between pictures of a video.",
)
@click.option(
    "--full-scale-rate",
    type=float,
    default=0.6,
    show_default=True,
    help="Spikes a plane of white; the exposure.",
)
@click.option("--bayer", type=click.Choice(BAYER_PATTERNS), help="Film in colour (pan, video, pictures).")
@click.option("--noise", is_flag=True, help="Add what a real sensor adds.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
@click.option("--truth", metavar="DIR", help="Keep true pictures and a sequences.json for 'evaluate'.")
@click.option("--truth-step", type=int, default=100, show_default=True, help="Planes between true pictures.")
@overwrite_option
@quiet_option
def command(
    source: str,
    output: str,
    planes: int | None,
    start: int,
    size: str | None,
    layout: str,
    planes_per_frame: float,
    full_scale_rate: float,
    bayer: str | None,
    noise: bool,
    seed: int,
    truth: str | None,
    truth_step: int,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Film a scene with a simulated spike camera.

    SOURCE is a built-in scene (fan, pan), a video file, or a folder of pictures that follow each other.

    \b
    spikerecon simulate fan -o fan.dat --planes 2000
    spikerecon simulate pan -o raw.dat --layout raw1000 --planes 200
    spikerecon simulate pan -o colour.dat --bayer bggr --truth colour
    spikerecon simulate race.mp4 -o race.dat --planes-per-frame 10 --noise --truth race
    """
    from spikerecon import windows
    from spikerecon.recording import check_recording, write_recording
    from spikerecon.scenes import SCENES
    from spikerecon.simulate import SensorNoise, sequence_entry, simulate

    if layout == "spikelink":  # a folder, which replaces nothing
        check_name(Path(output))
        check_folder(Path(output).parent)
        check_recording(Path(output), layout, overwrite)
    else:
        check_file(Path(output), overwrite, sources=_files_of(source))
    if size is None and layout == "raw1000" and source in SCENES:
        size = "1000x1000"
    scene, planes = _scene(source, size, planes, start, planes_per_frame, seed, colour=bayer is not None)
    sensor = SensorNoise() if noise else None
    chunks = simulate(
        scene, planes=planes, full_scale_rate=full_scale_rate, start=start, seed=seed, noise=sensor, bayer=bayer
    )
    if truth is not None:
        centers = windows.centers(planes, step=truth_step)
        entry = sequence_entry(
            output, scene, centers, planes=planes, full_scale_rate=full_scale_rate, noise=sensor, bayer=bayer
        )
        recording = os.path.join(os.path.realpath(Path(output).parent), Path(output).name)  # a link there is replaced
        entry |= {"layout": layout, "file": os.path.relpath(recording, os.path.realpath(truth))}
        _check_truth(Path(truth), entry["truth"], overwrite, taken=[output] if source in SCENES else [output, source])
        if overwrite:  # no list may tell of truth that was replaced in part
            (Path(truth) / TRUTH).unlink(missing_ok=True)
    with progress(planes, step=1, planes_per_second=None, quiet=quiet, unit="planes") as shown:
        counted = _counted(chunks, shown.update)
        written = write_recording(output, counted, scene.width, layout=layout, overwrite=overwrite)
    if truth is not None:
        _write_truth(Path(truth), entry, scene, start, overwrite)
    note_if_short(output, written, quiet)
    say(f"{output}: {scene.width}x{scene.height}, {written} planes", quiet)


def _counted(chunks: Iterable[Bytes], on_progress: Callable[[int], None]) -> Iterator[Bytes]:
    """Chunks of planes as they are, and how many planes have been."""
    planes = 0
    for chunk in chunks:
        yield chunk
        planes += len(chunk)
        on_progress(planes)


def _files_of(source: str) -> list[Path]:
    """What a scene is read from."""
    from spikerecon.pictures import pictures_in
    from spikerecon.scenes import SCENES

    if source in SCENES:
        return []
    return pictures_in(Path(source)) if Path(source).is_dir() else [Path(source)]


def _scene(
    source: str, size: str | None, planes: int | None, start: int, planes_per_frame: float, seed: int, colour: bool
) -> tuple[Scene, int]:
    from spikerecon.recording import parse_size
    from spikerecon.scenes import SCENES, VideoScene, make_scene
    from spikerecon.video import read_pictures

    if source in SCENES:
        width, height = parse_size(size) if size else (400, 250)
        return make_scene(source, width, height, seed, colour), 1000 if planes is None else planes
    if not Path(source).exists():
        known = ", ".join(SCENES)
        raise RecordingError(f"{source}: neither a built-in scene ({known}) nor a video or folder that is there")
    if size:
        raise UsageError("--size is for built-in scenes: a video has its own")
    frames: Callable[[], Iterator[Any]] = lambda: read_pictures(source, colour)  # noqa: E731
    video = VideoScene(frames, planes_per_frame)
    planes = video.planes - start if planes is None else planes
    if start >= video.planes or start + planes > video.planes:
        wanted = f"start {start}" if start >= video.planes else f"{planes} planes from {start} on"
        raise UsageError(f"{source} lasts {video.planes} planes at {planes_per_frame:g} a picture: not {wanted}")
    return video, planes


def _check_truth(folder: Path, names: list[str], overwrite: bool, taken: list[str]) -> None:
    """Find out before filming whether the true pictures, and what describes them, can be written.

    taken: what the folder must not be.
    """
    for other in taken:
        if os.path.realpath(folder) == os.path.realpath(other):
            raise OutputError(f"{folder}: is the scene or the recording; give another folder for the truth")
    check_folder(next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place)))
    if folder.exists():
        for name in (TRUTH, *names):
            check_file(folder / name, overwrite)


def _write_truth(folder: Path, entry: dict[str, Any], scene: Scene, start: int, overwrite: bool) -> None:
    """True pictures, and the entry that `evaluate` needs; it names the recording relative to the folder."""
    from spikerecon.pictures import to_uint, write_png
    from spikerecon.scenes import truth

    folder.mkdir(parents=True, exist_ok=True)
    for center, name in zip(entry["centers"], entry["truth"], strict=True):
        picture = to_uint(truth(scene, start + center), bit_depth=8 if entry.get("bayer") else 16)
        write_png(folder / name, picture, overwrite=overwrite)
    write_json([entry], str(folder / TRUTH), overwrite)
