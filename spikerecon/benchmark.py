"""How fast it is here: timed runs of the engine, and of the plain network beside it."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from spikerecon import video
from spikerecon.engine import Frame, Reconstructor, plain_frame
from spikerecon.errors import UsageError
from spikerecon.methods import Method, Tfstp
from spikerecon.metrics import psnr
from spikerecon.planes import pad
from spikerecon.recording import Recording

WARM_UP_FRAMES = 2


@dataclass(frozen=True)
class Reference:
    """The plain float32 network, one window at a time, on the same frames.

    ratio: how many times faster the engine is. max_difference: largest difference between their frames, of full scale.
    psnr: dB between them, peak 1.
    """

    ms_per_frame: float
    ratio: float
    max_difference: float
    psnr: float


@dataclass(frozen=True)
class Benchmark:
    """Measured figures. weights: where they come from, or what the method does without. bin: planes merged into one.
    stages: share of the time, by name. gflop_per_frame: 2 per multiply-add, one window alone."""

    method: str
    weights: str
    bin: int
    device: str
    processor: str
    precision: str
    batch_size: int
    width: int
    height: int
    frames: int
    step: int
    frames_per_second: float
    ms_per_frame: float
    realtime_factor: float
    peak_memory_bytes: int | None
    parameters: int
    gflop_per_frame: float
    stages: dict[str, float]
    compare: dict[str, Any] = field(default_factory=dict)


def run(
    engine: Reconstructor,
    recording: Recording,
    *,
    frames: int,
    step: int,
    planes_per_second: float,
    start: int = 0,
    end: int | None = None,
    compare: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Benchmark:
    """Time `frames` frames of a recording, from packed bytes to a written video, after a warm-up.

    The rate is the engine's own (frames as arrays); stages are timed in a second, synchronised run. Raises UsageError
    where the recording is too short for a single frame after the warm-up, and for a comparison of TFSTP, which has no
    windows, or in colour.
    """
    reference = engine.method if compare else None
    if isinstance(reference, Tfstp):
        raise UsageError("tfstp goes from plane to plane: there is no way window by window to compare it with")
    if compare and engine.bayer is not None:
        raise UsageError("the plain network knows no colours: compare it without bayer")
    tell = on_progress or (lambda text: None)
    centers = engine.centers(recording, start=start, end=end, step=step)[: WARM_UP_FRAMES + frames]
    if len(centers) <= WARM_UP_FRAMES:
        raise UsageError(f"{recording.name} holds {len(centers)} windows at step {step}: too few to time")
    timed = centers[WARM_UP_FRAMES:]  # TFSTP starts there: planes that only warm it up are not to be timed
    tell("warming up")
    many = engine.batch_for(recording) > WARM_UP_FRAMES  # every size of a batch has its own start, and every thread
    for _ in engine.frames(recording, timed if many else centers[:WARM_UP_FRAMES]):
        pass
    if engine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(engine.device)
    tell(f"{len(timed)} frames")
    began = time.perf_counter()
    pictures = list(engine.frames(recording, timed, start=timed[0]))
    seconds = time.perf_counter() - began
    peak = _peak_memory(engine)

    tell("stages")
    stages = _stages(engine, recording, timed)
    network = engine.method.network
    measured = Benchmark(
        method=engine.method.name,
        weights=engine.method.about,
        bin=engine.merge,
        device=str(engine.device),
        processor=_processor(engine),
        precision=engine.precision,
        batch_size=engine.batch_for(recording),
        width=recording.width,
        height=recording.height,
        frames=len(timed),
        step=step,
        frames_per_second=len(timed) / seconds,
        ms_per_frame=1000 * seconds / len(timed),
        realtime_factor=len(timed) / seconds * step / planes_per_second,
        peak_memory_bytes=peak,
        parameters=sum(p.numel() for p in network.parameters()) if network is not None else 0,
        gflop_per_frame=_gflop(engine, recording),
        stages=stages,
    )
    if reference is not None:
        tell("reference")
        measured.compare["reference"] = vars(_reference(engine, reference, recording, timed, pictures, seconds))
    return measured


def _stages(engine: Reconstructor, recording: Recording, centers: range) -> dict[str, float]:
    """Share of each stage of a run in which nothing overlaps on the device, writing included."""
    engine.measure = True
    engine.seconds = dict.fromkeys(engine.seconds, 0.0)
    pictures = list(engine.frames(recording, centers, start=centers[0]))
    engine.measure = False
    seconds = dict(engine.seconds)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        video.save(Path(folder) / "bench.mp4", (picture.rate for picture in pictures), gain=1.0)
        seconds["write"] = time.perf_counter() - began
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()}


def _reference(
    engine: Reconstructor, method: Method, recording: Recording, centers: range, pictures: list[Frame], seconds: float
) -> Reference:
    sample = centers[:5]
    plain_frame(method, recording, sample[0], engine.merge)  # warm-up
    began = time.perf_counter()
    frames = [plain_frame(method, recording, center, engine.merge) for center in sample]
    each = (time.perf_counter() - began) / len(sample)
    found, plain = (np.concatenate([frame.rate for frame in some]) for some in (pictures[: len(sample)], frames))
    scale = float(plain.max()) or 1.0
    return Reference(
        ms_per_frame=1000 * each,
        ratio=each * len(centers) / seconds,
        max_difference=float(np.abs(found - plain).max()) / scale,
        psnr=psnr(found / scale, plain / scale),
    )


def _gflop(engine: Reconstructor, recording: Recording) -> float:
    method = engine.method
    if method.network is None:
        return 0.0
    device = next(method.network.parameters()).device
    block = torch.zeros(1, method.block_planes, recording.height, recording.width, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = [method.encode(pad(block, method.multiple)) for _ in method.offsets]
        method.decode(*features)
    return counter.get_total_flops() / 1e9


def _peak_memory(engine: Reconstructor) -> int | None:
    """Of the GPU where the work is there, else of this process; None on Windows, where Python cannot ask for it."""
    if engine.device.type == "cuda":
        return torch.cuda.max_memory_allocated(engine.device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor(engine: Reconstructor) -> str:
    if engine.device.type == "cuda":
        return torch.cuda.get_device_name(engine.device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {torch.get_num_threads()} threads"
