"""What single classes scored in runs of an arm: what ``studies.fitting.label_levels`` is fitted to."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from studies.collection.patient_sampling import shared_test
from studies.fitting.label_levels import ClassScores, logit_auroc
from studies.runs.run import Run


def class_scores(runs: Sequence[Run]) -> ClassScores | None:
    """Sum up runs of an arm of one task by size and class; None where they do not say what single classes scored.

    The classes are those that the runs' macro averages take. Prevalences are those of all test records, the other
    numbers of one test set: where replicates are tested on records of their own, of the mean of these sets.
    """
    tests = list({run.spec.test_folds: run for run in runs if run.test_positives}.values())
    classes = runs[0].averaged
    if not tests or classes is None or not all(set(classes) <= set(run.test_positives) for run in tests):
        return None
    by_size = defaultdict(list)
    for run in runs:
        by_size[run.n_records].append([run.class_auroc[name] for name in classes])
    sizes = sorted(n for n, rows in by_size.items() if len(rows) > 1)
    if not sizes:
        return None
    scores = [np.array(by_size[n], np.float64) for n in sizes]  # of each size (replicates, classes)
    counts = np.array([[run.test_positives[name] for name in classes] for run in tests], np.float64)
    records = np.array([run.test_records for run in tests])
    return ClassScores(
        task=runs[0].task,
        classes=classes,
        prevalence=counts.sum(axis=0) / records.sum(),
        positives=counts.mean(axis=0),
        test_records=round(float(records.mean())),
        sizes=np.array(sizes, np.float64),
        means=np.array([rows.mean(axis=0) for rows in scores]),
        variances=np.array([logit_auroc(rows).var(axis=0, ddof=1) for rows in scores]),
        replicates=np.array([len(rows) for rows in scores], np.float64),
        shared_test=shared_test(runs),
    )
