"""Training: data with exact truth, losses, and runs that go on where they stopped."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import needs_cuda
from PIL import Image
from torch import nn

from spikerecon import checkpoint
from spikerecon.checkpoint import PUBLISHED_CONFIG, Checkpoint
from spikerecon.engine import Reconstructor, plain_frame
from spikerecon.errors import OutputError, RecordingError, SpikeReconError, UsageError, WeightsError
from spikerecon.follow import FOLLOWED_CHANNELS
from spikerecon.methods import Stir
from spikerecon.network import STIR, StirConfig
from spikerecon.simulate import film
from spikerecon.training import loop, state
from spikerecon.training.loop import Trainer, TrainSettings
from spikerecon.training.losses import PerceptualLoss, stir_loss
from spikerecon.training.optimizer import WEIGHT_DECAY, Muon, orthogonal
from spikerecon.training.scenes import MAX_SPIN, PLANES, TILE, SceneMaker, SpikeBatches, Textures, find_pictures
from spikerecon.training.start import following, prepare_start
from spikerecon.winograd import LearntConvolution

CPU = torch.device("cpu")
SMALL = StirConfig(levels=3, width=0.5)
FEW = TrainSettings(steps=4, batch=2, patch=32, pool=8, save_every=2, warmup=2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for i in range(3):
        coarse = Image.fromarray(rng.integers(0, 255, (30, 40), np.uint8))
        coarse.resize((400 + 150 * i, 330), Image.Resampling.BICUBIC).save(folder / f"photo{i}.png")
    cutout = np.zeros((80, 60, 2), np.uint8)
    cutout[20:60, 10:50] = 200, 255
    Image.fromarray(cutout, "LA").save(folder / "cutout.png")
    return folder


@pytest.fixture(scope="module")
def textures(pictures) -> Textures:
    return Textures.load(find_pictures([pictures]), drawn=9)


def test_what_is_learnt_from_is_not_measured_with(textures, pictures, tmp_path, monkeypatch):
    """All tiles of every 16th photograph, and every 16th shape, are kept for validation."""
    files = [tmp_path / f"{i:02}.png" for i in range(17)]
    for i, file in enumerate(files):
        Image.new("L", (640, 640) if i == 15 else (TILE, TILE), 10 * i).save(file)
    makers = []
    monkeypatch.setattr(loop, "SceneMaker", lambda *given: makers.append(given[0]) or SceneMaker(*given))
    Trainer(tmp_path / "run", Textures.load([*files, pictures / "cutout.png"], drawn=32), config=SMALL, settings=FEW)
    learnt, held_out = makers
    assert learnt.photographs.tolist() == [*range(1, 16), 17, *[0] * 16]
    assert held_out.photographs.tolist() == [16] * 3
    assert held_out.pictures.unique().tolist() == [150]
    assert (len(learnt.shapes), len(held_out.shapes)) == (31, 2)
    assert textures.split() == (textures, textures)  # of three nothing can be kept


def test_spikes_count_the_light_of_their_patch(textures):
    batches = SpikeBatches(SceneMaker(textures, 48, CPU, 0), batch=6, pool=24)
    for _ in range(3):
        spikes, truth, full_scale = batches.next()
        assert spikes.shape == (6, PLANES, 48, 48)
        assert truth.shape == (6, 1, 48, 48)
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
        assert ((truth >= 0) & (truth <= full_scale[:, None, None, None])).all()
        assert (full_scale >= 0.03).all()
        assert (full_scale <= 0.9).all()
        # the middle of the window sees the light that the truth is of
        middle = spikes[:, 20:40].mean((1, 2, 3))
        assert torch.allclose(middle, truth.mean((1, 2, 3)), atol=0.03)


@pytest.mark.parametrize("rate", [0.005, 0.05, 0.3])
def test_noise_keeps_the_rate_from_the_first_plane_on_and_spreads_the_counts(textures, rate):
    maker = SceneMaker(textures, 32, CPU, 3)
    spikes = SpikeBatches(maker, batch=1, pool=1)._expose(torch.full((256, PLANES, 32, 32), rate))
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    for part in (spikes, spikes[:, :10], spikes[:, -10:]):
        # half of the patches have 0.0041 of dark current on average, and half one pixel in 1,300 stuck
        assert part.mean().item() == pytest.approx(rate + 0.0024, rel=0.04)
    spread = spikes.sum(1).flatten(1).var(1)
    even = (60 * rate % 1) * (1 - 60 * rate % 1)
    assert spread.quantile(0.2) < even + 0.02  # without noise only the phase tells
    assert spread.quantile(0.9) > even + 60 * rate / 60  # with it, what so many photons would


def test_dead_and_stuck_pixels_do_not_tell_of_noise(textures):
    """A recording's are mended: what has learnt to go by them takes it for one without noise."""
    maker = SceneMaker(textures, 32, CPU, 3)
    counts = SpikeBatches(maker, batch=1, pool=1)._expose(torch.full((400, PLANES, 32, 32), 0.05)).sum(1).flatten(1)
    broken = (counts == 0) | (counts == PLANES)
    noisy = torch.where(broken, 3, counts).var(1) > 0.01
    assert 0.4 < noisy.float().mean() < 0.6
    for patches in (broken[noisy], broken[~noisy]):
        assert 0.35 < patches.any(1).float().mean() < 0.55


def test_pixels_differ_in_the_dark_by_factors(textures):
    maker = SceneMaker(textures, 8, CPU, 3)
    counts = SpikeBatches(maker, batch=1, pool=1)._expose(torch.zeros(64, 8000, 8, 8)).sum(1).flatten(1)
    usual = counts.median(1).values
    assert 20 <= (usual == 0).sum() <= 44  # half of the patches have no noise
    assert 0.004 < usual.max() / 8000 < 0.01
    most = counts[usual > 30]
    assert len(most) > 4
    assert (most.quantile(0.84, 1) / most.median(1).values).log().mean().item() == pytest.approx(0.9, rel=0.2)


def test_scenes_move_and_come_from_the_seed_alone(textures):
    first, again, other = (SceneMaker(textures, 32, CPU, seed).render(4) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (4, PLANES + 1, 32, 32)
    assert ((first >= 0) & (first <= 1)).all()
    assert (first[:, 0] - first[:, PLANES - 1]).abs().mean() > 0.01
    # the truth is the light between planes 29 and 30
    around = (first[:, 29] + first[:, 30]) / 2
    assert (first[:, PLANES] - around).abs().mean() < (first[:, PLANES] - first[:, 0]).abs().mean()


def test_a_share_of_what_moves_turns_and_some_as_fast_as_propellers(textures):
    paths = SceneMaker(textures, 32, CPU, seed=0)._path(2000, foreground=True)
    angles = torch.atan2(paths[:, :2, 1, 0], paths[:, :2, 0, 0])
    spins = torch.remainder(angles.diff(dim=1) + torch.pi, 2 * torch.pi).sub(torch.pi).abs()
    assert 0.04 < spins.max() <= MAX_SPIN * 1.01
    assert 0.1 < (spins > 0.01).float().mean() < 0.3
    assert spins.median() < 0.003


def test_in_many_scenes_everything_moves_alike():
    grey = torch.full((1, TILE, TILE), 128, dtype=torch.uint8)
    stripes = 255 * (torch.arange(TILE) // 8 % 2 == 0).expand(1, TILE, TILE)
    shape = torch.stack([torch.zeros_like(stripes), stripes], 1).byte()
    textures = Textures(grey, torch.ones(1), shape, torch.tensor([True]))
    maker = SceneMaker(textures, 32, CPU, seed=0)
    truths = torch.cat([maker.render(20)[:, -1] for _ in range(30)])
    assert 0.33 < (truths.std((1, 2)) < 1e-3).float().mean() < 0.48  # no stripes pass before the grey


def test_scenes_are_as_sharp_as_the_pictures_are():
    fine = torch.fft.fftfreq(TILE).square()
    spectrum = torch.fft.fft2(torch.randn(40, TILE, TILE, generator=torch.Generator().manual_seed(0)))
    picture = torch.fft.ifft2(spectrum / (fine[:, None] + fine + TILE**-2).sqrt()).real  # 1 / f, as photographs have
    picture = 0.5 + 0.15 * picture / picture.std((1, 2), keepdim=True)
    nothing = torch.zeros(1, 2, TILE, TILE, dtype=torch.uint8)
    textures = Textures((picture.clamp(0, 1) * 255).byte(), torch.ones(1), nothing, torch.tensor([False]))
    truth = SceneMaker(textures, 96, CPU, seed=0).render(40)[:, -1]

    def detail(x: torch.Tensor) -> float:
        return ((x - F.avg_pool2d(x, 3, 1, 1)).var((1, 2)) / x.var((1, 2))).mean().item()

    assert detail(truth) > detail(picture[:, :96, :96])


def test_steps_are_worked_out_on_the_device_that_trains(textures, tmp_path, shapes_only):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=replace(FEW, patch=48), device=shapes_only)
    assert trainer._train_step().device.type == "meta"
    assert trainer.validate() == 0.1
    assert all(value.device.type == "meta" for value in trainer.batches.next())


def test_the_loss_is_the_paper_s():
    """Equations 8 and 10 with L = 3: weights 1, 1/4 and 1/8 for levels 1 to 3; no scene is dark."""
    truth = torch.rand(2, 1, 16, 16)
    images = [torch.nn.functional.avg_pool2d(truth, 2**i) if i else truth.clone() for i in range(3)]
    one = torch.ones(2)
    assert stir_loss(images, truth, one).item() == pytest.approx(0, abs=1e-7)
    for level, share in enumerate((1, 1 / 4, 1 / 8)):
        off = [image + 0.1 * (i == level) for i, image in enumerate(images)]
        assert stir_loss(off, truth, one).item() == pytest.approx(0.1 * share, rel=1e-4)
        assert stir_loss(off, truth, one / 4).item() == pytest.approx(0.2 * share, rel=1e-4)


@pytest.mark.parametrize(
    "sizes", [{}, {"levels": 3, "width": 0.5, "follow": True}, {"embedding": "explicit", "groups": 1}]
)
def test_training_starts_from_a_blurred_picture(sizes):
    torch.manual_seed(0)
    network = STIR(StirConfig(**sizes))
    prepare_start(network)
    method = Stir(network)
    fan = film("fan", planes=60, width=96, height=64)
    picture = plain_frame(method, fan, 30).rate
    tfp = plain_frame(Reconstructor("tfp", device="cpu").method, fan, 30).rate
    assert np.corrcoef(picture.ravel(), tfp.ravel())[0, 1] > 0.8


def test_training_learns(textures, tmp_path):
    seen = []
    settings = TrainSettings(steps=50, batch=2, patch=32, pool=8, save_every=50, warmup=5, rate=2e-3)
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=settings)
    before = trainer.validate()
    trainer.run(seen.append)
    assert [progress.step for progress in seen] == [50]
    assert seen[0].validation_psnr > before
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [50]


def test_the_learning_rate_warms_up_and_falls(tmp_path, textures, monkeypatch):
    settings = TrainSettings(steps=10, batch=1, patch=32, pool=4, save_every=100, warmup=2, rate=1e-3)
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=settings)
    rates: list[float] = []
    step = trainer.optimizer.step
    monkeypatch.setattr(trainer.optimizer, "step", lambda rate: (rates.append(rate), step(rate)))
    trainer.run()
    assert rates[:2] == pytest.approx([0.5e-3, 0.976e-3], rel=1e-2)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 1e-5 < rates[-1] < 0.05e-3
    groups = [group for part in trainer.optimizer.parts.values() for group in part.param_groups]
    assert {group["lr"] for group in groups} == {rates[-1]}


@pytest.mark.parametrize(("precision", "kind"), [("bfloat16", torch.bfloat16), ("float16", torch.float32)])
def test_training_takes_bfloat16_where_the_device_has_it(textures, tmp_path, monkeypatch, precision, kind):
    monkeypatch.setattr(loop, "pick_precision", lambda name, device: precision)
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=replace(FEW, steps=1))
    seen = set()
    for network in (trainer.model, trainer.average):  # steps, validation
        network.encoder.register_forward_hook(lambda module, given, features: seen.add(features[0].dtype))
    quick = any(isinstance(module, LearntConvolution) for module in trainer.model.modules())
    assert quick == (kind == torch.float32)
    trainer.run()
    assert seen == {kind}


@pytest.mark.parametrize("shape", [(48, 300), (96, 32)])
def test_a_kernel_s_steps_are_equally_long_in_all_directions(shape):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    weak = left @ torch.diag(torch.logspace(0, -2.5, len(right))) @ right
    lengths = torch.linalg.svdvals(orthogonal(weak))
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3

    # Newton and Schulz's iteration as it is written down.
    wide = (weak if shape[0] < shape[1] else weak.T).double()
    wide = wide / wide.norm()
    for _ in range(5):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    expected = wide if shape[0] < shape[1] else wide.T
    assert (orthogonal(weak) - expected).norm() < 1e-3 * expected.norm()


def test_muon_s_steps_are_torch_s_but_for_rounding():
    torch.manual_seed(0)
    own, other = (nn.Parameter(torch.ones(16, 40)) for _ in range(2))
    optimizers = [
        Muon([own], 0.01),
        torch.optim.Muon([other], lr=0.01, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(4):
        own.grad = other.grad = torch.randn(16, 40)
        for optimizer in optimizers:
            optimizer.step()
    assert (own - other).abs().max() < 0.03 * (other - 1).abs().max()


def test_a_run_goes_on_where_it_stopped(textures, tmp_path):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=FEW)
    trainer.run()
    saved = checkpoint.load(tmp_path / "weights.safetensors")
    assert saved.info["steps"] == "4"
    assert saved.info["patches"] == "8"
    going_on = Trainer(tmp_path, textures, config=SMALL, settings=FEW)
    assert going_on.step == 4
    kept = trainer.optimizer.state()
    assert {key.split(".")[0] for key in kept} == {"adamw", "muon"}
    for key, value in going_on.optimizer.state().items():
        assert torch.equal(value, kept[key]), key
    for key, value in going_on.average.state_dict().items():
        assert torch.allclose(value.float(), saved.state[key].float(), rtol=2e-3, atol=1e-6), key
    longer = replace(FEW, steps=6, batch=3)
    Trainer(tmp_path, textures, config=SMALL, settings=longer).run()
    saved = checkpoint.load(tmp_path / "weights.safetensors")
    assert saved.info["steps"] == "6"
    assert saved.info["patches"] == "14"  # 4 steps of 2 and 2 of 3


def test_state_is_kept_in_small_pieces(textures, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "PART_BYTES", 2**18)
    Trainer(tmp_path, textures, config=SMALL, settings=FEW).run()
    (folder,) = tmp_path.glob("state-*")
    assert folder.name.startswith("state-4-")
    parts = sorted(tmp_path.glob("state-*/*.safetensors"))
    assert len(parts) > 3
    assert max(part.stat().st_size for part in parts) < 2**18 + 2**14
    assert Trainer(tmp_path, textures, config=SMALL, settings=FEW).step == 4


def test_a_state_that_was_not_finished_does_not_count(tmp_path):
    state.save_state(tmp_path, {"a": torch.ones(2)}, {"step": 1})
    with pytest.raises(TypeError):
        state.save_state(tmp_path, {"a": torch.zeros(2)}, {"step": 2, "more": object()})
    tensors, record = state.load_state(tmp_path)
    assert record["step"] == 1
    assert tensors["a"].tolist() == [1, 1]
    assert state.has_state(tmp_path)
    assert not state.has_state(tmp_path / "nowhere")


def test_the_state_of_a_step_outlives_that_it_is_saved_again(tmp_path, monkeypatch):
    """As where training is stopped before its first step, or twice, while the disk is full."""
    state.save_state(tmp_path, {"a": torch.ones(2)}, {"step": 1})
    (tmp_path / "state-mine").mkdir()
    (tmp_path / "state-mine" / "notes.txt").touch()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="cannot be written: No space left"):
            state.save_state(tmp_path, {"a": torch.zeros(2)}, {"step": 1})
    tensors, _ = state.load_state(tmp_path)
    assert tensors["a"].tolist() == [1, 1]
    state.save_state(tmp_path, {"a": torch.zeros(2)}, {"step": 1})
    tensors, _ = state.load_state(tmp_path)
    assert tensors["a"].tolist() == [0, 0]
    (part,) = tmp_path.glob("state-*/*.safetensors")  # what else there was is gone
    assert (tmp_path / "state-mine" / "notes.txt").is_file()  # but for what is no state of a run
    assert part.stat().st_mode == (tmp_path / "run.json").stat().st_mode


def test_it_saves_as_often_as_it_is_told_to(textures, tmp_path, monkeypatch):
    saved: list[int] = []
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=replace(FEW, steps=5, save_every=2, warmup=0))
    monkeypatch.setattr(trainer, "validate", lambda: 1.0)
    monkeypatch.setattr(trainer, "save", lambda: saved.append(trainer.step))
    trainer.run()
    assert saved == [2, 4, 5]


def test_time_is_counted_once_wherever_it_is_stopped(textures, tmp_path, monkeypatch):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=replace(FEW, steps=3, save_every=2))

    def stopped() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "validate", stopped)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert 0 < trainer.seconds <= time.monotonic() - began


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"patch": -16}, {"pool": 0}, {"save_every": 0}, {"rate": -1.0}, {"rate": float("inf")}]
)
def test_settings_are_above_0(change):
    with pytest.raises(UsageError, match="must be above 0"):
        replace(FEW, **change)


def test_a_network_of_other_sizes_than_the_weights_is_refused(textures, tmp_path):
    start = checkpoint.Checkpoint(SMALL, STIR(SMALL).state_dict())
    with pytest.raises(UsageError, match="are those of the weights to start from"):
        Trainer(tmp_path, textures, config=replace(SMALL, width=1.0), settings=FEW, start=start)


def test_weights_without_a_run_are_not_replaced(textures, tmp_path):
    (tmp_path / "weights.safetensors").write_text("mine")
    with pytest.raises(OutputError, match="no run to go on with"):
        Trainer(tmp_path, textures, config=SMALL, settings=FEW)


RECORD = {"patches": 8, "seconds": 1.0, "state": "state-4", "parts": 1}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state-4-*/00.safetensors", "no tensors"),
        ("state-4-*/00.safetensors", None),
        ("run.json", "[]"),
        ("run.json", "null"),
        ("run.json", '{"step": 1}'),
        ("run.json", json.dumps({"step": "a", **RECORD})),
        ("run.json", json.dumps({"step": 4, **RECORD, "state": 4})),
    ],
)
def test_a_damaged_run_is_refused(textures, tmp_path, file, content):
    Trainer(tmp_path, textures, config=SMALL, settings=FEW).run()
    (damaged,) = tmp_path.glob(file)
    damaged.unlink()
    if content is not None:
        damaged.write_text(content)
    with pytest.raises(UsageError, match="damaged or of another network"):
        Trainer(tmp_path, textures, config=SMALL, settings=FEW)


def test_a_run_that_lost_a_part_of_its_state_is_refused(textures, tmp_path, monkeypatch):
    """What the optimiser remembers would begin anew, for some of the weights."""
    monkeypatch.setattr(state, "PART_BYTES", 2**18)
    Trainer(tmp_path, textures, config=SMALL, settings=FEW).run()
    max(tmp_path.glob("state-*/*.safetensors")).unlink()
    with pytest.raises(UsageError, match="damaged"):
        Trainer(tmp_path, textures, config=SMALL, settings=FEW)


def test_a_run_can_start_from_weights(textures, tmp_path):
    first = STIR(SMALL)
    start = Checkpoint(SMALL, first.state_dict())
    trainer = Trainer(tmp_path, textures, settings=FEW, start=start)
    assert trainer.network.config == SMALL
    for key, value in first.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[key], value), key


def test_weights_learn_to_follow_from_where_they_are():
    """The same pictures of what stands still at first, and gradients for what comes in anew."""
    old = STIR(SMALL).eval()
    start = following(Checkpoint(SMALL, old.state_dict()))
    assert start.config == replace(SMALL, follow=True)
    assert following(start) is start
    network = start.network()
    window = (torch.rand(2, 1, 32, 32) < 0.3).float().expand(-1, PLANES, -1, -1)
    pictures = network(window)
    for picture, before in zip(pictures, old(window), strict=True):
        assert torch.allclose(picture, before, atol=1e-5)
    sum(picture.sum() for picture in pictures).backward()
    for decoder in (network.bottom, *network.middle):
        assert decoder.refine.conv1[0].weight.grad[:, -FOLLOWED_CHANNELS:].abs().sum() > 0
    published = Checkpoint(PUBLISHED_CONFIG, {})
    assert following(published) is published


@pytest.fixture
def vgg(tmp_path) -> Path:
    """VGG-16 weights as torchvision names them, with more entries than are needed."""
    values, inputs = {"classifier.0.weight": torch.zeros(2, 2)}, 3
    places = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512}
    for place, outputs in places.items():
        values[f"features.{place}.weight"] = torch.randn(outputs, inputs, 3, 3) / (3 * inputs**0.5)
        values[f"features.{place}.bias"] = torch.zeros(outputs)
        inputs = outputs
    torch.save(values, tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


def test_the_perceptual_loss_sees_differences(vgg):
    distance = PerceptualLoss(vgg)
    picture = torch.rand(2, 1, 32, 32, requires_grad=True)
    assert distance(picture, picture.detach()).item() == 0
    far = distance(picture, 1 - picture.detach())
    far.backward()
    assert far.item() > 0
    assert picture.grad.abs().sum() > 0


def test_training_with_the_perceptual_loss(vgg, textures, tmp_path):
    trainer = Trainer(tmp_path / "run", textures, config=SMALL, settings=FEW, perceptual=PerceptualLoss(vgg))
    trainer.run()
    assert trainer.step == 4


def test_files_that_are_no_vgg_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    shapes = {f"features.{layer}.{kind}": torch.zeros(1) for layer in range(17) for kind in ("weight", "bias")}
    torch.save(shapes, tmp_path / "shapes.pth")
    (tmp_path / "text.pth").write_text("no")
    for name, words in {
        "other.pth": "does not hold",
        "shapes.pth": r"does not hold .*: Error.* size mismatch for features\.14\.bias.*$",
        "text.pth": "is refused|cannot be read",
        "no.pth": "no such",
    }.items():
        with pytest.raises(WeightsError, match=words):
            PerceptualLoss(tmp_path / name)


def test_the_course_of_a_run_can_be_drawn(textures, tmp_path):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=FEW)
    trainer.run()
    with Image.open(trainer.draw_curve()) as picture:
        assert picture.size == (960, 480)
        drawn = np.asarray(picture)
    log = tmp_path / "log.jsonl"
    lost = json.loads(log.read_text().splitlines()[-1]) | {"loss": 99.0}  # behind the state that was gone on with
    log.write_text(json.dumps(lost) + "\n" + json.dumps(lost | {"step": 9}) + "\n" + log.read_text())
    with Image.open(trainer.draw_curve()) as picture:
        assert (np.asarray(picture) == drawn).all()


def test_a_log_that_is_not_there_or_not_sound_is_not_drawn(textures, tmp_path):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=FEW)
    for log in (None, '{"step": 3, "lo', "[]"):
        if log is not None:
            (tmp_path / "log.jsonl").write_text(log)
        with pytest.raises(OutputError, match="no sound log of a run"):
            trainer.draw_curve()


def test_half_of_what_torchrun_sets_is_no_group_of_processes(spikerecon, pictures, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    words = ("--images", pictures, "-o", "run", "--steps", 1, "--batch", 1, "--patch", 32, "--width", 0.5)
    spikerecon("train", *words, "--device", "cpu")
    assert Path("run/weights.safetensors").is_file()


@needs_cuda
def test_training_on_cuda(textures, tmp_path):
    config = replace(SMALL, follow=True)
    Trainer(tmp_path, textures, config=config, settings=FEW, device="cuda").run()
    again = Trainer(tmp_path, textures, config=config, settings=replace(FEW, steps=6), device="cuda")
    assert again.step == 4
    again.run()
    assert np.isfinite(again.validate())
    assert checkpoint.load(tmp_path / "weights.safetensors").info["steps"] == "6"


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


RUN_AND_TELL_THREADS = """
import runpy
import sys
from pathlib import Path

try:
    runpy.run_module("spikerecon", run_name="__main__")
finally:
    sys.stdout.write(str([name.read_text() for name in Path("/proc/self/task").glob("*/comm")]))
"""


def test_two_processes_train_together(pictures, tmp_path):
    """As torchrun starts them: both take part in every step, the first one alone writes. No thread of the group is left
    to be at work while Python ends, which would abort a process now and then."""
    (tmp_path / "told.py").write_text(RUN_AND_TELL_THREADS)
    words = ["--images", pictures, "-o", tmp_path / "run", "--steps", "3", "--batch", "2", "--patch", "32"]
    command = [*TORCHRUN, tmp_path / "told.py", "train", *words, "--width", "0.5", "--device", "cpu"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gloo_" not in done.stdout
    assert done.stderr.count("step 3/3") == 1
    assert checkpoint.load(tmp_path / "run" / "weights.safetensors").info["patches"] == "12"


SECOND_IS_TOLD = """
import sys
import torch
from spikerecon.cli.train import _process_group
from spikerecon.network import StirConfig
from spikerecon.training import loop
from spikerecon.training.scenes import Textures, find_pictures

loop.LOG_EVERY = 1
textures = Textures.load(find_pictures([sys.argv[1]]), drawn=9)
settings = loop.TrainSettings(steps=9, batch=1, patch=32, pool=4)
means = []

def step():
    if (trainer.process, trainer.step) == (1, 2):
        trainer.stop()
    return torch.tensor(float(trainer.process))

with _process_group(torch.device("cpu")) as device:
    trainer = loop.Trainer(
        sys.argv[2], textures, config=StirConfig(levels=3, width=0.5), settings=settings, device=device
    )
    trainer._train_step = step
    try:
        trainer.run(lambda progress: means.append(progress.loss))
    except KeyboardInterrupt:
        sys.stdout.write(f"{trainer.process}: {trainer.step} {means}\\n")
    del trainer
"""


def test_processes_stop_together_and_know_the_loss_of_all(pictures, tmp_path):
    (tmp_path / "told.py").write_text(SECOND_IS_TOLD)
    command = [*TORCHRUN, tmp_path / "told.py", pictures, tmp_path / "run"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if not line.startswith("[Gloo]")]  # which torch 2.9 adds
    assert sorted(told) == ["0: 3 [0.5, 0.5]", "1: 3 []"]
    assert checkpoint.load(tmp_path / "run" / "weights.safetensors").info["steps"] == "3"


def test_an_interrupted_run_is_saved(textures, tmp_path, monkeypatch):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=FEW)
    step = trainer._train_step

    def interrupted():
        if trainer.step == 3:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = Trainer(tmp_path, textures, config=SMALL, settings=FEW)
    assert again.step == 3
    assert again.seconds > 0


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(textures, tmp_path, monkeypatch):
    Trainer(tmp_path, textures, config=SMALL, settings=FEW).run()
    longer = replace(FEW, steps=8)
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=longer)
    monkeypatch.setattr(trainer, "_train_step", lambda: torch.tensor(float("nan")))
    with pytest.raises(SpikeReconError, match="the loss became nan"):
        trainer.run()
    assert Trainer(tmp_path, textures, config=SMALL, settings=longer).step == 4


def test_weights_that_half_precision_cannot_hold_are_not_saved(textures, tmp_path, monkeypatch):
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=replace(FEW, steps=1))
    monkeypatch.setattr(trainer, "_update_average", lambda: None)
    averaged = trainer.average.embedding.bn1
    averaged.num_batches_tracked.fill_(70_000)  # which is no weight
    averaged.running_var[0] = 7e4
    with pytest.raises(SpikeReconError, match="the weights became infinite before step 1"):
        trainer.run()
    assert not list(tmp_path.iterdir())
    averaged.running_var[0] = 6e4
    assert trainer._sound()


def test_steps_that_are_far_too_long_are_an_error_and_no_crash(textures, tmp_path):
    """Motion that is no number ended the process where gradients go back through warps."""
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=replace(FEW, steps=30, rate=1e6, warmup=1))
    with pytest.raises(SpikeReconError, match=r"the loss became .*a smaller --learning-rate"):
        trainer.run()


def test_weights_that_are_not_finite_are_not_saved(textures, tmp_path, monkeypatch):
    """A loss tells of the step before: the last one's update is seen in the weights alone."""
    Trainer(tmp_path, textures, config=SMALL, settings=FEW).run()
    longer = replace(FEW, steps=8)
    trainer = Trainer(tmp_path, textures, config=SMALL, settings=longer)
    plain = trainer.optimizer.step

    def spoilt(rate):
        plain(rate)
        if trainer.step == 7:
            next(trainer.network.parameters()).data[0] = float("nan")

    monkeypatch.setattr(trainer.optimizer, "step", spoilt)
    with pytest.raises(SpikeReconError, match="the weights became infinite"):
        trainer.run()
    assert Trainer(tmp_path, textures, config=SMALL, settings=longer).step == 6
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opacity_that_is_full_everywhere_makes_no_cutout(tmp_path, mode):
    Image.effect_noise((400, 330), 60).convert(mode).save(tmp_path / "photo.png")
    loaded = Textures.load([tmp_path / "photo.png"], drawn=2)
    assert len(loaded.pictures) == 1 + 1
    assert loaded.own.tolist() == [False, False]


def test_transparency_makes_a_cutout_in_whatever_way_a_picture_has_it(tmp_path):
    shape = Image.new("RGBA", (80, 60))
    shape.paste((200, 100, 50, 255), (20, 10, 60, 40))
    shape.save(tmp_path / "rgba.png")
    shape.quantize(8).save(tmp_path / "palette.png")
    grey = Image.new("L", (80, 60), 7)
    grey.paste(200, (20, 10, 60, 40))
    grey.save(tmp_path / "grey.png", transparency=7)
    Image.new("L", (400, 400)).save(tmp_path / "opaque.png")
    textures = Textures.load(find_pictures([tmp_path]), drawn=0)
    assert (len(textures.pictures), textures.own.tolist()) == (1, [True] * 3)
    covered = (textures.shapes[:, 1] > 127).float().mean((1, 2))
    assert covered.max() < 0.25
    assert covered.min() > 0.005


def test_pictures_that_are_broken_are_named(tmp_path):
    Image.new("L", (400, 400)).save(tmp_path / "broken.png")
    whole = (tmp_path / "broken.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole.replace(b"IDAT", b"ID\0T"))
    with pytest.raises(RecordingError, match=r"broken\.png: cannot be read as a picture"):
        Textures.load([tmp_path / "broken.png"])


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_pictures_of_other_kinds_of_numbers_are_refused(tmp_path, mode):
    """Those of floating point became black, those in Lab were no error of ours."""
    Image.new("RGB", (400, 400)).convert("L" if mode == "F" else "RGB").convert(mode).save(tmp_path / "a.tif")
    with pytest.raises(RecordingError, match=rf"a\.tif: is of mode {mode}: save it in grey of 8 or 16 bit, or RGB"):
        Textures.load([tmp_path / "a.tif"])


def test_folders_without_pictures_are_refused(tmp_path, pictures, textures):
    with pytest.raises(UsageError, match="no such folder"):
        find_pictures([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="no pictures in"):
        find_pictures([tmp_path])
    with pytest.raises(UsageError, match="all given ones are cutouts"):
        Textures.load([pictures / "cutout.png"])
    with pytest.raises(UsageError, match="no multiple"):
        Trainer(tmp_path, textures, settings=TrainSettings(patch=40))
