"""From a name or a directory to a corpus: what is not prepared is prepared once, and again when it has changed."""

import shutil
from pathlib import Path

import pytest

from engine.corpora.corpus import Corpus, CorpusError
from engine.corpora.opening import FROM_DIRECTORIES, open_directory, open_named
from engine.corpora.synthetic import prepared_synthetic
from engine.sources import SourceError, UnknownNameError


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
    for root, says in (("empty", "holds no ECG records"), ("nowhere", "is no directory")):
        with pytest.raises(SourceError, match=says):
            open_directory(tmp_path / root, "", tmp_path / "corpora")


def test_a_link_to_nowhere_stops_nothing(tree: Path, tmp_path: Path):
    (tree / "link").symlink_to(tmp_path / "gone")
    assert len(open_directory(tree, "", tmp_path / "corpora")[0]) == 240
