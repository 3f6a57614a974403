"""A linear probe: penalised logistic regression on what a network's ``head`` reads (Alain and Bengio, 2016).

Every class is a regression of its own (multi-label), with one penalty for all: cross-validation by patient chooses it
on the training records, and its logits of the records that each regression did not see are what calibration,
thresholds and the validation score are made of. So all records train, and none is kept back. The result is the weights
of ``head``: an ordinary network.

The regressions of all classes are one convex problem, solved in the coordinates of the features' principal components,
where it is nearly diagonal: with more features than records they are at most as many as records, and a ridge
penalty is the same in all orthogonal coordinates, so that the solution does not depend on the signs of the components.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.corpora.splits import has_both_outcomes, make_folds
from engine.evaluation.metrics import auroc_macro
from engine.training.course import Examples
from engine.training.starting_point import head_inputs

Floats = NDArray[np.float64]

FOLDS = 5
PENALTIES = tuple(np.geomspace(1e5, 1e-1, 13).tolist())  # of the sum over records; strongest first
_FEWEST = 3  # records with and without a class for its loss to take part in the choice of the penalty
_PATIENCE = 2  # penalties in a row that are no better, from the strongest down, end the search
_NEGLIGIBLE = 1e-10  # of the largest eigenvalue: what directions below it hold is rounding
_CURVATURE = 0.1  # of the loss, about that of a probability of .1: scales the coordinates, does not move the solution


@dataclass(frozen=True)
class Probe:
    """A fitted probe: ``logits = features @ weight.T + bias``, of features as they are.

    ``weight`` (classes, features), ``bias`` (classes,), ``out_of_fold`` float32 logits (records, classes) of the
    training records, each by regressions that saw no record of its patient. ``loss`` is their cross-entropy in units of
    that of the prevalence alone, a mean over classes: 1 is what no feature gives; NaN where no class has records
    enough. ``auroc`` is their macro AUROC, NaN where no class has both outcomes.
    """

    weight: Floats
    bias: Floats
    penalty: float
    out_of_fold: NDArray[np.float32]
    loss: float
    auroc: float

    def put_into(self, head: nn.Linear) -> None:
        """Make the weights of ``head`` those of the probe."""
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.weight))
            head.bias.copy_(torch.from_numpy(self.bias))


def start_from_probe(network: nn.Module, training: Examples, patients: NDArray[np.int64]) -> Probe:
    """Give ``head`` of a network the probe of its own features on training records, and return it.

    The first step of LP-FT (Kumar et al., ICLR 2022). ``patients`` (records,) keeps the records of one together where
    the penalty is chosen. The network is left in evaluation mode.
    """
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear), "the registry says so"
    features = head_inputs(network, training.signals.to(head.weight.device)).cpu().numpy()
    probe = fit_probe(features, training.labels.cpu().numpy().astype(np.uint8), patients)
    probe.put_into(head)
    return probe


def fit_probe(
    features: NDArray[np.floating], labels: NDArray[np.uint8], patients: NDArray[np.int64], folds: int = FOLDS
) -> Probe:
    """Fit a probe to ``features`` (records, features) and ``labels`` 0/1 (records, classes).

    ``patients`` (records,) are never on two sides of the cross-validation. A class without both outcomes gets the logit
    of its prevalence whatever the features, and where no class has enough records to compare penalties, or all
    records are of one patient, the strongest one is taken. Raises ValueError when a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite: no probe can be fitted")
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, np.inf)  # a feature that never changes says nothing
    standardised = (features - mean) / spread
    scores, back = _principal_components(standardised)
    outcomes = labels.astype(np.float64)
    parts = _parts(patients, folds)
    penalty, out_of_fold, loss = _choose_penalty(scores, outcomes, parts)
    weights, bias = _regress(scores, outcomes, penalty)
    weight = (back @ weights).T / spread
    out_of_fold += bias  # of all records: that of a part that lacks a fold's positives is lower, and ranks them last
    return Probe(
        weight, bias - weight @ mean, penalty, out_of_fold.astype(np.float32), loss, auroc_macro(labels, out_of_fold)
    )


def _principal_components(standardised: Floats) -> tuple[Floats, Floats]:
    """Return coordinates (records, r) of standardised features, and what turns weights of these into theirs."""
    n_records, n_features = standardised.shape
    wide = n_features > n_records
    values, vectors = np.linalg.eigh(standardised @ standardised.T if wide else standardised.T @ standardised)
    kept = values > _NEGLIGIBLE * max(values[-1], 0.0)
    vectors, lengths = vectors[:, kept], np.sqrt(values[kept])
    if wide:
        return vectors * lengths, standardised.T @ (vectors / lengths)
    return standardised @ vectors, vectors


def _parts(patients: NDArray[np.int64], folds: int) -> list[NDArray[np.bool_]]:
    """Return which records (records,) each fold holds, whole patients in one; none where there is one patient."""
    n_patients = len(np.unique(patients))
    if n_patients < 2:
        return []
    of_record = make_folds(patients, min(folds, n_patients))
    return [of_record == fold for fold in np.unique(of_record)]


def _choose_penalty(scores: Floats, labels: Floats, parts: list[NDArray[np.bool_]]) -> tuple[float, Floats, float]:
    """Return the penalty, the logits (records, classes) that its regressions give out of fold, without intercepts, and
    their loss.

    The penalties are tried from the strongest down, each from where the last one ended, until none is better.
    """
    positives = labels.sum(axis=0)
    counted = np.minimum(positives, len(labels) - positives) >= _FEWEST
    if not parts or not counted.any():
        return PENALTIES[0], np.zeros_like(labels), float("nan")
    best, worse = (PENALTIES[0], np.zeros_like(labels), np.inf), 0
    starts: list[tuple[Floats, Floats] | None] = [None] * len(parts)
    for penalty in PENALTIES:
        logits, slopes = np.zeros_like(labels), np.zeros_like(labels)
        for k, held_out in enumerate(parts):
            weights, bias = starts[k] = _regress(scores[~held_out], labels[~held_out], penalty, starts[k])
            slopes[held_out] = scores[held_out] @ weights
            logits[held_out] = slopes[held_out] + bias
        loss = float(_relative_loss(logits, labels)[counted].mean())
        worse = 0 if loss < best[2] else worse + 1
        if loss < best[2]:
            best = penalty, slopes, loss
        if worse >= _PATIENCE:
            break
    return best


def _relative_loss(logits: Floats, labels: Floats) -> Floats:
    """Return each class's cross-entropy, in units of that of a probability that is its prevalence."""
    prevalence = labels.mean(axis=0)
    losses = (np.logaddexp(0, logits) - labels * logits).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a class with one outcome has none
        entropy = -(prevalence * np.log(prevalence) + (1 - prevalence) * np.log1p(-prevalence))
        return np.asarray(losses / entropy, np.float64)


def _regress(
    scores: Floats, labels: Floats, penalty: float, start: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """Return the weights (r, classes) and intercepts (classes,) that minimise, for each class, the cross-entropy summed
    over records plus ``penalty / 2`` times the squared length of its weights.
    """
    from scipy.optimize import minimize

    n_records, n_classes = labels.shape
    positives = labels.sum(axis=0)
    bias = np.log((positives + 0.5) / (n_records - positives + 0.5))
    weights = np.zeros((scores.shape[1], n_classes))
    learnt = has_both_outcomes(labels.astype(np.uint8))
    if not learnt.any() or not scores.size:
        return weights, bias
    targets = labels[:, learnt]
    # Coordinates in which the loss bends about equally in all directions, so that few steps are needed.
    scale = 1 / np.sqrt(_CURVATURE * (scores**2).sum(axis=0) + penalty)
    scaled, ridge, width = scores * scale, penalty * scale**2, 1 / np.sqrt(_CURVATURE * n_records)

    def loss(flat: Floats) -> tuple[float, Floats]:
        inner, shift = flat[:-n_fitted].reshape(-1, n_fitted), flat[-n_fitted:] * width
        logits = scaled @ inner + shift
        odds = np.exp(-np.abs(logits))
        value = np.maximum(logits, 0).sum() + np.log1p(odds).sum() - (targets * logits).sum()
        slope = np.where(logits >= 0, 1, odds) / (1 + odds) - targets
        pulled = ridge[:, None] * inner
        gradient = np.concatenate([(scaled.T @ slope + pulled).ravel(), slope.sum(axis=0) * width])
        return float(value + (inner * pulled).sum() / 2), gradient

    n_fitted = int(learnt.sum())
    first = np.concatenate([np.zeros(scores.shape[1] * n_fitted), bias[learnt] / width])
    if start is not None:
        first = np.concatenate([(start[0][:, learnt] / scale[:, None]).ravel(), start[1][learnt] / width])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options=_PRECISION).x
    weights[:, learnt] = found[:-n_fitted].reshape(-1, n_fitted) * scale[:, None]
    bias[learnt] = found[-n_fitted:] * width
    return weights, bias


_PRECISION = {"maxiter": 1000, "maxfun": 2000, "maxcor": 20, "ftol": 0.0, "gtol": 1e-4}
