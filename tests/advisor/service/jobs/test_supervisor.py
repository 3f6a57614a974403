"""Jobs are run once, oldest first, and come to an end of their own, whoever or whatever is killed meanwhile."""

from pathlib import Path

import pytest

from advisor.service.jobs.job import Ending, Job, State
from advisor.service.jobs.kinds import PilotJob
from advisor.service.jobs.launching import LOCK, is_alive
from advisor.service.problems import Problem
from advisor.service.store import ServiceStore
from engine.files import lock


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_job_that_ends_well_has_its_answer_and_one_that_does_not_the_sentence_it_ended_in(place, until):
    jobs = place.jobs()
    good = place.submit(jobs, "print('{\"records\": 3}')")
    said = f"error: {place.store.root}/datasets/d0: no record could be read"
    bad = place.submit(jobs, f"import sys; print({said!r}, file=sys.stderr); sys.exit(3)")
    until(lambda: jobs.get(bad.id).state.is_final, lambda: place.look(jobs))
    assert (jobs.get(good.id).state, jobs.get(good.id).answer()) == (State.DONE, {"records": 3})
    failed = jobs.get(bad.id)
    assert (failed.state, failed.exit_code, failed.problem) == (State.FAILED, 3, "datasets/d0: no record could be read")
    assert failed.answer() is None
    assert place.told == [(good.id, "done"), (bad.id, "failed")]
    assert jobs.log(bad.id).text.splitlines()[-1] == said


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not listed here")
def test_a_job_has_its_answer_on_the_disk_before_it_says_there_that_it_has_ended(place, until):
    """So that after a power cut none is done without what came of it."""
    jobs = place.jobs()
    job = place.submit(jobs, """
        import os
        from pathlib import Path
        fsync = os.fsync
        def note(handle):
            fsync(handle)
            with open("synced", "a") as file:
                print(Path(f"/proc/self/fd/{handle}").readlink().name, Path("answer").stat().st_size, file=file)
        os.fsync = note
        print("the answer")
    """)  # fmt: skip
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    size = len("the answer\n")
    synced = [f"{name} {size}" for name in ("answer", ".outcome.json.new", job.id)]
    assert (job.folder / "synced").read_text().splitlines() == synced


@pytest.mark.parametrize(("refuses", "ends"), [("EINVAL", State.DONE), ("EIO", State.FAILED)])
def test_a_job_ends_well_on_a_file_system_that_has_no_sync_and_not_on_a_broken_disk(place, until, refuses, ends):
    jobs = place.jobs()
    job = place.submit(jobs, f"""
        import errno, os
        fsync = os.fsync
        def refuse(handle):
            os.fsync = fsync
            raise OSError(errno.{refuses}, os.strerror(errno.{refuses}))
        os.fsync = refuse
        print("the answer")
    """)  # fmt: skip
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert jobs.get(job.id).state is ends


def test_a_defect_ends_a_job_as_failed_and_its_log_has_the_traceback(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1 / 0)")
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert jobs.get(job.id).problem == "its command ended with exit code 1: its log says more"
    assert "ZeroDivisionError" in jobs.log(job.id).text


def test_the_oldest_runs_first_and_no_more_than_allowed_at_once(place, until):
    jobs = place.jobs(jobs_at_once=2)
    made = [place.submit(jobs, place.WAITS) for _ in range(4)]
    place.look(jobs)
    assert [jobs.get(job.id).state.value for job in made] == ["running", "running", "queued", "queued"]
    jobs.cancel(made[0].id)
    place.now = 5.0
    until(lambda: jobs.get(made[0].id).state.is_final, lambda: place.look(jobs))
    assert [jobs.get(job.id).state.value for job in made] == ["cancelled", "running", "running", "queued"]


def test_a_check_does_not_wait_for_a_pilot(place, until):
    jobs = place.jobs()
    with place.store.transaction() as db:  # one that runs as long as this test holds its lock
        db.execute(
            "INSERT INTO jobs (id, kind, key, request, state, created, by) VALUES "
            "('j000000000000', 'pilot', '', '{}', 'running', '2026', '')"
        )
    folder = place.store.jobs / "j000000000000"
    folder.mkdir()
    with (folder / LOCK).open("w") as held:
        assert lock(held.fileno())
        check, pilot = (
            place.submit(jobs, "print(1)"),
            jobs.submit(PilotJob(dataset=place.datasets.add("")), "tester")[0],
        )
        until(lambda: jobs.get(check.id).state is State.DONE, lambda: place.look(jobs))
        assert jobs.get(pilot.id).state is State.QUEUED


def test_a_request_of_another_version_fails_its_job_in_a_sentence(place):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    with place.store.transaction() as db:
        db.execute("UPDATE jobs SET request = json_set(request, '$.thorough', 1)")
    place.look(jobs)
    assert jobs.get(job.id).problem == "it was asked for in the words of another version: ask for it again"


def test_folders_named_as_our_packages_where_a_job_runs_do_no_harm(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "import models, engine, json; print(json.dumps([models.__file__, engine.__file__]))")
    for name in ("models", "engine", "advisor", "ecgadvise", "json"):
        (job.folder / name).mkdir(parents=True)
        (job.folder / name / "__init__.py").write_text("raise RuntimeError('of the user')")
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    found = jobs.get(job.id)
    assert found.state is State.DONE, jobs.log(job.id).text
    assert all(str(job.folder) not in str(path) for path in found.answer())


def test_a_job_knows_no_token_and_says_its_progress_in_its_folder(place, until, monkeypatch):
    monkeypatch.setenv("ECGADVISE_TOKEN", "not for jobs")
    jobs = place.jobs()
    job = place.submit(jobs, "import json, os; print(json.dumps(dict(os.environ)))")
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    environment = jobs.get(job.id).answer()
    assert "ECGADVISE_TOKEN" not in environment
    assert environment["ECGADVISE_PROGRESS"] == str(job.folder / "progress.json")
    assert environment["ECGADVISE_CORPORA"] == str(place.store.corpora)


def test_a_cancelled_job_that_does_not_heed_ctrl_c_is_killed_after_a_second_with_all_it_started(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, place.DEAF)
    until((job.folder / "child").exists, lambda: place.look(jobs))
    child = int((job.folder / "child").read_text())
    assert jobs.cancel(job.id).ending is Ending.CANCELLED
    for place.now in (0.0, 0.99):
        place.look(jobs)
        assert is_alive(job.folder)
    place.now = 1.0
    place.look(jobs)
    until(lambda: not is_alive(job.folder))
    place.look(jobs)
    assert jobs.get(job.id).state is State.CANCELLED
    until(lambda: not is_there(child))
    assert place.told == [(job.id, "cancelled")]


def test_a_job_is_cancelled_once(place, until):
    jobs = place.jobs()
    running, waiting = place.submit(jobs, place.WAITS), place.submit(jobs, place.WAITS)
    place.look(jobs)
    jobs.cancel(running.id)
    with pytest.raises(Problem, match="is being ended already") as refused:
        jobs.cancel(running.id)
    assert refused.value.status == 409
    assert jobs.cancel(waiting.id).state is State.CANCELLED
    with pytest.raises(Problem, match="is cancelled already"):
        jobs.cancel(waiting.id)
    place.now = 100.0
    until(lambda: jobs.get(running.id).state.is_final, lambda: place.look(jobs))
    assert sorted(place.told) == sorted([(running.id, "cancelled"), (waiting.id, "cancelled")])


def test_what_ended_before_it_heard_of_its_end_has_ended_as_it_did(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    place.look(jobs)
    until(lambda: not is_alive(job.folder))
    jobs.cancel(job.id)
    place.look(jobs)
    assert jobs.get(job.id).state is State.DONE


def test_a_command_that_ends_well_because_it_was_stopped_is_cancelled_all_the_same(place, until):
    """A pilot that Ctrl-C stops answers from what is complete, with exit code 0."""
    jobs = place.jobs()
    stopped = """
        import time
        from pathlib import Path
        try:
            Path("began").touch()
            time.sleep(600)
        except KeyboardInterrupt:
            print("{}")
    """
    job = place.submit(jobs, stopped)
    until((job.folder / "began").exists, lambda: place.look(jobs))
    jobs.cancel(job.id)
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert jobs.get(job.id).state is State.CANCELLED
    assert (jobs.get(job.id).exit_code, jobs.get(job.id).answer()) == (0, None)


def test_a_job_that_was_cancelled_is_begun_again_and_goes_on(place, until):
    jobs = place.jobs()
    twice = """
        import time
        from pathlib import Path
        if Path("half").exists():
            print("whole")
        else:
            Path("half").touch()
            time.sleep(600)
    """
    job = place.submit(jobs, twice)
    until((job.folder / "half").exists, lambda: place.look(jobs))
    jobs.cancel(job.id)
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    again = jobs.resubmit(job.id, "somebody else")
    assert (again.state, again.by, again.ending, again.started) == (State.QUEUED, "somebody else", None, None)
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert jobs.get(job.id).answer() == {"lines": ["whole"]}
    with pytest.raises(Problem, match="is done: only one that failed or was cancelled is begun again"):
        jobs.resubmit(job.id, "tester")


def test_a_cancelled_job_that_is_begun_again_while_its_end_is_told_is_not_lost(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    again = []

    def tell(told: Job) -> None:
        place.tell(told)
        if not again:
            again.append(jobs.resubmit(job.id, "tester"))

    jobs._supervisor._on_ended = {"check": tell}
    jobs.cancel(job.id)
    until(lambda: jobs.get(job.id).state is State.DONE, lambda: place.look(jobs), seconds=20.0)
    assert place.told == [(job.id, "cancelled"), (job.id, "done")]


def test_a_job_that_is_cancelled_twice_is_told_of_the_second_end_too(place, monkeypatch):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    times = iter(["2026-11-28T00:00:01.000Z", "2026-11-28T00:00:02.000Z"])
    monkeypatch.setattr("advisor.service.jobs.table.now", lambda: next(times))

    def tell(told: Job) -> None:
        place.tell(told)
        if len(place.told) == 1:
            jobs.resubmit(job.id, "tester")
            jobs.cancel(job.id)

    jobs._supervisor._on_ended = {"check": tell}
    jobs.cancel(job.id)
    for _ in range(3):
        place.look(jobs)
    assert place.told == [(job.id, "cancelled")] * 2
    assert (jobs.get(job.id).state, jobs.get(job.id).ended) == (State.CANCELLED, "2026-11-28T00:00:02.000Z")


def test_a_job_that_is_cancelled_when_it_cannot_be_started_is_cancelled(place):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")

    def words(_job: Job) -> list[str]:
        jobs.cancel(job.id)
        raise Problem(404, "the dataset has gone")

    jobs._supervisor._words = words
    for _ in range(2):
        place.look(jobs)
    assert (jobs.get(job.id).state, jobs.get(job.id).problem) == (State.CANCELLED, None)
    assert place.told[-1] == (job.id, "cancelled")


def test_a_job_that_takes_too_long_is_ended_in_a_sentence_that_names_the_limit(place, until):
    jobs = place.jobs(max_job_minutes=1e-9)
    job = place.submit(jobs, place.WAITS)
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    ended = jobs.get(job.id)
    assert ended.state is State.FAILED
    assert "--max-job-minutes" in ended.problem


def test_a_full_disk_takes_no_new_job_and_loses_none(place, until, monkeypatch):
    free = [5000.0]
    monkeypatch.setattr(ServiceStore, "free_mb", lambda _store: free[0])
    jobs = place.jobs(min_free_mb=1000.0)
    job = place.submit(jobs, """
        import sys
        from pathlib import Path
        if not Path("half").exists():
            Path("half").touch()
            print("error: cannot write half: No space left on device", file=sys.stderr)
            sys.exit(1)
        print("whole")
    """)  # fmt: skip
    place.look(jobs)
    free[0] = 999.0
    with pytest.raises(Problem, match="--min-free-mb") as refused:
        place.submit(jobs, place.WAITS)
    assert (refused.value.status, refused.value.kind) == (507, "disk-full")
    until(lambda: not is_alive(job.folder))
    for _ in range(3):
        place.look(jobs)
    assert (jobs.get(job.id).state, jobs.get(job.id).attempts) == (State.QUEUED, 1)
    free[0] = 5000.0
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert (jobs.get(job.id).state, jobs.get(job.id).attempts) == (State.DONE, 2)
    assert len(jobs.list()) == 1


def test_a_job_that_wants_more_room_than_there_ever_is_fails(place, until):
    jobs = place.jobs()
    job = place.submit(jobs, "import sys; print('error: no space is left', file=sys.stderr); sys.exit(1)")
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert (jobs.get(job.id).state, jobs.get(job.id).problem) == (State.FAILED, "no space is left")


def test_what_is_told_of_an_end_may_make_it_a_failure(place, until):
    def refuse(_job: object) -> None:
        raise Problem(422, "the check names no record")

    jobs = place.jobs()
    jobs._supervisor._on_ended = {"check": refuse}
    job = place.submit(jobs, "print(1)")
    until(lambda: jobs.get(job.id).state.is_final, lambda: place.look(jobs))
    assert (jobs.get(job.id).state, jobs.get(job.id).problem) == (State.FAILED, "the check names no record")


def test_a_dataset_that_went_away_while_its_job_waited_fails_the_job(place):
    jobs = place.jobs()
    job = place.submit(jobs, "print(1)")
    folder = place.datasets.get(job.dataset).folder
    (folder / "job.py").unlink()
    folder.rmdir()
    place.look(jobs)
    assert jobs.get(job.id).state is State.FAILED
    assert "there is no dataset" in jobs.get(job.id).problem


def test_a_job_on_a_dataset_that_is_being_checked_waits_for_that_and_holds_up_no_other(place, until):
    jobs = place.jobs()
    checking = place.datasets.add("print(1)", "checking")
    (waits, _), check = jobs.submit(PilotJob(dataset=checking), "tester"), place.submit(jobs, "print(1)")
    until(lambda: jobs.get(check.id).state is State.DONE, lambda: place.look(jobs))
    assert jobs.get(waits.id).state is State.QUEUED
    place.datasets.states[checking] = "refused"
    place.look(jobs)
    assert jobs.get(waits.id).problem == f"dataset {checking} is refused: only one whose check passed can be used"
    with pytest.raises(Problem, match="is refused") as refused:
        jobs.submit(PilotJob(dataset=checking), "tester")
    assert refused.value.status == 409
