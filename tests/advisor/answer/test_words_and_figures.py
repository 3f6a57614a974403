"""No sentence contradicts the figures that it prints, whatever is asked."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.answer.decision import DECISIVE, at_most, decide, decide_paid, explain, explain_paid, losing, probability
from advisor.answer.question import NoEvidenceError, UnknownNameError
from advisor.answer.recommend import Question, Recommendation, recommend
from advisor.answer.words import count, signed
from advisor.text.explanation import explain as gather
from advisor.text.explanation_text import to_text
from studies.files.curves import CurvesFile, read_curves
from studies.files.gain import Loss, summarise_gain
from studies.files.shipped import DEFAULT_CURVES

MARGINS = (0.002, 0.01, 0.03)
NUMBER = r"(?:just )?(under |over )?([\d.]+)"


@pytest.fixture(scope="module")
def curves() -> CurvesFile:
    return read_curves(DEFAULT_CURVES)


def contradictions(text: str, margin: float, verdict: str, pays: bool) -> list[str]:
    """Return what a text says of its figures that a reader of them would deny."""
    words = " ".join(text.split())
    found = [
        f"requires {needed}, has {had}"
        for needed, side, had in re.findall(rf"requires probability ([\d.]+); this has {NUMBER}", words)
        if float(had) >= float(needed) and side != "under "
    ]
    found += [
        f"at most {lost}, more than {limit}"
        for side, lost, limit in re.findall(rf"at most {NUMBER} \(90 %\), more than the ([\d.]+) that matters", words)
        if float(lost) <= float(limit) and side != "over "
    ]
    if verdict == "no-material-difference":
        (lost,) = re.findall(r"either loses at most ([\d.]+) against", words) or ["0"]
        found += [f"either loses {lost} of {margin}"] * (float(lost) > margin)
    for mean, bound in re.findall(r"([\d.]+) on average, at most ([\d.]+) \(90 %\)", words):
        found += [f"{mean} on average, at most {bound}"] * (float(mean) > float(bound))
    if verdict == "not-enough-evidence" and not pays:
        for side, share in re.findall(rf"(?:gain|loss) > [\d.]+: {NUMBER}", words):
            found += [f"{share} and undecided"] * (float(share) >= DECISIVE and side != "under ")
    if missed := re.search(r"is enough with probability ([\d.]+): none reaches it with probability (.*\))", words):
        for share in re.findall(r"(?:^|, )([\d.]+) \(", missed[2]):
            found += [f"missed with {share}"] * (round(float(share), 6) <= round(1 - float(missed[1]), 6))
    return found + ["a zero with a sign"] * bool(re.search(r"more: -0\.000", words))


def shown(answer: Recommendation) -> str:
    return to_text(answer, gather(answer, DEFAULT_CURVES))


@pytest.mark.parametrize("arch", ["cnn", "rnn", None])
def test_no_answer_of_the_evidence_contradicts_its_figures(curves: CurvesFile, arch: str | None):
    tasks = (None, "ptb-xl/superclass", "ptb-xl/rhythm", "ludb/diagnoses")
    asked = 0
    for n, margin, task, upstream in product((30, 130, 747, 5000), MARGINS[:2], tasks, (None, "none")):
        question = Question(n, arch, margin=margin, task=task, upstream=upstream, target=0.9)
        try:
            answer = recommend(question, curves)
        except (NoEvidenceError, UnknownNameError):
            continue
        asked += 1
        assert contradictions(shown(answer), margin, answer.verdict, upstream == "none") == [], question
    assert asked > 20


def test_a_contradiction_would_be_seen():
    wrong = (
        "requires probability 0.8; this has 0.80; more",
        "at most 0.010 (90 %), more than the 0.01 that matters",
        "0.002 on average, at most 0.001 (90 %)",
        "no number up to 80 is enough with probability 0.8: none reaches it with probability 0.20 (fine-tuned)",
        "40 more: -0.000 fine-tuned",
    )
    assert all(len(contradictions(text, 0.01, "fine-tune", False)) == 1 for text in wrong)
    assert contradictions("gain > 0.01: 0.80", 0.01, "not-enough-evidence", False)
    assert not contradictions("gain > 0.01: 0.797", 0.01, "not-enough-evidence", False)
    assert not contradictions("requires probability 0.8; this has just under 0.8;", 0.01, "scratch", True)


@given(
    above=st.integers(0, 2000),
    low=st.floats(-0.0301, 0.0301),
    high=st.floats(-0.0301, 0.0301),
    margin=st.sampled_from((*MARGINS, 0.0125)),
)
def test_no_reason_contradicts_its_figures_on_any_border(above: int, low: float, high: float, margin: float):
    gain = np.where(np.arange(2000) < above, high, low)
    verdict = decide(gain, margin)
    assert contradictions(explain(100, verdict, gain, margin, "more"), margin, verdict, False) == []
    paid = decide_paid(gain, margin, None)
    assert contradictions(explain_paid(100, paid, gain, margin, "more"), margin, paid, True) == []
    found = summarise_gain(gain, margin)
    row = f"gain > {margin:g}: {probability(found.p_above_margin)} loss > {margin:g}: "
    assert contradictions(row + probability(found.p_below_margin), margin, verdict, False) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.5, "0.50"), (0.8, "0.80"), (0.8004, "0.80"), (0.796, "0.796"), (0.79996, "0.79996"),
        (0.8 - 1e-9, "just under 0.8"), (0.9496, "0.9496"), (0.647, "0.647"), (0.65, "0.65"),
        (0.2, "0.20"), (0.204, "0.204"), (0.2 + 1e-9, "just over 0.2"),
        (0.999, "over 0.99"), (0.001, "under 0.01"),
    ],
)  # fmt: skip
def test_a_probability_reads_as_on_its_side_of_what_a_verdict_requires(value: float, says: str):
    assert probability(value) == says


@pytest.mark.parametrize(
    ("loss", "says"),
    [(0.0104, "0.0104"), (0.00996, "0.010"), (0.01, "0.010"), (0.012, "0.012"), (0.01 + 1e-9, "just over 0.01")],
)
def test_a_loss_reads_as_above_the_margin_where_it_is(loss: float, says: str):
    assert at_most(loss, 0.01) == says


def test_a_mean_above_the_bound_of_nine_in_ten_is_said_to_be_so():
    assert losing(Loss(0.001, 0.0), 0.01) == "0.001 on average, though in 90 % at most 0.000"
    assert losing(Loss(0.0004, 0.0003), 0.01) == "0.000 on average, at most 0.000 (90 %)"


def test_a_difference_that_rounds_to_nothing_has_no_sign():
    assert [signed(value) for value in (-0.0004, 0.0004, -0.0006, 0.012)] == ["0.000", "0.000", "-0.001", "+0.012"]


def test_one_of_a_kind_is_singular():
    numbers = [count(n, noun) for n, noun in ((1, "class"), (2, "class"), (1, "pair"), (1200, "task"))]
    assert numbers == ["1 class", "2 classes", "1 pair", "1,200 tasks"]
