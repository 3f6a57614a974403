"""What lies below a folder: linked folders once, loops not at all, and what is not entered named."""

import os
from pathlib import Path

import pytest

from engine.records.folders import copied_from, is_left_over, walk


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root).headers]


def reasons(root: Path) -> dict[str, str]:
    return {one.path.relative_to(root).as_posix(): one.reason for one in walk(root).not_entered}


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


@pytest.mark.parametrize("gone", [FileNotFoundError, PermissionError, OSError])
def test_headers_are_found_beside_a_folder_that_vanishes_meanwhile(tmp_path, monkeypatch, gone):
    for folder in ("here", "vanishing", "with/in"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "record.hea").write_text("")
    scandir = os.scandir

    def scan(folder):
        if Path(folder).name == "vanishing":
            raise gone(22, "gone", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert walk(tmp_path).headers == [tmp_path / "here" / "record.hea", tmp_path / "with" / "in" / "record.hea"]


def test_a_linked_folder_is_entered_wherever_it_lies(tmp_path):
    put(tmp_path / "disk" / "2025" / "b.hea", tmp_path / "ward" / "a.hea")
    (tmp_path / "ward" / "2025").symlink_to(tmp_path / "disk" / "2025")
    (tmp_path / "ward" / "relative").symlink_to("../disk")
    assert names(tmp_path / "ward") == ["2025/b.hea", "a.hea"]


def test_a_root_that_is_a_link_itself_is_entered(tmp_path):
    put(tmp_path / "disk" / "a.hea")
    (tmp_path / "ward").symlink_to("disk")
    assert names(tmp_path / "ward") == ["a.hea"]


def test_each_real_folder_is_entered_once_and_by_its_own_name(tmp_path):
    put(tmp_path / "records" / "2024" / "r.hea")
    (tmp_path / "a-latest").symlink_to("records/2024")
    (tmp_path / "z-latest").symlink_to("records")
    (tmp_path / "records" / "2024" / "again").symlink_to(tmp_path / "records")
    assert names(tmp_path) == ["records/2024/r.hea"]
    assert reasons(tmp_path) == {}


def test_two_links_to_one_folder_outside_give_its_records_once(tmp_path):
    put(tmp_path / "disk" / "in" / "r.hea")
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "one").symlink_to(tmp_path / "disk")
    (tmp_path / "ward" / "two").symlink_to(tmp_path / "disk" / "in")
    assert names(tmp_path / "ward") == ["one/in/r.hea"]


def test_links_that_lead_back_end_and_are_named(tmp_path):
    put(tmp_path / "ward" / "deep" / "r.hea", tmp_path / "other" / "s.hea")
    (tmp_path / "ward" / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "ward" / "self").symlink_to(".")
    assert names(tmp_path / "ward") == ["deep/r.hea"]
    assert reasons(tmp_path / "ward") == {"deep/up": "it is a link to a folder that holds this one"}
    assert walk(tmp_path / "ward").sentences == ("not entered: deep/up: it is a link to a folder that holds this one",)


def test_many_links_to_nothing_are_one_sentence(tmp_path):
    for k in range(300):
        (tmp_path / f"l{k:03}").symlink_to("unmounted")
    (tmp_path / "s").symlink_to("s")
    (together, alone) = walk(tmp_path).sentences
    assert together == (
        "not entered: 300 folders or links, all for one reason (l000, l001, l002, l003, l004 and 295 more): "
        "it is a link to nothing"
    )
    assert alone.startswith("not entered: s: ")


def test_links_to_nothing_are_named_and_a_header_among_them_is_listed(tmp_path):
    (tmp_path / "2025").symlink_to("unmounted")
    (tmp_path / "r.hea").symlink_to("unmounted.hea")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert names(tmp_path) == ["r.hea"]
    found = reasons(tmp_path)
    assert found.pop("2025") == "it is a link to nothing"
    assert set(found) == {"one", "two"}


def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    put(tmp_path / "a.hea", tmp_path / "closed" / "b.hea")
    scandir = os.scandir

    def scan(folder):
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert names(tmp_path) == ["a.hea"]
    assert reasons(tmp_path) == {"closed": "Permission denied"}


def test_what_systems_leave_in_folders_is_passed_over(tmp_path):
    left = ("._r1.hea", ".DS_Store", "Thumbs.db", "desktop.ini", "~$labels.xlsx", "~$r1.hea", ".~lock.labels.csv#")
    put(tmp_path / "r1.hea", tmp_path / "__MACOSX" / "r1.hea", tmp_path / "$RECYCLE.BIN" / "old.hea")
    put(*(tmp_path / name for name in left), tmp_path / "r1.hea~", tmp_path / "r1.hea.bak")
    assert names(tmp_path) == ["r1.hea"]
    assert all(is_left_over(name) for name in left)
    assert not any(is_left_over(name) for name in ("r1.hea", "labels.csv", "_r1.hea", "~r1.hea"))


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("r0001 (1)", "r0001"), ("Copy of r0001", "r0001"), ("Copy (2) of r0001", "r0001"), ("r0001 - Copy", "r0001"),
        ("r0001 - Copy (3)", "r0001"), ("r0001 copy 2", "r0001"), ("r0001 - Kopie", "r0001"), ("r0001", None),
        ("copy", None), ("r 1", None), ("(1)", None), ("ward (1) r1", None),
    ],
)  # fmt: skip
def test_the_names_that_copies_get_are_known(name, original):
    assert copied_from(name) == original
