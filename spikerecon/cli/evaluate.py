"""spikerecon evaluate"""

from __future__ import annotations

import click

from spikerecon.cli.console import say, table, write_json
from spikerecon.cli.options import MethodOptions, json_file_option, method_options, quiet_option


@click.command("evaluate")
@click.argument("sequences", metavar="SEQUENCES.json")
@method_options
@json_file_option
@quiet_option
def command(sequences: str, run: MethodOptions, json_file: str | None, quiet: bool) -> None:
    """Measure quality against truth: PSNR and SSIM.

    SEQUENCES.json lists recordings with true pictures, as 'spikerecon simulate --truth' writes it.

    \b
    spikerecon simulate fan -o fan.dat --planes 300 --truth fan-truth
    spikerecon evaluate fan-truth/sequences.json
    """
    from spikerecon.evaluation import evaluate, load_sequences

    listed = load_sequences(sequences)
    engine = run.reconstructor()
    say(engine.about, quiet)
    results = evaluate(engine, listed)
    report = results.to_dict(engine.method.name, engine.method.about)
    if json_file != "-":
        rows = [(r.name, str(r.center), f"{r.psnr:.2f}", f"{r.ssim:.4f}") for r in results.scores]
        rows.append(("mean", "", f"{results.mean_psnr:.2f}", f"{results.mean_ssim:.4f}"))
        table(("sequence", "center", "PSNR dB", "SSIM"), rows)
    if json_file:
        write_json(report, json_file)
