"""The part of ``ecgadvise recommend`` that reads a directory of the asker's, and runs a pilot on it."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.answer.question import NoRunsFromError, Question
from advisor.terminal.failures import Failure, Interrupted
from advisor.terminal.lines import say
from models.errors import ExitCode

if TYPE_CHECKING:
    from advisor.own_records.answer import OwnAnswer
    from advisor.own_records.network import Pretrained
    from advisor.own_records.pilots.pilot import PilotRequest
    from advisor.own_records.records import OwnData
    from studies.files.curves import CurvesFile

PILOT_METRIC = "auroc_macro"
_MINUTES, _LONGEST = 10.0, 100_000.0  # of a pilot: where none are given; ten weeks


@dataclass(frozen=True)
class Own:
    """The options about the asker's own records, as given."""

    data: Path | None
    source: str | None
    labels: str | None
    from_: str | None
    pilot: bool
    minutes: float | None
    store: Path | None
    seconds: float | None = None
    fs: float | None = None
    test_fraction: float | None = None
    test_seed: int | None = None
    seed: int | None = None
    scheduler: str | None = None

    def check(self, n_records: int | None) -> None:
        """Refuse options that do not go together. Raises Failure."""
        needing = {
            "--source": self.source, "--from": self.from_, "--pilot": self.pilot or None,
            "--minutes": self.minutes, "--pilot-store": self.store, "--seconds": self.seconds, "--fs": self.fs,
            "--test-fraction": self.test_fraction, "--test-seed": self.test_seed, "--seed": self.seed,
            "--scheduler": self.scheduler,
        }  # fmt: skip
        if self.data is None:
            if n_records is None:
                raise Failure("give --n-records, the labelled records you have, or --data DIR", ExitCode.USAGE)
            if given := [name for name, value in needing.items() if value is not None]:
                raise Failure(f"{given[0]} is about your own records: give --data DIR with it", ExitCode.USAGE)
        if self.store is not None and not self.pilot:
            raise Failure("--pilot-store is where --pilot keeps its runs: give --pilot with it", ExitCode.USAGE)
        if self.seed is not None and not self.pilot:
            raise Failure("--seed draws the subsets of --pilot: give --pilot with it", ExitCode.USAGE)
        if self.scheduler is not None and not self.pilot:
            raise Failure("--scheduler is where --pilot trains: give --pilot with it", ExitCode.USAGE)
        if self.minutes is None:
            return
        if not (isfinite(self.minutes) and 0 < self.minutes <= _LONGEST):
            raise Failure(
                f"--minutes is {self.minutes:g}: give minutes, more than 0 and at most {_LONGEST:,.0f}", ExitCode.USAGE
            )
        if not self.pilot:
            raise Failure("--minutes is how long --pilot may take: give --pilot with it", ExitCode.USAGE)

    def answer(self, question: Question, n_records: int | None, evidence: "CurvesFile", curves: Path) -> "OwnAnswer":
        """Answer for the directory from the evidence in the file ``curves``; ``n_records`` is the number that was
        given. Raises UserError, Interrupted.
        """
        return _answer(self, question, n_records, evidence, curves)


def in_words(found: "OwnAnswer", curves: Path, explain: bool, json: bool, color: bool) -> str:
    """Return an answer as JSON, or as the table or the long form with the records after it."""
    from advisor.text.answer_json import to_json
    from advisor.text.explanation import explain as gather
    from advisor.text.explanation_text import to_text
    from advisor.text.own_records_text import to_own_table, with_records

    if json:
        whole = found.with_warnings
        return to_json(whole, gather(whole, curves).as_dict() if explain else None, found.as_dict())
    if explain:
        return with_records(to_text(found.answer, gather(found.answer, curves), color=color), found, color=color)
    return to_own_table(found, color=color)


def _answer(
    asked: Own, question: Question, n_records: int | None, evidence: "CurvesFile", curves: Path
) -> "OwnAnswer":  # fmt: skip
    """Open the directory, as the network reads it, and answer for its number of records, unless one was given; after a
    pilot, if there is one or one is asked for.
    """
    from advisor.own_records.answer import advise, unanswered
    from advisor.own_records.network import check_rate, network_meant
    from advisor.own_records.pilots.folders import pilots_folder
    from advisor.own_records.pilots.pilot import (
        answer_by_known_pilot,
        answer_by_pilot,
        with_known_pilot,
        with_pilot,
    )
    from studies.files.transferability import read_transferability

    assert asked.data is not None, "checked before"
    if asked.pilot and question.metric != PILOT_METRIC:
        raise Failure(f"--pilot measures {PILOT_METRIC} alone, not {question.metric}", ExitCode.USAGE)
    with _name_unusable_files(asked.data):
        known = read_transferability(curves)
        given = network_meant(asked.from_, question, evidence)
        own = _open(asked, asked.data, given)
        check_rate(given, own)
        question = replace(question, n_records=len(own.pool) if n_records is None else n_records)
        try:
            found = advise(question, n_records, own, evidence, known, given)
        except NoRunsFromError:
            if given is None:
                raise
            alone = unanswered(question, n_records, own, evidence, given)
            if asked.pilot:
                with _resumable_pilot():
                    return answer_by_pilot(alone, _request(asked, own))
            if (by_pilot := answer_by_known_pilot(alone, pilots_folder())) is None:
                raise
            return by_pilot
        if not asked.pilot:
            return with_known_pilot(found, pilots_folder())
        with _resumable_pilot():
            return with_pilot(found, _request(asked, own))


def _request(asked: Own, own: "OwnData") -> "PilotRequest":
    from advisor.own_records.pilots.folders import choose_folder, pilots_folder
    from advisor.own_records.pilots.pilot import PilotRequest
    from advisor.terminal.progress.file import progress_file
    from advisor.terminal.progress.study import study_progress

    folder, file = choose_folder(pilots_folder(), own.corpus.content_hash, asked.store), progress_file()
    watch, tell = partial(study_progress, file), None if file is None else file.tell
    return PilotRequest(folder, asked.minutes or _MINUTES, say, watch, asked.seed or 0, asked.scheduler, tell)


def _open(asked: Own, directory: Path, given: "Pretrained | None") -> "OwnData":
    from advisor.own_records.network import sampling_for
    from advisor.own_records.records import open_own
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import default_corpora
    from engine.corpora.held_out import Division
    from studies.running.workplaces import default_workers

    division = Division(asked.test_fraction, asked.test_seed)
    with progress_bar("records") as progress:
        return open_own(
            directory, asked.labels, asked.source, default_corpora(), default_workers(), say, progress,
            *sampling_for(given, directory, asked.seconds, asked.fs), division,
        )  # fmt: skip


@contextmanager
def _resumable_pilot() -> Iterator[None]:
    """End a pilot that Ctrl-C stopped with the command that goes on. Raises Failure and Interrupted."""
    from studies.running.runner import WorkersGoneError
    from studies.runs.store import StoreError

    go_on = f"go on with: {shlex.join(['ecgadvise', *sys.argv[1:]])}"
    try:
        yield
    except StoreError as error:  # a pilot writes its store itself: it is not data that the asker gave
        raise Failure(str(error), ExitCode.FAILURE) from None
    except WorkersGoneError as error:  # what is done is kept
        raise Failure(f"{error}; {go_on}", ExitCode.FAILURE) from None
    except KeyboardInterrupt:
        raise Interrupted(go_on) from None


@contextmanager
def _name_unusable_files(directory: Path) -> Iterator[None]:
    """Say which file or folder could not be read or written. Raises Failure for an OSError."""
    try:
        yield
    except OSError as error:
        where = error.filename or directory
        raise Failure(f"cannot read or write {where}: {error.strerror or error}", ExitCode.FAILURE) from None
