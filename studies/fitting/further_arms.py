"""Further arms of a curve: what each adds to scratch, by a fit of its own pairs.

The two arms that every curve has are fitted together, and adding an arm changes none of their draws. A further arm is
fitted together with the runs from scratch of the same sizes and replicates, in the role of the fine-tuned one. Draw i
of it is draw i of the curve's scratch plus draw i of the difference in its own fit, at nodes. Both fits use the same
random numbers, so that a draw in which scratch is high is one in both, and its error does not count twice.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from studies.files.arms import SCRATCH
from studies.files.draws import Floats, bent, evaluate, no_better_with_fewer
from studies.fitting.learning_curves import LearningCurveResults, fit_learning_curves
from studies.fitting.paired_runs import FitError, PairedRuns


def fit_arms(
    runs: PairedRuns, further: Mapping[str, PairedRuns], seed: int
) -> tuple[LearningCurveResults, dict[str, str]]:
    """Fit ``runs`` as ``fit_learning_curves`` does, and add the ``further`` arms, each with its runs from scratch.

    Returns the fit, and why an arm is not in it. Raises FitError where ``runs`` allow no fit.
    """
    fit, failures = fit_learning_curves(runs, seed), {}
    for arm, pairs in further.items():
        try:
            fit = _add(fit, arm, pairs, seed)
        except FitError as error:
            failures[arm] = str(error)
    return fit, failures


def _add(fit: LearningCurveResults, arm: str, pairs: PairedRuns, seed: int) -> LearningCurveResults:
    own = fit_learning_curves(pairs, seed)
    noise = own.further_noise[arm]  # an arm of cheap fits may vary far less than scratch
    scratch = fit.draws[SCRATCH]
    nodes = np.union1d(scratch["nodes"], own.draws[arm]["nodes"])
    difference = own.scores(arm, nodes) - own.scores(SCRATCH, nodes)
    said = tuple(warning for warning in own.warnings if warning.startswith(arm))  # of scratch the first fit has said it
    return replace(
        fit,
        draws={**fit.draws, arm: add_to_scratch(scratch, nodes, difference, float(pairs.sizes.min()), fit.chance)},
        further_noise={**fit.further_noise, arm: noise},
        warnings=(*fit.warnings, *said),
    )


def add_to_scratch(
    scratch: Mapping[str, Floats], nodes: Floats, difference: Floats, smallest: float, chance: float
) -> dict[str, Floats]:
    """Return draws with scratch's law that are scratch's and a ``difference`` (draws, nodes) at ``nodes``.

    None is better with fewer records than the ``smallest`` measured size.
    """
    scores = evaluate(scratch, nodes, chance) + difference
    law = {name: scratch[name] for name in ("a", "b", "c", "n0")}
    return bent(law, nodes, no_better_with_fewer(scores, int((nodes < smallest).sum())), chance)
