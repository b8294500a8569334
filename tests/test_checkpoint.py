"""Weights files: what is in them, and what is refused."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spikerecon import checkpoint
from spikerecon.checkpoint import Checkpoint
from spikerecon.errors import OutputError, WeightsError
from spikerecon.network import STIR, StirConfig

SMALL = StirConfig(levels=3, width=0.5, groups=2, rate_scale=0.7)


@pytest.fixture
def small() -> Checkpoint:
    return Checkpoint(SMALL, STIR(SMALL).state_dict(), info={"origin": "a test"})


@pytest.fixture
def file(small: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "small.safetensors", small)
    return tmp_path / "small.safetensors"


def test_a_weights_file_alone_rebuilds_its_network(file: Path, small: Checkpoint):
    loaded = checkpoint.load(file)
    assert loaded.config == SMALL
    assert (loaded.name, loaded.info, len(loaded.digest)) == ("small", {"origin": "a test"}, 12)
    window = torch.rand(1, 60, 32, 32).round()
    with torch.no_grad():
        assert torch.equal(loaded.network()(window)[0], small.network()(window)[0])


def test_half_precision_weights_are_loaded_as_float32(small: Checkpoint, tmp_path: Path):
    checkpoint.save(tmp_path / "half.safetensors", small.half())
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * sum(v.nbytes for v in small.state.values())
    loaded = checkpoint.load(tmp_path / "half.safetensors")
    assert all(v.dtype != torch.float16 for v in loaded.state.values())
    for key, value in small.state.items():
        assert torch.allclose(loaded.state[key].float(), value.float(), rtol=2e-3, atol=1e-6), key


def test_nothing_is_overwritten_unasked(file: Path, small: Checkpoint):
    before = file.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        checkpoint.save(file, small)
    assert file.read_bytes() == before
    checkpoint.save(file, small, overwrite=True)
    assert os.listdir(file.parent) == [file.name]


def test_bundled_weights_are_stored_in_half_precision():
    """What loads them makes float32 of them, which written back would be twice as large."""
    kinds = {value.dtype for path in checkpoint.bundled().values() for value in load_file(path).values()}
    assert kinds == {torch.float16, torch.int64}  # whole numbers count batches


def test_bundled_weights_are_found_by_name_and_sound():
    assert list(checkpoint.bundled()) == ["stir", "stir-lite"]
    loaded = checkpoint.load("stir")
    assert loaded.config == StirConfig(follow=True)
    assert loaded.parameters == 5_190_842
    assert checkpoint.load("stir-lite").config == StirConfig(width=0.5, follow=True)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(WeightsError, match=r"no weights 'nothing'.*bundled: .*stir"):
        checkpoint.load("nothing")


def test_a_damaged_file_is_refused(file: Path):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="is not a safetensors file or is damaged"):
        checkpoint.load(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("top.predict.bias"), "top.predict.bias is missing"),
        (lambda state: state.update(more=torch.zeros(1)), "more is unknown"),
        (lambda state: state.update({"top.predict.bias": torch.zeros(4)}), r"is \(4,\), not \(5,\)"),
        (lambda state: state["top.predict.bias"].fill_(float("nan")), "not finite"),
        (
            lambda state: state.update({"top.predict.bias": torch.zeros(5).int()}),
            r"is torch\.int32, not torch\.float32",
        ),
    ],
)
def test_weights_of_another_network_are_refused(file: Path, change, words):
    state = load_file(file)
    change(state)
    save_file(state, file, {"config": json.dumps(SMALL.to_dict())})
    with pytest.raises(WeightsError, match=words):
        checkpoint.load(file)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "holds no 'config'"),
        ({"config": "{"}, "does not know"),
        ({"config": '{"levels": 9}'}, "no size that STIR has"),
        ({"config": '{"colour": true}'}, "does not know"),
        ({"config": "[]"}, "does not know"),
        ({"config": 10**5 * "["}, "does not know"),
        ({"config": '{"rate_scale": Infinity}'}, "no size that STIR has"),
        ({"config": '{"rate_scale": true}'}, "no size that STIR has"),
        ({"config": '{"follow": "no"}'}, "no size that STIR has"),
    ],
)
def test_metadata_that_do_not_describe_a_network_are_refused(file: Path, metadata, words):
    save_file(load_file(file), file, metadata)
    with pytest.raises(WeightsError, match=words):
        checkpoint.load(file)


def test_weights_that_share_memory_are_saved(file: Path, tmp_path: Path):
    loaded = checkpoint.load(file)
    loaded.state["embedding.bn1.bias"] = loaded.state["embedding.bn1.running_mean"]
    checkpoint.save(tmp_path / "shared.safetensors", loaded)
    assert checkpoint.load(tmp_path / "shared.safetensors").parameters == loaded.parameters


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path):
    torch.save({"weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pth")
    with pytest.raises(WeightsError, match="refused"):
        checkpoint.import_published(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_published_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for name, words in {
        "text.pth": "damaged",
        "list.pth": "not a plain state dict",
        "other.pth": "does not fit the network",
        "none.pth": "no such file",
    }.items():
        with pytest.raises(WeightsError, match=words):
            checkpoint.import_published(tmp_path / name)
    with pytest.raises(WeightsError, match="weights import"):
        checkpoint.load(tmp_path / "text.pth")
