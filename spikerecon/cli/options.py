"""Options that several commands share, each set packed into one object."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spikerecon.errors import UsageError

if TYPE_CHECKING:
    from spikerecon.engine import Reconstructor
    from spikerecon.recording import Recording

LAYOUTS = ("auto", "packed", "row-headers", "raw1000", "npz", "spikelink")  # written out: --help needs no numpy
BAYER_PATTERNS = ("bggr", "rggb", "gbrg", "grbg")

F = TypeVar("F", bound=Callable[..., Any])


def _packed(name: str, cls: type, *options: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that adds click options and hands their values on as one `cls` called `name`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def packing(**values: Any) -> Any:
            values[name] = cls(**{field.name: values.pop(field.name) for field in fields(cls)})
            return function(**values)

        decorated: Any = packing
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


@dataclass(frozen=True)
class InputOptions:
    """How to open a recording, and which part of it to use."""

    layout: str
    size: str | None
    flip: bool | None
    rate: float
    start: str
    end: str | None

    def open(self, path: str, follow: float | None = None) -> Recording:
        from spikerecon.recording import open_recording, parse_size

        if not 0 < self.rate < math.inf:
            raise UsageError(f"rate {self.rate:g} is not a number of planes a second")
        size = parse_size(self.size) if self.size else None
        return open_recording(path, layout=self.layout, size=size, flip=self.flip, follow=follow)

    def span(self) -> tuple[int, int | None]:
        """First plane and the plane after the last one (None: to the end of the recording)."""
        from spikerecon.windows import parse_moment

        end = None if self.end is None else parse_moment(self.end, self.rate)
        return parse_moment(self.start, self.rate), end


input_options = _packed(
    "source",
    InputOptions,
    click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        default="auto",
        show_default=True,
        help="How planes are stored.",
    ),
    click.option("--size", metavar="WIDTHxHEIGHT", help="Pixels; needed where the file does not tell."),
    click.option("--flip/--no-flip", default=None, help="Turn pictures upside down. [default: what the layout says]"),
    click.option("--rate", type=float, default=40000, show_default=True, help="The camera's planes a second."),
    click.option("--start", default="0", help="First plane to use, or a time: 1200, 30ms, 0.03s."),
    click.option("--end", help="Plane (or time) to stop before. [default: the end]"),
)


@dataclass(frozen=True)
class MethodOptions:
    """What turns spikes into pictures, and on what."""

    method: str
    window: int | None
    weights: str
    device: str
    precision: str
    batch_size: str
    bin: str

    def reconstructor(
        self, recording: Recording | None = None, start: int = 0, end: int | None = None, bayer: str | None = None
    ) -> Reconstructor:
        """The engine; an automatic --bin is measured on planes `start` to `end` of a recording."""
        from spikerecon.engine import Reconstructor
        from spikerecon.recording import auto_merge

        if self.bin == "auto":
            if recording is None:
                raise UsageError("--bin auto needs a recording to measure: give a number")
            merge = auto_merge(recording, start, end)
        else:
            merge = int(self.bin) if self.bin.isdecimal() else 0
        if merge < 1:
            raise UsageError(f"--bin '{self.bin}' is neither auto nor a whole number from 1 on")
        return Reconstructor(
            self.method,
            weights=self.weights,
            window=self.window,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            merge=merge,
            bayer=bayer,
        )


method_options = _packed(
    "run",
    MethodOptions,
    click.option("--method", type=click.Choice(["stir", "tfp", "tfi"]), default="stir", show_default=True),
    click.option("--window", type=int, help="Planes that tfp averages (default 20) or tfi searches (default 60)."),
    click.option("--weights", metavar="NAME|FILE", default="stir", show_default=True, help="Weights of stir."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        default="auto",
        show_default=True,
    ),
    click.option(
        "--batch-size", metavar="auto|N", default="auto", show_default=True, help="Pictures computed at once."
    ),
    click.option(
        "--bin",
        metavar="auto|N",
        default="1",
        show_default=True,
        help="Merge N planes into one before anything else: light for time, for dark recordings.",
    ),
)


@dataclass(frozen=True)
class PictureOptions:
    """How firing rates become pictures."""

    bayer: str | None
    gain: str
    gamma: float
    bit_depth: str

    def levels(self, recording: Recording, start: int, end: int | None) -> dict[str, Any]:
        """Arguments of `video.to_uint`; an automatic gain is measured once, for the whole output."""
        from spikerecon.recording import auto_gain

        if self.gain == "auto":
            gain = auto_gain(recording, start, end)
        else:
            try:
                gain = float(self.gain)
            except ValueError:
                gain = 0.0
            if not 0 < gain < math.inf:
                raise UsageError(f"gain '{self.gain}' is neither auto nor a number above 0")
        if not 0 < self.gamma < math.inf:
            raise UsageError(f"gamma {self.gamma:g} is not a number above 0")
        return {"gain": gain, "gamma": self.gamma, "bit_depth": int(self.bit_depth)}


picture_options = _packed(
    "picture",
    PictureOptions,
    click.option(
        "--bayer",
        type=click.Choice(BAYER_PATTERNS),
        help="Pictures in colour, of a colour camera: the colours of its top left 2x2 pixels, upright, row by row.",
    ),
    click.option(
        "--gain",
        metavar="auto|X",
        default="auto",
        show_default=True,
        help="Brightness: one factor for the whole output, never one a frame.",
    ),
    click.option("--gamma", type=float, default=1.0, show_default=True, help="Above 1 lifts the shadows."),
    click.option("--bit-depth", type=click.Choice(["8", "16"]), default="8", show_default=True),
)

step_option = click.option("--step", type=int, default=20, show_default=True, help="Planes between output frames.")
overwrite_option = click.option("-y", "--overwrite", is_flag=True, help="Replace what is there.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
json_file_option = click.option(
    "--json", "json_file", metavar="FILE", help="Also write the results as JSON; - for stdout."
)
