"""The luck of one pre-trained network: what the seed of its pre-training makes of a score and of a gain.

That are differences on the same records between networks of one upstream and one recipe that differ in nothing else.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from engine.deploy.markdown import table
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, PRETRAINED_STRATEGIES, SCRATCH
from studies.findings.protocol import NOT_RUN
from studies.fitting.random_effects import GroupedValues, Split, share_between, split_variance
from studies.runs.pairs import pair_runs
from studies.runs.run import Run, known

Place = tuple[str, str, int]  # a task, an upstream and a number of records
Quantity = tuple[str, str]  # an arm, and what of its pair with scratch
QUANTITIES: tuple[Quantity, ...] = (
    (FINE_TUNE, "score"),
    (LINEAR_PROBE, "score"),
    (FINE_TUNE, "scratch"),
    (FINE_TUNE, "gain"),
    (LINEAR_PROBE, "gain"),
)
_NAMES = {
    (arm, of_pair): "from scratch, score" if of_pair == SCRATCH else f"{IN_WORDS[arm]}, {of_pair}"
    for arm, of_pair in QUANTITIES
}


def luck_lines(stores: Sequence[Sequence[Run]]) -> list[str]:
    """Return how much of the variance of scores and gains lies between pre-trainings that differ in their seed."""
    splits = {quantity: split_by_seed(stores, quantity) for quantity in QUANTITIES}
    places = sorted({place for found in splits.values() for place in found})
    if not places:
        return [f"{NOT_RUN}: it takes pairs from two pre-trainings of one upstream that differ in their seed."]
    rows = [
        (task, f"{n:,}", *(_two_sds(found.get((task, upstream, n))) for found in splits.values()))
        for task, upstream, n in places
    ]
    for n, together in sorted(Counter(n for _, _, n in places).items()):
        if together > 1:
            of_size = ([split for place, split in found.items() if place[2] == n] for found in splits.values())
            rows.append((f"share, {together} tasks", f"{n:,}", *map(_share, of_size)))
    shares = {quantity: _share(list(found.values())) for quantity, found in splits.items()}
    rows.append(("**share, all together**", "", *(f"**{share}**" for share in shares.values())))
    seeds = max(len(set(values.groups)) for values in values_by_seed(stores, QUANTITIES[0]).values())
    return [
        f"Upstreams were pre-trained again from other seeds, {seeds} networks of one in all, and each network was "
        "tried on records of its own. First in a cell: by how much the means of networks differ beyond chance "
        "(standard deviation). Second: by how much runs of one network scatter. The share is that of the networks in "
        "the variance of one run or pair. Where replicates have test folds of their own, only runs on the same folds "
        "are compared.",
        "",
        *table(("task", "n", *(_NAMES[quantity] for quantity in QUANTITIES)), rows),
        "",
        "Runs from scratch know nothing of the network. What they show is chance, and a share of another column says "
        "something only as far as it is beyond theirs: where the intervals overlap it is open whether the network is "
        "in it. Some trainings from scratch fail, and with such values the intervals are too short. With so few "
        "networks they are wide, and single rows are little more than a sign. The same networks appear at several n, "
        "and tasks may share an upstream: the intervals of several rows together take them as independent and are "
        "somewhat too short.",
        "",
        *(f"- {line}" for line in _in_words(shares)),
    ]


def values_by_seed(stores: Sequence[Sequence[Run]], quantity: Quantity) -> dict[Place, GroupedValues]:
    """Return scores or gains by the seed of the pre-training, test folds as blocks, where there are several seeds.

    They are of one store and one recipe: the same pre-training made on another processor rounds to another network.
    The store with most pairs of a place is taken.
    """
    arm, of_pair = quantity
    found: dict[Place, list[tuple[int, tuple[int, ...], float]]] = {}
    for runs in stores:
        here: dict[tuple[Place, str, str], list[tuple[int, tuple[int, ...], float]]] = defaultdict(list)
        scored = [run for run in runs if run.role == "downstream" and run.has_score]
        for recipe in sorted({run.recipe or "" for run in scored}):
            for pair in pair_runs([run for run in scored if (run.recipe or "") == recipe], arm):
                run, place = (
                    pair.fine_tuned,
                    (pair.fine_tuned.task, known(pair.fine_tuned.upstream), pair.scratch.n_records),
                )
                value = {"score": run.score, "scratch": pair.scratch.score, "gain": pair.gain}[of_pair]
                here[place, run.network, recipe].append((run.spec.upstream_replicate, run.spec.test_folds, value))
        for (place, *_), values in sorted(here.items()):
            if len({seed for seed, _, _ in values}) > 1 and len(values) > len(found.get(place, ())):
                found[place] = values
    return {
        place: GroupedValues(np.array([value for _, _, value in values]), tuple(seed for seed, _, _ in values),
                             tuple(folds for _, folds, _ in values))
        for place, values in found.items()
    }  # fmt: skip


def split_by_seed(stores: Sequence[Sequence[Run]], quantity: Quantity) -> dict[Place, Split]:
    """Return how the values split into those of networks and those of runs, where both have a degree of freedom."""
    found = {place: split_variance(values) for place, values in sorted(values_by_seed(stores, quantity).items())}
    return {place: split for place, split in found.items() if split is not None}


def _two_sds(split: Split | None) -> str:
    return "" if split is None else f"{split.between_sd:.3f} / {split.within_sd:.3f}"


def _share(splits: Sequence[Split]) -> str:
    if not splits:
        return ""
    middle, low, high = share_between(splits)
    return f"{middle:.0%} ({low:.0%} to {high:.0%})"


def _in_words(shares: Mapping[Quantity, str]) -> list[str]:
    """Say of every arm what share of the variance of its gain, and of its score, is the luck of the one network."""
    chance = shares[FINE_TUNE, "scratch"]
    return [
        f"{IN_WORDS[arm].capitalize()}: of the variance of a pair's gain {shares[arm, 'gain']} lies between "
        f"pre-trained networks, of that of the score itself {shares[arm, 'score']}; of runs from scratch, by chance "
        f"alone, {chance}."
        for arm in PRETRAINED_STRATEGIES
        if shares[arm, "gain"]
    ]
