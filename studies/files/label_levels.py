"""What labels say of the score to expect, as draws, in plain numpy: ``studies.fitting.label_levels`` makes them.

A draw holds the fixed terms, the effect of every label that was measured, and the standard deviations of the levels
that a new dataset's tasks, classes and sites deviate by. Deviations follow Student's t of eight degrees of freedom with
these standard deviations, because some tasks are far from the others.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from studies.files.arms import SCRATCH
from studies.files.draws import Draws, Floats, bent, evaluate, no_better_with_fewer

LEVELS = ("task", "task slope", "class", "class slope", "label", "site", "size", "rest")
_FREEDOM = 8
_LEARNED_FROM = 0.8  # share of the records that train; the others validate
_POSITIVES, _RECORDS = 31.0, 500.0  # where the fixed terms are zero: positives, one added, and records
_N_FIXED = 3
CLASSES_TOGETHER = 0.08  # correlation of the scores of a run's classes, from replicate to replicate
_TESTED_ON, _LEAST_VARIANCE = 1_000, 1e-5
_MOST_SD = 0.2  # of a class's AUROC from run to run
_LAW_LENGTH, _LAW_DIGITS = 3, 4
_MOST_SCORE, _MOST_ROOM = 0.9995, 2.0
_PER_UNIT, _LIMIT, _STORED = 1_000, 32.0, "<i2"  # of a file: thousandths of a logit, and of a log of a deviation


@dataclass(frozen=True)
class Label:
    """A label of the asker's: the name that sources share, None where it is not said, and its share of the records.

    The share lies between 0 and 1. Where most records have a label, those without it are the few that teach it.
    """

    finding: str | None
    prevalence: float

    @property
    def rarer(self) -> float:
        """The share of the records with it or without it, whichever are fewer."""
        return min(self.prevalence, 1 - self.prevalence)


@dataclass(frozen=True)
class LabelLevels:
    """Draws of ``fixed`` (draws, 3), of the ``effects`` (draws, labels), of ``spreads`` (draws, levels), in logits.

    ``noise`` is each arm's law of how far a class scatters from run to run (``class_variance``).
    """

    labels: tuple[str, ...]
    sites: tuple[str, ...]
    fixed: Floats
    effects: Floats
    spreads: Floats
    noise: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def scores(self, labels: Sequence[Label], sizes: Floats, seed: int = 0) -> Floats:
        """Return draws (draws, sizes) of the macro AUROC from scratch of a new dataset with these labels."""
        n_draws, n_sizes, n_labels = len(self.fixed), len(sizes), len(labels)
        terms = fixed_terms(np.repeat(sizes, n_labels), np.tile([label.prevalence for label in labels], n_sizes))
        logits = (self.fixed @ terms.T).reshape(n_draws, n_sizes, n_labels)
        for k, label in enumerate(labels):
            if (known := self.find(label)) is not None:
                logits[:, :, k] += self.effects[:, known, None]
        logits += self._deviations(labels, np.log(sizes / _RECORDS), np.random.default_rng(seed))
        return np.asarray((1 / (1 + np.exp(-logits))).mean(axis=2), np.float64)

    def find(self, label: Label) -> int | None:
        """Return which of the measured labels it is, upper or lower case alike; None for another one."""
        names = [name.casefold() for name in self.labels]
        wanted = (label.finding or "").casefold()
        return names.index(wanted) if wanted in names else None

    def run_sd(
        self, arm: str, labels: Sequence[Label], n_records: float, macro: float, test_records: int | None = None
    ) -> float:
        """Return the standard deviation of a single run's macro AUROC about its expectation, which is ``macro``.

        Tested on ``test_records``, by default a thousand. Raises KeyError for an arm whose noise is not known.
        """
        prevalence, rarer = (np.array([getattr(one, name) for one in labels]) for name in ("prevalence", "rarer"))
        tested = np.maximum(rarer * (test_records or _TESTED_ON), 1.0)
        logit = class_variance(self.noise[arm], np.full(len(labels), n_records), prevalence, tested)
        variance = np.minimum(logit * (macro * (1 - macro)) ** 2, _MOST_SD**2)
        together = CLASSES_TOGETHER * np.sqrt(variance).sum() ** 2
        return float(np.sqrt((1 - CLASSES_TOGETHER) * variance.sum() + together) / len(labels))

    def _deviations(self, labels: Sequence[Label], log_n: Floats, rng: "np.random.Generator") -> Floats:
        """Draw by how much a new dataset is off (draws, sizes, labels)."""
        n_draws, n_sizes, n_labels = len(self.fixed), len(log_n), len(labels)
        sd = {level: self.spreads[:, k, None, None] for k, level in enumerate(LEVELS)}
        new = np.array([self.find(label) is None for label in labels], np.float64)
        slope = log_n[None, :, None]

        def normal(of_sizes: int, of_labels: int) -> Floats:
            return rng.standard_normal((n_draws, of_sizes, of_labels))

        off = sd["site"] * normal(1, 1) + sd["task"] * normal(1, 1) + sd["task slope"] * slope * normal(1, 1)
        off = off + sd["class"] * normal(1, n_labels) + sd["class slope"] * slope * normal(1, n_labels)
        off = off + sd["label"] * new * normal(1, n_labels)
        off = off + sd["size"] * normal(n_sizes, 1) + sd["rest"] * normal(n_sizes, n_labels)
        return np.asarray(off * np.sqrt((_FREEDOM - 2) / rng.chisquare(_FREEDOM, (n_draws, 1, 1))), np.float64)


def draws_given(
    arms: Mapping[str, Draws], levels: LabelLevels, labels: Sequence[Label], smallest: float, chance: float
) -> dict[str, dict[str, Floats]]:
    """Return the draws of a new dataset's arms given its labels; ``smallest`` is the least number of records measured.

    Labels say how high scratch scores. What another arm has over it is as in any new dataset, times how much more or
    less room there is above scratch: at 0.98 nothing gains 0.05.
    """
    nodes = arms[SCRATCH]["nodes"]
    scratch, before = levels.scores(labels, nodes), evaluate(arms[SCRATCH], nodes, chance)
    room = np.minimum((1 - scratch.mean(axis=0)) / (1 - before.mean(axis=0)), _MOST_ROOM)
    n_below = int((nodes < smallest).sum())
    law = {name: values for name, values in arms[SCRATCH].items() if name not in ("nodes", "bend")}
    given = {}
    for arm, draws in arms.items():
        over = (evaluate(draws, nodes, chance) - before) * room
        scores = no_better_with_fewer(np.clip(scratch + over, chance, _MOST_SCORE), n_below)
        given[arm] = bent(law, nodes, scores, chance)
    return given


def write_levels(levels: LabelLevels, kept: int) -> dict[str, Any]:
    """Return the first ``kept`` draws ready for JSON: one row a draw, thousandths in 16 bits, in base64."""
    rows = np.column_stack([levels.fixed, levels.effects, np.log(levels.spreads)])[:kept]
    stored = np.rint(np.clip(rows, -_LIMIT, _LIMIT) * _PER_UNIT).astype(_STORED)
    draws = b2a_base64(stored.tobytes(), newline=False).decode()
    noise = {arm: [round(value, _LAW_DIGITS) for value in law] for arm, law in levels.noise.items()}
    return {"labels": list(levels.labels), "sites": list(levels.sites), "noise": noise, "draws": draws}


def read_levels(written: Mapping[str, Any]) -> LabelLevels:
    """Read what ``write_levels`` wrote. Raises ValueError, KeyError or TypeError for what does not fit together."""
    labels, sites = (tuple(str(name) for name in written[key]) for key in ("labels", "sites"))
    values = np.frombuffer(a2b_base64(written["draws"]), _STORED) / _PER_UNIT
    width = _N_FIXED + len(labels) + len(LEVELS)
    if not values.size or values.size % width:
        raise ValueError("what its labels say does not fit their number")
    rows = values.reshape(-1, width)
    last = _N_FIXED + len(labels)
    noise = {str(arm): tuple(float(value) for value in law) for arm, law in written["noise"].items()}
    if any(len(law) != _LAW_LENGTH or not np.isfinite(law).all() for law in noise.values()):
        raise ValueError("a law of the noise of classes has other than three numbers")
    return LabelLevels(labels, sites, rows[:, :_N_FIXED], rows[:, _N_FIXED:last], np.exp(rows[:, last:]), noise)


def class_variance(law: Sequence[float], n_records: Floats, prevalence: Floats, positives: Floats) -> Floats:
    """Return the variance of one run's logit AUROC of a class by a ``law`` of three numbers.

    Less with more positive records to learn from, and with more ``positives`` to be tested on (of records with the
    class and without it the fewer, in both).
    """
    level, slope, of_test = law
    events = fixed_terms(n_records, prevalence)[..., 1]
    return np.asarray(np.exp(level + slope * events) + np.exp(of_test) / positives + _LEAST_VARIANCE, np.float64)


def fixed_terms(n_records: Floats, prevalence: Floats) -> Floats:
    """Return the terms (..., 3): 1, the log of the positive records that a class is learned from, that of all records.

    Both logs are zero at usual numbers. Where most records are positive, the negative ones count.
    """
    positives = n_records * _LEARNED_FROM * np.minimum(prevalence, 1 - prevalence)
    one = np.ones_like(n_records)
    return np.stack([one, np.log((positives + 1) / _POSITIVES), np.log(n_records / _RECORDS)], axis=-1)
