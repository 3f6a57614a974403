"""Jobs are done once and none is lost, whoever is killed: their processes, their server, twenty times."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advisor.service.jobs.job import State
from advisor.service.jobs.jobs import Jobs
from advisor.service.jobs.kinds import CheckJob
from advisor.service.jobs.launching import LOCK, is_alive
from advisor.service.jobs.table import JobTable
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from engine.files import InUseError

SERVER = """
import sys, time
from pathlib import Path
sys.path.append(sys.argv[2])
from conftest import STAND_IN, StandInDatasets
from advisor.service.jobs.jobs import Jobs
from advisor.service.jobs.launching import Launcher
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
root = Path(sys.argv[1])
store = ServiceStore(root / "store").open()
jobs = Jobs(store, Settings(root, min_free_mb=0, jobs_at_once=2), StandInDatasets(root / "sets"), {},
            Launcher(store.corpora, STAND_IN))
jobs.start()
print("ready", flush=True)
time.sleep(600)
"""


def test_a_job_whose_process_is_killed_is_started_again(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, """
        import os, signal
        from pathlib import Path
        if not Path("half").exists():
            Path("half").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        print("whole")
    """)  # fmt: skip
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    ended = jobs.get(job.id)
    assert (ended.state, ended.attempts, ended.deaths) == (State.DONE, 2, 1)


def test_a_job_that_kills_its_process_every_time_has_failed_the_third(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    ended = jobs.get(job.id)
    assert (ended.state, ended.attempts, ended.deaths) == (State.FAILED, 3, 3)
    assert ended.problem == "its process was ended from outside 3 times, for want of memory perhaps"


def test_a_death_that_no_server_saw_does_not_count(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, place.WAITS)
    place.look(jobs)
    jobs_began = jobs.get(job.id).started
    time.sleep(0.002)  # the store's clock tells milliseconds
    os.killpg(jobs._supervisor._launcher._children[job.folder].pid, signal.SIGKILL)
    until(lambda: not is_alive(job.folder))
    other = place.jobs()
    place.look(other)
    assert (other.get(job.id).deaths, other.get(job.id).attempts, other.get(job.id).state) == (0, 2, State.RUNNING)
    assert other.get(job.id).started > jobs_began, "a machine that was off for a day took nothing of a job's time"


def test_another_server_adopts_what_runs_and_can_cancel_it(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, place.DEAF)
    until((job.folder / "child").exists, lambda: place.look(jobs))
    other = place.jobs()
    place.look(other)
    assert (other.get(job.id).state, other.get(job.id).attempts) == (State.RUNNING, 1)
    other.cancel(job.id)
    place.look(other)
    place.now = 1.0
    place.look(other)
    until(lambda: not is_alive(job.folder))
    place.look(other)
    assert other.get(job.id).state is State.CANCELLED
    jobs._supervisor._launcher.reap(job.folder)


def test_a_cancellation_outlives_its_server(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "import time; time.sleep(0.2); print(1)")
    place.look(jobs)
    jobs.cancel(job.id)
    until(lambda: not is_alive(job.folder))
    other = place.jobs()
    place.look(other)
    assert other.get(job.id).state is State.CANCELLED


def test_two_servers_on_one_store_refuse_each_other(store: ServiceStore):
    with pytest.raises(InUseError, match="another ecgadvise serve has the store"):
        ServiceStore(store.root).open()


def test_jobs_survive_twenty_kills_of_their_server_and_each_is_done_once(tmp_path: Path, datasets, until):
    """One more job is asked for before each server, which is killed a little later than the one before it."""
    done = tmp_path / "done"
    count = f"import time; time.sleep(0.3); print('{{}}'); open({str(done)!r}, 'a').write('one\\n')"
    store = ServiceStore(tmp_path / "store").open()
    store.close()
    asking = Jobs(store, Settings(tmp_path, min_free_mb=0), datasets)
    asked = []
    for k in range(20):
        asked.append(asking.submit(CheckJob(dataset=datasets.add(count)), "tester")[0].id)
        with server(tmp_path) as process:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.02 * k)
            process.kill()
    with server(tmp_path) as process:
        until(lambda: not JobTable(store).alive())
        process.kill()
    assert [asking.get(job).state.value for job in asked] == ["done"] * 20
    assert done.read_text() == "one\n" * 20


def server(root: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SERVER, str(root), str(Path(__file__).parent)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_a_server_killed_between_the_database_and_the_process_starts_the_job_later(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    assert JobTable(place.store).running(job.id)
    other = place.jobs()
    until(lambda: other.get(job.id).state.is_final, lambda: place.look(other))
    assert (other.get(job.id).state, other.get(job.id).deaths) == (State.DONE, 0)
    assert (job.folder / LOCK).exists()
