"""Options that several commands share, each set packed into one object."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spikerecon.cli.console import say
from spikerecon.errors import UsageError
from spikerecon.names import BAYER_PATTERNS, LAYOUT_NAMES, METHODS, PRECISIONS

if TYPE_CHECKING:
    from spikerecon.engine import Frame, Reconstructor
    from spikerecon.recording import Recording


F = TypeVar("F", bound=Callable[..., Any])


def name_of(path: str) -> str:
    """What to name the pictures of a recording after."""
    if path == "-":
        return "stdin"
    whole = Path(os.path.abspath(path))  # not resolved: a link has a name of its own
    return whole.name if whole.is_dir() else whole.stem


def files_of(*sources: str | None) -> list[Path]:
    """The files that recordings are read from: those of a folder are its blocks."""
    paths = [Path(source) for source in sources if source not in (None, "-")]
    return [file for path in paths for file in (path.glob("[0-3]/*.dat") if path.is_dir() else [path])]


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
class MendOptions:
    """What to do about flawed pixels."""

    mend: bool | None
    flat: str | None

    def mended(self, recording: Recording, source: InputOptions, bayer: str | None, quiet: bool) -> Recording:
        """A whole recording with its flawed pixels mended, which is said where there are some."""
        from spikerecon.recording import find_flaws, flaws_of_flat, is_npz, mended, open_recording

        spacing = 2 if bayer else 1
        if self.flat is not None:
            if self.mend is False:
                raise UsageError("--flat and --no-mend exclude each other")
            if self.flat == "-":
                raise UsageError("a flat field is a file, not standard input")
            size = recording.width, recording.height
            kept = source.layout in ("npz", "spikelink") or is_npz(Path(self.flat))
            layout = "auto" if kept else source.layout  # ways to keep, not to pack
            with open_recording(self.flat, layout=layout, size=size, flip=source.flip) as flat:
                flaws = flaws_of_flat(flat, spacing=spacing)
        elif self.mend is False or (self.mend is None and recording.planes is None):
            return recording
        else:
            flaws = find_flaws(recording, spacing=spacing)
        found = mended(recording, flaws)
        if found is not recording:
            say(f"{recording.name}: mended {flaws}", quiet)
        elif self.flat is not None:
            say(f"{self.flat}: shows no flawed pixels", quiet)
        return found


@dataclass(frozen=True)
class InputOptions:
    """How to open a recording, and which part of it to use."""

    layout: str
    size: str | None
    flip: bool | None
    rate: float
    start: str
    end: str | None
    crop: str | None

    def open(
        self,
        path: str,
        *,
        follow: float | None = None,
        mending: MendOptions | None = None,
        bayer: str | None = None,
        quiet: bool = False,
    ) -> Recording:
        """The recording, or the crop of it. Mended whole, so that pixels at the border of a crop have neighbours."""
        from spikerecon.recording import open_recording, parse_size

        self._check_rate()
        size = parse_size(self.size) if self.size else None
        recording = open_recording(path, layout=self.layout, size=size, flip=self.flip, follow=follow)
        try:
            return self.cropped(mending.mended(recording, self, bayer, quiet) if mending else recording)
        except BaseException:
            recording.close()
            raise

    def filmed(self, planes: int, start: int = 0) -> Recording:
        """Planes of the built-in fan, or the crop of them."""
        from spikerecon.recording import parse_size
        from spikerecon.simulate import film

        given = (self.layout != "auto", self.flip is not None, self.start != "0", self.end is not None)
        for name, unfit in zip(("--layout", "--flip", "--start", "--end"), given, strict=True):
            if unfit:
                raise UsageError(f"{name} is for recordings, not for the built-in fan")
        width, height = parse_size(self.size) if self.size else (400, 250)
        return self.cropped(film("fan", planes=planes, start=start, width=width, height=height))

    def cropped(self, recording: Recording) -> Recording:
        from spikerecon.recording import cropped, parse_crop

        return cropped(recording, parse_crop(self.crop)) if self.crop is not None else recording

    def pattern(self, bayer: str | None) -> str | None:
        """The Bayer pattern of the crop, given that of the whole picture."""
        from spikerecon.colour import shifted
        from spikerecon.recording import parse_crop

        if bayer is None or self.crop is None:
            return bayer
        left, top, _, _ = parse_crop(self.crop)
        return shifted(bayer, left, top)

    def moment(self, text: str) -> int:
        """The plane that a text names, by its number or a time."""
        from spikerecon.windows import parse_moment

        self._check_rate()
        return parse_moment(text, self.rate)

    def span(self) -> tuple[int, int | None]:
        """First plane and the plane after the last one (None: to the end of the recording)."""
        return self.moment(self.start), None if self.end is None else self.moment(self.end)

    def check_ended(self, recording: Recording) -> None:
        """Warn of a recording, read to its end, that turned out to end before --end: a stream."""
        _, end = self.span()
        if end is not None and recording.planes is not None and recording.planes < end:
            recording.note(f"ended at plane {recording.planes}, before --end {end}")

    def _check_rate(self) -> None:
        if not 0 < self.rate < math.inf:
            raise UsageError(f"rate {self.rate:g} is not a number of planes a second")


input_options = _packed(
    "source",
    InputOptions,
    click.option(
        "--layout",
        type=click.Choice(LAYOUT_NAMES),
        default="auto",
        show_default=True,
        help="How planes are stored.",
    ),
    click.option("--size", metavar="WIDTHxHEIGHT", help="Pixels; needed where the file does not tell."),
    click.option("--flip/--no-flip", default=None, help="Turn pictures upside down. [default: what the layout says]"),
    click.option("--rate", type=float, default=40000, show_default=True, help="The camera's planes a second."),
    click.option("--start", default="0", help="First plane to use, or a time: 1200, 30ms, 0.03s."),
    click.option("--end", help="Plane (or time) to stop before. [default: the end]"),
    click.option("--crop", metavar="X,Y,W,H", help="Only W x H pixels, from column X and row Y on."),
)


mend_options = _packed(
    "mending",
    MendOptions,
    click.option(
        "--mend/--no-mend",
        default=None,
        help="Look for dead and stuck pixels, and let them fire as their neighbours do. [default: yes; not in streams, "
        "nor with --follow]",
    ),
    click.option("--flat", metavar="FILE", help="Find them in this recording of something evenly lit."),
)


@dataclass(frozen=True)
class MethodOptions:
    """What turns spikes into pictures, and on what."""

    method: str | None
    window: int | None
    weights: str | None
    device: str
    precision: str
    batch_size: str
    tile: str
    bin: str

    def reconstructor(
        self, recording: Recording | None = None, start: int = 0, end: int | None = None, bayer: str | None = None
    ) -> Reconstructor:
        """The engine; an automatic --bin is measured on planes `start` to `end` of a recording."""
        (engine,) = self._reconstructors([self.method or "stir"], recording, start, end, bayer)
        return engine

    def reconstructors(
        self,
        compare: str | None,
        recording: Recording,
        start: int = 0,
        end: int | None = None,
        bayer: str | None = None,
    ) -> list[Reconstructor]:
        """The engine, or one for each of the methods to compare; see `reconstructor`."""
        if compare is None:
            return [self.reconstructor(recording, start, end, bayer)]
        if self.method is not None:
            raise UsageError("--compare and --method exclude each other: name all methods in --compare")
        names = [name.strip() for name in compare.split(",")]
        if len(names) < 2:
            raise UsageError(f"--compare {compare} names one method: give two or more, such as tfp,stir")
        recording.check_whole("--compare takes a file")
        return self._reconstructors(names, recording, start, end, bayer)

    def _reconstructors(
        self, names: list[str], recording: Recording | None, start: int, end: int | None, bayer: str | None
    ) -> list[Reconstructor]:
        from spikerecon.checkpoint import DEFAULT
        from spikerecon.engine import Reconstructor
        from spikerecon.methods import WINDOWED, make_method, window_around
        from spikerecon.recording import MIN_PLANES, auto_merge

        if self.weights is not None and "stir" not in names:
            raise UsageError(
                f"--weights are those of stir: there is nothing that {', '.join(names)} would do with them"
            )
        weights = DEFAULT if self.weights is None else self.weights
        windowed = [name for name in names if name in WINDOWED] or names  # where none is, each says so
        methods = [
            make_method(name, weights=weights, window=self.window if name in windowed else None) for name in names
        ]
        if self.bin == "auto":
            if recording is None:
                raise UsageError("--bin auto is measured on one recording, where there is one only: give a number here")
            longest = max(MIN_PLANES, *(sum(window_around(method)) for method in methods))
            merge = auto_merge(recording, start, end, window=longest)
        else:
            merge = int(self.bin) if self.bin.isdecimal() else 0
        if merge < 1:
            raise UsageError(f"--bin '{self.bin}' is neither auto nor a whole number from 1 on")
        return [
            Reconstructor(
                method,
                device=self.device,
                precision=self.precision,
                batch_size=self.batch_size,
                tile=self.tile,
                merge=merge,
                bayer=bayer,
            )
            for method in methods
        ]


method_options = _packed(
    "run",
    MethodOptions,
    click.option("--method", type=click.Choice(METHODS), help="[default: stir]"),
    click.option("--window", type=int, help="Planes that tfp averages (default 20) or tfi searches (default 60)."),
    click.option("--weights", metavar="NAME|FILE", help="Weights of stir. [default: stir]"),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--precision",
        type=click.Choice(["auto", *PRECISIONS]),
        default="auto",
        show_default=True,
    ),
    click.option(
        "--batch-size", metavar="auto|N", default="auto", show_default=True, help="Pictures computed at once."
    ),
    click.option(
        "--tile",
        metavar="auto|ROWS",
        default="auto",
        show_default=True,
        help="Rows drawn at once at full size: fewer take less memory. Auto: as many as fit.",
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
        """Arguments of `pictures.to_uint`; an automatic gain is measured once, for the whole output."""
        from spikerecon.pictures import check_levels
        from spikerecon.recording import auto_gain

        if self.gain == "auto":
            gain = auto_gain(recording, start, end)
        else:
            try:
                gain = float(self.gain)
            except ValueError:
                raise UsageError(f"gain '{self.gain}' is neither auto nor a number above 0") from None
        check_levels(gain, self.gamma)
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
        help="Brightness: one factor for the whole output, never one a frame. Auto measures it at five places of what "
        "is used; of streams, and with --follow, on the first 60 planes.",
    ),
    click.option("--gamma", type=float, default=1.0, show_default=True, help="Above 1 lifts the shadows."),
    click.option("--bit-depth", type=click.Choice(["8", "16"]), default="8", show_default=True),
)


@dataclass
class Maker:
    """What makes the pictures of planes `start` to `end` of a recording: an engine, or several to compare."""

    engines: list[Reconstructor]
    picture: PictureOptions
    recording: Recording
    start: int
    end: int | None
    notes: tuple[str, ...]

    @functools.cached_property
    def levels(self) -> dict[str, Any]:
        """What to draw with; see `PictureOptions.levels`."""
        return self.picture.levels(self.recording, self.start, self.end)

    @property
    def widest(self) -> Reconstructor:
        """The engine with the longest windows: what they fit into, the others' do."""
        return max(self.engines, key=lambda engine: sum(engine.kept))

    @property
    def around(self) -> tuple[int, int]:
        """Planes before a centre, and from it on, that there must be."""
        return max(engine.before for engine in self.engines), max(engine.after for engine in self.engines)

    @property
    def about(self) -> str:
        """What to say of it: a line for each engine, and one for each note."""
        about = "\n".join(engine.about for engine in self.engines) + f", gain {self.levels['gain']:.4g}"
        return "\n".join([about, *(f"note: {note}" for note in self.notes)])

    def frames(self, recording: Recording, centers: Sequence[int]) -> Generator[Frame]:
        """Pictures at centres, those of several engines side by side."""
        from spikerecon.comparison import side_by_side

        return side_by_side(self.engines, recording, centers, start=self.start, white=1 / self.levels["gain"])


@dataclass(frozen=True)
class Reconstruction:
    """All that turns a recording into pictures."""

    source: InputOptions
    mending: MendOptions
    run: MethodOptions
    compare: str | None
    picture: PictureOptions

    @contextmanager
    def opened(
        self, path: str, *, follow: float | None = None, quiet: bool = False
    ) -> Iterator[tuple[Recording, Maker]]:
        """A recording, and what makes its pictures."""
        bayer = self.picture.bayer
        with self.source.open(path, follow=follow, mending=self.mending, bayer=bayer, quiet=quiet) as recording:
            yield recording, self.maker(recording, *self.source.span())

    def maker(self, recording: Recording, start: int = 0, end: int | None = None) -> Maker:
        engines = self.run.reconstructors(self.compare, recording, start, end, self.source.pattern(self.picture.bayer))
        notes = []
        if recording.planes is None:  # it is read once only
            if self.mending.mend is None and self.mending.flat is None:
                notes.append("flawed pixels are left as they are: give --flat to have them mended")
            if self.picture.gain == "auto":
                notes.append("the gain is that of the first 60 planes used: give --gain for another")
        return Maker(engines, self.picture, recording, start, end, tuple(notes))


def reconstruction_options(function: F) -> F:
    """Adds all options of `Reconstruction`, and hands them on as one, called `what`."""
    compare = click.option(
        "--compare", metavar="NAME,NAME...", help="Methods side by side, instead of --method: tfp,tfi,tfstp,stir."
    )
    sets: tuple[Any, ...] = (input_options, mend_options, method_options, compare, picture_options)
    return _packed("what", Reconstruction, *sets)(function)


step_option = click.option("--step", type=int, default=20, show_default=True, help="Planes between output frames.")
overwrite_option = click.option("-y", "--overwrite", is_flag=True, help="Replace what is there.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
json_file_option = click.option(
    "--json", "json_file", metavar="FILE", help="Also write the results as JSON; - for stdout."
)
