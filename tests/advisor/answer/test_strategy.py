"""Which strategy a training gets: as asked, or as the adviser says, and why."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from advisor.answer.strategy import NothingToStartFromError, choose_strategy
from studies.files.curves import CurvesFile, read_curves

AT_HAND = {"zoo-network": Path("zoo/zoo-network")}
UPSTREAM = "ptb-xl/non-diagnostic"
CNN = "resnet1d18-w16"


@pytest.fixture(scope="module")
def curves(curves_path: Path) -> CurvesFile:
    """Fine-tuning gains much at 100 records and little at 2,000."""
    return read_curves(curves_path)


def choose(asked: str, n_records: int, curves: CurvesFile, at_hand=AT_HAND, arch: str = CNN, trained_on=UPSTREAM):
    return choose_strategy(asked, arch, n_records, at_hand, trained_on if at_hand else None, curves)


def test_what_is_asked_for_is_done(curves: CurvesFile):
    for asked in ("fine-tune", "frozen"):
        choice = choose(asked, 5000, curves)
        assert (choice.strategy, choice.upstream) == (asked, AT_HAND["zoo-network"])
        assert "zoo-network" in choice.why
    choice = choose("scratch", 100, curves)
    assert (choice.strategy, choice.upstream, choice.verdict) == ("scratch", None, None)


@pytest.mark.parametrize("asked", ["fine-tune", "frozen"])
def test_what_needs_a_network_is_refused_without_one(asked: str, curves: CurvesFile):
    with pytest.raises(NothingToStartFromError, match="give a checkpoint's folder with --from"):
        choose(asked, 100, curves, at_hand={})


def test_where_fine_tuning_is_advised_it_is_done(curves: CurvesFile):
    choice = choose("auto", 100, curves)
    assert (choice.strategy, choice.verdict) == ("fine-tune", "fine-tune")
    assert choice.why.startswith("Fine-tuning zoo-network: With 100 records")
    assert choice.why.endswith("(Evidence: synthetic.)")


def test_where_fine_tuning_is_advised_and_nothing_is_at_hand_both_are_said(curves: CurvesFile):
    choice = choose("auto", 100, curves, at_hand={})
    assert (choice.strategy, choice.upstream, choice.verdict) == ("scratch", None, "fine-tune")
    assert "fine-tuning is advised, but no pre-trained resnet1d18-w16" in choice.why


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch):
    """Let the adviser give a verdict of the test's."""

    def give(verdict: str) -> None:
        answer = SimpleNamespace(
            verdict=verdict,
            why="So the evidence says.",
            arms=(),
            curve=SimpleNamespace(recipe="tuned", measured_tasks=("s/t",)),
        )
        monkeypatch.setattr("advisor.answer.strategy.recommend", lambda _question, _curves: answer)

    return give


@pytest.mark.parametrize("verdict", ["scratch", "no-material-difference"])
def test_where_nothing_is_gained_no_other_network_is_used(verdict: str, say, curves: CurvesFile):
    say(verdict)
    choice = choose("auto", 500, curves)
    assert (choice.strategy, choice.upstream, choice.verdict) == ("scratch", None, verdict)
    assert choice.why == "From scratch: So the evidence says. (Evidence: synthetic.)"
    assert choice.recipe == "tuned"


def test_where_the_evidence_does_not_decide_a_network_at_hand_is_used(say, curves: CurvesFile):
    say("not-enough-evidence")
    choice = choose("auto", 500, curves)
    assert (choice.strategy, choice.verdict) == ("fine-tune", "not-enough-evidence")
    assert "zoo-network, since it is available and takes no more epochs: So the evidence says." in choice.why
    without = choose("auto", 500, curves, at_hand={})
    assert (without.strategy, without.verdict) == ("scratch", "not-enough-evidence")
    assert "advised" not in without.why


@pytest.mark.parametrize(
    ("n_records", "arch"), [(1_000_000, CNN), (500, "resnet1d18-w4"), (500, "lstm")], ids=["beyond", "width", "other"]
)
def test_where_the_evidence_does_not_reach_a_network_at_hand_is_used(n_records: int, arch: str, curves: CurvesFile):
    choice = choose("auto", n_records, curves, arch=arch)
    assert (choice.strategy, choice.verdict) == ("fine-tune", None)
    assert "since it is available and takes no more epochs: The adviser has no answer: " in choice.why
    without = choose("auto", n_records, curves, at_hand={}, arch=arch)
    assert without.strategy == "scratch"
    assert f"no pre-trained {arch} for these leads at this rate and length is available" in without.why


def test_the_advice_is_about_the_upstream_at_hand_where_the_evidence_has_it(curves: CurvesFile):
    assert choose("auto", 100, curves).why == choose("auto", 100, curves, trained_on="mimic/all").why
