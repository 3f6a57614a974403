"""Whether what came in is like the test records: found where it is not, seldom where it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advisor.service.served_models.differences import LEVEL
from advisor.service.served_models.drift import LEAST_RECORDS, drift
from advisor.service.served_models.drift_answer import CANNOT_KNOW, Drift
from advisor.service.served_models.intake import Intake
from engine.deploy.inference import open_model
from engine.deploy.model_facts import ModelFacts
from tests.advisor.service.served_models.conftest import MADE, PUT, Served, draw, npz

SHAPE = np.array([0.55, 0.15, 0.08, 0.05, 0.04, 0.03, 0.03, 0.03, 0.02, 0.02])
CUT = 5  # the first bin at or above the threshold


@pytest.fixture(scope="module")
def facts(trained: Path) -> ModelFacts:
    return open_model(trained / "model.onnx").facts


def known(facts: ModelFacts, bins: dict[str, np.ndarray], **signals: int) -> ModelFacts:
    """Facts of a model whose test scores are in these bins; who is above the threshold has the class."""
    classes = {
        name: {"positives": int(n[CUT:].sum()), "negatives": int(n[:CUT].sum()), "sensitivity": 1.0, "specificity": 1.0}
        for name, n in bins.items()
    }
    record: dict[str, Any] = {"score_histogram": {name: n.tolist() for name, n in bins.items()}}
    record |= {"signals": signals} if signals else {}
    return replace(facts, classes=tuple(bins), evaluation={"classes": classes}, record=record)


def came(bins: dict[str, np.ndarray], **others: int) -> Intake:
    n = int(next(iter(bins.values())).sum())
    counts = {("records", ""): n, **{(what, ""): number for what, number in others.items()}}
    for name, found in bins.items():
        counts |= {(f"bin {k}", name): int(number) for k, number in enumerate(found)}
        counts["positive", name] = int(found[CUT:].sum())
        counts["millionths", name] = round(1e6 * float(found @ (np.arange(10) + 0.5) / 10))
    return Intake(None, None, 1, counts)


def draw_bins(rng: np.random.Generator, n: int, shape: np.ndarray = SHAPE) -> dict[str, np.ndarray]:
    return {name: rng.multinomial(n, shape) for name in ("A", "B", "C", "D")}


def test_records_of_the_same_distribution_are_seldom_said_to_differ(facts: ModelFacts):
    rng, draws = np.random.default_rng(5), 250
    found = [
        drift("m", known(facts, draw_bins(rng, 500), usable=900, remarked=90, unusable=9), came(
            draw_bins(rng, 120), noted=int(rng.binomial(120, 0.1)), unusable=int(rng.binomial(121, 0.01))))
        for _ in range(draws)
    ]  # fmt: skip
    assert {one.tests for one in found} == {10}
    assert np.mean([one.differs for one in found]) <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / draws) ** 0.5


def test_another_prevalence_is_found_and_named(facts: ModelFacts):
    rng = np.random.default_rng(6)
    bins = draw_bins(rng, 200)
    bins["B"] = rng.multinomial(200, SHAPE[::-1])
    found = drift("m", known(facts, draw_bins(rng, 500)), came(bins))
    assert found.differs
    assert found.verdict == f"differs: {'; '.join(found.differences)}"
    assert len(found.differences) == 2
    assert all(said.startswith(("B is decided", "the scores of B are")) for said in found.differences)
    a, b, *_ = found.classes
    assert (b.positive.expected or 0) < b.positive.lower < (b.positive.observed or 0) < b.positive.upper
    assert (a.scores.psi or 0) < (a.scores.usual_psi or 0) < (b.scores.psi or 0)
    assert (b.prevalence.test or 0) < 0.2 < (b.prevalence.mean_probability or 0)
    assert b.prevalence.from_decisions == pytest.approx(b.positive.observed)


def test_the_expected_share_of_decisions_is_that_of_the_test_records(facts: ModelFacts):
    for one in drift("m", facts, came({name: np.full(10, 10) for name in facts.classes})).classes:
        tested = facts.evaluation["classes"][one.name]
        share = tested["positives"] / (tested["positives"] + tested["negatives"])
        expected = tested["sensitivity"] * share + (1 - tested["specificity"]) * (1 - share)
        assert one.positive.expected == pytest.approx(expected)
        assert one.prevalence.test == pytest.approx(share)
        informed = tested["sensitivity"] + tested["specificity"] - 1
        adjusted = ((one.positive.observed or 0) + tested["specificity"] - 1) / informed if informed > 0 else None
        within = None if adjusted is None else pytest.approx(min(1, max(0, adjusted)))
        assert one.prevalence.from_decisions == within


def test_few_records_say_nothing(facts: ModelFacts):
    rng = np.random.default_rng(7)
    few = drift("m", known(facts, draw_bins(rng, 500)), came(draw_bins(rng, LEAST_RECORDS - 1, SHAPE[::-1])))
    assert (few.differs, few.tests, few.differences) == (None, 0, ())
    assert few.verdict == "too few records to say: 29 so far, and 30 are needed"
    assert few.classes[0].scores.reason == "fewer than 30 records"
    nothing = drift("m", facts, Intake(None, None, 0, {}))
    assert (nothing.differs, nothing.records, nothing.noted.observed) == (None, 0, None)


def test_a_model_without_such_facts_is_not_compared_and_says_why(facts: ModelFacts):
    old = replace(facts, record={}, evaluation={})
    found = drift("m", old, came({name: np.full(10, 10) for name in old.classes}))
    assert (found.differs, found.tests) == (None, 0)
    assert found.verdict.startswith("nothing to compare 100 records with")
    one = found.classes[0]
    assert (one.scores.psi, one.scores.expected, one.positive.expected, one.prevalence.test) == (None,) * 4
    assert one.scores.reason == "the model does not say how its test scores are distributed"
    assert one.prevalence.mean_probability == pytest.approx(0.5)


def test_a_model_of_an_earlier_version_is_compared_by_its_decisions_alone(facts: ModelFacts):
    earlier = replace(facts, record={})
    found = drift("m", earlier, came({name: np.array([0] * 9 + [100]) for name in earlier.classes}))
    assert (found.tests, found.differs) == (len(earlier.classes), True)


@pytest.mark.parametrize("histogram", [{"A": [1] * 9}, {"A": [-1] * 10}, {"A": "x"}, {"A": [0] * 10}, [], None, {}])
def test_a_histogram_that_is_none_is_not_used(facts: ModelFacts, histogram: Any):
    bins = {"A": np.full(10, 10)}
    odd = replace(known(facts, bins), record={"score_histogram": histogram})
    assert drift("m", odd, came(bins)).classes[0].scores.expected is None


def test_unusable_records_are_a_difference_even_where_no_other_came_in(facts: ModelFacts):
    rng = np.random.default_rng(8)
    model = known(facts, draw_bins(rng, 500), usable=990, unusable=10, remarked=0)
    counts = {("unusable", "too short"): 40, ("unusable", "other"): 5}
    found = drift("m", model, Intake(None, None, 1, counts))
    assert found.differs
    assert "no prediction was possible for 100.0 % of 45 records, 1.0 % of the training records" in found.verdict
    assert [(one.kind, one.records) for one in found.problems] == [("too short", 40), ("other", 5)]


def test_notes_stand_next_to_those_of_the_training_records(facts: ModelFacts):
    signals = {"usable": 200, "remarked": 60, "unusable": 0,
               "kinds": {"lead V1 is flat": 20, "# s long: the first # s are used": 40}}  # fmt: skip
    model = replace(facts, record={"signals": signals})
    counts = {("records", ""): 50, ("noted", ""): 10, ("note", "a flat lead"): 10}
    found = drift("m", model, Intake(None, None, 1, counts))
    assert [(one.kind, one.share, one.expected) for one in found.notes] == [
        ("a flat lead", 0.2, 0.1), ("longer than what is used", 0.0, 0.2),
    ]  # fmt: skip
    assert (found.noted.observed, found.noted.expected) == (0.2, 0.3)


def test_the_service_finds_flipped_signals_and_nothing_among_people_like_those_of_the_test(served: Served):
    signals = draw(256)
    assert served.predict(npz(signals[:150])).status_code == 200
    assert served.predict(npz(-signals), model=PUT).status_code == 200
    like, flipped = (served.client.get(f"/v1/models/{model}/drift").json() for model in (MADE, PUT))
    assert (like["differs"], like["records"], flipped["differs"], flipped["records"]) == (False, 150, True, 256)
    assert like["verdict"].startswith("no difference found in 150 records")
    assert flipped["verdict"].startswith("differs: ")
    assert (like["fs"], like["cannot_know"]) == ({"100 Hz": 150}, list(CANNOT_KNOW))
    assert list(like["leads"].values()) == [150]


def test_what_is_expected_is_what_the_test_records_gave(trained: Path, facts: ModelFacts):
    n = facts.evaluation["n_records"]
    for name, counts in facts.record["score_histogram"].items():
        assert (len(counts), sum(counts)) == (10, n), name
    assert facts.record["signals"] == {"usable": 700, "unusable": 0, "remarked": 0, "kinds": {}}
    found: Drift = drift("m", facts, came({name: np.full(10, 10) for name in facts.classes}))
    assert found.tests == 2 * len(facts.classes) + 2
