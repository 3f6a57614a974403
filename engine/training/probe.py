"""A linear probe: a penalised linear regression on what a network's ``head`` reads (Alain and Bengio, 2016).

Every class is a regression of its own (multi-label): least squares on labels of 0 and 1 with a ridge penalty, which is
linear discriminant analysis with shrinkage, then a slope and an intercept that make logits of its scores (Platt, 1999).
One penalty for all classes is chosen by leaving out one patient after the other, which for ridge regression takes no
further fits; the scores of records so left out are what slopes, calibration, thresholds and the validation score are
made of. So all records train, and none is kept back. The result is the weights of ``head``: an ordinary network.

Penalised logistic regression was tried first. On tuning records it scores .003 more on frequent classes and .01 to .05
less on rare ones, and takes ten times as long (``studies/LOG.md``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import nn

from engine.corpora.splits import has_both_outcomes
from engine.evaluation.metrics import auroc_macro
from engine.training.course import Examples
from engine.training.starting_point import head_inputs
from models.composed import feature_groups
from models.errors import ExitCode, UserError
from models.networks.random_convolutions import fit_constants

Floats = NDArray[np.float64]

PENALTIES = tuple(np.geomspace(1e6, 1.0, 17).tolist())  # in units of a standardised feature's sum of squares
_SLOPE_SPREAD, _LEAST_SLOPE = 1.0, 1e-3  # in units of what discriminant analysis gives a weak score
_NEGLIGIBLE = 1e-10  # of the largest eigenvalue: what directions below it hold is rounding
_CONSTANT = 1e-6  # of a feature's mean: a spread below it is rounding
_STEPS = 50  # of Newton's method for two numbers; about ten are needed


class ProbeError(UserError, ValueError):
    """Features that no probe can be fitted to."""

    exit_code = ExitCode.FAILURE


@dataclass(frozen=True)
class Probe:
    """A fitted probe: ``logits = features @ weight.T + bias``, of features as they are.

    ``weight`` (classes, features), ``bias`` (classes,), ``out_of_fold`` float32 logits (records, classes) of the
    training records, each by a regression that saw no record of its patient. ``loss`` is their regression's squared
    error in units of the variance of the labels, a mean over classes: 1 is what no feature gives; NaN where no class
    has both outcomes or there is one patient. ``auroc`` is their macro AUROC, NaN where no class has both outcomes.
    ``training_loss`` is the mean cross-entropy of the records as the fitted head sees them.
    """

    weight: Floats
    bias: Floats
    penalty: float
    out_of_fold: NDArray[np.float32]
    loss: float
    auroc: float
    training_loss: float

    def put_into(self, head: nn.Linear) -> None:
        """Make the weights of ``head`` those of the probe."""
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.weight))
            head.bias.copy_(torch.from_numpy(self.bias))


def start_from_probe(network: nn.Module, training: Examples, patients: NDArray[np.int64] | None = None) -> Probe:
    """Give ``head`` of a network the probe of its own features on training records, and return it.

    The first step of LP-FT (Kumar et al., ICLR 2022). ``patients`` (records,) are left out one by one where the penalty
    is chosen; None says that each record is another's. Where the network has random convolutions, their constants are
    fitted to the records first. The network stays on its device and is left in evaluation mode.
    """
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear), "the registry says so"
    signals = training.signals.to(head.weight.device)
    fit_constants(network, signals)
    features = head_inputs(network, signals).cpu().numpy()
    labels = training.labels.cpu().numpy().astype(np.uint8)
    apart = np.arange(len(labels)) if patients is None else patients
    probe = fit_probe(features, labels, apart, feature_groups(network))
    probe.put_into(head)
    return probe


def fit_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.uint8],
    patients: NDArray[np.int64],
    groups: Sequence[int] | None = None,
) -> Probe:
    """Fit a probe to ``features`` (records, features) and ``labels`` 0/1 (records, classes).

    All records of one of the ``patients`` (records,) are left out together. ``groups`` are the sizes of groups of
    features that follow each other (None: they are one): each has the same total variance, so that the penalty weighs
    a few features of one kind no less than many of another. A class without both outcomes gets the logit of its
    prevalence whatever the features; where all records are of one patient, the strongest penalty is taken. It takes one
    thread: what a run costs, and its last bits, do not depend on the number of processors. Raises ProbeError when a
    feature is not finite.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit(features, labels, patients, groups)


def _fit(
    features: NDArray[np.floating],
    labels: NDArray[np.uint8],
    patients: NDArray[np.int64],
    groups: Sequence[int] | None,
) -> Probe:
    if not np.isfinite(features).all():
        raise ProbeError("the network gives features that are not finite for some records: no probe can be fitted")
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # A feature that never changes, or in its last digits only, says nothing.
    spread = np.where(spread > _CONSTANT * np.abs(mean), spread, np.inf)
    sizes = np.asarray(groups or [features.shape[1]])
    spread *= np.repeat(np.sqrt(sizes * len(sizes) / features.shape[1]), sizes)
    scores, back = _principal_components((features - mean) / spread)
    outcomes, learnt = labels.astype(np.float64), has_both_outcomes(labels)
    penalty, left_out, loss = _choose_penalty(scores, outcomes, learnt, _left_out_together(patients))
    weights = _ridge(scores, outcomes, penalty)
    prevalence = outcomes.mean(axis=0)
    slope, intercept = _logits_of(left_out, outcomes, learnt)
    weight = (back @ weights * slope).T / spread
    bias = slope * prevalence + intercept
    fitted, out_of_fold = scores @ weights * slope + bias, left_out * slope + intercept
    training_loss = (np.logaddexp(0, fitted) - outcomes * fitted).mean()
    return Probe(
        weight, bias - weight @ mean, penalty, out_of_fold.astype(np.float32), loss, auroc_macro(labels, out_of_fold),
        float(training_loss),
    )  # fmt: skip


def _principal_components(standardised: Floats) -> tuple[Floats, Floats]:
    """Return coordinates (records, r), at most as many as records, and what turns weights of them into features'.

    What follows depends on neither their signs nor, of equally long ones, their directions.
    """
    n_records, n_features = standardised.shape
    wide = n_features > n_records
    values, vectors = np.linalg.eigh(standardised @ standardised.T if wide else standardised.T @ standardised)
    kept = values > _NEGLIGIBLE * max(values[-1], 0.0)
    vectors, lengths = vectors[:, kept], np.sqrt(values[kept])
    if wide:
        return vectors * lengths, standardised.T @ (vectors / lengths)
    return standardised @ vectors, vectors


def _ridge(scores: Floats, labels: Floats, penalty: float) -> Floats:
    """Return weights (r, classes) of the deviations of labels from their means: coordinates are orthogonal."""
    return np.asarray(scores.T @ (labels - labels.mean(axis=0)), np.float64) / (_lengths(scores) + penalty)[:, None]


def _lengths(scores: Floats) -> Floats:
    return np.asarray((scores**2).sum(axis=0), np.float64)


def _left_out_together(patients: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return positions (patients, records) of the records of each patient, patients with equally many together."""
    order = np.argsort(patients, kind="stable")
    _, first, counts = np.unique(patients[order], return_index=True, return_counts=True)
    return [order[first[counts == n][:, None] + np.arange(n)] for n in np.unique(counts)]


def _choose_penalty(
    scores: Floats, labels: Floats, learnt: NDArray[np.bool_], together: list[NDArray[np.int64]]
) -> tuple[float, Floats, float]:
    """Return the penalty, the scores (records, classes) that its regressions give patients left out, and their loss."""
    prevalence = labels.mean(axis=0)
    if len(together) == 1 and len(together[0]) == 1:  # one patient
        return PENALTIES[0], scores @ _ridge(scores, labels, PENALTIES[0]) + prevalence, float("nan")
    if not learnt.any():
        return PENALTIES[0], np.tile(prevalence, (len(labels), 1)), float("nan")
    variance = (prevalence * (1 - prevalence))[learnt]
    best: tuple[float, Floats, float] = PENALTIES[0], labels, np.inf
    for penalty in PENALTIES:
        left_out = _leave_out(scores, labels, penalty, together)
        loss = float((((labels - left_out)[:, learnt] ** 2).mean(axis=0) / variance).mean())
        if loss < best[2]:
            best = penalty, left_out, loss
    return best[0], best[1] + _shift_of_means(labels, together), best[2]


def _leave_out(scores: Floats, labels: Floats, penalty: float, together: list[NDArray[np.int64]]) -> Floats:
    """Return each record's scores (records, classes) by the ridge regression of the other patients' records.

    With the hat matrix H of all records, the residuals of records g left out are (I - H_gg)^-1 times those of the fit
    (Cook and Weisberg, Residuals and Influence in Regression, 1982); the intercept is that of the others, too.
    """
    residuals = labels - labels.mean(axis=0) - scores @ _ridge(scores, labels, penalty)
    shrunk = scores / np.sqrt(_lengths(scores) + penalty)
    left_out = np.empty_like(labels)
    for rows in together:
        of_patient = shrunk[rows]  # (patients, records of each, r)
        kept = np.eye(rows.shape[1]) - of_patient @ of_patient.swapaxes(1, 2) - 1 / len(labels)
        left_out[rows] = labels[rows] - np.linalg.solve(kept, residuals[rows])
    return left_out


def _shift_of_means(labels: Floats, together: list[NDArray[np.int64]]) -> Floats:
    """Return by how much the mean label of all is above that of the other patients, for each record.

    It is more for every positive record than for a negative one: with it left in the scores, chance would rank the
    positive ones last.
    """
    shift = np.empty_like(labels)
    for rows in together:
        others = (labels.sum(axis=0) - labels[rows].sum(axis=1)) / (len(labels) - rows.shape[1])
        shift[rows] = (labels.mean(axis=0) - others)[:, None, :]
    return shift


def _logits_of(left_out: Floats, labels: Floats, learnt: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return slopes and intercepts (classes,) that make logits of scores, from the scores of records left out.

    A class without both outcomes has the logit of its prevalence and no slope.
    """
    prevalence = (labels.sum(axis=0) + 0.5) / (len(labels) + 1)
    slope, intercept = np.zeros(len(prevalence)), np.log(prevalence / (1 - prevalence))
    for k in np.flatnonzero(learnt):
        slope[k], intercept[k] = _platt(left_out[:, k], labels[:, k])
    return slope, intercept


def _platt(scores: Floats, labels: Floats) -> tuple[float, float]:
    """Return slope and intercept of a logistic regression on one score, by Newton's method.

    The slope's unit is one over the variance of the labels, which is what discriminant analysis gives a weak score;
    it is drawn towards 1, since a few positive records can be told apart by any slope. A score that is no better than
    chance keeps its order and hardly moves the logit.
    """
    prevalence = labels.mean()
    unit = prevalence * (1 - prevalence)
    design = np.stack([(scores - prevalence) / unit, np.ones(len(scores))], axis=1)
    drawn, found = np.array([1 / _SLOPE_SPREAD**2, 0.0]), np.array([1.0, np.log(prevalence / (1 - prevalence))])
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(design @ found, -500, 500)))
        bend = (design * (probability * (1 - probability))[:, None]).T @ design + np.diag(drawn)
        pull = design.T @ (labels - probability) - drawn * (found - [1, 0])
        step = np.linalg.solve(bend + 1e-9 * np.eye(2), pull)
        found = found + step / max(1.0, float(np.abs(step).max()))  # no longer than 1: far out the bend vanishes
        if np.abs(step).max() < 1e-10:
            break
    slope, level = float(found[0]), float(found[1])
    if slope < _LEAST_SLOPE:
        slope, level = _LEAST_SLOPE, float(np.log(prevalence / (1 - prevalence)))
    return slope / unit, level - slope * prevalence / unit
