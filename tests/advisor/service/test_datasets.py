"""A dataset is taken completely or not at all, and deleted with what was made of it."""

import errno
import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from advisor.own_records.pilots.folders import choose_folder
from advisor.service.datasets import deletion
from advisor.service.datasets.archive import unpack
from advisor.service.datasets.datasets import Datasets
from advisor.service.datasets.limits import ArchiveError
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore, ServiceStoreError
from engine.corpora.opening import fingerprint
from models.errors import UserError
from tests.advisor.service.archives import tar_of, zip_of

FILES = {"ward/r1.hea": b"r1 12 500 5000\n", "ward/r1.dat": b"1234", "ward/labels.csv": b"record,AF\nr1,1\n"}
FOUND = {
    "schema_version": 1, "source": "ward", "task": "labels", "records": 3, "unusable": 1, "patients": 2,
    "classes": {"AF": 2}, "unlabelled": 1, "problems": [{"record": "r3", "problem": "file missing", "usable": False}],
    "duplicates": [["r1", "r2"]], "excluded": {"classes": {"AF": {"records": 1, "kept": 1}}},
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    opened = ServiceStore(tmp_path / "store").open()
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path, store):
    (tmp_path / "records").mkdir()
    return Settings(store.root, records_root=tmp_path / "records", min_free_mb=0)


@pytest.fixture
def datasets(store, settings):
    return Datasets(store, settings)


def upload(store: ServiceStore, content: bytes, name: str = "a.upload") -> Path:
    (store.incoming / name).write_bytes(content)
    return store.incoming / name


def add_job(store: ServiceStore, job: str, dataset: str | None, kind: str = "pilot", state: str = "done",
            model: str | None = None, request: str = "{}") -> None:  # fmt: skip
    with store.transaction() as db:
        db.execute(
            "INSERT INTO jobs (id, kind, key, dataset, model, request, state, created, by) VALUES (?,?,?,?,?,?,?,?,?)",
            (job, kind, job, dataset, model, request, state, "2026-01-01", "ward"),
        )
    (store.jobs / job).mkdir()
    if model is not None:
        (store.models / model).mkdir(exist_ok=True)


def prepare(store: ServiceStore, folder: Path, content_hash: str) -> Path:
    """Make what a job leaves that has read a dataset: a prepared corpus."""
    corpus = store.corpora / "from-directories" / fingerprint(folder) / "ward"
    corpus.mkdir(parents=True)
    (corpus / "corpus.json").write_text(json.dumps({"content_hash": content_hash}))
    return corpus


def files_below(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


def test_an_archive_becomes_a_dataset_that_waits_for_its_check(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), " Ward 3 ", "anna")
    assert (taken.name, taken.state, taken.by, taken.uploaded, taken.problem) == (
        "Ward 3", "checking", "anna", True, None,
    )  # fmt: skip
    assert taken.folder.is_relative_to(store.datasets / taken.id)
    assert taken.folder.name == "ward"
    assert (taken.folder / "r1.dat").read_bytes() == b"1234"
    assert taken.bytes == sum(map(len, FILES.values()))
    assert Datasets(store, Settings(store.root)).get(taken.id) == taken


@pytest.mark.parametrize("is_uploaded", [True, False])
def test_records_are_on_the_disk_before_their_dataset_is_written_down(datasets, store, monkeypatch, is_uploaded):
    """So that a power cut takes neither, or both."""
    synced, fsync, transaction = set(), os.fsync, store.transaction

    def note(handle):
        fsync(handle)
        there = os.fstat(handle)
        inside = frozenset(os.listdir(handle) if stat.S_ISDIR(there.st_mode) else ())  # noqa: PTH208 an open folder
        synced.add((there.st_ino, inside))

    def begin():
        (folder,) = store.datasets.iterdir()
        paths = [store.datasets, folder, *folder.rglob("*")]
        assert {path.name for path in paths} >= {"r1.hea", "r1.dat", "labels.csv"}
        for path in paths:
            inside = frozenset(one.name for one in path.iterdir()) if path.is_dir() else frozenset()
            assert (path.stat().st_ino, inside) in synced, f"{path} is not on the disk"
        return transaction()

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(store, "transaction", begin)
    if is_uploaded:
        datasets.take_archive(upload(store, zip_of(FILES)), "Ward", "anna")
        return
    (store.incoming / "ward").mkdir()
    for name, content in FILES.items():
        (store.incoming / name).write_bytes(content)
    datasets.adopt(store.incoming / "ward", "Ward", "anna")


def test_a_disk_that_turns_out_to_be_full_when_records_are_to_be_on_it_takes_none(datasets, store, monkeypatch):
    def fail(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Problem, match="has no room") as refused:
        datasets.take_archive(upload(store, zip_of(FILES)), "Ward", "anna")
    assert refused.value.status == 507
    assert datasets.list() == []
    assert files_below(store.datasets) == []


def test_an_archive_without_a_folder_of_its_own_gets_one_of_the_datasets_name(datasets, store):
    taken = datasets.take_archive(upload(store, tar_of({"r1.hea": b"1", "labels.csv": b"2"})), "Ward 3/äß", "anna")
    assert taken.folder == store.datasets / taken.id / "Ward-3"


def test_the_same_archive_twice_is_one_dataset_unless_it_was_refused(datasets, store):
    first = datasets.take_archive(upload(store, zip_of(FILES)), "first", "anna")
    assert datasets.take_archive(upload(store, zip_of(FILES)), "second", "ben") == first
    assert len(list(store.datasets.iterdir())) == 1
    datasets.checked(first.id, None, "no records")
    third = datasets.take_archive(upload(store, zip_of(FILES)), "third", "ben")
    assert (third.id != first.id, third.state) == (True, "checking")


def test_the_same_archive_at_the_same_time_is_one_dataset(datasets, store, monkeypatch):
    together = Barrier(6)

    def unpack_together(*arguments):
        together.wait(20)
        return unpack(*arguments)

    monkeypatch.setattr("advisor.service.datasets.datasets.unpack", unpack_together)
    archives = [upload(store, zip_of(FILES), f"{k}.upload") for k in range(6)]
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(lambda archive: datasets.take_archive(archive, "ward", "anna"), archives))
    assert len({one.id for one in taken}) == 1
    assert [path.name for path in store.datasets.iterdir()] == [taken[0].id]


def test_a_refused_archive_leaves_nothing(datasets, store):
    before = upload(store, zip_of({"../x": b"1"}))
    with pytest.raises(ArchiveError):
        datasets.take_archive(before, "ward", "anna")
    assert datasets.list() == []
    assert files_below(store.datasets, store.incoming) == [str(before)]


def test_a_dataset_that_cannot_be_written_down_leaves_nothing(datasets, store, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("killed")

    monkeypatch.setattr(datasets, "_insert", fail)
    with pytest.raises(RuntimeError):
        datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    assert files_below(store.datasets) == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x00b", "\u202eb"])
def test_a_name_that_nobody_can_read_is_refused(datasets, store, name):
    with pytest.raises(UserError, match="1 to 100 characters"):
        datasets.take_archive(upload(store, zip_of(FILES)), name, "anna")


def test_a_full_disk_takes_nothing_and_loses_nothing(datasets, store, settings, monkeypatch):
    kept = datasets.take_archive(upload(store, zip_of(FILES)), "kept", "anna")
    monkeypatch.setattr(store, "free_mb", lambda: 5.0)
    full = Datasets(store, replace(settings, min_free_mb=10))
    with pytest.raises(Problem) as raised:
        full.take_archive(upload(store, tar_of(FILES)), "ward", "anna")
    assert (raised.value.status, raised.value.kind) == (507, "disk-full")
    assert full.list() == [kept]


def test_a_check_that_finds_usable_labelled_records_makes_a_dataset_ready(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    datasets.checked(taken.id, json.dumps(FOUND), "1 of 3 records cannot be used (--max-bad is 0)")
    ready = datasets.get_ready(taken.id)
    assert (ready.state, ready.problem) == ("ready", None)
    assert (ready.report.records, ready.report.unusable, ready.report.classes) == (3, 1, {"AF": 2})
    assert [(one.record, one.usable) for one in ready.report.problems] == [("r3", False)]
    assert ready.report.duplicates == (("r1", "r2"),)
    (listed,) = datasets.list()
    assert (listed.report.records, listed.report.problems) == (3, ())


@pytest.mark.parametrize(
    ("found", "problem", "said"),
    [
        ({**FOUND, "unusable": 3}, "x", "none of its 3 records can be used, as r3: file missing"),
        ({**FOUND, "classes": {"AF": 1}}, None, "no record that can be used has a label"),
        ({**FOUND, "classes": {}, "excluded": None}, None, "no record that can be used has a label"),
        (None, "FOLDER holds no ECG records", "ward holds no ECG records"),
        (None, None, "the check of its records gave no report"),
        ("no JSON", None, "the check of the records gave no report"),
        ({"records": 3}, "it was killed", "it was killed"),
    ],
)
def test_a_dataset_that_nothing_can_be_learnt_from_is_refused_with_the_reason(datasets, store, found, problem, said):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    printed = found if isinstance(found, str) or found is None else json.dumps(found)
    datasets.checked(taken.id, printed, problem and problem.replace("FOLDER", str(taken.folder)))
    refused = datasets.get(taken.id)
    assert (refused.state, refused.problem) == ("refused", said)
    with pytest.raises(Problem, match="cannot be used") as raised:
        datasets.get_ready(taken.id)
    assert raised.value.status == 409


def test_a_check_ends_once(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    datasets.checked(taken.id, json.dumps(FOUND), None)
    datasets.checked(taken.id, None, "killed")
    assert datasets.get(taken.id).state == "ready"


def test_a_check_that_was_cut_short_can_be_run_again(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    datasets.checked(taken.id, "", None)
    assert datasets.get(taken.id).state == "refused"
    datasets.checked(taken.id, json.dumps(FOUND), None)
    assert datasets.get_ready(taken.id).problem is None


def test_names_of_files_that_are_no_utf_8_can_be_answered(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    odd = {**FOUND, "problems": [{"record": "bad\udcff", "problem": "no row", "usable": False}]}
    datasets.checked(taken.id, json.dumps(odd), None)
    assert datasets.get(taken.id).report.problems[0].record.encode()


def test_a_dataset_that_is_being_checked_is_not_ready(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    with pytest.raises(Problem, match="are being checked"):
        datasets.get_ready(taken.id)


def test_what_is_not_there_is_not_found(datasets):
    for call in (datasets.get, datasets.get_ready, datasets.delete):
        with pytest.raises(Problem, match="no dataset 'd0'") as raised:
            call("d0")
        assert raised.value.status == 404


def test_a_folder_is_taken_as_it_is_and_never_deleted(datasets, settings):
    folder = settings.records_root / "ward" / "2026"
    folder.mkdir(parents=True)
    (folder / "r1.hea").write_bytes(b"12345")
    taken = datasets.take_folder("ward/2026", "ward", "anna")
    assert (taken.folder, taken.uploaded, taken.source, taken.bytes) == (folder, False, "ward/2026", 5)
    assert datasets.take_folder("ward/./2026/", "again", "ben").id == taken.id
    assert not datasets.delete(taken.id).records
    assert (folder / "r1.hea").read_bytes() == b"12345"


def test_a_folder_that_has_changed_is_another_dataset(datasets, settings):
    (settings.records_root / "ward").mkdir()
    first = datasets.take_folder("ward", "ward", "anna")
    (settings.records_root / "ward" / "r1.hea").write_bytes(b"1")
    assert datasets.take_folder("ward", "ward", "anna").id != first.id


@pytest.mark.parametrize(
    "relative",
    ["", "/etc", "../store", "ward/../..", "ward/../../store", "C:/x", "C:x", "\\x", "out", "out/deeper", "missing",
     "file", "a\x00b", "x" * 5000, "holds-a-link"],
)  # fmt: skip
def test_a_folder_that_leads_elsewhere_is_refused(datasets, settings, tmp_path, relative):
    root = settings.records_root
    (tmp_path / "secret" / "deeper").mkdir(parents=True)
    (root / "ward").mkdir()
    (root / "file").write_text("no folder")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "holds-a-link").mkdir()
    (root / "holds-a-link" / "r1.dat").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError) as raised:
        datasets.take_folder(relative, "ward", "anna")
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    assert datasets.list() == []


def test_a_link_that_stays_below_the_operators_folder_is_followed(datasets, settings):
    (settings.records_root / "real").mkdir()
    (settings.records_root / "alias").symlink_to(settings.records_root / "real")
    assert datasets.take_folder("alias", "ward", "anna").folder == settings.records_root / "real"


def test_no_folder_can_be_named_where_the_operator_allows_none(store):
    with pytest.raises(UserError, match=r"--records-root \(ECGADVISE_RECORDS_ROOT\)"):
        Datasets(store, Settings(store.root)).take_folder("ward", "ward", "anna")


def test_a_folder_of_this_machine_is_adopted(datasets, store):
    (store.incoming / "demo").mkdir()
    (store.incoming / "demo" / "r1.hea").write_bytes(b"1")
    taken = datasets.adopt(store.incoming / "demo", "synthetic (demo)", "demo")
    assert (taken.folder / "r1.hea").read_bytes() == b"1"
    assert taken.folder.is_relative_to(store.datasets / taken.id)
    assert list(store.incoming.iterdir()) == []


@pytest.fixture
def used(datasets, store):
    """A dataset on which a pilot, a training with its export, and a study were run, next to another one."""
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    other = datasets.take_archive(upload(store, tar_of(FILES)), "other", "anna")
    corpus = prepare(store, taken.folder, "a" * 64)
    prepare(store, other.folder, "b" * 64)
    for content_hash in ("a" * 64, "b" * 64):
        folder = choose_folder(store.corpora / "pilots", content_hash, None)
        folder.mkdir(parents=True)
        (folder / "pilot.db").touch()
    add_job(store, "jpilot", taken.id)
    add_job(store, "jtrain", taken.id, "train", model="m1")
    add_job(store, "jexport", None, "export", model="m1")
    add_job(store, "jstudy", None, "study", request=json.dumps({"datasets": {"ward": taken.id, "other": other.id}}))
    add_job(store, "jother", other.id, "train", model="m2")
    with store.transaction() as db:
        db.execute("INSERT INTO intake VALUES ('m1/0123456789abcdef', '2026-01-01', 'records', '', 3)")
    return taken, other, corpus


def test_what_was_made_of_a_dataset_is_deleted_with_it_and_named(datasets, store, used):
    taken, other, corpus = used
    gone = datasets.delete(taken.id)
    assert (gone.id, gone.name, gone.records) == (taken.id, "ward", True)
    assert gone.jobs == ("jexport", "jpilot", "jstudy", "jtrain")
    assert (gone.models, gone.pilots, gone.prepared) == (("m1",), ("a" * 12,), (corpus.parent.name,))
    assert [path.name for path in store.jobs.iterdir()] == ["jother"]
    assert [path.name for path in store.models.iterdir()] == ["m2"]
    assert [path.name for path in (store.corpora / "pilots").iterdir()] == ["b" * 12]
    assert [path.name for path in store.datasets.iterdir()] == [other.id]
    assert [one.id for one in datasets.list()] == [other.id]
    assert [row["id"] for row in store.rows("SELECT id FROM jobs")] == ["jother"]
    assert store.rows("SELECT * FROM intake") == []
    assert taken.id not in " ".join(files_below(store.root))


def test_a_pilot_on_the_same_records_of_another_dataset_stays(datasets, store, used):
    taken, other, _ = used
    (store.corpora / "from-directories" / fingerprint(other.folder) / "ward" / "corpus.json").write_text(
        json.dumps({"content_hash": "a" * 64})
    )
    assert datasets.delete(taken.id).pilots == ()
    assert (store.corpora / "pilots" / ("a" * 12) / "pilot.db").is_file()


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize(
    ("dataset", "kind", "model", "request_"),
    [(True, "pilot", None, {}), (False, "export", "m1", {}), (False, "study", None, {"datasets": "ID"}),
     (False, "pilot", None, {"from_network": "m1"})],
)  # fmt: skip
def test_a_dataset_in_use_is_not_deleted(datasets, store, used, state, dataset, kind, model, request_):
    taken, _, _ = used
    asked = json.dumps(request_).replace('"ID"', f'{{"ward": "{taken.id}"}}')
    add_job(store, "jnow", taken.id if dataset else None, kind, state, model, asked)
    before = files_below(store.root)
    with pytest.raises(Problem, match="in use by jnow") as raised:
        datasets.delete(taken.id)
    assert raised.value.status == 409
    assert files_below(store.root) == before
    assert datasets.get(taken.id) == taken


@pytest.mark.parametrize("step", range(8))
def test_a_deletion_that_was_killed_is_ended_at_the_next_start(datasets, store, used, monkeypatch, step):
    taken, other, _ = used
    done, remove = [], deletion._remove

    def killed_at(path):
        done.append(path)
        if len(done) > step:
            raise KeyboardInterrupt
        return remove(path)

    with monkeypatch.context() as patched:
        patched.setattr(deletion, "_remove", killed_at)
        with pytest.raises(KeyboardInterrupt):
            datasets.delete(taken.id)
    assert datasets.get(taken.id).problem == "it is being deleted"
    with pytest.raises(Problem):
        datasets.get_ready(taken.id)
    datasets.tidy()
    assert [one.id for one in datasets.list()] == [other.id]
    assert sorted(path.name for path in (store.jobs, store.models) for path in path.iterdir()) == ["jother", "m2"]
    assert [path.name for path in (store.corpora / "pilots").iterdir()] == ["b" * 12]
    assert taken.id not in " ".join(files_below(store.root))


def test_a_deletion_that_the_disk_refuses_can_be_repeated(datasets, store, used, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    taken, _, _ = used
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.raises(ServiceStoreError, match="delete it again"):
            datasets.delete(taken.id)
    assert datasets.delete(taken.id).models == ("m1",)


def test_a_crash_before_a_dataset_was_written_down_leaves_nothing(datasets, store):
    (store.datasets / "d123" / "ward").mkdir(parents=True)
    (store.datasets / "stray").write_text("1")
    kept = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    datasets.tidy()
    assert [path.name for path in store.datasets.iterdir()] == [kept.id]


def test_a_dataset_whose_records_have_gone_is_refused(datasets, store):
    taken = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    shutil.rmtree(store.datasets / taken.id)
    datasets.tidy()
    assert "no longer where they were" in str(datasets.get(taken.id).problem)
    assert datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna").id != taken.id


def test_a_dataset_that_no_check_is_there_for_is_known(datasets, store):
    first = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    second = datasets.take_archive(upload(store, tar_of(FILES)), "ward", "anna")
    add_job(store, "jcheck", first.id, "check", "queued")
    assert datasets.unchecked() == (second.id,)


def test_a_dataset_is_given_back_only_where_no_job_has_it(datasets, store):
    first = datasets.take_archive(upload(store, zip_of(FILES)), "ward", "anna")
    second = datasets.take_archive(upload(store, tar_of(FILES)), "ward", "anna")
    add_job(store, "jcheck", first.id, "check", "queued")
    for dataset in (first, second):
        datasets.give_back(dataset)
    assert [one.id for one in datasets.list()] == [first.id]
    assert [path.name for path in store.datasets.iterdir()] == [first.id]
