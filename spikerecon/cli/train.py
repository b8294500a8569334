"""spikerecon train"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from spikerecon.cli.console import say
from spikerecon.cli.options import quiet_option

if TYPE_CHECKING:
    from spikerecon.training.loop import TrainProgress


@click.command("train")
@click.option("--images", multiple=True, required=True, metavar="DIR", help="Pictures to train on; can be repeated.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The run; goes on where it stopped.")
@click.option("--steps", type=int, default=100_000, show_default=True, help="Optimiser steps in all.")
@click.option("--batch", type=int, default=8, show_default=True, help="Patches a step.")
@click.option("--patch", type=int, default=96, show_default=True, help="Pixels a side of a patch.")
@click.option("--learning-rate", type=float, default=6e-4, show_default=True, help="The highest.")
@click.option("--width", type=float, default=1.0, show_default=True, help="Multiplier on the channels.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--seed", type=int, default=0, show_default=True)
@quiet_option
def command(
    images: tuple[str, ...],
    output: str,
    steps: int,
    batch: int,
    patch: int,
    learning_rate: float,
    width: float,
    device: str,
    seed: int,
    quiet: bool,
) -> None:
    """Train weights on simulated scenes, made from your own pictures as training goes.

    Stop it at any time (Ctrl-C); the same command goes on. FOLDER/weights.safetensors can be used at any time.
    Pictures with transparency become foreground objects.

    \b
    spikerecon train --images photos -o run --steps 20000
    spikerecon convert fan.dat -o fan.mp4 --weights run/weights.safetensors
    """
    from spikerecon.engine import pick_device
    from spikerecon.errors import UsageError
    from spikerecon.network import StirConfig
    from spikerecon.training.loop import Trainer, TrainSettings
    from spikerecon.training.scenes import Textures, find_pictures

    if min(steps, batch, patch) < 1 or not learning_rate > 0:
        raise UsageError("steps, batch, patch and learning rate must be above 0")
    try:
        config = StirConfig(width=width)
    except ValueError as error:
        raise UsageError(f"--width: {error}") from None
    settings = TrainSettings(steps=steps, batch=batch, patch=patch, rate=learning_rate, seed=seed)
    chosen = pick_device(device)
    textures = Textures.load(find_pictures(images), seed=seed)
    trainer = Trainer(output, textures, config=config, settings=settings, device=chosen)
    say(f"{output}: step {trainer.step} of {steps}, on {trainer.device}", quiet)

    def show(progress: TrainProgress) -> None:
        quality = "" if progress.validation_psnr is None else f", validation {progress.validation_psnr:.2f} dB"
        say(
            f"step {progress.step}/{progress.steps}: loss {progress.loss:.4f}, "
            f"{progress.patches_per_second:.1f} patches/s, {progress.seconds_left / 60:.0f} min left{quality}",
            quiet,
        )

    trainer.run(show)
    say(f"{output}/weights.safetensors: ready", quiet)
