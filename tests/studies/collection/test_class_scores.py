"""What single classes scored, summed up from runs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from studies.collection.class_scores import class_scores
from studies.runs.run import Run

POSITIVES = {"NORM": 900, "MI": 500, "rare": 3}


def run_of(synthetic_run: Callable[..., Run], n: int, replicate: int, **changes: object) -> Run:
    run = synthetic_run("resnet1d18-w16", "scratch", n, replicate, 0.8)
    classes = {name: {"positives": count} for name, count in POSITIVES.items()}
    auroc = {"NORM": 0.9 + 0.01 * replicate, "MI": 0.7, "rare": 0.5}
    return replace(
        run,
        details={**run.details, "auroc": auroc, "left_out": ["rare"], "evaluation": {"classes": classes}, **changes},
    )


def test_classes_of_the_macro_average_are_summed_up_by_size(synthetic_run: Callable[..., Run]):
    runs = [run_of(synthetic_run, n, k) for n in (500, 100) for k in range(3)] + [run_of(synthetic_run, 2000, 0)]
    found = class_scores(runs)
    assert found is not None
    assert found.classes == ("NORM", "MI")
    assert found.sizes.tolist() == [100, 500], "one replicate says nothing of its noise"
    np.testing.assert_allclose(found.means, [[0.91, 0.7], [0.91, 0.7]])
    np.testing.assert_allclose(found.prevalence, [900 / 2158, 500 / 2158])
    assert found.variances[0, 1] == pytest.approx(0, abs=1e-20)
    assert found.variances[0, 0] > 0
    assert found.replicates.tolist() == [3, 3]
    assert found.findings == ("NORM", "MI")


def test_runs_that_do_not_say_what_classes_scored_or_how_many_positives_tested_them_give_nothing(
    synthetic_run: Callable[..., Run],
):
    assert class_scores([synthetic_run("resnet1d18-w16", "scratch", 100, k, 0.8) for k in range(3)]) is None
    assert class_scores([run_of(synthetic_run, 100, k, evaluation={}) for k in range(3)]) is None
    assert class_scores([run_of(synthetic_run, n, 0) for n in (100, 500)]) is None
