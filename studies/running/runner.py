"""Running a design: in which order its runs are given to workers, what is written down, and what a failure does."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

from models.errors import ExitCode, UserError
from studies.running.jobs import Job, NetworkWanted, Outcome, Result, make_jobs
from studies.running.lockstep_groups import Groups
from studies.running.one_run import execute_together, is_out_of_memory, now
from studies.running.progress import Pace, Progress, cell_of, describe, write_log
from studies.running.study_networks import digest_of, folder_of, read_files, write_files
from studies.running.workplaces import Workplace
from studies.runs.claim_owners import HEARTBEAT_SECONDS, this_process
from studies.runs.run_spec import RunSpec
from studies.runs.store import Claim, Store, StoreError

ATTEMPTS = 2
_POLL_SECONDS = 1.0  # how often a runner that waits for another one's runs looks again
_STOP_SECONDS = 10.0  # for worker processes that are ended to be gone
_KILLED = "its worker process was ended from outside, for want of memory perhaps"


class WorkersGoneError(UserError, RuntimeError):
    """The place where runs run is gone, as a whole."""

    exit_code = ExitCode.FAILURE


class FailedFastError(UserError, RuntimeError):
    """A run failed, and the study was to stop at the first failure."""

    exit_code = ExitCode.FAILURE


def run_study(
    specs: Sequence[RunSpec],
    store: Store,
    corpora: Path,
    data_hashes: Mapping[str, str],
    workplace: Workplace,
    report: Callable[[Progress], None] = lambda _progress: None,
    *,
    fail_fast: bool = False,
    log_dir: Path | None = None,
    work: Callable[[RunSpec], float] | None = None,
    deadline: float | None = None,
) -> Progress:
    """Run every spec that the store does not hold, a pre-training before what starts from it.

    ``work`` weighs a run, for the time that is left. Runs of one kind train together (``Workplace.kind``). A run that
    fails, or whose worker is killed, is tried once more, alone; then it is written down as failed, together with what
    had to start from it, and never stops the others. A group that is lost as a whole is tried again in halves. A run
    that another runner of this store has in work is left to it, and waited for.

    At ``deadline``, a moment of ``time.monotonic()``, the runs in flight are ended and what has come back is written;
    what is not expected to end before it, by what like runs took, is not started. On KeyboardInterrupt, too, what has
    come back is written. Raises StoreError when a result cannot be written, MissingCheckpointError when a pre-trained
    network is gone, FailedFastError with ``fail_fast``, WorkersGoneError when the workplace is lost.
    """
    jobs = make_jobs(specs, corpora, data_hashes, folder_of(store.path), workplace.device)
    study = _Study(jobs, store, workplace, log_dir, fail_fast, work or (lambda _spec: 1.0), deadline)
    study.progress.report = report
    try:
        with _interrupts_deferred() as interrupted:
            study.run(interrupted)
    except (KeyboardInterrupt, FailedFastError, WorkersGoneError):
        study.write_what_came_back()
        raise
    finally:
        study.let_go()
    return study.progress


def _in_words(error: Exception) -> str:
    return _KILLED if isinstance(error, BrokenExecutor) else f"{type(error).__name__}: {error}"


class _Study:
    """A study that is being run: what waits, what is in work, what failed."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: Store,
        workplace: Workplace,
        log_dir: Path | None,
        fail_fast: bool,
        work: Callable[[RunSpec], float],
        deadline: float | None,
    ) -> None:
        self.store, self.workplace, self.log_dir, self.fail_fast = store, workplace, log_dir, fail_fast
        self.owner, self.work, self.deadline = this_process(), work, inf if deadline is None else deadline
        self.pace, self.is_late = Pace(work), False
        self.checkpoints = folder_of(store.path)
        stored = store.keys()
        self.waiting = {job.key: job for job in jobs if job.key not in stored}
        self.running: dict[Future[list[Result]], list[Job]] = {}
        self.began: dict[Future[list[Result]], float] = {}
        self.groups = Groups(workplace.kind)
        self.unfinished = set(self.waiting)
        self.broken: set[str] = set()
        self.failures: Counter[str] = Counter()
        self.elsewhere: frozenset[str] = frozenset()
        self.next_look = self.next_beat = 0.0
        self._check_networks(stored)
        self.left_in_cell = Counter(cell_of(job.spec) for job in self.waiting.values())
        self.progress = Progress(
            len(jobs),
            done=len(jobs) - len(self.waiting),
            cells=len({cell_of(job.spec) for job in jobs}),
            work_total=sum(work(job.spec) for job in jobs),
        )
        self.progress.cells_done = self.progress.cells - len(self.left_in_cell)
        left = sum(work(job.spec) for job in self.waiting.values())
        self.progress.work_done = self.progress.work_before = self.progress.work_total - left

    def run(self, interrupted: Callable[[], bool]) -> None:
        """Give out runs and take their results until none is left, or none that ends before the deadline.

        Raises KeyboardInterrupt when ``interrupted``.
        """
        self.progress.report(self.progress)
        while self.waiting or self.running:
            if interrupted():
                raise KeyboardInterrupt
            if (left := self.deadline - time.monotonic()) <= 0:
                return self._stop()
            self._look_around()
            self._start_ready()
            pause = min(_POLL_SECONDS, left)
            if self.running:
                for future in wait(self.running, timeout=pause, return_when=FIRST_COMPLETED).done:
                    self._take(future)
            elif self.is_late:
                return None
            elif self.waiting:
                time.sleep(pause if self.elsewhere else 0.05)
        return None

    def write_what_came_back(self) -> None:
        """Store the results that are there, and nothing else."""
        for future, group in list(self.running.items()):
            if future.done() and not future.cancelled() and future.exception() is None:
                del self.running[future]
                self._keep_outcomes(group, future.result())

    def let_go(self) -> None:
        """Give back what is still claimed; where the store cannot be written, it is taken over from a dead process."""
        try:
            self.store.release(self.owner)
        except StoreError:
            return

    def _check_networks(self, stored: set[str]) -> None:
        """Raise MissingCheckpointError when a stored pre-training whose network is needed has none any more."""
        for key in sorted({job.start_from for job in self.waiting.values() if job.start_from in stored} - {None}):
            digest_of(self.checkpoints / str(key))

    def _look_around(self) -> None:
        """Say that this runner lives, and see what others have done since, now and then."""
        clock = time.monotonic()
        if clock >= self.next_beat:
            self.store.heartbeat(self.owner)
            self.next_beat = clock + HEARTBEAT_SECONDS
        if clock < self.next_look:
            return
        self.next_look = clock + _POLL_SECONDS
        ours = {job.key for group in self.running.values() for job in group}
        self.elsewhere = frozenset(key for key in self.store.claimed() - ours if key in self.waiting)
        self.progress.elsewhere = len(self.elsewhere)

    def _stop(self) -> None:
        """End what is in flight; what has come back is stored, and the rest is not."""
        self.write_what_came_back()
        self.workplace.stop()
        wait(self.running, timeout=_STOP_SECONDS)
        self.write_what_came_back()  # what ended meanwhile
        self.running.clear()
        self._report_running()

    def _start_ready(self) -> None:
        """Start what waits for nothing, as far as there is room."""
        workers = max(1, self.workplace.capacity())
        room = workers - len(self.running)
        ready = self._find_ready() if room > 0 else []
        while ready and room > 0:
            group = self.groups.choose(ready, workers)
            chosen = {job.key for job in group}
            ready = [job for job in ready if job.key not in chosen]
            if time.monotonic() + self.pace.seconds([job.spec for job in group]) > self.deadline:
                self.is_late = True
                continue
            if ours := [job for job in group if self._claim(job)]:
                self._submit(ours)
                room -= 1

    def _find_ready(self) -> list[Job]:
        """Return what may be started now; what was to start from a network that failed fails."""
        ready = []
        for job in list(self.waiting.values()):
            if job.start_from in self.broken:
                self._fail(job, f"its pre-training {job.start_from} failed")
            elif job.start_from not in self.unfinished and job.key not in self.elsewhere:
                ready.append(job)
        return ready

    def _claim(self, job: Job) -> bool:
        """Return whether the run is this runner's to do."""
        claim = self.store.claim(job.key, job.spec.canonical(), self.owner)
        if claim is Claim.DONE:
            self._count(job, f"{describe(job.spec)} (another runner)")
        return claim is Claim.OURS

    def _submit(self, group: Sequence[Job]) -> None:
        jobs, began = [], time.monotonic()
        for job in group:
            self.waiting.pop(job.key, None)
            wants_digest = job.start_from is not None and not job.start_digest
            jobs.append(
                replace(job, start_digest=digest_of(self.checkpoints / str(job.start_from))) if wants_digest else job
            )
        try:
            future = self.workplace.executor.submit(execute_together, jobs)
        except (RuntimeError, OSError) as error:
            raise WorkersGoneError(self.workplace.lost() or f"no run can be started: {error}") from error
        self.running[future], self.began[future] = jobs, began
        self._report_running()

    def _take(self, future: "Future[list[Result]]") -> None:
        """Write down what came of a group of runs."""
        group, seconds = self.running.pop(future), time.monotonic() - self.began.pop(future)
        self._report_running()
        try:
            results = future.result()
        except Exception as error:  # whatever a run raises is written down and does not stop the others
            if reason := self.workplace.lost():  # it is not the runs' fault
                raise WorkersGoneError(reason) from error
            self._lost(group, error)
            return
        if all(isinstance(result, Outcome) for result in results):
            self.pace.note([job.spec for job in group], seconds)
        self._keep_outcomes(group, results)
        wanting = [
            (job, result.key) for job, result in zip(group, results, strict=True) if isinstance(result, NetworkWanted)
        ]
        if wanting:
            files = {key: read_files(self.checkpoints / key) for _, key in wanting}
            self._submit([replace(job, sent=files[key]) for job, key in wanting])
        for job, result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                self._failed_once(job, _in_words(result))

    def _lost(self, group: Sequence[Job], error: Exception) -> None:
        """Try again what failed as a whole: in halves, for one of the runs may be at fault, or there were too many."""
        if len(group) == 1:
            self._failed_once(group[0], _in_words(error))
            return
        self.groups.halve(group, too_large=is_out_of_memory(error))
        for job in group:
            self.store.release(self.owner, job.key)
        self._wait_again(group, f"trying {len(group)} runs again, in halves: {_in_words(error)}")

    def _wait_again(self, group: Sequence[Job], why: str) -> None:
        """Put runs back, before all others; what starts from them waits for them."""
        self.waiting = {**{job.key: replace(job, sent=None) for job in group}, **self.waiting}
        self.progress.last = why
        self.progress.report(self.progress)

    def _report_running(self) -> None:
        self.progress.running = sum(map(len, self.running.values()))

    def _keep_outcomes(self, group: Sequence[Job], results: Sequence[Result]) -> None:
        for job, result in zip(group, results, strict=True):
            if isinstance(result, Outcome):
                self._keep(job, result)

    def _keep(self, job: Job, outcome: Outcome) -> None:
        if outcome.network is not None:  # first: a run that is in the store has its network
            try:
                write_files(outcome.network, self.checkpoints / job.key)
            except OSError as error:
                where = self.checkpoints / job.key
                raise StoreError(f"cannot write the pre-trained network {where}: {error.strerror}") from error
        run = replace(outcome.run, attempts=1 + self.failures[job.key])
        self.store.add(run, outcome.logits)
        if self.log_dir is not None:
            write_log(self.log_dir, run)
        self._count(job, describe(job.spec))

    def _failed_once(self, job: Job, error: str) -> None:
        self.failures[job.key] += 1
        if self.failures[job.key] >= ATTEMPTS or self.fail_fast:
            self._fail(job, error)
            return
        self.store.add_failure(job.key, job.spec.canonical(), error, now())
        self.groups.separate(job)
        self._wait_again([job], f"trying again: {describe(job.spec)}: {error}")

    def _fail(self, job: Job, error: str) -> None:
        self.broken.add(job.key)
        self.store.add_failure(job.key, job.spec.canonical(), error, now())
        self.progress.failed += 1
        self._count(job, f"failed: {describe(job.spec)}: {error}", done=False)
        if self.fail_fast:
            raise FailedFastError(f"{describe(job.spec)}: {error}")

    def _count(self, job: Job, last: str, *, done: bool = True) -> None:
        self.waiting.pop(job.key, None)
        self.unfinished.discard(job.key)
        self.progress.done += done
        self.progress.work_done += self.work(job.spec)
        self.progress.last = last
        self.left_in_cell[cell_of(job.spec)] -= 1
        self.progress.cells_done += not self.left_in_cell[cell_of(job.spec)]
        self.progress.report(self.progress)


@contextmanager
def _interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether Ctrl-C or SIGTERM came, which do nothing else the first time."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def take_note(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt  # the second time at once
        came.append(number)

    try:
        for number in before:
            signal.signal(number, take_note)
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
