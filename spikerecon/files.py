"""Files that appear under their name when they are whole, and replace nothing unasked."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spikerecon.errors import OutputError


def check_free(path: Path, overwrite: bool = False) -> None:
    """Raises OutputError where something of that name is there already and is not to be replaced, or cannot be."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OutputError(f"{path}: is no file, but a device or a pipe; give another name")
    if os.path.lexists(path) and not overwrite:  # a link that leads nowhere is there, too
        raise OutputError(f"{path}: exists already; give -y to replace it")


def check_folder(folder: Path) -> None:
    """Raises OutputError where `folder` is none, or one that cannot be written in."""
    if not folder.exists():
        raise OutputError(f"{folder}: this folder does not exist; make it first")
    if not folder.is_dir():
        raise OutputError(f"{folder}: is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write in this folder")


def check_name(path: Path) -> None:
    """Raises OutputError for `-`, which to users is standard output."""
    if str(path) == "-":
        raise OutputError("-: this is not written to standard output; give a name")


def check_not_read(path: Path, sources: Iterable[Path]) -> None:
    """Raises OutputError where a file is one of those that are to be read."""
    if path.exists() and any(source.exists() and path.samefile(source) for source in sources):
        raise OutputError(f"{path}: is what is to be read; give another name")


def check_file(path: Path, overwrite: bool = False, *, sources: Iterable[Path] = ()) -> None:
    """Finds out before any work whether a file can be written.

    Raises OutputError where it cannot, and where it is one of the files that are to be read.
    """
    check_name(path)
    check_folder(path.parent)
    check_not_read(path, sources)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give another name")
    check_free(path, overwrite)


@contextmanager
def appearing(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """A name to write a file or folder under, which gets the name `path` at the end of the `with` statement.

    If its body raises, nothing is left. An OSError, in the body or of renaming, becomes an OutputError, which is also
    raised where, without `overwrite`, something has got that name in the meantime.
    """
    unfinished = temporary_name(path)
    try:
        with as_output_error(path):
            yield unfinished
        publish(unfinished, path, overwrite)
    except BaseException:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)
        raise


def publish(unfinished: Path, path: Path, overwrite: bool) -> None:
    """Gives what is whole its name. Raises OutputError where it cannot have it."""
    check_free(path, overwrite)  # something may have got it in the meantime
    with as_output_error(path):
        os.replace(unfinished, path)


def temporary_name(path: Path) -> Path:
    """A name beside `path`, where renaming is one step, and not longer than a file name may be."""
    return path.with_name(f".spikerecon-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turns an OSError into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
