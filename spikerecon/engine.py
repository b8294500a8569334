"""Windows slid over a recording, in batches, on a device: the way from packed bytes to pictures."""

from __future__ import annotations

import functools
import itertools
import operator
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikerecon import windows, winograd
from spikerecon.checkpoint import DEFAULT as DEFAULT_WEIGHTS
from spikerecon.colour import check_demosaic, demosaic
from spikerecon.device import Crew, autocast, pick_device, pick_precision
from spikerecon.errors import DeviceError, UsageError
from spikerecon.methods import Method, Stir, Tfstp, make_method, window_around
from spikerecon.network import Features
from spikerecon.pipeline import RunAhead, in_threads
from spikerecon.planes import crop, join_colours, merge_planes, pad, split_colours, to_device, unpack_bits
from spikerecon.recording import Recording
from spikerecon.windows import WINDOW

T = TypeVar("T")
R = TypeVar("R")
STAGES = ("read", "unpack", "encode", "decode", "to host")
QUEUE_DEPTH = 2  # batches read ahead, and frames waiting to be taken
CACHE_BYTES = 3 * 2**30  # features kept for later windows (1000x1000 at step 1: 2.7 GiB); others are encoded again
# Of pictures decoded at once on a GPU: to launch their work takes the same time for many as for one.
CUDA_BATCH_PIXELS = 64 * 400 * 250
CUDA_PICTURES = 512  # at most, of small crops: more gain nothing, and the first one comes late
CUDA_BYTES = 6000  # of a GPU's memory for each pixel: more than twice what one was seen to take in bfloat16
CPU_BATCH_PIXELS = 8 * 400 * 250  # side by side: together they take no more memory than one of 1000x1000
FEWEST_ROWS = 32  # ten more are drawn for each strip, to be dropped
FED_PLANES = 20  # planes read and unpacked at once for a method that has no windows


@dataclass(frozen=True)
class Frame:
    """A reconstructed picture. center: the plane that starts at its instant. rate: float32 (H, W), spikes per plane.

    Of a colour camera rate is (H, W, 3): RGB.
    """

    center: int
    rate: NDArray[np.float32]


def _in_colour(bayer: str, frame: Frame) -> Frame:
    return Frame(frame.center, demosaic(frame.rate, bayer))


class Reconstructor:
    """Runs a method over recordings.

    method: one of `names.METHODS`, made by `make_method` with `weights` and `window`, or a method made already,
    whose network is moved to the device.
    device: "auto" (CUDA if there is one), "cpu", "cuda", "cuda:N" or "mps". precision: "auto", "float32", "bfloat16"
    or "float16", of the network's arithmetic (without one it is float32); "auto" is bfloat16 where the processor has
    instructions for it.
    merge: planes merged into one before anything else (see `merge_planes`), for dark recordings; centres, steps and
    firing rates stay those of the camera's planes.
    bayer: one of `names.BAYER_PATTERNS` where the recording is a colour camera's, and frames are to be in colour.
    Pixels of a colour are reconstructed as a picture of their own, at half the size: side by side they fire at
    different rates, which a method would take for texture.
    before, after: planes of a window on both sides of its centre. kept: planes that `centers` leaves before the first
    centre, and from the last one on.
    reach: planes before a centre that can show in its picture.
    batch_size: pictures decoded at once (on a CPU side by side, each by cores of its own), or "auto". tile: rows that
    the network draws at once at full size, for devices with little memory (the pictures are the same), or "auto": all
    of them. Where memory is short, "auto" takes fewer.
    measure: set it to wait for the device after every stage, so that `seconds` tells them apart.

    Raises DeviceError for a device that is not there, UsageError for unknown names, WeightsError for weights,
    OutputError for `bayer` where colour-demosaicing is missing.
    """

    def __init__(
        self,
        method: Method | Tfstp | str = "stir",
        *,
        weights: str = DEFAULT_WEIGHTS,
        window: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        merge: int = 1,
        bayer: str | None = None,
        batch_size: int | str = "auto",
        tile: int | str = "auto",
    ) -> None:
        if bayer is not None:
            check_demosaic(bayer)
        self.bayer = bayer
        if isinstance(method, str):
            self.method = make_method(method, weights=weights, window=window)
        else:
            self.method = copy(method)  # several engines may share it, each with its `tile`
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        if self.method.network is None:
            self.precision = "float32"
        self.batch_size = batch_size if batch_size == "auto" else _positive(batch_size, "batch size")
        self.tile = tile if tile == "auto" else _positive(tile, "tile")
        self.method.rows = None if self.tile == "auto" else int(self.tile)
        self.merge = merge = _positive(merge, "merge")
        around = window_around(self.method)
        self.before, self.after = (merge * planes for planes in around)
        whole = max(WINDOW, sum(around))
        self.kept = merge * (whole // 2), merge * (whole - whole // 2)
        self.reach = merge * self.method.warm_up if isinstance(self.method, Tfstp) else self.before
        self.overlap = self.device.type == "cuda"  # it works on a batch while the one before is handed out
        self.apart = self.device.type == "cpu"  # where a picture alone fills the caches: each goes by itself
        self.measure = False
        self.seconds = dict.fromkeys(STAGES, 0.0)
        if self.method.network is not None:
            self.method.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.quick = self.method  # what `frames` runs: the same pictures, sooner
        if isinstance(self.method, Stir) and winograd.helps(self.device, self.precision):
            self.quick = copy(self.method)
            self.quick.network = winograd.quickened(self.method.network)
        merged = f", {merge} planes merged into one" if merge > 1 else ""
        merged += f", in colour ({bayer})" if bayer else ""
        self.about = f"{self.method.name}: {self.method.about}{merged}, on {self.device} in {self.precision}"

    def centers(self, recording: Recording, *, start: int = 0, end: int | None = None, step: int = 20) -> range:
        """Centres of all windows between planes `start` and `end`, `step` apart; the first is start + 30, or further on
        where windows are longer than 60 planes or planes are merged.

        Methods with shorter windows get the same centres, so that their pictures can be compared. Raises UsageError as
        `windows.centers`.
        """
        before, after = self.kept
        return windows.centers(recording.planes, start=start, end=end, step=step, before=before, after=after)

    def frames(self, recording: Recording, centers: Sequence[int] | None = None, *, start: int = 0) -> Iterator[Frame]:
        """Pictures of a recording at `centers` (ascending; by default all of `self.centers`).

        TFSTP, which has no windows, begins at plane `start`, or at most `reach` planes before the first centre, and
        begins again where the next centre is further off or lies before. With planes merged, up to `merge` - 1 of
        them before a centre are left for the next one.

        Reading runs ahead in a thread. Where a stream ends, a range of centres ends too. Raises UsageError for centres
        that the recording does not have, RecordingError where it cannot be read on, and DeviceError where the device
        has too little memory for one picture.
        """
        if centers is None:
            centers = self.centers(recording, start=start)
        elif not isinstance(centers, range):
            centers = _whole_numbers(centers)
        if self.bayer is not None and min(recording.width, recording.height) < 2:
            size = f"{recording.width}x{recording.height}"
            raise UsageError(f"{recording.name}: {size} pixels hold no Bayer pattern: reconstruct it without")
        if recording.planes is not None and len(centers):
            for center in (centers[0], centers[-1]):
                windows.check_center(center, recording.planes, self.before, self.after)
        if isinstance(self.method, Tfstp):
            frames = _Fed(self, recording, centers).frames(self.method, start)
        else:
            frames = _Windowed(self, recording, centers).frames()
        with closing(frames):
            if self.bayer is None:
                yield from frames
            else:  # it takes longer than TFP, or than any method on a GPU
                in_colour = functools.partial(_in_colour, self.bayer)
                yield from in_threads(in_colour, frames, torch.get_num_threads())

    def batch_for(self, recording: Recording) -> int:
        """Pictures that are decoded at once for recordings of this size."""
        if self.batch_size != "auto":
            return int(self.batch_size)
        if self.device.type == "cuda":
            memory = torch.cuda.get_device_properties(self.device).total_memory
            return cuda_batch(recording.width * recording.height, memory)
        if self.device.type == "cpu" and self.method.network is not None:
            return cpu_batch(recording.width * recording.height, torch.get_num_threads())
        return 1

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to `seconds[name]`."""
        began = time.perf_counter()
        yield
        if self.measure and self.device.type == "cuda" and name != "read":
            torch.cuda.synchronize(self.device)
        self.seconds[name] += time.perf_counter() - began


class _Coming:
    """Frames on their way from the device."""

    def __init__(self, centers: list[int], rates: Tensor) -> None:
        self.centers = centers
        self.there: torch.cuda.Event | None = None
        if rates.device.type == "cuda":
            self.rates = torch.empty(rates.shape, pin_memory=True).copy_(rates, non_blocking=True)
            self.there = torch.cuda.Event(blocking=True)  # so that waiting leaves the core to the encoder
            self.there.record(torch.cuda.current_stream(rates.device))
        else:
            self.rates = rates.cpu()

    def frames(self) -> Iterator[Frame]:
        if self.there is not None:
            self.there.synchronize()
        for center, rate in zip(self.centers, self.rates.numpy(), strict=True):
            yield Frame(center, rate if self.there is None else rate.copy())  # pinned memory is for the way only


class _Pass:
    """One pass over a recording, for the pictures at some centres."""

    def __init__(self, engine: Reconstructor, recording: Recording, centers: Sequence[int]) -> None:
        self.engine, self.recording, self.centers = engine, recording, centers
        self.goes_by_end = isinstance(centers, range)  # ends where a stream does
        # Planes that there must be from a centre on: of a stream as many as `centers` leaves where the end is known.
        self.room = engine.kept[1] if recording.planes is None and self.goes_by_end else engine.after

    def planes(self, first: int, until: int, center: int) -> NDArray[np.uint8] | None:
        """Packed rows of planes [first, until), for the picture at `center`.

        None where a stream has ended before, and with it a range of centres; any other is refused.
        """
        with self.engine.stage("read"):
            rows = self.recording.read(first, until)
        if len(rows) == until - first:
            return rows
        if not self.goes_by_end:
            windows.check_center(center, self.recording.planes, self.engine.before, self.engine.after)
        return None


class _Fed(_Pass):
    """A pass for a method that is fed all planes in turn."""

    def frames(self, method: Tfstp, start: int) -> Generator[Frame]:
        """Pictures from planes `start` on; see `Reconstructor.frames`."""
        engine, recording = self.engine, self.recording
        read_ahead = RunAhead(self.read(start), QUEUE_DEPTH)
        try:
            for rows, afresh, center in read_ahead:
                if afresh:
                    state = method.begin(recording.height, recording.width, engine.device)
                with engine.stage("unpack"):
                    planes = unpack_bits(to_device([rows], engine.device)[0], recording.width)
                with engine.stage("encode"):
                    state.feed(planes)
                if center is not None:
                    with engine.stage("decode"):
                        rate = state.rate() / engine.merge
                    with engine.stage("to host"):
                        picture = rate.cpu().numpy()
                    yield Frame(center, picture)
        finally:
            read_ahead.close()

    def read(self, start: int) -> Iterator[tuple[NDArray[np.uint8], bool, int | None]]:
        """The planes up to each centre: packed rows, merged; whether they begin afresh; the centre that they reach."""
        engine, merge = self.engine, self.engine.merge
        fed = 0  # planes before this one
        for number, center in enumerate(self.centers):
            afresh = not number or not 0 <= center - fed <= engine.reach
            if afresh:
                fed = max(start, center - engine.reach)
                fed -= (fed - start) % merge  # merged as they are by whoever begins at `start`
                fed = min(fed, center - engine.before)
            stop = center - (center - fed) % merge
            for first in range(fed, stop, FED_PLANES * merge) or (stop,):
                last = min(first + FED_PLANES * merge, stop)
                until = last if last < stop else center + self.room
                if (rows := self.planes(first, until, center)) is None:
                    return
                yield merge_planes(rows[: last - first], merge), afresh, center if last == stop else None
                afresh = False
            fed = stop


class _Windowed(_Pass):
    """A pass for a method that looks at windows: it keeps the features of blocks that later windows still need."""

    def __init__(self, engine: Reconstructor, recording: Recording, centers: Sequence[int]) -> None:
        super().__init__(engine, recording, centers)
        assert not isinstance(engine.quick, Tfstp)
        self.method = engine.quick
        self.offsets = [engine.merge * offset for offset in engine.quick.offsets]
        self.wanted = centers if isinstance(centers, range) else frozenset(centers)
        self.features: dict[int, Features] = {}
        self.hands = min(engine.batch_for(recording), torch.get_num_threads(), len(centers))
        self.crew: Crew | None = None

    def frames(self) -> Generator[Frame]:
        """The pictures, a batch at a time."""
        engine = self.engine
        read_ahead = RunAhead(self.read(), QUEUE_DEPTH * engine.batch_for(self.recording))
        coming: list[_Coming] = []
        try:
            while batch := list(itertools.islice(read_ahead, engine.batch_for(self.recording))):
                started = self.start(batch)
                ready, coming = (coming, started) if engine.overlap else (started, [])
                for part in ready:
                    yield from part.frames()
            for part in coming:
                yield from part.frames()
        finally:
            read_ahead.close()
            if self.crew is not None:
                self.crew.close()

    def read(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Centres with the packed rows of their windows, merged."""
        before, after = self.engine.before, self.engine.after
        for center in self.centers:
            if (rows := self.planes(center - before, center + self.room, center)) is None:
                return
            yield center, merge_planes(rows[: before + after], self.engine.merge)

    def start(self, batch: list[tuple[int, NDArray[np.uint8]]]) -> list[_Coming]:
        """The frames of windows (centre, packed rows); in parts where the device's memory is too small."""
        try:
            return [self._start(batch)]
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if len(batch) == 1 and not self._take_fewer_rows(batch[0][1].shape[1]):
                instead = "a part of it (--crop)" if self.engine.device.type == "cpu" else "--device cpu"
                raise DeviceError(
                    f"{self.engine.device} has too little memory for one picture of this size: try {instead}"
                ) from None
        self.features.clear()
        torch.cuda.empty_cache()
        if len(batch) == 1:
            return self.start(batch)
        self.engine.batch_size = half = len(batch) // 2
        return self.start(batch[:half]) + self.start(batch[half:])

    def _take_fewer_rows(self, height: int) -> bool:
        """Halve the rows that are drawn at once, if they may be."""
        half = (self.method.rows or height) // 2
        if self.engine.tile != "auto" or self.method.network is None or half < FEWEST_ROWS:
            return False
        self.method.rows = half
        return True

    def _start(self, batch: list[tuple[int, NDArray[np.uint8]]]) -> _Coming:
        stage = self.engine.stage
        height = batch[0][1].shape[1]
        centers = [center for center, _ in batch]
        self._encode(batch)
        with stage("decode"):
            rates = torch.cat(self._each(self._decode, self._parts(centers))) / self.engine.merge
        for start in [start for start in self.features if not self._needed_after(centers[-1], start)]:
            del self.features[start]
        with stage("to host"):
            if self.engine.bayer is None:
                rates = crop(rates, height, self.recording.width)
            else:
                rates = join_colours(crop(rates, (height + 1) // 2, (self.recording.width + 1) // 2))
                rates = rates[:, :height, : self.recording.width]
            return _Coming(centers, rates)

    def _parts(self, items: list[T]) -> list[list[T]]:
        """What is worked on at once: on a GPU all, as orders to it take as long for many as for one."""
        return [[item] for item in items] if self.engine.apart else [items]

    def _each(self, work: Callable[[T], R], parts: list[T]) -> list[R]:
        """What `work` makes of each part: side by side, where there are several."""

        def in_mode(part: T) -> R:  # which is a thread's own
            with torch.inference_mode(), autocast(self.engine.device, self.engine.precision):
                return work(part)

        if min(len(parts), self.hands) < 2:
            return [in_mode(part) for part in parts]
        self.crew = self.crew or Crew(self.hands)
        return self.crew.map(in_mode, parts)

    def _decode(self, centers: list[int]) -> Tensor:
        """Rates of the windows around some centres, whose blocks are there."""
        blocks = [
            [torch.cat(levels) for levels in zip(*(self.features[center + offset] for center in centers), strict=True)]
            for offset in self.offsets
        ]
        return self.method.decode(*blocks)

    def _encode(self, batch: list[tuple[int, NDArray[np.uint8]]]) -> None:
        """Features of all blocks of a batch that are not there yet."""
        stage, method = self.engine.stage, self.method
        missing: dict[int, NDArray[np.uint8]] = {}
        for center, rows in batch:
            for offset, planned in zip(self.offsets, method.offsets, strict=True):
                if center + offset not in self.features:
                    first = planned - method.offsets[0]
                    missing[center + offset] = rows[first : first + method.block_planes]
        if not missing:
            return
        groups = self._parts(list(missing.items()))
        with stage("unpack"):
            device = self.engine.device
            planes = [
                unpack_bits(to_device([rows for _, rows in group], device), self.recording.width) for group in groups
            ]
        with stage("encode"):
            encoded = self._each(self._features, planes)
        for group, levels in zip(groups, encoded, strict=True):
            each = len(levels[0]) // len(group)  # pictures: four of a colour camera
            for i, (start, _) in enumerate(group):
                self.features[start] = [level[i * each : (i + 1) * each] for level in levels]

    def _features(self, planes: Tensor) -> Features:
        """Of blocks of planes (B, P, H, W)."""
        if self.engine.bayer is not None:
            planes = split_colours(planes.float())
        if self.method.network is not None:
            planes = pad(planes.float(), self.method.multiple)
        return self.method.encode(planes)

    def _needed_after(self, center: int, start: int) -> bool:
        """Whether a window beyond `center` has a block that starts at plane `start`, and memory allows keeping it."""
        later = (start - offset for offset in self.offsets)
        if not any(c > center and c in self.wanted for c in later):
            return False
        size = sum(level.nbytes for level in self.features[start])
        return size * len(self.features) <= CACHE_BYTES or start >= center + self.offsets[-1]


def cpu_batch(pixels: int, cores: int) -> int:
    """Pictures of so many pixels that so many cores decode side by side, with as many cores for each."""
    most = max(1, CPU_BATCH_PIXELS // pixels)
    return cores // -(-cores // most)


def cuda_batch(pixels: int, memory: int) -> int:
    """Pictures of so many pixels that a GPU with so many bytes of memory decodes at once, from 1 on."""
    return max(1, min(CUDA_PICTURES, CUDA_BATCH_PIXELS // pixels, memory // (CUDA_BYTES * pixels)))


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Also where libraries say it: cuDNN finds no way to compute what leaves no room for its workspace."""
    signs = (
        "can't allocate memory",
        "could not create a primitive",
        "ALLOC_FAILED",
        "ALLOCATION_FAILED",
        "STATUS_NOT_INITIALIZED",
        "unable to find an engine",
        "CUDA error: out of memory",
    )
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


def plain_frame(method: Method, recording: Recording, center: int, merge: int = 1) -> Frame:
    """One picture the plain way: its window alone, whole, in float32, where the method is. What `frames` must equal."""
    before, after = window_around(method)
    packed = recording.read(center - merge * before, center + merge * after)
    rows = torch.from_numpy(merge_planes(packed, merge))[None]
    if method.network is not None:
        rows = rows.to(next(method.network.parameters()).device)
    planes = pad(unpack_bits(rows, recording.width).float(), method.multiple)
    starts = [offset + before for offset in method.offsets]
    with torch.inference_mode():
        blocks = [method.encode(planes[:, start : start + method.block_planes]) for start in starts]
        rates = method.decode(*blocks) / merge
    return Frame(center, crop(rates, recording.height, recording.width)[0].cpu().numpy())


def _positive(number: int | str, what: str) -> int:
    try:
        value = int(number) if isinstance(number, str) else operator.index(number)
    except (TypeError, ValueError):
        value = 0
    if value < 1:
        raise UsageError(f"{what} '{number}' is no whole number from 1 on")
    return value


def _whole_numbers(centers: Iterable[int]) -> tuple[int, ...]:
    try:  # numpy's small ones would overflow where planes are counted
        return tuple(map(operator.index, centers))
    except TypeError:
        raise UsageError(f"centers {centers!r} are no whole numbers one after the other") from None
