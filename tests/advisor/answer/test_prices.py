"""Targets, money, what changes the answer: each against a truth worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advisor.answer.recommend import Question, Recommendation, recommend
from studies.files.curve import Curve, PretrainingCost, TrainingCost
from studies.files.curves import CurvesFile, read_curves

HOUR = 3600.0


@pytest.fixture(scope="session")
def curves(curves_path: Path) -> CurvesFile:
    return read_curves(curves_path)


def law(a: float, b: float, c: float = 0.5, spread: float = 0.0, n_draws: int = 100) -> dict[str, np.ndarray]:
    """Draws of a - b n ** -c whose a are evenly spread over plus and minus ``spread``."""
    levels = a + spread * np.linspace(-1, 1, n_draws)
    return {"a": levels, **{name: np.full(n_draws, value) for name, value in (("b", b), ("c", c), ("n0", 0.0))}}


@pytest.fixture
def curve(curves: CurvesFile) -> Curve:
    """S(n) = 0.9 - n^-0.5 and F(n) = S(4 n); ten records a second, every record seen ten times; one hour upstream."""
    cost = TrainingCost("GPU test", 1, 10, 10, 0.0, 0.1, 0.5)
    return replace(
        curves.curves[0],
        draws={"scratch": law(0.9, 1.0), "fine-tune": law(0.9, 0.5)},
        cost={"scratch": cost, "fine-tune": cost},
        pretraining=PretrainingCost("GPU test", 36_000, HOUR),
    )


def ask(curves: CurvesFile, curve: Curve, n_records: int = 400, **options: object) -> Recommendation:
    return recommend(Question(n_records, curve.arch, **options), replace(curves, curves=(curve,)))


def test_a_target_takes_the_records_that_the_curve_says(curves: CurvesFile, curve: Curve):
    target = ask(curves, curve, target=0.85).target  # 0.05 = b n^-0.5
    assert target is not None
    assert target["scratch"].records == pytest.approx(400, abs=1)
    assert target["fine_tune"].records == pytest.approx(100, abs=1)
    assert target["scratch"].p_unreachable == 0
    assert target["scratch"].total_cost is None


def test_a_target_is_asked_for_with_probability_08(curves: CurvesFile, curve: Curve):
    uncertain = replace(curve, draws={**curve.draws, "scratch": law(0.9, 1.0, spread=0.02)})
    reach = ask(curves, uncertain, target=0.85).target["scratch"]
    scores = uncertain.scores("scratch", reach.records)[:, 0]
    fewer = uncertain.scores("scratch", reach.records - 1)[:, 0]
    assert (scores >= 0.85).mean() >= 0.8 > (fewer >= 0.85).mean()
    assert reach.records > 400  # the point estimate


def test_a_target_beyond_reach_is_unreachable_with_its_probability(curves: CurvesFile, curve: Curve):
    half = replace(curve, draws={**curve.draws, "scratch": law(0.9, 1.0, spread=0.02)})
    target = ask(curves, half, target=0.9, label_cost=1.0).target
    assert target["scratch"].records is None
    assert target["scratch"].total_cost is None
    never = 1 - (half.scores("scratch", 8000)[:, 0] >= 0.9).mean()
    assert target["scratch"].p_unreachable == pytest.approx(never)


def test_a_target_never_takes_fewer_records_than_the_evidence_speaks_of(curves: CurvesFile, curve: Curve):
    assert ask(curves, curve, target=0.6).target["fine_tune"].records == 25


def test_a_bill_adds_labels_and_machine(curves: CurvesFile, curve: Curve):
    answer = ask(curves, curve, label_cost=2.0, gpu_cost=9.0)  # 400 records seen ten times at ten a second: 400 s
    assert answer.money.scratch.labels == 800
    assert answer.money.scratch.machine == pytest.approx(1.0)
    assert answer.money.scratch.total == pytest.approx(801.0)
    assert answer.money.fine_tune == answer.money.scratch  # a pre-trained network that is available costs nothing


def test_a_pretraining_is_shared_by_its_uses(curves: CurvesFile, curve: Curve):
    alone = ask(curves, curve, upstream="none", label_cost=2.0, gpu_cost=9.0).money.fine_tune
    assert alone.pretraining == pytest.approx(9.0)
    assert alone.total == pytest.approx(810.0)
    shared = ask(curves, curve, uses=3, label_cost=2.0, gpu_cost=9.0).money.fine_tune
    assert shared.pretraining == pytest.approx(3.0)


def test_a_target_s_bill_counts_all_the_labels(curves: CurvesFile, curve: Curve):
    reach = ask(curves, curve, target=0.85, label_cost=2.0).target["fine_tune"]
    assert reach.total_cost == pytest.approx(2.0 * reach.records)


def test_the_asker_s_device_replaces_the_measured_one(curves: CurvesFile, curve: Curve):
    answer = ask(curves, curve, device_speed=1000.0, gpu_cost=9.0, label_cost=0.0)
    assert answer.cost["scratch"].gpu_seconds == pytest.approx(400)
    assert answer.cost["scratch"].your_seconds == pytest.approx(4)
    assert answer.cost["pretraining"].your_seconds == pytest.approx(36)
    assert answer.money.scratch.machine == pytest.approx(0.01)


def test_labels_saved_are_the_worth_in_records_in_money(curves: CurvesFile, curve: Curve):
    answer = ask(curves, curve, label_cost=2.0)
    assert answer.worth_in_records.median == pytest.approx(1200)  # F(400) = S(1600)
    assert answer.money.label_saving.median == pytest.approx(2400, abs=2)
    assert answer.money.p_pays_off is None  # without the price of the machine


def test_what_was_not_measured_has_no_price(curves: CurvesFile, curve: Curve):
    free = ask(curves, replace(curve, cost={}, pretraining=None), gpu_cost=9.0, label_cost=1.0)
    assert free.money.scratch.machine is free.money.scratch.total is None
    assert free.money.scratch.labels == 400
    assert any("say nothing of what they cost" in warning for warning in free.warnings)
    unknown = ask(curves, replace(curve, pretraining=None), upstream="none", gpu_cost=9.0, label_cost=1.0)
    assert unknown.money.fine_tune.total is None
    assert unknown.verdict == "fine-tune"  # it cannot be weighed
    assert any("was not measured" in warning for warning in unknown.warnings)


@pytest.mark.parametrize(("label_cost", "verdict"), [(0.1, "fine-tune"), (0.0001, "scratch")])
def test_a_pretraining_that_saves_less_in_labels_than_it_costs_is_not_advised(
    curves: CurvesFile, curve: Curve, label_cost: float, verdict: str
):
    answer = ask(curves, curve, upstream="none", label_cost=label_cost, gpu_cost=9.0)  # 1,200 labels against 9
    assert answer.verdict == verdict
    assert answer.money.p_pays_off == (1.0 if verdict == "fine-tune" else 0.0)
    assert f"expected to {'save' if verdict == 'fine-tune' else 'cost'}" in answer.why
    assert answer.money.expected_saving == pytest.approx(1200 * label_cost - 9.0, abs=0.01)


def test_a_pretraining_is_weighed_by_what_it_is_expected_to_save_not_by_how_sure_that_is(
    curves: CurvesFile, curve: Curve
):
    """In six draws of ten it saves 1,200 labels, in four it is worth 40 less than none and loses next to nothing."""
    b = np.where(np.arange(100) < 60, 0.5, 1.05)
    unsure = replace(curve, draws={"scratch": law(0.9, 1.0), "fine-tune": {**law(0.9, 1.0), "b": b}})
    answer = ask(curves, unsure, upstream="none", label_cost=1.0, gpu_cost=9.0)
    assert answer.money.p_pays_off == pytest.approx(0.6)
    assert answer.money.expected_saving == pytest.approx(0.6 * 1200 - 0.4 * 37 - 9, abs=2)
    assert answer.verdict == "fine-tune"
    assert "probability 0.40 that it does not" in answer.why
    assert ask(curves, unsure, upstream="none", label_cost=0.01, gpu_cost=9.0).verdict == "scratch"


def test_at_the_end_of_the_reach_as_many_records_again_are_counted(curves: CurvesFile, curve: Curve):
    """F(8,000) = S(32,000), of which the evidence does not speak: not nothing, but 8,000 records more."""
    answer = ask(curves, curve, n_records=8000, margin=0.001, upstream="none", label_cost=1.0, gpu_cost=9.0)
    assert answer.money.expected_saving == pytest.approx(8000 - 9)
    assert answer.verdict == "fine-tune"


def test_what_scratch_would_need_beyond_the_evidence_is_not_counted(curves: CurvesFile, curve: Curve):
    """Fine-tuned scores are out of reach of scratch: counted are the 8,000 records that the evidence reaches."""
    never = replace(curve, draws={"scratch": law(0.8, 1.0), "fine-tune": law(0.9, 1.0)})
    answer = ask(curves, never, upstream="none", label_cost=1.0, gpu_cost=9.0)
    assert answer.worth_in_records.median is None
    assert answer.money.expected_saving == pytest.approx(8000 - 400 - 9)
    assert answer.money.p_pays_off == 1


def test_nothing_is_made_for_a_gain_within_the_margin(curves: CurvesFile, curve: Curve):
    small = replace(curve, draws={"scratch": law(0.9, 1.0), "fine-tune": law(0.905, 1.0)})
    assert ask(curves, small).verdict == "no-material-difference"
    answer = ask(curves, small, upstream="none")
    assert answer.verdict == "scratch"
    assert "would have to be made first" in answer.why


def test_the_verdict_flips_where_the_gain_crosses_the_margin(curves: CurvesFile, curve: Curve):
    answer = ask(curves, curve, n_records=2000, margin=0.03)  # the gain 0.5 n^-0.5 is 0.03 at n = 277.8
    fewer, more = answer.flips
    assert answer.verdict == "no-material-difference"
    assert (fewer.n_records, fewer.verdict) == (277, "fine-tune")
    assert more is None
    below = ask(curves, curve, n_records=100, margin=0.03)
    assert below.flips[0] is None
    assert (below.flips[1].n_records, below.flips[1].verdict) == (278, "no-material-difference")


def test_more_records_add_what_the_curve_says(curves: CurvesFile, curve: Curve):
    more = ask(curves, curve, n_records=1600).more_records
    assert (more.arm, more.n_records) == ("fine_tune", 3200)
    assert more.added == pytest.approx(0.5 * (1600**-0.5 - 3200**-0.5))
    assert ask(curves, curve, n_records=5000).more_records.n_records == 8000
    assert ask(curves, curve, n_records=8000).more_records is None


def test_a_processor_and_a_gpu_are_both_timed_where_another_curve_of_the_network_has_the_other(
    curves: CurvesFile, curve: Curve
):
    """Of a kind of device that the curve's own runs know, no other curve is asked; money is of the curve's device."""
    on_cpu = TrainingCost("CPU test", 1, 10, 10, 0.0, 0.5, 0.5)
    elsewhere = replace(
        curve,
        precision="bf16",
        runs=curve.runs - 1,
        cost={"scratch": on_cpu, "fine-tune": on_cpu},
        pretraining=PretrainingCost("CPU test", 360_000, 10 * 5 * HOUR),
    )
    stranger = replace(elsewhere, arch="resnet1d18-w16", runs=10**6)
    asked = Question(400, curve.arch, gpu_cost=HOUR)
    answer = recommend(asked, replace(curves, curves=(curve, elsewhere, stranger)))
    for name, gpu, cpu in (("scratch", 400, 2000), ("fine_tune", 400, 2000), ("pretraining", HOUR, 5 * HOUR)):
        cost = answer.cost[name]
        assert (cost.device, cost.gpu_device, cost.cpu_device) == ("GPU test", "GPU test", "CPU test")
        assert (cost.gpu_seconds, cost.cpu_seconds) == (pytest.approx(gpu), pytest.approx(cpu))
        assert cost.seconds == cost.gpu_seconds
    assert answer.money is not None and answer.money.scratch.machine == pytest.approx(400)
    alone = recommend(asked, replace(curves, curves=(curve, stranger)))
    assert (alone.cost["scratch"].gpu_seconds, alone.cost["scratch"].cpu_seconds) == (pytest.approx(400), None)


def test_a_curve_of_two_devices_is_timed_on_both(curves: CurvesFile, curve: Curve):
    cost = replace(curve.cost["scratch"], other_devices={"CPU test": 0.5})
    answer = ask(curves, replace(curve, cost={"scratch": cost, "fine-tune": cost}))
    assert answer.cost["scratch"].cpu_seconds == pytest.approx(2000)
    assert answer.cost["scratch"].gpu_seconds == pytest.approx(400)


def test_a_pretraining_that_was_timed_on_a_processor_alone_is_not_billed_at_a_gpus_price(
    curves: CurvesFile, curve: Curve
):
    pretraining = PretrainingCost("CPU test", 360_000, 5 * HOUR)
    answer = ask(curves, replace(curve, pretraining=pretraining), gpu_cost=HOUR, uses=1)
    cost = answer.cost["pretraining"]
    assert (cost.device, cost.seconds, cost.cpu_seconds) == (None, None, 5 * HOUR)
    assert answer.money is not None
    assert (answer.money.fine_tune.pretraining, answer.money.fine_tune.total) == (None, None)
    assert answer.money.scratch.machine == pytest.approx(400)
