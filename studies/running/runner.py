"""Running a design: in which order its runs are given to workers, what is written down, and what a failure does."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.errors import ExitCode, UserError
from studies.running.one_run import Job, NetworkWanted, Outcome, execute, now
from studies.running.study_networks import digest_of, folder_of, read_files, write_files
from studies.running.workplaces import Workplace
from studies.runs.claim_owners import HEARTBEAT_SECONDS, this_process
from studies.runs.run import Run
from studies.runs.run_spec import RunSpec, find_keys
from studies.runs.store import Claim, Store, StoreError

ATTEMPTS = 2
_POLL_SECONDS = 1.0  # how often a runner that waits for another one's runs looks again
_KILLED = "its worker process was ended from outside, for want of memory perhaps"


class WorkersGoneError(UserError, RuntimeError):
    """The place where runs run is gone, as a whole."""

    exit_code = ExitCode.FAILURE


class FailedFastError(UserError, RuntimeError):
    """A run failed, and the study was to stop at the first failure."""

    exit_code = ExitCode.FAILURE


@dataclass
class Progress:
    """How far a study is, in runs and in ``work`` (GFLOP); ``report`` is called after every change.

    ``work_before`` had been done when the study was started.
    """

    total: int
    done: int = 0
    running: int = 0
    failed: int = 0
    elsewhere: int = 0  # in the hands of another runner of the same store
    cells: int = 0
    cells_done: int = 0
    work_total: float = 0.0
    work_before: float = 0.0
    work_done: float = 0.0
    last: str = ""
    report: Callable[["Progress"], None] = field(default=lambda _progress: None, repr=False)
    started: float = field(default_factory=time.monotonic, repr=False)

    def seconds_left(self) -> float | None:
        """Return how long the rest takes at the pace so far, None before a run is finished."""
        if self.work_done <= self.work_before:
            return None
        pace = (time.monotonic() - self.started) / (self.work_done - self.work_before)
        return pace * (self.work_total - self.work_done)


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
    device: str = "auto",
) -> Progress:
    """Run every spec that the store does not hold, a pre-training before what starts from it.

    ``work`` weighs a run, for the time that is left. A run that fails, or whose worker is killed, is tried once more;
    then it is written down as failed, together with what had to start from it, and never stops the others. A run that
    another runner of this store has in work is left to it, and waited for. On KeyboardInterrupt what has come back is
    still written. Raises StoreError when a result cannot be written, MissingCheckpointError when a pre-trained network
    is gone, FailedFastError with ``fail_fast``, WorkersGoneError when the workplace is lost.
    """
    jobs = _make_jobs(specs, corpora, data_hashes, folder_of(store.path), device)
    study = _Study(jobs, store, workplace, log_dir, fail_fast, work or (lambda _spec: 1.0))
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


def describe(spec: RunSpec) -> str:
    """Return a run in a few words."""
    rate = "" if spec.learning_rate is None else f" learning rate {spec.learning_rate:g}"
    upstream = "" if spec.upstream is None else f" from {spec.upstream}"
    return f"{spec.task} {spec.arch} {spec.strategy}{upstream} n={spec.n_records} replicate {spec.replicate}{rate}"


def cell_of(spec: RunSpec) -> tuple[str, str, str, str | None, int, str]:
    """Return the cell of a run: all of it but replicate, learning rate and folds."""
    return spec.task, spec.arch, spec.strategy, spec.upstream, spec.n_records, spec.recipe


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
    ) -> None:
        self.store, self.workplace, self.log_dir, self.fail_fast = store, workplace, log_dir, fail_fast
        self.owner, self.work = this_process(), work
        self.checkpoints = folder_of(store.path)
        stored = store.keys()
        self.waiting = {job.key: job for job in jobs if job.key not in stored}
        self.running: dict[Future[Outcome | NetworkWanted], Job] = {}
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
        """Give out runs and take their results until none is left. Raises KeyboardInterrupt when ``interrupted``."""
        self.progress.report(self.progress)
        while self.waiting or self.running:
            if interrupted():
                raise KeyboardInterrupt
            self._look_around()
            self._start_ready()
            if self.running:
                for future in wait(self.running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    self._take(future)
            elif self.waiting:
                time.sleep(_POLL_SECONDS if self.elsewhere else 0.05)

    def write_what_came_back(self) -> None:
        """Store the results that are there, and nothing else."""
        for future, job in list(self.running.items()):
            if future.done() and not future.cancelled() and future.exception() is None:
                del self.running[future]
                if isinstance(result := future.result(), Outcome):
                    self._keep(job, result)

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
        ours = {job.key for job in self.running.values()}
        self.elsewhere = frozenset(key for key in self.store.claimed() - ours if key in self.waiting)
        self.progress.elsewhere = len(self.elsewhere)

    def _start_ready(self) -> None:
        """Start what waits for nothing, as far as there is room."""
        room = max(1, self.workplace.capacity()) - sum(self.workplace.share(job.spec) for job in self.running.values())
        for job in list(self.waiting.values()):
            if room <= 1e-9:
                return
            if job.start_from in self.unfinished or job.key in self.elsewhere:
                continue
            if job.start_from in self.broken:
                self._fail(job, f"its pre-training {job.start_from} failed")
                continue
            if self.running and self.workplace.share(job.spec) > room + 1e-9:
                continue
            claim = self.store.claim(job.key, job.spec.canonical(), self.owner)
            if claim is Claim.DONE:
                self._count(job, f"{describe(job.spec)} (another runner)")
            elif claim is Claim.OURS:
                del self.waiting[job.key]
                self._submit(job)
                room -= self.workplace.share(job.spec)

    def _submit(self, job: Job) -> None:
        if job.start_from is not None and not job.start_digest:
            job = replace(job, start_digest=digest_of(self.checkpoints / job.start_from))
        try:
            self.running[self.workplace.executor.submit(execute, job)] = job
        except (RuntimeError, OSError) as error:
            raise WorkersGoneError(self.workplace.lost() or f"no run can be started: {error}") from error
        self.progress.running = len(self.running)

    def _take(self, future: "Future[Outcome | NetworkWanted]") -> None:
        """Write down what came of one run."""
        job = self.running.pop(future)
        self.progress.running = len(self.running)
        try:
            result = future.result()
        except Exception as error:  # whatever a run raises is written down and does not stop the others
            if reason := self.workplace.lost():  # it is not the run's fault
                raise WorkersGoneError(reason) from error
            self._failed_once(job, _KILLED if isinstance(error, BrokenExecutor) else f"{type(error).__name__}: {error}")
        else:
            if isinstance(result, NetworkWanted):
                self._submit(replace(job, sent=read_files(self.checkpoints / result.key)))
            else:
                self._keep(job, result)

    def _keep(self, job: Job, outcome: Outcome) -> None:
        if outcome.network is not None:  # first: a run that is in the store has its network
            try:
                write_files(outcome.network, self.checkpoints / job.key)
            except OSError as error:
                where = self.checkpoints / job.key
                raise StoreError(f"cannot write the pre-trained network {where}: {error.strerror}") from error
        run = replace(outcome.run, attempts=1 + self.failures[job.key])
        self.store.add(run, outcome.probabilities)
        if self.log_dir is not None:
            write_log(self.log_dir, run)
        self._count(job, describe(job.spec))

    def _failed_once(self, job: Job, error: str) -> None:
        self.failures[job.key] += 1
        if self.failures[job.key] >= ATTEMPTS or self.fail_fast:
            self._fail(job, error)
            return
        self.store.add_failure(job.key, job.spec.canonical(), error, now())
        self.waiting = {job.key: replace(job, sent=None), **self.waiting}  # what starts from it waits for it
        self.progress.last = f"trying again: {describe(job.spec)}: {error}"
        self.progress.report(self.progress)

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


def write_log(folder: Path, run: Run) -> None:
    """Write a run's trajectory on its validation records as JSON lines, a file a run, for any tool that plots them."""
    facts = {
        "task": run.task, "arch": run.arch, "strategy": run.strategy, "upstream": run.upstream,
        "n_records": run.n_records, "replicate": run.replicate,
    }  # fmt: skip
    lines = [json.dumps({"run": run.key, **facts})]
    lines += [json.dumps({"run": run.key, **validation}) for validation in run.validations]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{run.key}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the log {folder}/{run.key}.jsonl: {error.strerror}") from error


def _make_jobs(
    specs: Sequence[RunSpec], corpora: Path, data_hashes: Mapping[str, str], checkpoints: Path, device: str
) -> list[Job]:
    keys = find_keys(specs, data_hashes)
    starts = {spec: spec.pretraining() for spec in specs}
    pretrainings = set(starts.values())
    # A run that others start from may also be one of the scratch arm's own: then its task is studied with its folds.
    studied = {(spec.task, spec.pool_folds, spec.test_folds) for spec in starts if spec not in pretrainings}
    return [
        Job(
            spec,
            keys[spec],
            "downstream" if (spec.task, spec.pool_folds, spec.test_folds) in studied else "pretraining",
            data_hashes[spec.task],
            corpora.absolute(),  # a worker elsewhere has another folder to start from
            checkpoints.absolute(),
            keeps_network=spec in pretrainings,
            start_from=keys[start] if start else None,
            device=device,
        )
        for spec, start in starts.items()
    ]
