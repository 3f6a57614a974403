"""What is predicted of a task that nobody has measured, where the tasks' truths are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from studies.collection.curve_documents import fit_runs
from studies.files.draws import bent
from studies.fitting.learning_curves import N_DRAWS, FitError, LearningCurveResults
from studies.fitting.noise import Noise
from studies.fitting.pooling import pool_tasks, supported_sizes
from studies.runs.run import Run
from studies.runs.tidy_runs import TidyRuns

SIZES = np.array([100.0, 250, 500, 1000, 2000])
NODES = np.concatenate([[25.0, 50.0], SIZES, [4000.0, 8000.0, 32000.0]])


def known(
    level: float, gain: float, error: float = 0.05, sizes: np.ndarray = SIZES, seed: int = 0, kept: float = 1.0
) -> LearningCurveResults:
    """A task whose score at 2,000 records is ``level`` and whose gain is ``gain``, in logits, known up to ``error``.

    Of the gain a share ``kept`` is left beyond 2,000 records.
    """
    rng = np.random.default_rng(seed)
    scratch = level + 0.4 * np.log(NODES / 2000)[None, :] + error * rng.standard_normal((N_DRAWS, 1))
    fine_tuned = scratch + gain * np.where(NODES > 2000, kept, 1.0) + error * rng.standard_normal((N_DRAWS, 1))
    law = {"a": np.ones(N_DRAWS), "b": np.zeros(N_DRAWS), "c": np.ones(N_DRAWS), "n0": np.zeros(N_DRAWS)}
    draws = {
        arm: bent(law, NODES, expit(drawn), 0.0) for arm, drawn in (("scratch", scratch), ("fine-tune", fine_tuned))
    }
    return LearningCurveResults(
        draws, sizes, Noise(-2.0, 0.5, 0.4), 5, {"separate": 1.0}, np.zeros(N_DRAWS, np.bool_), (), 0.0
    )


def band(fit: LearningCurveResults, n: float = 1000.0) -> tuple[float, float]:
    return tuple(np.quantile(fit.scores("fine-tune", n) - fit.scores("scratch", n), (0.05, 0.95)))


def test_bands_hold_a_new_task_about_nine_times_in_ten():
    rng = np.random.default_rng(4)
    hits: dict[str, list[bool]] = {"scratch": [], "gain": []}
    for _ in range(80):
        levels, gains = rng.normal(1.8, 0.6, 8), rng.normal(0.2, 0.3, 8)
        errors = rng.choice([0.03, 0.1, 0.4], 7)
        # What is known of a task is off by as much as its error says.
        noisy = zip(
            levels[:-1] + errors * rng.normal(size=7), gains[:-1] + errors * rng.normal(size=7), errors, strict=True
        )
        pooled = pool_tasks({f"t{k}": known(*one) for k, one in enumerate(noisy)}, 1)
        new = expit(levels[-1] + 0.4 * np.log(0.5)), expit(levels[-1] + gains[-1] + 0.4 * np.log(0.5))
        low, high = np.quantile(pooled.scores("scratch", 1000.0), (0.05, 0.95))
        hits["scratch"].append(bool(low <= new[0] <= high))
        low, high = band(pooled)
        hits["gain"].append(bool(low <= new[1] - new[0] <= high))
    for name, hit in hits.items():
        assert 0.83 <= np.mean(hit) <= 0.99, f"{name}: {np.mean(hit):.2f}"


def test_a_badly_measured_task_hardly_counts():
    good = {f"t{k}": known(1.8 + 0.1 * k, 0.2 + 0.02 * k, seed=k) for k in range(5)}
    alone = pool_tasks(good, 1)
    bad = pool_tasks({**good, "bad": known(0.5, 3.0, error=3.0)}, 1)
    as_good = pool_tasks({**good, "bad": known(0.5, 3.0, error=0.05)}, 1)
    width = [np.ptp(band(fit)) for fit in (alone, bad, as_good)]
    assert width[1] < 1.5 * width[0] < width[2]
    assert bad.gain(1000.0).mean == pytest.approx(alone.gain(1000.0).mean, abs=0.01)


def test_few_tasks_give_wider_bands_than_many_that_differ_as_much():
    def pooled(n: int) -> LearningCurveResults:
        deviations = np.resize([-1.0, 1.0], n)
        return pool_tasks({f"t{k}": known(1.8 + 0.3 * d, 0.2 + 0.1 * d, seed=k) for k, d in enumerate(deviations)}, 1)

    widths = [np.ptp(band(pooled(n))) for n in (2, 4, 10)]
    assert widths == sorted(widths, reverse=True)
    assert pooled(2).warnings and not pooled(10).warnings


def test_tasks_are_not_taken_to_differ_less_beyond_what_was_measured():
    gains = (0.6, -0.3, 0.1, 0.5, -0.1, 0.3)
    pooled = pool_tasks({f"t{k}": known(1.0, gain, kept=0.1) for k, gain in enumerate(gains)}, 1)
    at_2000, at_8000 = (
        logit(pooled.scores("fine-tune", n)) - logit(pooled.scores("scratch", n)) for n in (2000.0, 8000.0)
    )
    assert np.std(at_8000) >= 0.9 * np.std(at_2000)


def test_one_task_and_tasks_of_different_arms_are_refused():
    with pytest.raises(FitError, match="t alone cannot say how far tasks differ"):
        pool_tasks({"t": known(1.8, 0.2)}, 1)
    fit = known(1.8, 0.2)
    scratch_only = replace(fit, draws={"scratch": fit.draws["scratch"]})
    with pytest.raises(FitError, match="differ in their arms"):
        pool_tasks({"a": fit, "b": scratch_only}, 1)


def test_the_range_rests_on_what_most_tasks_support():
    usual = [SIZES] * 6
    assert supported_sizes(usual).tolist() == SIZES.tolist()
    stops_early, goes_on = SIZES[:3], np.array([100.0, 1000, 8000])
    assert supported_sizes([*usual, stops_early, goes_on]).tolist() == SIZES.tolist()
    abroad = np.array([50.0, 100, 138])
    assert supported_sizes([*usual, abroad]).tolist() == SIZES.tolist()
    apart = [np.array([100.0, 400, 1600]), np.array([200.0, 800, 3200]), np.array([100.0, 500, 2000])]
    assert supported_sizes(apart).tolist() == [100, 200, 400, 500, 800, 1600, 2000]
    with pytest.raises(FitError, match="too different to compare"):
        supported_sizes([SIZES, np.array([4000.0, 8000])])


def make_runs(upstreams: dict[str, tuple[str, ...]]) -> TidyRuns:
    """Runs of tasks, each fine-tuned from its own upstreams."""
    rng = np.random.default_rng(3)
    runs = [
        Run(task=task, arch="net", family="cnn", strategy="fine-tune" if upstream else "scratch", upstream=upstream,
            n_records=int(n), replicate=r,
            auroc_macro=float(0.9 - 2 * (n + 200 * (upstream is not None)) ** -0.5 + 0.01 * rng.normal()))
        for task, of_task in upstreams.items() for upstream in (None, *of_task) for n in SIZES for r in range(3)
    ]  # fmt: skip
    return TidyRuns("ours", "auroc_macro", tuple(runs), {})


def test_tasks_with_upstreams_of_their_own_are_pooled_by_the_corpus():
    upstreams = {"a": ("ptb-xl/form",), "b": ("ptb-xl/rhythm",), "c": ("ptb-xl/all", "ptb-xl/form"), "d": ("georgia",)}
    document = fit_runs(make_runs(upstreams), "now")
    pooled = {curve["upstream"]: curve["tasks"] for curve in document["curves"] if curve.get("pooled")}
    assert pooled == {"ptb-xl": ["a", "b", "c"], "ptb-xl/form": ["a", "c"]}


def test_tasks_of_one_upstream_make_one_pool():
    document = fit_runs(make_runs(dict.fromkeys("abc", ("ptb-xl/all",))), "now")
    pooled = [(curve["upstream"], curve["tasks"]) for curve in document["curves"] if curve.get("pooled")]
    assert pooled == [("ptb-xl/all", ["a", "b", "c"])]
