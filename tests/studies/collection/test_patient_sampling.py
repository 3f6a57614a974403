"""Replicates that are tested on records of their own, on the same, and on something between the two."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.collection.class_scores import class_scores
from studies.collection.collect import make_curves, measure_runs
from studies.collection.patient_sampling import covariance_of_all, describe_test, sampling_covariance, shared_test
from studies.files.curves import parse_curves
from studies.runs.run import Run
from studies.runs.store import Store

CNN = "resnet1d18-w16"
EVERY = set(range(1, 11))


def on_folds(run: Run, test: Sequence[int], **changes: object) -> Run:
    """The run tested on other folds, and trained on all others."""
    spec = {**run.details["spec"], "test_folds": list(test), "pool_folds": sorted(EVERY - set(test))}
    return replace(run, details={**run.details, "spec": spec, **changes})


def in_turn(runs: Sequence[Run], n_sets: int = 5) -> list[Run]:
    """The runs, every replicate tested on two folds of its own."""
    return [on_folds(run, [2 * (run.replicate % n_sets) + 1, 2 * (run.replicate % n_sets) + 2]) for run in runs]


@pytest.fixture
def runs(tmp_path: Path, synthetic_store: Callable[..., Store]) -> list[Run]:
    truths = (lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    found = synthetic_store(tmp_path / "s.db", *truths).runs()
    return [run for run in found if run.arch == CNN or run.role == "pretraining"]


def downstream(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.role == "downstream"]


def turned(runs: Sequence[Run]) -> list[Run]:
    return [*(run for run in runs if run.role == "pretraining"), *in_turn(downstream(runs))]


@pytest.mark.parametrize(
    ("sets", "share"), [((0, 0, 0), 1.0), ((0, 1, 2), 0.0), ((0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4), 18 / 110)]
)
def test_the_share_is_that_of_pairs_of_replicates_with_the_same_test_records(sets, share, synthetic_run):
    made = [synthetic_run(CNN, "scratch", 100, k, 0.8) for k in range(len(sets))]
    tested = [on_folds(run, [2 * of + 1, 2 * of + 2]) for run, of in zip(made, sets, strict=True)]
    assert shared_test(tested) == pytest.approx(share)


@pytest.mark.parametrize("sets", [(0, 0, 0, 0), (0, 1, 2, 3), (0, 0, 1, 2), (0, 0, 0, 1, 1, 2)])
def test_scatter_and_share_add_up_to_the_variance_of_the_mean(sets, synthetic_run):
    """Exactly, from the covariance of the replicates: what they scatter by, over their number, and the shared rest."""
    of_test, of_run, number = 0.02**2, 0.03**2, len(sets)
    together = np.equal.outer(sets, sets)
    covariance = of_test * together + of_run * np.eye(number)
    of_mean = covariance.mean()
    scatter = (np.trace(covariance) - number * of_mean) / (number - 1)  # expected variance of the sample
    tested = [on_folds(synthetic_run(CNN, "scratch", 100, k, 0.8), [of + 1]) for k, of in enumerate(sets)]
    assert scatter / number + shared_test(tested) * of_test == pytest.approx(of_mean)


def test_replicates_in_turn_share_no_noise_of_the_test_patients(runs: list[Run]):
    arms = {arm: [run for run in downstream(runs) if run.strategy == arm] for arm in ("scratch", "fine-tune")}
    assert (sampling_covariance(arms).diagonal() > 0).all()
    own = {arm: in_turn(of) for arm, of in arms.items()}
    assert not sampling_covariance(own).any()
    some = {arm: in_turn(of, 2) for arm, of in arms.items()}
    assert (sampling_covariance(some).diagonal() > 0).all()
    assert (sampling_covariance(some).diagonal() < sampling_covariance(arms).diagonal()).all()


def test_a_curve_of_replicates_in_turn_says_what_tested_it_and_that_nothing_is_shared(runs: list[Run]):
    (one,) = [curve for curve in parse_curves(make_curves(runs, "s")).curves if curve.arch == CNN]
    document = make_curves(turned(runs), "s")
    (curve,) = document["curves"]
    assert curve["runs"] == one.runs
    assert not np.any(curve["test_covariance"])
    assert not np.any(curve["patients"]["covariance"])
    facts = curve["provenance"]
    assert (facts["test_sets"], facts["test_folds"], facts["pool_folds"]) == (5, [*EVERY], [*EVERY])
    assert facts["test_records"] == 5 * one.test_records
    assert "test_sets" not in describe_test(downstream(runs))


def refused(runs: Sequence[Run]) -> str:
    measured, failures = measure_runs(runs)
    assert not measured
    (said,) = failures
    return said


def test_test_folds_that_overlap_arms_that_differ_and_other_classes_are_refused(runs: list[Run]):
    made = turned(runs)
    place = next(
        k for k, run in enumerate(made) if (run.role, run.strategy, run.replicate) == ("downstream", "scratch", 1)
    )

    def with_one(run: Run) -> list[Run]:
        return [*made[:place], run, *made[place + 1 :]]

    assert "overlap" in refused(with_one(on_folds(made[place], [4, 5])))
    assert "arms of a pair are tested on different folds" in refused(with_one(on_folds(made[place], [9, 10])))
    spec = {**made[place].details["spec"], "pool_folds": [1, 2]}
    assert "differ in recipe, data or folds" in refused(
        with_one(replace(made[place], details={**made[place].details, "spec": spec}))
    )
    fewer = replace(made[place], details={**made[place].details, "auroc": {"a": 0.8, "b": 0.7}, "left_out": ["b"]})
    assert "study rescore" in refused(with_one(fewer))


def test_classes_of_replicates_in_turn_have_the_positives_of_one_test_set_and_the_share_of_all(synthetic_run):
    made = []
    for k, positives in enumerate((10, 12, 14)):
        evaluation = {"classes": {"MI": {"positives": positives}}}
        facts = {"auroc": {"MI": 0.7 + 0.01 * k}, "left_out": [], "evaluation": evaluation, "test_records": 50 + k}
        made.append(on_folds(synthetic_run(CNN, "scratch", 100, k, 0.8), [k + 1], **facts))
    found = class_scores(made)
    assert found is not None
    assert (found.positives.tolist(), found.test_records, found.shared_test) == ([12], 51, 0)
    np.testing.assert_allclose(found.prevalence, [36 / 153])


def test_arms_that_ran_less_are_compared_where_all_have_run(runs: list[Run]):
    """A further arm that stopped half way lacks some test sets of the others: no crash, what all have is taken."""
    made = in_turn(downstream(runs), 3)
    scratch, tuned = ([run for run in made if run.strategy == arm] for arm in ("scratch", "fine-tune"))
    few = [run for run in tuned if run.n_records <= 250 and run.replicate < 4]
    found = covariance_of_all({"scratch": scratch, "fine-tune": tuned, "linear-probe": few})
    assert found is not None
    assert found.arms == ("scratch", "fine-tune", "linear-probe")
    assert np.isfinite(found.values).all()
    assert (found.values.diagonal() > 0).all()
    assert covariance_of_all({"scratch": scratch, "fine-tune": []}) is None
