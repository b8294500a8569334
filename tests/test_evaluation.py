"""Quality figures, on recordings with truth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikerecon.comparison import HEADING
from spikerecon.engine import Reconstructor
from spikerecon.errors import RecordingError
from spikerecon.evaluation import evaluate, load_sequences, read_truth, sheet
from spikerecon.recording import write_packed
from spikerecon.simulate import make_scene, sequence_entry, simulate, truth
from spikerecon.video import to_uint, write_png

EVAL = Path(__file__).resolve().parents[2] / "shared" / "eval" / "sequences.json"


@pytest.fixture
def still(tmp_path) -> Path:
    """A recording of a picture that does not move, with its truth in 8 and in 16 bit."""
    scene = make_scene("pan", 64, 48)
    picture = truth(scene, 0)
    scene.light = lambda t: picture
    write_packed(tmp_path / "still.dat", simulate(scene, planes=120, full_scale_rate=0.5), 64)
    entry = sequence_entry(tmp_path / "still.dat", scene, [30, 60], planes=120, full_scale_rate=0.5)
    for name, depth in zip(entry["truth"], (8, 16), strict=True):
        write_png(tmp_path / name, to_uint(picture, bit_depth=depth))
    (tmp_path / "sequences.json").write_text(json.dumps([entry]))
    return tmp_path / "sequences.json"


def test_a_still_scene_is_told_nearly_exactly(still):
    results = evaluate(Reconstructor("tfp", window=60, device="cpu"), load_sequences(still))
    assert [(score.name, score.center) for score in results.scores] == [("still", 30), ("still", 60)]
    assert results.mean["psnr"] > 35
    assert results.mean["ssim"] > 0.9
    report = results.to_dict("tfp", "mean of 60 planes")
    assert set(report) == {"method", "weights", "results", "mean"}
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
        (lambda entry: entry.pop("centers"), "entry 0 is no sequence"),
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


def test_what_is_no_list_is_refused(tmp_path):
    (tmp_path / "text.json").write_text("no")
    (tmp_path / "empty.json").write_text("[]")
    for name, words in {"none.json": "no such file", "text.json": "no list", "empty.json": "lists no"}.items():
        with pytest.raises(RecordingError, match=words):
            load_sequences(tmp_path / name)


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
    assert gain.mean() > 8.2
    assert np.mean(lite - better) > 7.9
    assert np.mean(stir - lite) < 0.3
