"""A store that ships is packed: what reads a store takes it as it is, what writes into one asks for the SQLite file."""

import lzma
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from studies.collection.packed_store import main, pack_store
from studies.collection.parted_store import bring_together, split_store
from studies.findings import findings
from studies.findings.findings import read_material, shipped_stores
from studies.running.study_networks import folder_of
from studies.runs.store import Store, StoreError
from studies.runs.store_files import name_of, name_stores
from studies.runs.tidy_runs import RunsFileError, read_runs

RISING = (lambda n: 0.93 - 2.2 * n**-0.5, lambda n: 0.93 - 2.2 * (n + 400) ** -0.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, synthetic_store: Callable[..., Store]) -> Path:
    """A folder with a store, ``study.db``, and the same one packed in a folder ``atlas``."""
    folder = tmp_path_factory.mktemp("packed")
    store = synthetic_store(folder / "study.db", *RISING)
    spec = {"task": "t", "arch": "a", "strategy": "scratch", "n_records": 100}
    store.add_failure("lost", spec, "DivergedError: loss", "2026-11-27")
    store.close()
    pack_store(folder / "study.db", folder / "atlas" / "study.db.xz")
    return folder


@pytest.fixture
def packed(place: Path) -> Path:
    return place / "atlas" / "study.db.xz"


def test_a_packed_store_has_every_run_and_failure_and_no_predictions(place: Path, packed: Path):
    with closing(Store(place / "study.db", create=False)) as store, closing(Store(packed, create=False)) as read:
        read.check()
        assert read.runs() == store.runs()
        assert read.failures() == store.failures() == [("lost", "DivergedError: loss")]
        assert read.cells() == store.cells()
        assert len(read.lacking_predictions()) == len(store.keys()) > 0
    unpacked = lzma.decompress(packed.read_bytes())
    assert unpacked[18:20] == b"\x01\x01"  # no write-ahead log belongs to it
    assert packed.stat().st_size < len(unpacked) / 4
    assert [path.name for path in packed.parent.iterdir()] == ["study.db.xz"]


def test_the_same_store_is_packed_into_the_same_bytes(place: Path, packed: Path, tmp_path: Path):
    assert pack_store(place / "study.db", tmp_path / "again.db.xz").read_bytes() == packed.read_bytes()


def test_a_packed_store_is_read_without_a_file_and_never_written(packed: Path, synthetic_run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = packed.read_bytes()
    with closing(Store(packed, create=False)) as store:
        with pytest.raises(StoreError, match="readonly"):
            store.add(synthetic_run("gru-w32", "scratch", 100, 99, 0.7), np.zeros((2, 5)))
        assert not list(tmp_path.iterdir())
        assert [path.name for path in packed.parent.iterdir()] == ["study.db.xz"]
    assert packed.read_bytes() == before


def test_a_store_that_somebody_packed_with_its_log_mode_is_read(tmp_path: Path, synthetic_run):
    store = Store(tmp_path / "s.db")
    run = synthetic_run("gru-w32", "scratch", 100, 0, 0.7)
    store.add(run, np.zeros((2, 5)))
    store.close()
    content = (tmp_path / "s.db").read_bytes()
    assert content[18:20] == b"\x02\x02"
    (tmp_path / "s.db.xz").write_bytes(lzma.compress(content))
    with closing(Store(tmp_path / "s.db.xz", create=False)) as read:
        assert read.runs() == [run]
        assert read.probabilities(str(run.key)).shape == (2, 5)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda packed: packed[:-500], "it is damaged .*: put a copy back$"),
        (lambda packed: packed[:300] + b"xx" + packed[302:], "it is damaged .*: put a copy back$"),
        (lambda _: b"not packed at all", "it is damaged .*: put a copy back$"),
        (lambda _: lzma.compress(b"runs,of,somebody"), "what is packed is not a study store$"),
        (lambda _: lzma.compress(b""), "what is packed is not a study store$"),
        (lambda _: b"", "is not a study store: empty$"),
    ],
)
def test_a_damaged_packed_store_is_said_in_one_sentence(damage, says: str, packed: Path, tmp_path: Path, command):
    bad = tmp_path / "bad.db.xz"
    bad.write_bytes(damage(packed.read_bytes()))
    for words in (
        ["study", "status", "--store", bad],
        ["study", "findings", "--store", bad, "--out", tmp_path / "F.md"],
        ["study", "collect", "--store", bad, "--out", tmp_path / "out"],
        ["backtest", "--runs", bad],
    ):
        code, out, err = command(*words)
        assert (code, out) == (3, ""), words
        assert err.count("\n") == 1
        with pytest.raises(StoreError, match=says) as raised:
            Store(bad, create=False)
        assert str(raised.value) in err
    with pytest.raises(RunsFileError, match=says):
        read_runs(bad)


def test_what_writes_into_a_store_refuses_a_packed_one_and_says_how_to_unpack_it(packed: Path, tmp_path: Path, command):
    before, design = packed.read_bytes(), Path(__file__).parents[3] / "studies" / "designs" / "smoke.toml"
    out = tmp_path / "out"
    for words in (
        ["study", "run", design, "--store", packed],
        ["study", "rescore", "--store", packed],
        ["study", "collect", "--store", packed, "--from", packed, "--out", out],
        ["study", "run", design, "--store", tmp_path / "new.db.xz"],
    ):
        code, printed, err = command(*words)
        assert (code, printed) == (3, ""), err
        store = words[words.index("--store") + 1]
        assert err.endswith(f"is packed, which is only read: unpack it with: xz -dk {store}, "
                            f"and name {str(store).removesuffix('.xz')}\n")  # fmt: skip
    assert packed.read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_commands_that_read_say_of_a_packed_store_what_they_say_of_the_store(place: Path, packed: Path, command):
    for words in (["study", "status", "--store"], ["backtest", "--json", "--runs"]):
        of_store, of_packed = command(*words, place / "study.db"), command(*words, packed)
        assert of_packed == of_store
        assert of_store[0] == 0
    assert read_runs(packed) == read_runs(place / "study.db")


def test_evidence_is_collected_from_a_packed_store_into_the_same_bytes(
    place: Path, packed: Path, tmp_path: Path, command
):
    for store, out in ((place / "study.db", tmp_path / "of-store"), (packed, tmp_path / "of-packed")):
        assert command("study", "collect", "--store", store, "--out", out)[0] == 0
    for name in ("runs.csv", "curves.json", "SUMMARY.md"):
        assert (tmp_path / "of-packed" / name).read_bytes() == (tmp_path / "of-store" / name).read_bytes()


def test_runs_are_brought_from_a_packed_store_by_its_path_and_by_its_folder(packed: Path, tmp_path: Path):
    network = folder_of(packed) / "abc"
    assert network == packed.parent / "study.checkpoints" / "abc"
    with closing(Store(packed, create=False)) as store:
        keys = store.keys()
    for other in (packed, packed.parent):
        here = tmp_path / f"{other.name}.db"
        bring_together(here, [other])
        with closing(Store(here, create=False)) as store:
            assert store.keys() == keys
    parts = split_store(packed, tmp_path / "parts")
    assert [path.name for path in parts] == ["study.db"]


def test_findings_are_made_of_packed_stores_that_ship_and_call_them_by_their_folders(
    place: Path, packed: Path, tmp_path: Path, monkeypatch
):
    evidence, stores = tmp_path / "evidence", tmp_path / "stores"
    for folder, content in (
        (evidence / "atlas", {"study.db.xz": packed.read_bytes()}),
        (stores / "old", {"study.db.xz": packed.read_bytes(), "study.db": (place / "study.db").read_bytes()}),
        (stores / "text", {"README.md": b"no store"}),
    ):
        folder.mkdir(parents=True)
        for name, written in content.items():
            (folder / name).write_bytes(written)
    monkeypatch.setattr(findings, "EVIDENCE", evidence)
    monkeypatch.setattr(findings, "_STORES", stores)
    assert shipped_stores() == [evidence / "atlas" / "study.db.xz", stores / "old" / "study.db"]
    found = read_material(shipped_stores())
    assert list(found.stores) == ["atlas", "old"]
    assert found.stores["atlas"] == found.stores["old"]
    assert name_of(Path("atlas-gpu.db.xz")) == "atlas-gpu"
    assert list(name_stores([Path("/a/study.db"), Path("/a/study.db.xz")])) == ["a/study.db", "a/study.db.xz"]


def test_the_backtest_next_to_a_packed_store_is_read(packed: Path, tmp_path: Path):
    store = tmp_path / "atlas" / "study.db.xz"
    store.parent.mkdir()
    store.write_bytes(packed.read_bytes())
    shipped = next(findings.EVIDENCE.glob("*/backtest.json")).read_bytes()
    store.with_name("backtest.json").write_bytes(shipped)
    assert list(read_material([store]).backtests) == ["atlas"]


def test_a_store_is_packed_from_the_command_line(place: Path, packed: Path, tmp_path: Path, monkeypatch, capsys):
    out = tmp_path / "made" / "study.db.xz"
    monkeypatch.setattr("sys.argv", ["packed_store", str(place / "study.db"), str(out)])
    main()
    assert capsys.readouterr().out == f"{out}: {packed.stat().st_size:,} bytes\n"
    assert out.read_bytes() == packed.read_bytes()
    for arguments, says in (
        ([str(out)], "^usage: "),
        ([str(tmp_path / "none.db"), str(out)], "^error: no study store at "),
        (
            [str(place / "study.db"), str(tmp_path / "study.db")],
            "not a name for a packed store: study.db.xz is one$",
        ),
        ([str(place / "study.db"), str(out / "in-a-file.xz")], "^error: cannot write "),
    ):
        monkeypatch.setattr("sys.argv", ["packed_store", *arguments])
        with pytest.raises(SystemExit, match=says):
            main()


def test_a_packed_store_that_would_not_fit_in_memory_is_left_to_be_unpacked(packed: Path, monkeypatch):
    monkeypatch.setattr("studies.runs.store_files._MOST", 50_000)
    with pytest.raises(StoreError, match="too large to be read packed: unpack it with: xz -dk "):
        Store(packed, create=False)


def test_a_store_of_a_newer_version_is_refused_packed_too(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    (tmp_path / "newer.db.xz").write_bytes(lzma.compress((tmp_path / "newer.db").read_bytes()))
    with pytest.raises(StoreError, match="update ecgadvise"):
        Store(tmp_path / "newer.db.xz", create=False)
