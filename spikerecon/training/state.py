"""The state of a run on disk: tensors in pieces small enough to be carried anywhere."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from spikerecon.files import appearing, as_output_error

PART_BYTES = 15 * 2**20
RECORD = "run.json"


def save_state(folder: Path, state: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write tensors in files of at most `PART_BYTES` (or of one tensor), then `run.json`, which makes them valid.

    Whatever interrupts it, the folder holds the last state or this one, whole. record: JSON values that go with it.
    Raises OutputError where it cannot be written.
    """
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in state.items():
        if parts[-1] and size + value.nbytes > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][key] = value.detach().cpu().contiguous()
        size += value.nbytes
    name = f"state-{record['step']}-{secrets.token_hex(4)}"  # that of this step may be there already, and valid
    target = folder / name
    with as_output_error(target):
        target.mkdir(parents=True)
        for number, part in enumerate(parts):  # files that safetensors makes are for their owner alone
            (target / f"{number:02d}.safetensors").write_bytes(serialized(part))
    with appearing(folder / RECORD) as unfinished:
        unfinished.write_text(json.dumps({**record, "state": name, "parts": len(parts)}))
    for older in folder.iterdir():
        if re.fullmatch(r"state-\d+-[0-9a-f]{8}", older.name) and older.name != name:  # others are not ours
            shutil.rmtree(older, ignore_errors=True)


def has_state(folder: Path) -> bool:
    """Whether `save_state` has ever come to its end there."""
    return (folder / RECORD).is_file()


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_state` wrote last. Raises ValueError, KeyError, TypeError and OSError for damage."""
    record = json.loads((folder / RECORD).read_text())
    state: dict[str, Tensor] = {}
    parts = sorted((folder / record["state"]).glob("*.safetensors"))
    if len(parts) != record["parts"]:
        raise ValueError(f"{folder}: {len(parts)} of the {record['parts']} parts of its state are there")
    for part in parts:
        state |= load_file(part)
    return state, record
