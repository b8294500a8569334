"""Devices and precisions: what is there, and names that are none."""

import pytest
import torch

from spikerecon import device
from spikerecon.device import pick_device, pick_precision
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
