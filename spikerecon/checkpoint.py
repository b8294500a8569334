"""Weights files: safetensors that carry their network's configuration, and published `.pth` checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from spikerecon.errors import WeightsError
from spikerecon.files import appearing, check_free
from spikerecon.network import STIR, StirConfig

DEFAULT = "stir"
PUBLISHED_CONFIG = StirConfig(block_planes=21, rate_scale=0.4)


@dataclass(frozen=True)
class Checkpoint:
    """Weights with all that is needed to use them.

    state: tensors by the names of `STIR.state_dict`. digest: first 12 hex digits of the file's SHA-256.
    info: where the weights come from, free text by key (`origin`, `steps`, ...).
    """

    config: StirConfig
    state: dict[str, Tensor]
    name: str = ""
    digest: str = ""
    info: dict[str, str] = field(default_factory=dict)

    def network(self) -> STIR:
        """The network with these weights, in evaluation mode, on the CPU in float32."""
        network = STIR(self.config)
        network.load_state_dict(self.state)
        return network.eval()

    def half(self) -> Checkpoint:
        """The same with float16 values, half the file; loading makes them float32 again."""
        state = {key: value.half() if value.is_floating_point() else value for key, value in self.state.items()}
        return replace(self, state=state)

    @property
    def parameters(self) -> int:
        """Trainable numbers in the network (running statistics of batch norm not counted)."""
        with torch.device("meta"):
            return sum(p.numel() for p in STIR(self.config).parameters())


def bundled_folder() -> Path:
    """The folder of the weights that come with the package: inside it when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "weights"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "weights"


def bundled() -> dict[str, Path]:
    """Weights that come with the package, by name."""
    return {path.stem: path for path in sorted(bundled_folder().glob("*.safetensors"), key=lambda path: path.stem)}


def find(name: str | os.PathLike[str] = DEFAULT) -> Path:
    """The file of bundled weights by name, or the path itself. Raises WeightsError where there is neither."""
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    path = Path(name)
    if path.is_file():
        return path
    names = ", ".join(known) or "none"
    raise WeightsError(f"no weights '{name}': neither a file nor a bundled name (bundled: {names})")


def load(name: str | os.PathLike[str] = DEFAULT) -> Checkpoint:
    """Load weights by bundled name or path.

    Raises WeightsError where the file is missing, damaged, without a configuration, or fits no network.
    """
    path = find(name)
    if path.suffix in (".pth", ".pt"):
        raise WeightsError(
            f"{path} is a PyTorch checkpoint: turn it into safetensors first with "
            f"'spikerecon weights import {path} -o {path.with_suffix('.safetensors')}'"
        )
    state, metadata = read_safetensors(path)
    try:
        config = StirConfig(**json.loads(metadata.pop("config")))
    except KeyError:
        raise WeightsError(f"{path} holds no 'config': it was not written by spikerecon") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} describes a network that this version does not know: {error}") from error
    check_state(state, config, str(path))
    return Checkpoint(config, state, path.stem, digest(path), metadata)


def save(path: str | os.PathLike[str], checkpoint: Checkpoint, *, overwrite: bool = False) -> None:
    """Write weights with configuration and origin as safetensors, under a temporary name first.

    Raises OutputError where the file exists and `overwrite` is False, or cannot be written.
    """
    path = Path(path)
    check_free(path, overwrite)
    metadata = {"config": json.dumps(checkpoint.config.to_dict()), **checkpoint.info}
    # Copies, as safetensors refuses what shares memory.
    state = {key: value.detach().cpu().contiguous().clone() for key, value in checkpoint.state.items()}
    with appearing(path, overwrite) as unfinished:
        unfinished.write_bytes(serialized(state, metadata))  # a file that safetensors makes is for its owner alone


def digest(path: str | os.PathLike[str]) -> str:
    """First 12 hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def check_state(state: dict[str, Tensor], config: StirConfig, source: str) -> None:
    """Raise WeightsError unless `state` has just the entries, shapes and finite values that `config` calls for."""
    with torch.device("meta"):
        expected = STIR(config).state_dict()
    problems = [f"{key} is missing" for key in expected.keys() - state.keys()]
    problems += [f"{key} is unknown" for key in state.keys() - expected.keys()]
    for key in expected.keys() & state.keys():
        if state[key].shape != expected[key].shape:
            problems.append(f"{key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}")
        elif state[key].is_floating_point() != expected[key].is_floating_point():
            problems.append(f"{key} is {state[key].dtype}, not {expected[key].dtype}")
        elif not torch.isfinite(state[key]).all():
            problems.append(f"{key} holds values that are not finite")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WeightsError(f"{source} does not fit the network: {min(problems)}{more}")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, those of floating point as float32, and metadata of a file. Raises WeightsError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file or is damaged: {error}") from error
    return state, metadata


def read_pth(path: Path) -> dict[str, Tensor]:
    """The plain state dict in a file of `torch.save`, loaded with `weights_only=True`: code in it does not run.

    Raises WeightsError where the file is missing, damaged, unsafe, or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is a folder, not a checkpoint" if path.is_dir() else f"no such file: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch is puzzled by some files before it refuses them
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it is damaged, or holds more than tensors and could run code when loaded"
        ) from error
    except Exception as error:  # torch.load raises whatever a damaged archive makes it stumble over
        raise WeightsError(f"{path} is not a PyTorch checkpoint or is damaged") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} is not a plain state dict of tensors")
    return {str(key): value for key, value in state.items()}


def import_published(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint published for STIR: a plain state dict of 61-plane weights saved by `torch.save`.

    Loaded with `weights_only=True`, so a file that would run code is refused. Its picture is intensity for a source
    whose full-scale firing rate is 0.4 spikes per plane. Raises WeightsError where the file is missing, unsafe or of
    another network.
    """
    path = Path(path)
    published = read_pth(path)
    state = {own_name(key): value for key, value in published.items()}
    check_state(state, PUBLISHED_CONFIG, str(path))
    info = {"origin": f"imported from {path.name}", "source_digest": digest(path)}
    return Checkpoint(PUBLISHED_CONFIG, state, path.stem, info=info)


# How published names become ours, tried in order; levels run from 5 (top) to 1 (bottom) there.
_RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"module\.", ""),
    (r"resnet\.conv3\.", "embedding.shortcut."),
    (r"resnet\.", "embedding."),
    (r"encoder\.conv0\.net\.", "encoder.stem."),
    (r"encoder\.conv(\d)\.net\.(\d)\.", lambda m: f"encoder.down.{int(m[1]) - 1}.0.{m[2]}."),
    (
        r"encoder\.resblocks(\d)\.net\.0\.conv_block\.(\d)\.net\.0\.",
        lambda m: f"encoder.down.{int(m[1]) - 1}.1.conv{int(m[2]) + 1}.",
    ),
    (r"transformer\.norm1\.body\.", "attention.norm_query."),
    (r"transformer\.norm_kv(\d)\.body\.", lambda m: f"attention.norm_sides.{int(m[1]) - 1}."),
    (r"transformer\.norm2\.body\.", "attention.norm_out."),
    (r"transformer\.attn\.temperature(\d)", lambda m: f"attention.temperatures.{int(m[1]) - 1}"),
    (r"transformer\.attn\.q\.", "attention.query.0."),
    (r"transformer\.attn\.q_dwconv\.", "attention.query.1."),
    (r"transformer\.attn\.kv(\d)\.", lambda m: f"attention.sides.{int(m[1]) - 1}.0."),
    (r"transformer\.attn\.kv(\d)_dwconv\.", lambda m: f"attention.sides.{int(m[1]) - 1}.1."),
    (r"transformer\.ffn\.project_in\.", "attention.feed_forward.widen."),
    (r"transformer\.ffn\.dwconv\.", "attention.feed_forward.mix."),
    (r"transformer\.ffn\.project_out\.", "attention.feed_forward.narrow."),
    (r"decorder_5nd\.convrelu\.", "top.conv."),
    (r"decorder_5nd\.", "top."),
    (r"decorder_([234])\w\w\.", lambda m: f"middle.{4 - int(m[1])}."),
    (r"decorder_1st\.", "bottom."),
    (r"\.convrelu\.", ".refine."),
    (r"^(middle\.\d|bottom)\.resblocks\.", r"\1.refine.resblocks."),
    (r"\.resblocks\.net\.0\.conv_block\.(\d)\.net\.0\.", lambda m: f".residual.conv{int(m[1]) + 1}."),
    (r"\.predict_img_flow\.", ".predict."),
    (r"\.predict_img\.", ".predict."),
    (r"\.predict_flow_group\.", ".predict_groups."),
    (r"\.deconv_flow_group\.", ".up_groups."),
    (r"\.deconv_flow\.", ".up_motion."),
    (r"\.deconv_hidden\.", ".up_hidden."),
]


def own_name(published: str) -> str:
    """The name that an entry of a published checkpoint has in `STIR.state_dict`."""
    for pattern, replacement in _RENAMES:
        published = re.sub(pattern, replacement, published, count=1)
    return published
