"""The training loop: averaged weights, validation on scenes of its own, state that survives being stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from spikerecon import checkpoint, winograd
from spikerecon.checkpoint import Checkpoint
from spikerecon.device import autocast, pick_precision
from spikerecon.errors import OutputError, SpikeReconError, UsageError
from spikerecon.network import STIR, StirConfig
from spikerecon.plot import draw_curve
from spikerecon.training.losses import PERCEPTUAL_SHARE, PerceptualLoss, stir_loss
from spikerecon.training.optimizer import KernelOptimizer
from spikerecon.training.scenes import PLANES, SceneMaker, SpikeBatches, Textures
from spikerecon.training.start import prepare_start
from spikerecon.training.state import has_state, load_state, save_state

LOG_EVERY = 50  # steps between lines of the log
CLIP = 1.0  # of the gradients' norm
AVERAGE = 0.999  # decay of the averaged weights
VALIDATION_SEED = 2**31
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TrainSettings:
    """How to train. steps: optimiser steps in all. rate: the highest learning rate. pool: see `SpikeBatches`.
    save_every: steps between saves (and validations)."""

    steps: int = 100_000
    batch: int = 8
    patch: int = 96
    rate: float = 1.2e-3
    warmup: int = 200
    pool: int = 1024
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for what has to be above 0."""
        counts = (self.steps, self.batch, self.patch, self.pool, self.save_every)
        if min(counts) < 1 or not 0 < self.rate < math.inf:
            raise UsageError("steps, batch, patch, pool, save_every and learning rate must be above 0")


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


class Trainer:
    """A training run in a folder, started anew or gone on with where it stopped.

    folder: gets `weights.safetensors` (averaged, in half precision, ready for use), the state, and `log.jsonl`.
    textures: what scenes are made of. start: weights to start a new run from. perceptual: the loss of equation 9, or
    None to go without. device: where everything runs. In a process group (torchrun) every process makes its own
    batches, and the first one saves and measures.

    Raises UsageError for sizes that do not fit, or a run in the folder that is damaged or of another network,
    OutputError where the folder holds weights without a run.
    """

    def __init__(
        self,
        folder: str | Path,
        textures: Textures,
        *,
        config: StirConfig | None = None,
        settings: TrainSettings | None = None,
        start: Checkpoint | None = None,
        perceptual: PerceptualLoss | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder = Path(folder)
        self.settings = settings or TrainSettings()
        self.device = torch.device(device)
        # bfloat16 only where there are instructions for it: imitated, it takes eight times as long as float32.
        self.precision = pick_precision("auto", self.device)
        if self.precision == "float16":
            self.precision = "float32"  # gradients would need to be scaled
        grouped = distributed.is_available() and distributed.is_initialized()
        self.process, self.processes = (distributed.get_rank(), distributed.get_world_size()) if grouped else (0, 1)
        self.stopping = False
        self.step = self.patches = 0
        self.seconds = 0.0  # of training, until `since`
        self.since = time.monotonic()
        if config and start and config != start.config:
            raise UsageError("the network's sizes are those of the weights to start from: give one of the two")
        config = config or (start.config if start else StirConfig())
        if config.window_planes != PLANES:
            raise UsageError("training makes 60-plane windows: block_planes must be 20")
        if self.settings.patch % config.multiple:
            raise UsageError(f"a patch of {self.settings.patch} pixels is no multiple of {config.multiple}")
        torch.manual_seed(self.settings.seed)
        self.network = STIR(config)
        if start:
            self.network.load_state_dict(start.state)
        else:
            prepare_start(self.network)
        self.average = STIR(config)
        self.average.load_state_dict(self.network.state_dict())
        for network in (self.network, self.average):
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average.eval().requires_grad_(False)
        self.perceptual = perceptual.to(self.device) if perceptual else None
        self.optimizer = KernelOptimizer(self.network, self.settings.rate)
        self._resume()
        quick = winograd.helps(self.device, self.precision)
        model = winograd.quickened(self.network, learning=True) if quick else self.network
        self.model: nn.Module = DistributedDataParallel(model) if grouped else model
        # Going on from a stop sees new scenes, and so does every process.
        seed = self.settings.seed + 1_000_003 * self.step + 7919 * self.process
        learnt, held_out = (part.to(self.device) for part in textures.split())
        maker = SceneMaker(learnt, self.settings.patch, self.device, seed + 1)
        self.batches = SpikeBatches(maker, batch=self.settings.batch, pool=self.settings.pool)
        maker = SceneMaker(held_out, self.settings.patch, self.device, VALIDATION_SEED)
        validation = SpikeBatches(maker, batch=16, pool=64)
        self.validation = [validation.next() for _ in range(4)]

    def run(self, on_progress: Callable[[TrainProgress], None] | None = None) -> None:
        """Train to `settings.steps`; on KeyboardInterrupt the state is saved before it is passed on, and so it is where
        `stop` was called.

        Raises SpikeReconError where the loss is not finite; the last saved state is kept.
        """
        settings = self.settings
        losses: list[Tensor] = []
        self.since = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.train()
        try:
            while self.step < settings.steps:
                losses.append(self._train_step())
                self.step += 1
                self.patches += settings.batch * self.processes
                if self._to_stop():
                    raise KeyboardInterrupt
                if self.step % LOG_EVERY and not self._due():
                    continue
                progress = self._measure(losses)
                self.since = time.monotonic()
                losses.clear()
                if self.process == 0 and on_progress:
                    on_progress(progress)
        except KeyboardInterrupt:
            self._count_time()
            if self.process == 0 and self._sound():
                self.save()
            raise

    def stop(self) -> None:
        """Have `run` raise KeyboardInterrupt after this step, and so in all processes, whichever is told."""
        self.stopping = True

    def _to_stop(self) -> bool:
        """Whether any process is to stop: to one that stopped alone the others would wait, and a GPU would not end."""
        if self.processes == 1:
            return self.stopping
        told = torch.tensor(float(self.stopping), device=self.device)
        distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return bool(told)

    def _due(self) -> bool:
        """Whether to save after this step."""
        return self.step % self.settings.save_every == 0 or self.step == self.settings.steps

    def _count_time(self) -> float:
        """Seconds since it was counted last; they are added to the run's."""
        now = time.monotonic()
        elapsed, self.since = now - self.since, now
        self.seconds += elapsed
        return elapsed

    def _measure(self, losses: list[Tensor]) -> TrainProgress:
        """Look at the last steps; save and log where it is time to."""
        settings = self.settings
        mean = torch.stack(losses).mean() / self.processes
        if self.processes > 1:
            distributed.all_reduce(mean)
        loss = mean.item()
        self._check_finite(loss)
        elapsed, due = self._count_time(), self._due()
        if due and not self._sound():
            raise SpikeReconError(
                f"the weights became infinite before step {self.step}: stopped; {self.folder} keeps the last good state"
            )
        quality = None
        if due and self.process == 0:
            quality = self.validate()
            self.save()
        speed = len(losses) * settings.batch * self.processes / elapsed
        left = (settings.steps - self.step) * settings.batch * self.processes / speed
        progress = TrainProgress(self.step, settings.steps, loss, self._rate(), speed, left, quality)
        if self.process == 0:
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(vars(progress)) + "\n")
        return progress

    def _train_step(self) -> Tensor:
        spikes, truth, full_scale = self.batches.next()
        scale = self.network.config.rate_scale
        with autocast(self.device, self.precision):
            images = self.model(spikes.to(memory_format=torch.channels_last))
            loss = stir_loss(images, truth / scale, full_scale / scale)
            if self.perceptual is not None:
                white = full_scale[:, None, None, None]
                seen = self.perceptual(images[0] * (scale / white), truth / white)
                loss = loss + PERCEPTUAL_SHARE * seen
        if self.device.type == "cpu":  # where what is not finite ends the process on its way back through warps
            self._check_finite(loss.item())
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.optimizer.step(self._rate())
        self._update_average()
        return loss.detach()

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise SpikeReconError(
                f"the loss became {loss} before step {self.step}: stopped; {self.folder} keeps the last good state, "
                "if there was one: try a smaller --learning-rate"
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(AVERAGE, (self.step + 1) / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def _rate(self) -> float:
        """Warm-up, then a cosine down to a hundredth."""
        settings = self.settings
        warm = min(1.0, (self.step + 1) / max(settings.warmup, 1))
        return settings.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps)))

    def _sound(self) -> bool:
        """Whether all weights are finite in half precision, as they are saved: losses tell of those before the last
        step only."""
        values = self.average.state_dict().values()
        return all(bool(value.half().isfinite().all()) for value in values if value.is_floating_point())

    @torch.no_grad()
    def validate(self) -> float:
        """Mean PSNR in dB (peak: a scene's full scale) of the averaged weights on scenes kept apart."""
        values = []
        for spikes, truth, full_scale in self.validation:
            with autocast(self.device, self.precision):
                rate = self.average.reconstruct(spikes.to(memory_format=torch.channels_last))
            error = ((rate - truth[:, 0]) / full_scale[:, None, None]).square().mean((1, 2))
            values.append(-10 * error.log10())
        return torch.cat(values).mean().item()

    def save(self) -> None:
        """Write the averaged weights and, with them, all that is needed to go on."""
        info = {
            "origin": "trained by spikerecon on simulated scenes",
            "steps": str(self.step),
            "patches": str(self.patches),
            "hours": f"{self.seconds / 3600:.2f}",
        }
        weights = Checkpoint(self.average.config, self.average.state_dict(), info=info)
        checkpoint.save(self.folder / WEIGHTS, weights.half(), overwrite=True)
        # The average is that of the weights file, so that little has to be carried.
        state = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        state |= {f"optimizer.{key}": value for key, value in self.optimizer.state().items()}
        save_state(self.folder, state, {"step": self.step, "patches": self.patches, "seconds": self.seconds})

    def draw_curve(self) -> Path:
        """Draw the run's log as `curve.png` in its folder. Raises OutputError without matplotlib."""
        draw_curve(self.folder / "log.jsonl", self.folder / "curve.png")
        return self.folder / "curve.png"

    def _resume(self) -> None:
        """Go on with the run in the folder, if there is one.

        Raises UsageError where it is damaged or does not fit, OutputError where there are weights without a run.
        """
        if not has_state(self.folder):
            if (self.folder / WEIGHTS).exists():
                raise OutputError(
                    f"{self.folder / WEIGHTS}: is there, but no run to go on with: give another folder, or move it away"
                )
            return
        try:
            state, record = load_state(self.folder)
            self.step, self.patches = int(record["step"]), int(record["patches"])
            self.seconds = float(record["seconds"])
            self.network.load_state_dict(_part(state, "network."))
            self.average.load_state_dict(checkpoint.load(self.folder / WEIGHTS).state)
            self.optimizer.load_state(_part(state, "optimizer."))
        except (ValueError, KeyError, TypeError, RuntimeError, OSError, SafetensorError, SpikeReconError) as error:
            raise UsageError(
                f"{self.folder}: the run there is damaged or of another network: give another folder, or its settings"
            ) from error


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin so, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
