"""Measures what a picture costs here, by method, step and size: python examples/cost.py OUT.png prints tables for
BENCHMARKS.md and draws the plot."""

import sys
import time

import numpy as np
from matplotlib.figure import Figure

import spikerecon
from spikerecon import benchmark
from spikerecon.recording import pack
from spikerecon.simulate import film

STEPS = (1, 2, 5, 10, 20, 40, 60)
SIZES = ((200, 125), (400, 250), (640, 360), (1000, 1000))
FRAMES = 8
PLANES = 20_000  # of the long recording for the averages


def measure(engine: spikerecon.Reconstructor, step: int = 20, width: int = 400, height: int = 250) -> float:
    """Milliseconds a frame."""
    frames = FRAMES if width <= 640 else 3
    planes = sum(engine.kept) + step * (frames + benchmark.WARM_UP_FRAMES - 1)
    recording = film("fan", planes=planes, width=width, height=height)
    run = benchmark.run(engine, recording, frames=frames, step=step, planes_per_second=40_000)
    print(
        f"| {run.method} | {run.precision} | {width}x{height} | {step} | {run.ms_per_frame:.4g} |"
        f" {run.frames_per_second:.3g} | {run.realtime_factor:.2g} |",
        flush=True,
    )
    return run.ms_per_frame


def averages() -> None:
    """TFP of a long recording by the engine, and by numpy as one would write it by hand."""
    spikes = np.random.default_rng(0).random((200, 250, 400)) < 0.2
    rows = np.tile(pack(spikes), (PLANES // 200, 1, 1))
    recording = spikerecon.from_rows(rows, 400)
    engine = spikerecon.Reconstructor("tfp")
    began = time.perf_counter()
    count = sum(1 for _ in engine.frames(recording))
    ours = time.perf_counter() - began
    began = time.perf_counter()
    for center in engine.centers(recording):
        np.unpackbits(rows[center - 10 : center + 10], axis=-1, bitorder="little").mean(0, dtype=np.float32)
    plain = time.perf_counter() - began
    print(f"\nTFP of {PLANES} planes, {count} frames: {ours:.2f} s; numpy, unpackbits and mean: {plain:.2f} s")


def draw(target: str, by_step: list[float], by_size: list[float]) -> None:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(STEPS, by_step, marker="o")
    left.set(xlabel="planes between frames (--step)", ylabel="ms a frame", ylim=(0, None), title="STIR, 400x250")
    right.plot([w * h / 1e6 for w, h in SIZES], by_size, marker="o")
    right.set(xlabel="megapixels", ylabel="ms a frame", xlim=(0, None), ylim=(0, None), title="STIR, step 20")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    print("| method | precision | size | step | ms a frame | frames/s | real time |\n|---|---|---|---|---|---|---|")
    for name in ("tfp", "tfi", "tfstp"):
        measure(spikerecon.Reconstructor(name))
    measure(spikerecon.Reconstructor("stir", precision="float32"))
    stir = spikerecon.Reconstructor("stir")
    steps = [measure(stir, step=step) for step in STEPS]
    sizes = [measure(stir, width=width, height=height) for width, height in SIZES]
    draw(sys.argv[1], steps, sizes)
    averages()
