"""Which curve answers, and which network is the best."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from advisor.answer.curve_choice import tasks_behind
from advisor.answer.recommend import NoEvidenceError, Question, UnknownNameError, recommend
from advisor.text.answer_json import to_document
from advisor.text.explanation import explain
from advisor.text.explanation_text import to_text
from advisor.text.table import to_table
from studies.files.curve import Curve, MeasuredCurve, PooledCurve
from studies.files.curves import CurvesFile, read_curves

TASKS = ("ptb-xl/form", "ptb-xl/rhythm", "ludb")


@pytest.fixture(scope="session")
def curves(curves_path: Path) -> CurvesFile:
    return read_curves(curves_path)


def of_task(curve: MeasuredCurve, task: str, **changes: object) -> MeasuredCurve:
    return replace(curve, task=task, **changes)


def pool(curve: MeasuredCurve, *tasks: str, **changes: object) -> PooledCurve:
    """A pooled curve as the evidence has it: no points, no costs of its own."""
    shared = {field.name: getattr(curve, field.name) for field in fields(Curve)}
    bare = {"task": "pooled", "points": {}, "cost": {}, "pretraining": None, "sources": (), "test_records": None}
    return PooledCurve(**{**shared, **bare, **changes}, tasks=tasks)


@pytest.fixture
def many(curves: CurvesFile) -> CurvesFile:
    """Three tasks of one network, and their pool."""
    cnn = curves.curves[0]
    of_tasks = [of_task(cnn, task, runs=cnn.runs + k) for k, task in enumerate(TASKS)]
    return replace(curves, curves=(*of_tasks, pool(cnn, *TASKS)))


def test_three_tasks_answer_together_for_a_new_dataset(many: CurvesFile):
    answer = recommend(Question(500, many.curves[0].arch), many)
    assert isinstance(answer.curve, PooledCurve)
    assert any("a new dataset's, judged from 3 tasks" in warning for warning in answer.warnings)
    assert not any("One task only" in warning for warning in answer.warnings)
    assert f"{answer.curve.runs} paired runs of 3 tasks" in to_table(answer)


def test_the_tasks_that_a_network_answers_from_are_those_of_its_answer(many: CurvesFile):
    arch = many.curves[0].arch
    elsewhere = of_task(many.curves[0], "ptb-xl/superclass@I", upstream="challenge-2017/rhythm")
    with_another = replace(many, curves=(*many.curves, elsewhere))
    assert (
        tasks_behind(arch, with_another) == recommend(Question(500, arch), with_another).curve.measured_tasks == TASKS
    )
    from_scratch = replace(many.curves[0], draws={"scratch": many.curves[0].draws["scratch"]})
    assert tasks_behind(arch, replace(many, curves=(from_scratch,))) == ()


def test_tasks_of_the_hospitals_of_the_pretraining_are_counted_where_they_are_not_all(many: CurvesFile):
    answer = recommend(Question(500, many.curves[0].arch), many)
    assert any("2 of the 3 tasks are of the hospitals" in warning for warning in answer.warnings)


def test_a_pooled_answer_takes_its_costs_from_the_network_s_runs(many: CurvesFile):
    answer = recommend(Question(1000, many.curves[0].arch), many)
    assert answer.cost["scratch"].records_seen == (20000 // 800) * 800
    assert answer.cost["pretraining"].cpu_seconds == pytest.approx(84.82)


def test_a_task_can_be_picked(many: CurvesFile):
    answer = recommend(Question(500, many.curves[0].arch, task="ludb"), many)
    assert (answer.curve.task, type(answer.curve)) == ("ludb", MeasuredCurve)
    assert any("other datasets are in the bands without --task" in warning for warning in answer.warnings)
    with pytest.raises(UnknownNameError, match="the nearest name is 'ludb'"):
        recommend(Question(500, many.curves[0].arch, task="lud"), many)


def test_a_task_that_reaches_further_than_its_pool_is_named(many: CurvesFile):
    *single, pooled = many.curves
    short = replace(many, curves=(*single, replace(pooled, sizes=(100, 250))))
    with pytest.raises(NoEvidenceError, match=r"5,000 is outside what its 3 tasks reach together; .* --task ludb"):
        recommend(Question(5000, pooled.arch), short)
    assert recommend(Question(5000, pooled.arch, task="ludb"), short).curve.task == "ludb"
    with pytest.raises(NoEvidenceError, match=r"9,000 is outside$"):
        recommend(Question(9000, pooled.arch), short)


def test_two_tasks_are_too_few_to_pool_and_the_one_with_most_runs_answers(many: CurvesFile):
    few = replace(many, curves=(*many.curves[:2], pool(many.curves[0], *TASKS[:2])))
    answer = recommend(Question(500, few.curves[0].arch), few)
    assert (answer.curve.task, type(answer.curve)) == ("ptb-xl/rhythm", MeasuredCurve)


def test_the_upstream_of_another_task_is_no_choice_to_make(many: CurvesFile):
    cnn = many.curves[0]
    two = replace(many, curves=(of_task(cnn, "a", upstream="x", runs=9), of_task(cnn, "b", upstream="y", runs=8)))
    assert recommend(Question(500, cnn.arch), two).curve.upstream == "x"
    assert recommend(Question(500, cnn.arch, upstream="y"), two).curve.task == "b"


def test_of_two_pools_the_one_with_other_labels_upstream_answers(many: CurvesFile):
    cnn = many.curves[0]
    pools = [pool(cnn, *TASKS, upstream=f"ptb-xl/{kind}") for kind in ("shared", "disjoint")]
    both = replace(many, curves=(*many.curves[:3], *pools))
    assert recommend(Question(500, cnn.arch), both).curve.upstream == "ptb-xl/disjoint"
    assert recommend(Question(500, cnn.arch, upstream="ptb-xl/shared"), both).curve.upstream == "ptb-xl/shared"


def test_of_several_pools_the_one_with_the_most_tasks_answers_and_none_has_to_be_chosen(many: CurvesFile):
    cnn = many.curves[0]
    kinds = ("ptb-xl/disjoint", "georgia/disjoint")
    pools = [pool(cnn, *TASKS, upstream=kind) for kind in kinds]
    wide = pool(cnn, *TASKS, "ptb-xl/superclass", upstream="ptb-xl")
    several = replace(many, curves=(*many.curves[:3], *pools, wide))
    assert recommend(Question(500, cnn.arch), several).curve.upstream == "ptb-xl"
    for kind in kinds:
        assert recommend(Question(500, cnn.arch, upstream=kind), several).curve.upstream == kind


def test_a_pooled_answer_explains_its_tasks(many: CurvesFile, curves_path: Path):
    answer = recommend(Question(500, many.curves[0].arch), many)
    explanation = explain(answer, curves_path)
    assert [one.task for one in explanation.tasks] == list(TASKS)
    text = to_text(answer, explanation)
    for task in TASKS:
        assert f"\n{task} " in text
    assert explanation.parameters == {}
    assert "paired runs on your own records" in text or answer.verdict != "not-enough-evidence"


def test_without_a_pretrained_network_no_upstream_has_to_be_chosen(many: CurvesFile):
    cnn = many.curves[0]
    both = replace(many, curves=(replace(cnn, upstream="x", runs=8), replace(cnn, upstream="y", runs=9)))
    answer = recommend(Question(500, cnn.arch, upstream="none"), both)
    assert answer.curve.upstream == "y"
    assert any("pre-trained on y; yours has yet to be made" in warning for warning in answer.warnings)


def flat(curve: MeasuredCurve, scratch: float, fine_tuned: float, **changes: object) -> MeasuredCurve:
    """A network whose arms always score the same."""
    draws = {
        arm: {"a": np.full(20, level), "b": np.zeros(20), "c": np.ones(20), "n0": np.zeros(20)}
        for arm, level in (("scratch", scratch), ("fine-tune", fine_tuned))
    }
    return replace(curve, draws=draws, **changes)


def with_networks(curves: CurvesFile, *measured: MeasuredCurve) -> CurvesFile:
    first = next(iter(curves.networks.values()))
    return replace(curves, curves=measured, networks={c.arch: replace(first, name=c.arch) for c in measured})


def test_without_a_network_the_best_answers_and_all_have_a_price(curves: CurvesFile):
    cnn = curves.curves[0]
    ours = with_networks(
        curves,
        flat(cnn, 0.80, 0.85, arch="one"),
        flat(cnn, 0.91, 0.905, arch="two"),
        flat(cnn, 0.88, 0.89, arch="three", cost={}),
    )
    answer = recommend(Question(500), ours)
    assert [(row.arch, row.arm) for row in answer.networks] == [
        ("two", "scratch"), ("three", "fine_tune"), ("one", "fine_tune")
    ]  # fmt: skip
    assert answer.curve.arch == "two"
    assert answer.verdict == "no-material-difference"
    assert answer.networks[0].score.mean == pytest.approx(0.91)
    assert answer.networks[0].seconds == answer.cost["scratch"].seconds
    assert answer.networks[1].seconds is None
    assert not any("stands for" in warning for warning in answer.warnings)


def test_networks_are_compared_on_the_same_tasks_only(curves: CurvesFile):
    cnn = curves.curves[0]
    ours = with_networks(
        curves,
        flat(cnn, 0.80, 0.85, arch="one"),
        flat(cnn, 0.81, 0.82, arch="two"),
        flat(cnn, 0.99, 0.99, arch="easy", task="ludb"),
        flat(cnn, 0.90, 0.99, arch="small", sizes=(10, 20, 30)),
    )
    answer = recommend(Question(500), ours)
    assert [row.arch for row in answer.networks] == ["one", "two"]
    notes = [warning for warning in answer.warnings if warning.startswith("Not compared")]
    assert any("easy was measured on other tasks" in note for note in notes)
    assert any("small was measured from 10 to 30 records" in note for note in notes)


def test_a_task_that_another_network_was_measured_on_is_no_unknown_name(curves: CurvesFile):
    cnn = curves.curves[0]
    ours = with_networks(
        curves,
        flat(cnn, 0.80, 0.85, arch="one"),
        flat(cnn, 0.81, 0.82, arch="two", task="ludb"),
        flat(cnn, 0.81, 0.82, arch="three", task="ludb"),
    )
    with pytest.raises(NoEvidenceError, match=r"^one was not measured on ludb; two and three were$"):
        recommend(Question(500, "one", task="ludb"), ours)
    with pytest.raises(NoEvidenceError, match=r"^two was not measured on ptb-xl/superclass; one was$"):
        recommend(Question(500, "two", task="ptb-xl/superclass"), ours)
    answer = recommend(Question(500, task="ludb"), ours)
    assert "Not compared: one was not measured on ludb; two and three were." in answer.warnings
    with pytest.raises(NoEvidenceError, match="two was measured from"):  # not that one was measured elsewhere
        recommend(Question(10**6, task="ludb"), ours)
    with pytest.raises(UnknownNameError, match="no task 'lubd'"):
        recommend(Question(500, "two", task="lubd"), ours)


def test_a_task_that_was_measured_from_scratch_alone_or_from_elsewhere_is_no_unknown_name(curves: CurvesFile):
    cnn = curves.curves[0]
    scratch = {"scratch": cnn.draws["scratch"]}
    ours = replace(curves, curves=(cnn, of_task(cnn, "ludb", draws=scratch), of_task(cnn, "form", upstream="mimic")))
    with pytest.raises(NoEvidenceError, match="was not measured on ludb fine-tuned and scored by auroc_macro"):
        recommend(Question(500, cnn.arch, task="ludb"), ours)
    with pytest.raises(NoEvidenceError, match=f"was not measured on form fine-tuned from {cnn.upstream} and"):
        recommend(Question(500, cnn.arch, task="form", upstream=cnn.upstream), ours)


def test_a_network_measured_on_some_of_the_pooled_tasks_is_said_to_have_fewer(curves: CurvesFile):
    cnn = curves.curves[0]
    pooled = [curve for arch in ("one", "two") for curve in (
        *(flat(cnn, 0.8, 0.85, arch=arch, task=task) for task in TASKS),
        pool(flat(cnn, 0.8, 0.85, arch=arch), *TASKS))]  # fmt: skip
    few = [flat(cnn, 0.8, 0.85, arch="three", task=task) for task in TASKS[:2]]
    answer = recommend(Question(500), with_networks(curves, *pooled, *few))
    assert "Not compared: three was measured on fewer tasks (2 of the 3)." in answer.warnings
    alone = [flat(cnn, 0.8, 0.85, arch=arch, task="ludb") for arch in ("four", "five", "six")]
    answer = recommend(Question(500), with_networks(curves, *alone, *pooled))
    assert "Not compared: one answers from more tasks." in answer.warnings


def test_without_any_network_in_reach_there_is_no_answer(curves: CurvesFile):
    with pytest.raises(NoEvidenceError, match="is outside"):
        recommend(Question(10**6), curves)


def test_a_curve_from_scratch_alone_has_no_answer(curves: CurvesFile):
    alone = replace(curves.curves[0], draws={"scratch": curves.curves[0].draws["scratch"]})
    with pytest.raises(NoEvidenceError, match="from scratch only"):
        recommend(Question(500, alone.arch), replace(curves, curves=(alone,)))


def test_of_two_precisions_the_one_with_more_tasks_then_with_more_runs_answers(curves: CurvesFile):
    cnn = curves.curves[0]
    bf16 = {"precision": "bf16", "devices": ("GPU test",)}
    few, many = of_task(cnn, "ludb", runs=40), of_task(cnn, "ludb", runs=60, **bf16)
    for found, precision in (((few, many), "bf16"), ((many, few), "bf16"), ((replace(few, runs=60), many), "float32")):
        answer = recommend(Question(500, cnn.arch), replace(curves, curves=found))
        assert answer.curve.precision == precision
    pools = (
        pool(cnn, *TASKS, runs=100),
        pool(cnn, *TASKS[:2], runs=900, **bf16),
        pool(cnn, *TASKS, "e", runs=90, **bf16),
    )
    assert recommend(Question(500, cnn.arch), replace(curves, curves=pools)).curve is pools[2]
    assert recommend(Question(500, cnn.arch), replace(curves, curves=pools[:2])).curve is pools[0]


def test_upstreams_of_another_precision_need_no_choice(curves: CurvesFile):
    cnn = curves.curves[0]
    other = replace(cnn, precision="bf16", upstream="mimic/all", runs=cnn.runs - 10)
    answer = recommend(Question(500, cnn.arch), replace(curves, curves=(cnn, other)))
    assert answer.curve is cnn
    assert not any("--upstream" in warning for warning in answer.warnings)


def test_the_precision_of_the_evidence_is_said(curves: CurvesFile, curves_path: Path):
    cnn = curves.curves[0]
    alone = recommend(Question(500, cnn.arch), curves)
    assert not any("float32" in warning for warning in alone.warnings), "as before, where there is one"
    bf16 = replace(cnn, precision="bf16", devices=("GPU test",), runs=cnn.runs + 10)
    both = recommend(Question(500, cnn.arch), replace(curves, curves=(*curves.curves, bf16)))
    assert "Scores are of training in bf16; runs in float32 are apart." in both.warnings
    for answer, precision, devices in ((alone, "float32", "CPU test, 1 thread of 2"), (both, "bf16", "GPU test")):
        evidence = to_document(answer)["evidence"]
        assert (evidence["precision"], evidence["devices"]) == (precision, [devices])
        said = explain(answer, curves_path)
        assert any(f"trained in {precision}" in limit for limit in said.limits)
        assert f"Trained in {precision} on {devices}." in " ".join(to_text(answer, said).split())


def test_networks_of_two_precisions_are_compared_and_that_is_said(curves: CurvesFile):
    cnn = curves.curves[0]
    ours = with_networks(curves, flat(cnn, 0.8, 0.85, arch="one"), flat(cnn, 0.9, 0.9, arch="two", precision="bf16"))
    answer = recommend(Question(500), ours)
    assert [row.precision for row in answer.networks] == ["bf16", "float32"]
    assert "The networks were trained in different precisions: two in bf16, one in float32." in answer.warnings
