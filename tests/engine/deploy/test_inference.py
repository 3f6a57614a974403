"""A record gives the same probabilities through the exported model as in training, whatever form it is stored in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine.checkpoints.checkpoint import load_network
from engine.deploy.inference import ModelError, decisions, list_records, open_model, predict_records
from engine.records.record import RecordError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture(scope="module")
def model(exported):
    return open_model(exported / "model.onnx")


def predict(model, path: Path, **options):
    return list(predict_records(model, list_records(path), **options))


def only(model, path: Path) -> np.ndarray:
    (prediction,) = predict(model, path)
    assert prediction.problem is None, prediction.problem
    return np.array(prediction.probabilities)


def test_a_prepared_corpus_and_its_raw_records_give_the_same(model, exported, corpus, ptbxl_tree):
    network, facts = load_network(exported / "checkpoint")
    signals = facts.standardisation.apply(np.asarray(corpus.signals))
    with torch.no_grad():
        expected = torch.sigmoid(network(torch.from_numpy(signals)) / facts.temperature).numpy()
    predictions = {one.record: one for one in predict(model, ptbxl_tree, batch_size=50)}
    assert len(predictions) == len(corpus) == 240
    for record, row in zip(corpus.record_ids, expected, strict=True):
        found = predictions[(ptbxl_tree / str(record)).as_posix()]
        np.testing.assert_allclose(found.probabilities, row, atol=1e-6)
        assert decisions(found.probabilities, model.facts) == tuple(row >= facts.thresholds)


def test_a_folder_in_a_publishers_tree_is_searched_for_headers(model, ptbxl_tree):
    folder = ptbxl_tree / "records100" / "00000"
    predictions = predict(model, folder)
    assert [one.record for one in predictions] == [(folder / f"{k:05d}_lr").as_posix() for k in range(1, 241)]


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_a_record_is_named_with_or_without_suffix(model, record_writer, tmp_path, suffix):
    path = record_writer(tmp_path / "r")
    (prediction,) = predict(model, Path(f"{path}{suffix}"))
    assert prediction.record == path.as_posix()
    assert prediction.problem is None


@pytest.mark.parametrize("fs", [250, 500, 1000])
def test_any_sampling_rate_gives_nearly_the_same(model, record_writer, synthetic_ecg, tmp_path, fs):
    at_100 = only(model, record_writer(tmp_path / "a", synthetic_ecg(10, 100.0), "100"))
    np.testing.assert_allclose(
        only(model, record_writer(tmp_path / "b", synthetic_ecg(10, float(fs)), str(fs))), at_100, atol=5e-3
    )


def test_lead_order_and_further_leads_do_not_matter(model, record_writer, synthetic_ecg, tmp_path):
    samples = synthetic_ecg()
    expected = only(model, record_writer(tmp_path / "a", samples))
    order = [7, 3, 0, 11, 1, 2, 10, 4, 9, 5, 8, 6]
    shuffled = record_writer(tmp_path / "b", samples[order], leads=[LEADS[k].upper() for k in order])
    np.testing.assert_array_equal(only(model, shuffled), expected)
    more = record_writer(tmp_path / "c", np.vstack([samples[:1], samples]), leads=["vx", *LEADS])
    np.testing.assert_array_equal(only(model, more), expected)


def test_limb_leads_that_follow_from_two_are_derived_and_said(model, record_writer, synthetic_ecg, tmp_path):
    samples, kept = synthetic_ecg(), [0, 1, 6, 7, 8, 9, 10, 11]
    expected = only(model, record_writer(tmp_path / "a", samples))
    (prediction,) = predict(model, record_writer(tmp_path / "b", samples[kept], leads=[LEADS[k] for k in kept]))
    np.testing.assert_allclose(prediction.probabilities, expected, atol=5e-3)
    assert prediction.notes == ("III, aVR, aVL, aVF derived from I and II",)


def test_units_of_the_file_do_not_matter(model, record_writer, synthetic_ecg, tmp_path):
    samples = synthetic_ecg()
    expected = only(model, record_writer(tmp_path / "a", samples))
    np.testing.assert_allclose(only(model, record_writer(tmp_path / "b", samples, gain="1/uV")), expected, atol=1e-6)


def test_batches_do_not_matter_and_bad_records_stop_nothing(model, record_writer, synthetic_ecg, tmp_path):
    for k in range(7):
        record_writer(tmp_path / f"r{k}", synthetic_ecg(seed=k))
    record_writer(tmp_path / "r2", synthetic_ecg(5))
    record_writer(tmp_path / "r4", synthetic_ecg()[:8], leads=LEADS[:8])
    alone = predict(model, tmp_path, batch_size=1)
    assert [one.problem for one in alone] == [
        None, None, "5 s long; 10 s are needed", None, "lead V3, V4, V5, V6 missing", None, None,
    ]  # fmt: skip
    for together in (predict(model, tmp_path, batch_size=3), predict(model, tmp_path, batch_size=64)):
        for one, other in zip(alone, together, strict=True):
            assert (one.record, one.problem, one.notes) == (other.record, other.problem, other.notes)
            if one.probabilities is not None:
                np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_missing_samples_are_refused(model, record_writer, synthetic_ecg, tmp_path):
    samples = synthetic_ecg()
    samples[3, 100:110] = -32768
    (prediction,) = predict(model, record_writer(tmp_path / "r", samples))
    assert prediction.probabilities is None
    assert prediction.problem == "10 samples of the first 10 s are missing (NaN)"


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"no ECG recording"):
        list_records(tmp_path)


def test_one_lead_of_any_name_is_taken_for_the_one_that_the_model_wants(
    checkpoint_writer, record_writer, synthetic_ecg, tmp_path
):
    from engine.checkpoints.checkpoint import Standardisation
    from engine.deploy.export import export_checkpoint

    checkpoint = checkpoint_writer(
        tmp_path / "c", "gru-w4", leads=("I",), standardisation=Standardisation((0.0,), (0.2,))
    )
    one_lead = open_model(export_checkpoint(checkpoint, tmp_path / "model.onnx").model)
    samples = synthetic_ecg()[:1]
    expected = only(one_lead, record_writer(tmp_path / "a", samples, leads=["I"]))
    (named,) = predict(one_lead, record_writer(tmp_path / "b", samples, leads=["ECG"]))
    np.testing.assert_array_equal(named.probabilities, expected)
    assert named.notes == ("its one lead, ECG, is taken for I",)
    with_resp = record_writer(tmp_path / "with-resp", np.vstack([samples, samples[:, ::-1]]), leads=["ECG", "Resp"])
    lines = with_resp.with_suffix(".hea").read_text().splitlines()
    with_resp.with_suffix(".hea").write_text("\n".join([*lines[:2], lines[2].replace("/mV", "/NU")]) + "\n")
    (first,) = predict(one_lead, with_resp)
    np.testing.assert_array_equal(first.probabilities, expected)
    (other,) = predict(one_lead, record_writer(tmp_path / "d", samples, leads=["V5"]))
    assert other.problem == "lead I missing"


def altered(exported: Path, target: Path, **changes: object) -> Path:
    model = onnx.load(exported / "model.onnx")
    metadata = {one.key: one.value for one in model.metadata_props}
    for name, value in changes.items():
        metadata.pop(f"ecgadvise.{name}")
        if value is not None:
            metadata[f"ecgadvise.{name}"] = value if isinstance(value, str) else json.dumps(value)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": None}, "carries no classes"),
        ({"schema_version": 9}, "schema 9"),
        ({"classes": None}, "lack ecgadvise.classes"),
        ({"classes": 5}, "ecgadvise.classes"),
        ({"thresholds": "not json"}, "no JSON in ecgadvise.thresholds"),
        ({"thresholds": [0.5]}, "ecgadvise.thresholds"),
        ({"units": json.dumps("uV")}, "ecgadvise.units"),
        ({"fs": -1}, "ecgadvise.fs"),
        ({"fs": json.dumps("100")}, "ecgadvise.fs"),
        ({"n_samples": [1]}, "ecgadvise.n_samples"),
        ({"leads": [1, 2]}, "ecgadvise.leads"),
        ({"preparation": {"sharpen": True}}, "ecgadvise.preparation"),
        ({"leads": ["I"]}, "altered after export"),
        ({"classes": ["A"], "thresholds": [0.5]}, "altered after export"),
    ],
)
def test_a_model_whose_metadata_are_not_ours_is_refused(exported, tmp_path, changes, says):
    path = altered(exported, tmp_path / "other.onnx", **changes)
    with pytest.raises(ModelError, match=says) as failure:
        open_model(path)
    assert str(path) in str(failure.value)


def test_a_file_that_is_no_model_is_refused(exported, tmp_path):
    content = (exported / "model.onnx").read_bytes()
    for name, bad in {"text": b"hello", "cut": content[: len(content) // 2], "empty": b""}.items():
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(ModelError, match=str(tmp_path / name)):
            open_model(tmp_path / name)
    for path, says in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "directory")):
        with pytest.raises(ModelError, match=says):
            open_model(path)


def test_nothing_of_torch_is_loaded(exported, record_writer, tmp_path):
    record = record_writer(tmp_path / "r")
    script = (
        "import sys; sys.argv = ['ecgadvise', 'predict', *sys.argv[1:]]\n"
        "from advisor.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'safetensors', 'onnx', 'onnxscript') if m in sys.modules], "
        "file=sys.stderr)"
    )
    arguments = [str(exported / "model.onnx"), str(record), "--json"]
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr.strip()) == (0, "[]")


def test_records_behind_links_are_predicted_and_what_is_not_entered_fails(model, record_writer, tmp_path):
    record_writer(tmp_path / "ward" / "a")
    record_writer(tmp_path / "disk" / "b")
    (tmp_path / "ward" / "2025").symlink_to("../disk")
    (tmp_path / "ward" / "2026").symlink_to("../unmounted")
    (tmp_path / "ward" / "up").symlink_to("..")
    found = {one.record.removeprefix(f"{tmp_path}/ward/"): one.problem for one in predict(model, tmp_path / "ward")}
    assert found == {"2025/b": None, "a": None, "2026": "not entered: it is a link to nothing"}


@pytest.mark.parametrize("form", ["16", "212"])
def test_a_pipe_in_the_place_of_the_samples_is_not_waited_for(model, record_writer, tmp_path, form):
    path = record_writer(tmp_path / "a")
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace(".dat 16 ", f".dat {form} "))
    path.with_suffix(".dat").unlink()
    os.mkfifo(path.with_suffix(".dat"))
    (prediction,) = predict(model, tmp_path)
    assert prediction.problem == "unreadable: a.dat: is not a file"
