"""Publishers' directory trees, one file a publisher, all behind the protocol below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.records.record import Record
from models.errors import ExitCode, UserError


class SourceError(UserError, ValueError):
    """A directory that is not what its publisher distributes; one sentence says what is missing or wrong."""

    exit_code = ExitCode.DATA


class UnknownNameError(SourceError):
    """No source or task has the name that was asked for; the message lists those that there are."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Entry:
    """One listed record: where it is, whose it is, its labels, and the publisher's fold where there is one.

    ``age`` in years and ``sex`` ("female", "male") are None where the publisher does not say. ``problem`` says why a
    listed record cannot be used, where that shows before its samples are read (a header that cannot be parsed).
    ``labels_known`` is False where that is why it has no labels, or not its own.
    """

    record_id: str
    path: Path
    patient: str
    labels: frozenset[str]
    fold: int | None = None
    age: float | None = None
    sex: str | None = None
    problem: str | None = None
    labels_known: bool = True


@dataclass(frozen=True)
class TaskDefinition:
    """A task's classes, each the union of some of the source's labels, and in words what they are.

    ``labelled_only`` leaves out the records that have none of the classes, for statements that are not exhaustive.
    """

    description: str
    classes: Mapping[str, Sequence[str]]
    labelled_only: bool = True


class Source(Protocol):
    """What a publisher's tree offers: records with patients, labels and folds, the tasks they define, the licence.

    ``inferred`` says in sentences what was not written anywhere and what was left out.
    """

    name: str
    version: str
    licence: str
    url: str
    citation: str
    leads: tuple[str, ...]
    labels: tuple[str, ...]
    tasks: Mapping[str, TaskDefinition]
    inferred: tuple[str, ...]

    def entries(self) -> list[Entry]:
        """List every record, in the publisher's order."""
        ...

    def read(self, entry: Entry) -> Record:
        """Read one record. Raises RecordError."""
        ...
