"""spikerecon info"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from spikerecon.cli.console import write_json
from spikerecon.cli.options import InputOptions, files_of, input_options, json_option, overwrite_option


@click.command("info")
@click.argument("path", metavar="INPUT")
@input_options
@click.option("--plot", metavar="FILE.png", help="Draw mean rates, their histogram, and the rate over time.")
@overwrite_option
@json_option
def command(path: str, source: InputOptions, plot: str | None, overwrite: bool, as_json: bool) -> None:
    """Say what a recording is: layout, size, duration, firing rates, trouble spots.

    --start and --end say which planes to take the rates of.

    \b
    spikerecon info fan.dat
    spikerecon info fan.dat --plot fan.png
    spikerecon info capture.dat --size 640x360 --json
    """
    from spikerecon.plot import check_plot, draw_recording
    from spikerecon.recording import flaws_in, rate_summary, spike_counts

    if plot:
        check_plot(plot, overwrite=overwrite, sources=files_of(path))
    with source.open(path) as recording:
        if plot:
            recording.check_whole("--plot takes a file")
        counts, planes = spike_counts(recording, *source.span())
        source.check_ended(recording)
        pixels, flaws = (counts / planes).astype("float32"), flaws_in(counts, planes)
        if plot:
            draw_recording(plot, recording, pixels, planes_per_second=source.rate, overwrite=overwrite)
        rates = rate_summary(pixels)
        seconds = None if recording.planes is None else recording.planes / source.rate
        facts: dict[str, Any] = {
            "input": path,
            "layout": recording.layout,
            "why": recording.why,
            "width": recording.width,
            "height": recording.height,
            "flip": recording.flip,
            "planes": recording.planes,
            "rate": source.rate,
            "seconds": seconds,
            "leftover_bytes": recording.leftover_bytes,
            "planes_counted": planes,
            "firing_rate": asdict(rates),
            "flaws": {"dead": int(flaws.dead.sum()), "stuck": int(flaws.stuck.sum())},
            "notes": recording.notes,
        }
    if as_json:
        write_json(facts, "-")
        return
    length = "not known until its end" if seconds is None else f"{recording.planes}, {1000 * seconds:.6g} ms"
    click.echo(f"{recording.name}")
    click.echo(f"  layout        {recording.layout}: {recording.why}")
    click.echo(f"  size          {recording.width}x{recording.height}{', stored upside down' * recording.flip}")
    click.echo(f"  planes        {length} at {source.rate:g} planes/s")
    counted = "" if planes == recording.planes else f" (counted in {planes} planes)"
    click.echo(
        f"  firing rate   {rates.mean:.4f} spikes a plane on average; of the pixels, 1 % stay below "
        f"{rates.p1:.4f}, half below {rates.p50:.4f}, 99 % below {rates.p99:.4f}{counted}"
    )
    click.echo(f"  trouble       {flaws}, of {rates.always} that always fire and {rates.never} that never do")
