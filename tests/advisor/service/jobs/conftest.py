"""A store, datasets whose folders say what a job on them does, and jobs that run that in place of a command."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import ClassVar

import pytest

from advisor.service.jobs.job import Job
from advisor.service.jobs.jobs import Jobs
from advisor.service.jobs.kinds import CheckJob
from advisor.service.jobs.launching import Launcher
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore, new_id

# In place of ``ecgadvise data check FOLDER``: what FOLDER/job.py says, in the same process and with the same end.
STAND_IN = """
import sys
from pathlib import Path
from advisor.service.jobs.process import main
main(lambda: exec((Path(sys.argv[3]) / "job.py").read_text(), {"__name__": "job"}))
"""


WAITS = """
import time
while True:
    time.sleep(0.05)
"""
DEAF = """
import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path("child").write_text(str(child.pid))
time.sleep(600)
"""


@dataclass(frozen=True)
class StandInDataset:
    id: str
    state: str
    folder: Path


@dataclass
class StandInDatasets:
    """Datasets that are folders below one; what a job on one of them does stands in its job.py."""

    root: Path
    states: dict[str, str] = field(default_factory=dict)

    def add(self, does: str, state: str = "ready") -> str:
        dataset = new_id("d")
        (self.root / dataset).mkdir(parents=True)
        (self.root / dataset / "job.py").write_text(dedent(does))
        self.states[dataset] = state
        return dataset

    def get(self, dataset: str) -> StandInDataset:
        if not (self.root / dataset).is_dir():
            raise Problem(404, f"there is no dataset {dataset}")
        return StandInDataset(dataset, self.states.get(dataset, "ready"), self.root / dataset)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ServiceStore]:
    opened = ServiceStore(tmp_path / "store").open()
    yield opened
    opened.close()


@pytest.fixture
def datasets(tmp_path: Path) -> StandInDatasets:
    return StandInDatasets(tmp_path / "sets")


@dataclass
class Place:
    """Jobs that are looked after by hand: ``look`` is what the supervisor's thread does now and then."""

    WAITS: ClassVar[str] = WAITS
    DEAF: ClassVar[str] = DEAF
    store: ServiceStore
    datasets: StandInDatasets
    now: float = 0.0
    told: list[tuple[str, str]] = field(default_factory=list)
    made: list[Jobs] = field(default_factory=list)

    def jobs(self, **settings: object) -> Jobs:
        wanted = Settings(self.store.root, min_free_mb=0.0)
        wanted = Settings(**{**vars(wanted), **settings})
        jobs = Jobs(
            self.store, wanted, self.datasets, {"check": self.tell}, Launcher(self.store.corpora, STAND_IN)
        )  # fmt: skip
        jobs._supervisor._clock = lambda: self.now
        self.made.append(jobs)
        return jobs

    def look(self, jobs: Jobs) -> None:
        jobs._supervisor.look()

    def tell(self, job: Job) -> None:
        self.told.append((job.id, job.state.value))

    def submit(self, jobs: Jobs, does: str) -> Job:
        return jobs.submit(CheckJob(dataset=self.datasets.add(does)), "tester")[0]


@pytest.fixture
def place(store: ServiceStore, datasets: StandInDatasets) -> Iterator[Place]:
    made = Place(store, datasets)
    yield made
    for jobs in made.made:
        launcher = jobs._supervisor._launcher
        for folder in list(launcher._children):
            launcher.reap(folder)
