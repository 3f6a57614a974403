"""An answer for a directory of the asker's: what the records are, what does not match, and what a pilot changed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class NothingToStartFromError(UserError, LookupError):
    """A pilot is asked for, and no pre-trained network is available; the message says how to give one."""

    exit_code = ExitCode.USAGE


class WrongNetworkError(UserError, LookupError):
    """The checkpoint given is of another network than the one asked for."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained network: what it is called, the folder of its checkpoint, and its architecture."""

    name: str
    folder: Path
    arch: str


@dataclass(frozen=True)
class OwnAnswer:
    """The answer, without the ``mismatches`` among its warnings, and what it says of the records themselves.

    ``n_given`` is said where the asker's own number of records goes before the directory's. Of ``score``, the probe
    gap, and ``no_score`` one is None; ``precision`` is None where the test records tell no label apart.
    """

    answer: Recommendation
    own: OwnData
    mismatches: tuple[str, ...]
    n_given: str | None
    score: Score | None
    no_score: str | None
    precision: HeldOutPrecision | None
    moved: "Moved | None" = None

    @property
    def with_warnings(self) -> Recommendation:
        """The answer with all warnings: how the records differ from the evidence's first."""
        said = (self.n_given,) if self.n_given else ()
        return replace(self.answer, warnings=(*said, *self.mismatches, *self.answer.warnings))

    def as_dict(self) -> dict[str, Any]:
        """Return what the answer's JSON says under ``data``."""
        return {
            **self.own.as_dict(),
            "mismatches": list(self.mismatches),
            "transferability": None if self.score is None else self.score.as_dict(),
            "no_transferability": self.no_score if self.score is None else self.score.why_not_used,
            "test_precision": None if self.precision is None else self.precision.as_dict(),
            "pilot": None if self.moved is None else self.moved.as_dict(),
        }


def network_given(from_: str | None, arch: str | None, curves: CurvesFile) -> Pretrained | None:
    """Return the network of the checkpoint that the user gave, None where none was.

    Raises UnknownCheckpointError, CheckpointError, and WrongNetworkError where it is not the network asked about.
    """
    if from_ is None:
        return None
    from engine.checkpoints.checkpoint import load_checkpoint
    from engine.checkpoints.zoo import find_checkpoint

    path = find_checkpoint(from_)
    found = load_checkpoint(path).facts.arch
    named = None if arch is None else curves.spelled(arch)
    wanted = found if named is None else curves.family_default.get(named, named)
    if wanted != found:
        raise WrongNetworkError(
            f"--from {from_} holds {found}, and --arch {arch} asks about {wanted}: name one of them"
        )
    return Pretrained(Path(from_).name or from_, path, found)


def answer_for(
    question: Question, n_given: int | None, own: OwnData, curves: CurvesFile, known: Transferability | None,
    given: Pretrained | None,
) -> OwnAnswer:  # fmt: skip
    """Answer for a directory; ``given`` is what ``network_given`` returned.

    With a network given and no ``arch`` asked for, the answer is about that network. Raises as ``recommend`` does, and
    CheckpointError.
    """
    if given is not None and question.arch is None:
        question = replace(question, arch=given.arch)
    answer = recommend(replace(question, labels=own.scored_labels, test_records=len(own.test)), curves)
    curve = answer.curve
    score = _score(own, curve.arch, question.n_records, known, given)
    mismatches = compare(own, {} if known is None else known.tasks, curve.measured_tasks)
    said = None
    if n_given is not None and n_given != len(own.pool):
        said = f"Answered for the {n_given:,} records given; {own.directory} has {len(own.pool):,} to learn from."
    known_score, why_not = (score, None) if isinstance(score, Score) else (None, score)
    expected = answer.best.score.mean if question.metric == METRIC else None
    return OwnAnswer(answer, own, mismatches, said, known_score, why_not, held_out_precision(own, expected))


def _score(
    own: OwnData, arch: str, n_records: int, known: Transferability | None, given: Pretrained | None
) -> Score | str:
    """Measure the probe gap of the available network, or say why that is left out. Raises CheckpointError."""
    correlation = None if known is None else known.networks.get(arch)
    network = at_hand(given, arch, own)
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
    return next((Pretrained(name, one.folder, arch) for name, one in released.items()), None)
