"""Which records of a task train a network, which choose its epoch and thresholds, and which test it."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.held_out import Division, HeldOut, hold_out, together
from engine.corpora.splits import draw_records, has_both_outcomes, split_validation
from engine.seeds import stable_seed
from models.errors import ExitCode, UserError

_FEWEST_PATIENTS = 3
_LISTED = 5
_EFFECTS = {
    "training": "cannot be learnt",
    "validation": "the threshold stays 0.5",
    "test": "left out of the average",
}


class PartitionError(UserError, ValueError):
    """Records that cannot be divided as asked; one sentence says what is missing."""

    exit_code = ExitCode.DATA


class TooManyRecordsError(PartitionError):
    """More records are asked for than there are besides the test records."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Partition:
    """Positions into a task's view (``TaskData``) of the records to train on, to choose by and to test on.

    ``seed`` is that of everything random about the training, made of the one ``asked`` for: a study's run of the same
    task and size has it too where ``asked`` is its replicate. ``held`` says which the test records are, and why.
    ``validation_fraction`` is the share of the records drawn that is kept to validate with.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    held: HeldOut
    asked: int
    seed: int
    validation_fraction: float

    @property
    def held_out(self) -> str:
        """Which records test, in words."""
        return self.held.words

    @property
    def n_records(self) -> int:
        """Labelled records for training and validation together."""
        return len(self.training) + len(self.validation)


def available(
    corpus: Corpus, data: TaskData, asked: Division | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], HeldOut]:
    """Return the positions of the records that may be drawn, of the test records, and which these are.

    Raises PartitionError where there are too few patients for a test set and two more sides.
    """
    n_patients = len(np.unique(data.patients))
    if n_patients < _FEWEST_PATIENTS:
        raise PartitionError(
            f"{data.name} has records of {n_patients} patient{'s' * (n_patients != 1)}: at least {_FEWEST_PATIENTS} "
            "are needed, to train, to validate and to test"
        )
    held = hold_out(corpus, asked)
    test = held.test[data.rows]
    pool = np.flatnonzero(~test)
    if not test.any() or len(np.unique(data.patients[pool])) < _FEWEST_PATIENTS - 1:
        raise PartitionError(
            f"{data.name} has {int(test.sum()):,} records to test on ({held.words}) and {len(pool):,} others: too few"
        )
    return pool, np.flatnonzero(test), held


def divide(
    corpus: Corpus, data: TaskData, n_records: int | None, seed: int, validation_fraction: float,
    asked: Division | None = None,
) -> Partition:  # fmt: skip
    """Draw ``n_records`` (None: all) of the records that are not held out, and keep a fraction of them to validate.

    ``asked`` says how the test records are chosen (``hold_out``). With a fraction of 0 all of them train. Patients are
    never on two sides, nor are equal signals. Raises PartitionError when a side would be empty, or there are not that
    many records.
    """
    pool, test, held = available(corpus, data, asked)
    owners = together(corpus)[data.rows]
    n = len(pool) if n_records is None else n_records
    if n > len(pool):
        raise TooManyRecordsError(
            f"{data.name} has {len(pool):,} records besides those held out for the test, not {n:,}"
        )
    fixed = stable_seed(data.name, n, seed)
    drawn = pool[draw_records(owners[pool], n, fixed)]
    if not validation_fraction:
        return Partition(np.sort(drawn), drawn[:0], test, held, seed, fixed, validation_fraction)
    try:
        training, validation = split_validation(owners[drawn], validation_fraction, fixed)
    except ValueError:
        raise PartitionError(
            f"{n:,} records of {data.name} are too few: all are of one patient, or of so few that none are left to "
            "train on once some are kept for validation"
        ) from None
    return Partition(drawn[training], drawn[validation], test, held, seed, fixed, validation_fraction)


def split_table(corpus: Corpus, data: TaskData, partition: Partition) -> str:
    """Return a CSV table of every record of a task: its name, its patient, and the side that it is on.

    The ``patient`` is a hash of twelve digits, equal for records of one patient; ``side`` is training, validation, test
    or, of a record that was not drawn, unused. Where nothing is kept to validate, cross-validation uses training.
    """
    sides = np.full(len(data.rows), "unused", dtype="<U10")
    for side in ("training", "validation", "test"):
        sides[getattr(partition, side)] = side
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("record", "patient", "side"))
    for row, patient, side in zip(data.rows, data.patients.tolist(), sides.tolist(), strict=True):
        whose = hashlib.sha256(f"{corpus.content_hash}:{patient}".encode()).hexdigest()[:12]
        writer.writerow((corpus.record_ids[row], whose, side))
    return file.getvalue()


def lacking_classes(data: TaskData, partition: Partition) -> tuple[str, ...]:
    """Return sentences about the classes that one side of a partition has no record of, or no record without.

    Raises PartitionError when that is every class on the training or on the test side.
    """
    sentences = []
    for side, effect in _EFFECTS.items():
        rows: NDArray[np.int64] = getattr(partition, side)
        if not len(rows):
            continue  # none are kept to validate with
        usable = has_both_outcomes(data.labels[rows])
        lacking = [name for name, both in zip(data.classes, usable, strict=True) if not both]
        if not usable.any() and side != "validation":
            raise PartitionError(
                f"no class of {data.name} ({listed(data.classes)}) has both records with it and records without it "
                f"among the {len(rows):,} {side} records; take more records, or other ones"
            )
        if lacking:
            sentences.append(f"{listed(lacking)}: in none, or in all, of the {len(rows):,} {side} records: {effect}")
    return tuple(sentences)


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: the first of many, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
