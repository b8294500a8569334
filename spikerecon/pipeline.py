"""Work in threads: ahead of whoever takes its results, or behind whoever hands it over."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_END: Any = object()
PATIENCE = 1.0  # seconds, with a thread that is to stop: it may be stuck where bytes no longer come


class RunAhead(Iterator[T]):
    """Runs an iterable in a thread, at most `depth` items ahead of the taking side.

    Errors come up where the items are taken. `close` stops the thread and waits for it; use it in `finally` where the
    items may not all be taken.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(iter(items),), daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        if self._stop.is_set():
            raise StopIteration
        item = self._queue.get()
        if item is _END:
            self.close()
            if self._error is not None:
                raise self._error
            raise StopIteration
        return item

    def close(self) -> None:
        """Stop running ahead; items not yet taken are gone. A thread stuck in reading is not waited for long."""
        self._stop.set()
        self._thread.join(timeout=PATIENCE)

    def _work(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as error:  # whatever it is, the taking side has to know
            self._error = error
        finally:
            if hasattr(items, "close"):  # a generator: its own `finally` must run in this thread
                items.close()
            self._put(_END)

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """What `work` makes of each item, in order: it is done in so many threads, the items are taken in the calling one.

    A result that is there is handed over with the next item, at most `threads` items late. Errors of the items and of
    the work come up after the results before them.
    """
    waiting: deque[Future[R]] = deque()
    remaining, end = iter(items), None
    with ThreadPoolExecutor(threads) as pool:
        while end is None:
            try:
                waiting.append(pool.submit(work, next(remaining)))
            except Exception as error:  # StopIteration, too
                end = error
            while waiting and (end or len(waiting) > threads or waiting[0].done()):
                yield waiting.popleft().result()
    if not isinstance(end, StopIteration):
        raise end


class WriteBehind(Generic[T]):
    """Hands items to a thread that does `work` with each, at most `depth` items behind. Use it in a `with` statement.

    What is put is worked on before the `with` ends; where its body raises, what is still waiting is dropped. Errors of
    the work come up where items are put, or at the end.
    """

    def __init__(self, work: Callable[[T], None], depth: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop, self._done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def put(self, item: T) -> None:
        """Wait for room, and hand it over. Raises what the work has raised."""
        while self._error is None:
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise self._error

    def __enter__(self) -> WriteBehind[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._drop()
            return
        try:
            self.put(_END)
            self._done.wait()  # a thread's `join`, once interrupted, would not wait again
        except BaseException:
            self._drop()
            raise
        if self._error is not None:
            raise self._error

    def _drop(self) -> None:
        self._stop.set()
        with suppress(queue.Full):
            self._queue.put_nowait(_END)
        self._done.wait(timeout=10)

    def _run(self, work: Callable[[T], None]) -> None:
        try:
            while not self._stop.is_set() and (item := self._queue.get()) is not _END:
                work(item)
        except BaseException as error:  # whatever it is, the putting side has to know
            self._error = error
        finally:
            self._done.set()
