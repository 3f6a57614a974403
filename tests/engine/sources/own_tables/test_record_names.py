"""Which record a cell names: paths of every form, and never one that could be another."""

import unicodedata
from pathlib import Path

import pytest

from engine.sources.own_tables.record_names import RecordNames


def names_of(root, *records):
    for record in records:
        (root / record).parent.mkdir(parents=True, exist_ok=True)
    return RecordNames(root, {record: Path(root / record) for record in records})


@pytest.mark.parametrize(
    "cell",
    ["ward/r1", "ward/r1.hea", "ward/r1.DAT", "./ward/r1.mat", "ward\\r1.dat", "ward//r1", "r1", "R1.HEA", "WARD/R1",
     "r1\u200b", "{root}/ward/r1.hea", "{root}/ward/r1", "{folder}/ward/r1", "{folder}\\ward\\r1.hea",
     "../{folder}/ward/r1", "D:\\ECG\\export\\ward\\r1.dat", "/nowhere/else/ward/r1.hea", "D:\\ECG\\r1.dat",
     "file:///C:/ECG/ward/r1.hea"],
)  # fmt: skip
def test_a_path_of_any_form_names_its_record(tmp_path, cell):
    root = tmp_path / "data"
    names = names_of(root, "r0", "ward/r1", "ward/r2")
    assert names.locate([cell.format(root=root, folder=root.name)]).records == ("ward/r1",)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "name", ["K\u00f6ln/\u00c5se", "\u5fc3\u7535\u56fe", "\u0642\u0644\u0628", "\u2764\ufe0f\u200d\U0001f525"]
)
def test_names_of_any_script_and_composition_are_found(tmp_path, on_disk, name):
    record = unicodedata.normalize(on_disk, name)
    names = names_of(tmp_path, record, "other")
    for form in ("NFC", "NFD"):
        assert names.locate([unicodedata.normalize(form, name) + ".hea"]).records == (record,)


def test_a_link_to_the_directory_is_the_directory(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    names = names_of(tmp_path / "link", "r1")
    assert names.locate([f"{tmp_path}/link/r1", f"{tmp_path}/real/r1.hea"]).records == ("r1", "r1")


@pytest.mark.parametrize("cell", ["", "r", "r1.xml", "other/", "r01", "r1.0", "1", "/", "\\", "..", "a\x00/r9"])
def test_other_cells_name_nothing(tmp_path, cell):
    assert names_of(tmp_path, "ward/r1", "r11").locate([cell]).records == (None,)


def test_a_name_in_two_folders_or_two_cases_names_none(tmp_path):
    names = names_of(tmp_path, "a/r1", "b/r1", "c/X", "c/x")
    assert names.locate(["r1", "D:\\r1", "C/x", "c/X", "a/r1"]).records == (None, None, None, "c/X", "a/r1")
    assert names_of(tmp_path, "q/Ab", "q/aB").locate(["q/ab"]).records == (None,)


def test_the_end_of_a_path_counts_only_where_folders_correspond(tmp_path):
    root = tmp_path / "data"
    names = names_of(root, "b/1", "b/2", "b/3")
    (root / "empty").mkdir()
    assert names.locate(["empty/1"]).records == (None,)
    moved = names.locate(["export/1.hea", "export/2.hea"])
    assert moved.records == ("b/1", "b/2")
    assert moved.remark == "2 rows name their records by the end of a path, such as b/1"
    assert names.locate(["a/1", "b/2"]).records == (None, "b/2")  # another site's record of the same number
    assert names.locate(["a/1", "c/2"]).records == (None, None)


def test_a_path_to_another_folder_of_this_machine_names_none(tmp_path):
    root = tmp_path / "here"
    names = names_of(root, "1")
    (tmp_path / "there").mkdir()
    assert names.locate([f"{tmp_path}/there/1.hea"]).records == (None,)
    assert names.locate(["../there/1"]).records == (None,)
    assert names.locate(["there/1"]).records == (None,)
    assert names.locate(["gone/1"]).records == ("1",)


def test_cells_that_nearly_name_a_record_are_counted_not_taken(tmp_path):
    names = names_of(tmp_path, "51", "52")
    assert names.locate(["00051", "52.0"]).records == (None, None)
    assert names.nearly(["00051", "52.0", "7"]) == 2
    assert names.examples() == "51, 52"
