"""Which strategy a training gets: as asked, or as the adviser says, and why."""

from dataclasses import replace
from pathlib import Path

import pytest

from advisor.answer.recommend import Question, Recommendation, recommend
from advisor.answer.strategy import Choice, NothingToStartFromError, choose_strategy
from studies.files.curves import CurvesFile, read_curves

NETWORK = "zoo-network"
CNN = "resnet1d18-w16"


@pytest.fixture(scope="module")
def curves(curves_path: Path) -> CurvesFile:
    """Fine-tuning gains much at 100 records and little at 2,000."""
    return read_curves(curves_path)


@pytest.fixture(scope="module")
def answer(curves: CurvesFile) -> Recommendation:
    return recommend(Question(100, CNN), curves)


def choose(answer: Recommendation | None, asked: str = "auto", network: str | None = NETWORK) -> Choice:
    return choose_strategy(asked, CNN, network, answer, "nobody measured it")


def test_what_is_asked_for_is_done():
    for asked in ("fine-tune", "frozen"):
        choice = choose(None, asked)
        assert (choice.strategy, choice.starts) == (asked, True)
        assert NETWORK in choice.why
    choice = choose(None, "scratch")
    assert (choice.strategy, choice.starts, choice.verdict) == ("scratch", False, None)


@pytest.mark.parametrize("asked", ["fine-tune", "frozen"])
def test_what_needs_a_network_is_refused_without_one(asked: str):
    with pytest.raises(NothingToStartFromError, match="give a checkpoint's folder with --from"):
        choose(None, asked, network=None)


def test_where_fine_tuning_is_advised_it_is_done(answer: Recommendation):
    choice = choose(answer)
    assert (choice.strategy, choice.verdict) == ("fine-tune", "fine-tune")
    assert choice.why == f"Fine-tuning {NETWORK}: {answer.why} (Evidence: synthetic.)"


def test_where_fine_tuning_is_advised_and_nothing_is_available_both_are_said(answer: Recommendation):
    choice = choose(answer, network=None)
    assert (choice.strategy, choice.starts, choice.verdict) == ("scratch", False, "fine-tune")
    assert "fine-tuning is advised, but no pre-trained resnet1d18-w16" in choice.why


@pytest.mark.parametrize("verdict", ["scratch", "no-material-difference"])
def test_where_nothing_is_gained_no_other_network_is_used(verdict, answer: Recommendation):
    choice = choose(replace(answer, verdict=verdict, why="So the evidence says."))
    assert (choice.strategy, choice.starts, choice.verdict) == ("scratch", False, verdict)
    assert choice.why == "From scratch: So the evidence says. (Evidence: synthetic.)"
    assert choice.recipe == answer.curve.recipe


def test_where_the_evidence_does_not_decide_a_network_that_is_available_is_used(answer: Recommendation):
    unsure = replace(answer, verdict="not-enough-evidence", why="So the evidence says.")
    choice = choose(unsure)
    assert (choice.strategy, choice.verdict) == ("fine-tune", "not-enough-evidence")
    assert f"{NETWORK}, since it is available and takes no more epochs: So the evidence says." in choice.why
    without = choose(unsure, network=None)
    assert (without.strategy, without.verdict) == ("scratch", "not-enough-evidence")
    assert "advised" not in without.why


def test_where_the_adviser_has_no_answer_a_network_that_is_available_is_used():
    choice = choose(None)
    assert (choice.strategy, choice.verdict) == ("fine-tune", None)
    assert (
        "since it is available and takes no more epochs: The adviser has no answer: nobody measured it." in choice.why
    )
    without = choose(None, network=None)
    assert without.strategy == "scratch"
    assert f"no pre-trained {CNN} for these leads at this rate and length is available" in without.why
