"""Foundation models are known by the names that people give them, and what is said of them is published."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.checkpoints.checkpoint import CheckpointFacts, Standardisation, load_checkpoint, save_checkpoint
from engine.records.contract import SignalContract
from engine.records.record import LEADS
from engine.training.starting_point import starting_point
from models import registry
from models.foundation_models import MODELS, describe_foundation_model
from models.registry import UnknownNetworkError, create_network, find_network, list_networks, register

PUBLISHED = Path(__file__).parents[2] / "studies" / "findings" / "published.csv"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ECG-FM", "ECG-FM"), ("ecg_fm", "ECG-FM"), ("ecgfm-ked", "ECGFM-KED"), ("ECG Founder", "ECGFounder"),
        ("HuBERT-ECG-base", "HuBERT-ECG"), ("someone/hubert-ecg-small", "HuBERT-ECG"), ("stmem", "ST-MEM"),
        ("Merl", "MERL"), ("ECG_JEPA", "ECG-JEPA"), ("xecg", "xECG"), ("DeepECG-SSL", "DeepECG"), ("clef", "CLEF"),
    ],
)  # fmt: skip
def test_a_foundation_model_is_known_whatever_its_case_and_hyphens(name: str, model: str):
    said = describe_foundation_model(name)
    assert said is not None
    assert said.startswith(f"{model} is a published foundation model, which this study did not measure")
    assert "its weights do not come with ecgadvise" in said
    with pytest.raises(UnknownNetworkError, match=model):
        find_network(name)


@pytest.mark.parametrize("name", ["", "resnet1d18", "ptb-xl/all", "ecg", "ecg-fmx", "merlin", "my-ecg-fm", "deep"])
def test_other_names_are_no_foundation_models(name: str):
    assert describe_foundation_model(name) is None


def test_no_registered_network_has_the_name_of_one():
    assert [name for name in list_networks() if describe_foundation_model(name)] == []


def test_every_number_said_is_one_of_the_published_ones():
    rows = list(csv.DictReader(PUBLISHED.read_text(encoding="utf-8").splitlines()))
    numbers = [(name, one) for name, known in MODELS.items() for one in known]
    assert numbers
    for name, one in numbers:
        found = {row["method"]: float(row["value"]) for row in rows
                 if (row["source"], row["task"], row["metric"]) == (one.source, one.task, "auroc_macro")}  # fmt: skip
        ours = [method for method in found if "fine-tuned" in method and (name in method or "BASE" in method)]
        other = [method for method in found if method in {"S4 scratch", "random init BASE"}]
        assert [found[method] for method in ours] == [pytest.approx(one.fine_tuned, abs=5e-4)]
        assert [found[method] for method in other] == [pytest.approx(one.compared, abs=5e-4)]
        said = describe_foundation_model(name)
        assert said is not None
        assert f"{one.fine_tuned:.3f} against {one.compared:.3f} on {one.task}" in said


def test_weights_of_a_network_of_one_s_own_are_started_from_as_the_sentence_says(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    class Mine(nn.Module):
        def __init__(self, n_leads: int, n_classes: int) -> None:
            super().__init__()
            self.encoder, self.head = nn.Conv1d(n_leads, 4, 9), nn.Linear(4, n_classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(x).mean(dim=2))

    @register("mine", family="cnn", width=4)
    def mine(n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        return Mine(n_leads, n_classes)

    network = create_network("mine", n_classes=3)
    scaling = Standardisation((0.0,) * 12, (1.0,) * 12)
    facts = CheckpointFacts("mine", "elsewhere/all", ("a", "b", "c"), LEADS, 100.0, 1000, scaling, {}, "", {})
    save_checkpoint(network, facts, tmp_path / "mine")
    start = starting_point(
        "fine-tune", "mine", SignalContract(LEADS, 100.0, 1000), 2, 0, load_checkpoint(tmp_path / "mine")
    )
    assert torch.equal(start.network.encoder.weight, network.encoder.weight)
    assert start.network.head.out_features == 2
