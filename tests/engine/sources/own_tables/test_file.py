"""Tables as Excel, R and pandas write them: encodings, separators, row numbers, lines that do not fit."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.sources import SourceError
from engine.sources.own_tables.file import read_table

TEXT = "record,K\u00f6rper,AF\nr1,\u00fc,1\nr2,\u00f6,0\n"
COLUMNS = {"record": ("r1", "r2"), "K\u00f6rper": ("\u00fc", "\u00f6"), "AF": ("1", "0")}


def read(tmp_path, content, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_usual_encoding_and_end_of_line_gives_the_same_cells(tmp_path, encoding, end):
    table = read(tmp_path, TEXT.replace("\n", end).encode(encoding))
    assert table.columns == COLUMNS
    assert table.lines == (2, 3)
    said = "labels.csv is not UTF-8: read as Windows-1252" if encoding == "cp1252" else None
    assert table.remark == said


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("says", [False, True])
def test_every_usual_separator_is_told_or_said_in_a_first_line(tmp_path, separator, says):
    first = f"sep={separator}\n" if says else ""
    table = read(tmp_path, first + TEXT.replace(",", separator))
    assert table.columns == COLUMNS
    assert table.lines == ((3, 4) if says else (2, 3))


def test_commas_in_cells_and_names_do_not_make_columns(tmp_path):
    decimal = read(tmp_path, "record;QTc, ms;age\nr1;401,5;45,0\nr2;398,25;61,5\n")
    assert decimal.columns == {"record": ("r1", "r2"), "QTc, ms": ("401,5", "398,25"), "age": ("45,0", "61,5")}
    quoted = read(tmp_path, '"record","AF, any","note"\n"r1","1","a; b\nc"\n"r2","0","said ""no"""\n')
    assert quoted.columns == {"record": ("r1", "r2"), "AF, any": ("1", "0"), "note": ("a; b\nc", 'said "no"')}


def test_a_table_that_two_separators_fit_equally_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"could be separated by , or ;: a first line sep=, says which"):
        read(tmp_path, "record;a,b\nr1;1,0\nr2;0,1\n")
    assert read(tmp_path, "sep=;\nrecord;a,b\nr1;1,0\n").columns == {"record": ("r1",), "a,b": ("1,0",)}


def test_row_names_without_a_name_of_their_own_are_a_column_as_in_r(tmp_path):
    table = read(tmp_path, '"record" "AF"\n'.replace(" ", ",") + '"1","r1",1\n"2","r2",0\n"7","r3",0\n')
    assert table.columns == {"unnamed 1": ("1", "2", "7"), "record": ("r1", "r2", "r3"), "AF": ("1", "0", "0")}
    assert table.counts_rows("unnamed 1")


@pytest.mark.parametrize(
    "name, cells, counts",
    [
        ("Unnamed: 0", "0 1 2", True),
        ("Unnamed: 0.1", "0 3 4", True),
        ("", "1 2 3", True),
        ("...1", "1 2 3", True),
        ("index", "0 1 2", True),
        ("X", "1 2 3", True),
        ("X", "3 1 2", False),
        ("", "0 0 1", False),
        ("", "5 6 7", False),
        ("number", "1 2 3", False),
    ],
)
def test_columns_that_count_the_rows_are_told(tmp_path, name, cells, counts):
    table = read(tmp_path, f"{name},record\n" + "".join(f"{cell},r{cell}\n" for cell in cells.split()))
    assert table.counts_rows(name or "unnamed 1") is counts


def test_empty_lines_and_empty_cells_at_the_end_mean_nothing(tmp_path):
    table = read(tmp_path, "\nrecord,AF,,\n\nr1,1,,\nr2,0,,,,\n,,,\n  \n\n")
    assert table.columns == {"record": ("r1", "r2"), "AF": ("1", "0")}
    assert table.lines == (4, 5)


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("record,AF\nr1,1\nr2\n", "line 3: 1 cells, but 2 columns"),
        ("record,AF\nr1,1,x\nr2,0\n", "line 2: 3 cells, but 2 columns"),
        ("record,AF\nr1,1\nr2,0,x\n", "line 3: 3 cells, but 2 columns"),
        ('record,AF,note\nr1,1,"open\nr2,0,x\n', "is not a table"),
        ("record,AF,AF\nr1,1,1\n", "more than one column named AF"),
        ("record,AF,AF\u200b\nr1,1,1\n", "more than one column named AF"),
        ("record,AF\n", "no rows below"),
        ("", "no rows below"),
        (b"PK\x03\x04 and more", "is a spreadsheet, which is not read: save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a spreadsheet"),
        (b"record,AF\nr1,\x81\n", "is not text"),
        (b"record,AF\nr1\x00,1\n", "is not text"),
        (b"\xff\xfer\x00\x01", "is not text"),
    ],
)
def test_what_is_not_a_table_is_refused_in_one_sentence(tmp_path, content, sentence):
    with pytest.raises(SourceError) as caught:
        read(tmp_path, content)
    assert sentence in str(caught.value)
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_thousands_of_columns_are_read(tmp_path):
    names = [f"c{k}" for k in range(5000)]
    table = read(tmp_path, ",".join(names) + "\n" + ",".join(str(k) for k in range(5000)) + "\n")
    assert list(table.columns) == names
    assert table.columns["c4999"] == ("4999",)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00\ufeff"), max_size=6).map(str.strip)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELL.filter(bool), min_size=2, max_size=2), min_size=1, max_size=5))
def test_quoted_cells_come_back_as_they_were_written(tmp_path, rows):
    lines = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + '"' for row in rows]
    table = read(tmp_path, "sep=,\nrecord,AF\n" + "\n".join(lines))
    assert list(table.columns.values()) == [tuple(column) for column in zip(*rows, strict=True)]
