"""What labels say of the score to expect, where the truth is known."""

import numpy as np
import pytest
from scipy.special import expit

from studies.files.label_levels import Label, LabelLevels, fixed_terms
from studies.fitting.label_levels import ClassScores, fit_label_levels
from studies.fitting.paired_runs import FitError

SIZES = np.array([100.0, 250, 500, 1000, 2000])
EFFECTS = {"AF": 1.2, "LBBB": 0.8, "PAC": -0.6, "MI": -0.9, "LVH": 0.1, "NORM": 0.0, "STD": -0.3, "RBBB": 0.5}
ASKED = np.array([500.0])


def task_of(
    name: str, labels: dict[str, float], rng: np.random.Generator, off: float = 0.2, noise: float = 0.05
) -> tuple[ClassScores, np.ndarray]:
    """A task whose classes score as their labels say, ``off`` by task and class; and its true AUROCs at SIZES."""
    shares = np.array(list(labels.values()))
    terms = fixed_terms(*np.broadcast_arrays(SIZES[:, None], shares))
    logits = terms @ [1.5, 0.3, 0.1] + [EFFECTS[one] for one in labels] + off * rng.normal()
    logits = logits + 0.3 * off * rng.normal(size=len(labels))
    means = expit(logits + noise * rng.normal(size=logits.shape))
    positives = np.rint(shares * 4000)
    variances = np.full(means.shape, 3 * noise**2)
    found = ClassScores(name, tuple(labels), shares, positives, 4000, SIZES, means, variances, np.full(5, 3.0))
    return found, expit(logits)


def tasks_in(rng: np.random.Generator, n: int = 9, off: float = 0.2) -> list[ClassScores]:
    names = list(EFFECTS)
    return [
        task_of(
            f"s{k % 3}/t{k}", {one: float(rng.uniform(0.03, 0.3)) for one in rng.choice(names, 4, False)}, rng, off
        )[0]
        for k in range(n)
    ]


def band(levels: LabelLevels, *labels: Label, sizes: np.ndarray = ASKED) -> tuple[float, float]:
    low, high = np.quantile(levels.scores(labels, sizes)[:, 0], (0.05, 0.95))
    return float(low), float(high)


def test_bands_of_labels_that_were_measured_hold_a_new_task_about_nine_times_in_ten():
    rng = np.random.default_rng(5)
    hits, widths = [], []
    for seed in range(40):
        levels = fit_label_levels(tasks_in(rng), 400, seed)
        labels = dict.fromkeys(rng.choice(list(EFFECTS), 3, replace=False), 0.1)
        truth = task_of("s9/new", labels, rng)[1][2].mean()
        low, high = band(levels, *(Label(name, share) for name, share in labels.items()))
        hits.append(low <= truth <= high)
        widths.append(high - low)
    assert np.mean(hits) >= 0.8
    assert np.mean(widths) < 0.2


def test_a_label_that_was_measured_is_known_better_than_one_that_was_not_and_scores_as_it_did():
    levels = fit_label_levels(tasks_in(np.random.default_rng(1)), 800, 0)
    easy, hard, new = (levels.scores([Label(name, 0.1)], ASKED)[:, 0] for name in ("AF", "MI", "never seen"))
    assert easy.mean() > new.mean() + 0.03 > hard.mean() + 0.06
    assert easy.std() < new.std()
    assert hard.std() < new.std()


def test_more_positives_and_more_records_score_higher():
    levels = fit_label_levels(tasks_in(np.random.default_rng(1)), 800, 0)
    sizes = np.array([100.0, 1000, 4000])
    rare, frequent = (levels.scores([Label("LVH", share)], sizes).mean(axis=0) for share in (0.02, 0.2))
    assert (np.diff(rare) > 0).all()
    assert (np.diff(frequent) > 0).all()
    assert (frequent > rare).all()


def test_a_label_that_most_records_have_is_learned_from_those_without_it():
    levels = fit_label_levels(tasks_in(np.random.default_rng(1)), 800, 0)
    rare, frequent, half = (levels.scores([Label("LVH", share)], ASKED).mean() for share in (0.02, 0.98, 0.5))
    assert frequent == pytest.approx(rare, abs=1e-12)
    assert half > rare


def test_many_labels_are_known_better_than_one():
    levels = fit_label_levels(tasks_in(np.random.default_rng(1)), 800, 0)
    low, high = band(levels, *(Label(None, 0.1) for _ in range(12)))
    one = band(levels, Label(None, 0.1))
    assert high - low < 0.8 * (one[1] - one[0])


def test_the_same_tasks_give_the_same_draws():
    tasks = tasks_in(np.random.default_rng(1))
    one, again = (fit_label_levels(tasks, 60, 3) for _ in range(2))
    assert np.array_equal(one.effects, again.effects)
    assert one.labels == tuple(sorted(one.labels))


def test_a_task_whose_classes_were_not_all_measured_counts_with_those_that_were():
    tasks = tasks_in(np.random.default_rng(1))
    means = tasks[0].means.copy()
    means[:, 0] = np.nan
    gap = ClassScores(**{**vars(tasks[0]), "means": means})
    levels = fit_label_levels([gap, *tasks[1:]], 60, 0)
    assert np.isfinite(levels.scores([Label("AF", 0.1)], ASKED)).all()


def test_four_tasks_do_not_say_how_far_tasks_differ():
    with pytest.raises(FitError, match="4 tasks, it takes 5"):
        fit_label_levels(tasks_in(np.random.default_rng(1), 4), 60, 0)
