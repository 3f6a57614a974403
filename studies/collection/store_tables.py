"""What stores hold, as tables: cells and arms, pre-trained networks, devices, times and versions."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from engine.deploy.markdown import table
from engine.recipes import Strategy
from studies.files.precision import with_precision
from studies.runs.pairs import Pair
from studies.runs.run import Run, known
from studies.runs.task_names import parse_task
from studies.runs.tidy_runs import comparable_runs, pretraining_runs

_SECONDS_PER_HOUR = 3600


def measured_lines(runs: Sequence[Run]) -> list[str]:
    """Return the tables of what was run downstream and of the networks that it started from."""
    return [
        *cell_table([run for run in runs if run.role == "downstream"]),
        "",
        "Pre-trained networks, tested on the upstream task's own test records:",
        "",
        *pretraining_table(runs),
    ]


def cell_table(downstream: Sequence[Run]) -> list[str]:
    """Return a row for every task, network, precision, recipe and arm: its sizes, fewest and most runs at a size."""
    kept = {run.key for run in comparable_runs(downstream)}
    cells: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for run in downstream:
        recipe = known(run.recipe) if run.key in kept else f"{run.recipe}, apart"
        cells[run.task, run.network, recipe, run.strategy, run.upstream or ""][run.n_records] += 1
    rows = []
    for cell, counts in sorted(cells.items()):
        numbers = sorted({min(counts.values()), max(counts.values())})
        rows.append((*cell, ", ".join(f"{n:,}" for n in sorted(counts)), " to ".join(map(str, numbers))))
    return table(("task", "network", "recipe", "arm", "pre-trained on", "n", "runs at each"), rows)


def source_table(downstream: Sequence[Run]) -> list[str]:
    """Return a row for every source: its tasks, networks with their recipes, upstreams, sizes and runs of each arm."""
    of_source: dict[str, list[Run]] = defaultdict(list)
    started = {run.start_from for run in downstream}  # such a run may also be one of the scratch arm's own
    for run in (run for run in comparable_runs(downstream) if run.key not in started):
        of_source[parse_task(run.task).source].append(run)
    rows = []
    for source, runs in sorted(of_source.items()):
        sizes, arms = sorted({run.n_records for run in runs}), Counter(run.strategy for run in runs)
        recipes: dict[str, set[str]] = defaultdict(set)
        for run in runs:
            recipes[run.network].add(known(run.recipe))
        networks = (f"{name} ({', '.join(sorted(used))})" for name, used in sorted(recipes.items()))
        rows.append((
            source, str(len({run.task for run in runs})), "; ".join(networks),
            ", ".join(sorted({run.upstream for run in runs if run.upstream})),
            " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1]))),
            ", ".join(f"{arm} {arms[arm]}" for arm in get_args(Strategy) if arm in arms),
        ))  # fmt: skip
    return table(("source", "tasks", "networks (recipes)", "pre-trained on", "n", "runs of each arm"), rows)


def upstream_table(runs: Sequence[Run]) -> list[str]:
    """Return a row for every task that networks were pre-trained on, and what they score on its test records."""
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in pretraining_runs(runs):
        if run.auroc_macro is not None:
            scores[run.task, _folds(run.spec.pool_folds)][run.network].append(run.auroc_macro)
    rows = [
        (task, folds, "; ".join(f"{name} {_range(values)}" for name, values in sorted(by_network.items())))
        for (task, folds), by_network in sorted(scores.items())
    ]
    return table(("task", "folds", "networks, macro AUROC"), rows) if rows else ["None."]


def _range(values: Sequence[float]) -> str:
    """Return a score, or the range and number of several."""
    if len(values) == 1:
        return score(values[0])
    return f"{score(min(values))} to {score(max(values))} ({len(values)})"


def pretraining_table(runs: Sequence[Run]) -> list[str]:
    """Return a row for every pre-trained network."""
    rows = [
        (
            run.task, run.network, known(run.recipe), f"{run.n_records:,}",
            _folds(run.spec.pool_folds), _folds(run.spec.test_folds), score(run.auroc_macro),
            f"{run.seconds:,.0f} s", known(run.created)[:10],
        )
        for run in pretraining_runs(runs)
    ]  # fmt: skip
    heads = ("task", "network", "recipe", "records", "folds", "tested on", "macro AUROC", "training", "on")
    return table(heads, sorted(rows)) if rows else ["None."]


def _folds(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))


def score(value: float | None) -> str:
    """Return a score with three decimals."""
    return "-" if value is None else f"{value:.3f}"


def store_lines(stores: Mapping[str, Sequence[Run]]) -> list[str]:
    """Return a row for every store: its runs, when, on what and in which precision they ran, how long, the versions."""
    rows = []
    for name, runs in sorted(stores.items()):
        days = sorted({known(run.created)[:10] for run in runs}) or [""]
        hours = sum(known(run.seconds) for run in runs) / _SECONDS_PER_HOUR
        when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        devices = "; ".join(sorted({known(run.device) for run in runs}))
        precisions = ", ".join(sorted({run.precision or "unknown" for run in runs}))
        rows.append((f"`{name}`", f"{len(runs):,}", when, devices, precisions, f"{hours:.1f} h", versions(runs)))
    return table(("store", "runs", "run on", "device", "precision", "training", "versions"), rows)


def versions(runs: Sequence[Run]) -> str:
    """Return the versions that runs were made with."""
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for name, version in run.versions.items():
            found[name].add(version)
    return ", ".join(f"{name} {' and '.join(sorted(known))}" for name, known in sorted(found.items()))


def gain_tables(pairs: Sequence[Pair]) -> list[str]:
    """Return the tables of the mean gain and the number of pairs, one a network and precision."""
    lines: list[str] = []
    for arch, precision in sorted({(pair.scratch.arch, pair.scratch.precision) for pair in pairs}, key=str):
        of_network = [pair for pair in pairs if (pair.scratch.arch, pair.scratch.precision) == (arch, precision)]
        name = with_precision(f"`{arch}`", precision)
        lines += [f"Mean paired gain of {name} (number of pairs):", "", *_gain_table(of_network), ""]
    return lines


def _gain_table(pairs: Sequence[Pair]) -> list[str]:
    """Return a network's mean paired gain with the number of pairs: tasks and upstreams down, sizes across."""
    cells: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        where = pair.scratch.task, pair.fine_tuned.upstream or ""
        cells[where][pair.scratch.n_records].append(pair.gain)
    sizes = sorted({n for by_size in cells.values() for n in by_size})
    rows = [
        (task, upstream, *(f"{np.mean(by_size[n]):+.3f} ({len(by_size[n])})" if n in by_size else "" for n in sizes))
        for (task, upstream), by_size in sorted(cells.items())
    ]
    return table(("task", "pre-trained on", *(f"{n:,}" for n in sizes)), rows)


def arm_table(runs: Sequence[Run]) -> list[str]:
    """Return mean, standard deviation and number of the scores of every arm: tasks, networks, upstreams, sizes down.

    What starts from random weights stands next to the arms of every upstream of its task and network.
    """
    upstreams: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        upstreams[run.task, run.network] |= {run.upstream} if run.upstream else set()
    cells: dict[tuple[str, str, str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for upstream in [run.upstream] if run.upstream else upstreams[run.task, run.network] or {""}:
            cells[run.task, run.network, upstream, run.n_records][run.strategy].append(run.score)
    arms = sorted({arm for by_arm in cells.values() for arm in by_arm}, key=lambda arm: (arm != "scratch", arm))
    rows = [
        (task, arch, upstream, f"{n:,}", *(_mean_and_spread(by_arm.get(arm, [])) for arm in arms))
        for (task, arch, upstream, n), by_arm in sorted(cells.items())
    ]
    return table(("task", "network", "pre-trained on", "n", *arms), rows)


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread} ({len(values)})"
