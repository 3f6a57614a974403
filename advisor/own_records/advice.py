"""What the adviser says of a training on records, which is what ``recommend --data`` says, and what is trained."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.answer.question import NoEvidenceError, NoRunsFromError, Question, UnknownNameError
from advisor.answer.strategy import AUTO, Choice, as_begun, choose_strategy
from advisor.own_records.answer import OwnAnswer, Unanswered, advise, unanswered
from advisor.own_records.network import Pretrained, at_hand, check_rate
from advisor.own_records.pilots.folders import pilots_folder
from advisor.own_records.pilots.pilot import answer_by_known_pilot, with_known_pilot
from advisor.own_records.records import OwnData
from advisor.own_records.signal_differences import signal_differences
from engine.records.contract import SignalContract
from engine.records.lead_names import leads_in_words
from studies.files.curves import CurvesFile
from studies.files.shipped import DEFAULT_CURVES
from studies.files.transferability import Transferability, read_transferability

_DEFAULT = "cnn"
_OF_JSON = ("null in JSON", "is null")  # of warnings about figures that a training does not print


@dataclass(frozen=True)
class Advice:
    """How to train, the network's architecture, and the pre-trained ``network`` that is available, None without.

    ``answer`` is what ``recommend --data`` says of the records, None where the adviser was not asked or has no answer,
    and ``differences`` say how the records are recorded otherwise than those it rests on.
    """

    choice: Choice
    arch: str
    network: Pretrained | None
    answer: OwnAnswer | None
    differences: tuple[str, ...] = ()

    @property
    def reads(self) -> SignalContract | None:
        """How the network reads records: as one of another team's does that the answer is about."""
        is_about_it = self.answer is not None and self.network is not None and self.network.is_imported
        return self.network.contract if is_about_it and self.network is not None else None

    def in_words(self, besides: Iterable[str] = ()) -> Iterator[str]:
        """Give what is trained and why, what it starts from, and the warnings of the answer that ``besides`` lacks."""
        yield self.choice.why
        if self.answer is None:
            return
        yield self.answer.starts_from
        if (moved := self.answer.moved) is not None:
            yield f"A pilot on these records ({moved.store}) is in the answer."
        for warning in self.answer.with_warnings.warnings:
            if not warning.startswith(tuple(besides)) and not any(words in warning for words in _OF_JSON):
                yield f"! {warning}"

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON; ``best`` is the arm that the answer names, possible here or not."""
        if self.answer is None:
            return {"verdict": self.choice.verdict, "why": self.choice.why}
        found = self.answer.answer
        return {
            "verdict": self.choice.verdict,
            "why": self.choice.why,
            "best": found.best.strategy,
            "p_best": round(found.best.p_best, 4),
            "arch": found.curve.arch,
            "upstream": found.curve.upstream,
            "pretrained": None if self.network is None else self.network.name,
            "pilot": None if self.answer.moved is None else str(self.answer.moved.store),
            "warnings": list(self.answer.with_warnings.warnings),
        }


def advise_training(
    asked: str, own: OwnData, n_records: int, arch: str | None, given: Pretrained | None, curves: CurvesFile,
    begun: str | None = None,
) -> Advice:  # fmt: skip
    """Say what to train on ``n_records`` of the records: as ``asked``, or for ``auto`` as ``recommend --data`` answers.

    ``given`` is what ``network_given`` returned, ``arch`` None for its architecture, else the advised one, or cnn where
    a strategy is asked for; ``curves`` are those that ship. ``begun`` is the strategy of the training that is to go on,
    which ``auto`` keeps. Raises NothingToStartFromError, CheckpointError,
    UnknownNetworkError, and SamplingError for records of another rate than the network's.
    """
    check_rate(given, own)
    known = read_transferability(DEFAULT_CURVES)
    answer, reason = _answer(own, n_records, arch, given, curves, known) if asked == AUTO else (None, "")
    if answer is not None:
        named = answer.answer.curve.arch
    else:
        wanted = arch or (given.arch if given is not None else _DEFAULT)
        named = curves.family_default.get(wanted, wanted)
    network = at_hand(given, named, own)

    def choose(strategy: str) -> Choice:
        return choose_strategy(
            strategy, named, None if network is None else network.name, None if answer is None else answer.answer,
            reason, _released(), leads_in_words(own.corpus.leads),
        )  # fmt: skip

    choice = choose(asked)
    if asked == AUTO and begun is not None and begun != choice.strategy:
        choice = as_begun(choose(begun), choice)
    if answer is None or known is None:
        return Advice(choice, named, network, answer)
    differences = signal_differences(own.corpus, known.tasks, answer.answer.curve.measured_tasks)
    return Advice(choice, named, network, answer, differences)


def _answer(
    own: OwnData, n_records: int, arch: str | None, given: Pretrained | None, curves: CurvesFile,
    known: Transferability | None,
) -> tuple[OwnAnswer | None, str]:  # fmt: skip
    """Return the answer for the records, after a pilot on them where there is one, or why there is none."""
    n_given = None if n_records == len(own.pool) else n_records
    question = Question(n_records, arch)
    try:
        found = advise(question, n_given, own, curves, known, given, measures_gap=False)
    except NoRunsFromError as error:
        assert given is not None, "its runs were looked for"
        return _by_known_pilot(unanswered(question, n_given, own, curves, given, measures_gap=False), str(error))
    except (UnknownNameError, NoEvidenceError) as error:
        return None, str(error)
    return with_known_pilot(found, pilots_folder()), ""


def _by_known_pilot(asked: Unanswered, why: str) -> tuple[OwnAnswer | None, str]:
    """Return the answer of a pilot on the records alone, or why there is none and how it is made."""
    try:
        found = answer_by_known_pilot(asked, pilots_folder())
    except NoEvidenceError as error:
        return None, str(error)
    start = asked.network.given or asked.network.name
    run = shlex.join(["ecgadvise", "recommend", "--data", str(asked.own.directory), "--from", start, "--pilot"])
    return found, "" if found is not None else f"{why}, and no pilot on these records does ({run})"


def _released() -> dict[str, Path]:
    from engine.checkpoints.zoo import released

    return released()
