"""Whether ``benchmarks/fuzz_formats.py`` would see what it looks for, on a few copies of a small recording."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import fuzz_formats
from tests.engine.records.formats.writers_scp import scp_bytes

ROOT = Path(__file__).parents[1]
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE r SYSTEM "r.dtd">\n<r a="1">\n<s>12 13</s>\n<s/>\n</r>\n'


@pytest.fixture
def folder(tmp_path):
    signals = np.cumsum(np.random.default_rng(0).integers(-9, 10, (2, 400)), axis=1)
    (tmp_path / "ward").mkdir()
    (tmp_path / "ward" / "a.scp").write_bytes(scp_bytes(signals, ["I", "II"], patient="4711"))
    (tmp_path / "notes.txt").write_text("no recording")
    return tmp_path


def run(folder, opener="", *arguments):
    """In a process of its own, since it forks; ``opener`` is Python that may use ``open_copy``."""
    code = (
        "import sys, time, os, dataclasses\nfrom tests.benchmarks import fuzz_formats as fuzz\n"
        "open_copy = fuzz.open_copy\n"
        f"{opener}\nsys.exit(fuzz.main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(folder), "--number", "40", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def counts(finished, row="ward"):
    line = next(line for line in finished.stdout.splitlines() if line.startswith(f"{row}  "))
    names = ["refused", "equal", "person", "noted", "silent", "exception", "hang"]
    return dict(zip(names, map(int, line[len(row) :].replace(",", "").split()[:7]), strict=True))


def test_a_sound_reader_refuses_or_reads_and_the_exit_code_is_0(folder):
    finished = run(folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "notes.txt is not read: a table of samples needs a signals.toml" in finished.stdout
    seen = counts(finished)
    assert sum(seen.values()) == 40
    assert seen["refused"] > 20
    assert seen["silent"] == seen["person"] == seen["exception"] == seen["hang"] == 0
    assert sum(counts(finished, "ward, repaired").values()) == 40


@pytest.mark.parametrize(
    ("does", "outcome", "says"),
    [
        ("raise KeyError('x')", "exception", "KeyError"),
        ("os._exit(7)", "exception", "died: exit code 7"),
        ("bytearray(1 << 40)", "exception", "MemoryError"),
        ("time.sleep(60)", "hang", "hang"),
        ("return original", "equal", ""),
        ("return dataclasses.replace(original, fs=250.0)", "silent", ""),
        ("return dataclasses.replace(original, fs=250.0, notes=('odd',))", "noted", ""),
        ("return dataclasses.replace(original, recorded=time.time())", "person", ""),
    ],
)
def test_what_a_reader_does_to_a_copy_is_counted(folder, does, outcome, says):
    opener = (
        "def opened(path):\n"
        "    if 'fuzz-' not in str(path):\n        return open_copy(path)\n"
        f"    original = open_copy(sys.argv[1] + '/ward/a.scp')\n    {does}\n"
        "fuzz.open_copy = opened\nfuzz.REPAIRS.clear()"
    ).replace("sys.argv[1] + '/ward/a.scp'", "fuzz.Path(sys.argv[1], 'ward', 'a.scp')")
    number = ("--number", "2", "--limit", "1.0")
    finished = run(folder, opener, *number)
    assert counts(finished) == {**dict.fromkeys(counts(finished), 0), outcome: 2}, finished.stdout + finished.stderr
    assert finished.returncode == (1 if outcome in ("exception", "hang") else 0)
    assert says in finished.stdout
    if says:
        assert "a.scp copy 1: " in finished.stdout


def test_no_file_to_copy_is_a_failure(tmp_path):
    assert run(tmp_path).returncode == 1


def test_a_seed_makes_the_same_copies_again_and_none_is_the_original():
    made = [fuzz_formats.make_copy(XML, random.Random(k)) for k in range(300)]
    assert made[:50] == [fuzz_formats.make_copy(XML, random.Random(k)) for k in range(50)]
    assert XML not in [copy for copy, _done in made]
    assert len({copy for copy, _done in made}) > 250


@pytest.mark.parametrize("content", [XML, XML.decode().encode("utf-16"), b"1 2\n3 4\n", bytes(range(256)), b"<", b"1"])
def test_every_change_can_be_made_to_every_content(content):
    changes = [*fuzz_formats.BINARY, *fuzz_formats.TEXT, *fuzz_formats.XML]
    for change in changes:
        for seed in range(12):
            assert isinstance(change(content, random.Random(seed)), bytes), change.__name__
    changed = [change for change in changes if any(change(XML, random.Random(k)) != XML for k in range(12))]
    assert len(changed) == len(changes)
