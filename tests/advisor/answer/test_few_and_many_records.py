"""Numbers of records near the ends of the evidence, and beyond: what is said of what an answer rests on."""

from dataclasses import replace

import pytest

from advisor.answer.question import NoEvidenceError
from advisor.answer.recommend import Question, recommend
from advisor.answer.scores import Reach
from advisor.answer.words import within_reach
from advisor.text.explanation import explain
from advisor.text.explanation_text import to_text
from advisor.text.table import target_rows, to_table
from studies.files.arms import ARMS
from studies.files.curve import Curve, PooledCurve
from studies.files.curves import CurvesFile, read_curves
from studies.files.shipped import DEFAULT_CURVES


@pytest.fixture(scope="module")
def curves() -> CurvesFile:
    return read_curves(DEFAULT_CURVES)


def extrapolated(curves: CurvesFile, n: int, **options: object) -> list[str]:
    warnings = recommend(Question(n, "cnn", **options), curves).warnings
    return [said for said in warnings if said.startswith(("Extrapolated", "Runs of"))]


def test_the_range_that_an_answer_rests_on_is_that_of_its_runs(curves: CurvesFile):
    usual = "records from runs with 100 to 2,000"
    few = "9 of the 24 tasks were run with as few as 25."
    assert extrapolated(curves, 30) == [f"Extrapolated to 30 {usual}; {few}"]
    assert extrapolated(curves, 49) == [f"Extrapolated to 49 {usual}; {few}"]
    many = "2 of the 24 tasks were run with up to 4,000."
    assert extrapolated(curves, 5000) == [f"Extrapolated to 5,000 {usual}; {many}"]
    assert extrapolated(curves, 1000) == extrapolated(curves, 100) == extrapolated(curves, 99) == []
    ludb = "Extrapolated to 13 records from runs with 25 to 150."
    assert extrapolated(curves, 13, task="ludb/diagnoses") == [ludb]


def test_an_arm_that_was_run_with_other_numbers_of_records_is_named(curves: CurvesFile):
    found = extrapolated(curves, 5000, task="ptb-xl/superclass", upstream="ptb-xl/all")
    assert found[1:] == ["Runs of random convolutions were with 25 to 4,000 records."]
    one = next(curve for curve in curves.measured if curve.task == "ptb-xl/IMI")
    points = {**one.points, "linear-probe": {100: (0.7,), 250: (0.8,)}}
    few = replace(curves, curves=(replace(one, points=points),))
    assert extrapolated(few, 1000) == ["Runs of linear probe were with 100 to 250 records."]
    assert extrapolated(few, 200) == []


def test_the_limits_say_how_far_single_tasks_were_run(curves: CurvesFile):
    limits = explain(recommend(Question(500, "cnn"), curves), DEFAULT_CURVES).limits
    assert any("from 100 to 2,000 records (some from 25, some to 4,000); beyond 4 times" in one for one in limits)


@pytest.mark.parametrize(("n", "task"), [(2, None), (12, None), (20, None), (6, "ludb/diagnoses")])
def test_where_nothing_can_be_said_one_sentence_says_from_where_on_it_can(curves: CurvesFile, n: int, task: str | None):
    with pytest.raises(NoEvidenceError) as refused:
        recommend(Question(n, "cnn", task=task), curves)
    said = str(refused.value)
    reach = "(25 to 8,000)" if task is None else "(7 to 600)"
    assert f"beyond 4 times that range {reach}: {n} is outside" in said
    least = 25 if task is None else 7
    assert recommend(Question(least, "cnn", task=task), curves).support == "extrapolated"


@pytest.mark.parametrize("n", [25, 26, 49, 50, 99, 100])
def test_few_records_get_an_answer_whose_numbers_they_have(curves: CurvesFile, n: int):
    answer = recommend(Question(n, "cnn", target=0.6), curves)
    table = to_table(answer)
    assert f"{n} records" in table
    assert (answer.pilot_value is not None) == (n >= 40), "a pilot takes twenty records at half of them"
    assert all(flip is None or flip.n_records >= 25 for flip in answer.flips)


def test_a_number_under_the_evidence_s_reach_is_said_to_be_under_the_smallest_that_it_speaks_of(curves: CurvesFile):
    ludb = next(one for one in curves.measured if (one.task, one.arch) == ("ludb/diagnoses", "resnet1d18-w16"))
    assert ludb.reach == (7, 600)
    odd: Curve = replace(ludb, sizes=(27, 150))
    assert odd.reach == (7, 600)
    assert [within_reach(value, odd.reach[0]) for value in (6.0, 7.0, 8.0, None)] == [
        "under 7", "under 7", "8", "out of reach",
    ]  # fmt: skip


def test_a_target_that_no_number_is_enough_for_says_what_is_probable(curves: CurvesFile):
    answer = recommend(Question(1000, "cnn", target=0.92), curves)
    assert answer.target is not None
    missed = {arm.words: answer.target[arm.field].p_unreachable for arm in ARMS}
    assert all(0.2 < share < 0.99 for share in missed.values())
    ((name, said),) = target_rows(answer)
    shares = ", ".join(f"{share:.2f} ({arm})" for arm, share in missed.items())
    none = "no number up to 8,000 is enough with probability 0.8: none reaches it with probability {}"
    assert (name, said) == ("target 0.92", none.format(shares))
    assert " ".join(said.split()) in " ".join(to_text(answer, explain(answer, DEFAULT_CURVES)).split())
    ((_, low),) = target_rows(recommend(Question(1000, "cnn", target=0.75), curves))
    assert "none reaches it" not in low
    assert low.count(" records") == len(ARMS)
    mixed = replace(recommend(Question(1000, "cnn", target=0.92), curves), target={
        "fine_tune": Reach(25, 0.0, 12.5), "scratch": Reach(None, 0.2041, None),
    })  # fmt: skip
    assert dict(target_rows(mixed))["target 0.92"] == (
        "fine-tuned at most 25 records for 12.50; "
        "no number up to 8,000 is enough with probability 0.8: none reaches it with probability 0.204 (from scratch)"
    )


def falling(curve: Curve) -> bool:
    """Whether an arm's mean score falls by a thousandth or more between numbers beyond what was measured."""
    largest = max(curve.sizes)
    sizes = [largest * 4 ** (k / 12) for k in range(13)]
    means = [curve.scores(arm, sizes).mean(axis=0) for arm in curve.draws]
    return any(((mean[1:] - mean[:-1]) < -5e-4).any() for mean in means)


def test_no_expected_curve_falls_where_nothing_was_measured_to_fall(curves: CurvesFile):
    pools = [curve for curve in curves.curves if isinstance(curve, PooledCurve)]
    assert pools
    assert [curve.task for curve in curves.curves if falling(curve)] == []


@pytest.mark.parametrize("arch", ["cnn", "rnn", None])
@pytest.mark.parametrize("like", [None, "ptb-xl/CLBBB", "challenge-2017/rhythm"])
def test_more_labels_are_not_expected_to_lower_a_score(curves: CurvesFile, arch: str | None, like: str | None):
    for n in (500, 2000, 3000, 4000, 5000, 6500, 7900):
        more = recommend(Question(n, arch, task_like=like), curves).more_records
        assert more is None or more.added > -5e-4, (n, more)
