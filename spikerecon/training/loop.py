"""The training loop: losses of the paper's section 4.6, averaged weights, state that survives being stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spikerecon import checkpoint
from spikerecon.checkpoint import Checkpoint
from spikerecon.errors import SpikeReconError, UsageError
from spikerecon.network import EXPLICIT_TRIMS, STIR, StirConfig
from spikerecon.training.scenes import SceneMaker, SpikeBatches, Textures

STATE_PART_BYTES = 15 * 2**20  # a run's state is kept in files of at most this, to be carried anywhere
VALIDATION_SEED = 2**31


@dataclass(frozen=True)
class TrainSettings:
    """How to train. steps: optimiser steps in all. rate: the highest learning rate. average: decay of the averaged
    weights. pool, renew: see `SpikeBatches`. save_every: steps between saves (and validations)."""

    steps: int = 100_000
    batch: int = 8
    patch: int = 96
    rate: float = 6e-4
    warmup: int = 200
    clip: float = 1.0
    average: float = 0.999
    pool: int = 1024
    renew: int = 2
    save_every: int = 500
    seed: int = 0


@dataclass(frozen=True)
class TrainProgress:
    """One line of a run's log. loss: mean since the last line. validation_psnr: dB, on scenes of its own, or None."""

    step: int
    steps: int
    loss: float
    rate: float
    patches_per_second: float
    seconds_left: float
    validation_psnr: float | None = None


def stir_loss(images: list[Tensor], truth: Tensor, full_scale: Tensor) -> Tensor:
    """Reconstruction and multi-scale loss (equations 7, 8 and 10; without the perceptual term).

    images: levels 1 to L, unclamped. truth: (B, 1, H, W) in the pictures' units. full_scale: (B,), the brightest
    value a scene can have: dark scenes weigh more, by its root, or bright ones would be all that is learnt.
    """
    weight = full_scale.rsqrt()[:, None, None, None]
    total = truth.new_zeros(())
    for level, image in enumerate(images):
        target = F.avg_pool2d(truth, 2**level) if level else truth
        share = 1.0 if level == 0 else 1 / (2**level * (len(images) - 1))
        total = total + share * (weight * (image.float() - target).abs()).mean()
    return total


def prepare_start(network: STIR) -> None:
    """Start training from a network that already draws a blurred picture and sees no motion.

    The published form is kept: only first values are chosen. Motions are doubled in size and value on their way up,
    and level 1 passes the middle block's firing rates on to the picture.
    """
    bottom = network.bottom
    with torch.no_grad():
        for decoder in (network.top, *network.middle):
            predict = cast(nn.Conv2d, decoder.predict)
            predict.weight[:4] *= 0.1
            cast(Tensor, predict.bias)[:4] = 0
        for decoder in (*network.middle, bottom):
            _double(cast(nn.ConvTranspose2d, decoder.up_motion))
        if bottom.groups > 1:
            _double(bottom.up_groups)
            bottom.predict_groups.weight *= 0.1
            cast(Tensor, bottom.predict_groups.bias).zero_()
        bottom.refine.residual.conv2.weight *= 0.1
        cast(Tensor, bottom.predict.bias).zero_()
        if network.config.embedding == "implicit":
            return
        rates = len(EXPLICIT_TRIMS)
        first, second = (cast(nn.Conv2d, conv[0]) for conv in (bottom.refine.conv1, bottom.refine.conv2))
        for rate in range(rates):
            place = 1 + rate  # behind the coarser picture, the middle block's features come first
            first.weight[place] *= 0.1
            first.weight[place, place, 1, 1] += 1
            second.weight[rate] *= 0.1
            second.weight[rate, place, 1, 1] += 1
            bottom.predict.weight[0, rate, 1, 1] += 1 / rates


def _double(layer: nn.ConvTranspose2d) -> None:
    """Make a transposed convolution a bilinear doubling of size and of values (motions are in pixels)."""
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight *= 0.1
    for channel in range(layer.in_channels):
        layer.weight[channel, channel] += 2 * torch.outer(taps, taps)
    cast(Tensor, layer.bias).zero_()


class Trainer:
    """A training run in a folder, started anew or gone on with where it stopped.

    folder: gets `weights.safetensors` (averaged, in half precision, ready for use), `state-*.safetensors` and
    `log.jsonl`.
    textures: what scenes are made of. device: where everything runs.
    """

    def __init__(
        self,
        folder: str | Path,
        textures: Textures,
        *,
        config: StirConfig | None = None,
        settings: TrainSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder = Path(folder)
        self.settings = settings or TrainSettings()
        self.device = torch.device(device)
        self.step = 0
        self.seconds = 0.0
        config = config or StirConfig()
        if config.window_planes != 60:
            raise UsageError("training makes 60-plane windows: block_planes must be 20")
        if self.settings.patch % config.multiple:
            raise UsageError(f"a patch of {self.settings.patch} pixels is no multiple of {config.multiple}")
        torch.manual_seed(self.settings.seed)
        self.network = STIR(config)
        prepare_start(self.network)
        self.average = STIR(config)
        self.average.load_state_dict(self.network.state_dict())
        for network in (self.network, self.average):
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average.eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.settings.rate, weight_decay=1e-4)
        self._resume()
        seed = self.settings.seed + 1_000_003 * self.step  # going on from a stop sees new scenes
        maker = SceneMaker(textures, self.settings.patch, self.device, seed + 1)
        self.batches = SpikeBatches(
            maker, batch=self.settings.batch, pool=self.settings.pool, renew=self.settings.renew
        )
        held_out = SceneMaker(textures, self.settings.patch, self.device, VALIDATION_SEED)
        validation = SpikeBatches(held_out, batch=16, pool=64, renew=16)
        self.validation = [validation.next() for _ in range(4)]

    def run(self, on_progress: Callable[[TrainProgress], None] | None = None) -> None:
        """Train to `settings.steps`; on KeyboardInterrupt the state is saved before it is passed on.

        Raises SpikeReconError where the loss is not finite; the last saved state is kept.
        """
        settings = self.settings
        losses: list[Tensor] = []
        since = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.network.train()
        try:
            while self.step < settings.steps:
                losses.append(self._train_step())
                self.step += 1
                if self.step % 50 and self.step != settings.steps:
                    continue
                loss = torch.stack(losses).mean().item()
                if not math.isfinite(loss):
                    raise SpikeReconError(
                        f"the loss became {loss} before step {self.step}: stopped; "
                        f"{self.folder} keeps the last good state"
                    )
                elapsed = time.monotonic() - since
                self.seconds += elapsed
                since = time.monotonic()
                quality = None
                if self.step % settings.save_every == 0 or self.step == settings.steps:
                    quality = self.validate()
                    self.save()
                speed = len(losses) * settings.batch / elapsed
                progress = TrainProgress(
                    self.step,
                    settings.steps,
                    loss,
                    self._rate(),
                    speed,
                    (settings.steps - self.step) * settings.batch / speed,
                    quality,
                )
                losses.clear()
                with (self.folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(vars(progress)) + "\n")
                if on_progress:
                    on_progress(progress)
        except KeyboardInterrupt:
            self.save()
            raise

    def _train_step(self) -> Tensor:
        spikes, truth, full_scale = self.batches.next()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        with torch.autocast(self.device.type, torch.bfloat16):
            images = self.network(spikes.to(memory_format=torch.channels_last))
        scale = self.network.config.rate_scale
        loss = stir_loss(images, truth / scale, full_scale / scale)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        decay = min(self.settings.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)
        return loss.detach()

    def _rate(self) -> float:
        """Warm-up, then a cosine down to a hundredth."""
        settings = self.settings
        warm = min(1.0, (self.step + 1) / settings.warmup)
        return settings.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps)))

    @torch.no_grad()
    def validate(self) -> float:
        """Mean PSNR in dB (peak: a scene's full scale) of the averaged weights on scenes kept apart."""
        values = []
        for spikes, truth, full_scale in self.validation:
            with torch.autocast(self.device.type, torch.bfloat16):
                rate = self.average.reconstruct(spikes.to(memory_format=torch.channels_last))
            error = ((rate - truth[:, 0]) / full_scale[:, None, None]).square().mean((1, 2))
            values.append(-10 * error.log10())
        return torch.cat(values).mean().item()

    def save(self) -> None:
        """Write the averaged weights and all that is needed to go on."""
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
        parts: list[dict[str, Tensor]] = [{}]
        size = 0
        for key, value in state.items():
            if size + value.nbytes > STATE_PART_BYTES and parts[-1]:
                parts.append({})
                size = 0
            parts[-1][key] = value.detach().cpu().contiguous()
            size += value.nbytes
        about = {"step": str(self.step), "seconds": str(round(self.seconds))}
        for number, part in enumerate(parts):
            target = self.folder / f"state-{number:02d}.safetensors"
            save_file(part, target.with_suffix(".new"), about)
        for number in range(len(parts)):
            target = self.folder / f"state-{number:02d}.safetensors"
            target.with_suffix(".new").replace(target)
        (self.folder / "run.json").write_text(json.dumps({"step": self.step, "seconds": self.seconds}))
        settings = self.settings
        info = {
            "origin": "trained by spikerecon on simulated scenes",
            "steps": str(self.step),
            "patches": str(self.step * settings.batch),
            "hours": f"{self.seconds / 3600:.2f}",
        }
        weights = Checkpoint(self.average.config, self.average.state_dict(), info=info)
        checkpoint.save(self.folder / "weights.safetensors", weights.half(), overwrite=True)

    def _resume(self) -> None:
        """Go on with the run in the folder, if there is one. Raises UsageError where it is damaged or does not fit."""
        if not (self.folder / "run.json").is_file():
            return
        try:
            self._load()
        except (ValueError, KeyError, RuntimeError, OSError, SafetensorError) as error:
            raise UsageError(
                f"{self.folder}: the run there is damaged or of another network: give another folder, or its settings"
            ) from error

    def _load(self) -> None:
        record = self.folder / "run.json"
        saved = json.loads(record.read_text())
        self.step, self.seconds = saved["step"], saved["seconds"]
        state: dict[str, Tensor] = {}
        for part in sorted(self.folder.glob("state-*.safetensors")):
            state |= load_file(part)
        for name in ("network", "average"):
            own = {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}
            getattr(self, name).load_state_dict(own)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimizer."):
                _, index, kind = key.split(".")
                moments.setdefault(int(index), {})[kind] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
