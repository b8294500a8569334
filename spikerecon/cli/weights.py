"""spikerecon weights"""

from __future__ import annotations

import click

from spikerecon.cli.console import say, table
from spikerecon.cli.options import overwrite_option
from spikerecon.errors import UsageError


@click.group("weights")
def command() -> None:
    """See what weights there are, check them, import published ones.

    \b
    spikerecon weights list
    spikerecon weights import stir.pth -o stir-published.safetensors
    """


@command.command("list")
def list_() -> None:
    """What is bundled.

    \b
    spikerecon weights list
    """
    from spikerecon import checkpoint

    rows = []
    for name in checkpoint.bundled():
        loaded = checkpoint.load(name)
        size = f"{loaded.parameters / 1e6:.2f} M"
        planes = str(loaded.config.window_planes)
        rows.append((name, size, planes, loaded.digest, loaded.info.get("origin", "")))
    table(("name", "parameters", "planes", "digest", "origin"), rows)


@command.command("import")
@click.argument("path", metavar="FILE.pth")
@click.option("-o", "--output", required=True, metavar="FILE.safetensors")
@overwrite_option
def import_(path: str, output: str, overwrite: bool) -> None:
    """Turn a checkpoint published for STIR into safetensors, without running any code in it.

    \b
    spikerecon weights import stir.pth -o stir-published.safetensors
    """
    from spikerecon import checkpoint

    if not output.endswith(".safetensors"):
        raise UsageError(f"{output}: weights are written as .safetensors")
    loaded = checkpoint.import_published(path)
    checkpoint.save(output, loaded, overwrite=overwrite)
    say(f"{output}: {loaded.parameters / 1e6:.2f} M parameters, {loaded.config.window_planes}-plane windows")


@command.command("check")
@click.argument("path", required=False, metavar="[FILE]")
def check(path: str | None) -> None:
    """Read weights (all that are bundled, or FILE), and show configuration, origin and digest, of FILE shapes as well.

    \b
    spikerecon weights check
    spikerecon weights check my.safetensors
    """
    from spikerecon import checkpoint

    for name in [path] if path else checkpoint.bundled():
        loaded = checkpoint.load(name)
        click.echo(f"{checkpoint.find(name)}: sound, {loaded.parameters} parameters, digest {loaded.digest}")
        for key, value in {**loaded.config.to_dict(), **loaded.info}.items():
            click.echo(f"  {key:16}{value}")
        if path:
            table(("entry", "shape"), [(k, "x".join(map(str, v.shape)) or "1") for k, v in loaded.state.items()])
