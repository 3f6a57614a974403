from dataclasses import replace

import numpy as np
import pytest

from studies.files.draws import chance_level
from studies.fitting.learning_curves import (
    N_DRAWS,
    FitError,
    LearningCurveResults,
    Noise,
    PairedRuns,
    ScoredRun,
    arrange,
    fit_learning_curves,
)

SIZES = np.array([100.0, 250, 500, 1000, 2000])
TEST_COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.0]]) * 0.004**2


def simulate(rng: np.random.Generator, scratch, fine_tuned, sd: float = 0.02, replicates: int = 5) -> PairedRuns:
    """Paired scores about two true curves: noise that falls as n ** -0.55, correlated within a pair, and a test set."""
    spread = sd * (SIZES / 100) ** -0.55
    one, other = rng.standard_normal((2, len(SIZES), replicates))
    shift = rng.multivariate_normal([0, 0], TEST_COVARIANCE)
    return PairedRuns(
        SIZES,
        {
            "scratch": scratch(SIZES)[:, None] + spread[:, None] * one + shift[0],
            "fine-tune": fine_tuned(SIZES)[:, None] + spread[:, None] * (0.5 * one + 0.75**0.5 * other) + shift[1],
        },
        TEST_COVARIANCE,
    )


def scores(fit: LearningCurveResults, arm: str, n: float) -> np.ndarray:
    p = fit.draws[arm]
    return p["a"] - p["b"] * n ** -p["c"]


def power_law(a: float, b: float, c: float, n0: float = 0.0):
    return lambda n: a - b * (n + n0) ** -c


def test_of_a_pre_training_that_nobody_controlled_a_loss_is_believed():
    """As measured of another team's network on the quality of recordings: three sizes, and runs that scatter."""
    sizes = np.array([50.0, 100, 250])
    pairs = {
        "scratch": [[0.78, 0.80, 0.82], [0.74, 0.76, 0.78], [0.74, 0.76, 0.78]],
        "fine-tune": [[0.53, 0.60, 0.64], [0.60, 0.66, 0.72], [0.67, 0.71, 0.75]],
    }
    runs = PairedRuns(sizes, {arm: np.array(values) for arm, values in pairs.items()}, np.eye(2) * 1e-4)
    measured = np.array([-0.21, -0.10, -0.05])
    bands = {}
    for is_controlled in (True, False):
        fit = fit_learning_curves(replace(runs, is_controlled=is_controlled), 1)
        bands[is_controlled] = np.quantile(fit.scores("fine-tune", sizes) - fit.scores("scratch", sizes), 0.05, axis=0)
    assert (bands[False][1:] < measured[1:]).all() and bands[False][0] < -0.12
    assert (bands[True] > bands[False] + 0.02).all(), "of a controlled one it takes more runs"


def test_bands_hold_the_truth_about_nine_times_in_ten():
    rng = np.random.default_rng(11)
    inside: dict[str, list[bool]] = {"scratch 500": [], "scratch 5000": [], "gain 2000": [], "gain 5000": []}
    for trial in range(60):
        a, c = rng.uniform(0.87, 0.95), np.exp(rng.normal(np.log(0.5), 0.3))
        b = (a - rng.uniform(0.7, 0.8)) * 100**c
        n0, d = rng.choice([0.0, 100.0, 500.0]), rng.normal(0, 0.005)
        truth = {"scratch": power_law(a, b, c), "fine-tune": power_law(a + d, b, c, n0)}
        fit = fit_learning_curves(simulate(rng, *truth.values()), trial)
        for name, hits in inside.items():
            what, n = name.split()[0], float(name.split()[1])
            if what == "gain":
                drawn = scores(fit, "fine-tune", n) - scores(fit, "scratch", n)
                value = truth["fine-tune"](n) - truth["scratch"](n)
            else:
                drawn, value = scores(fit, what, n), truth[what](n)
            low, high = np.quantile(drawn, (0.05, 0.95))
            hits.append(bool(low <= value <= high))
    for name, hits in inside.items():
        assert np.mean(hits) >= 0.8, f"{name}: {np.mean(hits):.2f}"
    assert np.mean([hit for hits in inside.values() for hit in hits]) < 0.995, "bands that are never wrong say nothing"


@pytest.mark.parametrize("exponent", [2.5, 4.0])
def test_a_steep_curve_that_has_come_to_its_plateau_is_forecast_to_stay_there(exponent: float):
    rng, sizes = np.random.default_rng(3), np.array([250.0, 350, 450, 600, 750, 900])
    errors, widths = [], []
    for trial in range(4):
        truth = power_law(0.96, 0.26 * 250**exponent, exponent)
        scattered = truth(sizes)[:, None] + 0.005 * rng.standard_normal((6, 5))
        fit = fit_learning_curves(PairedRuns(sizes, {"scratch": scattered}, np.zeros((1, 1))), trial)
        drawn = fit.scores("scratch", np.array([2000.0, 3600]))
        errors.append(drawn.mean(axis=0) - truth(np.array([2000.0, 3600])))
        widths.append(np.subtract(*np.quantile(drawn, (0.95, 0.05), axis=0)))
    assert np.sqrt(np.mean(np.square(errors))) < 0.006
    assert np.max(widths) < 0.08


def test_every_draw_is_a_learning_curve_and_draws_are_paired():
    fit = fit_learning_curves(
        simulate(np.random.default_rng(1), power_law(0.92, 2, 0.5), power_law(0.92, 2, 0.5, 300)), 1
    )
    for arm in ("scratch", "fine-tune"):
        p = fit.draws[arm]
        assert {len(p[name]) for name in "abc"} == {N_DRAWS}
        assert (p["a"] <= 1).all() and (p["a"] > 0.5).all() and (p["b"] >= 0).all() and (p["c"] > 0).all()
    # The test set shifts both arms together: their draws at one size go up and down together.
    assert np.corrcoef(scores(fit, "scratch", 700), scores(fit, "fine-tune", 700))[0, 1] > 0.2


def test_same_seed_gives_the_same_fit():
    runs = simulate(np.random.default_rng(2), power_law(0.92, 2, 0.5), power_law(0.92, 2, 0.5, 300))
    one, other = fit_learning_curves(runs, 5), fit_learning_curves(runs, 5)
    assert all((one.draws[arm][k] == other.draws[arm][k]).all() for arm in one.draws for k in "abc")


def test_the_records_that_reach_a_target_are_those_of_the_asked_share_of_draws(ordinary):
    fit = fit_learning_curves(ordinary, 0)
    target = float(fit.scores("scratch", 600).mean())
    found = fit.n_for(target)["scratch"]
    assert found.n_records is not None
    assert (fit.scores("scratch", found.n_records) >= target).mean() == pytest.approx(0.8, abs=0.01)
    assert found.p_reachable + found.p_unreachable == pytest.approx(1)
    assert found.n_records < fit.n_for(target, 0.95)["scratch"].n_records
    assert fit.n_for(0.99999)["scratch"].n_records is None


def test_noise_is_recovered():
    truth = power_law(0.92, 2, 0.5)
    runs = simulate(np.random.default_rng(3), truth, truth, sd=0.02, replicates=40)
    fit = fit_learning_curves(runs, 0)
    noise = fit.noise
    for of_arm in (noise, fit.further_noise["fine-tune"]):  # each known from 40 replicates at six sizes
        assert of_arm.sd(np.array([100.0]))[0] == pytest.approx(0.02, rel=0.2)
    assert noise.gamma == pytest.approx(0.55, abs=0.12)
    assert noise.correlation == pytest.approx(0.5, abs=0.12)


def test_single_runs_scatter_by_half_the_slope_beyond_the_largest_size():
    noise = Noise(alpha=-1.0, gamma=0.6, correlation=0.0, largest=2000.0)
    sd = noise.sd(np.array([500.0, 2000.0, 8000.0]))
    assert sd[0] / sd[1] == pytest.approx(4**0.6)
    assert sd[1] / sd[2] == pytest.approx(4**0.3)


@pytest.mark.parametrize(
    ("metric", "chance"),
    [("auroc_macro", 0.5), ("roc-auc", 0.5), ("AUC", 0.5), ("pr_auc", 0.0), ("auprc", 0.0), ("f1", 0.0)],
)
def test_an_auroc_of_half_is_chance_whatever_it_is_called(metric: str, chance: float):
    assert chance_level(metric) == chance


def test_n0_is_recovered_in_the_mean():
    rng = np.random.default_rng(21)
    found = [
        fit_learning_curves(
            simulate(rng, power_law(0.92, 2, 0.5), power_law(0.92, 2, 0.5, 300), sd=0.015), trial
        ).params["n0"]
        for trial in range(20)
    ]
    assert np.mean(found) == pytest.approx(300, rel=0.25)


def test_more_noise_never_narrows_a_band():
    truth = power_law(0.92, 2, 0.5)
    widths = []
    for sd in (0.005, 0.02, 0.05):
        fit = fit_learning_curves(simulate(np.random.default_rng(4), truth, truth, sd=sd), 0)
        widths.append(np.diff(np.quantile(scores(fit, "scratch", 4000), (0.05, 0.95)))[0])
    assert widths == sorted(widths)


def test_a_curve_that_falls_raises_the_warning():
    def falling(n):
        return np.where(n < 600, power_law(0.9, 2, 0.5)(n), 0.78)

    fit = fit_learning_curves(simulate(np.random.default_rng(5), falling, power_law(0.92, 2, 0.5), sd=0.005), 0)
    assert any("not monotone" in warning and "scratch" in warning for warning in fit.warnings)


@pytest.mark.parametrize("fall", [0.02, 0.04])
def test_a_fall_at_the_largest_size_is_noticed(fall: float):
    """Five replicates of a usual spread: the mean of the largest size lies ``fall`` below that of the one before."""
    truth = power_law(0.92, 2, 0.5)
    warned = []
    for trial in range(12):
        runs = simulate(np.random.default_rng(trial), truth, truth, sd=0.03)
        runs.scores["scratch"][-1] -= truth(SIZES[-1]) - truth(SIZES[-2]) + fall
        warned.append(any("scratch scored lower at n = 2000" in w for w in fit_learning_curves(runs, 0).warnings))
    assert np.mean(warned) >= 0.8


def test_a_curve_that_falls_is_expected_to_stay_where_it_is_and_is_doubted():
    runs = simulate(np.random.default_rng(5), power_law(0.92, 2, 0.5), power_law(0.92, 2, 0.5, 300), sd=0.01)
    rising = fit_learning_curves(runs, 0)
    runs.scores["scratch"][-1] -= 0.04
    falling = fit_learning_curves(runs, 0)
    frame, before = (fit.get_prediction([2000.0, 8000.0]).summary_frame() for fit in (falling, rising))
    # Draws with a band of .35 have a mean that is known to .003: several seeds say where it is.
    means = [fit_learning_curves(runs, seed).scores("scratch", [2000.0, 8000.0]).mean(axis=0) for seed in range(9)]
    assert np.mean(means, axis=0)[1] == pytest.approx(np.mean(means, axis=0)[0], abs=0.01)
    width = [found["mean_ci_upper"][:2] - found["mean_ci_lower"][:2] for found in (frame, before)]
    assert (width[0] > 1.3 * width[1]).all()
    assert falling.gain(8000.0).p_within_margin < 0.7


def test_rising_curves_raise_no_warning():
    truth = power_law(0.92, 2, 0.5)
    assert fit_learning_curves(simulate(np.random.default_rng(6), truth, truth, sd=0.002), 0).warnings == ()


def test_sizes_near_chance_are_left_out_and_named():
    def late(n):
        return np.where(n < 200, 0.52, power_law(0.92, 2, 0.5)(n))

    fit = fit_learning_curves(simulate(np.random.default_rng(7), late, power_law(0.92, 2, 0.5, 300), sd=0.005), 0)
    assert any("near chance at n = 100" in warning for warning in fit.warnings)
    assert np.median(scores(fit, "scratch", 1000)) == pytest.approx(0.92 - 2 * 1000**-0.5, abs=0.012)


def test_no_draw_falls_below_chance_where_sizes_near_it_were_left_out():
    runs = [
        ScoredRun("scratch", n, k, score + 0.004 * (k - 1), "made up")
        for n, score in ((100, 0.53), (250, 0.66), (500, 0.90), (1000, 0.96), (2000, 0.97))
        for k in range(3)
    ]
    fit = fit_learning_curves(arrange(runs, None, 0.5), 1)
    at_chance = np.minimum(0.5, fit.draws["scratch"]["a"])[:, None]
    assert (fit.scores("scratch", [25.0, 60.0, 100.0, 180.0]) >= at_chance).all()


def test_missing_runs_are_allowed():
    runs = simulate(np.random.default_rng(8), power_law(0.92, 2, 0.5), power_law(0.92, 2, 0.5, 300))
    runs.scores["scratch"][4, 2:] = np.nan
    runs.scores["fine-tune"][0, 1] = np.nan
    fit = fit_learning_curves(runs, 0)
    assert np.median(scores(fit, "scratch", 1000)) == pytest.approx(0.92 - 2 * 1000**-0.5, abs=0.02)


def cut(runs: PairedRuns, sizes: int = 5, replicates: int = 5) -> PairedRuns:
    scores_left = {arm: values[:sizes, :replicates].copy() for arm, values in runs.scores.items()}
    return PairedRuns(runs.sizes[:sizes], scores_left, runs.test_covariance)


@pytest.fixture
def ordinary() -> PairedRuns:
    return simulate(np.random.default_rng(9), power_law(0.92, 2, 0.5), power_law(0.92, 2, 0.5, 300))


def test_what_cannot_be_fitted_is_refused_by_name(ordinary):
    with pytest.raises(FitError, match="scratch was measured at one size only"):
        fit_learning_curves(cut(ordinary, sizes=1), 0)
    with pytest.raises(FitError, match="no size has two replicates"):
        fit_learning_curves(cut(ordinary, replicates=1), 0)
    impossible = cut(ordinary)
    impossible.scores["scratch"][0, 0] = 1.3
    with pytest.raises(FitError, match=r"scratch has a score of 1\.3"):
        fit_learning_curves(impossible, 0)
    for sizes in (SIZES + 0.5, np.r_[SIZES[:1], SIZES[:-1]]):
        with pytest.raises(FitError, match="whole numbers of records, each named once"):
            fit_learning_curves(PairedRuns(sizes, ordinary.scores, TEST_COVARIANCE), 0)


def test_a_gain_takes_both_arms(ordinary):
    fit = fit_learning_curves(ordinary, 0)
    alone = replace(fit, draws={"scratch": fit.draws["scratch"]})
    with pytest.raises(FitError, match="a gain compares scratch with fine-tune, and this fit has scratch only"):
        alone.gain(1000.0)


def test_two_sizes_give_a_wide_answer_that_says_it_is_nearly_all_prior(ordinary):
    two, all_sizes = fit_learning_curves(cut(ordinary, sizes=2), 0), fit_learning_curves(ordinary, 0)
    assert "scratch was measured at two sizes: the shape of its curve is nearly all prior" in two.warnings
    width = [gain.mean_ci_upper - gain.mean_ci_lower for gain in (two.gain(1000.0), all_sizes.gain(1000.0))]
    assert width[0] > 2 * width[1]


def test_scores_that_fall_with_more_records_are_answered_with_a_warning(ordinary):
    upside_down = PairedRuns(SIZES, {arm: 1.6 - values for arm, values in ordinary.scores.items()}, TEST_COVARIANCE)
    warnings = fit_learning_curves(upside_down, 0).warnings
    assert any("do not look like learning curves" in warning for warning in warnings)
