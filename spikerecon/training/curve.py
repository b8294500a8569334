"""The course of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from spikerecon.errors import OutputError


def draw_curve(log: Path, target: Path) -> None:
    """Loss and validation over the steps of a run's `log.jsonl`, as a PNG.

    Raises OutputError without matplotlib, which is in the extra `spikerecon[plot]`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OutputError("a curve needs matplotlib: pip install 'spikerecon[plot]'") from None
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(8, 4), layout="constrained")
    loss = figure.subplots()
    loss.plot([line["step"] for line in lines], [line["loss"] for line in lines], color="tab:gray")
    loss.set(xlabel="step", ylabel="loss", yscale="log")
    measured = [(line["step"], line["validation_psnr"]) for line in lines if line["validation_psnr"] is not None]
    if measured:
        quality = loss.twinx()
        quality.plot(*zip(*measured, strict=True), color="tab:blue", marker=".")
        quality.set_ylabel("validation PSNR in dB", color="tab:blue")
    figure.savefig(target, dpi=120)
