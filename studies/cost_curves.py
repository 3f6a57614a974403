"""What a training costs: records seen follow from the recipe, seconds from the measured speed of a device."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.recipes import Recipe
from studies.store import RunRecord


def fit_cost(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """Return what ``predict_cost`` needs, from the runs of one network, strategy and recipe.

    ``seconds_per_record`` is the median over the runs, validation and all, of training seconds per record seen, and
    ``share_to_best`` the median share of them at which the best validation epoch was reached.
    """
    recipe = Recipe(**runs[0].details["recipe"])
    return {
        "device": runs[0].row["device"],
        "record_passes": recipe.record_passes,
        "min_epochs": recipe.min_epochs,
        "max_epochs": recipe.max_epochs,
        "validation_fraction": recipe.validation_fraction,
        "seconds_per_record": float(np.median([run.row["seconds"] / run.row["records_seen"] for run in runs])),
        "share_to_best": float(np.median([run.row["records_to_best"] / run.row["records_seen"] for run in runs])),
    }
