"""The sections of the findings on the sources of the records: the claims source by source, and how far sources differ.

A source is a corpus: what one publisher collected, with its patients, devices and rule of labelling. A new dataset is
one more of them, so that several tasks of one source count as one (``combine_sources``).
"""

from collections.abc import Mapping, Sequence
from math import exp

from engine.deploy.markdown import table
from studies.figure_style import to_svg
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, SCRATCH
from studies.findings.claims import estimate_claim, judge, scope_of, smallest_effect
from studies.findings.claims_section import effect, predicted
from studies.findings.figures import draw_sources
from studies.fitting.random_effects import Combined, OverSources, TaskEstimate, combine, combine_sources
from studies.runs.pairs import Pair, arm_scores, estimate_cells, of_source
from studies.runs.run import Run

FAMILY = "cnn"
SIZES = (100, 250, 500, 1000)
ARMS = (FINE_TUNE, LINEAR_PROBE)
SOURCES = "sources.svg"
ONE_SOURCE = "Open, not run: it takes pairs of two sources."
_CLAIMS = {
    "1": "1: gain, 500 records or fewer",
    "2 decline": "2: decline per doubling",
    "2 comparable": "2: gain, 2,000 records or more",
    "3": "3: records seen, times those of scratch",
}

BySource = Mapping[str, Mapping[str, TaskEstimate]]


def source_lines(pairs: Sequence[Pair], margin: float) -> list[str]:
    """Return claims 1 to 3 source by source, then over sources."""
    pairs = [pair for pair in pairs if scope_of(pair.scratch) == FAMILY]
    by_claim = {claim: of_source(estimate_claim(claim, pairs)) for claim in _CLAIMS}
    over = {claim: combine_sources(found) for claim, found in by_claim.items()}
    sources = sorted({source for found in by_claim.values() for source in found})
    if not any(over.values()):
        return [ONE_SOURCE]
    rows = [
        (source, str(max(len(found.get(source, ())) for found in by_claim.values())),
         *(_of_source(claim, found.get(source)) for claim, found in by_claim.items()))
        for source in sources
    ]  # fmt: skip
    whole: list[tuple[str, ...]] = [
        ("**over sources**", "", *(_shown(claim, found) for claim, found in over.items())),
        ("verdict over sources", "", *(_verdict(claim, found, pairs, margin) for claim, found in over.items())),
        ("a task of one more source", "", *(_next(claim, found) for claim, found in over.items())),
        ("between sources (sd)", "", *(_sd(found.between_sources if found else None) for found in over.values())),
        ("between tasks of one (sd)", "", *(_sd(found.between_tasks if found else None) for found in over.values())),
    ]
    return [
        f"Networks of family {FAMILY}. Here a source counts once, however many tasks it has. Brackets hold 90 % "
        "intervals: of a source over its tasks, of a source with one task over its pairs, and over sources. The last "
        "rows are what a reader with records of his own needs: where a task of one more source would lie, and how far "
        "sources, and tasks of one source, lie apart (standard deviations; of claim 3 of the log ratio). The verdict "
        "follows the rule above, over sources.",
        "",
        *table(("source", "tasks", *_CLAIMS.values()), [*rows, *whole]),
    ]


def _of_source(claim: str, by_task: Mapping[str, TaskEstimate] | None) -> str:
    return _shown(claim, combine(by_task)) if by_task else ""


def _shown(claim: str, found: Combined | OverSources | None) -> str:
    if found is None:
        return ""
    if claim != "3":
        return effect(found)
    middle, low, high = (exp(-value) for value in (found.effect, found.ci_upper, found.ci_lower))
    return f"{_ratio(middle)} ({_ratio(low)} to {_ratio(high)})"


def _next(claim: str, found: OverSources | None) -> str:
    if found is None or found.prediction is None:
        return ""
    if claim != "3":
        return predicted(found)
    low, high = found.prediction
    return f"{_ratio(exp(-high))} to {_ratio(exp(-low))}"


def _ratio(value: float) -> str:
    """Return a ratio with two decimals, or what it is beyond: few pairs leave it open by powers of ten."""
    return "over 100" if value > 100 else "under 0.01" if value < 0.01 else f"{value:.2f}"


def _verdict(claim: str, found: OverSources | None, pairs: Sequence[Pair], margin: float) -> str:
    if found is None:
        return ""
    matters = smallest_effect(claim, [pair for pair in pairs if pair.scratch.task in found.tasks], margin)
    return f"**{judge(claim, (found.ci_lower, found.ci_upper), matters)}**"


def _sd(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def spread_lines(runs: Sequence[Run], margin: float) -> tuple[list[str], dict[str, str]]:
    """Return how far sources differ in what a pre-trained network gains, by size, and the figure."""
    gains = gains_by_source([run for run in runs if scope_of(run) == FAMILY])
    over = {cell: combine_sources(found) for cell, found in gains.items()}
    rows = [
        (IN_WORDS[arm], f"{n:,}", effect(found), predicted(found), f"{found.between_sources:.3f}",
         _sd(found.between_tasks), str(len(found.sources)), str(len(found.tasks)), _below(gains[arm, n]))
        for (arm, n), found in over.items() if found
    ]  # fmt: skip
    if not rows:
        return [ONE_SOURCE], {}
    heads = (
        "arm", "n", "gain over scratch, over sources (90 %)", "a task of one more source (90 %)",
        "sd between sources", "between tasks of one", "sources", "tasks", "sources that lose",
    )  # fmt: skip
    shown = {cell: found for cell, found in gains.items() if over[cell]}
    figure = draw_sources(
        {cell: {source: combine(tasks) for source, tasks in found.items()} for cell, found in shown.items()},
        {cell: found for cell, found in over.items() if found}, margin,
    )  # fmt: skip
    return [
        "What fine-tuning and a linear probe gain over training from scratch, each on the same records. The mean over "
        "sources says what to expect on average; the interval of one more source, what a hospital must reckon with. "
        "`sources that lose` counts those whose mean gain is below zero. A standard deviation of 0.000 between sources "
        "does not say that they are alike: one with a single task does not tell what is its own from what is the "
        "task's.",
        "",
        *table(heads, rows),
        "",
        f"![The gain by source](FIGURES/{SOURCES})",
        "",
        "Points and lines: a source with its 90 % interval, over its tasks where it has several. At the bottom the "
        "mean over sources and, thin, where a task of one more source would lie. Grey band: differences that do not "
        "matter. Lines that reach the frame go on beyond it.",
    ], {SOURCES: to_svg(figure)}


def gains_by_source(runs: Sequence[Run]) -> dict[tuple[str, int], BySource]:
    """Return the gain of every arm over scratch at every size, by source and task."""
    scores = arm_scores(runs)
    found: dict[tuple[str, int], BySource] = {}
    for arm in ARMS:
        for n in SIZES:
            gains = {
                cell: by_arm[arm] - by_arm[SCRATCH]
                for cell, by_arm in scores.items()
                if cell.subset.n_records == n and by_arm.keys() >= {arm, SCRATCH}
            }
            if by_task := estimate_cells(gains):
                found[arm, n] = of_source(by_task)
    return found


def _below(by_source: BySource) -> str:
    return str(sum(combine(tasks).effect < 0 for tasks in by_source.values()))
