"""From a name or a directory to a corpus: what is not prepared is prepared once, and again when it has changed."""

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.corpora.corpus import Corpus, CorpusError, prepare, write_divided
from engine.corpora.opening import (
    FROM_DIRECTORIES,
    fingerprint,
    identify_tree,
    open_directory,
    open_named,
    prepared_into,
)
from engine.corpora.synthetic import prepared_synthetic
from engine.records.signal import PAPER
from engine.sources import SourceError, UnknownNameError
from engine.sources.detect import open_source


@pytest.fixture
def tree(ptbxl_tree: Path, tmp_path: Path) -> Path:
    return shutil.copytree(ptbxl_tree, tmp_path / "tree")


def test_a_named_task_is_that_of_the_prepared_corpus(corpus: Corpus):
    opened, task = open_named("ptb-xl/rhythm", corpus.root.parent)
    assert (opened.root, task) == (corpus.root, "rhythm")
    assert open_named("ptb-xl", corpus.root.parent)[1] == "superclass"


@pytest.mark.parametrize(
    ("name", "says"), [("mimic", "'mimic'.*there is ptb-xl, synthetic"), ("ptb-xl/rhythms", "'rhythms'; it has")]
)
def test_unknown_names_are_refused_with_those_that_there_are(corpus: Corpus, name: str, says: str):
    with pytest.raises(UnknownNameError, match=says):
        open_named(name, corpus.root.parent)


def test_a_synthetic_corpus_that_is_something_else_is_refused(tmp_path: Path):
    prepared_synthetic(tmp_path, 30)
    with pytest.raises(CorpusError, match="holds other records"):
        open_named("synthetic", tmp_path)


def test_a_prepared_corpus_is_opened_where_it_is(corpus: Corpus, tmp_path: Path):
    opened, task = open_directory(corpus.root, "form", tmp_path)
    assert (opened.root, task) == (corpus.root, "form")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_prepared_once_and_again_when_it_changes(tree: Path, tmp_path: Path):
    corpora, said = tmp_path / "corpora", []
    first, task = open_directory(tree, "", corpora, say=said.append)
    assert (len(first), task, first.name) == (240, "superclass", "ptb-xl")
    assert [sentence for sentence in said if "once" in sentence]
    said.clear()
    assert open_directory(tree, "", corpora, say=said.append)[0].root == first.root
    assert said == []
    header = tree / "records100" / "00000" / "00001_lr.hea"
    header.write_text("damaged")
    again, _ = open_directory(tree, "", corpora, say=said.append)
    assert again.root != first.root
    assert len(again) == 239
    assert said[-1].startswith("1 of 240 records cannot be used: see ecgadvise data check")
    assert len(list((corpora / FROM_DIRECTORIES).iterdir())) == 2


def test_what_the_tree_is_can_be_said(tree: Path, tmp_path: Path):
    opened, _ = open_directory(tree, "", tmp_path / "corpora", "ptb-xl")
    assert opened.name == "ptb-xl"
    with pytest.raises(SourceError, match=r"ludb\.csv"):
        open_directory(tree, "", tmp_path / "corpora", "ludb")
    with pytest.raises(UnknownNameError, match="no set is named mimic"):
        open_directory(tree, "", tmp_path / "corpora", "mimic")


def test_a_directory_without_records_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for root, says in (("empty", "holds no ECG records"), ("nowhere", "is not a directory")):
        with pytest.raises(SourceError, match=says):
            open_directory(tmp_path / root, "", tmp_path / "corpora")


def test_a_link_to_nowhere_stops_nothing(tree: Path, tmp_path: Path):
    (tree / "link").symlink_to(tmp_path / "gone")
    assert len(open_directory(tree, "", tmp_path / "corpora")[0]) == 240


def prepare_as_data_does(tree: Path, target: Path, source: str | None = None, **others: Any) -> Corpus:
    state = identify_tree(tree, source)
    return prepare(open_source(tree, source), target, prepared_from=state, **others)[0]


@pytest.mark.parametrize("source", [None, "ptb-xl"])
def test_a_tree_that_was_prepared_before_is_not_prepared_again(tree: Path, tmp_path: Path, source: str | None):
    corpora, said = tmp_path / "corpora", []
    prepared = prepare_as_data_does(tree, corpora / "ptb-xl")
    opened, task = open_directory(tree, "form", corpora, source, say=said.append)
    assert (opened.root, task) == (prepared.root, "form")
    assert said == [f"{tree} was prepared before: using {prepared.root}"]
    assert [path.name for path in corpora.iterdir()] == ["ptb-xl"]
    with pytest.raises(UnknownNameError, match="no task 'rhythms'"):
        open_directory(tree, "rhythms", corpora, source)


def test_where_a_tree_was_prepared_makes_no_other_data(tree: Path, tmp_path: Path):
    prepared = prepare_as_data_does(tree, tmp_path / "with" / "ptb-xl")
    without = prepare(open_source(tree), tmp_path / "without" / "ptb-xl")[0]
    assert prepared.content_hash == without.content_hash
    assert prepared.task_hash("form") == without.task_hash("form")
    assert prepared.manifest["prepared_from"] == {"fingerprint": identify_tree(tree).fingerprint, "reader": "ptb-xl"}
    assert "prepared_from" not in without.manifest


def test_a_corpus_that_does_not_say_what_tree_it_is_of_opens_and_is_not_taken_for_one(tree: Path, tmp_path: Path):
    corpora = tmp_path / "corpora"
    older = prepare(open_source(tree), corpora / "ptb-xl")[0]
    assert open_named("ptb-xl", corpora)[0].root == older.root
    assert open_directory(older.root, "", corpora)[0].root == older.root
    opened, _ = open_directory(tree, "", corpora)
    assert opened.root.is_relative_to(corpora / FROM_DIRECTORIES)
    assert opened.content_hash == older.content_hash


def test_a_tree_that_changed_since_it_was_prepared_is_prepared_anew(tree: Path, tmp_path: Path):
    prepare_as_data_does(tree, tmp_path / "corpora" / "ptb-xl")
    (tree / "records100" / "00000" / "00001_lr.hea").write_text("damaged")
    opened, _ = open_directory(tree, "", tmp_path / "corpora")
    assert opened.root.is_relative_to(tmp_path / "corpora" / FROM_DIRECTORIES)
    assert len(opened) == 239


def test_a_corpus_prepared_otherwise_or_of_other_classes_or_damaged_is_not_taken(tree: Path, tmp_path: Path):
    corpora = tmp_path / "corpora"
    prepare_as_data_does(tree, corpora / "as-published", preparation=PAPER)
    source = open_source(tree)
    source.tasks = {"form": replace(source.tasks["form"], classes={"all of it": source.labels})}
    prepare(source, corpora / "other-classes", prepared_from=identify_tree(tree))
    damaged = prepare_as_data_does(tree, corpora / "damaged").root
    np.save(damaged / "labels.npy", np.zeros(3))
    (corpora / "no-corpus").mkdir()
    (corpora / "no-corpus" / "corpus.json").write_text("{")
    assert open_directory(tree, "", corpora)[0].root.is_relative_to(corpora / FROM_DIRECTORIES)


def test_the_same_files_read_otherwise_are_other_records(trees: dict[str, Path], tmp_path: Path):
    corpora, tree = tmp_path / "corpora", trees["code-test"]
    padded = prepare_as_data_does(tree, corpora / "code-test", "code-test-padded")
    assert open_directory(tree, "", corpora, "code-test-padded")[0].root == padded.root
    assert open_directory(tree, "", corpora)[0].content_hash != padded.content_hash


def test_records_with_other_folds_are_not_taken_for_the_tree_that_they_come_from(tree: Path, tmp_path: Path):
    corpora = tmp_path / "corpora"
    prepared = prepare_as_data_does(tree, tmp_path / "elsewhere")
    data = prepared.task("form")
    divided = write_divided(prepared, data, np.zeros(len(data.rows), np.int64), corpora / "pilot")
    assert open_directory(tree, "", corpora)[0].root != divided.root
    assert "prepared_from" not in divided.manifest


def test_files_that_nobody_may_look_at_stop_nothing(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    header = tree / "records100" / "00000" / "00001_lr.hea"
    whole = identify_tree(tree)

    def refuse(path: Path, *, follow_symlinks: bool = True) -> Any:
        if path == header:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, follow_symlinks=follow_symlinks)

    stat = Path.stat
    monkeypatch.setattr(Path, "stat", refuse)
    assert identify_tree(tree) != whole


def test_what_cannot_be_used_is_said_each_time_that_a_tree_is_opened(tree: Path, tmp_path: Path):
    (tree / "records100" / "00000" / "00001_lr.hea").write_text("damaged")
    said: list[str] = []
    for corpora in (tmp_path / "anew", tmp_path / "anew", tmp_path / "prepared"):
        if corpora.name == "prepared":
            prepare_as_data_does(tree, corpora / "ptb-xl")
        said.clear()
        open_directory(tree, "", corpora, say=said.append)
        assert said[-1] == f"1 of 240 records cannot be used: see ecgadvise data check {tree}"


def test_a_record_that_changes_behind_a_link_makes_the_tree_another(tmp_path: Path, record_writer: Any):
    record_writer(tmp_path / "disk" / "r1", comments=["Dx: 164889003"])
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "2025").symlink_to("../disk")
    before = identify_tree(tmp_path / "ward")
    record_writer(tmp_path / "disk" / "r2", comments=["Dx: 426783006"])
    assert identify_tree(tmp_path / "ward") != before


def test_what_the_system_leaves_in_a_folder_makes_it_no_other_tree(tree: Path):
    before = identify_tree(tree)
    (tree / ".DS_Store").write_bytes(b"left")
    assert identify_tree(tree) == before


def test_a_corpus_is_found_however_the_accents_of_its_name_are_composed(tmp_path: Path):
    prepared_synthetic(tmp_path / "made", 30)
    (tmp_path / "made" / "synthetic").rename(tmp_path / "made" / unicodedata.normalize("NFC", "köln"))
    assert open_named(unicodedata.normalize("NFD", "köln"), tmp_path / "made")[0].root.name == "köln"


def test_a_corpus_of_another_folder_of_the_same_name_is_not_said_to_be_this_one(tree: Path, tmp_path: Path):
    prepare_as_data_does(tree, tmp_path / "corpora" / "ptb-xl")
    with pytest.raises(CorpusError, match="ptb-xl exists already; remove it"):
        prepare_as_data_does(tree, tmp_path / "corpora" / "ptb-xl")
    (tree / "RECORDS").write_text("one more file")
    with pytest.raises(CorpusError, match="exists already and holds other records than these, or these as they were"):
        prepare_as_data_does(tree, tmp_path / "corpora" / "ptb-xl")


def test_a_source_without_a_class_is_not_prepared(tree: Path, tmp_path: Path):
    source = open_source(tree)
    source.tasks = {}
    with pytest.raises(CorpusError, match="ptb-xl has no labels"):
        prepare(source, tmp_path / "corpora" / "ptb-xl")
    assert not (tmp_path / "corpora" / "ptb-xl").exists()


def test_what_a_directory_was_prepared_into_is_found_again_and_nothing_else(tree: Path, tmp_path: Path):
    corpora, other = tmp_path / "corpora", shutil.copytree(tree, tmp_path / "other")
    (other / "note.txt").write_text("another tree")
    made = {open_directory(tree, "", corpora, source)[0].root.parent for source in (None, "ptb-xl")}
    open_directory(other, "", corpora)
    assert set(prepared_into(fingerprint(tree), corpora)) == made
    assert prepared_into("0" * 12, corpora) == []
    assert prepared_into(fingerprint(tree), tmp_path / "nowhere") == []
