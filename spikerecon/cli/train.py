"""spikerecon train"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spikerecon.cli.console import say
from spikerecon.cli.options import quiet_option
from spikerecon.cli.signals import ending_goes_to
from spikerecon.errors import OutputError, UsageError
from spikerecon.files import check_folder

if TYPE_CHECKING:
    import torch

    from spikerecon.training.loop import Trainer, TrainProgress


TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # what it sets, and others in its place


@click.command("train")
@click.option("--images", multiple=True, required=True, metavar="DIR", help="Pictures to train on; can be repeated.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The run; goes on where it stopped.")
@click.option("--steps", type=int, default=100_000, show_default=True, help="Optimiser steps in all.")
@click.option("--batch", type=int, default=8, show_default=True, help="Patches a step.")
@click.option("--patch", type=int, default=96, show_default=True, help="Pixels a side of a patch.")
@click.option("--learning-rate", type=float, default=1.2e-3, show_default=True, help="The highest.")
@click.option("--width", type=float, help="Multiplier on the channels. [default: 1, or that of --weights]")
@click.option("--weights", metavar="NAME|FILE", help="Start a new run from these instead of from nothing.")
@click.option(
    "--perceptual", metavar="FILE", help="Add the perceptual loss; FILE holds VGG-16 weights with torchvision's names."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@quiet_option
def command(
    images: tuple[str, ...],
    output: str,
    steps: int,
    batch: int,
    patch: int,
    learning_rate: float,
    width: float | None,
    weights: str | None,
    perceptual: str | None,
    device: str,
    seed: int,
    quiet: bool,
) -> None:
    """Train weights on simulated scenes, made from your own pictures as training goes.

    Stop it at any time (Ctrl-C); the same command goes on. FOLDER/weights.safetensors, which is there from step 500 on,
    can be used at any time.
    Pictures with transparency become foreground objects. With matplotlib there, FOLDER/curve.png shows the course.
    Under torchrun it trains on as many GPUs as there are processes, --batch patches on each.

    \b
    spikerecon train --images photos -o run --steps 20000
    torchrun --nproc-per-node 4 -m spikerecon train --images photos -o run
    spikerecon convert fan.dat -o fan.mp4 --weights run/weights.safetensors
    """
    from spikerecon import checkpoint
    from spikerecon.device import pick_device
    from spikerecon.network import StirConfig
    from spikerecon.training.loop import Trainer, TrainSettings
    from spikerecon.training.losses import PerceptualLoss
    from spikerecon.training.scenes import Textures, find_pictures
    from spikerecon.training.start import following

    settings = TrainSettings(steps=steps, batch=batch, patch=patch, rate=learning_rate, seed=seed)
    if weights and width is not None:
        raise UsageError("--width and --weights exclude each other: weights have their width")
    try:
        config = None if weights else StirConfig(width=1.0 if width is None else width, follow=True)
    except ValueError as error:
        raise UsageError(f"--width: {error}") from None
    if os.path.lexists(output):
        check_folder(Path(output))
    for folder in images:
        if Path(output).resolve().is_relative_to(Path(folder).resolve()):
            raise OutputError(f"{output}: lies in {folder}: its curve would be trained on; give another folder")
    chosen = pick_device(device)
    start = following(checkpoint.load(weights)) if weights else None
    vgg = PerceptualLoss(perceptual) if perceptual else None
    textures = Textures.load(find_pictures(images), seed=seed)
    with _process_group(chosen) as own:
        _train(
            Trainer(output, textures, config=config, settings=settings, start=start, perceptual=vgg, device=own), quiet
        )


def _train(trainer: Trainer, quiet: bool) -> None:
    quiet = quiet or trainer.process > 0
    steps = f"step {trainer.step} of {trainer.settings.steps}"
    say(f"{trainer.folder}: {steps}, on {trainer.device} in {trainer.precision}", quiet)
    # torchrun passes signals on to its processes at different instants.
    together = trainer.processes > 1
    with ending_goes_to(lambda *_: trainer.stop()) if together else nullcontext():
        trainer.run(lambda progress: _show(progress, quiet))
    if trainer.process == 0:
        try:
            trainer.draw_curve()
        except OutputError as error:
            say(f"note: {error}", quiet)
    say(f"{trainer.folder}/weights.safetensors: ready", quiet)


def _show(progress: TrainProgress, quiet: bool) -> None:
    quality = "" if progress.validation_psnr is None else f", validation {progress.validation_psnr:.2f} dB"
    say(
        f"step {progress.step}/{progress.steps}: loss {progress.loss:.4f}, "
        f"{progress.patches_per_second:.1f} patches/s, {progress.seconds_left / 60:.0f} min left{quality}",
        quiet,
    )


@contextmanager
def _process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes where torchrun started several; the device is then this process's own.

    What works with the group is to be gone at the end: the group's threads live as long as anything holds it, and one
    that is at work while Python ends can abort the process.
    """
    from torch import cuda, distributed

    from spikerecon.device import pick_device

    if not os.environ.keys() >= TORCHRUN:
        yield device
        return
    if device.type == "cuda":
        device = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        cuda.set_device(device)
    from torch.distributed import nn  # noqa: F401  imported after the group, its functions' defaults would hold it

    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield device
    gc.collect()
    distributed.destroy_process_group()  # where one process has failed, the others would be waited for
