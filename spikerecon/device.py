"""What to compute on, and in which precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from spikerecon.errors import DeviceError, UsageError
from spikerecon.names import PRECISIONS

T = TypeVar("T")
R = TypeVar("R")


def pick_device(name: str) -> torch.device:
    """The device of a name. Raises DeviceError where it is not there, UsageError for an unknown name."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"unknown device '{name}': choose auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(f"device '{name}' is not there (CUDA devices: {count}): try --device cpu")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps' is not there: try --device cpu")
    elif device.type != "cpu":
        raise UsageError(f"unknown device '{name}': choose auto, cpu, cuda, cuda:N or mps")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """The precision to compute in. Raises UsageError for an unknown name."""
    if name != "auto":
        if name not in PRECISIONS:
            raise UsageError(f"unknown precision '{name}': choose auto, {', '.join(PRECISIONS)}")
        return name
    if device.type == "cuda":
        # Older ones only imitate bfloat16, and slowly.
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if device.type == "cpu" and _cpu_has_bfloat16():
        return "bfloat16"
    return "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which a network computes in a precision, which `pick_precision` gave."""
    reduced = precision != "float32"
    return torch.autocast(device.type, getattr(torch, precision) if reduced else None, enabled=reduced)


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


class Crew:
    """Threads that share a processor, each with cores of its own.

    Cores that work on one thing together wait for each other after every step.
    """

    def __init__(self, size: int) -> None:
        cores = torch.get_num_threads()

        def begin() -> None:
            torch.get_num_threads()  # a thread that has not asked is given all of them later
            torch.set_num_threads(max(1, cores // size))

        self._pool = ThreadPoolExecutor(size, initializer=begin)
        all_there = threading.Barrier(size)
        self.map(lambda _: all_there.wait(), range(size))
        torch.set_num_threads(cores)  # theirs would go to every thread that begins later, of whatever program

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What `work` makes of each item, in order. Errors come up when all of it has ended."""
        results = [self._pool.submit(work, item) for item in items]
        wait(results)
        return [result.result() for result in results]

    def close(self) -> None:
        """Wait for what still runs, and drop what has not begun."""
        self._pool.shutdown(cancel_futures=True)
