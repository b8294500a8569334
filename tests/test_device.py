"""Devices and precisions: what is there, and names that are none."""

import threading

import pytest
import torch

from spikerecon import device
from spikerecon.device import Crew, pick_device, pick_precision
from spikerecon.errors import DeviceError, UsageError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("has", "picked"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_is_for_processors_that_have_it(monkeypatch, has, picked):
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: has)
    assert pick_precision("auto", CPU) == picked
    assert pick_precision("float16", CPU) == "float16"


def test_devices_and_precisions_that_are_not_there_are_refused():
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="device 'cuda' is not there"):
            pick_device("cuda")
    with pytest.raises(DeviceError, match="cuda:99"):
        pick_device("cuda:99")
    for name in ("gpu", "meta"):
        with pytest.raises(UsageError, match="unknown device"):
            pick_device(name)
    with pytest.raises(UsageError, match="unknown precision"):
        pick_precision("int4", CPU)


def test_a_crew_shares_the_cores(threads):
    threads(4)
    crew = Crew(2)
    assert crew.map(lambda item: (item, torch.get_num_threads()), "abc") == [("a", 2), ("b", 2), ("c", 2)]
    later = []
    for thread in (threading.Thread(target=lambda: later.append(torch.get_num_threads())) for _ in range(2)):
        thread.start()
        thread.join()
    assert torch.get_num_threads() == 4
    assert later == [4, 4]
    crew.close()


def test_errors_of_a_crew_come_up_when_all_has_ended():
    crew, done = Crew(2), []

    def work(item):
        if item == 1:
            raise ValueError("one")
        done.append(item)

    with pytest.raises(ValueError, match="one"):
        crew.map(work, [0, 1, 2, 3, 4])
    assert sorted(done) == [0, 2, 3, 4]
    crew.close()
