"""Published scores beside our own: what can be compared, and for the rest why not.

``published.csv`` is our table of facts from papers, each with its source. A published score is compared with runs of
the same task and arm that trained on about as many records; a published gain with ours at the nearest size, whatever
the task, since no dataset of theirs is among ours.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path

import numpy as np

from studies.curve_draws import BAND, FINE_TUNE, SCRATCH
from studies.paired_differences import SizeGain
from studies.store import RunRecord

PUBLISHED = Path(__file__).with_name("published.csv")
SAME_SIZE = 1.1  # the largest ratio of two numbers of records that are called the same
NEAR_SIZE = 2.0  # and that are near enough for two gains to be put side by side
_FAMILIES = {"resnet": "cnn", "inception": "cnn", "lstm": "rnn", "gru": "rnn"}  # by what a method is called


class PublishedError(ValueError):
    """A table of published scores that cannot be used; one sentence says why."""


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
        raise PublishedError(f"{path} is no table of published scores like the one that ships ({error})") from None


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


def training_records(run: RunRecord) -> int:
    """Return on how many records a run trained, those that validated it left out."""
    return round(float(run.row["records_seen"]) / int(run.row["epochs"]))


def held_against(score: PublishedScore, runs: Sequence[RunRecord]) -> tuple[list[RunRecord], str]:
    """Return our runs that a published score can be compared with or, where there are none, the reason."""
    of_task = [run for run in runs if run.row["task"] == score.task and run.row["role"] == "downstream"]
    if not of_task:
        return [], "no run of this task"
    if score.n_train is None:
        return [], "its number of records is not in the table"
    of_arm = [run for run in of_task if run.row["strategy"] == score.arm and score.family in (None, run.row["family"])]
    near = [run for run in of_arm if _ratio(training_records(run), score.n_train) <= SAME_SIZE]
    if near or not of_arm:
        return near, "" if near else "no run of that arm and family"
    return [], f"ours trained on {max(map(training_records, of_arm)):,} records at most"


def interval_by_patient(run: RunRecord, metric: str = "auroc_macro") -> tuple[float, float] | None:
    """Return the 90 % interval of a run's score over resamples of the test patients, where the store keeps them."""
    kept = run.details.get("bootstrap") if metric == "auroc_macro" else None
    drawn = np.array([value for value in kept or () if value is not None], np.float64)
    if not len(drawn):
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
