"""Which tree is told by which files, and what is said about a folder that is none."""

import pytest

from engine.sources import SourceError
from engine.sources.detect import open_source, source_names
from engine.sources.own_directory import Directory


@pytest.mark.parametrize("name", ["ptb-xl", "ludb", "ptb", "challenge-2017", "code-test"])
def test_a_publishers_tree_is_recognised_by_its_files(trees, name):
    assert open_source(trees[name]).name == name
    assert open_source(trees[name], name).name == name


def test_a_tree_of_one_challenge_set_is_recognised_and_of_several_has_to_be_named(trees):
    assert open_source(trees["challenge"] / "cpsc_2018").name == "cpsc2018"
    assert open_source(trees["challenge"], "ptb").entries()[0].record_id == "S0001"
    with pytest.raises(
        SourceError,
        match="holds cpsc2018, georgia, ptb, chapman: say which with --source cpsc2018 or --source georgia or",
    ):
        open_source(trees["challenge"])
    assert isinstance(open_source(trees["challenge"], "directory"), Directory)


def test_what_is_no_tree_is_refused_with_what_was_looked_for(tmp_path, trees):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(SourceError, match=r"ptbxl_database.csv.*REFERENCE-v3.csv.*ludb.csv"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="is not a directory"):
        open_source(tmp_path / "missing")
    with pytest.raises(SourceError, match="no set is named mitdb"):
        open_source(tmp_path, "mitdb")
    with pytest.raises(SourceError, match="point at that folder"):
        open_source(trees["ludb"].parent)
    for name in source_names():
        with pytest.raises(SourceError) as caught:
            open_source(tmp_path, name)
        assert "\n" not in str(caught.value)


def test_two_publishers_in_one_folder_are_refused(tmp_path):
    (tmp_path / "ludb.csv").write_text("ID,Sex,Age\n")
    (tmp_path / "REFERENCE-v3.csv").write_text("")
    with pytest.raises(
        SourceError, match="could be challenge-2017 or ludb: say which with --source challenge-2017 or --source ludb"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "file, content",
    [
        ("ludb.csv", b"\xff\xfe\x00bad"),
        ("ludb.csv", b"ID,Sex,Age\n,F,5\n"),
        ("ludb.csv", b"a,b\n1,2\n"),
        ("REFERENCE-v3.csv", b"A00001\n"),
        ("REFERENCE-v3.csv", b"\xff\xff"),
        ("ptbxl_database.csv", b"ecg_id\n1\n"),
    ],
)
def test_a_malformed_table_is_one_sentence(tmp_path, file, content):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path).entries()
    assert file in str(caught.value)
