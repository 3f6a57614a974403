"""Which column is which: the record is never guessed from a column that happens to match."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.sources import SourceError
from engine.sources.own_tables.columns import NoRecordColumnError, understand
from engine.sources.own_tables.record_names import RecordNames


def understood(root, lines, records):
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return understand(root / "labels.csv", RecordNames(root, {record: root / record for record in records}))


def numbered(root, header, row, n=24, first=1):
    """A table of n rows for files named by numbers."""
    return understood(
        root, [header, *(row(k) for k in range(first, first + n))], [str(k) for k in range(first, first + n)]
    )


def test_a_record_column_that_names_no_file_is_refused_with_a_cell_and_file_names(tmp_path):
    with pytest.raises(NoRecordColumnError) as caught:
        numbered(tmp_path, "record,patient,HR,AF", lambda k: f"{k:05d},P{k},{51 + (7 * k) % 20},{k % 2}", 30, 51)
    assert str(caught.value) == (
        f"{tmp_path}/labels.csv: no column names the records found below {tmp_path}: record says '00051', the files "
        "are named 51, 52, 53, ...; 30 of 30 rows would without zeros at the start or .0 at the end: write them as the "
        "files are named"
    )
    assert caught.value.about_records


@pytest.mark.parametrize("spell", ["{}.0", "{:05d}", "exam {}", "1E+0{}"])
def test_labels_and_ages_never_become_the_record(tmp_path, spell):
    with pytest.raises(NoRecordColumnError, match="record says"):
        numbered(tmp_path, "record,age,AF,n", lambda k: f"{spell.format(k)},{k},{k % 2},{k}")


@pytest.mark.parametrize("name", ["Untersuchung", "tracing", "No."])
def test_a_complete_column_of_any_name_is_the_record_although_label_cells_name_files_too(tmp_path, name):
    table = numbered(tmp_path, f"{name},patient,AF,LBBB", lambda k: f"{k},P{k // 2},{k % 2},{int(k % 3 == 0)}")
    assert table.record == name
    assert table.records == tuple(str(k) for k in range(1, 25))
    assert table.labels == {
        "AF": tuple(k % 2 == 1 for k in range(1, 25)), "LBBB": tuple(k % 3 == 0 for k in range(1, 25))
    }  # fmt: skip


@pytest.mark.parametrize(
    "header, row",
    [
        ("exam no,HR,AF", lambda k: f"x{k},{1 + k % 12},{k % 2}"),  # not unique
        ("exam no,HR,AF", lambda k: f"x{k},{k + 5},{k % 2}"),  # not in every row
        ("exam no,age,AF", lambda k: f"x{k},{k},{k % 2}"),  # an age
        ("AF", lambda k: f"{k % 2}"),  # a label
        ("exam no,one,AF", lambda k: f"x{k},1,{k % 2}"),  # constant
        ("Unnamed: 0,AF", lambda k: f"{k},{k % 2}"),  # the numbers of the rows
        (",AF", lambda k: f"{k},{k % 2}"),
    ],
)
def test_a_column_that_happens_to_match_is_not_taken(tmp_path, header, row):
    with pytest.raises(NoRecordColumnError, match="no column names the records"):
        numbered(tmp_path, header, row)


def test_few_numbers_among_many_files_are_not_taken_and_the_column_can_be_named(tmp_path):
    lines = ["rate,AF", "60,1", "61,0", "70,1"]
    records = [str(k) for k in range(200)]
    with pytest.raises(NoRecordColumnError, match="name the column record if it is rate") as caught:
        understood(tmp_path, lines, records)
    assert caught.value.about_records
    assert understood(tmp_path, ["record,AF", *lines[1:]], records).records == ("60", "61", "70")


def test_an_unnamed_index_of_file_names_is_the_record(tmp_path):
    table = understood(tmp_path, [",AF", "r1,1", "r2,0"], ["r1", "r2"])
    assert (table.record, table.records) == ("unnamed 1", ("r1", "r2"))


def test_a_column_called_file_is_taken_next_to_a_record_number_of_another_system(tmp_path):
    table = understood(tmp_path, ["record_id,file,AF", "901,r1.hea,1", "902,r2.hea,0"], ["r1", "r2"])
    assert (table.record, table.records) == ("file", ("r1", "r2"))
    with pytest.raises(NoRecordColumnError):  # one of three may be chance
        understood(tmp_path, ["record,file,AF", "901,1,1", "902,77,0", "903,78,1"], ["1", "2"])


def test_a_table_without_a_line_of_names_is_refused_since_its_first_record_would_be_lost(tmp_path):
    with pytest.raises(SourceError, match="has no line of column names: its first line is of record r1"):
        understood(tmp_path, ["r1,p1,1", "r2,p2,0", "r3,p3,1"], ["r1", "r2", "r3"])


def test_columns_that_name_the_same_records_are_not_two_things(tmp_path):
    table = understood(tmp_path, ["record,filename,AF", "r1,r1.hea,1", "r2,./r2,0"], ["r1", "r2"])
    assert table.record == "record"
    assert table.ignored == ("filename",)


def test_a_column_called_name_does_not_show_its_cells(tmp_path):
    with pytest.raises(NoRecordColumnError) as caught:
        understood(tmp_path, ["name,AF", "Example Person,1", "Other Person,0"], ["r1", "r2"])
    assert "Person" not in str(caught.value)
    assert not caught.value.about_records


def test_row_numbers_are_neither_label_nor_record_and_named_as_not_used(tmp_path):
    table = understood(tmp_path, ["Unnamed: 0,record,AF", "0,r1,1", "1,r2,0"], ["r1", "r2"])
    assert (list(table.labels), table.ignored) == (["AF"], ("Unnamed: 0",))


@pytest.mark.parametrize(
    "cells, sentence",
    [
        (
            ["1", "0", "maybe"],
            "line 4: AF says 5 characters of something else; a label is 0 or 1 in every row (one is not)",
        ),
        (["Yes", "no", "-9"], "line 4: AF says '-9'"),
        (["TRUE", "NA", "#N/A"], "line 3: AF says 'NA'; a label is 0 or 1 in every row (2 are not)"),
        (["Y", "N", "."], "line 4: AF says '.'"),
        (["1.0", "", ""], "line 3: AF says nothing"),
        (["0", "1", "a long remark about somebody"], "line 4: AF says 28 characters of something else"),
    ],
)
def test_a_label_cell_that_is_neither_is_refused_with_cell_line_and_column(tmp_path, cells, sentence):
    with pytest.raises(SourceError) as caught:
        understood(tmp_path, ["record,AF", *(f"r{k},{cell}" for k, cell in enumerate(cells))], ["r0", "r1", "r2"])
    assert sentence in str(caught.value)


def test_a_column_of_missing_values_is_not_a_label(tmp_path):
    table = understood(tmp_path, ["record,AF,LVH", "r0,1,NA", "r1,0,NA"], ["r0", "r1"])
    assert (list(table.labels), table.ignored) == (["AF"], ("LVH",))


@pytest.mark.parametrize(
    "header, cells, sexes",
    [
        ("is_male", ["True", "False"], ("male", "female")),
        ("Female", ["Y", "N"], ("female", "male")),
        ("Geschlecht", ["w", "m"], ("female", "male")),
        ("sex", ["0", "1"], (None, None)),
    ],
)
def test_the_sex_is_understood_in_usual_forms_and_never_a_label(tmp_path, header, cells, sexes):
    table = understood(
        tmp_path, [f"record,{header},AF", *(f"r{k},{cell},{k}" for k, cell in enumerate(cells))], ["r0", "r1"]
    )
    assert (table.sex, table.sexes) == (header, sexes)
    assert list(table.labels) == ["AF"]


def test_folds_may_be_floats_of_pandas(tmp_path):
    table = understood(tmp_path, ["record,fold,AF", "r0,1.0,1", "r1,10.0,0", "r2,x,0"], ["r0", "r1", "r2"])
    assert table.folds == (1, 10, None)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_way_a_table_is_written_it_is_refused_or_every_row_has_its_own_labels_and_patient(tmp_path, data):
    draw = data.draw
    ids = draw(st.sampled_from([[str(k) for k in range(1, 9)], [f"r{k:03d}" for k in range(8)], ["a/1", "a/2", "b/1"]]))
    truth = {record: draw(st.booleans()) for record in ids}
    spell = draw(st.sampled_from(["{}", "{}.hea", "./{}", "D:\\x\\{}.dat", "{}\u200b", "0{}", "{}.0", "x{}"]))
    yes, no = draw(st.sampled_from([("1", "0"), ("1.0", "0.0"), ("TRUE", "FALSE"), ("Y", "N"), ("1,0", "0,0")]))
    patients = draw(st.sampled_from([["P{:03d}", "p{}", "P{:03d}\u200b"], ["{}", "{}.0", "000{}"]]))
    separator = draw(st.sampled_from(",;\t|"))
    lines = [("index", draw(st.sampled_from(["record", "exam no", "id", ""])), "patient", "HR", "AF")]
    rows = draw(st.permutations(ids))
    for number, record in enumerate(rows):
        patient = draw(st.sampled_from(patients)).format(1000 + ids.index(record) // 2)
        beats = str(draw(st.integers(1, 8)))
        lines.append((str(number), spell.format(record), patient, beats, yes if truth[record] else no))
    text = "\n".join(separator.join(f'"{cell}"' for cell in line) for line in lines)
    (tmp_path / "labels.csv").write_bytes(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
    try:
        table = understand(
            tmp_path / "labels.csv", RecordNames(tmp_path, {record: tmp_path / record for record in ids})
        )
    except SourceError as error:
        assert "\n" not in str(error)
        return
    for k, record in enumerate(table.records):
        if record is not None:
            assert record == rows[k]
            assert table.labels["AF"][k] is truth[record]
    pairs = {(ids.index(record) // 2, patient) for record, patient in zip(rows, table.patients.rows, strict=True)}
    assert len(pairs) == len(table.patients) == len({ids.index(record) // 2 for record in ids})


def test_names_in_other_scripts_are_not_taken_for_their_latin_letters(tmp_path):
    with pytest.raises(SourceError, match=r"could both be the record|no column names the records"):
        understood(
            tmp_path, ["\u6587\u4ef6\u540d,\u60a3\u8005ID,AF", "2.dat,1,1", "1.dat,2,0", "3.dat,3,0"], ["1", "2", "3"]
        )


@pytest.mark.parametrize("name", ["patient_nr", "Patienten-Nr.", "subject code of ward"])
def test_a_column_that_may_name_patients_is_not_passed_over(tmp_path, name):
    with pytest.raises(SourceError, match="could be the patient: name the column patient"):
        understood(tmp_path, [f"record,{name},AF", "r1,a,1", "r2,a,0"], ["r1", "r2"])


def test_columns_of_the_sexes_are_no_labels(tmp_path):
    table = understood(tmp_path, ["record,male,female,AF", "r1,1,0,1", "r2,0,1,0"], ["r1", "r2"])
    assert (list(table.labels), table.sexes, table.ignored) == (["AF"], ("male", "female"), ("female",))


def test_a_first_line_of_values_is_not_shown_as_names(tmp_path):
    rows = ["D:\\ECG\\q0.dat;Anna Example;1956-03-01;0", "D:\\ECG\\q1.dat;Other Example;1950-01-02;1"]
    with pytest.raises(SourceError) as caught:
        understood(tmp_path, rows, ["r0", "r1"])
    assert "Example" not in str(caught.value) and "line of column names" in str(caught.value)
