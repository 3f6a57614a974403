import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, CorpusError, prepare
from engine.records.record import LEADS, Record, RecordError
from engine.sources import Entry, TaskDefinition


class Shelf:
    """A source of records held in memory; what ``broken`` names cannot be read."""

    name, version, licence, url, citation = "shelf", "1", "none", "none", "none"
    leads: tuple[str, ...] = LEADS
    labels: tuple[str, ...] = ("A", "B", "C")

    def __init__(self, n_records: int = 6, broken: frozenset[str] = frozenset()) -> None:
        self.broken = broken
        self.listed = [
            Entry(f"r{k}", Path(f"r{k}"), f"p{k // 2}", frozenset("AB"[k % 2] if k else ""), k % 3)
            for k in range(n_records)
        ]
        self.tasks = {
            "letters": TaskDefinition("letters", {"A": ["A"], "B or C": ["B", "C"]}),
            "everything": TaskDefinition("letters", {"A": ["A"]}, labelled_only=False),
        }

    def entries(self) -> list[Entry]:
        return self.listed

    def read(self, entry: Entry) -> Record:
        if entry.record_id in self.broken:
            raise RecordError("checksum mismatch in lead I")
        signals = np.random.default_rng(int(entry.record_id[1:])).normal(0, 0.3, (12, 1000))
        one, two = signals[:2]  # the other limb leads follow from these
        signals[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
        return Record(signals.astype(np.float32), 100.0, LEADS)


def alter(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def test_a_prepared_corpus_holds_what_the_source_gave(tmp_path: Path):
    source = Shelf()
    corpus, problems = prepare(source, tmp_path / "shelf")
    assert problems == []
    assert len(corpus) == 6
    assert corpus.signals.shape == (6, 12, 1000)
    assert corpus.signals.dtype == np.float32
    for row, entry in enumerate(source.entries()):
        np.testing.assert_array_equal(corpus.signals[row], source.read(entry).signals)
    assert corpus.record_ids.tolist() == [f"r{k}" for k in range(6)]
    assert corpus.patients.tolist() == [0, 0, 1, 1, 2, 2]
    corpus.verify()


def test_a_prepared_corpus_holds_ages_and_sexes_where_the_source_gives_them(tmp_path: Path):
    source = Shelf(3)
    source.listed[1:] = [replace(source.listed[1], age=61.0), replace(source.listed[2], age=40.0, sex="female")]
    corpus, _ = prepare(source, tmp_path / "shelf")
    np.testing.assert_array_equal(corpus.ages, np.array([np.nan, 61.0, 40.0], np.float32))
    assert corpus.sexes.tolist() == ["", "", "female"]


def test_unusable_records_are_left_out_and_reported(tmp_path: Path):
    corpus, problems = prepare(Shelf(broken=frozenset({"r1", "r4"})), tmp_path / "shelf")
    assert [(p.record, p.usable) for p in problems] == [("r1", False), ("r4", False)]
    assert "checksum" in problems[0].problem
    assert corpus.record_ids.tolist() == ["r0", "r2", "r3", "r5"]
    np.testing.assert_array_equal(corpus.signals[1], Shelf().read(Shelf().listed[2]).signals)


def test_a_corpus_of_nothing_usable_is_refused_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(CorpusError, match="none of the 2 records"):
        prepare(Shelf(2, broken=frozenset({"r0", "r1"})), tmp_path / "shelf")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Shelf(), tmp_path / "shelf", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_that_is_there_is_never_overwritten(tmp_path: Path):
    prepare(Shelf(), tmp_path / "shelf")
    with pytest.raises(CorpusError, match="exists already"):
        prepare(Shelf(), tmp_path / "shelf")


def test_content_hash_is_of_the_data_not_of_its_description(tmp_path: Path):
    one = prepare(Shelf(), tmp_path / "one")[0]
    source = Shelf()
    source.tasks = {"letters": replace(source.tasks["letters"], description="other words")}
    described = prepare(source, tmp_path / "described")[0]
    assert described.content_hash == one.content_hash
    assert described.task_hash("letters") == one.task_hash("letters")
    fewer = prepare(Shelf(5), tmp_path / "fewer")[0]
    assert fewer.content_hash != one.content_hash
    source.tasks = {"letters": replace(source.tasks["letters"], classes={"A": ["A"], "B or C": ["B"]})}
    redefined = prepare(source, tmp_path / "redefined")[0]
    assert redefined.content_hash == one.content_hash
    assert redefined.task_hash("letters") != one.task_hash("letters")


def test_a_task_is_the_union_of_labels_over_the_records_that_have_one(tmp_path: Path):
    corpus = prepare(Shelf(), tmp_path / "shelf")[0]
    task = corpus.task("letters")
    assert task.name == "shelf/letters"
    assert task.classes == ("A", "B or C")
    assert task.rows.tolist() == [1, 2, 3, 4, 5]  # r0 has no label
    assert task.labels.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0], [0, 1]]
    assert task.in_folds([1]).tolist() == [0, 3]
    assert len(corpus.task("everything").rows) == 6
    assert corpus.task("").name == "shelf/letters"  # the first one
    with pytest.raises(CorpusError, match="it has letters, everything, and its labels can be joined"):
        corpus.task("numbers")


def test_labels_joined_by_a_plus_are_a_task_of_all_records(tmp_path: Path):
    corpus = prepare(Shelf(), tmp_path / "shelf")[0]
    task = corpus.task("C+A")
    assert (task.name, task.classes) == ("shelf/C+A", ("C", "A"))
    assert task.rows.tolist() == list(range(6))  # those without a label too
    columns = [corpus.label_names.index(name) for name in ("C", "A")]
    assert task.labels.tolist() == corpus.labels[:, columns].tolist()
    assert corpus.task("A").classes == corpus.task("A+A").classes == ("A",)
    assert corpus.describe_task("A+C") == "the labels A, C"
    assert corpus.task_hash("A+C") != corpus.task_hash("A") != corpus.task_hash("letters")
    with pytest.raises(CorpusError, match=r"its labels can be joined by \+ \('D' is none of them\)"):
        corpus.task("A+D")


@pytest.mark.parametrize("name", ["labels.npy", "records.npz"])
def test_altered_tables_are_refused_on_opening(tmp_path: Path, name: str):
    prepare(Shelf(), tmp_path / "shelf")
    alter(tmp_path / "shelf" / name, -1)
    with pytest.raises(CorpusError, match=f"{name} was altered"):
        Corpus(tmp_path / "shelf")


def test_altered_signals_are_found_by_verify(tmp_path: Path):
    prepare(Shelf(), tmp_path / "shelf")
    alter(tmp_path / "shelf" / "signals.npy", -1)
    with pytest.raises(CorpusError, match=r"signals\.npy was altered"):
        Corpus(tmp_path / "shelf").verify()


def test_an_altered_manifest_is_refused(tmp_path: Path):
    root = prepare(Shelf(), tmp_path / "shelf")[0].root
    manifest = json.loads((root / "corpus.json").read_text())
    for change in ({"leads": manifest["leads"][::-1]}, {"fs": 500.0}, {"content_hash": "0" * 64}):
        (root / "corpus.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(CorpusError, match="altered"):
            Corpus(root)


def test_what_is_no_corpus_is_named(tmp_path: Path):
    with pytest.raises(CorpusError, match="is not a prepared corpus"):
        Corpus(tmp_path)
    (tmp_path / "corpus.json").write_text("{")
    with pytest.raises(CorpusError, match="is damaged"):
        Corpus(tmp_path)
    (tmp_path / "corpus.json").write_text('{"schema_version": 99}')
    with pytest.raises(CorpusError, match="corpus schema 99"):
        Corpus(tmp_path)
    root = prepare(Shelf(), tmp_path / "shelf")[0].root
    (root / "signals.npy").unlink()
    with pytest.raises(CorpusError, match=r"has no signals\.npy"):
        Corpus(root)
