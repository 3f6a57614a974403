"""A training that is killed and a pilot that is cancelled, as jobs of the real commands, go on from what they kept."""

import copy
import json
import os
import signal
from pathlib import Path

import pytest

from advisor.service.jobs.job import Job, State
from advisor.service.jobs.jobs import Jobs
from advisor.service.jobs.kinds import ExportJob, PilotJob, TrainJob
from advisor.service.jobs.launching import Launcher
from engine.checkpoints.checkpoint import load_checkpoint
from engine.corpora.synthetic import prepared_synthetic
from studies.runs.run import Run
from studies.runs.store import Store

ARCH = "resnet1d18-w2"
# The command, with a training that is kept after its first epoch, and a pilot of few pairs.
QUICK = """
import advisor.commands.train, advisor.own_records.pilots.study
advisor.commands.train._KEEP_EVERY = 0.0
advisor.own_records.pilots.study.MOST_REPLICATES, advisor.own_records.pilots.study._MOST_SIZES = 1, 2
from advisor.service.jobs.process import main
main()
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 80).root


@pytest.fixture
def dataset(place, records: Path) -> str:
    made = place.datasets.add("")
    (place.datasets.root / made / "job.py").unlink()
    (place.datasets.root / made).rmdir()
    (place.datasets.root / made).symlink_to(records)
    return made


def quick(place, **settings: object) -> Jobs:
    jobs = place.jobs(**settings)
    jobs._supervisor._launcher = Launcher(place.store.corpora, QUICK)
    return jobs


def ended(jobs: Jobs, job: Job, until) -> Job:
    until(lambda: jobs.get(job.id).state.is_final, lambda: jobs._supervisor.look(), 200.0)
    found = jobs.get(job.id)
    assert found.state is State.DONE, (found.problem, jobs.log(job.id).text)
    return found


def test_a_training_whose_process_is_killed_comes_to_the_network_that_it_would_have_come_to(
    place, dataset, until, command
):
    jobs = quick(place)
    asked = TrainJob(dataset=dataset, strategy="scratch", arch=ARCH, n_records=40)
    killed, _ = jobs.submit(asked, "tester")
    out = place.store.models / killed.model / "checkpoint"
    until((out / "resume.json").is_file, lambda: jobs._supervisor.look(), 100.0)
    os.killpg(jobs._supervisor._launcher._children[killed.folder].pid, signal.SIGKILL)
    done = ended(jobs, killed, until)
    assert (done.attempts, done.deaths) == (2, 1)
    assert "--resume" in jobs.log(killed.id).text
    assert done.answer()["checkpoint"] == str(out)
    assert (done.progress().what, done.progress().percent) == ("epochs", 100.0)

    whole = place.store.root / "whole"
    words = jobs._words(jobs.get(killed.id))
    words = [f"--out={whole}" if word.startswith("--out=") else word for word in words if word != "--force"]
    assert command(*words)[0] == 0
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()

    export, _ = jobs.submit(ExportJob(model=killed.model), "tester")
    assert "compared with torch" in ended(jobs, export, until).answer()["lines"][-1]
    assert (place.store.models / killed.model / "model.onnx").is_file()


@pytest.fixture
def curves(tmp_path: Path, curves_path: Path) -> Path:
    """Evidence with a pool, of a network that is small enough to be piloted here."""
    document = json.loads(curves_path.read_text().replace("resnet1d18-w16", ARCH))
    pool = copy.deepcopy(next(curve for curve in document["curves"] if curve["arch"] == ARCH))
    tasks = ["ptb-xl/superclass", "ptb-xl/form", "ludb"]
    document["curves"].append(pool | {"pooled": True, "tasks": tasks, "task": "pooled", "points": {}})
    path = tmp_path / "curves.json"
    path.write_text(json.dumps(document))
    return path


def runs_of(place) -> dict[str, Run]:
    (path,) = (place.store.corpora / "pilots").glob("*/pilot.db")
    store = Store(path, create=False)
    found = {run.key: run for run in store.runs()}
    store.close()
    return found


def test_a_pilot_that_is_cancelled_keeps_its_runs_and_says_its_verdict_so_far(
    place, dataset, curves: Path, checkpoint_writer, until
):
    jobs = quick(place, curves=curves)
    network, _ = jobs.submit(TrainJob(dataset=dataset), "tester")  # in its place, a network that is there
    checkpoint_writer(place.store.models / network.model / "checkpoint", ARCH)
    with place.store.transaction() as db:
        db.execute("UPDATE jobs SET state = 'done'")
    job, _ = jobs.submit(PilotJob(dataset=dataset, minutes=60, from_network=network.model), "tester")
    until(lambda: runs_done(jobs, job) >= 5, jobs._supervisor.look, 200.0)
    jobs.cancel(job.id)
    until(lambda: jobs.get(job.id).state.is_final, lambda: go_on(place, jobs), 100.0)
    assert jobs.get(job.id).state is State.CANCELLED
    before = runs_of(place)
    jobs.resubmit(job.id, "tester")
    done = ended(jobs, job, until)
    after = runs_of(place)
    assert len(before) < len(after)
    assert {key: after[key].created for key in before} == {key: run.created for key, run in before.items()}
    answer, verdict = done.answer(), done.progress().verdict
    assert set(verdict) == {"best", "headline", "verdict", "why", "pairs"}
    assert 1 <= verdict["pairs"] <= sum(one["pairs"] for one in answer["data"]["pilot"]["pairs"])
    assert load_checkpoint(place.store.models / network.model / "checkpoint").facts.arch == ARCH


def runs_done(jobs: Jobs, job: Job) -> int:
    progress = jobs.get(job.id).progress()
    return progress.done if progress is not None and progress.what == "runs" else 0


def go_on(place, jobs: Jobs) -> None:
    jobs._supervisor.look()
    place.now += 0.1
