"""The ways to turn spikes into a picture, behind one interface.

A method looks at one or more blocks of planes around an instant. `encode` turns blocks into features, each block by
itself, so that a block shared by several windows is encoded once; `decode` turns the features of a window's blocks
into its picture. The exception is TFSTP, which has no windows: it is fed all planes in turn.
"""

from __future__ import annotations

import operator
from typing import Protocol, SupportsIndex

import torch
from torch import Tensor, nn

from spikerecon import checkpoint, classical
from spikerecon.errors import UsageError
from spikerecon.names import METHODS
from spikerecon.network import BLOCK_STRIDE, BLOCKS, STIR, Features

TFP_WINDOW = 20
TFI_WINDOW = 60
WINDOWED = ("tfp", "tfi")  # those whose window is for the user to choose


class Method(Protocol):
    """What the engine needs to know of a method.

    name: as users call it. about: one line on what exactly it does here. block_planes: planes in a block.
    multiple: height and width must be multiples of it. offsets: planes from the centre to the start of each block of
    its window. network: the module whose weights it uses, or None. rows: that the network draws at once at full size,
    or None for all; fewer take less memory.
    """

    name: str
    about: str
    block_planes: int
    multiple: int
    rows: int | None

    @property
    def offsets(self) -> tuple[int, ...]: ...

    @property
    def network(self) -> nn.Module | None: ...

    def encode(self, blocks: Tensor) -> Features:
        """Features of blocks (B, block_planes, H, W) of 0.0 and 1.0; each tensor has B first."""

    def decode(self, *blocks: Features) -> Tensor:
        """Firing rates (B, H, W), float32, spikes per plane, from the features of a window's blocks."""


def window_around(method: Method | Tfstp) -> tuple[int, int]:
    """Planes of a window before its centre, and from its centre on: centre c uses [c - before, c + after).

    Of TFSTP, the planes that it has to see at least.
    """
    if isinstance(method, Tfstp):
        return method.least, 0
    return -method.offsets[0], method.offsets[-1] + method.block_planes


def make_method(name: str, *, weights: str = checkpoint.DEFAULT, window: int | None = None) -> Method | Tfstp:
    """A method by name. weights: for stir, a bundled name or a file. window: planes, for tfp (20) and tfi (60).

    Raises UsageError for an unknown name or a window where there is none to choose, WeightsError for weights.
    """
    if name == "tfp":
        return Tfp(TFP_WINDOW if window is None else window)
    if name == "tfi":
        return Tfi(TFI_WINDOW if window is None else window)
    if name not in METHODS:
        raise UsageError(f"unknown method '{name}': choose {', '.join(METHODS)}")
    if name == "tfstp":
        if window is not None:
            raise UsageError("tfstp has no window, it goes by all planes so far: a window is for tfp and tfi")
        return Tfstp()
    if window is not None:
        raise UsageError("the window of stir is set by its weights: a window is for tfp and tfi")
    loaded = checkpoint.load(weights)
    return Stir(loaded.network(), f"weights {loaded.name} ({loaded.digest})")


class _Classical:
    """A method of one block: `window` planes around the centre, and what becomes of them when they are encoded."""

    multiple = 1
    network: None = None
    rows: int | None = None

    def __init__(self, window: int, least: int, lacking: str) -> None:
        """least: planes of the shortest window; what shorter ones are `lacking`. Raises UsageError for those."""
        if not isinstance(window, SupportsIndex) or operator.index(window) < least:
            raise UsageError(f"a window of {window} planes holds {lacking}: give a whole number from {least} on")
        self.block_planes = operator.index(window)
        self.offsets = (-(self.block_planes // 2),)

    def decode(self, *blocks: Features) -> Tensor:
        return blocks[0][0]


class Tfp(_Classical):
    """`classical.tfp` over `window` planes around the centre."""

    name = "tfp"

    def __init__(self, window: int = TFP_WINDOW) -> None:
        super().__init__(window, 1, "nothing to average")
        self.about = f"mean of {self.block_planes} planes"

    def encode(self, blocks: Tensor) -> Features:
        return [classical.tfp(blocks)]


class Tfi(_Classical):
    """`classical.tfi` among `window` planes around the centre."""

    name = "tfi"

    def __init__(self, window: int = TFI_WINDOW) -> None:
        super().__init__(window, 2, "no interval")
        self.about = f"inter-spike interval within {self.block_planes} planes"

    def encode(self, blocks: Tensor) -> Features:
        return [classical.tfi(blocks, -self.offsets[0])]


class Tfstp:
    """`classical.ShortTermPlasticity`: a state carried from plane to plane, so that centre c uses the planes before c.

    What moves is a little late: the picture is closest to the scene about 5 planes earlier at the default exposure, and
    10 at a third of it.

    least: planes that it has to see before its first picture. warm_up: planes after which what came before them does
    not show any more (in the built-in fan at 0.06 spikes a plane for white, ten times darker than usual: in 11 of
    100,000 pixels, by up to three grey levels of 255).
    """

    name = "tfstp"
    about = "short-term plasticity of the planes so far"
    network: None = None
    rows: int | None = None
    least = 30
    warm_up = 1000

    def begin(self, height: int, width: int, device: torch.device) -> classical.ShortTermPlasticity:
        """The state before the first plane."""
        return classical.ShortTermPlasticity(height, width, device)


class Stir:
    """The network, in three blocks 20 planes apart. about: where its weights come from."""

    name = "stir"

    def __init__(self, network: STIR, about: str = "") -> None:
        config = network.config
        self.about = about
        self.network = network.eval()
        self.block_planes = config.block_planes
        self.offsets = tuple(BLOCK_STRIDE * i - config.planes_before for i in range(BLOCKS))
        self.multiple = config.multiple
        self.rows: int | None = None

    def encode(self, blocks: Tensor) -> Features:
        return self.network.encode(blocks.contiguous(memory_format=torch.channels_last))

    def decode(self, *blocks: Features) -> Tensor:
        before, middle, after = blocks
        return self.network.to_rate(self.network.decode(before, middle, after, self.rows)[0])
