"""The state of a run on disk: tensors in pieces small enough to be carried anywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from spikerecon.files import appearing

PART_BYTES = 15 * 2**20
RECORD = "run.json"


def save_state(folder: Path, state: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write tensors in files of at most `PART_BYTES` (or of one tensor), then `run.json`, which makes them valid.

    Whatever interrupts it, the folder holds the last state or this one, whole. record: JSON values that go with it.
    """
    name = f"state-{record['step']}"
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    part: dict[str, Tensor] = {}
    count = size = 0
    for key, value in state.items():
        if part and size + value.nbytes > PART_BYTES:
            save_file(part, target / f"{count:02d}.safetensors")
            part, count, size = {}, count + 1, 0
        part[key] = value.detach().cpu().contiguous()
        size += value.nbytes
    save_file(part, target / f"{count:02d}.safetensors")
    with appearing(folder / RECORD) as unfinished:
        unfinished.write_text(json.dumps({**record, "state": name, "parts": count + 1}))
    for older in folder.glob("state-*"):
        if older.name != name:
            shutil.rmtree(older, ignore_errors=True)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `save_state` wrote last, or None where there is nothing. Raises ValueError, KeyError, TypeError
    and OSError for damage."""
    if not (folder / RECORD).is_file():
        return None
    record = json.loads((folder / RECORD).read_text())
    state: dict[str, Tensor] = {}
    parts = sorted((folder / record["state"]).glob("*.safetensors"))
    if len(parts) != record["parts"]:
        raise ValueError(f"{folder}: {len(parts)} of the {record['parts']} parts of its state are there")
    for part in parts:
        state |= load_file(part)
    return state, record
