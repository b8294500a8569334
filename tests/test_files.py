"""Files that are whole or not there."""

import os
from pathlib import Path

import pytest
from conftest import contents

from spikerecon.errors import OutputError
from spikerecon.files import appearing, check_free


def test_a_file_appears_at_the_end_and_replaces_the_older_one(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("older")
    with appearing(target) as unfinished:
        unfinished.write_text("whole")
        assert unfinished.parent == tmp_path
        assert target.read_text() == "older"
    assert contents(tmp_path) == {"a.txt": b"whole"}


def test_what_came_in_the_meantime_stays(tmp_path: Path):
    target = tmp_path / "a.txt"

    def write() -> None:
        with appearing(target, overwrite=False) as unfinished:
            unfinished.write_text("late")
            target.write_text("mine")

    with pytest.raises(OutputError, match=r"a\.txt: exists already"):
        write()
    assert contents(tmp_path) == {"a.txt": b"mine"}


def test_a_folder_appears_at_the_end(tmp_path: Path):
    with appearing(tmp_path / "a") as unfinished:
        unfinished.mkdir()
        (unfinished / "b").touch()
    assert contents(tmp_path) == {"a": None, "a/b": b""}


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), OSError(28, "No space left on device")])
def test_nothing_is_left_of_what_fails(tmp_path: Path, error: BaseException, folder: bool):
    expected = OutputError if isinstance(error, OSError) else type(error)

    def fail() -> None:
        with appearing(tmp_path / "a.txt") as unfinished:
            if folder:
                unfinished.mkdir()
                (unfinished / "b").touch()
            else:
                unfinished.write_text("half")
            raise error

    with pytest.raises(expected) as raised:
        fail()
    if expected is OutputError:
        assert str(raised.value) == f"{tmp_path / 'a.txt'}: cannot be written: No space left on device"
    assert contents(tmp_path) == {}


def test_what_is_there_is_replaced_when_asked_to(tmp_path: Path):
    (tmp_path / "a.txt").touch()
    check_free(tmp_path / "b.txt")
    check_free(tmp_path / "a.txt", overwrite=True)
    with pytest.raises(OutputError, match=r"a\.txt: exists already; give -y"):
        check_free(tmp_path / "a.txt")


def test_a_link_that_leads_nowhere_is_there(tmp_path: Path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match=r"a\.txt: exists already; give -y"):
        check_free(tmp_path / "a.txt")


def test_a_device_or_a_pipe_is_never_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OutputError, match="is no file"):
            check_free(path, overwrite=True)
