"""The section of the findings on the pre-trained network: its luck, its width and what it was pre-trained on.

All are differences on the same records. The luck is what the seed of the pre-training makes of a gain: the networks of
one upstream and one recipe that differ in nothing else.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from engine.deploy.markdown import table
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, SCRATCH
from studies.findings.claims import FEWEST_TASKS, judge_equal
from studies.findings.claims_section import effect
from studies.findings.protocol import NOT_RUN
from studies.fitting.random_effects import (
    Combined,
    GroupedValues,
    Split,
    combine,
    mean_over_sizes,
    share_between,
    split_variance,
)
from studies.runs.pairs import Cell, arm_scores, estimate_cells, pair_runs
from studies.runs.run import Run, Subset, known
from studies.runs.upstream_labels import Transfer

ARMS = (FINE_TUNE, LINEAR_PROBE)
_WIDTH = "-w"  # a narrow network is called as the full one, with this and its first width
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


def pretraining_lines(
    runs: Sequence[Run], stores: Sequence[Sequence[Run]], sharing: frozenset[Transfer], margin: float
) -> list[str]:
    """Return what the pre-trained network's seed, width and upstream make of the gain."""
    return [
        "### The luck of one network",
        "",
        *luck_lines(stores),
        "",
        "### Its width",
        "",
        *width_lines(runs, margin),
        "",
        "### What it was pre-trained on",
        "",
        *upstream_lines(runs, sharing),
    ]


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
        for arm in ARMS
        if shares[arm, "gain"]
    ]


def width_lines(runs: Sequence[Run], margin: float) -> list[str]:
    """Return whether a narrow network gains what the full one gains, on the same records."""
    scores = arm_scores(runs)
    lines: list[str] = []
    for wide, narrow in _widths({cell.network for cell in scores}):
        here = _matched(scores, wide, narrow)
        if any(here.values()):
            lines += [*_width_of(wide, narrow, here, margin), ""]
    missing = "runs of a narrow network and of the full one on the same records"
    return lines[:-1] or [f"{NOT_RUN}: it takes {missing}."]


def _widths(networks: set[str]) -> list[tuple[str, str]]:
    """Return the networks that were run at full width and narrow."""
    return sorted(
        (narrow.split(_WIDTH)[0], narrow) for narrow in networks if narrow.split(_WIDTH)[0] in networks - {narrow}
    )


def _matched(scores: Mapping[Cell, Mapping[str, float]], wide: str, narrow: str) -> dict[str, dict[Cell, float]]:
    """Return by how much the full network's scores are higher than the narrow one's, at its cells."""
    found: dict[str, dict[Cell, float]] = {arm: {} for arm in (SCRATCH, *ARMS)}
    for cell, of_narrow in scores.items():
        of_wide = scores.get(cell._replace(network=wide), {})
        for arm in found if cell.network == narrow and {SCRATCH} <= of_narrow.keys() & of_wide.keys() else ():
            if arm in of_wide and arm in of_narrow:
                found[arm][cell] = of_wide[arm] - of_narrow[arm]
    return found


def _width_of(wide: str, narrow: str, higher: Mapping[str, Mapping[Cell, float]], margin: float) -> list[str]:
    gains = {arm: {cell: value - higher[SCRATCH][cell] for cell, value in higher[arm].items()} for arm in ARMS}
    columns = {**gains, SCRATCH: higher[SCRATCH]}
    places = sorted({(cell.subset.task, cell.subset.n_records) for cell in higher[SCRATCH]})
    rows = [
        (task, f"{n:,}", *(effect(_over_tasks(_at(cells, task, n))) for cells in columns.values()),
         str(len(_at(higher[SCRATCH], task, n))))
        for task, n in places
    ]  # fmt: skip
    whole = ("**over tasks**", "", *(effect(_over_tasks(cells)) for cells in columns.values()), "")
    scores = ", ".join(f"{IN_WORDS[arm]} {effect(_over_tasks(cells)) or 'not run'}" for arm, cells in higher.items())
    return [
        f"The gain of `{wide}` minus that of `{narrow}`, and how much higher the full network scores from scratch, on "
        "the same records. The claim: the narrow network's gain stands for the full one's. Confirmed: the whole 90 % "
        f"interval over tasks lies within {margin:g} either way. Refuted: none of it does. Open otherwise, and with "
        f"fewer than {FEWEST_TASKS} tasks.",
        "",
        *(_width_verdict(arm, found, margin) for arm in ARMS if (found := _over_tasks(gains[arm]))),
        "",
        *table(
            ("task", "n", *(f"gain, {IN_WORDS[arm]}" for arm in ARMS), "score from scratch", "pairs"), [*rows, whole]
        ),
        "",
        f"The scores themselves, full minus narrow, over tasks: {scores}.",
    ]


def _at(cells: Mapping[Cell, float], task: str, n: int) -> dict[Cell, float]:
    return {cell: value for cell, value in cells.items() if (cell.subset.task, cell.subset.n_records) == (task, n)}


def _over_tasks(cells: Mapping[Cell, float]) -> Combined | None:
    by_task = estimate_cells(cells)
    return combine(by_task) if by_task else None


def _width_verdict(arm: str, found: Combined, margin: float) -> str:
    verdict = judge_equal((found.ci_lower, found.ci_upper), margin) if len(found.tasks) >= FEWEST_TASKS else "open"
    return f"- {IN_WORDS[arm]}: **{verdict}**, {effect(found)} over {len(found.tasks)} tasks."


def upstream_lines(runs: Sequence[Run], sharing: frozenset[Transfer]) -> list[str]:
    """Return what another pre-training scores on the same records, task by task."""
    scores: dict[tuple[str, str], dict[str, dict[Subset, Mapping[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for cell, by_arm in arm_scores(runs).items():
        if cell.upstream:
            scores[cell.subset.task, cell.network][cell.upstream][cell.subset] = by_arm
    rows = []
    for (task, network), by_upstream in sorted(scores.items()):
        ordered = sorted(by_upstream, key=lambda name: ((task, name) not in sharing, name))
        for one, other in combinations(ordered, 2):
            shared = sorted(by_upstream[one].keys() & by_upstream[other].keys())
            for n in sorted({subset.n_records for subset in shared}):
                here = [
                    (by_upstream[one][subset], by_upstream[other][subset]) for subset in shared if subset.n_records == n
                ]
                marked = f"{one} (own labels)" if (task, one) in sharing else one
                rows.append(
                    (
                        task,
                        network,
                        f"{marked} - {other}",
                        f"{n:,}",
                        *(_mean(here, arm, n) for arm in ARMS),
                        str(len(here)),
                    )
                )
    if not rows:
        return [f"{NOT_RUN}: it takes runs from two upstreams on the same records."]
    return [
        "The score from one upstream minus that from another, on the same records of the same task. An upstream with "
        "the task's own labels, on other patients, is marked.",
        "",
        *table(("task", "network", "pre-trained on", "n", *(IN_WORDS[arm] for arm in ARMS), "runs"), rows),
    ]


def _mean(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], arm: str, n: int) -> str:
    values = [(n, one[arm] - other[arm]) for one, other in pairs if arm in one and arm in other]
    found = mean_over_sizes(values)
    return effect(combine({"": found})) if found else ""
