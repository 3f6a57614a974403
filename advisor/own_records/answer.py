"""An answer for the asker's records, the same for every command: what they are, what does not match, and what a pilot
changed.

``advise`` is the one function that asks the adviser about records. ``recommend --data`` prints what it says, ``train``
does it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.answer.question import NOTHING_PRETRAINED
from advisor.answer.recommend import Question, Recommendation, recommend
from advisor.own_records.held_out import HeldOutPrecision, held_out_precision
from advisor.own_records.records import OwnData, compare
from advisor.own_records.score import Score, score_own
from engine.records.lead_names import leads_in_words
from models.errors import ExitCode, UserError
from studies.files.curves import CurvesFile
from studies.files.transferability import Transferability
from studies.runs.run import METRIC

if TYPE_CHECKING:
    from advisor.own_records.pilot import Moved
    from engine.checkpoints.checkpoint import Checkpoint


class WrongNetworkError(UserError, LookupError):
    """The checkpoint given is of another network than the one asked for."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained network: what it is called, and its checkpoint."""

    name: str
    checkpoint: "Checkpoint"

    @property
    def folder(self) -> Path:
        """Where its checkpoint lies."""
        return self.checkpoint.folder

    @property
    def arch(self) -> str:
        """Its architecture."""
        return self.checkpoint.facts.arch

    @property
    def task(self) -> str:
        """What it was trained on."""
        return self.checkpoint.facts.task

    @property
    def n_records(self) -> int | None:
        """How many records it was trained on, None where that was not kept."""
        return self.checkpoint.facts.n_records

    def in_words(self) -> str:
        """Return its name and what it was pre-trained on."""
        of = "" if self.n_records is None else f", {self.n_records:,} records"
        return f"{self.name} ({self.task}{of})"


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
        theirs = f"the evidence's networks on {self.answer.curve.rests_on[-1].upstream}"
        if self.network is not None and self.answer.question.upstream == NOTHING_PRETRAINED:
            return f"Asked as if there were no pre-trained network; {self.network.in_words()} is available; {theirs}."
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


def network_given(from_: str | None, arch: str | None, curves: CurvesFile) -> Pretrained | None:
    """Return the network of the checkpoint that the user gave, None where none was.

    Raises UnknownCheckpointError, CheckpointError, and WrongNetworkError where it is not the network asked about.
    """
    if from_ is None:
        return None
    from engine.checkpoints.checkpoint import load_checkpoint
    from engine.checkpoints.zoo import find_checkpoint
    from models.registry import find_network

    checkpoint = load_checkpoint(find_checkpoint(from_))
    found = checkpoint.facts.arch
    if find_network(found).family == "kernel":
        raise WrongNetworkError(f"{from_} holds random convolutions, from which nothing starts: leave out --from")
    named = None if arch is None else curves.spelled(arch)
    wanted = found if named is None else curves.family_default.get(named, named)
    if wanted != found:
        raise WrongNetworkError(
            f"--from {from_} holds {found}, and --arch {arch} asks about {wanted}: name one of them"
        )
    return Pretrained(Path(from_).name or from_, checkpoint)


def advise(
    question: Question, n_given: int | None, own: OwnData, curves: CurvesFile, known: Transferability | None,
    given: Pretrained | None, *, measures_gap: bool = True,
) -> OwnAnswer:  # fmt: skip
    """Answer for records; ``given`` is what ``network_given`` returned, ``n_given`` the number that was given.

    With a network given and no ``arch`` asked for, the answer is about that network. Where the records have a pilot
    (``pilot.with_known_pilot``) it is not in the answer yet. Raises as ``recommend`` does, and CheckpointError.
    """
    if given is not None and question.arch is None:
        question = replace(question, arch=given.arch)
    answer = recommend(replace(question, labels=own.scored_labels, test_records=len(own.test)), curves)
    curve = answer.curve
    network = at_hand(given, curve.arch, own)
    score = _score(own, curve.arch, question.n_records, known, network) if measures_gap else None
    mismatches = (*compare(own, {} if known is None else known.tasks, curve.measured_tasks),)
    said = None
    if n_given is not None and n_given != len(own.pool):
        said = f"Answered for the {n_given:,} records given; {own.directory} has {len(own.pool):,} to learn from."
    known_score, why_not = (score, None) if isinstance(score, Score) else (None, score)
    expected = answer.best.score.mean if question.metric == METRIC else None
    return OwnAnswer(answer, own, mismatches, said, known_score, why_not, held_out_precision(own, expected), network)


def _score(
    own: OwnData, arch: str, n_records: int, known: Transferability | None, network: Pretrained | None
) -> Score | str:
    """Measure the probe gap of the available network, or say why that is left out. Raises CheckpointError."""
    correlation = None if known is None else known.networks.get(arch)
    if network is None:
        named = leads_in_words(own.corpus.leads)
        return f"left out: no pre-trained {arch} for {named} at this rate and length is available (--from)."
    return score_own(own, network.name, arch, network.folder, n_records, correlation)


def at_hand(given: Pretrained | None, arch: str, own: OwnData) -> Pretrained | None:
    """Return the network given, else a released one that takes these records; None without."""
    if given is not None:
        return given
    from engine.checkpoints.zoo import suiting

    released = suiting(arch, own.corpus.contract)
    return next((Pretrained(name, one) for name, one in released.items()), None)
