"""The end of a training, the same for a network for use and for a run of a study: predict, calibrate, test.

Temperature and thresholds are chosen on the validation records. The test records are predicted once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine.checkpoints.checkpoint import CheckpointFacts
from engine.corpora.corpus import TaskData
from engine.evaluation.calibration import calibrated_probabilities, choose_thresholds, fit_temperature
from engine.evaluation.evaluation import Evaluation, evaluate
from engine.evaluation.metrics import LEAST_POSITIVES
from engine.seeds import stable_seed
from engine.training.loop import Examples, predict_logits

N_RESAMPLES = 1000  # of the test patients


@dataclass(frozen=True)
class Predicted:
    """What a network says of records, and what is true of them.

    ``logits`` float32 and ``labels`` uint8 0/1 are (records, classes), ``patients`` (records,).
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    patients: NDArray[np.int64]

    @classmethod
    def by(cls, network: nn.Module, examples: Examples, data: TaskData, rows: NDArray[np.int64]) -> "Predicted":
        """Predict ``examples``, the records at the positions ``rows`` of ``data``."""
        return cls(predict_logits(network, examples.signals).numpy(), data.labels[rows], data.patients[rows])


def calibrate(facts: CheckpointFacts, validation: Predicted, specificity: float | None = None) -> CheckpointFacts:
    """Add the temperature, the thresholds of the probabilities that it gives, and by which rule these were chosen.

    They are those of highest F1, or of a ``specificity``.
    """
    temperature = fit_temperature(validation.labels, validation.logits)
    probabilities = calibrated_probabilities(validation.logits, temperature)
    thresholds = choose_thresholds(validation.labels, probabilities, specificity)
    rule = {"rule": "highest-f1"} if specificity is None else {"rule": "specificity", "specificity": specificity}
    return replace(
        facts, temperature=temperature, thresholds=tuple(thresholds.tolist()),
        record={**facts.record, "threshold_rule": rule},
    )  # fmt: skip


def add_test_scores(
    facts: CheckpointFacts,
    data: TaskData,
    test: Predicted,
    n_resamples: int = N_RESAMPLES,
    least_positives: int = LEAST_POSITIVES,
    prevalence: Mapping[str, float] | None = None,
) -> tuple[CheckpointFacts, Evaluation]:
    """Add the scores of calibrated probabilities on the test records; return them too, with their resamples.

    Macro averages take the classes with ``least_positives`` positive and negative test records; ``prevalence`` is what
    predictive values are stated for.
    """
    thresholds = np.array(facts.class_thresholds)
    scores = _score(data, test, facts.temperature, thresholds, n_resamples, least_positives, prevalence)
    metrics = {name: getattr(scores, name) for name in ("auroc_macro", "auprc_macro", "brier")}
    return replace(facts, metrics={**facts.metrics, **metrics}, evaluation=scores.as_dict(bootstrap=False)), scores


def score_raw(data: TaskData, validation: Predicted, test: Predicted, n_resamples: int = N_RESAMPLES) -> Evaluation:
    """Score probabilities that are not calibrated, with thresholds of such probabilities."""
    thresholds = choose_thresholds(validation.labels, calibrated_probabilities(validation.logits, 1.0))
    return _score(data, test, 1.0, thresholds, n_resamples, LEAST_POSITIVES)


def _score(
    data: TaskData, test: Predicted, temperature: float, thresholds: NDArray[np.float64], n_resamples: int,
    least_positives: int, prevalence: Mapping[str, float] | None = None,
) -> Evaluation:  # fmt: skip
    """Score the test records, on the same resamples of their patients for every network of a task."""
    probabilities = calibrated_probabilities(test.logits, temperature)
    return evaluate(
        test.labels, probabilities, test.patients, data.classes, thresholds, resampling_seed(data), n_resamples,
        least_positives, prevalence,
    )  # fmt: skip


def resampling_seed(data: TaskData) -> int:
    """Return the seed of the resamples of a task's test patients."""
    return stable_seed(data.name)
