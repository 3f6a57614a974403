"""What is exported is what was trained, or nothing is written."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import engine.deploy.export
from engine.checkpoints.checkpoint import CheckpointError, load_network
from engine.deploy.export import OPSETS, ExportError, TargetExistsError, export_checkpoint
from engine.deploy.inference import open_session
from models.registry import list_networks

FILES = ("MODEL_CARD.md", "MODEL_FACTS.md", "model.onnx")


def millivolts(n_records: int, n_leads: int = 12, n_samples: int = 1000) -> np.ndarray:
    """Records that the gate does not use."""
    return np.random.default_rng(11).normal(0, 0.3, (n_records, n_leads, n_samples)).astype(np.float32)


def by_torch(checkpoint: Path, signals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and probabilities, worked out here step by step."""
    network, facts = load_network(checkpoint)
    mean, std = (np.array(v)[None, :, None] for v in (facts.standardisation.mean, facts.standardisation.std))
    with torch.no_grad():
        logits = network(torch.from_numpy(((signals - mean) / std).astype(np.float32))).double().numpy()
    return logits, 1 / (1 + np.exp(-logits / facts.temperature))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def built(exported, monkeypatch) -> bytes:
    """The model of the exported checkpoint, which need not be built again."""
    content = (exported / "model.onnx").read_bytes()
    monkeypatch.setattr(engine.deploy.export, "to_onnx", lambda *_: content)
    return content


@pytest.mark.parametrize("name", list_networks())
def test_every_network_exports_to_the_same_function(name, checkpoint_writer, tmp_path):
    wide = name == "resnet1d18"  # whose file's size is promised: at width 4 the metadata weigh as much as the weights
    checkpoint = checkpoint_writer(tmp_path / "checkpoint", f"{name}-w{16 if wide else 4}")
    report = export_checkpoint(checkpoint, tmp_path / "out" / "model.onnx")
    assert report.bytes == report.model.stat().st_size
    assert report.bytes <= 1.1 * report.weight_bytes or not wide
    assert names(tmp_path / "out") == list(FILES)
    assert report.agreement.holds
    assert report.agreement.records == 1 + 2 + 7 + 256
    model = onnx.load(report.model)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) < 1000  # a recurrence is one node, not one a time step
    assert [(o.domain, o.version) for o in model.opset_import] == [("", report.opset)]
    session = open_session(str(report.model))
    for n_records in (1, 3):
        signals = millivolts(n_records)
        expected = by_torch(checkpoint, signals)
        logits, probability = session.run(["logits", "probability"], {"ecg": signals})
        assert np.ptp(expected[1]) > 0.01  # or the comparison would say nothing
        np.testing.assert_allclose(logits, expected[0], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(probability, expected[1], atol=1e-5)


def test_the_input_is_millivolt_with_any_number_of_records(exported):
    session = open_session(str(exported / "model.onnx"))
    (ecg,) = session.get_inputs()
    assert (ecg.name, ecg.type, ecg.shape) == ("ecg", "tensor(float)", ["batch", 12, 1000])
    outputs = [(one.name, one.type, one.shape) for one in session.get_outputs()]
    assert outputs == [(name, "tensor(float)", ["batch", 3]) for name in ("logits", "probability")]


def test_the_file_says_what_it_is(exported):
    metadata = open_session(str(exported / "model.onnx")).get_modelmeta().custom_metadata_map
    assert all(key.startswith("ecgadvise.") for key in metadata)
    said = {key.removeprefix("ecgadvise."): json.loads(value) for key, value in metadata.items()}
    assert said["classes"] == ["NORM", "MI", "CD"]
    assert said["thresholds"] == [0.5, 0.35, 0.61]
    assert said["leads"] == ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert (said["fs"], said["n_samples"], said["units"], said["opset"]) == (100, 1000, "mV", 18)
    assert said["recipe"] == {"name": "tuned", "learning_rate": 0.01}
    assert said["data_hash"] == "d" * 64
    assert said["metrics"] == {"auroc_macro": 0.91}
    assert "Not a medical device" in said["intended_use"]
    assert {"torch", "onnx", "onnxruntime", "ecgadvise"} <= said["exported_with"].keys()
    assert said["licence"] is None  # this checkpoint does not know it


def test_the_file_names_no_place_of_this_machine(exported):
    content = (exported / "model.onnx").read_bytes()
    for place in (str(Path(__file__).parents[3]), str(Path(torch.__file__).parent), str(exported), ".py"):
        assert place.encode() not in content
    for text in FILES[:2]:
        assert str(exported) not in (exported / text).read_text()


def test_the_same_checkpoint_gives_the_same_bytes(exported, tmp_path):
    export_checkpoint(exported / "checkpoint", tmp_path / "model.onnx")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


def test_a_source_tree_that_is_not_installed_exports_too(exported, built, tmp_path, monkeypatch):
    from importlib.metadata import PackageNotFoundError, version

    def of_others(name):
        if name == "ecgadvise":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", of_others)
    report = export_checkpoint(exported / "checkpoint", tmp_path / "model.onnx")
    assert "| ecgadvise | not recorded | source tree |" in report.card.read_text()


def test_16_bits_halve_the_file_and_are_computed_with_in_32(checkpoint_writer, tmp_path):
    checkpoint = checkpoint_writer(tmp_path / "c", "lstm-flatten-w8")
    report = export_checkpoint(checkpoint, tmp_path / "model.onnx", half=True)
    assert report.half
    assert report.bytes < 0.65 * report.weight_bytes
    assert report.agreement.tolerance == 5e-3
    signals = millivolts(3)
    (probability,) = open_session(str(report.model)).run(["probability"], {"ecg": signals})
    np.testing.assert_allclose(probability, by_torch(checkpoint, signals)[1], atol=5e-3)
    assert "16 bits" in report.card.read_text()


def test_the_operator_set_is_the_one_asked_for(checkpoint_writer, tmp_path):
    report = export_checkpoint(checkpoint_writer(tmp_path / "c", "gru-w4"), tmp_path / "model.onnx", opset=OPSETS[-1])
    assert [o.version for o in onnx.load(report.model).opset_import] == [OPSETS[-1]]


def test_other_leads_lengths_and_rates_are_exported_as_they_are(checkpoint_writer, tmp_path):
    from engine.checkpoints.checkpoint import Standardisation

    checkpoint = checkpoint_writer(
        tmp_path / "c", "gru-w4", leads=("I",), fs=50.0, n_samples=250, classes=("AFIB",), thresholds=(0.2,),
        standardisation=Standardisation((0.1,), (0.4,)),
    )  # fmt: skip
    report = export_checkpoint(checkpoint, tmp_path / "model.onnx")
    signals = millivolts(2, 1, 250)
    (probability,) = open_session(str(report.model)).run(["probability"], {"ecg": signals})
    np.testing.assert_allclose(probability, by_torch(checkpoint, signals)[1], atol=1e-5)


def test_crops_and_the_scaling_of_each_are_inside_the_model(checkpoint_writer, tmp_path):
    from engine.checkpoints.checkpoint import Standardisation
    from engine.deploy.inference import open_model

    leads = ("aVL", "aVF", "V1")
    checkpoint = checkpoint_writer(
        tmp_path / "c", "resnet1d18-w4", leads=leads, fs=400.0, n_samples=2000, crop=800, scaling="lead",
        standardisation=Standardisation((0.0,) * 3, (1.0,) * 3),
    )  # fmt: skip
    report = export_checkpoint(checkpoint, tmp_path / "model.onnx")
    assert report.agreement.holds
    signals = 7 * millivolts(3, 3, 2000) - 2
    expected = by_torch(checkpoint, signals)[1]
    assert np.ptp(expected) > 0.01
    (probability,) = open_session(str(report.model)).run(["probability"], {"ecg": signals})
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    facts = open_model(report.model).facts
    assert (facts.crop, facts.scaling, facts.contract.n_samples) == (800, "lead", 2000)
    card = report.card.read_text()
    assert "inside the model, crops of 2 s, averaged; each lead scaled by itself" in card


def scale_away(model, facts, network):
    """Lose the standard deviation of a lead."""
    for initializer in model.graph.initializer:
        if initializer.name == "std":
            values = onnx.numpy_helper.to_array(initializer).copy()
            values[3] *= 1.2
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, "std"))


def temperature_away(model, facts, network):
    """Report the sigmoid of the logits themselves."""
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.input[0] = "logits"


def one_weight_away(model, facts, network):
    """Change one bias of the last layer by a thousandth."""
    for initializer in model.graph.initializer:
        if initializer.name == "network.head.bias":
            values = onnx.numpy_helper.to_array(initializer).copy()
            values[1] += 3e-3
            initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))


def not_a_number(model, facts, network):
    """A weight that is not a number."""
    for initializer in model.graph.initializer:
        if initializer.name == "network.head.bias":
            initializer.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), initializer.name))


def invalid(model, facts, network):
    """A node that no operator set has."""
    model.graph.node[0].op_type = "Subtract"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (scale_away, "the model is not the network"),
        (temperature_away, "the model is not the network"),
        (one_weight_away, "the model is not the network"),
        (not_a_number, "differ by at most nan"),
        (invalid, "not valid ONNX"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_model_that_differs_is_not_written(spoil, says, exported, tmp_path, monkeypatch):
    whole = onnx.load(exported / "model.onnx")

    def spoilt(network, facts, deployed):
        before = whole.SerializeToString()
        spoil(whole, facts, network)
        assert whole.SerializeToString() != before
        return whole.SerializeToString()

    monkeypatch.setattr(engine.deploy.export, "to_onnx", spoilt)
    with pytest.raises(ExportError, match=says) as failure:
        export_checkpoint(exported / "checkpoint", tmp_path / "out" / "model.onnx")
    assert "nothing was written" in str(failure.value)
    assert names(tmp_path) == []


def test_wrong_gates_of_a_recurrent_layer_are_found(checkpoint_writer, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.deploy.onnx_recurrent._GATES", {"GRU": (0, 1, 2)})
    with pytest.raises(ExportError, match="not the network"):
        export_checkpoint(checkpoint_writer(tmp_path / "c", "gru-w4"), tmp_path / "model.onnx")
    assert names(tmp_path) == ["c"]


def test_own_records_are_compared_on_too(exported, built, tmp_path, monkeypatch):
    seen = []
    compare = engine.deploy.export.compare

    def watched(model, network, facts, batches, tolerance):
        seen.extend(batches)
        return compare(model, network, facts, batches, tolerance)

    monkeypatch.setattr(engine.deploy.export, "compare", watched)
    own = millivolts(300)
    report = export_checkpoint(exported / "checkpoint", tmp_path / "model.onnx", own_records=own)
    assert report.agreement.records == 266 + 300
    assert [len(batch) for batch in seen] == [1, 2, 7, 256, 256, 44]
    np.testing.assert_array_equal(np.concatenate(seen[4:]), own)


def test_a_file_that_is_there_is_replaced_only_by_force(exported, built, tmp_path):
    for name in FILES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(TargetExistsError, match=name):
            export_checkpoint(exported / "checkpoint", folder / "model.onnx")
        assert names(folder) == [name]
        assert (folder / name).read_text() == "mine"
    export_checkpoint(exported / "checkpoint", folder / "model.onnx", force=True)
    assert [(folder / name).read_bytes() for name in FILES] == [(exported / name).read_bytes() for name in FILES]


def test_a_target_that_cannot_be_written_is_refused_before_the_work(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.deploy.export, "to_onnx", None)
    (tmp_path / "file").write_text("")
    for target, says in ((tmp_path / "file" / "model.onnx", "not a folder"), (tmp_path, "is a folder")):
        with pytest.raises(ExportError, match=says):
            export_checkpoint(exported / "checkpoint", target)
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_no_half_written_file(exported, built, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def full(path, content):
        write_bytes(path, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export_checkpoint(exported / "checkpoint", tmp_path / "model.onnx")
    assert names(tmp_path) == []


def test_a_name_that_is_too_long_leaves_nothing(exported, built, tmp_path):
    with pytest.raises(ExportError, match="too long"):
        export_checkpoint(exported / "checkpoint", tmp_path / f"{'m' * 250}.onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize("part", ["checkpoint.json", "weights.safetensors"])
def test_a_checkpoint_with_a_missing_or_altered_part_is_refused(part, checkpoint_writer, tmp_path):
    checkpoint = checkpoint_writer(tmp_path / "c", "gru-w4")
    content = (checkpoint / part).read_bytes()
    for damage in (content[:-3], content.replace(b"1", b"2", 1), None):
        if damage is None:
            (checkpoint / part).unlink()
        else:
            (checkpoint / part).write_bytes(damage)
        with pytest.raises(CheckpointError, match=str(checkpoint)):
            export_checkpoint(checkpoint, tmp_path / "out" / "model.onnx")
    assert names(tmp_path) == ["c"]
