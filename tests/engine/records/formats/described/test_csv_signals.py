"""Text of numbers in the forms that it comes in, with known samples, and what has to be refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.records.formats.contents import Contents, Person
from engine.records.formats.described.csv_signals import open_csv_signals
from engine.records.formats.described.told import Told
from engine.records.record import LEADS, RecordError
from tests.engine.records.formats.writers_csv import csv_bytes

COUNTS = np.random.default_rng(5).integers(-900, 900, (12, 200))
TOLD = Told(500.0, "uV", LEADS)
WITHOUT_LEADS = Told(500.0, "uV")


@pytest.fixture
def opened(tmp_path: Path):
    def open_content(content: bytes, told: Told | None = TOLD) -> Contents:
        file = tmp_path / "ecg.csv"
        file.write_bytes(content)
        return open_csv_signals(file, told)

    return open_content


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("separator", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), (" ", "."), ("  ", ",")]
)
@pytest.mark.parametrize("leads", [(), LEADS])
def test_every_separator_and_decimal_mark_gives_the_same_samples(opened, separator, decimal, leads, end):
    content = csv_bytes(COUNTS, leads, separator=separator, decimal=decimal, factor=0.001, end=end)
    contents = opened(content, Told(500.0, "mV", LEADS))
    assert (contents.leads, contents.fs, contents.n_samples, contents.unit) == (LEADS, 500.0, 200, "mV")
    np.testing.assert_allclose(contents.decode(), COUNTS / 1000, rtol=0, atol=1e-15)
    assert contents.person == Person() and contents.recorded is None


def test_counts_are_scaled_as_told(opened):
    contents = opened(csv_bytes(COUNTS + 2048), Told(500.0, "uV", LEADS, scale=2.5, zero=2048))
    np.testing.assert_allclose(contents.decode(), COUNTS * 2.5e-3, rtol=1e-12)


def test_leads_are_read_from_the_line_of_names(opened):
    names = ["Lead I", "DII", "'V1'"]
    contents = opened(csv_bytes(COUNTS[:3], names), WITHOUT_LEADS)
    assert contents.leads == ("I", "II", "V1")
    assert np.array_equal(contents.decode(), COUNTS[:3] * 1e-3)


def test_names_that_are_no_leads_give_way_to_those_that_are_told(opened):
    assert opened(csv_bytes(COUNTS, [f"ch{k}" for k in range(12)])).leads == LEADS
    with pytest.raises(RecordError, match="other leads, or in another order"):
        opened(csv_bytes(COUNTS, LEADS[::-1]))


def test_a_line_that_numbers_the_columns_is_not_a_sample(opened):
    for first in (0, 1):
        contents = opened(csv_bytes(COUNTS, [str(k + first) for k in range(12)]))
        assert np.array_equal(contents.decode(), COUNTS * 1e-3)


@pytest.mark.parametrize("names", [["I (mV)", "II [mV]"], ["time (ms)", "I (mV)", "II (mV)"]])
def test_a_unit_in_the_names_is_read(opened, names: list[str]):
    values = np.vstack([np.arange(200) * 2] * (len(names) - 2) + [COUNTS[:2]])
    contents = opened(csv_bytes(values, names), Told(500.0))
    assert (contents.leads, contents.unit) == (("I", "II"), "mV")
    assert np.array_equal(contents.decode(), COUNTS[:2])


def test_a_line_of_units_below_the_names_is_read(opened):
    before = "'Elapsed time','II','V5'\n'(seconds)','(uV)','(uV)'\n"
    values = np.vstack([np.arange(200) * 0.002, COUNTS[:2]])
    contents = opened(csv_bytes(values, before=before), Told(500.0))
    assert (contents.leads, contents.unit) == (("II", "V5"), "uV")
    assert np.array_equal(contents.decode(), COUNTS[:2] * 1e-3)


def test_columns_in_different_units_are_refused(opened):
    with pytest.raises(RecordError, match="its columns are in different units"):
        opened(csv_bytes(COUNTS[:2], ["I (mV)", "II (uV)"]), Told(500.0))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("time", 0.002),
        ("Time (ms)", 2.0),
        ("t", 0.002),
        ("ms", 2.0),
        ("sample #", 1.0),
        ("index", 1.0),
        ("", 1.0),
        ("elapsed_time", 0.002),
        ("timestamp", 2e6),
    ],
)
def test_a_column_of_times_is_left_out(opened, name: str, step: float):
    values = np.vstack([1000 + np.arange(200) * step, COUNTS])
    assert np.array_equal(opened(csv_bytes(values, [name, *LEADS])).decode(), COUNTS * 1e-3)


def test_times_of_another_rate_are_refused_and_those_of_the_day_not_compared(opened):
    values = np.vstack([np.arange(200) * 0.004, COUNTS])
    with pytest.raises(RecordError, match="contradicts the sampling frequency of 500 Hz"):
        opened(csv_bytes(values, ["time", *LEADS])).decode()
    rows = csv_bytes(COUNTS).decode().splitlines()
    of_day = "time," + ",".join(LEADS) + "\n" + "\n".join(f"10:11:{k % 60:02},{row}" for k, row in enumerate(rows))
    assert np.array_equal(opened(of_day.encode()).decode(), COUNTS * 1e-3)


def test_titles_before_the_numbers_are_passed_over_and_the_size_in_them_is_compared(opened):
    title = "\r\n\r\nRhythm signal: {} X {}\r\n\r\n"
    content = csv_bytes(COUNTS, separator=" ", before=title.format(200, 12), end="\r\n")
    assert np.array_equal(opened(content).decode(), COUNTS * 1e-3)
    for size in ((201, 12), (200, 8)):
        content = csv_bytes(COUNTS, separator=" ", before=title.format(*size), end="\r\n")
        with pytest.raises(RecordError, match=f"it says {size[0]} x {size[1]} numbers and has 200 x 12"):
            opened(content)


def test_empty_cells_and_nan_are_missing_samples(opened):
    rows = [line.split(",") for line in csv_bytes(COUNTS).decode().splitlines()]
    rows[0] = [""] * 12
    rows[3][0], rows[4][11], rows[5][5], rows[6][6] = "", " ", "NaN", "n/a"
    expected = COUNTS * 1e-3
    expected[:, 0] = expected[0, 3] = expected[11, 4] = expected[5, 5] = expected[6, 6] = np.nan
    for names in ("", ",".join(LEADS) + "\n"):
        text = names + "\n".join(",".join(row) for row in rows)
        np.testing.assert_array_equal(opened(text.encode()).decode(), expected)


def test_a_separator_at_the_end_of_rows_is_no_column(opened):
    rows = csv_bytes(COUNTS, LEADS, separator=";").decode().splitlines()
    for text in (";\n".join([*rows, ""]), ";\n".join([*rows[1:], ""])):
        assert np.array_equal(opened(text.encode()).decode(), COUNTS * 1e-3)


def test_quoted_numbers_are_read(opened):
    rows = csv_bytes(COUNTS).decode().splitlines()
    text = "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in rows)
    assert np.array_equal(opened(text.encode()).decode(), COUNTS * 1e-3)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(opened, encoding: str):
    content = ("Tag \xe4\n" + csv_bytes(COUNTS, LEADS).decode()).encode(encoding)
    assert np.array_equal(opened(content).decode(), COUNTS * 1e-3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,2,3", "line 102 has 3 cells, the first row of numbers 12"),
        ("", "line 102 has 1 cells"),
        ("Roe,2,3,4,5,6,7,8,9,10,11,12", "line 102 is not of numbers"),
        ("1_0,2,3,4,5,6,7,8,9,10,11,12", "line 102 is not of numbers"),
        ("1,2,3,4,5,6,7,8,9,10,11,12,13", "line 102 has 13 cells"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_not_quoted(opened, line: str, words: str):
    rows = csv_bytes(COUNTS, LEADS).decode().splitlines()
    rows[101] = line
    with pytest.raises(RecordError, match=words) as raised:
        opened("\n".join(rows).encode()).decode()
    assert "Roe" not in str(raised.value)


def test_points_and_commas_for_decimals_in_one_file_are_refused(opened):
    content = csv_bytes(COUNTS, separator=";", decimal=",", factor=0.1).replace(b",", b".", 1)
    with pytest.raises(RecordError, match="both decimal points and decimal commas"):
        opened(content).decode()


def test_blocks_are_joined_in_their_order(opened, monkeypatch):
    monkeypatch.setattr("engine.records.formats.described.csv_signals._BLOCK", 7)
    assert np.array_equal(opened(csv_bytes(COUNTS, LEADS)).decode(), COUNTS * 1e-3)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, "its unit, sampling frequency and leads are told nowhere"),
        (Told(unit="uV", leads=LEADS), "its sampling frequency is told nowhere"),
        (Told(500.0, "uV", LEADS[:8]), "it has 12 columns of numbers, and its leads are 8 leads"),
    ],
)
def test_what_is_not_told_is_asked_for(opened, told: Told | None, words: str):
    with pytest.raises(RecordError, match=words):
        opened(csv_bytes(COUNTS), told)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"patient,name\nRoe,Jane\n", bytes(5000), b"a," * 200_000, b"1," * 2000, b" " * 300_000 + b"x"],
)
def test_what_is_no_text_of_numbers_is_refused(opened, content: bytes):
    with pytest.raises(RecordError):
        opened(content)


def test_damage_never_ends_in_another_exception(opened):
    content = csv_bytes(COUNTS[:, :40], LEADS)
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        damaged: Any = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, len(content), 3)] = random.integers(0, 256, 3)
        try:
            opened(damaged.tobytes()).record()
        except RecordError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200


@pytest.mark.parametrize(
    "preamble",
    [
        "Sampling rate,500\n",
        "Software Version,1.90\nUnit,uV\n",
        "# fs: 500\n",
        "Sample Rate,500.0 hertz\nSymptoms,\n",
        "Beats,71\n",
    ],
)
def test_lines_of_a_key_and_a_value_are_no_samples(opened, preamble):
    contents = opened(preamble.encode() + csv_bytes(COUNTS, LEADS))
    assert (contents.n_samples, contents.fs) == (200, 500.0)
    assert np.array_equal(contents.decode(), COUNTS * 1e-3)


def test_a_watch_states_its_rate_and_unit(opened):
    lines = [
        "Name,Qxtorova",
        "Sample Rate,513.625 hertz",
        "Unit,\u00b5V",
        "",
        "I",
        *(f"{count}" for count in COUNTS[0]),
    ]
    contents = opened("\n".join(lines).encode(), None)
    assert (contents.leads, contents.fs, contents.unit) == (("I",), 513.625, "\u00b5V")
    assert np.array_equal(contents.decode(), COUNTS[:1] * 1e-3)


@pytest.mark.parametrize("stated", ["fs = 250", "Sampling frequency (Hz): 250", "# unit: mV"])
def test_what_a_file_states_and_what_is_told_have_to_agree(opened, stated):
    with pytest.raises(RecordError, match=r"by itself and"):
        opened(f"{stated}\n".encode() + csv_bytes(COUNTS, LEADS))


@pytest.mark.parametrize("name", ["Zeit (ms)", "time_ms", "Temps", "Time_sec", "datetime", "sample_no", "n"])
def test_a_column_of_times_in_any_words_is_no_lead(opened, name):
    rows = [f"{k},{','.join(map(str, COUNTS[:, k]))}" for k in range(COUNTS.shape[1])]
    contents = opened("\n".join([",".join([name, *LEADS]), *rows]).encode())
    assert contents.leads == LEADS


def test_names_that_are_one_more_than_the_columns_are_not_cut(opened):
    content = csv_bytes(COUNTS[1:], LEADS)
    with pytest.raises(RecordError):
        opened(content, WITHOUT_LEADS)
