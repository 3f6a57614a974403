"""A job as the store knows it, and what its folder says of it."""

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

_LEFT = re.compile(r", about [^,]* left$")


class State(StrEnum):
    """Where a job is; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Ending(StrEnum):
    """Why a running job is being ended."""

    CANCELLED = "cancelled"
    TOO_LONG = "too-long"


@dataclass(frozen=True)
class Job:
    """A job. ``model`` is the one that it makes, ``deaths`` how often its process was ended from outside."""

    id: str
    kind: str
    dataset: str | None
    model: str | None
    request: Mapping[str, Any]
    state: State
    created: str
    started: str | None
    ended: str | None
    by: str
    attempts: int
    deaths: int
    ending: Ending | None
    exit_code: int | None
    problem: str | None
    folder: Path = field(repr=False)

    @classmethod
    def of(cls, row: sqlite3.Row, jobs: Path) -> "Job":
        """Return the job of a row of the table; ``jobs`` is where jobs have their folders."""
        same = ("id", "kind", "dataset", "model", "created", "started", "ended", "by", "attempts", "deaths")
        return cls(
            **{name: row[name] for name in same}, exit_code=row["exit_code"], problem=row["problem"],
            request=json.loads(row["request"]), state=State(row["state"]),
            ending=None if row["ending"] is None else Ending(row["ending"]), folder=jobs / row["id"],
        )  # fmt: skip

    def answer(self, hide: Callable[[str], str] = str) -> Any:
        """Return what the command printed, as JSON values; None where it has not ended well, or is gone.

        ``hide`` takes out of it what is not for everybody.
        """
        text = self.printed() if self.state is State.DONE else None
        if text is None:
            return None
        try:
            return json.loads(hide(text))
        except ValueError:  # export and study print lines
            return {"lines": hide(text).splitlines()}

    def printed(self) -> str | None:
        """Return what the command printed so far, None where that is nothing."""
        try:
            return (self.folder / "answer").read_text(encoding="utf-8", errors="replace") or None
        except OSError:  # not begun, or deleted with its dataset meanwhile
            return None

    def progress(self) -> "Progress | None":
        """Return how far it is, None where that is not known."""
        found = read_progress(self.folder / "progress.json")
        if found is None:
            return None
        if self.state.is_final:  # what it said when it was last written
            found = replace(found, seconds_left=None, words=_LEFT.sub("", found.words))
        return found.of(self.kind)


VERDICT = ("best", "headline", "verdict", "why", "pairs")


@dataclass(frozen=True)
class Progress:
    """How far a job is, as its command says (``advisor.terminal.progress.file``)."""

    what: str
    done: int
    total: int
    seconds_left: float | None
    words: str
    verdict: Mapping[str, Any] | None

    @property
    def percent(self) -> float:
        """How much is done, in per cent."""
        return round(min(100.0, 100 * self.done / self.total), 1) if self.total > 0 else 0.0

    def of(self, kind: str) -> "Progress":
        """Return it as that of a whole job: records that are prepared before a training are none of it yet."""
        return replace(self, done=0, seconds_left=None) if self.what == "records" and kind != "check" else self


def read_progress(path: Path) -> Progress | None:
    """Return what a progress file says, None where there is none or it says something else."""
    try:
        found = json.loads(path.read_bytes())
        verdict = found["verdict"] or {}
        return Progress(
            str(found["what"]), int(found["done"]), int(found["total"]),
            None if found["seconds_left"] is None else float(found["seconds_left"]), str(found["words"]),
            {name: verdict[name] for name in VERDICT} if verdict else None,
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError):  # it is a command's to write, and only says how far that is
        return None
