"""A checkpoint comes back as it was saved, or is refused with one sentence that names the file."""

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from engine.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointFacts,
    Standardisation,
    load_checkpoint,
    load_network,
    save_checkpoint,
)
from models.registry import create_network

FACTS = CheckpointFacts(
    arch="resnet1d18-w4",
    task="synthetic/rhythm",
    classes=("AFIB", "sinus rhythm, \u00e9"),
    leads=("I", "II", "V1"),
    fs=100.0,
    n_samples=250,
    standardisation=Standardisation(mean=(0.0, -0.1, 1 / 3), std=(1.0, 0.2, 5e-4)),
    recipe={"name": "tuned", "learning_rate": 3e-3, "batch_size": 32},
    data_hash="0123abcd",
    metrics={"auroc_macro": 0.9125},
)
WHOLE = replace(
    FACTS,
    strategy="fine-tune",
    upstream="synthetic/all",
    thresholds=(0.25, 1 / 3),
    temperature=1.7,
    n_records=500,
    source={"name": "synthetic", "version": "1", "licence": "Apache-2.0", "url": "", "citation": ""},
    codes={"AFIB": "164889003"},
    evaluation={"auroc_macro": 0.91, "left_out": [], "classes": {"AFIB": {"auroc": None}}},
    subgroups={"sex": {"female": {"n": 60, "auroc_macro": 0.9}}},
    versions={"torch": "2.13.0"},
    created="2026-01-01T00:00:00+00:00",
    record={"seconds": 12.5, "device": "CPU", "folds": [1, 2]},
    crop=125,
    scaling="lead",
)
ZOO = Path(__file__).parents[3] / "models" / "zoo"
OPTIONAL = [field.name for field in fields(CheckpointFacts)][10:]  # since the second schema


@pytest.fixture
def network() -> nn.Module:
    """A network whose every weight and running statistic differs from a new one's."""
    network = create_network("resnet1d18-w4", n_leads=3, n_classes=2, n_samples=250)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(torch.randint(7, 99, value.shape, generator=generator) / 7)
    return network


@pytest.fixture
def saved(network: nn.Module, tmp_path: Path) -> Path:
    root = tmp_path / "run"
    save_checkpoint(network, FACTS, root)
    return root


def edit(saved: Path, change: Callable[[dict], object]) -> None:
    document = json.loads((saved / "checkpoint.json").read_text(encoding="utf-8"))
    change(document)
    (saved / "checkpoint.json").write_text(json.dumps(document), encoding="utf-8")


def forge(saved: Path, change: Callable[[dict], object] = lambda _document: None) -> None:
    """Edit as one does who knows the hashes: they fit again, of the weights too."""

    def change_and_sign(document: dict) -> None:
        change(document)
        document["sha256"] = hashlib.sha256((saved / "weights.safetensors").read_bytes()).hexdigest()
        rest = {name: value for name, value in document.items() if name != "document_hash"}
        document["document_hash"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    edit(saved, change_and_sign)


def make_first_schema(document: dict) -> None:
    document["schema_version"] = 1
    for name in ("document_hash", *OPTIONAL):
        document.pop(name, None)


def refusal(root: Path) -> str:
    with pytest.raises(CheckpointError) as failure:
        load_checkpoint(root)
    return str(failure.value)


def test_weights_and_facts_come_back_as_they_were_saved(network, saved):
    checkpoint = load_checkpoint(saved)
    weights, facts = checkpoint.weights, checkpoint.facts
    assert facts == FACTS
    assert weights.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert weights[name].dtype == value.dtype, name
        assert torch.equal(weights[name], value), name


def test_facts_given_in_full_come_back_as_they_were_saved(network, tmp_path):
    save_checkpoint(network, WHOLE, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").facts == WHOLE
    assert all(getattr(WHOLE, name) != getattr(FACTS, name) for name in OPTIONAL), "none is at its default here"


def test_how_a_network_reads_records_is_written_where_it_is_not_as_they_are(network, saved, tmp_path):
    document = json.loads((saved / "checkpoint.json").read_text())
    assert not {"crop", "scaling"} & document.keys()
    save_checkpoint(network, WHOLE, tmp_path / "run")
    document = json.loads((tmp_path / "run" / "checkpoint.json").read_text())
    assert (document["crop"], document["scaling"]) == (125, "lead")
    forge(tmp_path / "run", lambda document: document.update(crop=251))
    assert "has crops of 251 samples for records of 250" in refusal(tmp_path / "run")
    forge(tmp_path / "run", lambda document: document.update(crop=125, scaling="none"))
    assert "has a wrong scaling: 'none' is none of set, record, lead" in refusal(tmp_path / "run")


def test_thresholds_that_were_not_chosen_are_one_half_each():
    assert FACTS.class_thresholds == (0.5, 0.5)
    assert WHOLE.class_thresholds == (0.25, 1 / 3)


def test_a_checkpoint_of_the_first_schema_is_read_with_defaults(saved):
    edit(saved, make_first_schema)
    assert load_checkpoint(saved).facts == FACTS
    assert load_network(saved)[1].class_thresholds == (0.5, 0.5)


def test_the_first_schema_with_a_field_of_the_second_is_refused(saved):
    edit(saved, make_first_schema)
    edit(saved, lambda document: document.update(temperature=2.0))
    assert "temperature" in refusal(saved)


@pytest.mark.parametrize("document", sorted(ZOO.glob("*/checkpoint.json")), ids=lambda path: path.parent.name)
def test_the_shipped_checkpoints_are_read(document):
    network, facts = load_network(document.parent)
    signals = torch.zeros(1, len(facts.leads), facts.n_samples)
    with torch.inference_mode():
        assert network(signals).shape == (1, len(facts.classes))


def test_a_metric_that_cannot_be_given_is_null_on_disk(network, tmp_path):
    save_checkpoint(network, replace(FACTS, metrics={"auroc_macro": float("nan"), "brier": 0.2}), tmp_path / "run")
    assert '"auroc_macro": null' in (tmp_path / "run" / "checkpoint.json").read_text()
    metrics = load_checkpoint(tmp_path / "run").facts.metrics
    assert np.isnan(metrics["auroc_macro"])
    assert metrics["brier"] == 0.2


def test_a_recurrent_network_comes_back_as_it_was_saved(tmp_path):
    network = create_network("gru-w4", n_leads=3, n_classes=2)
    save_checkpoint(network, replace(FACTS, arch="gru-w4"), tmp_path / "run")
    weights = load_checkpoint(tmp_path / "run").weights
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_a_checkpoint_is_two_files_and_its_folder_is_made(network, tmp_path):
    save_checkpoint(network, FACTS, tmp_path / "not" / "there" / "yet")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["not/there/yet/checkpoint.json", "not/there/yet/weights.safetensors"]


def test_a_checkpoint_that_is_there_already_is_replaced_not_merged(saved):
    (saved / "left-over.txt").write_text("of the last run")
    other = create_network("gru-w4", n_leads=3, n_classes=2)
    save_checkpoint(other, replace(FACTS, arch="gru-w4"), saved)
    checkpoint = load_checkpoint(saved)
    weights, facts = checkpoint.weights, checkpoint.facts
    assert facts.arch == "gru-w4"
    assert weights.keys() == other.state_dict().keys()
    assert sorted(path.name for path in saved.iterdir()) == ["checkpoint.json", "weights.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["run"]


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(network, saved):
    with pytest.raises(TypeError):
        save_checkpoint(network, replace(FACTS, recipe={"not": {"json"}}), saved)
    assert load_checkpoint(saved).facts == FACTS
    assert [path.name for path in saved.parent.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"thresholds": (0.5,)}, "1 thresholds for 2 classes", id="a threshold too few"),
        pytest.param({"temperature": float("nan")}, "temperature", id="no temperature"),
        pytest.param({"evaluation": {"ece": float("nan")}}, "evaluation", id="an evaluation with NaN"),
        pytest.param({"arch": "resnet1d19"}, "resnet1d19", id="no such network"),
    ],
)
def test_facts_that_could_not_be_read_back_are_not_saved(network, saved, change, named):
    with pytest.raises(CheckpointError, match=named) as failure:
        save_checkpoint(network, replace(FACTS, **change), saved)
    assert str(saved) in str(failure.value)
    assert load_checkpoint(saved).facts == FACTS


@pytest.mark.parametrize("position", [100, -1])
def test_one_changed_byte_of_the_weights_is_refused(saved, position):
    content = bytearray((saved / "weights.safetensors").read_bytes())
    content[position] ^= 1
    (saved / "weights.safetensors").write_bytes(content)
    assert str(saved / "weights.safetensors") in refusal(saved)
    assert "altered" in refusal(saved)


def test_weights_cut_short_are_refused(saved):
    content = (saved / "weights.safetensors").read_bytes()
    (saved / "weights.safetensors").write_bytes(content[:-5])
    assert str(saved / "weights.safetensors") in refusal(saved)


@pytest.mark.parametrize("keep", [0, 7, 200, -5], ids=["empty", "no length", "half a header", "a tensor cut short"])
def test_weights_cut_short_are_refused_even_when_their_hash_fits(saved, keep):
    content = (saved / "weights.safetensors").read_bytes()
    (saved / "weights.safetensors").write_bytes(content[:keep])
    forge(saved)
    assert f"{saved / 'weights.safetensors'} is not a safetensors file" in refusal(saved)


class Explosive:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_executed(saved):
    (saved / "weights.safetensors").write_bytes(pickle.dumps(Explosive()))
    assert "altered" in refusal(saved)
    forge(saved)
    assert "not a safetensors file" in refusal(saved)


def test_a_torch_file_in_place_of_the_weights_is_refused(network, saved):
    torch.save(network.state_dict(), saved / "weights.safetensors")
    forge(saved)
    assert "not a safetensors file" in refusal(saved)


def test_weights_without_a_recorded_hash_are_refused(saved):
    edit(saved, lambda document: document.pop("sha256"))
    assert str(saved / "weights.safetensors") in refusal(saved)


@pytest.mark.parametrize("name", ["checkpoint.json", "weights.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert name in refusal(saved)
    assert str(saved) in refusal(saved)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused_by_name(saved):
    assert str(saved / "weights.safetensors") in refusal(saved / "weights.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"schema_version": 1, "arch": "resn', id="cut short"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"task": "\xff"}', id="not UTF-8"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[" * 100_000, id="nested without end"),
    ],
)
def test_a_damaged_json_file_is_refused_by_name(saved, content):
    (saved / "checkpoint.json").write_bytes(content)
    assert str(saved / "checkpoint.json") in refusal(saved)


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_another_schema_is_refused(saved, version):
    edit(saved, lambda document: document.update(schema_version=version))
    assert str(saved) in refusal(saved)
    assert "schema" in refusal(saved)


def test_a_missing_schema_is_refused_by_the_name_of_the_file(saved):
    edit(saved, lambda document: document.pop("schema_version"))
    assert str(saved / "checkpoint.json") in refusal(saved)


def test_a_newer_schema_is_refused_as_such(saved):
    forge(saved, lambda document: document.update(schema_version=3))
    assert "schema 3, and this ecgadvise reads 1 to 2; a newer ecgadvise wrote it" in refusal(saved)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(lambda document: document.pop("recipe"), "lacks recipe", id="a missing field"),
        pytest.param(lambda document: document.update(architecture="gru"), "architecture", id="an unknown field"),
        pytest.param(lambda document: document.update(arch="resnet1d17"), "did you mean resnet1d18", id="network"),
        pytest.param(lambda document: document["thresholds"].append(0.5), "1 thresholds for 2", id="thresholds"),
        pytest.param(lambda document: document.update(temperature=float("nan")), "wrong temperature", id="NaN"),
    ],
)
def test_a_wrong_field_is_refused_by_the_name_of_the_file_even_when_the_hashes_fit(saved, change, named):
    forge(saved, change)
    assert refusal(saved).startswith(str(saved / "checkpoint.json"))
    assert named in refusal(saved)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda document: document.update(temperature=2.0), id="another temperature"),
        pytest.param(lambda document: document["classes"].reverse(), id="classes the other way round"),
        pytest.param(lambda document: document["metrics"].update(auroc_macro=0.99), id="a better score"),
        pytest.param(lambda document: document.pop("document_hash"), id="no hash"),
        pytest.param(lambda document: document.update(document_hash=None), id="a hash that is null"),
    ],
)
def test_facts_changed_by_hand_are_refused(saved, change):
    edit(saved, change)
    assert refusal(saved) == f"{saved / 'checkpoint.json'} was altered after it was written: its hash differs"


def test_the_layout_of_the_json_file_does_not_matter(saved):
    document = json.loads((saved / "checkpoint.json").read_text(encoding="utf-8"))
    turned = dict(reversed(document.items()))
    (saved / "checkpoint.json").write_text(json.dumps(turned, ensure_ascii=False, indent=7), encoding="utf-8")
    assert load_checkpoint(saved).facts == FACTS


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Path, bytes]:
    """A checkpoint that a property test may damage, and the bytes of its JSON file."""
    root = tmp_path_factory.mktemp("kept") / "run"
    save_checkpoint(create_network("resnet1d18-w4", n_leads=3, n_classes=2, n_samples=250), WHOLE, root)
    return root, (root / "checkpoint.json").read_bytes()


@given(st.data())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_a_changed_byte_of_the_json_file_is_refused_or_changes_nothing(kept, data):
    root, content = kept
    position = data.draw(st.integers(0, len(content) - 1))
    changed = content[:position] + bytes([data.draw(st.integers(0, 255))]) + content[position + 1 :]
    (root / "checkpoint.json").write_bytes(changed)
    try:
        assert load_checkpoint(root).facts == WHOLE
    except CheckpointError as error:
        assert str(root) in str(error)


def test_a_network_is_loaded_ready_to_predict_what_it_predicted(network, saved):
    loaded, facts = load_network(saved)
    assert facts == FACTS
    assert not any(module.training for module in loaded.modules())
    signals = torch.randn(4, 3, 250)
    with torch.inference_mode():
        assert torch.equal(loaded(signals), network.eval()(signals))


def test_loading_a_network_leaves_torchs_random_numbers_alone(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_network(saved)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "change", [{"arch": "resnet1d18-w8"}, {"arch": "gru-w4"}, {"classes": ("AFIB",)}, {"leads": ("I", "II")}], ids=str
)
def test_weights_that_do_not_fit_the_facts_are_refused(network, tmp_path, change):
    scaling = Standardisation((0.0,) * len(change.get("leads", "abc")), (1.0,) * len(change.get("leads", "abc")))
    save_checkpoint(network, replace(FACTS, standardisation=scaling, **change), tmp_path / "run")
    with pytest.raises(CheckpointError, match="do not fit") as failure:
        load_network(tmp_path / "run")
    assert str(tmp_path / "run") in str(failure.value)


def test_a_scaling_survives_the_way_to_disk_bit_for_bit(network, tmp_path):
    signals = np.random.default_rng(0).normal(0.1, 0.3, (20, 3, 100)).astype(np.float32)
    scaling = Standardisation.of(signals)
    save_checkpoint(network, replace(FACTS, standardisation=scaling), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").facts.standardisation == scaling
