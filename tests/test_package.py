"""The package as a whole: what imports what and when, and the wheel."""

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SMALL

import spikerecon

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "spikerecon"

# What may import what. A package stands for all modules in it; __init__ and __main__ are the door, not the house.
RECORDINGS = {"errors", "recording", "windows"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "names": set(),
    "pipeline": set(),
    "device": {"errors", "names"},
    "winograd": set(),
    "prelu": set(),
    "classical": set(),
    "warp": set(),
    "motion": {"warp"},
    "follow": {"classical", "motion", "warp"},
    "network": {"follow", "prelu", "warp"},
    "files": {"errors"},
    "windows": {"errors"},
    "colour": {"errors", "names"},
    "recording": {"errors", "files", "names", "recording", "windows"},
    "metrics": {"errors", "names"},
    "plot": {"errors", "files", "recording"},
    "checkpoint": {"errors", "files", "network"},
    "methods": {"errors", "checkpoint", "classical", "names", "network"},
    "planes": set(),
    "engine": {*RECORDINGS, "checkpoint", "colour", "device", "methods", "network", "pipeline", "planes", "winograd"},
    "ffmpeg": {"errors"},
    "pictures": {"errors", "ffmpeg", "files"},
    "video": {"errors", "ffmpeg", "files", "names", "pictures", "pipeline"},
    "scenes": {"errors"},
    "simulate": {"errors", "colour", "recording", "scenes"},
    "comparison": {"engine", "recording"},
    "evaluation": {*RECORDINGS, "colour", "comparison", "engine", "metrics", "pictures"},
    "benchmark": {"errors", "engine", "methods", "metrics", "planes", "recording", "video"},
    "training": {
        "errors",
        "checkpoint",
        "device",
        "files",
        "follow",
        "network",
        "pictures",
        "plot",
        "training",
        "winograd",
    },
}
EVERYTHING = {*ALLOWED, "cli"}
NO_TORCH = [
    "errors",
    "names",
    "files",
    "windows",
    "recording",
    "ffmpeg",
    "pictures",
    "video",
    "scenes",
    "simulate",
    "metrics",
    "pipeline",
    "plot",
    "colour",
    "cli",
]

MODULES = {str(path.relative_to(PACKAGE).with_suffix("")).replace(os.sep, "."): path for path in PACKAGE.rglob("*.py")}


def imports(path: Path, *, top: bool = False) -> Iterator[str]:
    """Full names of all that a module imports anywhere in it; with `top`, only when it is imported itself."""
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        )
        if not (top and later):
            nodes += ast.iter_child_nodes(node)


def part(module: str) -> str:
    return module.split(".")[0]


def test_every_module_has_its_place():
    assert {part(module) for module in MODULES} == {*EVERYTHING, "__init__", "__main__"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__", "__main__"}))
def test_imports_point_one_way(module: str):
    own = [name.split(".")[1:] for name in imports(MODULES[module]) if name.startswith("spikerecon.")]
    wanted = {words[0] for words in own} - {"__version__"}
    assert wanted <= (EVERYTHING if part(module) == "cli" else ALLOWED[part(module)])


def test_the_arrows_make_no_circle():
    left = {name: wanted - {name} for name, wanted in ALLOWED.items()}
    while left:
        free = [name for name, wanted in left.items() if not wanted & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("module", sorted(module for module in MODULES if part(module) in NO_TORCH))
def test_torch_comes_late(module: str):
    assert not [name for name in imports(MODULES[module], top=True) if part(name) in ("torch", "safetensors")]


@pytest.mark.parametrize("module", sorted(module for module in MODULES if part(module) != "cli"))
def test_only_the_command_line_prints_and_exits(module: str):
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "exit", "quit", "sys.exit", "os._exit", "click.echo")
    assert not [name for name in imports(MODULES[module]) if part(name) in ("click", "rich", "logging")]


def imported_by(*words: object) -> set[str]:
    """All modules that Python imports to run this."""
    command = [sys.executable, "-X", "importtime", *map(str, words)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.split("|") for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {fields[-1].strip() for fields in lines}


def test_importing_the_package_imports_nothing_heavy():
    found = imported_by("-c", "import spikerecon; dir(spikerecon)")
    assert "spikerecon" in found
    assert not found & {"torch", "numpy", "PIL", "click"}


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("convert", "--help"), ("weights", "import", "-h")])
def test_help_imports_nothing_heavy(words: tuple[str, ...]):
    found = imported_by("-m", "spikerecon", *words)
    assert "spikerecon.cli.convert" in found
    assert not found & {"torch", "numpy", "PIL"}


def test_info_does_not_import_torch(small_file: Path):
    found = imported_by("-m", "spikerecon", "info", small_file, *SMALL)
    assert "spikerecon.recording" in found
    assert "torch" not in found


def test_the_names_of_the_package():
    for name in spikerecon.__all__:
        assert getattr(spikerecon, name).__name__ == name
    assert set(spikerecon.__all__) <= set(dir(spikerecon))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        spikerecon.nothing  # noqa: B018


NO_NETWORK = """
import socket

def refuse(*arguments):
    raise OSError("no network here")

socket.socket.connect = socket.getaddrinfo = refuse
"""


def test_the_wheel_works_on_its_own(tmp_path: Path, small_file: Path):
    pytest.importorskip("hatchling", reason="needs what builds the wheel")

    def run(*words: object, **options: str) -> str:
        environment = {**os.environ, **options}
        command = [sys.executable, *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    pip = ("-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", ROOT, "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path / "built")
    (wheel,) = (tmp_path / "built").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"spikerecon/weights/stir.safetensors", "spikerecon/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "examples", "weights"))]

    installed = tmp_path / "installed"
    run(*pip, "install", wheel, "--no-deps", "--no-index", "--target", installed)
    (installed / "sitecustomize.py").write_text(NO_NETWORK)
    found = run("-c", "import spikerecon; print(spikerecon.__file__)", PYTHONPATH=str(installed))
    assert Path(found.strip()).parent == installed / "spikerecon"
    words = ("-m", "spikerecon", "convert", small_file, *SMALL, "-o", "small.mp4", "--end", "60", "-q", "--json")
    told = run(*words, PYTHONPATH=str(installed))
    assert '"weights": "weights stir (' in told
    assert (tmp_path / "small.mp4").stat().st_size
