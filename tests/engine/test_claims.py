"""One process at a time writes a folder, and a claim ends with the process that has it."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.files import InUseError, claimed

CRASHES = """
import os, sys
from pathlib import Path
from engine.files import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    sys.stdin.read()
    os._exit(1)
"""


def test_a_folder_is_one_process_s_until_the_block_ends(tmp_path: Path):
    target = tmp_path / "new" / "out"
    with claimed(target), pytest.raises(InUseError, match="out is being written by another ecgadvise"), claimed(target):
        raise AssertionError("two have it")
    with claimed(target), claimed(tmp_path / "new" / "other"):
        pass
    assert not list((tmp_path / "new").iterdir())


def test_a_claim_ends_with_an_error_in_the_block(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "out"):
        raise KeyboardInterrupt
    with claimed(tmp_path / "out"):
        pass


def test_a_process_that_crashes_leaves_a_file_and_no_claim(tmp_path: Path):
    command = [sys.executable, "-c", CRASHES, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(InUseError), claimed(tmp_path / "out"):
            raise AssertionError("two have it")
        other.communicate("")
    assert other.returncode == 1
    assert (tmp_path / ".out.lock").exists()
    with claimed(tmp_path / "out"):
        pass


def test_a_claim_on_a_file_that_has_gone_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def lock_late(_handle: int) -> bool:
        (tmp_path / ".out.lock").unlink()  # by the process that had it until now
        return True

    monkeypatch.setattr("engine.files.lock", lock_late)
    with pytest.raises(InUseError), claimed(tmp_path / "out"):
        raise AssertionError("another may have made the file anew")
