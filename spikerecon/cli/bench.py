"""spikerecon bench"""

from __future__ import annotations

from dataclasses import asdict

import click

from spikerecon.cli.console import check_json, say, table, write_json
from spikerecon.cli.options import (
    InputOptions,
    MethodOptions,
    files_of,
    input_options,
    json_file_option,
    method_options,
    overwrite_option,
    quiet_option,
    step_option,
)
from spikerecon.errors import UsageError


@click.command("bench")
@click.argument("path", required=False, metavar="[INPUT]")
@click.option("--frames", type=int, help="Frames to time. [default: five batches, at least 10]")
@click.option(
    "--compare",
    type=click.Choice(["reference"]),
    help="Also time the plain float32 network, window by window.",
)
@input_options
@method_options
@step_option
@json_file_option
@overwrite_option
@quiet_option
def command(
    path: str | None,
    frames: int | None,
    compare: str | None,
    source: InputOptions,
    run: MethodOptions,
    step: int,
    json_file: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure how fast it is here; without INPUT, on a built-in scene of 400x250.

    \b
    spikerecon bench
    spikerecon bench --method tfp
    spikerecon bench capture.dat --compare reference --json bench.json
    """
    from spikerecon import benchmark

    if (frames is not None and frames < 1) or step < 1:
        raise UsageError("--frames and --step are whole numbers from 1 on")
    check_json(json_file, overwrite, files_of(path, run.weights))
    with source.filmed(60) if path is None else source.open(path) as recording:
        recording.check_whole("bench takes a file")
        start, end = source.span()
        engine = run.reconstructor(recording, start, end)
        if frames is None:
            frames = max(10, 5 * engine.batch_for(recording))
        if path is None:
            recording = source.filmed(sum(engine.kept) + step * (frames + benchmark.WARM_UP_FRAMES - 1))
        measured = benchmark.run(
            engine,
            recording,
            frames=frames,
            step=step,
            planes_per_second=source.rate,
            start=start,
            end=end,
            compare=compare is not None,
            on_progress=lambda text: say(text, quiet),
        )
    if json_file != "-":
        _show(measured, recording.name)
    if json_file:
        write_json(asdict(measured), json_file, overwrite)


def _show(measured: object, name: str) -> None:
    from spikerecon.benchmark import Benchmark

    assert isinstance(measured, Benchmark)
    peak = measured.peak_memory_bytes
    rows = [
        ("recording", f"{name}, {measured.width}x{measured.height}"),
        ("method", f"{measured.method}: {measured.weights}"),
        ("planes in one (--bin)", str(measured.bin)),
        ("device", f"{measured.device} ({measured.processor})"),
        ("precision, batch", f"{measured.precision}, {measured.batch_size}"),
        ("frames timed", f"{measured.frames}, one every {measured.step} planes"),
        ("ms a frame", f"{measured.ms_per_frame:.4g}"),
        ("frames/s", f"{measured.frames_per_second:.4g}"),
        ("real time", f"{measured.realtime_factor:.3g}x"),
        ("peak memory", "not told here" if peak is None else f"{peak / 2**20:.0f} MiB"),
        ("parameters", f"{measured.parameters / 1e6:.2f} M"),
        ("GFLOP a frame", f"{measured.gflop_per_frame:.1f}"),
        *((f"  {stage}", f"{100 * share:.1f} %") for stage, share in measured.stages.items()),
    ]
    if "reference" in measured.compare:
        plain = measured.compare["reference"]
        rows += [
            ("reference, ms a frame", f"{plain['ms_per_frame']:.4g}"),
            ("times faster", f"{plain['ratio']:.2f}"),
            ("frames agree to", f"{plain['max_difference']:.1e} (PSNR {plain['psnr']:.1f} dB)"),
        ]
    table(("figure", "here"), rows)
