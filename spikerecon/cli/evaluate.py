"""spikerecon evaluate"""

from __future__ import annotations

import os
from pathlib import Path

import click

from spikerecon.cli.console import check_json, say, table, write_json
from spikerecon.cli.options import (
    MethodOptions,
    files_of,
    json_file_option,
    method_options,
    overwrite_option,
    quiet_option,
)
from spikerecon.errors import UsageError
from spikerecon.names import MODELLED


@click.command("evaluate")
@click.argument("sequences", metavar="SEQUENCES.json")
@method_options
@click.option(
    "--measure",
    "measures",
    type=click.Choice(MODELLED),
    multiple=True,
    help="Measure this as well (lower is better); can be repeated. It fetches a model when first used.",
)
@json_file_option
@click.option("--sheet", metavar="FILE.png", help="Draw truth, TFP, the method and its error, a row a sequence.")
@overwrite_option
@quiet_option
def command(
    sequences: str,
    run: MethodOptions,
    measures: tuple[str, ...],
    json_file: str | None,
    sheet: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure quality against truth: PSNR and SSIM, and with --measure others.

    SEQUENCES.json lists recordings with true pictures, as 'spikerecon simulate --truth' writes it.

    \b
    spikerecon simulate fan -o fan.dat --planes 300 --truth fan-truth
    spikerecon evaluate fan-truth/sequences.json
    """
    from spikerecon import evaluation, pictures

    if json_file and sheet and os.path.abspath(json_file) == os.path.abspath(sheet):
        raise UsageError(f"{sheet}: is to be both the JSON and the sheet; give two names")
    check_json(json_file, overwrite, [Path(sequences)])
    listed = evaluation.load_sequences(sequences)
    recordings = (file for each in listed for file in (*files_of(str(each.path)), *each.truth))
    sources = [*files_of(sequences, run.weights), *recordings]
    check_json(json_file, overwrite, sources)
    if sheet:
        pictures.check_png(sheet, overwrite=overwrite, sources=sources)
    engine = run.reconstructor()
    say(engine.about, quiet)
    results = evaluation.evaluate(
        engine,
        listed,
        lambda score: say(f"{score.name} at {score.center}: {score.psnr:.2f} dB", quiet),
        measures=measures,
    )
    report = results.to_dict(engine)
    if json_file != "-":
        rows = [(score.name, str(score.center), *_written(score.figures)) for score in results.scores]
        rows.append(("mean", "", *_written(results.mean)))
        headings = ("PSNR dB" if name == "psnr" else name.upper() for name in results.mean)
        table(("sequence", "center", *headings), rows)
    if json_file:
        write_json(report, json_file, overwrite)
    if sheet:
        pictures.write_png(sheet, evaluation.sheet(listed, results, engine.method.name), overwrite=overwrite)
        say(sheet, quiet)


def _written(figures: dict[str, float]) -> list[str]:
    return [f"{value:.{2 if name == 'psnr' else 4}f}" for name, value in figures.items()]
