"""The service's jobs: asked for, found, watched, cancelled and begun again."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from advisor.service.jobs.commands import Commands, check_design
from advisor.service.jobs.job import Job, State
from advisor.service.jobs.kinds import (
    MODEL_ID,
    CheckJob,
    ExportJob,
    JobRequest,
    PilotJob,
    StudyJob,
    TrainJob,
    datasets_of,
    key_of,
)
from advisor.service.jobs.launching import Launcher
from advisor.service.jobs.logs import LogPart, read_log
from advisor.service.jobs.supervisor import OnEnded, Supervisor
from advisor.service.jobs.table import JobTable
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore, new_id

_ID = re.compile("j[0-9a-f]{12}")
_REQUESTS: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)


class Dataset(Protocol):
    """What jobs want to know of a dataset."""

    @property
    def state(self) -> str:
        """``ready`` where its records were checked and can be used."""
        ...

    @property
    def folder(self) -> Path:
        """Where its records lie."""
        ...


class Datasets(Protocol):
    """What jobs want of the datasets."""

    def get(self, dataset: str, /) -> Dataset:
        """Return a dataset. Raises Problem where there is none."""
        ...

    def checked(self, dataset: str, printed: str | None, problem: str | None, /) -> None:
        """Take what the check of a dataset printed, or the problem that it ended in."""
        ...


class Jobs:
    """The jobs of a store.

    ``on_ended`` is told by kind how jobs end, before their state says so (``Supervisor``); where it is not given,
    ``datasets`` are told how their checks end.
    """

    def __init__(
        self, store: ServiceStore, settings: Settings, datasets: Datasets, on_ended: OnEnded | None = None,
        launcher: Launcher | None = None,
    ) -> None:  # fmt: skip
        self._store, self._settings, self._datasets = store, settings, datasets
        self._table = JobTable(store)
        self._commands = Commands(store, settings, lambda dataset: datasets.get(dataset).folder)
        told = {"check": self._tell_checked} if on_ended is None else on_ended
        self._supervisor = Supervisor(store, settings, self._words, told, launcher or Launcher(store.corpora))

    def start(self) -> None:
        """Begin to run what waits, and watch what a server before this one has left running."""
        self._supervisor.start()

    def close(self) -> int:
        """Stop watching and end the jobs that run, and return how many; the next server goes on with them."""
        return self._supervisor.close()

    @property
    def is_watching(self) -> bool:
        """Whether jobs are being looked after."""
        return self._supervisor.is_watching

    def submit(self, request: JobRequest, by: str) -> tuple[Job, bool]:
        """Return the job of a request, and whether it is new: the same work is one job, which is begun again where it
        failed or was cancelled. It is on the disk when this returns.

        One on a dataset that is being checked waits for that. Raises Problem for a dataset that was refused, a model
        that is not trained, a design that cannot be run, too many jobs that wait, and a disk that is full.
        """
        self._check(request)
        datasets = datasets_of(request)
        model = new_id("m") if isinstance(request, TrainJob) else None
        model = request.model if isinstance(request, ExportJob) else model
        known = self._table.select(1, key=key_of(request))
        if not (known and known[0].state in (State.QUEUED, State.RUNNING, State.DONE)):
            self._refuse_full()
        most, dataset = self._settings.max_jobs_waiting, datasets[0] if len(datasets) == 1 else None
        job, is_new = self._table.add(request, key_of(request), dataset, model, by, most)
        self._supervisor.wake()
        return self.get(job), is_new

    def get(self, job: str) -> Job:
        """Return a job. Raises Problem."""
        found = self._table.find(job) if _ID.fullmatch(job) else None
        if found is None:
            raise Problem(404, "there is no job of that ID")
        return found

    def list(
        self, *, state: str | None = None, kind: str | None = None, dataset: str | None = None,
        model: str | None = None, limit: int = 50, before: str | None = None,
    ) -> Sequence[Job]:  # fmt: skip
        """Return jobs, newest first: those older than the job ``before``, at most ``limit``."""
        return self._table.select(limit, before, state=state, kind=kind, dataset=dataset, model=model)

    def cancel(self, job: str) -> Job:
        """Cancel a job: at once where it waits, within two seconds where it runs. Raises Problem."""
        self._table.cancel(self.get(job).id)
        self._supervisor.wake()
        return self.get(job)

    def resubmit(self, job: str, by: str) -> Job:
        """Begin a job again that failed or was cancelled; it goes on from what it kept. Raises Problem."""
        found = self.get(job)
        if found.state in (State.FAILED, State.CANCELLED):
            self._check(_request_of(found))
            self._refuse_full()
        self._table.again(found.id, by, self._settings.max_jobs_waiting)
        self._supervisor.wake()
        return self.get(job)

    def has_model(self, job: Job) -> bool:
        """Whether the network that a job trained or exported is still there: a model may be deleted, its jobs stay."""
        return job.model is not None and (self._store.models / job.model).is_dir()

    def log(self, job: str, offset: int | None = None) -> LogPart:
        """Return what a job has said (``read_log``). Raises Problem."""
        return read_log(self.get(job).folder, offset)

    def _words(self, job: Job) -> Sequence[str] | None:
        """Return the job's command, None while a dataset of it is being checked. Raises Problem."""
        request = _request_of(job)
        states = {self._datasets.get(dataset).state for dataset in datasets_of(request)}
        if "checking" in states and not isinstance(request, CheckJob):
            return None
        self._check(request)
        return self._commands.words(job, request)

    def _tell_checked(self, job: Job) -> None:
        self._datasets.checked(str(job.dataset), job.printed(), job.problem)

    def _refuse_full(self) -> None:
        if (free := self._store.free_mb()) < self._settings.min_free_mb:
            raise Problem(
                507, f"{free:,.0f} MB are free on the store's disk and --min-free-mb (ECGADVISE_MIN_FREE_MB) is "
                f"{self._settings.min_free_mb:g}: no new job is taken until there is room",
            )  # fmt: skip

    def _check(self, request: JobRequest) -> None:
        for dataset in datasets_of(request):
            state = self._datasets.get(dataset).state
            if state not in ("ready", "checking") and not isinstance(request, CheckJob):
                raise Problem(409, f"dataset {dataset} is {state}: only one whose check passed can be used")
        if isinstance(request, ExportJob):
            self._check_model(request.model)
        if isinstance(request, PilotJob | TrainJob) and re.fullmatch(MODEL_ID, request.from_network or ""):
            self._check_model(str(request.from_network))
        if isinstance(request, StudyJob):
            check_design(request.design, self._store.incoming)

    def _check_model(self, model: str) -> None:
        made_by = self._table.select(1, kind="train", model=model)
        if not made_by:
            raise Problem(404, f"no job made a model {model}")
        if made_by[0].state is not State.DONE:
            raise Problem(
                409, f"the training of model {model} is {made_by[0].state}: only one that is done can be used"
            )
        if not self.has_model(made_by[0]):
            raise Problem(404, f"the model {model} was deleted: ask for its training again")


def _request_of(job: Job) -> JobRequest:
    try:
        return _REQUESTS.validate_python(job.request)
    except ValidationError:
        raise Problem(422, "it was asked for in the words of another version: ask for it again") from None
