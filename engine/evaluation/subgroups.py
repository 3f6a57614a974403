"""A network's score by sex and by age: where it serves some patients worse than others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.bootstrap import auroc_intervals, bootstrap_auroc_per_class, macro_interval
from engine.evaluation.metrics import LEAST_POSITIVES, _mean, auroc_per_class, averaged_classes
from engine.json_values import without_nan

MIN_RECORDS = 50  # a smaller group is named, not scored
AGE_BANDS = (("under 50", 0.0, 50.0), ("50 to 64", 50.0, 65.0), ("65 to 79", 65.0, 80.0), ("80 and over", 80.0, np.inf))
UNKNOWN = "unknown"


def subgroups(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
    patients: NDArray[np.int64],
    ages: NDArray[np.floating],
    sexes: NDArray[np.str_],
    seed: int,
    n_resamples: int = 1000,
    least_positives: int = LEAST_POSITIVES,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{"sex": {group: figures}, "age": {group: figures}}`` of the test records, ready for JSON.

    ``labels`` 0/1 and ``probabilities`` are (records, classes); ``patients``, ``ages`` in years (NaN: not known) and
    ``sexes`` ("": not known) are (records,). Figures are ``n`` records, ``n_classes`` over which ``auroc_macro`` is the
    mean (``averaged_classes`` of the group's own records), and its 90 % interval by patient; they are null for a group
    of fewer than 50 records. A group without any record is left out. Groups differ in which classes they have: see
    ``n_classes`` before comparing.
    """
    groups = {
        "sex": [(sex or UNKNOWN, sexes == sex) for sex in np.unique(sexes).tolist()],
        "age": [(name, (ages >= low) & (ages < high)) for name, low, high in AGE_BANDS] + [(UNKNOWN, np.isnan(ages))],
    }

    def figures(member: NDArray[np.bool_]) -> dict[str, Any]:
        n = int(member.sum())
        if n < MIN_RECORDS:
            return dict.fromkeys(_FIGURES) | {"n": n}
        own, scores, whose = labels[member], probabilities[member], patients[member]
        averaged, auroc = averaged_classes(own, least_positives), auroc_per_class(own, scores)
        resampled = bootstrap_auroc_per_class(own, scores, whose, n_resamples, seed)
        ends = macro_interval(resampled, averaged, auroc_intervals(resampled, auroc, own, whose))
        values = (n, int(averaged.sum()), _mean(auroc[averaged]), *ends)
        scored: dict[str, Any] = without_nan(dict(zip(_FIGURES, values, strict=True)))
        return scored

    return {
        attribute: {name: figures(member) for name, member in members if member.any()}
        for attribute, members in groups.items()
    }


_FIGURES = ("n", "n_classes", "auroc_macro", "auroc_macro_ci_lower", "auroc_macro_ci_upper")
