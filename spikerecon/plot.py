"""Recordings and training runs at a glance, as pictures. Needs matplotlib, which is in the extra `plot`."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikerecon.errors import OutputError, UsageError
from spikerecon.files import appearing, check_file
from spikerecon.recording import Recording, rate_over_time


def check_plot(target: str | Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> None:
    """Raises OutputError if a picture of that name cannot be drawn: no matplotlib, a file that is there or is read;
    UsageError if it is not .png."""
    target = Path(target)
    _check_matplotlib()
    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: a plot is a .png file")
    check_file(target, overwrite, sources=sources)


def draw_recording(
    target: str | Path,
    recording: Recording,
    rates: NDArray[np.float32],
    *,
    planes_per_second: float,
    overwrite: bool = False,
) -> None:
    """Draws the mean firing rate of each pixel, a histogram of it, and the rate over time, as a PNG.

    Raises UsageError for a stream, which can be read once only, and OutputError as `check_plot`.
    """
    recording.check_whole("a plot takes a file")
    check_plot(target, overwrite=overwrite)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplot_mosaic([["map", "histogram"], ["time", "time"]], height_ratios=(3, 2))
    white = float(np.percentile(rates, 99.5)) or 1.0
    picture = axes["map"].imshow(rates, cmap="gray", vmin=0, vmax=white)
    name = Path(recording.name).name.encode(errors="replace").decode()  # names of files need not be text
    about = f"{name}: {recording.width}x{recording.height} {recording.layout}"
    axes["map"].set_title(about, parse_math=False)
    figure.colorbar(picture, ax=axes["map"], label="spikes a plane")
    axes["histogram"].hist(rates.ravel(), bins=100, color="tab:gray", log=True)
    axes["histogram"].set(xlabel="spikes a plane", ylabel="pixels")
    when, mean = rate_over_time(recording)
    axes["time"].plot(when * (1000 / planes_per_second), mean, color="tab:blue", linewidth=1)
    axes["time"].set(
        xlabel=f"ms at {planes_per_second:g} planes/s", ylabel="mean spikes a plane", ylim=(0, 1.15 * mean.max() or 1)
    )
    axes["time"].grid(alpha=0.3)
    with appearing(Path(target), overwrite) as unfinished:
        figure.savefig(unfinished, dpi=120)


def draw_curve(log: Path, target: Path) -> None:
    """Loss and validation over the steps of a run's `log.jsonl`, as a PNG.

    Raises OutputError without matplotlib, without a sound log, and where it cannot be written.
    """
    _check_matplotlib()
    from matplotlib.figure import Figure

    lines: list[tuple[int, float, float | None]] = []
    try:
        for entry in map(json.loads, log.read_text().splitlines()):
            step, loss_there, quality_there = (entry[key] for key in ("step", "loss", "validation_psnr"))
            while lines and lines[-1][0] >= step:  # steps behind the last saved state, made once more
                lines.pop()
            lines.append((step, loss_there, quality_there))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{target}: is not drawn: {log} is no sound log of a run: {error}") from None
    figure = Figure(figsize=(8, 4), layout="constrained")
    loss = figure.subplots()
    loss.plot([step for step, _, _ in lines], [value for _, value, _ in lines], color="tab:gray")
    loss.set(xlabel="step", ylabel="loss", yscale="log")
    measured = [(step, value) for step, _, value in lines if value is not None]
    if measured:
        quality = loss.twinx()
        quality.plot(*zip(*measured, strict=True), color="tab:blue", marker=".")
        quality.set_ylabel("validation PSNR in dB", color="tab:blue")
    with appearing(target) as unfinished:
        figure.savefig(unfinished, dpi=120)


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OutputError("a plot needs matplotlib: pip install 'spikerecon[plot]'") from None
