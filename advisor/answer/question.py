"""What is asked, the values that no question can have, and the ways in which a question has no answer."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from models.errors import ExitCode, UserError
from studies.files.curves import UNPRINTABLE
from studies.files.draws import chance_level
from studies.files.falling import why_it_falls
from studies.files.label_levels import Label

NOTHING_PRETRAINED = "none"  # what --upstream is when there is no pre-trained network to start from
_MOST = 1e12
_CURRENCY = re.compile(r"[A-Za-z]{1,8}|[$\u00a2-\u00a5\u20a0-\u20cf]")
_LONGEST_NAME = 80
_SLOWEST = 1e-6  # records a second: two a month


class UnknownNameError(UserError, LookupError):
    """The question names a network, a task, an upstream or a metric that does not exist; the message says what does."""

    exit_code = ExitCode.USAGE


class NoEvidenceError(UserError, LookupError):
    """The question is valid, but the evidence does not reach it; the message says how far it goes."""

    exit_code = ExitCode.NO_EVIDENCE


class UnknownUpstreamError(UnknownNameError):
    """No network of the evidence was pre-trained on what is named, nor starts from a network of that name."""

    def __init__(self, message: str, upstream: str) -> None:
        super().__init__(message)
        self.upstream = upstream


class NoRunsFromError(NoEvidenceError):
    """The question is about a ``network`` from which no run of the evidence starts, nor from one made like it.

    ``start`` is what ``--from`` takes to start from it, None where nobody gave it.
    """

    def __init__(self, network: str, start: str | None = None) -> None:
        super().__init__(f"no run of the evidence starts from {network}")
        self.network, self.start = network, start


@dataclass(frozen=True)
class Question:
    """What is asked: ``n_records`` labelled records for training and validation together, and a network or family.

    Without ``arch`` the best of the measured networks answers. ``margin`` is the smallest difference of the metric that
    matters to the asker. ``target`` is a score to be reached. Prices are in any one currency: ``label_cost`` a labelled
    record, ``gpu_cost`` an hour of the device; ``device_speed`` is how many records a second the network trains with
    on the asker's device. ``uses`` is how many trainings share a pre-training that has to be paid for. ``labels`` are
    what the records are labelled with, ``task_like`` names a measured task whose labels are like the asker's;
    ``test_records`` is how many will test a training, None where that is not said. ``currency`` is what
    sums are written in.
    """

    n_records: int
    arch: str | None = None
    metric: str = "auroc_macro"
    margin: float = 0.01
    upstream: str | None = None
    task: str | None = None
    target: float | None = None
    label_cost: float | None = None
    gpu_cost: float | None = None
    uses: int | None = None
    device_speed: float | None = None
    labels: tuple[Label, ...] = ()
    task_like: str | None = None
    test_records: int | None = None
    currency: str | None = None

    @property
    def pays_pretraining(self) -> bool:
        """Whether a pre-training has to be paid for; starting from a network that is available costs nothing."""
        return self.upstream == NOTHING_PRETRAINED or self.uses is not None

    @property
    def is_priced(self) -> bool:
        """Whether the answer can be given in money."""
        return self.label_cost is not None or self.gpu_cost is not None


def find_nonsense(question: Question, spell: Callable[[str], str], *, names_network: bool) -> str | None:
    """Return a sentence about the first value that the question cannot have, None where all make sense.

    ``spell`` writes a field's name as the asker knows it. A NaN is in no range. A speed is that of one network:
    ``names_network`` says whether there is one.
    """
    chance = chance_level(question.metric)
    if (why := why_it_falls(question.metric)) is not None:
        return f"{spell('metric')}: {why}"
    price = f"give a price from 0 to {_MOST:g}"
    refused = {
        "n_records": (question.n_records, question.n_records >= 1, "give a positive number of labelled records"),
        "margin": (question.margin, 0 < question.margin < 1, "give a difference of the metric between 0 and 1"),
        "target": (
            question.target,
            question.target is None or chance < question.target < 1,
            f"give a score between {chance:g}, which chance reaches, and 1",
        ),
        "label_cost": (question.label_cost, question.label_cost is None or 0 <= question.label_cost <= _MOST, price),
        "gpu_cost": (question.gpu_cost, question.gpu_cost is None or 0 <= question.gpu_cost <= _MOST, price),
        "uses": (
            question.uses,
            question.uses is None or 1 <= question.uses <= _MOST,
            f"give the number of trainings that share a pre-training, from 1 to {_MOST:g}",
        ),
        "device_speed": (
            question.device_speed,
            question.device_speed is None or _SLOWEST <= question.device_speed <= _MOST,
            f"give records a second, from {_SLOWEST:g} to {_MOST:g}",
        ),
    }
    for field, (value, is_sense, remedy) in refused.items():
        if not is_sense:
            shown = f"{value:g}" if isinstance(value, float) else value
            return f"{spell(field)} is {shown}: {remedy}"
    if (wrong := _find_wrong_label(question)) is not None:
        return f"{spell('labels')}: {wrong}"
    if question.currency is not None and (wrong := _wrong_currency(question)) is not None:
        return f"{spell('currency')} {wrong} {spell('label_cost')} or {spell('gpu_cost')}"
    if question.device_speed is not None and not names_network:
        return f"{spell('device_speed')} is the speed of one network: name it with {spell('arch')}"
    return None


def _wrong_currency(question: Question) -> str | None:
    """Say what is wrong with a currency, as words before the names of its prices; None where nothing is."""
    if not _CURRENCY.fullmatch(question.currency or ""):
        return f"is {(question.currency or '')[:20]!r}: give a code of letters, as EUR, or a sign, with"
    return None if question.is_priced else "is that of prices: give"


def _find_wrong_label(question: Question) -> str | None:
    """Say what is wrong with the first label that cannot be, None where all make sense."""
    for label in question.labels:
        name = label.finding or "a label"
        if not 0 < label.prevalence < 1:
            return f"{name} in {label.prevalence:.3g} of the records: give a share between 0 and 1"
        if question.n_records * label.rarer < 1:
            which = "have" if label.rarer == label.prevalence else "lack"
            return f"none of {question.n_records:,} records would {which} {name}"
    named = [label.finding for label in question.labels if label.finding is not None]
    if twice := [name for name in named if named.count(name) > 1]:
        return f"{twice[0]} is named twice"
    if wrong := [name for name in named if not name or len(name) > _LONGEST_NAME or UNPRINTABLE.search(name)]:
        return f"{wrong[0][:20]!r} is no name of a label"
    return None
