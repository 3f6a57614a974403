"""The pre-trained network for the asker's records: which it is, what it reads, and which runs start from it.

One that was trained here may stand for those of the evidence that were trained alike. One that somebody else made
stands for itself alone: the evidence has runs from it, or a pilot has, or nobody knows.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.answer.curve_choice import released_in, with_network_named
from advisor.answer.question import NoRunsFromError, Question
from advisor.own_records.records import OwnData
from engine.checkpoints.zoo_index import describe_network
from engine.records.contract import SamplingError, SignalContract
from models.errors import ExitCode, UserError
from studies.files.curves import RELEASED, CurvesFile, is_released, weights_named

if TYPE_CHECKING:
    from engine.checkpoints.checkpoint import Checkpoint


class WrongNetworkError(UserError, LookupError):
    """The checkpoint given is of another network than the one asked for."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained network: what it is called, its checkpoint, and how ``--from`` named it, None where it did not."""

    name: str
    checkpoint: "Checkpoint"
    given: str | None = None

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

    @property
    def is_imported(self) -> bool:
        """Whether its weights, or those that it started from, were made elsewhere and added to the zoo from a file."""
        from engine.training.fit import is_not_controlled

        return is_not_controlled(self.checkpoint.facts)

    @property
    def contract(self) -> SignalContract:
        """The signals that it takes."""
        return self.checkpoint.facts.contract

    @property
    def described(self) -> str:
        """What fine-tuning starts from, as an answer explains it."""
        if not self.is_imported:
            return f"the available network, pre-trained on {self.task}"
        from studies.running.study_networks import digest_of

        return describe_network({**asdict(self.checkpoint.facts), "sha256": digest_of(self.folder)})

    def in_words(self) -> str:
        """Return its name and what it was pre-trained on."""
        of = "" if self.n_records is None else f", {self.n_records:,} records"
        return f"{self.name} ({self.task}{of})"


def network_given(from_: str | None, arch: str | None, curves: CurvesFile) -> Pretrained | None:
    """Return the network of the checkpoint that the user gave, None where none was.

    Raises UnknownCheckpointError, CheckpointError, and WrongNetworkError where it is not the network asked about.
    """
    if from_ is None:
        return None
    from engine.checkpoints.checkpoint import load_checkpoint
    from engine.checkpoints.zoo import find_checkpoint, released
    from models.registry import find_network

    name = from_
    if not Path(from_).exists():  # a folder goes before a name
        name = from_[len(RELEASED) :] if from_.lower().startswith(RELEASED) else from_
        name = name.lower() if name.lower() in released() else name
    checkpoint = load_checkpoint(find_checkpoint(name))
    found = checkpoint.facts.arch
    if find_network(found).family == "kernel":
        raise WrongNetworkError(f"{from_} holds random convolutions, from which nothing starts: leave out --from")
    named = None if arch is None else curves.spelled(arch)
    wanted = found if named is None else curves.family_default.get(named, named)
    if wanted != found:
        raise WrongNetworkError(
            f"--from {from_} holds {found}, and --arch {arch} asks about {wanted}: name one of them"
        )
    return Pretrained(Path(from_).name.removeprefix(RELEASED) or from_, checkpoint, from_)


def network_meant(from_: str | None, question: Question, curves: CurvesFile) -> Pretrained | None:
    """Return the network that was given or, where the question is about runs from one of the zoo, that one.

    Raises what ``network_given`` does and, for a name, what ``recommend`` does.
    """
    from engine.checkpoints.zoo import released

    asked = with_network_named(question, curves)
    if from_ is None and asked.upstream is not None and is_released(asked.upstream):
        name = asked.upstream.removeprefix(RELEASED)
        from_ = name if name in released() else None
    return network_given(from_, asked.arch, curves)


def sampling_for(
    given: Pretrained | None, directory: Path, seconds: float | None, fs: float | None
) -> tuple[float | None, float | None]:
    """Return the seconds and the rate that a directory's records are prepared with, for the network that reads them.

    What was asked for goes first, and a prepared corpus is as it is.
    """
    if given is None or (directory / "corpus.json").is_file():
        return seconds, fs
    contract = given.contract
    if seconds is None and not contract.reads_any_length:
        seconds = contract.seconds
    return seconds, contract.fs if fs is None else fs


def check_rate(given: Pretrained | None, own: OwnData) -> None:
    """Raise SamplingError for records of another rate than the network's, with the command that makes them so."""
    if given is None or given.contract.fs == own.corpus.fs:
        return
    fs = f"{given.contract.fs:g}"
    raise SamplingError(
        f"{given.name} reads signals at {fs} Hz, and the records of {own.directory} are prepared at "
        f"{own.corpus.fs:g} Hz: ecgadvise data prepare DIR --fs {fs} makes a corpus for it, and so does --data DIR "
        "without --fs"
    )


def upstream_of(given: Pretrained, curves: CurvesFile) -> str | None:
    """Return the evidence's name of a network whose runs it has, by its weights or, where these are not named, by its
    own; None for others.
    """
    from studies.running.study_networks import digest_of

    digest = digest_of(given.folder)
    for upstream in sorted(released_in(curves)):
        weights = weights_named(curves.upstreams.get(upstream, ""))
        if digest.startswith(weights) if weights else upstream == f"{RELEASED}{given.name}":
            return upstream
    return None


def about_network(question: Question, given: Pretrained | None, curves: CurvesFile) -> Question:
    """Return the question about the network that is given, answered from runs that start from it where there are any.

    One that was trained here may stand for those of the evidence. Raises NoRunsFromError for one that was not, and for
    one of an architecture that nobody measured.
    """
    if given is None or question.upstream is not None:
        return question if given is None or question.arch else replace(question, arch=given.arch)
    if (named := upstream_of(given, curves)) is not None:
        return replace(question, arch=given.arch, upstream=named)
    if given.is_imported or given.arch not in {curve.arch for curve in curves.curves}:
        raise NoRunsFromError(given.name, given.given)
    return question if question.arch else replace(question, arch=given.arch)


def at_hand(given: Pretrained | None, arch: str, own: OwnData) -> Pretrained | None:
    """Return the network given, else a released one that takes these records; None without."""
    if given is not None:
        return given
    from engine.checkpoints.zoo import suiting

    suited = (Pretrained(name, one) for name, one in suiting(arch, own.corpus.contract).items())
    return next((one for one in suited if not one.is_imported), None)  # nobody starts from those unasked
