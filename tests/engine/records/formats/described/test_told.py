"""What ``signals.toml`` says of which file, and its mistakes in sentences."""

from pathlib import Path

import numpy as np
import pytest

from engine.records.formats.described.told import Description, Told, describe, told
from engine.records.record import LEADS, RecordError

GOOD = """
["exports/*.csv"]
fs = 250
unit = "mV"

["*.csv"]
fs = 500.0
unit = "uV"
leads = ["I", "II"]
scale = 4.88
zero = 2048

["*.npy"]
signals = "x"
ids = "names"
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "signals.toml").write_text(text)
    return folder


def test_the_first_pattern_that_fits_holds(tmp_path: Path):
    write(tmp_path, GOOD)
    assert told(tmp_path / "a.csv", tmp_path) == Told(500.0, "uV", ("I", "II"), 4.88, 2048.0)
    assert told(tmp_path / "exports" / "a.csv", tmp_path) == Told(250.0, "mV")
    assert told(tmp_path / "A.NPY", tmp_path) == Told(ids="names", signals="x")
    assert told(tmp_path / "a.txt", tmp_path) is None


def test_the_nearest_folder_with_a_pattern_that_fits_holds_up_to_the_root(tmp_path: Path):
    root = write(tmp_path / "root", GOOD)
    write(root / "a", '["*.txt"]\nfs = 100')
    write(root / "a" / "b", '["*.csv"]\nfs = 200')
    assert told(root / "a" / "b" / "r.csv", root) == Told(200.0)
    assert told(root / "a" / "b" / "r.txt", root) == Told(100.0)
    assert told(root / "a" / "r.csv", root) == told(root / "r.csv", root)
    assert told(root / "a" / "r.csv", root / "a") is None  # what is above the root says nothing
    assert told(root / "r.csv", tmp_path / "elsewhere") == told(root / "r.csv", root)


def test_a_changed_file_is_read_again(tmp_path: Path):
    write(tmp_path, '["*"]\nfs = 100')
    assert told(tmp_path / "r.csv", tmp_path) == Told(100.0)
    write(tmp_path, '["*"]\nfs = 1000')
    assert told(tmp_path / "r.csv", tmp_path) == Told(1000.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fs = 500", '"fs" is outside a table'),
        ('["*"]\nrate = 500', r'table "\*": the key "rate" is unknown; known are fs, unit'),
        ('["*"]\nfs = "500"', '"fs" has to be a number'),
        ('["*"]\nfs = true', '"fs" has to be a number'),
        ('["*"]\nfs = 0', '"fs" has to be above 0'),
        ('["*"]\nfs = inf', '"fs" has to be a finite number'),
        ('["*"]\nscale = 0.0', '"scale" cannot be 0'),
        (f'["*"]\nzero = 1{"0" * 400}', '"zero" has to be a finite number'),
        ('["*"]\nunit = 1', '"unit" has to be a text'),
        ('["*"]\nunit = "mmHg"', '"unit" has to be a voltage'),
        ('["*"]\nleads = "I"', '"leads" has to be a list of names'),
        ('["*"]\nleads = ["I", ""]', '"leads" has to be a list of names'),
        ('["*"]\nleads = []', '"leads" has to hold between 1 and'),
        ('["*"]\nids = [1]', '"ids" has to be a text'),
        ('["*"\nfs = 1', r"signals.toml is not TOML in UTF-8 \(at line 1"),
        ("a = " + "[" * 20_000, "signals.toml is not TOML in UTF-8"),
        ("x" * 70_000, "more than any"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, text: str, words: str):
    write(tmp_path, text)
    with pytest.raises(RecordError, match=words):
        told(tmp_path / "r.csv", tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "signals.toml").write_bytes(b'["\xff"]')
    with pytest.raises(RecordError, match=r"signals.toml is not TOML in UTF-8$"):
        told(tmp_path / "r.csv", tmp_path)


def test_what_the_file_says_is_joined_with_what_is_told():
    table = Told(fs=500.0, unit="uV", leads=("i", "ii"), scale=2.0, zero=10.0)
    assert describe(table) == Description(500.0, "uV", ("I", "II"), 2.0, 10.0)
    assert describe(None, 500.0, "mV", ("DI", "DII")) == Description(500.0, "mV", ("I", "II"))
    assert describe(table, 500.0, "MICROVOLT", ("Lead I", "Lead II")).leads == ("I", "II")
    assert describe(table, leads=("ch1", "ch2")).leads == ("I", "II")
    assert describe(Told(500.0, "uV"), leads=("ch1", "ch2")).leads == ("ch1", "ch2")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"fs": 400.0}, "400 Hz by itself and at 500 Hz by signals.toml"),
        ({"unit": "mV"}, "its unit is mV by itself and uV by signals.toml"),
        ({"leads": ("II", "I")}, "other leads, or in another order"),
    ],
)
def test_a_contradiction_is_refused(said: dict, words: str):
    with pytest.raises(RecordError, match=words):
        describe(Told(fs=500.0, unit="uV", leads=("I", "II")), **said)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, "its unit, sampling frequency and leads are told nowhere: say unit, fs, leads in a signals.toml"),
        (Told(leads=LEADS), "its unit and sampling frequency are told nowhere: say unit, fs in"),
        (Told(unit="uV", leads=LEADS), "its sampling frequency is told nowhere: say fs in"),
        (Told(fs=500.0, unit="uV"), "its leads are told nowhere: say leads in"),
    ],
)
def test_what_is_missing_is_named(table: Told | None, words: str):
    with pytest.raises(RecordError, match=words):
        describe(table)


def test_a_unit_of_the_file_that_is_no_voltage_is_refused():
    with pytest.raises(RecordError, match="its unit mmHg is not a voltage"):
        describe(Told(fs=500.0, leads=LEADS), unit="mmHg")


def test_counts_become_millivolt_by_zero_scale_and_unit():
    description = Description(500.0, "uV", LEADS, 4.88, 2048.0)
    counts = np.array([[2048, 2049, 0]], np.uint16)
    np.testing.assert_allclose(description.millivolt(counts), [[0, 0.00488, -2048 * 0.00488]], rtol=1e-12)
