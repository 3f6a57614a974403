"""The comparison of a model with its network, on numbers that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.checkpoints.checkpoint import load_network
from engine.deploy.inference import open_session
from engine.deploy.parity import Agreement, compare, synthetic_records

SAME = Agreement(266, 1e-4, 6e-7, 8e-7, 1330, 2, 0)


def test_what_agrees_holds():
    assert SAME.holds
    assert replace(SAME, probability_difference=1e-4, logit_difference=1e-4).holds
    assert "266 records" in SAME.sentence()
    assert "2 within 0.0001 of a threshold" in SAME.sentence()


@pytest.mark.parametrize("value", [1.01e-4, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["probability_difference", "logit_difference"])
def test_a_difference_beyond_the_tolerance_does_not_hold(name, value):
    assert not replace(SAME, **{name: value}).holds


def test_one_different_decision_does_not_hold():
    assert not replace(SAME, different_decisions=1).holds


def test_decisions_at_a_threshold_are_counted_and_not_compared(exported):
    network, facts = load_network(exported / "checkpoint")
    model = (exported / "model.onnx").read_bytes()
    records = synthetic_records(9, 12, 1000, 100.0)
    scaled = torch.from_numpy(facts.standardisation.apply(records))
    with torch.no_grad():
        probabilities = torch.sigmoid(network(scaled) / facts.temperature).numpy()
    upon = replace(facts, thresholds=(float(probabilities[4, 0]), 2e-9, 1 - 2e-9))
    found = compare(model, network, upon, [records], 1e-4)
    assert found.holds
    assert (found.decisions, found.records) == (27, 9)
    assert found.near_threshold == int((np.abs(probabilities - upon.thresholds) <= 1e-4).sum()) >= 1


def test_decisions_that_differ_away_from_a_threshold_are_counted(exported):
    network, facts = load_network(exported / "checkpoint")
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, -20)  # of no record a class
    records = synthetic_records(9, 12, 1000, 100.0)
    found = compare((exported / "model.onnx").read_bytes(), network, facts, [records], 1e-4)
    assert not found.holds
    (actual,) = open_session(str(exported / "model.onnx")).run(["probability"], {"ecg": records})
    assert found.different_decisions == int((actual >= facts.thresholds).sum()) > 0


def test_synthetic_records_look_like_ecgs_and_are_the_same_every_time():
    records = synthetic_records(64, 12, 1000, 100.0)
    assert records.shape == (64, 12, 1000)
    assert records.dtype == np.float32
    np.testing.assert_array_equal(records, synthetic_records(64, 12, 1000, 100.0))
    assert not records[0].any()
    spans = np.ptp(records[2:], axis=2)  # millivolt
    assert 0.5 < np.median(spans) < 3
    assert spans.max() < 10
    others = records[2:].reshape(62, -1)
    assert np.abs(np.corrcoef(others) - np.eye(62)).max() < 0.9  # no record twice


def test_synthetic_records_beat_at_the_rate_of_the_recording():
    (record,) = synthetic_records(3, 1, 5000, 500.0)[2:]
    beats = np.abs(np.fft.rfft(record[0] - record[0].mean()))
    fundamental = np.fft.rfftfreq(5000, 1 / 500.0)[5 + np.argmax(beats[5:400])]
    assert 40 / 60 <= fundamental <= 20
