"""An answer for the asker's records, the same for every command: what they are, what does not match, and what a pilot
changed.

``advise`` is the one function that asks the adviser about records. ``recommend --data`` prints what it says, ``train``
does it.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from advisor.answer.question import NOTHING_PRETRAINED, NoEvidenceError, UnknownNameError
from advisor.answer.recommend import Question, Recommendation, recommend
from advisor.answer.words import count
from advisor.own_records.held_out import HeldOutPrecision, held_out_precision
from advisor.own_records.network import Pretrained, about_network, at_hand
from advisor.own_records.records import OwnData, compare, remarks_on
from advisor.own_records.score import Score, score_own
from engine.records.lead_names import leads_in_words
from studies.files.curves import CurvesFile, start_in_words
from studies.files.transferability import Transferability
from studies.runs.run import METRIC

if TYPE_CHECKING:
    from advisor.own_records.moved import Moved


@dataclass(frozen=True)
class OwnAnswer:
    """The answer, without the ``mismatches`` among its warnings, and what it says of the records themselves.

    ``n_given`` is said where the asker's own number of records goes before the directory's. Of ``score``, the probe
    gap, and ``no_score`` one is None, or both where it was not asked for; ``precision`` is None where the test records
    tell no label apart. ``network`` is the pre-trained one that is available, None without; ``ignored`` says which
    pilot on these records is not in the answer, and why.
    """

    answer: Recommendation
    own: OwnData
    mismatches: tuple[str, ...]
    n_given: str | None
    score: Score | None
    no_score: str | None
    precision: HeldOutPrecision | None
    network: Pretrained | None
    moved: "Moved | None" = None
    ignored: str | None = None

    @property
    def starts_from(self) -> str:
        """What fine-tuning and a linear probe start from, here and in the evidence, in one sentence."""
        if self.network is not None and self.moved is not None and self.moved.is_alone:
            pairs = count(self.answer.curve.runs // 2, "pair")
            return (
                f"Pre-trained network: {self.network.in_words()}; no run of the evidence starts from it: this answer "
                f"is from the pilot alone, {pairs} on these records."
            )
        upstream = self.answer.curve.rests_on[-1].upstream
        theirs = f"the evidence's networks {start_in_words(upstream).removeprefix('pre-trained ')}"
        if self.network is not None and self.answer.question.upstream == NOTHING_PRETRAINED:
            return f"Asked as if there were no pre-trained network; {self.network.in_words()} is available; {theirs}."
        if self.network is not None and self.network.contract.leads != self.own.corpus.leads:
            reads = leads_in_words(self.network.contract.leads)
            return f"Pre-trained network: {self.network.in_words()}, which reads {reads} of these records; {theirs}."
        if self.network is None:
            return f"No pre-trained {self.answer.curve.arch} that takes these records is available (--from); {theirs}."
        return f"Pre-trained network: {self.network.in_words()}; {theirs}."

    @property
    def with_warnings(self) -> Recommendation:
        """The answer with all warnings: how the records differ from the evidence's first."""
        said = tuple(filter(None, (self.n_given, self.ignored)))
        return replace(self.answer, warnings=(*said, *self.mismatches, *self.answer.warnings))

    def as_dict(self) -> dict[str, Any]:
        """Return what the answer's JSON says under ``data``."""
        return {
            **self.own.as_dict(),
            "mismatches": list(self.mismatches),
            "transferability": None if self.score is None else self.score.as_dict(),
            "no_transferability": self.no_score if self.score is None else self.score.why_not_used,
            "test_precision": None if self.precision is None else self.precision.as_dict(),
            "pretrained": None
            if self.network is None
            else {
                "name": self.network.name,
                "task": self.network.task,
                "n_records": self.network.n_records,
            },
            "pilot": None if self.moved is None else self.moved.as_dict(),
            "pilot_ignored": self.ignored,
        }


@dataclass(frozen=True)
class Unanswered:
    """A question about records and a network from which no run of the evidence starts: a pilot alone can answer it.

    The ``question`` has the records' labels, ``n_given`` is the number of records that was given, if any.
    """

    question: Question
    own: OwnData
    curves: CurvesFile
    network: Pretrained
    n_given: int | None
    measures_gap: bool = True

    def others(self) -> Recommendation | None:
        """Return what the evidence says of its own networks, None where it has no answer."""
        try:
            return recommend(replace(self.question, arch=None, upstream=None), self.curves)
        except (NoEvidenceError, UnknownNameError):
            return None

    def answered(self, moved: "Moved") -> OwnAnswer:
        """Return the answer that a pilot alone gives, with what there is to say of the records."""
        own, network = self.own, self.network
        found = _score(own, network.arch, self.question.n_records, None, network) if self.measures_gap else None
        score, why_not = (found, None) if isinstance(found, Score) else (None, found)
        said, precision = _said_of_number(own, self.n_given), held_out_precision(own, moved.after.best.score.mean)
        return OwnAnswer(moved.after, own, remarks_on(own), said, score, why_not, precision, network, moved)


def advise(
    question: Question, n_given: int | None, own: OwnData, curves: CurvesFile, known: Transferability | None,
    given: Pretrained | None, *, measures_gap: bool = True,
) -> OwnAnswer:  # fmt: skip
    """Answer for records; ``given`` is what ``network_given`` returned, ``n_given`` the number that was given.

    With a network given and no ``arch`` asked for, the answer is about that network. Where the records have a pilot
    (``pilot.with_known_pilot``) it is not in the answer yet. Raises as ``recommend`` does, and CheckpointError.
    """
    question = about_network(question, given, curves)
    answer = recommend(_with_labels(question, own), curves)
    curve = answer.curve
    network = at_hand(given, curve.arch, own)
    score = _score(own, curve.arch, question.n_records, known, network) if measures_gap else None
    mismatches = (*compare(own, {} if known is None else known.tasks, curve.measured_tasks),)
    said = _said_of_number(own, n_given)
    known_score, why_not = (score, None) if isinstance(score, Score) else (None, score)
    expected = answer.best.score.mean if question.metric == METRIC else None
    return OwnAnswer(answer, own, mismatches, said, known_score, why_not, held_out_precision(own, expected), network)


def unanswered(
    question: Question, n_given: int | None, own: OwnData, curves: CurvesFile, given: Pretrained, *,
    measures_gap: bool = True,
) -> Unanswered:  # fmt: skip
    """Return what a pilot alone can answer, where ``advise`` raises NoRunsFromError."""
    return Unanswered(_with_labels(question, own), own, curves, given, n_given, measures_gap)


def _with_labels(question: Question, own: OwnData) -> Question:
    return replace(question, labels=own.scored_labels, test_records=len(own.test))


def _said_of_number(own: OwnData, n_given: int | None) -> str | None:
    if n_given is None or n_given == len(own.pool):
        return None
    return f"Answered for the {n_given:,} records given; {own.directory} has {len(own.pool):,} to learn from."


def _score(
    own: OwnData, arch: str, n_records: int, known: Transferability | None, network: Pretrained | None
) -> Score | str:
    """Measure the probe gap of the available network, or say why that is left out. Raises CheckpointError."""
    correlation = None if known is None else known.networks.get(arch)
    if network is None:
        named = leads_in_words(own.corpus.leads)
        return f"left out: no pre-trained {arch} for {named} at this rate and length is available (--from)."
    return score_own(own, network.name, arch, network.folder, n_records, correlation)
