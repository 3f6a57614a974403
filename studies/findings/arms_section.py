"""The section of the findings on all arms: what each scores, which wins, and how far they lie apart.

Only cells in which every arm was run on the same records are compared, so that no arm has easier tasks than another.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from engine.deploy.markdown import table
from studies.figure_style import to_svg
from studies.files.arms import ARMS, FINE_TUNE, IN_WORDS, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.findings.claims import scope_of
from studies.findings.claims_section import effect, predicted
from studies.findings.figures import draw_arms
from studies.fitting.random_effects import Combined, OverSources, combine, combine_sources
from studies.runs.pairs import Cell, arm_scores, estimate_cells, of_source
from studies.runs.run import Run
from studies.runs.task_names import parse_task

FIGURE = "arms.svg"
CONTRASTS = ((LINEAR_PROBE, FINE_TUNE), (FINE_TUNE, SCRATCH), (LINEAR_PROBE, SCRATCH), (RANDOM_CONVOLUTIONS, SCRATCH))
FEWEST_SOURCES = 3  # an interval over fewer is wider than any difference: it is then over tasks
FEWEST_TASKS = 3
_STRATEGIES = tuple(arm.strategy for arm in ARMS)

Scores = Mapping[Cell, Mapping[str, float]]
Place = tuple[str, int]  # a family and a number of records


def arm_lines(runs: Sequence[Run], margin: float) -> tuple[list[str], dict[str, str]]:
    """Return what the arms score at each number of records, the differences between them, and the figure."""
    places = complete_cells(runs)
    found = {place: compare_arms(scores) for place, scores in places.items()}
    names = {arm: IN_WORDS[arm] for arm in _STRATEGIES}
    contrasts = [f"{names[one]} - {names[other]}" for one, other in CONTRASTS]
    if not places:
        return [], {}
    lines = [
        "Mean macro AUROC over the cells in which all four arms were run on the same records: the mean of a task's "
        "runs, then of the tasks. The tasks differ from size to size, so that a column is not one curve. Last, in how "
        "many tasks each arm has the highest mean, in the same order; chance alone makes some of these. A linear probe "
        "is a regression on the features of a pre-trained network, random convolutions one on features that nobody "
        "trained: both take seconds.",
        "",
        *table(
            ("family", "n", "tasks", "sources", *names.values(), "best in"),
            [_scores_of(place, scores) for place, scores in places.items()],
        ),
        "",
        "Differences with their 90 % interval over sources or, of fewer than "
        f"{FEWEST_SOURCES} sources, over tasks; and where the first would lie in a task of one more source:",
        "",
        *table(
            ("family", "n", "over", *contrasts, f"{contrasts[0]}, one more"),
            [
                (family, f"{n:,}", _over(here), *map(effect, here.values()), _next(here[CONTRASTS[0]]))
                for (family, n), here in found.items()
            ],
        ),
        "",
        f"![All arms by number of records](FIGURES/{FIGURE})",
        "",
        "What each arm scores above training from scratch, with the 90 % interval of the table. Grey band: differences "
        "that do not matter.",
    ]
    drawn: dict[str, dict[tuple[str, int], Combined | OverSources]] = defaultdict(dict)
    for (family, n), here in found.items():
        drawn[family] |= {(one, n): here[one, other] for one, other in CONTRASTS if other == SCRATCH}
    return lines, {FIGURE: to_svg(draw_arms(drawn, margin))}


def complete_cells(runs: Sequence[Run]) -> dict[Place, Scores]:
    """Return the cells in which all four arms were run, by family and number of records, of three tasks or more."""
    families = {run.network: scope_of(run) for run in runs if run.strategy != RANDOM_CONVOLUTIONS}
    places: dict[Place, dict[Cell, Mapping[str, float]]] = defaultdict(dict)
    for cell, by_arm in arm_scores(runs).items():
        if by_arm.keys() >= set(_STRATEGIES) and cell.network in families:
            places[families[cell.network], cell.subset.n_records][cell] = by_arm
    return {place: scores for place, scores in sorted(places.items()) if len(_repeated_tasks(scores)) >= FEWEST_TASKS}


def _repeated_tasks(scores: Scores) -> set[str]:
    """Return the tasks with two cells of one network and upstream: others have no estimate."""
    counts = Counter((cell.subset.task, cell.network, cell.upstream) for cell in scores)
    return {task for (task, *_), count in counts.items() if count > 1}


def compare_arms(scores: Scores) -> dict[tuple[str, str], Combined | OverSources]:
    """Return every contrast of two arms over sources, or over tasks where there are too few sources."""
    found: dict[tuple[str, str], Combined | OverSources] = {}
    for one, other in CONTRASTS:
        by_task = estimate_cells({cell: by_arm[one] - by_arm[other] for cell, by_arm in scores.items()})
        over = combine_sources(of_source(by_task))
        found[one, other] = over if over and len(over.sources) >= FEWEST_SOURCES else combine(by_task)
    return found


def means_by_task(scores: Scores) -> dict[str, dict[str, float]]:
    """Return each task's mean score of every arm."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell, by_arm in sorted(scores.items()):
        for arm in _STRATEGIES:
            values[cell.subset.task][arm].append(by_arm[arm])
    return {task: {arm: float(np.mean(found)) for arm, found in by_arm.items()} for task, by_arm in values.items()}


def _scores_of(place: Place, scores: Scores) -> tuple[str, ...]:
    by_task = means_by_task(scores)
    best = Counter(max(by_arm, key=lambda arm: by_arm[arm]) for by_arm in by_task.values())
    means = (f"{np.mean([by_arm[arm] for by_arm in by_task.values()]):.3f}" for arm in _STRATEGIES)
    sources = {parse_task(task).source for task in by_task}
    won = " / ".join(str(best[arm]) for arm in _STRATEGIES)
    return place[0], f"{place[1]:,}", str(len(by_task)), str(len(sources)), *means, won


def _over(found: Mapping[tuple[str, str], Combined | OverSources]) -> str:
    one = found[CONTRASTS[0]]
    if isinstance(one, OverSources):
        return f"{len(one.sources)} sources"
    return f"{len(one.tasks)} tasks"


def _next(found: Combined | OverSources) -> str:
    return predicted(found) if isinstance(found, OverSources) else "-"
