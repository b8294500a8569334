"""The benchmark's figures hang together; how large they are is not for tests."""

import pytest
import torch
from conftest import needs_colour

from spikerecon import benchmark
from spikerecon.engine import Reconstructor
from spikerecon.errors import UsageError
from spikerecon.methods import Stir
from spikerecon.network import STIR
from spikerecon.simulate import film


@pytest.fixture(scope="module")
def fan():
    return film("fan", planes=160, width=64, height=48)


def test_figures_of_the_network(fan):
    torch.manual_seed(0)  # by chance pictures of new weights are all but black, and a rounding is much of that
    engine = Reconstructor(Stir(STIR()), device="cpu", precision="float32", batch_size=1)
    measured = benchmark.run(engine, fan, frames=3, step=20, planes_per_second=20000, compare=True)
    assert (measured.frames, measured.precision, measured.batch_size) == (3, "float32", 1)
    assert measured.parameters == 5_107_850
    assert measured.frames_per_second == pytest.approx(1000 / measured.ms_per_frame)
    assert measured.realtime_factor == pytest.approx(measured.frames_per_second * 20 / 20000)
    assert set(measured.stages) == {"read", "unpack", "encode", "decode", "to host", "write"}
    assert sum(measured.stages.values()) == pytest.approx(1)
    reference = measured.compare["reference"]
    assert reference["max_difference"] < 1e-4
    assert reference["ratio"] == pytest.approx(reference["ms_per_frame"] / measured.ms_per_frame)


def test_the_network_takes_90_7_gflop_at_256x400():
    engine = Reconstructor(Stir(STIR()), device="cpu", precision="float32")
    small = film("fan", planes=60, width=100, height=64)  # padded to 112 x 64
    flop = benchmark._gflop(engine, small) / (112 * 64) * (256 * 400)
    assert flop == pytest.approx(90.7, rel=0.01)


def test_classical_methods_are_measured_too(fan):
    measured = benchmark.run(Reconstructor("tfp", device="cpu"), fan, frames=2, step=10, planes_per_second=40000)
    assert measured.parameters == 0
    assert measured.gflop_per_frame == 0
    assert (measured.weights, measured.bin) == ("mean of 20 planes", 1)
    assert not measured.compare


@needs_colour
def test_what_there_is_no_plain_way_for_is_not_compared(fan):
    for engine in (Reconstructor("tfstp", device="cpu"), Reconstructor("tfp", device="cpu", bayer="rggb")):
        with pytest.raises(UsageError, match="compare it with"):
            benchmark.run(engine, fan, frames=2, step=10, planes_per_second=40000, compare=True)


def test_a_recording_that_is_too_short_is_refused(fan):
    with pytest.raises(UsageError, match="too few to time"):
        benchmark.run(Reconstructor("tfp", device="cpu"), fan, frames=2, step=100, planes_per_second=40000)
