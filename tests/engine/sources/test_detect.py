"""Which tree is told by which files, and what is said about a folder that is none."""

import os

import pytest

from engine.corpora.corpus import Corpus, prepare
from engine.corpora.survey import survey
from engine.sources import SourceError
from engine.sources.detect import open_source, source_names
from engine.sources.own_directory import Directory


@pytest.mark.parametrize(
    "name",
    ["ptb-xl", "ludb", "ptb", "challenge-2017", "code-test", "brugada-huca", "challenge-2011", "challenge-2015",
     "chagas-2025"],
)  # fmt: skip
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


LVH, AF, NORM = "164873001", "164889003", "426783006"


def numbered(root, record_writer, name, codes, *, matlab=True, fs="500", **options):
    """A folder of records that are numbered as a set's are; ``codes`` are those of one after another."""
    letters, digits = name.rstrip("0"), len(name) - len(name.rstrip("0"))
    for k, code in enumerate(codes, start=1):
        comments = [f"Age: {40 + k}", "Sex: Male", f"Dx: {code}"]
        record_writer(root / f"{letters}{k:0{digits}d}", fs=fs, comments=comments, matlab=matlab, **options)
    return root


SETS = [("A0000", "cpsc2018", "500"), ("Q0000", "cpsc-extra", "500"), ("E00000", "georgia", "500"),
        ("S0000", "ptb", "1000"), ("JS00000", "chapman", "500"), ("I0000", "st-petersburg", "257"),
        ("HR00000", "ptb-xl-hr", "500")]  # fmt: skip


@pytest.mark.parametrize(("names", "name", "fs"), SETS)
def test_a_wards_own_records_that_are_numbered_like_a_sets_keep_all_their_labels(
    tmp_path, record_writer, names, name, fs
):
    root = numbered(tmp_path / "ward", record_writer, names, [LVH, AF, LVH, NORM], matlab=False, fs=fs)
    source = open_source(root)
    assert (source.name, source.licence) == ("ward", "the owner's")
    assert survey(source).classes == {"LVH": 2, "AF": 1, "NSR": 1}
    assert f"named as {name}, but not in its form" in source.inferred[0]
    assert f"--source {name} reads them as that" in source.inferred[0]


@pytest.mark.parametrize(("names", "name", "fs"), SETS)
def test_a_small_part_of_a_published_set_is_told_by_its_folder_and_can_be_used(
    tmp_path, record_writer, synthetic_ecg, names, name, fs
):
    root = tmp_path / name / "g1"
    samples = synthetic_ecg(10, float(fs))
    numbered(root, record_writer, names, [AF, NORM, AF, NORM], fs=fs, samples=samples)
    source = open_source(root)
    assert (source.name, source.version) == (name, "1.0.3")
    assert f"taken for {name} by the names of its folder and records; --source directory reads it" in source.inferred[0]
    assert any(task.classes for task in source.tasks.values())
    assert survey(source, "all").classes == {"AF": 2, "NSR": 2}


@pytest.mark.parametrize(
    "folder", ["cpsc_2018/g1", "WFDB_CPSC2018", "Training_WFDB", "cpsc2018", "cpsc_2018/g1/../../cpsc_2018"]
)
def test_folders_as_the_publisher_calls_them_are_recognised(tmp_path, record_writer, folder):
    (tmp_path / "cpsc_2018" / "g1").mkdir(parents=True)
    root = numbered(tmp_path / folder, record_writer, "A0000", [AF])
    assert open_source(root).name == "cpsc2018"


@pytest.mark.parametrize(
    ("codes", "options", "says"),
    [
        ([AF, LVH], {}, r"A0002: it has LVH 164873001, which is no code of the set"),
        ([AF, NORM], {"fs": "250"}, "A0001: it is at 250 Hz, the set at 500 Hz"),
    ],
)
def test_what_no_published_record_has_makes_them_ones_own_or_has_to_be_said(
    tmp_path, record_writer, codes, options, says
):
    root = numbered(tmp_path / "cpsc_2018", record_writer, "A0000", codes, **options)
    if "fs" in options:
        assert says in open_source(root).inferred[0]
        assert open_source(root).name == "cpsc-2018"
        return
    with pytest.raises(SourceError, match=f"{says}.*--source cpsc2018 or --source directory"):
        open_source(root)


def test_records_in_a_sets_form_in_another_folder_have_to_be_named(tmp_path, record_writer):
    root = numbered(tmp_path / "ward", record_writer, "E00000", [AF, NORM])
    with pytest.raises(SourceError, match="say which with --source georgia or --source directory"):
        open_source(root)
    assert open_source(root, "georgia").name == "georgia"
    assert open_source(root, "directory").name == "ward"


def test_a_number_beyond_the_sets_last_is_no_record_of_it(tmp_path, record_writer):
    record_writer(tmp_path / "georgia" / "E10345", comments=[f"Dx: {AF}"], matlab=True)
    assert open_source(tmp_path / "georgia").licence == "the owner's"


def test_codes_that_the_first_task_lacks_are_said(tmp_path, record_writer):
    root = numbered(tmp_path / "georgia", record_writer, "E00000", [AF, LVH, LVH])
    assert "codes that are no class of task paper (see task all): LVH (2)" in open_source(root).inferred


def test_a_copy_next_to_a_published_record_is_left_out_and_said(tmp_path, record_writer):
    root = numbered(tmp_path / "georgia", record_writer, "E00000", [AF, NORM])
    (root / "E00001 (1).hea").write_bytes((root / "E00001.hea").read_bytes())
    source = open_source(root)
    assert [entry.record_id for entry in source.entries()] == ["E00001", "E00002"]
    assert "left out, as of no set of the Challenge: E00001 (1)" in source.inferred


def test_a_copy_next_to_a_record_of_ones_own_is_no_second_patient(tmp_path, record_writer):
    root = numbered(tmp_path / "ward", record_writer, "r0000", [AF, NORM], matlab=False)
    (root / "r0001 (1).hea").write_bytes((root / "r0001.hea").read_bytes())
    found = survey(open_source(root))
    assert (found.records, found.unusable) == (3, 1)
    assert [one.problem for one in found.problems if not one.usable] == ["named as a copy of r0001, which is there too"]


def test_a_wards_own_patient_folders_are_not_taken_for_ptb(tmp_path, record_writer):
    for k in range(3):
        record_writer(tmp_path / f"patient{k:03d}" / "ecg1", comments=[f"Dx: {(AF, NORM)[k % 2]}"])
    source = open_source(tmp_path)
    assert source.licence == "the owner's"
    assert survey(source).classes == {"AF": 2, "NSR": 1}


def test_a_small_part_of_ludb_has_all_its_statements(tmp_path, record_writer):
    for k in (1, 2):
        record_writer(tmp_path / "data" / str(k))
    (tmp_path / "ludb.csv").write_text("ID,Sex,Age,Rhythms\n1,F,50,Sinus rhythm\n2,M,60,Atrial fibrillation\n")
    assert survey(open_source(tmp_path)).classes == {"Atrial fibrillation": 1, "Sinus rhythm": 1}


def test_what_is_prepared_can_be_opened_and_what_has_no_class_is_refused(tmp_path, record_writer):
    root = numbered(tmp_path / "chapman", record_writer, "JS00000", [AF, NORM, LVH])
    corpus, _ = prepare(open_source(root), tmp_path / "corpora" / "chapman")
    assert Corpus(corpus.root).task("").labels.sum(axis=0).tolist() == [1, 1, 1]
    none = numbered(tmp_path / "none" / "chapman", record_writer, "JS00000", ["Unknown"] * 3)
    with pytest.raises(SourceError, match="has no labels"):
        open_source(none)


def test_linked_folders_are_read_and_the_others_named(tmp_path, record_writer):
    numbered(tmp_path / "disk", record_writer, "r0000", [AF, NORM], matlab=False)
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "2025").symlink_to("../disk")
    (tmp_path / "ward" / "2026").symlink_to("../unmounted")
    source = open_source(tmp_path / "ward")
    assert [entry.record_id for entry in source.entries()] == ["2025/r0001", "2025/r0002"]
    assert "not entered: 2026: it is a link to nothing" in source.inferred
    (tmp_path / "ward" / "2025").unlink()
    with pytest.raises(SourceError, match="2026: it is a link to nothing"):
        open_source(tmp_path / "ward")


def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(tmp_path, record_writer):
    numbered(tmp_path, record_writer, "r0000", [AF, NORM], matlab=False)
    os.mkfifo(tmp_path / "labels.csv")
    for name in (None, "directory"):
        with pytest.raises(SourceError, match=r"labels\.csv is not a file"):
            open_source(tmp_path, name)
    os.mkfifo(tmp_path / "ludb.csv")
    os.mkfifo(tmp_path / "REFERENCE-v3.csv")
    for name in ("ludb", "challenge-2017"):
        with pytest.raises(SourceError, match="is not a file"):
            open_source(tmp_path, name)


def test_the_table_that_excel_has_open_is_no_second_table(tmp_path, record_writer):
    numbered(tmp_path, record_writer, "r0000", [AF, NORM], matlab=False)
    (tmp_path / "labels.csv").write_text("record,AF\nr0001,1\nr0002,0\n")
    for name in ("._labels.csv", "~$labels.csv", ".~lock.labels.csv#"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert survey(open_source(tmp_path)).classes == {"AF": 1}


def test_a_publishers_table_of_codes_next_to_its_records_is_no_table_of_ones_own(tmp_path, record_writer):
    numbered(tmp_path / "WFDBRecords" / "01" / "010", record_writer, "JS00000", [AF, NORM])
    (tmp_path / "ConditionNames_SNOMED-CT.csv").write_text("Acronym Name,Full Name,Snomed_CT\nAF,x,164889003\n")
    assert open_source(tmp_path).name == "chapman"
