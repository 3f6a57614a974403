"""Networks that another team pre-trained and published: what they gain, next to this study's own on the same records.

How they were pre-trained was not controlled, and what they were trained on is known as far as their publication says:
the claims are not about them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.deploy.markdown import table
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curves import RELEASED
from studies.findings.claims_section import effect
from studies.findings.protocol import NOT_RUN
from studies.runs.pairs import Cell, arm_scores, combine_cells, estimate_cells
from studies.runs.run import Run, Subset
from studies.runs.run_tables import is_from_other_team

OF_NETWORK = (SCRATCH, FINE_TUNE, LINEAR_PROBE)  # random convolutions are of no network: they stand once
Arm = tuple[bool, str]  # whether it is theirs, and a strategy
CONTRASTS: tuple[tuple[Arm, Arm], ...] = (
    ((True, FINE_TUNE), (True, SCRATCH)),
    ((True, LINEAR_PROBE), (True, SCRATCH)),
    ((True, FINE_TUNE), (False, FINE_TUNE)),
    ((True, LINEAR_PROBE), (False, LINEAR_PROBE)),
    ((True, SCRATCH), (False, SCRATCH)),
    ((True, LINEAR_PROBE), (False, RANDOM_CONVOLUTIONS)),
    ((False, FINE_TUNE), (False, SCRATCH)),
    ((False, LINEAR_PROBE), (False, SCRATCH)),
)  # fmt: skip


@dataclass(frozen=True)
class _Reference:
    """This study's own network and upstream that were run on most of the same records."""

    network: str
    upstream: str


def split_other_teams(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs of this study's own pre-trainings, and those of networks that another team pre-trained.

    From scratch a network is theirs where it was started from theirs alone; random convolutions are nobody's, and own.
    """
    starts: dict[str, set[bool]] = defaultdict(set)
    for run in runs:
        if run.upstream is not None:
            starts[run.network].add(is_from_other_team(run))
    own: list[Run] = []
    theirs: list[Run] = []
    for run in runs:
        is_theirs = is_from_other_team(run) or starts.get(run.network) == {True}
        (theirs if is_theirs else own).append(run)
    return own, theirs


def other_team_lines(own: Sequence[Run], theirs: Sequence[Run]) -> list[str]:
    """Return what networks of other teams score and gain, a table of scores and one of differences for each."""
    scores = {cell: arms for cell, arms in arm_scores([*own, *theirs]).items() if cell.upstream}
    averaged: dict[Subset, set[tuple[str, ...] | None]] = defaultdict(set)
    for run in (*own, *theirs):
        averaged[run.subset].add(run.averaged)
    lines: list[str] = []
    of_theirs = {(run.network, run.upstream) for run in theirs}
    for network, upstream in sorted({(cell.network, cell.upstream) for cell in scores} & of_theirs):
        here = {cell: arms for cell, arms in scores.items() if (cell.network, cell.upstream) == (network, upstream)}
        reference = _reference({cell for cell in scores if (cell.network, cell.upstream) not in of_theirs}, here)
        found = {cell: _with_own(cell, arms, scores, reference, averaged) for cell, arms in here.items()}
        lines += [*_lines_of(network, upstream.removeprefix(RELEASED), found, reference), ""]
    return lines[:-1] or [f"{NOT_RUN}: it takes runs that start from a network of another team (`zoo:NAME`)."]


def _reference(own: Iterable[Cell], theirs: Iterable[Cell]) -> _Reference | None:
    subsets = {cell.subset for cell in theirs}
    found = Counter((cell.network, cell.upstream) for cell in sorted(own) if cell.subset in subsets)
    return _Reference(*found.most_common(1)[0][0]) if found else None


def _with_own(
    cell: Cell, arms: Mapping[str, float], scores: Mapping[Cell, Mapping[str, float]], reference: _Reference | None,
    averaged: Mapping[Subset, set[tuple[str, ...] | None]],
) -> dict[Arm, float]:  # fmt: skip
    """Return the scores of their arms and of one's own on the same records, where all average the same classes."""
    found = {(True, arm): score for arm, score in arms.items() if arm in OF_NETWORK}
    if len(averaged[cell.subset]) > 1:
        return found
    own = scores.get(Cell(cell.subset, reference.network, reference.upstream), {}) if reference else {}
    found |= {(False, arm): score for arm, score in own.items() if arm in OF_NETWORK}
    return found | {(False, arm): score for arm, score in arms.items() if arm == RANDOM_CONVOLUTIONS}


def _lines_of(
    network: str, name: str, found: Mapping[Cell, Mapping[Arm, float]], reference: _Reference | None
) -> list[str]:
    own = f"`{reference.network}` from {reference.upstream}" if reference else "not run"
    arms = [(True, arm) for arm in OF_NETWORK] + [(False, arm) for arm in (*OF_NETWORK, RANDOM_CONVOLUTIONS)]
    cells: dict[tuple[str, int], list[Mapping[Arm, float]]] = defaultdict(list)
    for cell, of_arms in sorted(found.items()):
        cells[cell.subset.task, cell.subset.n_records].append(of_arms)
    sizes = sorted({n for _, n in cells})
    return [
        f"`{network}` from {name}, whose pre-training was not controlled here, next to this study's own ({own}) on "
        "the same records from the same seeds. No claim above is about it. From scratch its network reads records as "
        "it does when it starts from theirs. Means over the replicates of a cell:",
        "",
        *table(
            ("task", "n", *(_named(arm) for arm in arms), "replicates"),
            [(task, f"{n:,}", *(_mean(here, arm) for arm in arms), str(len(here)))
             for (task, n), here in cells.items()],
        ),
        "",
        "Differences on the same records over tasks, with 90 % intervals; last in a cell, the tasks behind it:",
        "",
        *table(
            ("difference", *(f"{n:,}" for n in sizes), "**all sizes**"),
            [(f"{_named(one)} - {_named(other)}", *(_difference(found, one, other, [n]) for n in sizes),
              f"**{_difference(found, one, other, sizes)}**" if _difference(found, one, other, sizes) else "")
             for one, other in CONTRASTS],
        ),
    ]  # fmt: skip


def _named(arm: Arm) -> str:
    whose, strategy = arm
    if strategy == RANDOM_CONVOLUTIONS:
        return IN_WORDS[strategy]
    return f"{'theirs' if whose else 'own'}, {IN_WORDS[strategy]}"


def _mean(cells: Sequence[Mapping[Arm, float]], arm: Arm) -> str:
    values = [scores[arm] for scores in cells if arm in scores]
    return f"{np.mean(values):.3f}" if values else ""


def _difference(found: Mapping[Cell, Mapping[Arm, float]], one: Arm, other: Arm, sizes: Sequence[int]) -> str:
    values = {
        cell: scores[one] - scores[other]
        for cell, scores in found.items()
        if one in scores and other in scores and cell.subset.n_records in sizes
    }
    combined = combine_cells(values)
    return "" if combined is None else f"{effect(combined)}, {len(estimate_cells(values))}"
