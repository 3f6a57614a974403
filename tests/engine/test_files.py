"""Files appear whole or not at all, and what is there and is not a file is left what it is."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from engine.files import check_files, is_begun, recover, sync, sync_open, sync_tree, write_files, written_whole


def test_files_appear_with_the_folders_they_need(tmp_path):
    write_files({tmp_path / "a" / "one": b"1", tmp_path / "a" / "two": b"2"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {"one": b"1", "two": b"2"}


def test_none_of_the_files_appears_where_one_cannot(tmp_path):
    (tmp_path / "two").mkdir()
    with pytest.raises(IsADirectoryError):
        write_files({tmp_path / "one": b"1", tmp_path / "two": b"2", tmp_path / "three": b"3"})
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_files({pipe: b"predictions"})
    reader.join(timeout=10)
    assert read == [b"predictions"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
def test_a_full_device_raises_and_stays_a_device():
    full = Path("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_files({full: b"predictions"})
    assert full.is_char_device()


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_files({tmp_path / "link": b"new"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "says"),
    [("folder", "Is a directory"), ("file/x", "is not a folder"), ("x" * 300, "too long"), ("new/deep", None)],
)
def test_what_cannot_be_written_is_found_out_early_and_leaves_nothing(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    if says is None:
        check_files([tmp_path / name])
    else:
        with pytest.raises(OSError, match=says):
            check_files([tmp_path / "fine", tmp_path / name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", ["there", "new", "link"])
def test_a_folder_that_may_not_be_written_to_is_found_out_early_also_for_a_file_that_is_there(
    tmp_path, monkeypatch, name
):
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "there").write_text("old")
    (tmp_path / "link").symlink_to(locked / "there")
    monkeypatch.setattr(os, "access", lambda folder, _mode: Path(folder) != locked)
    with pytest.raises(PermissionError, match="may write to"):
        check_files([tmp_path / name if name == "link" else locked / name])


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_replaced_keeps_its_name_and_what_is_in_it(tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    with written_whole(out) as folder:
        (folder / "file").write_text("old")
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if (path / "file").read_text() == "new":
            raise error
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(type(error)), written_whole(out) as folder:
        (folder / "file").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "file").read_text() == "old"


def test_the_old_folder_is_kept_where_it_does_not_get_its_name_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with written_whole(out) as folder:
        (folder / "file").write_text("old")
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if path != out:
            raise OSError("the disk has gone")
        return rename(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="the disk has gone"), written_whole(out) as folder:
            (folder / "file").write_text("new")
    recover(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "file").read_text() == "old"


@pytest.mark.parametrize("called", ["out", "out[1]"])
def test_what_a_killed_process_moved_away_gets_its_name_back_and_what_it_left_unfinished_goes(tmp_path, called):
    """Killed between the two renames of ``written_whole``."""
    out = tmp_path / called
    others = [f".{called}.kept", ".other.0a1b2c3d"]
    for name in others:
        (tmp_path / name).mkdir()
    assert not is_begun(out)
    for name in (f".{called}.0a1b2c3d.old", f".{called}.0a1b2c3d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        assert is_begun(out)
    recover(out)
    assert (out / "file").read_text() == f".{called}.0a1b2c3d.old"
    assert {path.name for path in tmp_path.iterdir()} == {*others, called}
    assert is_begun(out)
    assert not is_begun(tmp_path / "no" / "deeper")


def test_a_folder_that_is_there_is_not_replaced_by_an_older_one(tmp_path):
    for name in ("out", ".out.0a1b2c3d.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    recover(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "out"


@pytest.fixture
def events(monkeypatch) -> list[tuple[str, str]]:
    """What is told to the disk, and what takes or loses its name, in the order of it, by name."""
    seen: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def note_sync(handle: int) -> None:
        fsync(handle)
        seen.append(("synced", Path(f"/proc/self/fd/{handle}").readlink().name))

    def note(change):
        def changed(path: Path, to: Path) -> Path:
            seen.append(("named", to.name))
            return change(path, to)

        return changed

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note(rename))
    monkeypatch.setattr(Path, "replace", note(replace))
    return seen


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not listed here")


@needs_proc
def test_a_folder_is_on_the_disk_before_it_takes_its_name_and_the_name_before_the_old_one_goes(
    tmp_path, events, monkeypatch
):
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: events.append(("removed", path.suffix)))
    with written_whole(out) as folder:
        (folder / "deep").mkdir()
        for name in ("one", "deep/two"):
            (folder / name).write_text(name)
    kinds = [kind for kind, _ in events]
    before = {name for _, name in events[: kinds.index("named")]}
    assert before == {"one", "two", "deep", folder.name}
    assert events[len(before) :][:3] == [("named", f"{folder.name}.old"), ("named", "out"), ("synced", tmp_path.name)]
    assert kinds[len(before) + 3 :] == ["removed"] * 2


@needs_proc
def test_files_are_on_the_disk_before_they_take_their_names(tmp_path, events):
    write_files({tmp_path / "one": b"1", tmp_path / "two": b"2"})
    assert [kind for kind, _ in events] == ["synced", "synced", "named", "named", "synced"]
    assert events[2:] == [("named", "two"), ("named", "one"), ("synced", tmp_path.name)]


def test_only_files_and_folders_are_synced_and_what_links_lead_to_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "in" / "pipe")  # to open it would be to wait for a writer
    sync_tree(tmp_path / "in")


@pytest.mark.parametrize("refuses", [errno.EINVAL, errno.EIO])
def test_a_file_system_without_it_syncs_nothing_and_a_broken_disk_is_an_error(tmp_path, monkeypatch, refuses):
    def refuse(_handle: int) -> None:
        raise OSError(refuses, os.strerror(refuses))

    monkeypatch.setattr(os, "fsync", refuse)
    if refuses == errno.EINVAL:
        sync(tmp_path)
        sync_open(0)
        return
    with pytest.raises(OSError, match="Input/output error"):
        sync_open(0)
    with pytest.raises(OSError, match="Input/output error"), written_whole(tmp_path / "out") as folder:
        (folder / "file").write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_be_written_to_and_not_listed_takes_files_and_a_file_that_cannot_be_opened_is_an_error(
    tmp_path, monkeypatch
):
    opened = os.open

    def refuse(path, *rest, **more):
        if Path(path) in (tmp_path, tmp_path / "locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *rest, **more)

    (tmp_path / "locked").write_bytes(b"")
    monkeypatch.setattr(os, "open", refuse)
    write_files({tmp_path / "one": b"1"})
    assert (tmp_path / "one").read_bytes() == b"1"
    with pytest.raises(PermissionError):
        sync(tmp_path / "locked")
