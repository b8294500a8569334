"""ffmpeg, which encodes and decodes: as a process that is always ended, and whose complaint is always told."""

import re
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import numpy as np

from spikerecon.errors import OutputError


class Ffmpeg:
    """A running ffmpeg, ended with the `with` statement at the latest.

    Each argument is some options, separated by spaces, or the path of a file. What it complains about goes to a file,
    so that it never waits for a reader. Raises OutputError where there is no ffmpeg.
    """

    stdin: IO[bytes]
    stdout: IO[bytes]

    def __init__(self, *arguments: str | Path, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL):
        words = [ffmpeg_executable(), "-hide_banner", "-loglevel", "error", "-nostdin"]
        for argument in arguments:
            # Without `file:` a name with a colon would be taken for a protocol.
            words += [f"file:{argument}"] if isinstance(argument, Path) else argument.split()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by kill
        self._process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=stdout,
            stderr=self._errors,
            # Ctrl-C is for us, we decide what becomes of the file: a session of its own, or what Windows has for it.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        if self._process.stdin:
            self.stdin = self._process.stdin
        if self._process.stdout:
            self.stdout = self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def end(self) -> str | None:
        """Close its input and wait. None if it ended well, else why not: its first line, the cause of others."""
        with suppress(OSError):  # it may have stopped reading
            if self._process.stdin:
                self._process.stdin.close()
        status = self._process.wait()
        if status == 0:
            return None
        if status < 0:
            return f"ffmpeg was ended by {signal.Signals(-status).name}"
        return f"ffmpeg: {self.complaint() or f'exit status {status}'}"

    def complaint(self) -> str:
        """The first line of what it said of errors, if any."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return re.sub(r"^(\[[^\]]* @ [^\]]*\] )+", "", lines[0]) if lines else ""

    def kill(self) -> None:
        """End it, if it still runs, and free everything."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(OSError):
                if stream:
                    stream.close()


def ffmpeg_executable() -> str:
    """Where ffmpeg is. Raises OutputError where it is not."""
    try:
        import imageio_ffmpeg  # only videos need it: training and single pictures go without

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise OutputError("there is no ffmpeg here; install imageio-ffmpeg again") from None


def pixel_format(bit_depth: int, colour: bool) -> str:
    """ffmpeg's name for the pixels as they are handed over."""
    if colour:
        return "rgb24" if bit_depth == 8 else "rgb48le"
    return "gray" if bit_depth == 8 else "gray16le"


def raw_pictures(size: tuple[int, int], bit_depth: int, colour: bool) -> str:
    """What ffmpeg has to know of pictures of `size` (width, height) as `raw` hands them over."""
    return f"-f rawvideo -pix_fmt {pixel_format(bit_depth, colour)} -video_size {size[0]}x{size[1]}"


def raw(image: np.ndarray) -> memoryview:
    """A uint8 or uint16 picture as ffmpeg takes it."""
    return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).data
