"""The thread that starts jobs, oldest first, watches them and takes what came of them.

All it knows is in the database and in the jobs' folders, so that a server that starts goes on where one was killed:

    the lock is held        the job runs on: watch it
    free, and an outcome    it has ended: take that
    free, and no outcome    its process is gone: start the job again, its command goes on from what it kept
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from advisor.service.jobs.job import Ending, Job, State
from advisor.service.jobs.launching import Launcher, is_alive, make_ready
from advisor.service.jobs.logs import find_problem, ran_out_of_space
from advisor.service.jobs.process import read_outcome
from advisor.service.jobs.table import JobTable
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore, ServiceStoreError, now
from models.errors import UserError

log = logging.getLogger(__name__)
OnEnded = Mapping[str, Callable[[Job], None]]

MOST_DEATHS = 3
_POLL_SECONDS = 0.2
# How long a command has to end by itself after a SIGINT: a cancelled job is gone within two seconds.
_GRACE = {Ending.CANCELLED: 1.0, Ending.TOO_LONG: 10.0}


class Supervisor:
    """``words`` makes the command of a job, None where it has to wait for another one.

    ``on_ended`` is told by kind how jobs end, before their state says so.
    It may be told twice of one end, where a server is killed in between.
    """

    def __init__(
        self, store: ServiceStore, settings: Settings, words: Callable[[Job], Sequence[str] | None], on_ended: OnEnded,
        launcher: Launcher, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store, self._settings, self._table = store, settings, JobTable(store)
        self._words, self._on_ended, self._launcher, self._clock = words, on_ended, launcher, clock
        self._signalled: dict[str, float] = {}  # when a job was asked to end
        self._is_first = True  # look, after the server was started
        self._awake, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> int:
        """End the thread and what runs, and return how many jobs that were; they go on when a server starts.

        They are killed rather than asked: all they do is kept as for a server that is killed, and an operator who ends
        the service gets the machine back at once.
        """
        self._closing.set()
        self.wake()
        if self._thread is not None:
            self._thread.join()
        running = [job for job in self._table.alive() if job.state is State.RUNNING and is_alive(job.folder)]
        for job in running:
            self._launcher.send(job.folder, signal.SIGKILL)
            self._launcher.reap(job.folder)
        self._launcher.leave()
        return len(running)

    def wake(self) -> None:
        """Look at once."""
        self._awake.set()

    @property
    def is_watching(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    def look(self) -> None:
        """Take what has ended, end what is to end, and start what waits."""
        for job in self._table.untold():
            self._table.ended(self._told(job), seen=job)
        for job in self._table.alive():
            if job.state is State.RUNNING:
                self._look_after(job)
        self._is_first = False
        self._start_waiting()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._awake.clear()
            try:
                self.look()
            except (OSError, ServiceStoreError) as error:  # a full disk, as a rule: done when there is room again
                log.warning("jobs are not looked after just now: %s", error)
            self._awake.wait(_POLL_SECONDS)

    def _look_after(self, job: Job) -> None:
        if is_alive(job.folder):
            self._watch(job)
            return
        self._launcher.reap(job.folder)
        asked = self._signalled.pop(job.id, None) is not None or self._is_first
        outcome = read_outcome(job.folder)
        if job.ending is not None and (asked or outcome is None):
            self._end_as_asked(job, outcome)
        elif outcome is not None:
            self._take(job, outcome)
        else:
            self._mourn(job)

    def _watch(self, job: Job) -> None:
        if job.ending is None:
            if _age(job) > 60 * self._settings.max_job_minutes:
                self._table.end_late(job.id)
            return
        began = self._signalled.get(job.id)
        if began is None:
            self._signalled[job.id] = self._clock()
            self._launcher.send(job.folder, signal.SIGINT)
        elif self._clock() - began >= _GRACE[job.ending]:
            self._launcher.send(job.folder, signal.SIGKILL)

    def _end_as_asked(self, job: Job, outcome: int | None) -> None:
        if job.ending is Ending.CANCELLED:
            self._end(job, State.CANCELLED, outcome, None)
            return
        limit = f"--max-job-minutes (ECGADVISE_MAX_JOB_MINUTES), {self._settings.max_job_minutes:g}"
        said = f"it took longer than {limit}; what it completed stays, and it goes on when it is begun again"
        self._end(job, State.FAILED, outcome, said)

    def _take(self, job: Job, outcome: int) -> None:
        if outcome == 0:
            self._end(job, State.DONE, outcome, None)
        elif ran_out_of_space(job.folder) and self._is_full():
            self._table.put_back(job.id, afresh=True)
        else:
            said = find_problem(job.folder) or f"its command ended with exit code {outcome}: its log says more"
            self._end(job, State.FAILED, outcome, said.replace(f"{self._store.root}/", ""))

    def _mourn(self, job: Job) -> None:
        """Start again a job whose process is gone without a word, unless that has happened too often."""
        if self._is_first or self._is_full():  # not seen to die, perhaps days ago; or it died for want of room
            self._table.put_back(job.id, afresh=True)
        elif job.deaths + 1 < MOST_DEATHS:
            self._table.put_back(job.id, died=True)
        else:
            said = f"its process was ended from outside {MOST_DEATHS} times, for want of memory perhaps"
            self._end(replace(job, deaths=MOST_DEATHS), State.FAILED, None, said)

    def _end(self, job: Job, state: State, exit_code: int | None, problem: str | None) -> None:
        ended = replace(job, state=state, ended=now(), exit_code=exit_code, problem=problem)
        self._table.ended(self._told(ended), seen=job)

    def _told(self, job: Job) -> Job:
        """Tell of an end; a job that ended well has failed where nothing can be made of what it left."""
        try:
            if (tell := self._on_ended.get(job.kind)) is not None:
                tell(job)
        except (Problem, UserError) as error:
            return replace(job, state=State.FAILED, problem=str(error)) if job.state is State.DONE else job
        return job

    def _start_waiting(self) -> None:
        if self._is_full() or self._closing.is_set():
            return
        alive = self._table.alive()
        # Checks have places of their own: whoever has uploaded records does not wait for another's pilot.
        for jobs in ([job for job in alive if (job.kind == "check") is is_check] for is_check in (True, False)):
            free = self._settings.jobs_at_once - sum(job.state is State.RUNNING for job in jobs)
            for job in jobs:
                if free > 0 and job.state is State.QUEUED:
                    free -= self._has_started(job)

    def _has_started(self, job: Job) -> bool:
        make_ready(job.folder)
        try:
            words = self._words(job)
        except (Problem, UserError) as error:  # the dataset went away, or was refused, while it waited
            self._end(job, State.FAILED, None, str(error))
            return False
        if words is None or not self._table.running(job.id):
            return False
        self._launcher.start(job.folder, words, job.attempts + 1)
        return True

    def _is_full(self) -> bool:
        return self._store.free_mb() < self._settings.min_free_mb


def _age(job: Job) -> float:
    """Return for how many seconds a job has been running, with the times that it was started again."""
    since = datetime.fromisoformat(job.started) if job.started else datetime.now(UTC)
    return (datetime.now(UTC) - since).total_seconds()
