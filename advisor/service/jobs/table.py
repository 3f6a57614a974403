"""The table of jobs in the service's database: a job is there before anybody is told of it."""

import json
import sqlite3

from advisor.service.jobs.job import Ending, Job, State
from advisor.service.jobs.kinds import JobRequest
from advisor.service.problems import Problem
from advisor.service.store import ServiceStore, new_id, now

_ALIVE = (State.QUEUED, State.RUNNING)


class JobTable:
    """Reads and changes jobs; every change is on the disk when the method returns."""

    def __init__(self, store: ServiceStore) -> None:
        self._store = store

    def find(self, job: str) -> Job | None:
        """Return a job, None where there is none of that ID."""
        rows = self._store.rows("SELECT * FROM jobs WHERE id = ?", job)
        return Job.of(rows[0], self._store.jobs) if rows else None

    def alive(self) -> list[Job]:
        """Return the jobs that are queued or running, oldest first."""
        rows = self._store.rows("SELECT * FROM jobs WHERE state IN (?, ?) ORDER BY created, rowid", *_ALIVE)
        return [Job.of(row, self._store.jobs) for row in rows]

    def untold(self) -> list[Job]:
        """Return the jobs whose end nobody was told of."""
        rows = self._store.rows("SELECT * FROM jobs WHERE told = 0 AND state NOT IN (?, ?)", *_ALIVE)
        return [Job.of(row, self._store.jobs) for row in rows]

    def select(self, limit: int, before: str | None = None, **equal: str | None) -> list[Job]:
        """Return jobs whose columns have these values (None: any), newest first, from the one ``before`` on."""
        given = {name: value for name, value in equal.items() if value is not None}
        terms, values = [f"{name} = ?" for name in given], list[object](given.values())
        if before is not None:
            terms.append("(created, rowid) < (SELECT created, rowid FROM jobs WHERE id = ?)")
            values.append(before)
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        query = f"SELECT * FROM jobs {where} ORDER BY created DESC, rowid DESC LIMIT ?"
        return [Job.of(row, self._store.jobs) for row in self._store.rows(query, *values, limit)]

    def add(
        self, request: JobRequest, key: str, dataset: str | None, model: str | None, by: str, most: int
    ) -> tuple[str, bool]:  # fmt: skip
        """Add a job at the end of the queue, or put the same work there again that failed or was cancelled.

        Returns its ID, and whether it is new. ``most`` may wait. Raises Problem.
        """
        with self._store.transaction() as db:
            same = db.execute("SELECT * FROM jobs WHERE key = ? ORDER BY rowid DESC LIMIT 1", (key,)).fetchone()
            if same is not None and State(same["state"]) not in (State.FAILED, State.CANCELLED):
                return str(same["id"]), False
            _refuse_more(db, most)
            if same is not None:
                db.execute(_AGAIN, (State.QUEUED, by, same["id"]))
                return str(same["id"]), False
            job = new_id("j")
            row = (job, request.kind, key, dataset, model, json.dumps(request.model_dump(mode="json")), State.QUEUED)
            db.execute(
                "INSERT INTO jobs (id, kind, key, dataset, model, request, state, created, by) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, now(), by),
            )  # fmt: skip
            return job, True

    def again(self, job: str, by: str, most: int) -> None:
        """Put a job that failed or was cancelled into the queue. Raises Problem for another."""
        with self._store.transaction() as db:
            state = _state(db.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone(), job)
            if state not in (State.FAILED, State.CANCELLED):
                raise Problem(409, f"job {job} is {state}: only one that failed or was cancelled is begun again")
            _refuse_more(db, most)
            db.execute(_AGAIN, (State.QUEUED, by, job))

    def cancel(self, job: str) -> None:
        """Cancel a job that waits, at once, and ask for the end of one that runs. Raises Problem for another."""
        with self._store.transaction() as db:
            row = db.execute("SELECT state, ending FROM jobs WHERE id = ?", (job,)).fetchone()
            state = _state(row, job)
            if state is State.QUEUED:
                db.execute("UPDATE jobs SET state = ?, ended = ?, told = 0 WHERE id = ?", (State.CANCELLED, now(), job))
            elif state is State.RUNNING and row["ending"] is None:
                db.execute("UPDATE jobs SET ending = ? WHERE id = ?", (Ending.CANCELLED, job))
            elif state is State.RUNNING:
                raise Problem(409, f"job {job} is being ended already")
            else:
                raise Problem(409, f"job {job} is {state} already: there is nothing to cancel")

    def end_late(self, job: str) -> None:
        """Ask for the end of a job that runs too long, unless it is being ended already."""
        with self._store.transaction() as db:
            db.execute("UPDATE jobs SET ending = ? WHERE id = ? AND ending IS NULL", (Ending.TOO_LONG, job))

    def running(self, job: str) -> bool:
        """Say that a job that waits is started; return False where it does not wait any more."""
        with self._store.transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, started = COALESCE(started, ?), attempts = attempts + 1 "
                "WHERE id = ? AND state = ?", (State.RUNNING, now(), job, State.QUEUED),
            )  # fmt: skip
            return changed.rowcount == 1

    def put_back(self, job: str, *, died: bool = False, afresh: bool = False) -> None:
        """Put a job that ran into the queue again; ``afresh``: its time begins anew."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, deaths = deaths + ?, started = CASE WHEN ? THEN NULL ELSE started END "
                "WHERE id = ?", (State.QUEUED, died, afresh, job),
            )  # fmt: skip

    def ended(self, job: Job, seen: Job) -> None:
        """Write down how a job has ended, and that this was told; one that is not as it was ``seen`` stays as it is.

        That one was cancelled or begun again meanwhile, which the next look sees.
        """
        with self._store.transaction() as db:
            db.execute(
                "UPDATE jobs SET state = ?, ended = ?, deaths = ?, exit_code = ?, problem = ?, told = 1 "
                "WHERE id = ? AND state = ? AND ended IS ? AND told = 0",
                (job.state, job.ended, job.deaths, job.exit_code, job.problem, job.id, seen.state, seen.ended),
            )


_AGAIN = (
    "UPDATE jobs SET state = ?, by = ?, started = NULL, ended = NULL, deaths = 0, ending = NULL, exit_code = NULL, "
    "problem = NULL, told = 0 WHERE id = ?"
)


def _state(row: sqlite3.Row | None, job: str) -> State:
    if row is None:
        raise Problem(404, f"there is no job {job}")
    return State(row["state"])


def _refuse_more(db: sqlite3.Connection, most: int) -> None:
    """Raise Problem where as many jobs wait as may."""
    (waiting,) = db.execute("SELECT COUNT(*) FROM jobs WHERE state = ?", (State.QUEUED,)).fetchone()
    if waiting >= most:
        limit = "--max-jobs-waiting (ECGADVISE_MAX_JOBS_WAITING)"
        raise Problem(429, f"{waiting:,} jobs are waiting, as many as {limit} allows: ask again later")
