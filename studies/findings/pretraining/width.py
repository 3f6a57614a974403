"""Whether a narrow network gains what the full one gains, on the same records."""

from collections.abc import Mapping, Sequence

from engine.deploy.markdown import table
from studies.files.arms import IN_WORDS, PRETRAINED_STRATEGIES, SCRATCH
from studies.findings.claims import FEWEST_TASKS, judge_equal
from studies.findings.claims_section import effect
from studies.findings.protocol import NOT_RUN
from studies.fitting.random_effects import Combined
from studies.runs.pairs import Cell, arm_scores, combine_cells
from studies.runs.run import Run

_WIDTH = "-w"  # a narrow network is called as the full one, with this and its first width


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
    found: dict[str, dict[Cell, float]] = {arm: {} for arm in (SCRATCH, *PRETRAINED_STRATEGIES)}
    for cell, of_narrow in scores.items():
        of_wide = scores.get(cell._replace(network=wide), {})
        for arm in found if cell.network == narrow and {SCRATCH} <= of_narrow.keys() & of_wide.keys() else ():
            if arm in of_wide and arm in of_narrow:
                found[arm][cell] = of_wide[arm] - of_narrow[arm]
    return found


def _width_of(wide: str, narrow: str, higher: Mapping[str, Mapping[Cell, float]], margin: float) -> list[str]:
    gains = {
        arm: {cell: value - higher[SCRATCH][cell] for cell, value in higher[arm].items()}
        for arm in PRETRAINED_STRATEGIES
    }
    columns = {**gains, SCRATCH: higher[SCRATCH]}
    places = sorted({(cell.subset.task, cell.subset.n_records) for cell in higher[SCRATCH]})
    rows = [
        (task, f"{n:,}", *(effect(combine_cells(_at(cells, task, n))) for cells in columns.values()),
         str(len(_at(higher[SCRATCH], task, n))))
        for task, n in places
    ]  # fmt: skip
    whole = ("**over tasks**", "", *(effect(combine_cells(cells)) for cells in columns.values()), "")
    scores = ", ".join(f"{IN_WORDS[arm]} {effect(combine_cells(cells)) or 'not run'}" for arm, cells in higher.items())
    return [
        f"The gain of `{wide}` minus that of `{narrow}`, and how much higher the full network scores from scratch, on "
        "the same records. The claim: the narrow network's gain stands for the full one's. Confirmed: the whole 90 % "
        f"interval over tasks lies within {margin:g} either way. Refuted: none of it does. Open otherwise, and with "
        f"fewer than {FEWEST_TASKS} tasks.",
        "",
        *(_width_verdict(arm, found, margin) for arm in PRETRAINED_STRATEGIES if (found := combine_cells(gains[arm]))),
        "",
        *table(
            ("task", "n", *(f"gain, {IN_WORDS[arm]}" for arm in PRETRAINED_STRATEGIES), "score from scratch", "pairs"),
            [*rows, whole],
        ),
        "",
        f"The scores themselves, full minus narrow, over tasks: {scores}.",
    ]


def _at(cells: Mapping[Cell, float], task: str, n: int) -> dict[Cell, float]:
    return {cell: value for cell, value in cells.items() if (cell.subset.task, cell.subset.n_records) == (task, n)}


def _width_verdict(arm: str, found: Combined, margin: float) -> str:
    verdict = judge_equal((found.ci_lower, found.ci_upper), margin) if len(found.tasks) >= FEWEST_TASKS else "open"
    return f"- {IN_WORDS[arm]}: **{verdict}**, {effect(found)} over {len(found.tasks)} tasks."
