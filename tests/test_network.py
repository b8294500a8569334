"""The network against recorded outputs of the published one, and in all its sizes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import spikerecon.network
from spikerecon import checkpoint
from spikerecon.follow import followed_rates
from spikerecon.motion import motion_field
from spikerecon.network import STIR, StirConfig

OFFICIAL = Path(__file__).resolve().parents[2] / "shared" / "official_checkpoint"
needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="recorded outputs are not beside the checkout")


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(OFFICIAL))
    try:
        import example_state
    finally:
        sys.path.remove(str(OFFICIAL))
    return example_state


@pytest.fixture(scope="module")
def published(example, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "stir.pth"
    torch.save({k: torch.from_numpy(np.array(v)) for k, v in example.state().items()}, path)
    return path


@needs_official
def test_imported_weights_give_the_recorded_pictures_of_every_level(example, published):
    network = checkpoint.import_published(published).network()
    expected = np.load(OFFICIAL / "expected.npz")
    window = torch.from_numpy(example.window()).float()[None]
    with torch.no_grad():
        images = network(window)
        rate = network.reconstruct(window)[0]
    for level, image in enumerate(images, 1):
        difference = np.abs(image.numpy().squeeze() - expected[f"image_level{level}"].squeeze()).max()
        assert difference < 1e-4, level
    assert np.allclose(rate / 0.4, expected["output"].squeeze(), atol=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [{}, {"levels": 3, "groups": 1}, {"embedding": "explicit"}, {"warping": False}, {"groups": 2}, {"follow": True}],
)
@pytest.mark.parametrize("rows", [16, 17, 47, 48, 100])
def test_strips_join_without_a_seam(sizes, rows):
    torch.manual_seed(0)
    network = STIR(StirConfig(width=0.5, **sizes)).eval()
    with torch.no_grad():
        blocks = [network.encode((torch.rand(2, 20, 48, 32) < 0.3).float()) for _ in range(3)]
        whole, strips = (network.decode(*blocks, rows=given)[0] for given in (None, rows))
    assert strips.shape == whole.shape
    assert torch.allclose(strips, whole, atol=1e-5)


def moving_planes() -> torch.Tensor:
    """A window (1, 60, 64, 96) of waves that move right by half a pixel a plane."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    times = torch.arange(60).view(-1, 1, 1) + 0.5
    light = 0.4 + 0.2 * torch.sin((x - 0.5 * times) / 5) + 0.1 * torch.sin(y / 6)
    charge = (light.cumsum(0) + torch.rand(64, 96, generator=torch.Generator().manual_seed(0))).floor()
    return charge.diff(dim=0, prepend=torch.zeros_like(charge[:1]))[None]


def test_features_are_fetched_along_the_motion_that_is_seen(monkeypatch):
    """What the decoder predicts comes on top; of the finest level's groups, the last starts from no motion."""
    fetched = []

    def align(before, after, motions, warping, first=0):
        fetched.extend(motions)
        return real(before, after, motions, warping, first)

    real = spikerecon.network.align
    monkeypatch.setattr(spikerecon.network, "align", align)
    network = STIR(StirConfig(width=0.5, follow=True)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "predict" in name or "up_motion" in name or "up_groups" in name:
                parameter.zero_()
        network(moving_planes())
    assert len(fetched) == 6  # levels 4 to 2, and three groups
    for motion, pixels in zip(fetched, (8, 4, 2, 1, 1, 1), strict=True):
        seen = motion[0, :, motion.shape[2] // 2, motion.shape[3] // 2] * pixels
        expected = torch.tensor([-10.0, 0, 10, 0]) * (motion is not fetched[-1])
        assert torch.allclose(seen, expected, atol=0.5)


def test_filtered_rates_are_added_in_shares():
    network = STIR(StirConfig(width=0.5, follow=True)).eval()
    planes = moving_planes()
    with torch.no_grad():
        before = network(planes)[0]
        network.bottom.shares.weight.zero_()
        network.bottom.shares.bias.zero_()
        without = network(planes)[0]
        network.bottom.filters.weight.zero_()
        network.bottom.filters.weight[3, 5, 2, 2] = 1  # the third filter passes the fifth rate on
        network.bottom.shares.bias[3] = 0.5
        half = network(planes)[0]
    assert not torch.allclose(before, without, atol=1e-3)
    rate = followed_rates(planes, motion_field(planes))[:, 5:6]
    assert torch.allclose(half - without, 0.5 * rate, atol=1e-5)


@needs_official
def test_import_knows_every_published_entry_and_a_data_parallel_prefix(example, published, tmp_path):
    names = [name for name, _ in json.loads((OFFICIAL / "keys.json").read_text())]
    assert len({checkpoint.own_name(name) for name in names}) == 143
    prefixed = tmp_path / "parallel.pth"
    torch.save({f"module.{k}": v for k, v in torch.load(published).items()}, prefixed)
    plain, parallel = (checkpoint.import_published(path).state for path in (published, prefixed))
    assert plain.keys() == parallel.keys()


@needs_official
def test_imported_weights_survive_being_saved(published, tmp_path):
    imported = checkpoint.import_published(published)
    checkpoint.save(tmp_path / "stir.safetensors", imported)
    loaded = checkpoint.load(tmp_path / "stir.safetensors")
    assert loaded.config == imported.config == StirConfig(block_planes=21, rate_scale=0.4)
    assert loaded.info["origin"] == "imported from stir.pth"
    for key, value in imported.state.items():
        assert torch.equal(loaded.state[key], value), key


def test_the_paper_s_network_has_5_11_million_parameters():
    assert sum(p.numel() for p in STIR().parameters()) == 5_107_850


@pytest.mark.parametrize(
    "sizes",
    [
        {"levels": 3},
        {"levels": 4, "width": 0.5},
        {"width": 1.5},
        {"width": 2.0, "groups": 2},
        {"groups": 1},
        {"groups": 4, "embedding": "explicit"},
        {"embedding": "implicit", "attention": False},
        {"warping": False},
        {"block_planes": 21},
        {"follow": True},
        {"follow": True, "levels": 3, "width": 0.5},
    ],
)
def test_variants_draw_every_level(sizes):
    config = StirConfig(**sizes)
    network = STIR(config).eval()
    with torch.no_grad():
        images = network(torch.rand(2, config.window_planes, 32, 48).round())
    assert [tuple(image.shape) for image in images] == [(2, 1, 32 >> i, 48 >> i) for i in range(config.levels)]
    assert all(torch.isfinite(image).all() for image in images)


@pytest.mark.parametrize(
    "sizes",
    [
        {"levels": 6},
        {"levels": 5.0},
        {"width": 0.3},
        {"groups": 5},
        {"embedding": "none"},
        {"follow": True, "block_planes": 21},
    ],
)
def test_sizes_that_do_not_exist_are_refused(sizes):
    with pytest.raises(ValueError, match="no size that STIR has"):
        StirConfig(**sizes)


def test_parts_that_are_off_are_not_there():
    assert STIR(StirConfig(attention=False)).attention is None
    still = STIR(StirConfig(warping=False)).eval()
    moving = STIR(StirConfig()).eval()
    moving.load_state_dict(still.state_dict())
    window = torch.rand(1, 60, 32, 32).round()
    with torch.no_grad():
        assert not torch.allclose(still(window)[0], moving(window)[0])


def test_explicit_channels_are_rates_over_nested_windows():
    planes = torch.arange(20.0).view(1, 20, 1, 1).expand(1, 20, 16, 16)
    embedded = STIR(StirConfig(embedding="explicit")).embedding(planes)
    assert embedded[0, :, 0, 0].tolist() == [9.5] * 5  # every one is centred
    single = torch.zeros(1, 20, 16, 16)
    single[:, 3] = 1
    rates = STIR(StirConfig(embedding="explicit")).embedding(single)[0, :, 0, 0]
    assert torch.allclose(rates, torch.tensor([1 / 20, 1 / 16, 0, 0, 0]))


def test_a_window_is_three_blocks():
    network = STIR(StirConfig(embedding="explicit")).eval()
    window = torch.rand(1, 60, 32, 32).round()
    blocks = [network.encode(window[:, i : i + 20]) for i in (0, 20, 40)]
    with torch.no_grad():
        assert torch.allclose(network.decode(*blocks)[0], network(window)[0], atol=1e-5)
