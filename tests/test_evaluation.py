"""Quality figures, on recordings with truth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from spikerecon.comparison import HEADING
from spikerecon.engine import Reconstructor
from spikerecon.errors import RecordingError, UsageError
from spikerecon.evaluation import evaluate, load_sequences, read_truth, sheet
from spikerecon.metrics import psnr
from spikerecon.pictures import to_uint, write_png
from spikerecon.recording import find_flaws, from_rows, mended, write_recording
from spikerecon.scenes import make_scene, truth
from spikerecon.simulate import SensorNoise, sequence_entry, simulate

EVAL = Path(__file__).resolve().parents[2] / "shared" / "eval" / "sequences.json"


@pytest.fixture
def still(tmp_path) -> Path:
    """A recording of a picture that does not move, with its truth in 8 and in 16 bit."""
    scene = make_scene("pan", 64, 48)
    picture = truth(scene, 0)
    scene.light = lambda t: picture
    write_recording(tmp_path / "still.dat", simulate(scene, planes=120, full_scale_rate=0.5), 64)
    entry = sequence_entry(tmp_path / "still.dat", scene, [30, 60], planes=120, full_scale_rate=0.5)
    for name, depth in zip(entry["truth"], (8, 16), strict=True):
        write_png(tmp_path / name, to_uint(picture, bit_depth=depth))
    (tmp_path / "sequences.json").write_text(json.dumps([entry]))
    return tmp_path / "sequences.json"


def test_a_still_scene_is_told_nearly_exactly(still):
    engine = Reconstructor("tfp", window=60, device="cpu")
    results = evaluate(engine, load_sequences(still))
    assert [(score.name, score.center) for score in results.scores] == [("still", 30), ("still", 60)]
    assert results.mean["psnr"] > 35
    assert results.mean["ssim"] > 0.9
    report = results.to_dict(engine)
    assert set(report) == {"method", "weights", "bin", "precision", "results", "mean"}
    assert (report["method"], report["weights"], report["bin"]) == ("tfp", "mean of 60 planes", 1)
    assert report["mean"]["psnr"] == pytest.approx(np.mean([r["psnr"] for r in report["results"]]))


def test_a_sheet_shows_truth_tfp_method_and_error(still):
    listed = load_sequences(still)
    drawn = sheet(listed, evaluate(Reconstructor("tfp", window=60, device="cpu"), listed), "tfp")
    assert drawn.shape == (48 + HEADING, 4 * 64)
    truth, tfp, found, error = np.split(drawn[HEADING:].astype(float), 4, axis=1)
    assert np.abs(found - truth).mean() < np.abs(tfp - truth).mean()
    assert np.abs(error - np.clip(4 * np.abs(found - truth), 0, 255)).max() < 5


def test_truth_of_8_and_16_bit_is_read_alike(still):
    eight, sixteen = (read_truth(file) for file in load_sequences(still)[0].truth)
    assert np.abs(eight - sixteen).max() < 0.51 / 255
    assert len(np.unique(sixteen)) > len(np.unique(eight))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.pop("centers"), "entry 0 is no sequence: it has no 'centers'"),
        (lambda entry: entry.update(centers="30"), "entry 0 is no sequence: 'centers' and 'truth' are lists"),
        (lambda entry: entry.update(centers=[30.5, 60]), "entry 0 is no sequence: 'centers' is 30.5, and not"),
        (lambda entry: entry.update(width=48.7), "entry 0 is no sequence: 'width' is 48.7, and not"),
        (lambda entry: entry.update(file=3), "entry 0 is no sequence: 'file' and 'truth' are names"),
        (lambda entry: entry.update(truth=[1, 2]), "entry 0 is no sequence: 'file' and 'truth' are names"),
        (lambda entry: entry.update(file="other.dat"), "other.dat: no such file"),
        (lambda entry: entry.update(centers=[30]), "one true picture for each centre"),
        (lambda entry: entry.update(centers=[30, 30]), "lists a centre twice"),
        (lambda entry: entry.update(width=float("inf")), "entry 0 is no sequence"),
        (lambda entry: entry.update(full_scale_rate=0), "full-scale rate lies in"),
        (lambda entry: entry.update(full_scale_rate=float("nan")), "full-scale rate lies in"),
    ],
)
def test_lists_that_are_wrong_are_refused(still, change, words):
    entries = json.loads(still.read_text())
    change(entries[0])
    still.write_text(json.dumps(entries))
    with pytest.raises(RecordingError, match=words):
        load_sequences(still)


def test_truth_that_cannot_be_read_is_named(still):
    file = load_sequences(still)[0].truth[0]
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(RecordingError, match=f"{file.name}: cannot be read as a picture"):
        read_truth(file)


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        (np.float32(0.5), "t.tif", "is of mode F: save it in grey of 8 or 16 bit"),
        (np.int32(7), "t.tif", "is no opaque picture of 8 or 16 bit"),
        (np.array([9, 0], np.uint8), "t.png", "is no opaque picture of 8 or 16 bit"),
    ],
)
def test_truth_of_other_bits_or_that_can_be_seen_through_is_refused(tmp_path, value, name, words):
    Image.fromarray(np.broadcast_to(value, (48, 64, *np.shape(value))).copy()).save(tmp_path / name)
    with pytest.raises(RecordingError, match=f"{name}: {words}"):
        read_truth(tmp_path / name)


def test_truth_of_16_bit_is_no_truth_in_colour(still):
    eight, sixteen = load_sequences(still)[0].truth
    assert read_truth(eight, colour=True).shape == (48, 64, 3)
    with pytest.raises(RecordingError, match="is no opaque picture in colour of 8 bit"):
        read_truth(sixteen, colour=True)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"centers": [30, 500]}, UsageError, "still: center 500 is out of range"),
        ({"layout": "other"}, UsageError, "still: unknown layout 'other'"),
        ({"bayer": "rgb"}, UsageError, "still: "),
    ],
)
def test_errors_name_their_sequence(still, change, error, words):
    entry = json.loads(still.read_text())[0]
    still.write_text(json.dumps([entry | change]))
    with pytest.raises(error, match=words):
        evaluate(Reconstructor("tfp", device="cpu"), load_sequences(still))


def test_truth_of_another_size_is_named(still):
    listed = load_sequences(still)
    write_png(listed[0].truth[1], np.zeros((20, 30), np.uint8), overwrite=True)
    with pytest.raises(UsageError, match=f"still: .*{listed[0].truth[1].name}: is 30x20 pixels, .* 64x48"):
        evaluate(Reconstructor("tfp", device="cpu"), listed)


def test_what_is_no_list_is_refused(tmp_path):
    for name, text in {"text.json": "no", "empty.json": "[]", "deep.json": 10**5 * "[", "one.json": "[3]"}.items():
        (tmp_path / name).write_text(text)
    wanted = {"none": "no such file", "text": "no list", "empty": "lists no", "deep": "no list", "one": "no sequence"}
    for name, words in wanted.items():
        with pytest.raises(RecordingError, match=words):
            load_sequences(tmp_path / f"{name}.json")


def test_figures_never_replace_what_came_meanwhile(spikerecon: Command, still, monkeypatch):
    def meanwhile(*words: Any, **more: Any) -> Any:
        Path("figures.json").write_text("mine")
        return evaluate(*words, **more)

    monkeypatch.setattr("spikerecon.evaluation.evaluate", meanwhile)
    said = spikerecon("evaluate", still, "--method", "tfp", "--json", "figures.json", status=1).stderr
    assert "figures.json: exists already" in said
    assert Path("figures.json").read_text() == "mine"


@pytest.mark.skipif(not EVAL.is_file(), reason="the evaluation recordings are not beside the checkout")
def test_bundled_weights_beat_the_better_tfp():
    """On average over the recordings kept for measuring; at the middle centre of each, for time."""
    sequences = [replace(s, centers=s.centers[1:2], truth=s.truth[1:2]) for s in load_sequences(EVAL)]
    assert len(sequences) == 8
    engines = [Reconstructor("tfp", window=window, device="cpu") for window in (20, 40)]
    engines += [Reconstructor(weights=weights, device="cpu") for weights in ("stir", "stir-lite")]
    *tfp, stir, lite = (np.array([score.psnr for score in evaluate(engine, sequences).scores]) for engine in engines)
    better = np.maximum(*tfp)
    gain = stir - better
    assert gain.min() > 0
    assert gain.mean() > 8.85
    assert np.mean(lite - better) > 8.75
    assert np.mean(stir - lite) < 0.2


@pytest.mark.parametrize("weights", ["stir", "stir-lite"])
@pytest.mark.parametrize("name", ["pan", "fan"])
def test_noise_is_told_without_stuck_pixels(weights: str, name: str):
    """They are mended before a picture is made, and then nothing but the noise itself tells of it."""
    scene, rate = make_scene(name, 240, 160), 0.06
    true, engine = truth(scene, 30), Reconstructor(weights=weights, device="cpu")
    noise = SensorNoise(stuck_fraction=3e-4, dead_fraction=0)
    recording = from_rows(np.concatenate(list(simulate(scene, planes=60, full_scale_rate=rate, noise=noise))), 240)
    flaws = find_flaws(recording)
    assert flaws.stuck.sum() > 5
    found = [next(engine.frames(each, [30])).rate / rate for each in (recording, mended(recording, flaws))]
    flawed, sound = (psnr(np.clip(picture, 0, 1), true) for picture in found)
    assert sound > flawed - 0.2
