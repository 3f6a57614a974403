from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advisor.answer.recommend import NoEvidenceError, Question, UnknownNameError, recommend
from advisor.text.table import to_table
from studies.collection.collect import collect
from studies.files.curve import Curve
from studies.files.curves import CurvesFile, read_curves


@pytest.fixture(scope="session")
def curves(curves_path: Path) -> CurvesFile:
    return read_curves(curves_path)


def cnn(curves: CurvesFile) -> Curve:
    return next(curve for curve in curves.curves if curve.family == "cnn")


def certain(curve: Curve, scratch: tuple[float, float, float], fine_tuned: tuple[float, float, float]) -> Curve:
    """The curve with a posterior that is one point: (a, b, c) of each arm."""
    draws = {
        arm: {name: np.full(50, value) for name, value in zip("abc", abc, strict=True)}
        for arm, abc in (("scratch", scratch), ("fine-tune", fine_tuned))
    }
    return replace(curve, draws=draws)


def ask(curves: CurvesFile, curve: Curve, n_records: int = 1000, margin: float = 0.01):
    return recommend(Question(n_records, "resnet1d18-w16", margin=margin), replace(curves, curves=(curve,)))


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(0.05, "fine-tune"), (0.002, "no-material-difference"), (-0.002, "no-material-difference"), (-0.05, "scratch")],
)
def test_verdict_follows_a_certain_gain(curves: CurvesFile, gain: float, verdict: str):
    curve = certain(cnn(curves), (0.85, 1.0, 0.5), (0.85 + gain, 1.0, 0.5))
    answer = ask(curves, curve)
    assert answer.verdict == verdict
    assert answer.gain.mean == pytest.approx(gain)
    assert answer.gain.p_above_margin + answer.gain.p_within_margin + answer.gain.p_below_margin == pytest.approx(1)


@pytest.mark.parametrize(
    ("others", "verdict", "says"),
    [
        (-0.05, "not-enough-evidence", "loses 0.011 on average, at most 0.050 (90 %), more than the 0.01 that matters"),
        (
            -0.009,
            "fine-tune",
            "probably better (probability 0.78); choosing it loses 0.002 on average, at most 0.009 (90",
        ),
    ],
)
def test_an_arm_is_named_where_it_loses_no_more_than_the_margin(curves: CurvesFile, others, verdict: str, says: str):
    curve = certain(cnn(curves), (0.85, 1.0, 0.5), (0.90, 1.0, 0.5))
    a = np.where(np.arange(50) < 39, 0.90, 0.85 + others)  # 78 % of the draws gain
    answer = ask(curves, replace(curve, draws={**curve.draws, "fine-tune": {**curve.draws["fine-tune"], "a": a}}))
    assert answer.verdict == verdict
    assert says in answer.why


def test_worth_in_records_is_what_scratch_needs_more(curves: CurvesFile):
    # S(n) = 0.9 - n ** -0.5 and F(n) = 0.9 - 0.5 * n ** -0.5, which is S(4 n)
    answer = ask(curves, certain(cnn(curves), (0.9, 1.0, 0.5), (0.9, 0.5, 0.5)))
    assert answer.worth_in_records.median == 3000


def test_worth_in_records_is_null_where_scratch_never_gets_there(curves: CurvesFile):
    answer = ask(curves, certain(cnn(curves), (0.85, 1.0, 0.5), (0.95, 1.0, 0.5)))
    assert answer.worth_in_records.median is None
    assert any("Out of reach" in warning for warning in answer.warnings)


def test_break_even_is_where_the_gain_falls_under_the_margin_for_good(curves: CurvesFile):
    # the gain is 0.5 * n ** -0.5, which is 0.02 at n = 625
    answer = ask(curves, certain(cnn(curves), (0.9, 1.0, 0.5), (0.9, 0.5, 0.5)), margin=0.02)
    assert answer.break_even.median == pytest.approx(625, rel=0.02)


def test_break_even_is_null_where_the_gain_never_ends(curves: CurvesFile):
    answer = ask(curves, certain(cnn(curves), (0.85, 1.0, 0.5), (0.95, 1.0, 0.5)))
    assert answer.break_even.median is None


def test_true_gain_lies_in_the_band(curves: CurvesFile):
    for n, support in ((100, "measured"), (700, "interpolated"), (5000, "extrapolated")):
        answer = recommend(Question(n, "cnn"), curves)
        truth = 2.2 * (n**-0.5 - (n + 400) ** -0.5)
        assert answer.support == support
        assert answer.gain.mean_ci_lower <= truth <= answer.gain.mean_ci_upper
        assert answer.scratch.mean_ci_lower <= 0.93 - 2.2 * n**-0.5 <= answer.scratch.mean_ci_upper


def test_large_known_gain_at_100_records_gives_fine_tune(curves: CurvesFile):
    assert recommend(Question(100, "cnn"), curves).verdict == "fine-tune"


def test_without_any_transfer_fine_tuning_is_advised_only_where_nothing_is_lost_by_it(tmp_path: Path, synthetic_store):
    store = synthetic_store(tmp_path / "none.db", lambda n: 0.93 - 2.2 * n**-0.5, lambda n: 0.93 - 2.2 * n**-0.5)
    curves = read_curves(collect(store, "none", tmp_path)[1])
    for n in (100, 500, 2000, 5000):
        answer = recommend(Question(n, "cnn"), curves)
        assert answer.verdict != "fine-tune" or "toss-up" in answer.why or "probably" in answer.why
        assert answer.verdict == "not-enough-evidence" or answer.best.expected_loss.upper <= 0.01


def test_single_runs_spread_more_than_their_mean(curves: CurvesFile):
    score = recommend(Question(100, "cnn"), curves).scratch
    assert score.obs_ci_lower < score.mean_ci_lower < score.mean < score.mean_ci_upper < score.obs_ci_upper


def test_larger_margin_never_raises_the_probability_of_a_gain_above_it(curves: CurvesFile):
    margins = (0.001, 0.005, 0.01, 0.02, 0.05)
    gains = [recommend(Question(500, "cnn", margin=m), curves).gain.p_above_margin for m in margins]
    assert gains == sorted(gains, reverse=True)


def test_no_answer_beyond_four_times_the_measured_range(curves: CurvesFile):
    assert recommend(Question(8000, "cnn"), curves).support == "extrapolated"
    for n in (8001, 24, 1):
        with pytest.raises(NoEvidenceError, match="25 to 8,000"):
            recommend(Question(n, "cnn"), curves)


def test_registered_network_without_runs_has_no_evidence(curves: CurvesFile):
    for arch in ("resnet1d18", "resnet1d18-w32", "gru"):
        with pytest.raises(NoEvidenceError, match="did not measure"):
            recommend(Question(500, arch), curves)


@pytest.mark.parametrize(("asked", "near"), [("resnet", "resnet1d"), ("gruu", "gru"), ("cn", "cnn")])
def test_unknown_network_names_the_nearest(curves: CurvesFile, asked: str, near: str):
    with pytest.raises(UnknownNameError, match=f"nearest name is '{near}"):
        recommend(Question(500, asked), curves)


def test_unknown_upstream_and_metric_are_named(curves: CurvesFile):
    with pytest.raises(UnknownNameError, match="ptb-xl/non-diagnostic"):
        recommend(Question(500, "cnn", upstream="cpsc2018"), curves)
    with pytest.raises(UnknownNameError, match="auroc_macro"):
        recommend(Question(500, "cnn", metric="f1"), curves)
    assert recommend(Question(500, "cnn", upstream="ptb-xl"), curves).curve.upstream == "ptb-xl/non-diagnostic"


def test_break_even_is_the_least_number_where_the_gain_never_is_above(curves: CurvesFile):
    answer = ask(curves, certain(cnn(curves), (0.9, 1.0, 0.5), (0.9, 1.0, 0.5)))
    assert answer.break_even.median == 25
    assert "under 25 records" in to_table(answer)


def test_several_upstreams_have_to_be_chosen_from(curves: CurvesFile):
    both = replace(curves, curves=(cnn(curves), replace(cnn(curves), upstream="cpsc2018/paper")))
    with pytest.raises(UnknownNameError, match="choose one with --upstream"):
        recommend(Question(500, "cnn"), both)
    assert recommend(Question(500, "cnn", upstream="cpsc2018"), both).curve.upstream == "cpsc2018/paper"
    assert not any("same hospitals" in w for w in recommend(Question(500, "cnn", upstream="cpsc2018"), both).warnings)


def test_of_several_upstreams_the_one_without_the_task_s_labels_answers_and_the_others_are_named(curves: CurvesFile):
    kinds = {"ptb-xl/all": "ptb-xl/shared", "ptb-xl/non-diagnostic": "ptb-xl/disjoint"}
    alike = tuple(replace(cnn(curves), upstream=upstream, kind=kind) for upstream, kind in kinds.items())
    both = replace(curves, curves=alike)
    for upstream in (None, "ptb-xl", "none"):
        answer = recommend(Question(500, "cnn", upstream=upstream), both)
        assert answer.curve.upstream == "ptb-xl/non-diagnostic"
        assert any("pre-trained on ptb-xl/all: --upstream" in warning for warning in answer.warnings)
    assert recommend(Question(500, "cnn", upstream="ptb-xl/all"), both).curve.upstream == "ptb-xl/all"
    third = replace(alike[1], upstream="ptb-xl/form")
    with pytest.raises(UnknownNameError, match="form and on ptb-xl/non-diagnostic: choose one with --upstream"):
        recommend(Question(500, "cnn"), replace(curves, curves=(*alike, third)))


def test_scores_never_fall_under_chance(curves: CurvesFile):
    answer = ask(curves, certain(cnn(curves), (0.9, 4.0, 0.5), (0.9, 3.0, 0.5)), n_records=25)
    assert answer.scratch.mean_ci_lower == answer.scratch.mean == 0.5


def test_text_from_a_curves_file_is_shown_as_it_is(curves: CurvesFile):
    answer = ask(curves, replace(cnn(curves), warnings=("[/x] [bold]odd[/bold]",)))
    said = [warning for warning in answer.warnings if "odd" in warning]
    assert "[/x] [bold]odd[/bold]" in to_table(replace(answer, warnings=tuple(said)))


def test_cost_counts_the_records_that_the_recipe_trains_on(curves: CurvesFile):
    cost = recommend(Question(1000, "cnn"), curves).cost
    assert cost["scratch"].records_seen == (20000 // 800) * 800
    assert cost["scratch"].cpu_seconds == pytest.approx(20000 * 0.01 / 16)
    assert cost["scratch"].gpu_seconds is None
    assert cost["pretraining"].cpu_seconds == pytest.approx(84.82)
