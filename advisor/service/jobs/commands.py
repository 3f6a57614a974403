"""The command that a job is: every value as ``--option=value``, so that none is taken for an option."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from advisor.service.jobs.job import Job
from advisor.service.jobs.kinds import CheckJob, ExportJob, JobRequest, PilotJob, StudyJob, TrainJob
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore

_ANY_NUMBER_BAD = 1_000_000_000  # a check names bad records; whether the others suffice is not for it to say
_RESUME = "resume.json"  # what a training that may go on has in its checkpoint's folder


class Commands:
    """Makes the commands; ``folder_of`` returns where a dataset's records lie. Raises Problem."""

    def __init__(self, store: ServiceStore, settings: Settings, folder_of: Callable[[str], Path]) -> None:
        self._store, self._settings, self._folder_of = store, settings, folder_of

    def words(self, job: Job, request: JobRequest) -> list[str]:
        """Return the arguments, as things are now: a training goes on where something of it is there."""
        if isinstance(request, CheckJob):
            folder = self._folder_of(request.dataset)
            return ["data", "check", str(folder), "--json", f"--max-bad={_ANY_NUMBER_BAD}"]
        if isinstance(request, PilotJob):
            return self._pilot(request)
        if isinstance(request, TrainJob):
            return self._train(request, self._store.models / str(job.model) / "checkpoint")
        if isinstance(request, ExportJob):
            model = self._store.models / request.model
            words = ["export", str(model / "checkpoint"), f"--out={model / 'model.onnx'}", f"--opset={request.opset}"]
            return [*words, "--force", *(["--fp16"] if request.fp16 else [])]
        return self._study(job.folder, request)

    def _pilot(self, request: PilotJob) -> list[str]:
        given = _options(request, "minutes", "arch", "upstream", "labels", "margin", "target", "seed", "n_records",
                         "label_cost", "gpu_cost", "test_fraction", "test_seed")  # fmt: skip
        scheduler = [] if self._settings.scheduler is None else [f"--scheduler={self._settings.scheduler}"]
        curves = [] if self._settings.curves is None else [f"--curves={self._settings.curves.absolute()}"]
        data = f"--data={self._folder_of(request.dataset)}"
        return ["recommend", data, "--pilot", "--json", *given, *self._from(request), *scheduler, *curves]

    def _train(self, request: TrainJob, out: Path) -> list[str]:
        given = _options(request, "strategy", "arch", "labels", "n_records", "seed", "recipe", "test_fraction",
                         "test_seed", "at_specificity", "prevalence")  # fmt: skip
        # A process that was killed while it wrote has moved the folder away; --resume puts it back.
        is_begun = (out / _RESUME).is_file() or any(out.parent.glob(f".{out.name}.*.old/{_RESUME}"))
        begun = ["--resume"] if is_begun else ["--force"] if out.exists() else []
        data = f"--data={self._folder_of(request.dataset)}"
        return ["train", data, f"--out={out}", "--json", *given, *self._from(request), *begun]

    def _study(self, folder: Path, request: StudyJob) -> list[str]:
        design = folder / "design.toml"
        design.write_text(request.design, encoding="utf-8")
        data = [f"--data={name}={self._folder_of(one)}" for name, one in sorted(request.datasets.items())]
        scheduler = self._settings.scheduler
        cluster = [] if scheduler is None else ["--executor=dask", f"--scheduler={scheduler}"]
        return ["study", "run", str(design), f"--store={folder / 'study.db'}", *data, *cluster]

    def _from(self, request: PilotJob | TrainJob) -> list[str]:
        name = request.from_network
        own = self._store.models / str(name) / "checkpoint"
        return [] if name is None else [f"--from={own if own.is_dir() else name}"]


def _options(request: JobRequest, *names: str) -> list[str]:
    given: dict[str, Any] = request.model_dump()
    return [f"--{name.replace('_', '-')}={given[name]}" for name in names if given[name] is not None]


def check_design(text: str, incoming: Path) -> None:
    """Refuse a design that cannot be run, whatever the data. Raises Problem."""
    from studies.running.design import DesignError, read_design
    from studies.runs.task_names import parse_task

    with TemporaryDirectory(dir=incoming) as folder:
        path = Path(folder) / "design.toml"
        path.write_text(text, encoding="utf-8")
        try:
            design = read_design(path)
        except DesignError as error:
            raise Problem(422, str(error).replace(str(path), "the design")) from None
    if design.data:
        raise Problem(422, "a design names no directories here: leave out [data] and give datasets")
    for corpus in sorted({parse_task(task).source for task in design.tasks}):
        if not corpus or not corpus.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise Problem(422, "the design has a task whose corpus is not named by letters, digits, dots and hyphens")
