"""Recordings and pictures that several test files use, and the command line as a function."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, settings
from numpy.typing import ArrayLike

from spikerecon.cli import main
from spikerecon.recording import unpack, write_recording
from spikerecon.scenes import make_scene
from spikerecon.simulate import simulate

# A run in the background of a script ignores Ctrl-C, and the programs that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: small pictures gain nothing from more, beside other work

SMALL = ("--size", "64x48")
"""What commands need to know of `small_file`."""

Command = Callable[..., Result]

needs_cuda = pytest.mark.skipif("not torch.cuda.is_available()", reason="there is no CUDA device")
"""For tests in a file that imports torch."""

needs_colour = pytest.mark.skipif(find_spec("colour_demosaicing") is None, reason="there is no colour-demosaicing")


def examples(most: int) -> settings:
    """What property tests that work on files run with: so many examples, the same in every run."""
    return settings(
        max_examples=most,
        phases=[Phase.explicit, Phase.generate],
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def write_scene(path: Path, name: str, width: int, height: int, planes: int) -> Path:
    write_recording(path, simulate(make_scene(name, width, height), planes=planes), width)
    return path


class Still:
    """A scene that does not change: (height, width), or (height, width, 3) in colour."""

    def __init__(self, picture: ArrayLike):
        self.picture = np.asarray(picture, np.float32)
        self.height, self.width = self.picture.shape[:2]

    def light(self, t: float) -> np.ndarray:
        return self.picture


def spikes(scene, **options):
    """All spikes of a simulation: uint8 (planes, height, width)."""
    return np.concatenate([unpack(rows, scene.width) for rows in simulate(scene, **options)])


@pytest.fixture(scope="session")
def fan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 planes of the fan, 400x250: its layout and size are found out without options."""
    return write_scene(tmp_path_factory.mktemp("recordings") / "fan.dat", "fan", 400, 250, 100)


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 planes of a pan, 64x48: small enough for the network. Three windows at the usual step."""
    return write_scene(tmp_path_factory.mktemp("recordings") / "small.dat", "pan", 64, 48, 100)


@pytest.fixture
def spikerecon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line in an empty folder; errors other than an exit come up."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, input: bytes | None = None, status: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], input=input, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result

    return run


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, by name: files with what is in them."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@pytest.fixture
def shapes_only(monkeypatch) -> Iterator[str]:
    """The meta device: its tensors have shapes only, and refuse the CPU's as a GPU's do. What it lacks is stood in."""
    import torch
    import torch._dynamo  # would be loaded late, among the stand-ins

    monkeypatch.setattr(torch, "Generator", lambda device: SimpleNamespace(manual_seed=lambda seed: None))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.Tensor, "item", lambda self: 0.1)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: [0.1] * len(self))
    with torch.fx.experimental._config.patch(meta_nonzero_assume_all_nonzero=True):
        yield "meta"


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch works in; afterwards they are as many as before."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def moving_ramp(size: tuple[int, int], count: int, bit_depth: int = 8) -> list[np.ndarray]:
    """Pictures of `size` (width, height) that hold every grey level and differ from one another."""
    width, height = size
    ramp = np.add.outer(np.arange(height) * 5, np.arange(width))
    if bit_depth == 16:
        return [((ramp * 131 + 1000 * i) % 65536).astype(np.uint16) for i in range(count)]
    return [((ramp + 3 * i) % 256).astype(np.uint8) for i in range(count)]


def colourful(size: tuple[int, int], count: int, bit_depth: int = 8) -> list[np.ndarray]:
    """Pictures (height, width, 3) with three different ramps."""
    ramps = moving_ramp(size, count, bit_depth)
    return [np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1) for ramp in ramps]


def png_bit_depth(path: Path) -> int:
    """From the file itself: what type 16 bits come back as differs between versions of pillow."""
    return path.read_bytes()[24]


def ffmpeg_children() -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:  # that process has just ended
            continue
        if name.startswith("ffmpeg") and int(rest.split()[1]) == os.getpid():
            found.append(int(stat.parent.name))
    return found


@pytest.fixture
def nothing_left_over(tmp_path: Path) -> Iterator[None]:
    """After every test: no ffmpeg of ours, not even a dead one, and no temporary file."""
    yield
    if sys.platform == "linux":
        assert ffmpeg_children() == []
    assert [str(path) for path in tmp_path.rglob(".spikerecon-*")] == []
