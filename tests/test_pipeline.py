"""Running ahead in a thread, writing behind in one, and working in several: order, errors, how far, and the end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from spikerecon.pipeline import RunAhead, WriteBehind, in_threads


class Counter:
    """Counts from 0 in a generator, and remembers how far it came and in which thread it ended."""

    def __init__(self, stop: int = 10**9) -> None:
        self.made = 0
        self.ended_in: threading.Thread | None = None
        self._stop = stop

    def numbers(self) -> Iterator[int]:
        try:
            for number in range(self._stop):
                self.made += 1
                yield number
        finally:
            self.ended_in = threading.current_thread()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_items_come_in_order_and_then_no_more():
    ahead = RunAhead(range(100), 3)
    assert list(ahead) == list(range(100))
    assert next(ahead, None) is None


def test_nothing_comes_of_nothing():
    assert list(RunAhead([], 1)) == []


def test_items_are_made_in_another_thread():
    counter = Counter(5)
    assert list(RunAhead(counter.numbers(), 2)) == [0, 1, 2, 3, 4]
    assert counter.ended_in not in (None, threading.current_thread())


def test_it_runs_ahead_no_further_than_its_depth():
    counter = Counter()
    ahead = RunAhead(counter.numbers(), 3)
    wait_for(lambda: counter.made == 4)  # three wait to be taken, one more in the hand
    time.sleep(0.3)  # longer than the thread waits before it tries again
    assert counter.made == 4
    assert next(ahead) == 0
    wait_for(lambda: counter.made == 5)
    ahead.close()


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_comes_up_after_the_items_before_it(error: BaseException):
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    ahead = RunAhead(failing(), 5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        next(ahead)
    assert caught.value is error
    assert next(ahead, None) is None


def test_close_ends_a_generator_with_its_finally_in_its_own_thread():
    counter = Counter()
    ahead = RunAhead(counter.numbers(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert counter.ended_in not in (None, threading.current_thread())
    made = counter.made
    assert next(ahead, None) is None
    time.sleep(0.2)
    assert counter.made == made


def test_close_can_come_twice_and_after_the_end():
    ahead = RunAhead([1], 1)
    assert list(ahead) == [1]
    ahead.close()
    ahead.close()


def test_closing_one_that_is_full_does_not_wait_for_a_taker():
    counter = Counter()
    ahead = RunAhead(counter.numbers(), 1)
    wait_for(lambda: counter.made == 2)
    ahead.close()
    assert counter.ended_in is not None


def test_one_inside_another_closes_both():
    counter = Counter()

    def outer() -> Iterator[int]:
        inner = RunAhead(counter.numbers(), 2)
        try:
            yield from inner
        finally:
            inner.close()

    ahead = RunAhead(outer(), 2)
    assert next(ahead) == 0
    ahead.close()
    wait_for(lambda: counter.ended_in is not None)


def test_close_does_not_wait_for_ever_for_a_stuck_reader(monkeypatch: pytest.MonkeyPatch):
    go_on, waited = threading.Event(), []

    def stuck() -> Iterator[int]:
        yield 0
        go_on.wait()

    ahead = RunAhead(stuck(), 2)
    assert next(ahead) == 0
    thread = ahead._thread
    join = thread.join
    monkeypatch.setattr(thread, "join", lambda timeout=None: (waited.append(timeout), join(0.05)))
    ahead.close()
    assert thread.is_alive()
    assert thread.daemon  # so that the program can end all the same
    assert len(waited) == 1
    assert waited[0] is not None
    go_on.set()
    join(10)
    assert not thread.is_alive()


def test_work_is_done_in_threads_and_comes_in_order():
    both = threading.Barrier(2)

    def work(item: int) -> int:
        both.wait(10)  # none is done unless two are being done
        time.sleep(0.01 * (item % 2 == 0))
        return 2 * item

    assert list(in_threads(work, range(10), 2)) == list(range(0, 20, 2))
    assert list(in_threads(work, [], 2)) == []


def test_results_come_at_most_so_many_items_late():
    counter = Counter()

    def work(item: int) -> int:
        wait_for(lambda: counter.made == 4)
        return item

    results = in_threads(work, counter.numbers(), 3)
    assert next(results) == 0
    assert counter.made == 4
    results.close()
    assert counter.ended_in is threading.current_thread()


def test_results_that_are_there_do_not_wait_for_more_items():
    done: list[int] = []

    def calm() -> Iterator[int]:
        for number in range(3):
            yield number
            wait_for(lambda: len(done) == len(taken) + 1)
            time.sleep(0.05)
            taken.append(number)

    taken: list[int] = []
    for number in in_threads(lambda item: done.append(item) or item, calm(), 3):
        assert len(taken) <= number + 1


def test_errors_of_items_and_work_come_up_after_the_results_before_them():
    def failing() -> Iterator[int]:
        yield 4
        yield 2
        raise OSError("gone")

    results = in_threads(lambda item: 8 // item, failing(), 4)
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(OSError, match="gone"):
        next(results)
    results = in_threads(lambda item: 8 // item, [4, 0, 2], 4)
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results, None) is None


def test_writing_behind_does_everything_in_order():
    done: list[int] = []
    with WriteBehind(done.append, 2) as behind:
        for item in range(50):
            behind.put(item)
    assert done == list(range(50))


@pytest.mark.parametrize("items", [1, 50])
def test_an_error_of_the_work_comes_up(items: int):
    def fail(item: int) -> None:
        raise ValueError(f"no room for {item}")

    def put_all() -> None:
        with WriteBehind(fail, 2) as behind:
            for item in range(items):
                behind.put(item)

    with pytest.raises(ValueError, match="no room for 0"):
        put_all()


def test_what_waits_is_dropped_where_the_body_raises():
    done: list[int] = []
    going_on = threading.Event()

    def work(item: int) -> None:
        going_on.wait(5)
        done.append(item)

    def be_interrupted() -> None:
        with WriteBehind(work, 4) as behind:
            for item in range(4):
                behind.put(item)
            threading.Timer(0.2, going_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    assert done == [0]


def test_an_interrupt_while_it_waits_at_the_end_stops_the_work():
    done: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.1)
        done.append(item)

    def put_all() -> None:
        with WriteBehind(work, 40) as behind:
            for item in range(40):
                behind.put(item)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        put_all()
    finished = len(done)
    assert finished < 39
    time.sleep(0.4)
    assert len(done) == finished
