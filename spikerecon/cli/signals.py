"""Signals that end a program: Ctrl-C, a scheduler's, and that of a terminal that closes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDING = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@contextmanager
def ending_goes_to(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Signals of ENDING go to a handler, but for those that are ignored, as nohup sets it."""
    if threading.current_thread() is not threading.main_thread():  # signals are not for other threads to catch
        yield
        return
    handlers = {number: signal.getsignal(number) for number in ENDING}
    before = {number: earlier for number, earlier in handlers.items() if earlier != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
