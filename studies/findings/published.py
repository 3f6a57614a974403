"""Published scores next to our own: what can be compared, and for the rest why not.

``published.csv`` is our table of facts from papers, each with its source. A published score is compared with runs of
the same task and arm that trained on about as many records; a published gain with ours at the nearest size, whatever
the task, since no dataset of theirs is among ours.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

import numpy as np

from engine.deploy.markdown import table
from models.errors import ExitCode, UserError, decoding_fault
from models.registry import is_narrow
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.draws import BAND
from studies.findings.claims import scope_of
from studies.findings.claims_section import effect
from studies.runs.pairs import Pair, SizeGain, gains_by_size
from studies.runs.run import METRIC, Run

PUBLISHED = Path(__file__).with_name("published.csv")
SAME_SIZE = 1.1  # the largest ratio of two numbers of records that are called the same
NEAR_SIZE = 2.0  # and that are near enough for two gains to be put side by side
_FAMILIES = {"resnet": "cnn", "inception": "cnn", "lstm": "rnn", "gru": "rnn"}  # by what a method is called


class PublishedError(UserError, ValueError):
    """A table of published scores that cannot be used; one sentence says why."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class PublishedScore:
    """One score of a paper. ``n_train`` is its number of training records, None where it is not given."""

    source: str
    task: str
    n_train: int | None
    method: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    note: str

    @property
    def arm(self) -> str:
        """Which of our arms it is to be held against."""
        return FINE_TUNE if "fine-tuned" in self.method else SCRATCH

    @property
    def family(self) -> str | None:
        """Which of our families it is to be held against, None for networks that are of none."""
        words = self.method.lower()
        return next((family for name, family in _FAMILIES.items() if name in words), None)


@dataclass(frozen=True)
class PublishedGain:
    """A paper's fine-tuned score minus its score from scratch, and our gain at the size nearest to it, if any is."""

    source: str
    task: str
    n_train: int
    metric: str
    gain: float
    ours: SizeGain | None


def read_published(path: Path = PUBLISHED) -> list[PublishedScore]:
    """Read the table of published scores. Raises PublishedError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_score(row) for row in csv.DictReader(file)]
    except OSError as error:
        raise PublishedError(f"cannot read {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        fault = decoding_fault(error)
        raise PublishedError(f"{path} is not a table of published scores like the one that ships ({fault})") from None


def _score(row: dict[str, str]) -> PublishedScore:
    interval = (float(row["ci_lower"]), float(row["ci_upper"])) if row["ci_lower"] else None
    n_train = int(row["n_train"]) if row["n_train"] else None
    if None in row.values():
        raise ValueError("a row has fewer cells than the header")
    if n_train is not None and n_train < 1:
        raise ValueError(f"n_train is {n_train}")
    return PublishedScore(
        row["source"], row["task"], n_train, row["method"], row["metric"], float(row["value"]), interval, row["note"]
    )


def held_against(score: PublishedScore, runs: Sequence[Run]) -> tuple[list[Run], str]:
    """Return our runs that a published score can be compared with or, where there are none, the reason."""
    of_task = [run for run in runs if run.task == score.task and run.role == "downstream"]
    if not of_task:
        return [], "no run of this task"
    if score.n_train is None:
        return [], "its number of records is not in the table"
    of_arm = [run for run in of_task if run.strategy == score.arm and score.family in (None, run.family)]
    near = [run for run in of_arm if _ratio(run.training_records, score.n_train) <= SAME_SIZE]
    if near or not of_arm:
        return near, "" if near else "no run of that arm and family"
    return [], f"ours trained on {max(run.training_records for run in of_arm):,} records at most"


def interval_by_patient(run: Run, metric: str = METRIC) -> tuple[float, float] | None:
    """Return the 90 % interval of a run's score over resamples of the test patients, where the store keeps them."""
    drawn = run.bootstrap[np.isfinite(run.bootstrap)]
    if metric != METRIC or not len(drawn):
        return None
    low, high = np.quantile(drawn, BAND)
    return float(low), float(high)


def published_gains(scores: Iterable[PublishedScore], ours: Sequence[SizeGain]) -> list[PublishedGain]:
    """Return the gains that the papers' pairs of scores give, each with ours at the nearest size."""
    arms: dict[tuple[str, str, int, str], dict[str, float]] = {}
    for score in scores:
        if score.n_train is not None:
            pair = arms.setdefault((score.source, score.task, score.n_train, score.metric), {})
            pair.setdefault(score.arm, score.value)
    return [
        PublishedGain(source, task, n, metric, pair[FINE_TUNE] - pair[SCRATCH], _nearest(n, ours))
        for (source, task, n, metric), pair in arms.items()
        if pair.keys() == {SCRATCH, FINE_TUNE}
    ]


def _nearest(n_records: int, ours: Sequence[SizeGain]) -> SizeGain | None:
    nearest = min(ours, key=lambda one: _ratio(one.n_records, n_records), default=None)
    return nearest if nearest and _ratio(nearest.n_records, n_records) <= NEAR_SIZE else None


def _ratio(one: float, other: float) -> float:
    return exp(abs(log(one / other)))


_MAIN = "cnn"


def published_lines(scores: Sequence[PublishedScore], records: Sequence[Run], pairs: Sequence[Pair]) -> list[str]:
    """Return published scores next to ours, then published gains next to ours."""
    return [
        "Nguyen and Do's own tables are not available: no number of theirs is given. Others' are in `published.csv`.",
        "",
        f"Scores of the same task, arm and family, trained on the same number of records to {SAME_SIZE - 1:.0%}. "
        "Brackets hold the interval that the paper gives, and ours of 90 % over test patients:",
        "",
        *_scores(scores, records),
        "",
        f"Gains next to ours of {_MAIN} at the nearest size, where that is within a factor of {NEAR_SIZE:g}. The tasks "
        "differ, and so do networks, pre-training and sometimes the score, so that only sign and order of magnitude "
        "can be compared:",
        "",
        *_gains(scores, pairs),
    ]


def _scores(scores: Sequence[PublishedScore], records: Sequence[Run]) -> list[str]:
    rows = []
    others: dict[str, list[str]] = defaultdict(list)
    for score in scores:
        found, reason = held_against(score, records)
        ends = f" ({score.interval[0]:.3f} to {score.interval[1]:.3f})" if score.interval else ""
        if found:
            n = f"{score.n_train:,}"
            ours = "; ".join(_ours(run, score.metric) for run in found)
            rows.append((score.source, score.task, n, score.method, score.metric, f"{score.value:.3f}{ends}", ours))
        else:
            n = "unknown n" if score.n_train is None else f"n = {score.n_train:,}"
            others[f"{score.source}: {score.task}, {reason}"].append(
                f"{score.method} {score.metric} {score.value:.3f}{ends} ({n})"
            )
    heads = ("source", "task", "trained on", "method", "metric", "published", "ours")
    listed = [f"- {where}. {'; '.join(said)}." for where, said in others.items()]
    return [*(table(heads, rows) if rows else ["None."]), "", "Not comparable, and why:", "", *(listed or ["None."])]


def _ours(run: Run, metric: str) -> str:
    value = run.value(metric)
    if value is None:
        return f"`{run.arch}` has no {metric}"
    interval = interval_by_patient(run, metric)
    ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    rate = run.spec.learning_rate
    own_rate = f", rate {rate:g}" if rate is not None else ""
    recipe = f", recipe {run.recipe}" if run.recipe else ""
    width = ", a narrow network," if is_narrow(run.arch) else ""
    return f"`{run.arch}`{width} {value:.3f}{ends} on {run.training_records:,}{own_rate}{recipe}"


def _gains(scores: Sequence[PublishedScore], pairs: Sequence[Pair]) -> list[str]:
    ours = [gain for gain in gains_by_size(pairs, scope_of) if gain.family == _MAIN]
    rows = [
        (
            one.source, one.task, f"{one.n_train:,}", one.metric, f"{one.gain:+.3f}",
            f"{effect(one.ours.gain)} at {one.ours.n_records:,}" if one.ours else "no size near it",
        )
        for one in published_gains(scores, ours)
    ]  # fmt: skip
    return table(("source", "task", "trained on", "metric", "published gain", "our gain, macro AUROC"), rows)
