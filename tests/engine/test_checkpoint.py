"""A checkpoint comes back as it was saved, or is refused with one sentence that names the file."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.checkpoint import CheckpointError, CheckpointFacts, Standardisation, load_checkpoint, save_checkpoint
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


def refusal(root: Path) -> str:
    with pytest.raises(CheckpointError) as failure:
        load_checkpoint(root)
    return str(failure.value)


def test_weights_and_facts_come_back_as_they_were_saved(network, saved):
    weights, facts = load_checkpoint(saved)
    assert facts == FACTS
    assert weights.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert weights[name].dtype == value.dtype, name
        assert torch.equal(weights[name], value), name


def test_a_recurrent_network_comes_back_as_it_was_saved(tmp_path):
    network = create_network("gru-w4", n_leads=3, n_classes=2)
    save_checkpoint(network, replace(FACTS, arch="gru-w4"), tmp_path / "run")
    weights, _ = load_checkpoint(tmp_path / "run")
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_a_checkpoint_is_two_files_and_its_folder_is_made(network, tmp_path):
    save_checkpoint(network, FACTS, tmp_path / "not" / "there" / "yet")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["not/there/yet/checkpoint.json", "not/there/yet/weights.safetensors"]


def test_a_checkpoint_that_is_there_already_is_replaced_not_merged(saved):
    (saved / "left-over.txt").write_text("of the last run")
    other = create_network("gru-w4", n_leads=3, n_classes=2)
    save_checkpoint(other, replace(FACTS, arch="gru-w4"), saved)
    weights, facts = load_checkpoint(saved)
    assert facts.arch == "gru-w4"
    assert weights.keys() == other.state_dict().keys()
    assert sorted(path.name for path in saved.iterdir()) == ["checkpoint.json", "weights.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["run"]


def test_a_save_that_fails_leaves_the_old_checkpoint_and_nothing_else(network, saved):
    with pytest.raises(TypeError):
        save_checkpoint(network, replace(FACTS, recipe={"not": {"json"}}), saved)
    assert load_checkpoint(saved)[1] == FACTS
    assert [path.name for path in saved.parent.iterdir()] == ["run"]


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


@pytest.mark.parametrize("field", [field.name for field in fields(CheckpointFacts)])
def test_a_missing_field_is_refused_and_named(saved, field):
    edit(saved, lambda document: document.pop(field))
    assert str(saved / "checkpoint.json") in refusal(saved)
    assert field in refusal(saved)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(lambda document: document.update(architecture="gru"), "architecture", id="an unknown field"),
        pytest.param(lambda document: document["standardisation"].pop("std"), "std", id="no standard deviation"),
        pytest.param(lambda document: document.update(standardisation=[1, 2]), "", id="a list of scalings"),
    ],
)
def test_a_misnamed_field_is_refused_by_the_name_of_the_file(saved, change, named):
    edit(saved, change)
    assert str(saved / "checkpoint.json") in refusal(saved)
    assert named in refusal(saved)


@pytest.fixture
def signals() -> np.ndarray:
    """Three leads of different level and size in millivolt; the second never changes."""
    rng = np.random.default_rng(0)
    level, size = np.array([[5.0], [0.1], [-1.0]]), np.array([[0.3], [0.0], [2.0]])
    return (level + size * rng.normal(size=(20, 3, 100))).astype(np.float32)


def test_standardised_signals_have_zero_mean_and_unit_standard_deviation_in_each_lead(signals):
    standardised = Standardisation.of(signals).apply(signals)
    assert standardised.dtype == np.float32
    assert standardised.shape == signals.shape
    np.testing.assert_allclose(standardised.mean(axis=(0, 2), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=(0, 2), dtype=np.float64), [1, 0, 1], atol=1e-5)


def test_a_lead_that_never_changes_becomes_zero_and_keeps_the_divisor_one(signals):
    standardisation = Standardisation.of(signals)
    assert standardisation.std[1] == 1.0
    assert np.all(standardisation.apply(signals)[:, 1] == 0)


def test_the_scaling_of_the_training_records_is_applied_to_others_and_leaves_them_unchanged():
    standardisation = Standardisation(mean=(1.0, -2.0), std=(0.5, 4.0))
    others = np.array([[[1.0, 2.0], [2.0, -6.0]]], np.float32)
    before = others.copy()
    np.testing.assert_array_equal(standardisation.apply(others), [[[0.0, 2.0], [1.0, -1.0]]])
    np.testing.assert_array_equal(others, before)


def test_the_scaling_is_that_of_all_samples_of_all_records_together():
    signals = np.array([[[0.0, 0.0]], [[2.0, 2.0]]], np.float32)  # each record on its own never changes
    assert Standardisation.of(signals) == Standardisation(mean=(1.0,), std=(1.0,))


def test_a_scaling_survives_the_way_to_disk_bit_for_bit(network, signals, tmp_path):
    scaling = Standardisation.of(signals)
    save_checkpoint(network, replace(FACTS, standardisation=scaling), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run")[1].standardisation == scaling
