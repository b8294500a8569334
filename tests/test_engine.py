"""The engine: the same pictures as the plain network, however it slices the work."""

import io
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import needs_cuda

from spikerecon import engine as engines
from spikerecon import recording as recordings
from spikerecon.classical import ShortTermPlasticity
from spikerecon.device import pick_precision
from spikerecon.engine import Reconstructor, _Fed, _Windowed, cpu_batch, cuda_batch, plain_frame
from spikerecon.errors import DeviceError, UsageError
from spikerecon.methods import Stir, Tfi, Tfp, Tfstp, make_method, window_around
from spikerecon.metrics import psnr
from spikerecon.network import STIR, StirConfig
from spikerecon.planes import crop, merge_planes, pad, unpack_bits
from spikerecon.recording import open_recording, pack, unpack, write_recording
from spikerecon.scenes import make_scene, truth
from spikerecon.simulate import film, simulate

GOLDEN = Path(__file__).with_name("golden.npz")
TOLERANCE = 1e-4


def filled(config: StirConfig) -> STIR:
    """A network with reproducible values that keep its motions to a few pixels."""
    network = STIR(config)
    rng = np.random.default_rng(7)
    state = {}
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = value
            continue
        spread = 1.1 / np.sqrt(max(1, value[0].numel())) if value.dim() == 4 else 0.1
        centre = 0.5 if "running_var" in key or key.endswith("bottom.predict.bias") else 0.0
        centre = 1.0 if "norm" in key and key.endswith("weight") else centre
        state[key] = torch.from_numpy(
            np.abs(rng.normal(centre, spread, value.shape))
            if "running_var" in key
            else rng.normal(centre, spread, value.shape)
        ).float()
    network.load_state_dict(state)
    return network.eval()


@pytest.fixture(scope="module")
def fan():
    """70 rows are no multiple of 16."""
    return film("fan", planes=160, width=96, height=70)


@pytest.fixture(scope="module")
def stir():
    return Stir(filled(StirConfig()))


def largest_difference(method, recording, frames):
    return max(np.abs(f.rate - plain_frame(method, recording, f.center).rate).max() for f in frames)


@pytest.mark.parametrize("step", [1, 7, 10, 20, 33, 40, 61])
def test_float32_frames_equal_the_plain_network_s(stir, fan, step):
    engine = Reconstructor(stir, device="cpu", precision="float32", batch_size=3)
    centers = engine.centers(fan, step=step)[:9]
    frames = list(engine.frames(fan, centers))
    assert [frame.center for frame in frames] == list(centers)
    assert all(frame.rate.shape == (70, 96) and frame.rate.dtype == np.float32 for frame in frames)
    assert largest_difference(stir, fan, frames) < TOLERANCE
    assert max(frame.rate.max() for frame in frames) > 0.1


@pytest.mark.parametrize("apart", [True, False], ids=["side by side", "in one, as on a GPU"])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_change_nothing(stir, fan, threads, batch_size, apart):
    threads(2)
    engine = Reconstructor(stir, device="cpu", precision="float32", batch_size=batch_size)
    engine.apart = apart
    frames = list(engine.frames(fan, [30, 50, 55, 90, 110]))
    assert [frame.center for frame in frames] == [30, 50, 55, 90, 110]
    assert largest_difference(stir, fan, frames) < TOLERANCE


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_working_ahead_of_what_is_handed_out_changes_nothing(fan, batch_size):
    """As it is done on CUDA."""
    engine = Reconstructor("tfp", device="cpu", batch_size=batch_size)
    expected = list(engine.frames(fan))
    engine.overlap = True
    frames = list(engine.frames(fan))
    assert [frame.center for frame in frames] == [frame.center for frame in expected] == list(engine.centers(fan))
    assert all(np.array_equal(a.rate, b.rate) for a, b in zip(frames, expected, strict=True))


def test_61_plane_windows_and_variants(fan):
    for config in (
        StirConfig(block_planes=21, rate_scale=0.4),
        StirConfig(levels=3, width=0.5, groups=1, embedding="explicit", attention=False),
    ):
        method = Stir(filled(config))
        engine = Reconstructor(method, device="cpu", precision="float32")
        frames = list(engine.frames(fan, engine.centers(fan)))
        assert len(frames) == (160 - config.window_planes) // 20 + 1
        assert largest_difference(method, fan, frames) < TOLERANCE


def test_a_block_is_encoded_once(stir, fan, monkeypatch):
    encoded = []
    plain = stir.network.encode
    monkeypatch.setattr(stir.network, "encode", lambda blocks: encoded.append(len(blocks)) or plain(blocks))
    engine = Reconstructor(stir, device="cpu", precision="float32", batch_size=2)
    assert len(list(engine.frames(fan, range(30, 131, 20)))) == 6
    assert sum(encoded) == 8
    encoded.clear()
    assert len(list(engine.frames(fan, range(30, 131, 10)))) == 11
    assert sum(encoded) == 15


@pytest.mark.parametrize(("pixels", "item"), [(400 * 256, 4), (1008 * 1008, 2)], ids=["400x250", "1000x1000"])
def test_memory_keeps_the_blocks_of_every_plane(stir, pixels, item, monkeypatch):
    """In float32, and in the precision of most devices; a thousandth of both the features and the memory for them."""
    with torch.inference_mode():
        values = sum(level.numel() for level in stir.encode(torch.zeros(1, 20, 32, 32))) / 32**2
    encoded = []

    class Counted:
        name, about, network, multiple = "counted", "", None, 1
        block_planes, offsets = stir.block_planes, stir.offsets

        def encode(self, blocks):
            encoded.append(len(blocks))
            return [torch.zeros(1, int(values * pixels * item / 1000), dtype=torch.uint8)]

        def decode(self, *blocks):
            return torch.zeros(1, 8, 8)

    monkeypatch.setattr(engines, "CACHE_BYTES", engines.CACHE_BYTES // 1000)
    recording = recordings.from_rows(np.zeros((160, 8, 1), np.uint8), 8)
    counting = Reconstructor(Counted(), device="cpu")
    assert len(list(counting.frames(recording, counting.centers(recording, step=1)))) == 101
    assert sum(encoded) == 141


def test_features_are_dropped_when_no_window_needs_them(stir, fan):
    run = _Windowed(Reconstructor(stir, device="cpu", precision="float32"), fan, range(30, 131, 20))
    for center in range(30, 131, 20):
        run.start([(center, fan.read(center - 30, center + 30))])
        assert len(run.features) <= 2
    assert not run.features


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("too much"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        RuntimeError("could not create a primitive"),
    ],
    ids=["torch", "cudnn", "cudnn 9", "cublas", "cublas at its start", "processor", "onednn"],
)
def test_too_little_memory_halves_the_batch_and_loses_no_frame(stir, fan, monkeypatch, error):
    plain = stir.network.decode

    def greedy(before, middle, after, rows):
        if len(middle[0]) > 2:
            raise error
        return plain(before, middle, after, rows)

    monkeypatch.setattr(stir.network, "decode", greedy)
    engine = Reconstructor(stir, device="cpu", precision="float32", batch_size=5)
    engine.apart = False
    frames = list(engine.frames(fan, range(30, 131, 10)))
    assert [frame.center for frame in frames] == list(range(30, 131, 10))
    assert largest_difference(stir, fan, frames[:6]) < TOLERANCE

    monkeypatch.setattr(stir.network, "decode", lambda *given: greedy(None, [torch.zeros(9)], None, None))
    engine = Reconstructor(stir, device="cpu", precision="float32")
    with pytest.raises(DeviceError, match=r"too little memory .* \(--crop\)"):
        list(engine.frames(fan, [30]))


def test_too_little_memory_for_pictures_side_by_side_makes_fewer(stir, fan, monkeypatch, threads):
    threads(4)
    plain, running, most = stir.network.decode, [], []

    def greedy(*blocks):
        running.append(None)
        time.sleep(0.05)  # until the others are there
        try:
            most.append(len(running))
            if len(running) > 2:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return plain(*blocks)
        finally:
            running.pop()

    monkeypatch.setattr(stir.network, "decode", greedy)
    engine = Reconstructor(stir, device="cpu", precision="float32")
    frames = list(engine.frames(fan, range(30, 131, 10)))
    assert [frame.center for frame in frames] == list(range(30, 131, 10))
    assert largest_difference(stir, fan, frames[:4]) < TOLERANCE
    assert most[0] == 4
    assert max(most[-6:]) == engine.batch_size == 2


def test_other_errors_come_up(stir, fan, monkeypatch):
    def wrong(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(stir.network, "decode", wrong)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(Reconstructor(stir, device="cpu", precision="float32", batch_size=5).frames(fan, range(30, 131, 10)))


def test_bfloat16_pictures_have_more_than_its_levels(fan):
    (frame,) = Reconstructor("stir", device="cpu", precision="bfloat16").frames(fan, [60])
    bright = frame.rate[frame.rate > 0.25]
    assert len(np.unique(bright)) > 0.5 * bright.size > 500


def test_too_little_memory_for_one_picture_draws_it_in_strips(monkeypatch):
    tall = film("fan", planes=60, width=32, height=160)
    stir, untouched = (Stir(filled(StirConfig(levels=3, width=0.5))) for _ in range(2))
    plain, tried = stir.network.decode, []

    def greedy(before, middle, after, rows):
        tried.append(rows)
        if rows is None or rows > 50:
            raise torch.OutOfMemoryError("too much")
        return plain(before, middle, after, rows)

    monkeypatch.setattr(stir.network, "decode", greedy)
    (frame,) = Reconstructor(stir, device="cpu", precision="float32").frames(tall)
    assert tried == [None, 80, 40]
    monkeypatch.undo()
    assert largest_difference(untouched, tall, [frame]) < TOLERANCE
    given = Reconstructor(stir, device="cpu", precision="float32", tile=96)
    assert given.method.rows == 96
    assert largest_difference(untouched, tall, list(given.frames(tall))) < TOLERANCE
    monkeypatch.setattr(stir.network, "decode", greedy)
    given = Reconstructor(stir, device="cpu", precision="float32", tile=96)
    with pytest.raises(DeviceError, match="too little memory"):
        list(given.frames(tall))
    with pytest.raises(UsageError, match="tile '0' is no whole number"):
        Reconstructor("tfp", tile="0")


def test_golden_pictures(fan):
    """Recorded once, after the network had passed the comparison with the published one."""
    spikes = np.random.default_rng(3).random((81, 40, 56)) < np.linspace(0.05, 0.7, 56)
    noise = recordings.from_rows(pack(spikes), 56)
    golden = np.load(GOLDEN)
    engines = {
        "stir": Reconstructor(Stir(filled(StirConfig())), device="cpu", precision="float32"),
        "tfp": Reconstructor("tfp", device="cpu"),
        "tfi": Reconstructor("tfi", device="cpu"),
    }
    for name, engine in engines.items():
        rates = np.stack([frame.rate for frame in engine.frames(noise)])
        assert rates.shape == (2, 40, 56)
        assert np.abs(rates - golden[name]).max() < TOLERANCE, name


@needs_cuda
@pytest.mark.parametrize("follow", [False, True])
def test_cuda_agrees_with_the_cpu(fan, follow):
    config = StirConfig(follow=follow)
    on_cpu = Reconstructor(Stir(filled(config)), device="cpu", precision="float32")
    on_gpu = Reconstructor(Stir(filled(config)), device="cuda", precision="float32")
    half = Reconstructor(Stir(filled(config)), device="cuda", precision="bfloat16", batch_size=2)
    for a, b, c in zip(on_cpu.frames(fan), on_gpu.frames(fan), half.frames(fan), strict=True):
        assert a.center == b.center == c.center
        assert np.abs(a.rate - b.rate).max() < 5e-3  # TF32 is allowed there
        assert np.abs(a.rate - c.rate).mean() < 2e-2


@needs_cuda
@pytest.mark.parametrize("bayer", [None, "bggr"])
@pytest.mark.parametrize("name", ["tfp", "tfi", "tfstp"])
def test_classical_methods_on_cuda_agree_with_the_cpu(fan, name, bayer):
    engines = [Reconstructor(name, device=device, bayer=bayer) for device in ("cpu", "cuda")]
    for a, b in zip(*(engine.frames(fan) for engine in engines), strict=True):
        assert a.center == b.center
        assert np.abs(a.rate - b.rate).max() < 1e-5


def test_pictures_side_by_side_are_those_of_one_after_the_other(fan, threads):
    """In bfloat16 they differ by less than a fifth of what they do from float32's, on average: how sums are rounded
    there depends on how many cores share them."""
    small = Stir(filled(StirConfig(width=0.5)))
    threads(2)

    def pictures(precision, size):
        engine = Reconstructor(small, device="cpu", precision=precision, batch_size=size)
        assert engine.batch_for(fan) == (2 if size == "auto" else 1)
        return np.stack([frame.rate for frame in engine.frames(fan)])

    alone, alone_in_half = pictures("float32", 1), pictures("bfloat16", 1)
    difference = np.abs(pictures("float32", "auto") - alone)
    assert difference.max() < 1e-5
    assert difference.mean() < 1e-6
    difference = np.abs(pictures("bfloat16", "auto") - alone_in_half)
    assert difference.max() < 0.02
    assert difference.mean() < np.abs(alone_in_half - alone).mean() / 5
    if pick_precision("auto", torch.device("cpu")) == "float32":  # bfloat16 is imitated, and differs less
        assert difference.mean() < 2e-4
    assert torch.get_num_threads() == 2


def test_few_pictures_share_all_cores(stir, fan, threads, monkeypatch):
    threads(4)
    plain, used = stir.network.decode, []
    monkeypatch.setattr(stir.network, "decode", lambda *given: used.append(torch.get_num_threads()) or plain(*given))
    engine = Reconstructor(stir, device="cpu", precision="float32")
    assert engine.batch_for(fan) == 4
    for centers, each in (([50], 4), ([50, 70], 2), ([30, 50, 70, 90], 1)):
        used.clear()
        assert len(list(engine.frames(fan, centers))) == len(centers)
        assert used == [each] * len(centers)


def test_threads_end_with_the_frames(stir, fan, threads):
    threads(3)
    before = threading.active_count()
    frames = Reconstructor(stir, device="cpu", precision="float32").frames(fan)
    next(frames)
    assert threading.active_count() >= before + 3
    frames.close()
    assert threading.active_count() == before


def test_a_processor_decodes_as_many_pictures_at_once_as_cores_and_memory_allow():
    assert [cpu_batch(400 * 250, cores) for cores in (1, 2, 6, 8, 12, 16, 64)] == [1, 2, 6, 8, 6, 8, 8]
    assert [cpu_batch(640 * 360, cores) for cores in (1, 2, 3, 4, 8)] == [1, 2, 3, 2, 2]
    assert cpu_batch(1000 * 1000, 16) == 1
    assert cpu_batch(16 * 16, 16) == 16
    assert Reconstructor("tfp", device="cpu").batch_for(film("fan", planes=60, width=64, height=48)) == 1


def test_a_gpu_decodes_as_many_pictures_at_once_as_its_memory_holds():
    assert cuda_batch(400 * 250, 80 * 10**9) == 64
    assert cuda_batch(400 * 250, 8 * 10**9) == 13
    assert cuda_batch(1000 * 1000, 80 * 10**9) == 6
    assert cuda_batch(1000 * 1000, 4 * 10**9) == 1
    assert cuda_batch(16 * 16, 80 * 10**9) == 512


@pytest.mark.parametrize("method", ["stir", "tfp", "tfi", "tfstp"])
def test_all_is_worked_out_on_the_device_of_the_planes(method, shapes_only):
    rows = torch.empty(2, 60, 38, 5, dtype=torch.uint8, device=shapes_only)
    planes = pad(unpack_bits(rows, 40).float(), 16)
    made = make_method(method)
    if isinstance(made, Tfstp):
        state = made.begin(48, 48, planes.device)
        state.feed(planes[0])
        rates = state.rate()[None].expand(2, -1, -1)
    else:
        if made.network is not None:
            made.network.to(shapes_only)
        starts = [offset - made.offsets[0] for offset in made.offsets]
        rates = made.decode(*(made.encode(planes[:, start : start + made.block_planes]) for start in starts))
    rates = crop(rates, 38, 40)
    assert rates.device.type == "meta"
    assert rates.shape == (2, 38, 40)


def test_reduced_precision_stays_close(stir, fan):
    exact, reduced = (
        np.stack([f.rate for f in Reconstructor(stir, device="cpu", precision=precision).frames(fan, [50, 70])])
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - reduced).mean() < 2e-2


def test_a_stream_gives_the_frames_of_the_file(stir, tmp_path):
    scene = make_scene("fan", 64, 48)
    write_recording(tmp_path / "fan.dat", simulate(scene, planes=110), 64)
    engine = Reconstructor(stir, device="cpu", precision="float32", batch_size=2)
    with open_recording(tmp_path / "fan.dat", size=(64, 48)) as file:
        expected = list(engine.frames(file))
    stream = open_recording(io.BytesIO((tmp_path / "fan.dat").read_bytes()), size=(64, 48))
    frames = list(engine.frames(stream, engine.centers(stream)))
    assert [f.center for f in frames] == [f.center for f in expected] == [30, 50, 70]
    assert all(np.array_equal(a.rate, b.rate) for a, b in zip(frames, expected, strict=True))


def test_centres_may_be_an_array(fan):
    engine = Reconstructor("tfp", device="cpu")
    assert [frame.center for frame in engine.frames(fan, np.arange(30, 100, 20))] == [30, 50, 70, 90]


def test_centres_that_are_not_there_are_refused(fan, tmp_path):
    engine = Reconstructor("tfp", device="cpu")
    for centers in ([5], [30, 151], range(30, 1000, 20)):
        with pytest.raises(UsageError, match="out of range: this recording of 160 planes takes centers 10 to 150"):
            list(engine.frames(fan, centers))
    write_recording(tmp_path / "fan.dat", [fan.read(0, 160)], 96)
    stream = open_recording(io.BytesIO((tmp_path / "fan.dat").read_bytes()), size=(96, 70))
    frames = engine.frames(stream, [30, 400])
    assert next(frames).center == 30
    with pytest.raises(UsageError, match="center 400 is out of range"):
        next(frames)


@pytest.mark.parametrize("step", [10, 20, 60])
def test_merged_planes_are_a_slower_camera_s(stir, step):
    """Every three planes merged: the same pictures as from a recording that was merged before."""
    fan = film("fan", planes=300, width=64, height=48)
    slower = recordings.from_rows(merge_planes(fan.read(0, 300), 3), 64)
    engine = Reconstructor(stir, device="cpu", precision="float32", merge=3, batch_size=2)
    centers = engine.centers(fan, step=step)
    assert centers == range(90, 211, step)
    frames = list(engine.frames(fan, centers))
    for frame in frames:
        assert np.abs(frame.rate - plain_frame(stir, fan, frame.center, 3).rate).max() < TOLERANCE
        if frame.center % 3 == 0:
            expected = plain_frame(stir, slower, frame.center // 3).rate / 3
            assert np.abs(frame.rate - expected).max() < TOLERANCE


@pytest.mark.parametrize("merge", [1, 2, 3])
def test_odd_windows_of_merged_planes_stay_inside(tmp_path, merge):
    planes = 63 * merge + 4
    write_recording(tmp_path / "fan.dat", simulate(make_scene("fan", 24, 16), planes=planes), 24)
    engine = Reconstructor("tfp", window=61, device="cpu", merge=merge)
    with open_recording(tmp_path / "fan.dat", size=(24, 16)) as file:
        found = {frame.center: frame.rate for frame in engine.frames(file, engine.centers(file, step=1))}
        assert list(found) == list(range(30 * merge, planes - 31 * merge + 1))
        assert list(engine.centers(file, end=61 * merge)) == [30 * merge]
    stream = open_recording(io.BytesIO((tmp_path / "fan.dat").read_bytes()), size=(24, 16))
    again = {frame.center: frame.rate for frame in engine.frames(stream, engine.centers(stream, step=1))}
    assert list(again) == list(found)
    assert all(np.array_equal(again[center], found[center]) for center in found)


def test_merging_keeps_the_spikes_of_dark_pixels():
    rng = np.random.default_rng(0)
    charge = rng.random((1, 6, 8)) + np.linspace(0.01, 0.24, 8) * np.arange(1, 241)[:, None, None]
    spikes = np.diff(np.floor(charge), axis=0, prepend=np.floor(charge[:1]))
    rows = pack(spikes.astype(np.uint8))
    merged = unpack(merge_planes(rows, 4), 8)
    assert merged.shape == (60, 6, 8)
    assert np.array_equal(merged.sum(0), spikes.sum(0))
    assert merge_planes(rows, 1) is rows
    tfp = Reconstructor("tfp", window=60, device="cpu", merge=4)
    (frame,) = tfp.frames(recordings.from_rows(rows, 8), [120])
    assert np.allclose(frame.rate, spikes.mean(0))


def test_methods_share_their_centres(fan):
    for name in ("tfp", "tfi", "tfstp"):
        assert Reconstructor(name, device="cpu").centers(fan, step=25) == range(30, 131, 25)
    assert Reconstructor(Tfp(100), device="cpu").centers(fan) == range(50, 111, 20)


def test_methods_know_their_windows():
    assert window_around(Tfp()) == (10, 10)
    assert window_around(Tfi()) == (30, 30)
    assert window_around(Stir(STIR())) == (30, 30)
    assert window_around(Stir(STIR(StirConfig(block_planes=21)))) == (30, 31)
    assert window_around(Tfp(5)) == (2, 3)
    assert window_around(Tfstp()) == (30, 0)


def test_engines_that_share_a_method_keep_their_own_tile():
    method = Stir(STIR(StirConfig(width=0.5)))
    engines = [Reconstructor(method, tile=tile, device="cpu") for tile in (32, "auto")]
    assert [engine.method.rows for engine in engines] == [32, None]


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_windows_of_numpy_s_numbers(kind):
    for name in ("tfp", "tfi"):
        given, plain = make_method(name, window=kind(20)), make_method(name, window=20)
        assert (given.about, given.block_planes, given.offsets) == (plain.about, plain.block_planes, plain.offsets)


def test_numbers_of_planes_are_whole(small_file):
    engine = Reconstructor("tfp", device="cpu")
    with open_recording(small_file, size=(64, 48)) as recording:
        for wrong in ({"step": 1.5}, {"start": 2.5}, {"end": 80.5}):
            with pytest.raises(UsageError, match="are to be whole numbers of planes"):
                engine.centers(recording, **wrong)
        for centers in ([30.5], 30):
            with pytest.raises(UsageError, match="are no whole numbers one after the other"):
                list(engine.frames(recording, centers))
        found = engine.frames(recording, np.array([30, 50], np.uint8))
        for frame, center in zip(found, (30, 50), strict=True):
            assert (frame.rate == next(engine.frames(recording, [center])).rate).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "magic"}, "unknown method 'magic': choose stir, tfp, tfi, tfstp"),
        ({"name": "tfstp", "window": 20}, "tfstp has no window"),
        ({"name": "tfp", "window": 0}, "holds nothing"),
        ({"name": "tfi", "window": 1}, "holds no interval"),
        ({"name": "tfp", "window": 2.5}, "give a whole number"),
        ({"name": "stir", "window": 30}, "set by its weights"),
    ],
)
def test_methods_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        make_method(**arguments)


# TFSTP, which has no windows


def by_hand(recording: recordings.Recording, start: int, center: int, merge: int = 1) -> np.ndarray:
    """The picture after planes [start, center), as many as can be merged."""
    planes = unpack(merge_planes(recording.read(start, center - (center - start) % merge), merge), recording.width)
    state = ShortTermPlasticity(recording.height, recording.width)
    state.feed(torch.from_numpy(planes))
    return state.rate().numpy() / merge


def tfstp_frames(
    recording: recordings.Recording, centers: Sequence[int], *, start: int = 0, reach: int | None = None, merge: int = 1
) -> dict[int, np.ndarray]:
    engine = Reconstructor("tfstp", device="cpu", merge=merge)
    engine.reach = engine.reach if reach is None else reach
    return {frame.center: frame.rate for frame in engine.frames(recording, centers, start=start)}


@pytest.mark.parametrize("centers", [[30], [33, 50, 51, 120, 160], [120, 50], range(30, 131, 20), range(60, 65)])
def test_tfstp_frames_equal_feeding_by_hand(fan, centers):
    frames = tfstp_frames(fan, centers)
    assert list(frames) == list(centers)
    for center, rate in frames.items():
        assert rate.dtype == np.float32
        assert np.array_equal(rate, by_hand(fan, 0, center))


@pytest.mark.parametrize(("merge", "centers"), [(2, range(60, 101, 20)), (3, [90, 91, 95, 111])])
def test_tfstp_of_merged_planes(fan, merge, centers):
    for center, rate in tfstp_frames(fan, centers, merge=merge).items():
        assert np.array_equal(rate, by_hand(fan, 0, center, merge))


def test_tfstp_begins_at_the_start_and_again_where_a_centre_is_far(fan, monkeypatch):
    read = []
    plain = fan.read
    monkeypatch.setattr(fan, "read", lambda start, stop: read.append(range(start, stop)) or plain(start, stop))
    frames = tfstp_frames(fan, [50, 70, 155], start=10, reach=50)
    assert {plane for part in read for plane in part} == {*range(10, 70), *range(105, 155)}
    for center, start in {50: 10, 70: 10, 155: 105}.items():
        assert np.array_equal(frames[center], by_hand(fan, start, center))
    (near_the_start,) = tfstp_frames(fan, [50], start=40).values()  # a window's planes are always there
    assert np.array_equal(near_the_start, by_hand(fan, 20, 50))


@pytest.mark.parametrize("start", [0, 2])
def test_tfstp_merges_the_same_planes_wherever_it_begins(fan, start):
    method = Tfstp()
    method.warm_up = 30
    engine = Reconstructor(method, device="cpu", merge=3)
    fed = np.concatenate([rows for rows, _, _ in _Fed(engine, fan, [131]).read(start)])
    whole = merge_planes(fan.read(start, 131 - (131 - start) % 3), 3)
    assert 30 <= len(fed) < len(whole)
    assert np.array_equal(fed, whole[-len(fed) :])


def test_what_came_before_the_warm_up_does_not_show():
    """In a recording ten times darker than usual."""
    rng = np.random.default_rng(0)
    light = rng.uniform(0.002, 0.06, (24, 32))
    charge = rng.random((24, 32)) + light * np.arange(1501)[:, None, None]
    dark = recordings.from_rows(pack(np.diff(np.floor(charge), axis=0).astype(np.uint8)), 32)
    (rate,) = tfstp_frames(dark, [1500]).values()
    difference = np.abs(rate - by_hand(dark, 0, 1500)) / 0.06
    assert not np.array_equal(rate, by_hand(dark, 1200, 1500))
    assert difference.max() < 1 / 255


def test_tfstp_of_a_stream_is_that_of_the_file(tmp_path):
    write_recording(tmp_path / "fan.dat", simulate(make_scene("fan", 64, 48), planes=115), 64)
    data = (tmp_path / "fan.dat").read_bytes()

    def stream() -> recordings.Recording:
        return open_recording(io.BytesIO(data), size=(64, 48))

    with open_recording(tmp_path / "fan.dat", size=(64, 48)) as file:
        whole = tfstp_frames(file, Reconstructor("tfstp", device="cpu").centers(file))
        merged = tfstp_frames(file, [60, 101, 115], merge=2)
    assert list(whole) == [30, 50, 70]
    endless = range(30, 1000, 20)
    for expected, found in (
        (whole, tfstp_frames(stream(), endless)),
        (merged, tfstp_frames(stream(), [60, 101, 115], merge=2)),
    ):
        assert list(found) == list(expected)
        assert all(np.array_equal(found[center], expected[center]) for center in expected)
    with pytest.raises(UsageError, match="center 116 is out of range: this recording of 115 planes"):
        tfstp_frames(stream(), [60, 116], merge=2)


def test_tfstp_beats_tfp_and_tfi_where_it_is_not_late(fan):
    """TFSTP, TFP and TFI have 32.2, 29.4 and 21.9 dB in a still picture, 28.3, 25.1 and 23.2 dB five planes ago."""
    scene = make_scene("pan", 96, 70)
    picture = truth(scene, 0)
    scene.light = lambda t: picture
    still = recordings.from_rows(np.concatenate(list(simulate(scene, planes=160))), 96)
    for recording, true in ((still, picture), (fan, truth(make_scene("fan", 96, 70), 115))):
        quality = {}
        for name in ("tfstp", "tfp", "tfi"):
            (frame,) = Reconstructor(name, device="cpu").frames(recording, [120])
            quality[name] = psnr(np.clip(frame.rate / 0.6, 0, 1), true)
        assert quality["tfstp"] > quality["tfp"] + 1 > quality["tfi"] + 1


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="merge '0' is no whole number"):
        Reconstructor("tfp", device="cpu", merge=0)
    for size in (0, -1, "many"):
        with pytest.raises(UsageError, match="batch size"):
            Reconstructor("tfp", device="cpu", batch_size=size)
