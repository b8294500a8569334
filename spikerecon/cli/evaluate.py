"""spikerecon evaluate"""

from __future__ import annotations

import click

from spikerecon.cli.console import say, table, write_json
from spikerecon.cli.options import MethodOptions, json_file_option, method_options, overwrite_option, quiet_option


@click.command("evaluate")
@click.argument("sequences", metavar="SEQUENCES.json")
@method_options
@json_file_option
@click.option("--sheet", metavar="FILE.png", help="Draw truth, TFP, the method and its error, a row a sequence.")
@overwrite_option
@quiet_option
def command(
    sequences: str, run: MethodOptions, json_file: str | None, sheet: str | None, overwrite: bool, quiet: bool
) -> None:
    """Measure quality against truth: PSNR and SSIM.

    SEQUENCES.json lists recordings with true pictures, as 'spikerecon simulate --truth' writes it.

    \b
    spikerecon simulate fan -o fan.dat --planes 300 --truth fan-truth
    spikerecon evaluate fan-truth/sequences.json
    """
    from spikerecon import evaluation, video

    listed = evaluation.load_sequences(sequences)
    if sheet:
        video.check_png(sheet, overwrite=overwrite)
    engine = run.reconstructor()
    say(engine.about, quiet)
    results = evaluation.evaluate(
        engine, listed, lambda score: say(f"{score.name} at {score.center}: {score.psnr:.2f} dB", quiet)
    )
    report = results.to_dict(engine.method.name, engine.method.about)
    if json_file != "-":
        rows = [(r.name, str(r.center), f"{r.psnr:.2f}", f"{r.ssim:.4f}") for r in results.scores]
        rows.append(("mean", "", f"{results.mean_psnr:.2f}", f"{results.mean_ssim:.4f}"))
        table(("sequence", "center", "PSNR dB", "SSIM"), rows)
    if json_file:
        write_json(report, json_file)
    if sheet:
        video.write_png(sheet, evaluation.sheet(listed, results, engine.method.name), overwrite=overwrite)
        say(sheet, quiet)
