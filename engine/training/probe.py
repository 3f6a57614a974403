"""A linear probe: penalised logistic regression on what a network's ``head`` reads (Alain and Bengio, 2016).

Every class is a regression of its own (multi-label), with one penalty for all, in units of the variance of its labels,
so that a rare class is not shrunk more than a frequent one. Cross-validation by patient chooses the penalty on the
training records, and its logits of the records that each regression did not see are what calibration,
thresholds and the validation score are made of. So all records train, and none is kept back. The result is the weights
of ``head``: an ordinary network.

The regressions of all classes are one convex problem, solved in the coordinates of the features' principal components,
where it is nearly diagonal: with more features than records they are at most as many as records, and a ridge
penalty is the same in all orthogonal coordinates, so that the solution does not depend on the signs of the components.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.corpora.splits import has_both_outcomes, make_folds
from engine.evaluation.metrics import auroc_macro
from engine.training.course import Examples
from engine.training.starting_point import head_inputs
from models.composed import feature_groups
from models.random_convolutions import fit_constants

Floats = NDArray[np.float64]

FOLDS = 5
PENALTIES = tuple(np.geomspace(1e5, 1e-1, 13).tolist())  # of the sum over records; strongest first
_FEWEST = 3  # records with and without a class for its loss to take part in the choice of the penalty
_PATIENCE = 2  # penalties in a row that are no better, from the strongest down, end the search
_NEGLIGIBLE = 1e-10  # of the largest eigenvalue: what directions below it hold is rounding


@dataclass(frozen=True)
class Probe:
    """A fitted probe: ``logits = features @ weight.T + bias``, of features as they are.

    ``weight`` (classes, features), ``bias`` (classes,), ``out_of_fold`` float32 logits (records, classes) of the
    training records, each by regressions that saw no record of its patient. ``loss`` is their cross-entropy in units of
    that of the prevalence alone, a mean over classes: 1 is what no feature gives; NaN where no class has records
    enough. ``auroc`` is their macro AUROC, NaN where no class has both outcomes. ``training_loss`` is the mean
    cross-entropy of the records that it was fitted to.
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


def start_from_probe(network: nn.Module, training: Examples, patients: NDArray[np.int64]) -> Probe:
    """Give ``head`` of a network the probe of its own features on training records, and return it.

    The first step of LP-FT (Kumar et al., ICLR 2022). ``patients`` (records,) keeps the records of one together where
    the penalty is chosen. Where the network has random convolutions, their constants are fitted to the records first.
    The network stays on its device and is left in evaluation mode.
    """
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear), "the registry says so"
    signals = training.signals.to(head.weight.device)
    fit_constants(network, signals)
    features = head_inputs(network, signals).cpu().numpy()
    labels = training.labels.cpu().numpy().astype(np.uint8)
    probe = fit_probe(features, labels, patients, feature_groups(network))
    probe.put_into(head)
    return probe


def fit_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.uint8],
    patients: NDArray[np.int64],
    groups: Sequence[int] | None = None,
    folds: int = FOLDS,
) -> Probe:
    """Fit a probe to ``features`` (records, features) and ``labels`` 0/1 (records, classes).

    ``patients`` (records,) are never on two sides of the cross-validation. ``groups`` are the sizes of groups of
    features that follow each other (None: they are one): each has the same total variance, so that the penalty weighs
    a few features of one kind no less than many of another. A class without both outcomes gets the logit
    of its prevalence whatever the features, and where no class has enough records to compare penalties, or all
    records are of one patient, the strongest one is taken. Raises ValueError when a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite: no probe can be fitted")
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, np.inf)  # a feature that never changes says nothing
    sizes = np.asarray(groups or [features.shape[1]])
    spread *= np.repeat(np.sqrt(sizes * len(sizes) / features.shape[1]), sizes)
    scores, back = _principal_components((features - mean) / spread)
    outcomes = labels.astype(np.float64)
    penalty, out_of_fold, loss = _choose_penalty(scores, outcomes, _parts(patients, folds))
    weights, bias = _regress(scores, outcomes, penalty)
    weight = (back @ weights).T / spread
    out_of_fold += bias  # of all records: that of a part that lacks a fold's positives is lower, and ranks them last
    auroc, training_loss = auroc_macro(labels, out_of_fold), _losses(scores @ weights + bias, outcomes).mean()
    return Probe(
        weight, bias - weight @ mean, penalty, out_of_fold.astype(np.float32), loss, auroc, float(training_loss)
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


def _losses(logits: Floats, labels: Floats) -> Floats:
    """Return each class's mean cross-entropy."""
    return np.asarray((np.logaddexp(0, logits) - labels * logits).mean(axis=0), np.float64)


def _relative_loss(logits: Floats, labels: Floats) -> Floats:
    """Return each class's cross-entropy, in units of that of a probability that is its prevalence."""
    prevalence, losses = labels.mean(axis=0), _losses(logits, labels)
    with np.errstate(divide="ignore", invalid="ignore"):  # a class with one outcome has none
        entropy = -(prevalence * np.log(prevalence) + (1 - prevalence) * np.log1p(-prevalence))
        return np.asarray(losses / entropy, np.float64)


def _regress(
    scores: Floats, labels: Floats, penalty: float, start: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """Return the weights (r, classes) and intercepts (classes,) that minimise, for each class, the cross-entropy summed
    over records plus ``penalty / 2`` times the variance of its labels times the squared length of its weights.
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
    prevalence = targets.mean(axis=0)
    # Coordinates in which the loss bends about equally in all directions, so that few steps are needed: without
    # weights it bends by the variance of the labels times the sum of a feature's squares.
    variance = prevalence * (1 - prevalence)
    along = 1 / np.sqrt((scores**2).sum(axis=0) + penalty)
    scale, width = along[:, None] / np.sqrt(variance), 1 / np.sqrt(n_records * variance)
    ridge = (penalty * along**2)[:, None]

    def loss(flat: Floats) -> tuple[float, Floats]:
        inner, shift = flat[: -len(width)].reshape(scale.shape), flat[-len(width) :]
        logits = scores @ (inner * scale) + shift * width
        odds = np.exp(-np.abs(logits))
        value = np.maximum(logits, 0).sum() + np.log1p(odds).sum() - (targets * logits).sum()
        slope = np.where(logits >= 0, 1, odds) / (1 + odds) - targets
        pulled = ridge * inner
        gradient = np.concatenate([((scores.T @ slope) * scale + pulled).ravel(), slope.sum(axis=0) * width])
        return float(value + (inner * pulled).sum() / 2), gradient

    first = np.concatenate([np.zeros(scale.size), bias[learnt] / width])
    if start is not None:
        first = np.concatenate([(start[0][:, learnt] / scale).ravel(), start[1][learnt] / width])
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options=_PRECISION).x
    weights[:, learnt] = found[: -len(width)].reshape(scale.shape) * scale
    bias[learnt] = found[-len(width) :] * width
    return weights, bias


_PRECISION = {"maxiter": 1000, "maxfun": 2000, "maxcor": 20, "ftol": 0.0, "gtol": 1e-4}
