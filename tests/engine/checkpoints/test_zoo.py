"""Pre-trained networks by name: those that ship keep their names, a user's come and go, a damaged one stops none."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.checkpoints.zoo import (
    NetworkNameError,
    UnknownCheckpointError,
    add_network,
    check_name,
    find_checkpoint,
    known_networks,
    released,
    remove_network,
    suiting,
)
from engine.checkpoints.zoo_folders import ZOO, default_zoo, folders_in
from engine.files import InUseError
from engine.records.contract import SignalContract
from engine.records.lead_names import LEADS

SHIPPED = sorted(folders_in(ZOO))
Writer = Callable[..., Path]


@pytest.fixture
def zoo(tmp_path: Path, checkpoint_writer: Writer) -> Path:
    """A user's folder with one network."""
    checkpoint_writer(tmp_path / "zoo" / "theirs", "resnet1d18-w16", n_records=10**9)
    return tmp_path / "zoo"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_users_folder_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ECGADVISE_ZOO", str(tmp_path))
    assert default_zoo() == tmp_path
    monkeypatch.setenv("ECGADVISE_ZOO", "")
    assert default_zoo().parts[-2:] == ("ecgadvise", "zoo")


def test_networks_are_those_that_ship_and_then_the_users(zoo: Path, tmp_path: Path):
    assert list(released(zoo)) == [*SHIPPED, "theirs"]
    assert [one.origin for one in known_networks(zoo).values()] == ["released"] * len(SHIPPED) + ["added"]
    assert list(released(tmp_path / "nowhere")) == SHIPPED
    (tmp_path / "file").write_text("")
    assert list(released(tmp_path / "file")) == SHIPPED
    assert find_checkpoint("theirs", zoo) == zoo / "theirs"
    with pytest.raises(UnknownCheckpointError, match=r"released networks: gru-w32-ptbxl, .*; added: theirs\)$"):
        find_checkpoint("mine", zoo)


def test_what_ships_keeps_its_name_and_comes_first(zoo: Path, checkpoint_writer: Writer):
    checkpoint_writer(zoo / "resnet1d18-w16-ptbxl", "resnet1d18-w4")
    assert find_checkpoint("resnet1d18-w16-ptbxl", zoo) == ZOO / "resnet1d18-w16-ptbxl"
    signal = SignalContract(LEADS, 100.0, 1000)
    assert list(suiting("resnet1d18-w16", signal, zoo)) == ["resnet1d18-w16-ptbxl", "theirs"]


def test_a_damaged_network_is_listed_and_is_no_candidate(zoo: Path):
    (zoo / "theirs" / "checkpoint.json").write_text("{")
    (zoo / "other").mkdir()
    (zoo / ".hidden").mkdir()
    (zoo / ".hidden" / "checkpoint.json").write_text("{")
    assert list(released(zoo)) == [*SHIPPED, "theirs"]
    assert list(suiting("resnet1d18-w16", SignalContract(LEADS, 100.0, 1000), zoo)) == ["resnet1d18-w16-ptbxl"]


@pytest.mark.parametrize("name", ["../up", "", ".a", "-a", "a b", "A", "a/b", "a" * 81, "é", "a\n"])
def test_a_name_is_of_small_letters_digits_dots_and_hyphens(name: str, zoo: Path):
    with pytest.raises(NetworkNameError, match="is not a name for a network"):
        check_name(name, zoo)


def test_a_name_is_taken_once(zoo: Path):
    (zoo / "notes").mkdir()
    check_name("new-1.0", zoo)
    check_name("theirs", zoo, force=True)
    for name, force, says in (
        ("theirs", False, "is there already .*--force replaces it"),
        (SHIPPED[0], False, "ships with ecgadvise"),
        (SHIPPED[0], True, "ships with ecgadvise"),
        ("notes", True, "is there and is no network"),
    ):
        with pytest.raises(NetworkNameError, match=says):
            check_name(name, zoo, force=force)


def test_a_network_is_there_whole_or_not_at_all(zoo: Path, checkpoint_writer: Writer):
    before = (zoo / "theirs" / "weights.safetensors").read_bytes()

    def fail(folder: Path) -> None:
        (folder / "checkpoint.json").write_text("{")
        raise KeyboardInterrupt

    for name, force in (("new", False), ("theirs", True)):
        with pytest.raises(KeyboardInterrupt):
            add_network(name, zoo, fail, force=force)
    assert names_in(zoo) == ["theirs"]
    assert (zoo / "theirs" / "weights.safetensors").read_bytes() == before
    target = add_network("new", zoo, lambda folder: checkpoint_writer(folder) and None)
    assert target == zoo / "new"
    assert names_in(zoo) == ["new", "theirs"]


def test_two_who_add_one_name_do_not_mix(zoo: Path):
    began, end, refused = threading.Event(), threading.Event(), []

    def write(folder: Path) -> None:
        began.set()
        assert end.wait(60)
        (folder / "checkpoint.json").write_text("{}")

    first = threading.Thread(target=add_network, args=("new", zoo, write))
    first.start()
    assert began.wait(60)
    try:
        add_network("new", zoo, write)
    except InUseError as error:
        refused.append(error)
    end.set()
    first.join()
    assert len(refused) == 1
    with pytest.raises(NetworkNameError, match="is there already"):
        add_network("new", zoo, write)


def test_added_networks_alone_are_removed(zoo: Path, tmp_path: Path, checkpoint_writer: Writer):
    checkpoint_writer(tmp_path / "elsewhere")
    (zoo / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("theirs", "linked"):
        assert remove_network(name, zoo) == zoo / name
    assert names_in(zoo) == []
    assert (tmp_path / "elsewhere" / "checkpoint.json").exists()
    with pytest.raises(NetworkNameError, match="was not added by you and stays"):
        remove_network(SHIPPED[0], zoo)
    with pytest.raises(UnknownCheckpointError, match="no network is named theirs"):
        remove_network("theirs", zoo)
