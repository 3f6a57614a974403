"""The answer moves the way it must when the question or the evidence does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from advisor.answer.recommend import Question, recommend
from advisor.answer.scores import summarise_score
from studies.files.curve import Curve, PretrainingCost
from studies.files.curves import CurvesFile, read_curves

TOWARDS_FINE_TUNE = ("scratch", "no-material-difference", "not-enough-evidence", "fine-tune")
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

levels = arrays(np.float64, 40, elements=st.floats(0.6, 1.0))
heights = arrays(np.float64, 40, elements=st.floats(0.0, 3.0))
exponents = arrays(np.float64, 40, elements=st.floats(0.1, 2.0))
shifts = arrays(np.float64, 40, elements=st.floats(0.0, 2000.0))
arms = st.fixed_dictionaries({"a": levels, "b": heights, "c": exponents, "n0": shifts})
posteriors = st.fixed_dictionaries({"scratch": arms, "fine-tune": arms})
sizes = st.integers(25, 8000)
prices = st.floats(0, 1e6)


@pytest.fixture(scope="session")
def curves(curves_path: Path) -> CurvesFile:
    return read_curves(curves_path)


def with_draws(curves: CurvesFile, draws: dict[str, dict[str, np.ndarray]], **changes: object) -> CurvesFile:
    curve: Curve = replace(curves.curves[0], draws=draws, **changes)
    return replace(curves, curves=(curve,))


def ask(curves: CurvesFile, n_records: int, **options: object):
    return recommend(Question(n_records, curves.curves[0].arch, **options), curves)


@relaxed
@given(draws=posteriors, n=sizes, margins=st.lists(st.floats(1e-4, 0.5), min_size=2, max_size=2))
def test_a_larger_margin_never_raises_the_probability_of_a_gain_above_it(curves: CurvesFile, draws, n, margins):
    small, large = (ask(with_draws(curves, draws), n, margin=margin) for margin in sorted(margins))
    assert large.gain.p_above_margin <= small.gain.p_above_margin
    assert large.gain.p_below_margin <= small.gain.p_below_margin
    assert large.gain.p_within_margin >= small.gain.p_within_margin


@relaxed
@given(draws=posteriors, n=sizes, label_cost=prices, gpu_cost=prices,
       seconds=st.lists(st.floats(0, 1e9), min_size=2, max_size=2), uses=st.integers(1, 1000))  # fmt: skip
def test_a_dearer_pretraining_never_moves_the_verdict_towards_fine_tune(
    curves: CurvesFile, draws, n, label_cost, gpu_cost, seconds, uses
):
    verdicts = [
        ask(
            with_draws(curves, draws, pretraining=PretrainingCost("CPU", 1000, cost)),
            n, upstream="none", label_cost=label_cost, gpu_cost=gpu_cost, uses=uses,
        ).verdict
        for cost in sorted(seconds)
    ]  # fmt: skip
    assert TOWARDS_FINE_TUNE.index(verdicts[1]) <= TOWARDS_FINE_TUNE.index(verdicts[0])


@relaxed
@given(draws=posteriors, n=sizes, label_cost=prices, gpu_cost=prices,
       uses=st.lists(st.integers(1, 10**6), min_size=2, max_size=2))  # fmt: skip
def test_fewer_trainings_that_share_a_pretraining_never_move_the_verdict_towards_fine_tune(
    curves: CurvesFile, draws, n, label_cost, gpu_cost, uses
):
    ours = with_draws(curves, draws, pretraining=PretrainingCost("CPU", 1000, 1e6))
    few, many = (
        ask(ours, n, upstream="none", label_cost=label_cost, gpu_cost=gpu_cost, uses=times).verdict
        for times in sorted(uses)
    )
    assert TOWARDS_FINE_TUNE.index(few) <= TOWARDS_FINE_TUNE.index(many)


def test_a_price_does_move_the_verdict(curves: CurvesFile):
    """Else what must not move towards fine-tuning might not move at all."""
    verdicts = []
    for seconds in (0.0, 3e5, 1e12):
        curve = replace(curves.curves[0], pretraining=PretrainingCost("CPU", 1000, seconds))
        prices = {"upstream": "none", "label_cost": 1.0, "gpu_cost": 5.0, "uses": 1}
        verdicts.append(ask(replace(curves, curves=(curve,)), 100, **prices).verdict)
    assert verdicts[0] == "fine-tune"
    assert verdicts[-1] == "scratch"
    assert sorted(verdicts, key=TOWARDS_FINE_TUNE.index, reverse=True) == verdicts


@relaxed
@given(draws=posteriors, n=sizes, gpu_cost=prices, uses=st.integers(1, 1000))
def test_having_to_pay_for_it_never_moves_the_verdict_towards_fine_tune(curves: CurvesFile, draws, n, gpu_cost, uses):
    ours = with_draws(curves, draws, pretraining=PretrainingCost("CPU", 1000, 1e4))
    at_hand, unpriced = ask(ours, n).verdict, ask(ours, n, upstream="none").verdict
    priced = ask(ours, n, upstream="none", label_cost=1.0, gpu_cost=gpu_cost, uses=uses).verdict
    for verdict in (unpriced, priced):
        assert verdict != "fine-tune" or at_hand == "fine-tune"
        assert at_hand != "scratch" or verdict == "scratch"


@relaxed
@given(draws=posteriors, n=sizes, alphas=st.lists(st.floats(-20, 3), min_size=2, max_size=2))
def test_noisier_runs_never_narrow_the_band_of_single_runs(curves: CurvesFile, draws, n, alphas):
    quiet, noisy = (
        summarise_score(
            with_draws(curves, draws, noise={**curves.curves[0].noise, "alpha": alpha}).curves[0], "scratch", n
        )
        for alpha in sorted(alphas)
    )
    assert noisy.obs_ci_lower <= quiet.obs_ci_lower <= quiet.mean_ci_lower
    assert noisy.obs_ci_upper >= quiet.obs_ci_upper >= quiet.mean_ci_upper
    assert (noisy.mean_ci_lower, noisy.mean_ci_upper) == (quiet.mean_ci_lower, quiet.mean_ci_upper)


@relaxed
@given(scores=st.tuples(levels, levels), factors=st.lists(st.floats(0, 1), min_size=2, max_size=2), n=sizes)
def test_draws_further_apart_never_narrow_a_band(curves: CurvesFile, scores, factors, n):
    """Constant curves whose levels lie about their mean, drawn together by a factor."""

    def drawn_together(factor: float) -> dict[str, dict[str, np.ndarray]]:
        flat = {"b": np.zeros(40), "c": np.ones(40), "n0": np.zeros(40)}
        return {
            arm: {"a": level.mean() + factor * (level - level.mean()), **flat}
            for arm, level in zip(("scratch", "fine-tune"), scores, strict=True)
        }

    near, far = (ask(with_draws(curves, drawn_together(factor)), n) for factor in sorted(factors))
    for one, other in ((near.gain, far.gain), (near.scratch, far.scratch), (near.fine_tune, far.fine_tune)):
        assert other.mean_ci_upper - other.mean_ci_lower >= one.mean_ci_upper - one.mean_ci_lower - 1e-12


@relaxed
@given(draws=posteriors, n=sizes, targets=st.lists(st.floats(0.55, 0.99), min_size=2, max_size=2))
def test_a_higher_target_never_takes_fewer_records(curves: CurvesFile, draws, n, targets):
    low, high = (ask(with_draws(curves, draws), n, target=target).target for target in sorted(targets))
    for arm in ("scratch", "fine_tune"):
        assert high[arm].p_unreachable >= low[arm].p_unreachable
        if high[arm].records is not None:
            assert low[arm].records is not None
            assert high[arm].records >= low[arm].records


@pytest.mark.parametrize("seed", range(2))
def test_evidence_with_noisier_runs_never_gives_narrower_bands(tmp_path: Path, synthetic_store, seed: int):
    """The same truth, fitted from runs that scatter about it once and four times as far."""
    from studies.collection.collect import collect

    widths = []
    for factor in (1, 4):
        folder = tmp_path / str(factor)
        folder.mkdir()
        store = synthetic_store(
            folder / "study.db", lambda n: 0.93 - 2.2 * n**-0.5, lambda n: 0.93 - 2.2 * (n + 400) ** -0.5,
            noise=0.005 * factor, seed=seed,
        )  # fmt: skip
        fitted = read_curves(collect(store, "noisy", folder)[1])
        store.close()
        answers = [recommend(Question(n, "cnn"), fitted) for n in (100, 700, 2000, 8000)]
        widths.append([
            (part.mean_ci_upper - part.mean_ci_lower) for answer in answers
            for part in (answer.gain, answer.scratch, answer.fine_tune)
        ])  # fmt: skip
    narrow, wide = widths
    # Where the test set's own noise makes the band, the runs' adds little, and 1,000 draws know a width to 4 %.
    assert all(second >= 0.9 * first for first, second in zip(narrow, wide, strict=True)), widths
    assert sum(wide) > 1.3 * sum(narrow)
