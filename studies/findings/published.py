"""Published scores, the gains that they make, and what of them is about a foundation model.

``published.csv`` is our table of facts from papers, each with its source. An answer reads it where no run of the
evidence starts from the network that is asked about, so nothing here loads more than numpy.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models.errors import ExitCode, UserError, decoding_fault
from models.foundation_models import is_named
from studies.files.arms import FINE_TUNE, SCRATCH

PUBLISHED = Path(__file__).with_name("published.csv")
_ARM_WORDS = ("best fine-tuned", "fine-tuned", "random init", "scratch")  # of a method; the rest names its network
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
    def network(self) -> str:
        """What network it is of: its method without the words for the arm."""
        words = self.method
        for arm in _ARM_WORDS:
            words = words.replace(arm, "")
        return " ".join(words.split())

    @property
    def is_doubtful(self) -> bool:
        """Whether our table takes it for a mistake of its source."""
        return self.note.startswith("suspect")

    @property
    def family(self) -> str | None:
        """Which of our families it is to be held against, None for networks that are of none."""
        words = self.method.lower()
        return next((family for name, family in _FAMILIES.items() if name in words), None)


@dataclass(frozen=True)
class PublishedGain:
    """What a paper's pre-trained networks score above training from scratch, on one task and number of records.

    ``pairs`` are scratch and fine-tuned, in pairs of one network where the paper has such, and then all of them. Where
    it has none, the one pair is of the best of either arm: of several that were tried the best looks better than it is.
    ``others`` are the fine-tuned networks of that case, ``best`` among them.
    """

    source: str
    task: str
    n_train: int | None
    metric: str
    pairs: tuple[tuple[PublishedScore, PublishedScore], ...]
    others: tuple[PublishedScore, ...]

    @cached_property
    def gains(self) -> tuple[float, ...]:
        """Fine-tuned minus scratch, a pair each."""
        return tuple(tuned.value - scratch.value for scratch, tuned in self.pairs)

    @property
    def is_of_one_network(self) -> bool:
        """Whether both arms of each pair are of the same network."""
        return not self.others

    @property
    def mean(self) -> float:
        """The mean gain of the pairs."""
        return float(np.mean(self.gains))

    @property
    def n_networks(self) -> tuple[int, int]:
        """How many pre-trained networks score above scratch, and of how many."""
        if self.is_of_one_network:
            return sum(gain > 0 for gain in self.gains), len(self.gains)
        ((scratch, _),) = self.pairs
        return sum(one.value > scratch.value for one in self.others), len(self.others)

    @property
    def are_apart(self) -> bool | None:
        """Whether the intervals of the two arms do not meet, None where one has none or lies outside its own."""
        ((scratch, tuned), *more) = self.pairs
        if more or not all(
            one.interval and one.interval[0] <= one.value <= one.interval[1] for one in (scratch, tuned)
        ):
            return None
        low, high = sorted((scratch, tuned), key=lambda one: one.value)
        assert low.interval is not None and high.interval is not None, "asked above"
        return low.interval[1] < high.interval[0]


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


def published_gains(scores: Iterable[PublishedScore]) -> list[PublishedGain]:
    """Return the gains that the papers' scores make; those that our table takes for a mistake are left out."""
    found: dict[tuple[str, str, int | None, str], dict[str, list[PublishedScore]]] = defaultdict(
        lambda: {SCRATCH: [], FINE_TUNE: []}
    )
    for score in scores:
        if not score.is_doubtful:
            found[score.source, score.task, score.n_train, score.metric][score.arm].append(score)
    return [PublishedGain(*place, *_paired(arms)) for place, arms in found.items() if all(arms.values())]


def _paired(
    arms: Mapping[str, Sequence[PublishedScore]],
) -> tuple[tuple[tuple[PublishedScore, PublishedScore], ...], tuple[PublishedScore, ...]]:
    """Return the pairs of one network or, where there is none, the pair of the best, and whom that was chosen from."""
    scratch = {score.network: score for score in arms[SCRATCH]}
    pairs = tuple((scratch[one.network], one) for one in arms[FINE_TUNE] if one.network in scratch)
    if pairs:
        return pairs, ()
    best = tuple(max(arms[arm], key=lambda score: score.value) for arm in (SCRATCH, FINE_TUNE))
    return ((best[0], best[1]),), tuple(arms[FINE_TUNE])


def published_of(model: str, scores: Sequence[PublishedScore]) -> list[tuple[PublishedScore, PublishedScore | None]]:
    """Return the scores of a foundation model, fine-tuned, each with what its source compares it with.

    That is the same network from scratch on the same task and number of records or, where there is none, the best of
    those from scratch, which of several looks better than it is; None without any. A score that our table takes for a
    mistake is compared with nothing, and nothing with it.
    """
    mine = [one for one in scores if one.arm == FINE_TUNE and _is_of(one, model)]
    return [(one, None if one.is_doubtful else _compared(one, scores)) for one in mine]


def _is_of(score: PublishedScore, model: str) -> bool:
    """Say whether a score is of a foundation model, whose own paper may call it by its size alone."""
    return is_named(score.network, model) or is_named(score.source.split(",")[0], model)


def _compared(score: PublishedScore, scores: Sequence[PublishedScore]) -> PublishedScore | None:
    place = score.source, score.task, score.n_train, score.metric
    there = [
        one for one in scores
        if one.arm == SCRATCH and (one.source, one.task, one.n_train, one.metric) == place and not one.is_doubtful
    ]  # fmt: skip
    same = [one for one in there if one.network == score.network]
    return max(same or there, key=lambda one: one.value, default=None)
