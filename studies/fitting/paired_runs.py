"""Scores of runs, arranged by size and replicate and checked: what a learning curve is fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.errors import ExitCode, UserError
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, SCRATCH
from studies.files.draws import Floats

FEWEST_SIZES = 2
_ARMS = (SCRATCH, FINE_TUNE)


class FitError(UserError, ValueError):
    """Runs that no curve can be fitted to; one sentence says why."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class PairedRuns:
    """Scores of one arm or of two arms in pairs: ``scores[arm]`` is (sizes, replicates), NaN where a run is missing.

    ``sizes`` are numbers of records, ascending. ``test_covariance`` (arms, arms) is the sampling covariance of the mean
    scores from the finite test set; zero where every replicate has a test set of its own. ``chance`` is what a network
    that knows nothing scores. ``sizes_apart`` tells that runs of one replicate have nothing in common at two sizes, as
    in studies of this tool, where records and seed are drawn anew for each. ``is_controlled`` is not a pre-training of
    another team's, which may lose as much as it gains.
    """

    sizes: Floats
    scores: Mapping[str, Floats]
    test_covariance: Floats
    chance: float = 0.5
    sizes_apart: bool = False
    is_controlled: bool = True


@dataclass(frozen=True)
class ScoredRun:
    """One point that a curve is fitted to, and no run: of a study's run it is told what a fit asks, and nothing else.

    Whoever has scores of some arms can fit them, be there a task, a network and a study or not. ``name`` says where it
    came from (a row of a file, a key of a store) when it is refused.
    """

    arm: str
    n_records: float
    replicate: int | str
    score: float
    name: str = field(default="", compare=False)


def arrange(runs: Sequence[ScoredRun], test_covariance: Floats | None = None, chance: float = 0.5) -> PairedRuns:
    """Arrange runs of one task, network and upstream for a fit. Without ``test_covariance`` it is taken as zero.

    Raises FitError, naming the run: a size that is not a positive whole number, a score that does not lie between 0 and
    1 (or is 0 where chance is above that), two runs with the same arm, size and replicate; and when there is no run or
    there are more than two arms.
    """
    arms = sorted({run.arm for run in runs}, key=lambda arm: (arm != SCRATCH, arm))
    if not 1 <= len(arms) <= len(_ARMS):
        raise FitError(f"a fit takes one arm or two, and these runs have {len(arms)}: {', '.join(arms) or 'none'}")
    seen: dict[tuple[str, float, int | str], str] = {}
    for position, run in enumerate(runs, start=1):
        name = run.name or f"run {position}"
        _check(run, name, chance)
        if (cell := (run.arm, run.n_records, run.replicate)) in seen:
            raise FitError(
                f"{name} repeats {seen[cell]}: {run.arm}, n = {run.n_records:g}, replicate {run.replicate}; "
                "leave one of them out or number the replicates apart"
            )
        seen[cell] = name
    sizes = sorted({run.n_records for run in runs})
    replicates = {replicate: k for k, replicate in enumerate(dict.fromkeys(run.replicate for run in runs))}
    scores = {arm: np.full((len(sizes), len(replicates)), np.nan) for arm in arms}
    for run in runs:
        scores[run.arm][sizes.index(run.n_records), replicates[run.replicate]] = run.score
    covariance = np.zeros((len(arms), len(arms))) if test_covariance is None else test_covariance
    return PairedRuns(np.array(sizes, np.float64), scores, covariance, chance)


def _check(run: ScoredRun, name: str, chance: float) -> None:
    if not np.isfinite(run.n_records) or run.n_records < 1 or run.n_records != int(run.n_records):
        raise FitError(f"{name}: the number of records is {run.n_records}; give a positive whole number")
    if not 0 <= run.score <= 1 or (run.score == 0 and chance > 0):  # NaN too
        raise FitError(f"{name}: the score is {run.score}; give a number above 0 and at most 1, or leave the run out")


def check_runs(runs: PairedRuns) -> None:
    """Raise FitError for sizes that are not whole numbers or do not ascend, unknown pairs of arms, impossible scores.

    And for an arm with a single size. A further arm may stand in the place of the fine-tuned one.
    """
    whole = np.isfinite(runs.sizes) & (runs.sizes >= 1) & (runs.sizes == np.round(runs.sizes))
    if not whole.all() or (np.diff(runs.sizes) <= 0).any():
        raise FitError("the sizes must be positive whole numbers of records, each named once, ascending")
    pairs = [(SCRATCH, arm) for arm in (FINE_TUNE, *FURTHER_STRATEGIES)]
    if not 1 <= len(runs.scores) <= 2 or (len(runs.scores) == 2 and tuple(runs.scores) not in pairs):
        raise FitError(
            f"a fit takes one arm, or {' and '.join(_ARMS)} in this order; these runs have {', '.join(runs.scores)}"
        )
    for arm, values in runs.scores.items():
        if (wrong := values[np.isfinite(values) & ((values < 0) | (values > 1))]).size:
            raise FitError(f"{arm} has a score of {wrong[0]:g}; scores lie between 0 and 1")
        if (measured := int(np.isfinite(values).any(axis=1).sum())) < FEWEST_SIZES:
            sizes = "one size" if measured else "no size"
            raise FitError(f"{arm} was measured at {sizes} only; a curve needs {FEWEST_SIZES} sizes, better six")
