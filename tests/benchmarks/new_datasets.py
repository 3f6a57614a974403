"""How often the 90 % bands of a new dataset hold its truth, simulated from the model: tasks in sites, classes in tasks.

    python tests/benchmarks/new_datasets.py [SIMULATIONS]

Truths: logits of the AUROC from scratch as studies/fitting/label_levels.py has them, 1.5 + .25 log positives + .15 log
records, with standard deviations .15 between sites, .3 between tasks (slope .1), .5 between the 40 labels, .15 between
classes of one label (slope .05), .05 between sizes; what fine-tuning gains is .04 (500 / n)^.4, with standard
deviations half of that between sites and three quarters of it between tasks. Tasks have 1, 5 or 9 labels that .01 to .4
of the records have, three replicates, 1,000 test records. The new dataset is of another site, with 4 of the labels.

SIMULATIONS for each number of tasks and sites. Printed: how many bands of the expected score from scratch, of the gain
and, where labels are given, of the score with them, hold the truth at 500 records, and how wide they are.
"""

import sys

import numpy as np
from scipy.special import expit

from engine.records.label_names import finding_of
from studies.files.draws import BAND, bent
from studies.files.label_levels import Label, fixed_terms
from studies.fitting.label_levels import FEWEST_TASKS, ClassScores, fit_label_levels, logit_auroc
from studies.fitting.learning_curves import N_DRAWS, LearningCurveResults
from studies.fitting.noise import Noise
from studies.fitting.pooling import pool_tasks

SIZES = np.array([100.0, 250, 500, 1000, 2000])
NODES = np.concatenate([[25.0, 50.0], SIZES, [4000.0, 8000.0, 32000.0]])
LABELS = tuple(f"finding {k}" for k in range(40))
FIXED = np.array([1.5, 0.25, 0.15])
SITE, TASK, SLOPE, LABEL, CLASS, CLASS_SLOPE, SIZE = 0.15, 0.3, 0.1, 0.5, 0.15, 0.05, 0.05
GAIN, FADING = 0.04, 0.4
TEST_RECORDS, REPLICATES, ASKED = 1000, 3, 500.0


class World:
    """Labels, and what a task of a site truly scores."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.effects = rng, dict(zip(LABELS, rng.normal(0, LABEL, len(LABELS)), strict=True))

    def site(self) -> tuple[float, float]:
        """What a site adds to logits, and to gains in units of the mean gain."""
        return float(self.rng.normal(0, SITE)), float(self.rng.normal(0, 0.5))

    def task(
        self, site: tuple[float, float], n_labels: int, sizes: np.ndarray
    ) -> tuple[tuple[Label, ...], np.ndarray, np.ndarray]:
        """Labels, true AUROCs from scratch (sizes, labels), and true gains (sizes,)."""
        rng, log_n = self.rng, np.log(sizes / 500)[:, None]
        named = rng.choice(LABELS, n_labels, replace=False)
        labels = tuple(Label(finding_of(name), float(np.exp(rng.uniform(np.log(0.01), np.log(0.4))))) for name in named)
        shares = np.array([label.prevalence for label in labels])
        logits = fixed_terms(*np.broadcast_arrays(sizes[:, None], shares)) @ FIXED
        logits = (
            logits + site[0] + rng.normal(0, TASK) + rng.normal(0, SLOPE) * log_n + [self.effects[n] for n in named]
        )
        logits = logits + rng.normal(0, CLASS, n_labels) + rng.normal(0, CLASS_SLOPE, n_labels) * log_n
        logits = logits + rng.normal(0, SIZE, (len(sizes), 1))
        gains = GAIN * (500 / sizes) ** FADING * (1 + site[1] + rng.normal(0, 0.75))
        return labels, expit(logits), gains


def measured(world: World, task: str, labels: tuple[Label, ...], truth: np.ndarray) -> ClassScores:
    """What runs of a task say of its classes."""
    shares = np.array([label.prevalence for label in labels])
    positives = np.maximum(np.rint(shares * TEST_RECORDS), 2)
    noise = np.exp(-0.5 - fixed_terms(*np.broadcast_arrays(SIZES[:, None], shares))[..., 1]) * 0.3
    runs = logit_auroc(truth) + world.rng.standard_normal((REPLICATES, *truth.shape)) * np.sqrt(noise)
    test = (1.2 / np.sqrt(positives)) * world.rng.standard_normal(len(labels))
    means = expit(runs.mean(axis=0) + test)
    names = tuple(str(label.finding) for label in labels)
    replicates = np.full(len(SIZES), float(REPLICATES))
    return ClassScores(task, names, shares, positives, TEST_RECORDS, SIZES, means, runs.var(axis=0, ddof=1), replicates)


def fitted(world: World, macro: np.ndarray, gains: np.ndarray) -> LearningCurveResults:
    """A curve of a task that is known up to an error, as fits leave it: .01 of the score, .005 of the gain."""
    rng = world.rng
    scratch = macro + 0.01 * rng.standard_normal() + 0.01 * rng.standard_normal((N_DRAWS, 1))
    tuned = scratch + gains + 0.005 * rng.standard_normal() + 0.005 * rng.standard_normal((N_DRAWS, 1))
    law = {"a": np.ones(N_DRAWS), "b": np.zeros(N_DRAWS), "c": np.ones(N_DRAWS), "n0": np.zeros(N_DRAWS)}
    draws = {arm: bent(law, NODES, scores, 0.5) for arm, scores in (("scratch", scratch), ("fine-tune", tuned))}
    noise = Noise(-2.0, 0.5, 0.4)
    return LearningCurveResults(draws, SIZES, noise, 5, {"separate": 1.0}, np.zeros(N_DRAWS, np.bool_), (), 0.5)


def simulate(n_tasks: int, n_sites: int, seed: int) -> dict[str, tuple[bool, float]]:
    """Return whether each band holds, and its width."""
    world = World(np.random.default_rng([seed, n_tasks, n_sites]))
    sites = [world.site() for _ in range(n_sites)]
    fits, classes = {}, []
    for k in range(n_tasks):
        site, n_labels = k % n_sites, (1, 5, 9)[k % 3]
        labels, truth, gains = world.task(sites[site], n_labels, NODES)
        name = f"s{site}/t{k}"
        fits[name] = fitted(world, truth.mean(axis=1), gains)
        classes.append(measured(world, name, labels, truth[np.isin(NODES, SIZES)]))
    new, truth, gains = world.task(world.site(), 4, np.array([ASKED]))
    pooled, at = pool_tasks(fits, seed), np.array([ASKED])
    scratch, tuned = (pooled.scores(arm, at)[:, 0] for arm in ("scratch", "fine-tune"))
    found = {"score": (scratch, truth.mean()), "gain": (tuned - scratch, gains[0])}
    if n_tasks >= FEWEST_TASKS:
        found["score with labels"] = fit_label_levels(classes, 500, seed).scores(new, at)[:, 0], truth.mean()
    ends = {name: (*np.quantile(draws, BAND), value) for name, (draws, value) in found.items()}
    return {name: (bool(low <= value <= high), float(high - low)) for name, (low, high, value) in ends.items()}


def main(simulations: int) -> None:
    """Print a row for each number of tasks and sites."""
    for n_tasks, n_sites in ((3, 2), (8, 2), (8, 4), (20, 2), (20, 4), (20, 10)):
        found = [simulate(n_tasks, n_sites, seed) for seed in range(simulations)]
        parts = []
        for name in found[0]:
            holds, widths = (np.array([one[name][k] for one in found], np.float64) for k in (0, 1))
            error = (holds.mean() * (1 - holds.mean()) / simulations) ** 0.5
            parts.append(f"{name} {holds.mean():.2f} (se {error:.2f}), {widths.mean():.3f} wide")
        sys.stdout.write(f"{n_tasks:2} tasks in {n_sites:2} sites: {'; '.join(parts)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
