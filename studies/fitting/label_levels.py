"""How high a network scores on labels that nobody has measured together: a hierarchical model of single classes.

The class's AUROC from scratch, in logits, is linear in the log of the positive records it learns from and in the log of
all records, and further differs by site, by task within it, by what the label is (an AF is easier to find than an old
infarction, wherever it is), by class within the task and by size; tasks and classes have a slope of their own too. The
macro AUROC is the mean over the classes. A label that a measured task has keeps what is known of it, a new one is one
of the labels that there are. What a class scores is known with the noise of its runs, by a law in positive records, and
of its test records (Hanley and McNeil, Radiology 143, 1982).

Empirical Bayes: the standard deviations of the levels are drawn from a normal approximation of the posterior of their
logs, and what is linear is exact for each of them. From three sites nobody can tell how far sites differ: there the
prior speaks. Only the score from scratch is modelled here: neither the positives nor the label nor the number of
classes predict by how much another arm is better (METHODS.md, Labels of a new dataset).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit

from engine.records.label_names import finding_of
from studies.files.arms import SCRATCH
from studies.files.draws import Floats
from studies.files.label_levels import CLASSES_TOGETHER, LEVELS, LabelLevels, class_variance, fixed_terms
from studies.fitting.paired_runs import FitError

FEWEST_TASKS = 5
_LEAST, _MOST = 0.03, 0.995  # AUROCs beyond these count as these: their logit would run away
_FIXED_SD = (1.5, 0.3, 0.3)  # of the priors of the level, and of the slopes in positives and in records
_TYPICAL = {  # the prior of each level's standard deviation, in logits
    "task": 0.3, "task slope": 0.1, "class": 0.35, "class slope": 0.08, "label": 0.4, "site": 0.12, "size": 0.06,
    "rest": 0.08,
}  # fmt: skip
_LOG_SD = {"site": 0.5}  # of the log of these standard deviations: so many times as large or small
_ANY_LOG_SD = 0.8
_HYPER = 50  # draws of the standard deviations
_STEP, _REACH_OF_PRIOR, _NEWTON_STEPS = 0.05, 4.0, 30
_SIZES_TOGETHER = 0.55  # correlation of the noise of a test set at two sizes
_OWN_FREEDOM = 4.0  # degrees of freedom that the law of the runs' noise counts for against a cell's own
_LAW_START, _SLOPE_OF_LAW = (-0.5, -1.0, -1.0), (-1.0, 0.5)
_JITTER = 1e-4


@dataclass(frozen=True)
class ClassScores:
    """What the classes of a task scored by one arm: ``means`` and ``variances`` (sizes, classes) over ``replicates``.

    ``prevalence`` and ``positives`` (classes,) are those of the ``test_records``. Means are AUROCs, variances those of
    their logits over the replicates of a size (sizes,). ``shared_test`` is the share of pairs of replicates that are
    tested on the same records: the noise of the test records that the others have is in the variances.
    """

    task: str
    classes: tuple[str, ...]
    prevalence: Floats
    positives: Floats
    test_records: int
    sizes: Floats
    means: Floats
    variances: Floats
    replicates: Floats
    shared_test: float = 1.0

    @property
    def site(self) -> str:
        """Whose records they are."""
        return self.task.split("/")[0]

    @property
    def findings(self) -> tuple[str, ...]:
        """The labels, in names that sources share."""
        return tuple(finding_of(name, self.site) for name in self.classes)

    @property
    def fewest(self) -> Floats:
        """Test records (classes,) with each class or without it, whichever are fewer."""
        return np.minimum(self.positives, self.test_records - self.positives)


def logit_auroc(values: Floats) -> Floats:
    """Return logits of AUROCs, those of scores next to 0 and 1 held where replicates can still tell them apart."""
    return np.asarray(logit(np.clip(values, _LEAST, _MOST)), np.float64)


def fit_label_levels(tasks: Sequence[ClassScores], n_draws: int, seed: int) -> LabelLevels:
    """Return draws of the model from the classes of tasks. Raises FitError for fewer than five tasks."""
    if len(tasks) < FEWEST_TASKS:
        raise FitError(f"what labels say of a score cannot be told from {len(tasks)} tasks, it takes {FEWEST_TASKS}")
    model = _Model(tuple(tasks))
    start = model.log_typical
    bounds = [(value - _REACH_OF_PRIOR, value + _REACH_OF_PRIOR) for value in start]
    near = minimize(model.misfit, start, method="L-BFGS-B", jac=True, bounds=bounds).x
    best = model.sharpen(near)
    rng = np.random.default_rng(seed)
    spread = np.linalg.cholesky(model.spread_at(best))
    drawn = best + rng.standard_normal((_HYPER, len(best))) @ spread.T
    drawn = np.clip(drawn, start - _REACH_OF_PRIOR, start + _REACH_OF_PRIOR)
    which = np.arange(n_draws) % _HYPER
    linear = np.empty((n_draws, model.n_linear))
    for k in range(min(_HYPER, n_draws)):
        centre, covariance = model.linear(drawn[k])
        of_it = which == k
        normal = rng.standard_normal((int(of_it.sum()), model.n_linear))
        linear[of_it] = centre + normal @ np.linalg.cholesky(covariance).T
    n_fixed, n_labels = len(_FIXED_SD), len(model.labels)
    return LabelLevels(
        labels=model.labels,
        sites=model.sites,
        fixed=linear[:, :n_fixed],
        effects=linear[:, n_fixed : n_fixed + n_labels],
        spreads=np.exp(drawn[which]),
        noise={SCRATCH: model.noise},
    )


@dataclass(frozen=True)
class _Cells:
    """The class cells of one task: ``y`` logits (M,), ``noise`` (M, M), the design and what goes with each level."""

    y: Floats
    noise: Floats
    design: Floats
    kernels: tuple[Floats, ...]


class _Model:
    """The likelihood of the logs of the levels' standard deviations, all that is linear integrated out."""

    def __init__(self, tasks: tuple[ClassScores, ...]) -> None:
        self.tasks = tasks
        self.labels = tuple(sorted({name for task in tasks for name in task.findings}))
        self.sites = tuple(sorted({task.site for task in tasks}))
        self.log_typical = np.log([_TYPICAL[level] for level in LEVELS])
        self.prior_precision = np.array([_LOG_SD.get(level, _ANY_LOG_SD) for level in LEVELS]) ** -2.0
        self.n_linear = len(_FIXED_SD) + len(self.labels) + len(self.sites)

    @cached_property
    def noise(self) -> tuple[float, ...]:
        """The law of the noise of runs."""
        return fit_class_noise(self.tasks)

    @cached_property
    def cells(self) -> list[_Cells]:
        """What each task's classes scored, with its noise."""
        return [self._arrange(task, self.noise) for task in self.tasks]

    def _arrange(self, task: ClassScores, law: tuple[float, ...]) -> _Cells:
        measured = np.isfinite(task.means) & np.isfinite(task.variances)
        at, of = np.nonzero(measured)
        n, replicates = task.sizes[at], task.replicates[at]
        same_size, same_class = at[:, None] == at[None, :], of[:, None] == of[None, :]
        of_law = class_variance(law, n, task.prevalence[of], task.fewest[of])
        variance = (_OWN_FREEDOM * of_law + (replicates - 1) * task.variances[measured]) / (
            _OWN_FREEDOM + replicates - 1
        )
        runs = np.where(same_class, 1.0, CLASSES_TOGETHER) * same_size * np.sqrt(_outer(variance / replicates))
        test = task.shared_test * _test_variance(task.means[measured], task.positives[of], task.test_records)
        patients = same_class * np.where(same_size, 1.0, _SIZES_TOGETHER) * np.sqrt(_outer(test))
        design = np.zeros((len(n), self.n_linear))
        design[:, : len(_FIXED_SD)] = fixed_terms(n, task.prevalence[of])
        columns = np.array([self.labels.index(name) for name in task.findings]) + len(_FIXED_SD)
        design[np.arange(len(n)), columns[of]] = 1.0
        design[:, len(_FIXED_SD) + len(self.labels) + self.sites.index(task.site)] = 1.0
        slopes = _outer(design[:, 2])
        level = np.ones_like(slopes)
        of_task, of_class = (level, slopes), (level * same_class, slopes * same_class)
        kernels = (*of_task, *of_class, level * same_size, level * same_size * same_class)
        noise = runs + patients + _JITTER * np.eye(len(n))
        return _Cells(logit_auroc(task.means[measured]), noise, design, kernels)

    def linear(self, log_sd: Floats) -> tuple[Floats, Floats]:
        """Return mean and covariance of what is linear, for standard deviations of the levels."""
        precision, moments, _, _ = self._sum_up(log_sd)
        covariance = np.asarray(np.linalg.inv(precision), np.float64)
        return covariance @ moments, covariance

    def misfit(self, log_sd: Floats) -> tuple[float, Floats]:
        """Return minus the log posterior of the logs of the standard deviations, and its gradient."""
        precision, moments, constant, inverses = self._sum_up(log_sd)
        covariance = np.linalg.inv(precision)
        centre = covariance @ moments
        away = log_sd - self.log_typical
        total = constant - 0.5 * moments @ centre + 0.5 * np.linalg.slogdet(precision)[1]
        variance = np.exp(2 * log_sd)
        slope = np.zeros(len(LEVELS))
        for cells, inverse in zip(self.cells, inverses, strict=True):
            whitened = inverse @ cells.design
            residual = inverse @ (cells.y - cells.design @ centre)
            by_covariance = 0.5 * (inverse - np.outer(residual, residual) - whitened @ covariance @ whitened.T)
            slope[_WITHIN] += [(by_covariance * kernel).sum() for kernel in cells.kernels]
        second = np.diag(covariance) + centre**2
        for level, columns in self._across.items():
            v = variance[level]
            slope[level] += 0.5 * (len(centre[columns]) / v - second[columns].sum() / v**2)
        value = total + 0.5 * (self.prior_precision * away**2).sum()
        return float(value), slope * 2 * variance + self.prior_precision * away

    @cached_property
    def _across(self) -> dict[int, slice]:
        """Which columns of what is linear belong to the levels that go across tasks: labels and sites."""
        first = len(_FIXED_SD)
        then = first + len(self.labels)
        return {LEVELS.index("label"): slice(first, then), LEVELS.index("site"): slice(then, self.n_linear)}

    def _sum_up(self, log_sd: Floats) -> tuple[Floats, Floats, float, list[Floats]]:
        """Return precision and moments of what is linear, half the rest of the deviance, and inverse covariances."""
        variance = np.exp(2 * log_sd)
        prior = np.concatenate([np.array(_FIXED_SD) ** -2.0, np.ones(self.n_linear - len(_FIXED_SD))])
        for level, columns in self._across.items():
            prior[columns] = 1 / variance[level]
        precision, moments, constant, inverses = np.diag(prior), np.zeros(self.n_linear), -np.log(prior).sum(), []
        for cells in self.cells:
            covariance = cells.noise + np.tensordot(variance[_WITHIN], np.array(cells.kernels), 1)
            root = np.linalg.cholesky(covariance)
            half = np.linalg.inv(root)
            inverse = half.T @ half
            precision = precision + cells.design.T @ inverse @ cells.design
            moments = moments + cells.design.T @ inverse @ cells.y
            constant += cells.y @ inverse @ cells.y + 2 * np.log(np.diag(root)).sum()
            inverses.append(inverse)
        return precision, moments, 0.5 * float(constant), inverses

    def sharpen(self, log_sd: Floats) -> Floats:
        """Go on to where the gradient is zero: where a search ends depends on how a machine rounds, this does not."""
        spread = self.spread_at(log_sd)
        for _ in range(_NEWTON_STEPS):
            log_sd = log_sd - spread @ self.misfit(log_sd)[1]
        return log_sd

    def spread_at(self, log_sd: Floats) -> Floats:
        """Return the covariance of the logs about their most likely values, from the curvature there."""
        steps = _STEP * np.eye(len(log_sd))
        curvature = np.array([(self.misfit(log_sd + step)[1] - self.misfit(log_sd - step)[1]) for step in steps])
        curvature = (curvature + curvature.T) / (4 * _STEP)
        values, vectors = np.linalg.eigh(curvature)
        values = np.maximum(values, self.prior_precision.min())  # flat or bent the wrong way: the prior is left
        return np.asarray((vectors / values) @ vectors.T, np.float64)


_WITHIN = np.array([LEVELS.index(name) for name in ("task", "task slope", "class", "class slope", "size", "rest")])


def _outer(values: Floats) -> Floats:
    return np.asarray(np.multiply.outer(values, values), np.float64)


def _test_variance(auroc: Floats, positives: Floats, records: int) -> Floats:
    """Return the variance of a logit AUROC from its test records, the AUROC drawn towards 0.75 by two positives."""
    a = (auroc * positives + 0.75 * 2) / (positives + 2)
    negatives = records - positives
    one, other = a / (2 - a), 2 * a**2 / (1 + a)
    variance = a * (1 - a) + (positives - 1) * (one - a**2) + (negatives - 1) * (other - a**2)
    return np.asarray(variance / (positives * negatives) / (a * (1 - a)) ** 2, np.float64)


def fit_class_noise(tasks: Sequence[ClassScores]) -> tuple[float, ...]:
    """Fit the law of how far classes scatter from run to run (``studies.files.label_levels.class_variance``).

    Variances of cells follow it times an F of few degrees, for cells differ.
    """
    of_tasks = []
    for task in tasks:
        at, of = np.nonzero(np.isfinite(task.variances))
        cells = task.sizes[at], task.prevalence[of], task.fewest[of], task.replicates[at]
        of_tasks.append((task.variances[at, of], *cells))
    columns = (np.concatenate(column) for column in zip(*of_tasks, strict=True))
    variance, n_records, prevalence, positives, replicates = columns
    nu = replicates - 1

    def misfit(law: NDArray[np.float64]) -> float:
        ratio = variance / class_variance(law.tolist(), n_records, prevalence, positives)
        density = 0.5 * nu * np.log(ratio + 1e-12) - 0.5 * (nu + _OWN_FREEDOM) * np.log1p(nu / _OWN_FREEDOM * ratio)
        mean, sd = _SLOPE_OF_LAW
        return float(-density.sum() + 0.5 * ((law[1] - mean) / sd) ** 2 + 0.5 * (law[2] / 2) ** 2)

    exact = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000, "maxfev": 5000}  # the same on every machine
    return tuple(minimize(misfit, _LAW_START, method="Nelder-Mead", options=exact).x.tolist())
