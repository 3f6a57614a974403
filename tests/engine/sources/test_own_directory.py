"""A user's own directory: what is inferred, what is said about it, and what is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.corpora.corpus import CorpusError, prepare
from engine.corpora.held_out import hold_out
from engine.corpora.survey import survey
from engine.records.record import LEADS
from engine.sources import SourceError
from engine.sources.detect import open_source
from engine.sources.own_directory import Directory

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def tree(tmp_path, record_writer, synthetic_ecg):
    """Six records, the last two in a folder."""
    for k in range(6):
        record_writer(tmp_path / ("ward" if k > 3 else "") / f"rec{k}", synthetic_ecg(10, 250, k), "250")
    return tmp_path


def table(tree, *lines, name="labels.csv"):
    (tree / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tree


GOOD = ("record,patient,AF,LBBB", "rec0,a,1,0", "rec1,a,0,0", "rec2,b,1,1", "rec3,c,0,1", "rec4,d,0,0", "rec5,d,1,0")


def test_a_table_beside_the_records_makes_a_corpus(tree, tmp_path_factory):
    source = open_source(table(tree, *GOOD))
    assert isinstance(source, Directory)
    assert source.labels == ("AF", "LBBB")
    corpus, problems = prepare(source, tmp_path_factory.mktemp("out") / "mine")
    assert problems == []
    assert corpus.signals.shape == (6, 12, 1000)
    assert corpus.task("labels").labels.tolist() == [[1, 0], [0, 0], [1, 1], [0, 1], [0, 0], [1, 0]]
    assert corpus.patients.tolist() == [0, 0, 1, 2, 3, 3]
    assert corpus.leads == LEADS


def test_what_was_inferred_can_be_read(tree):
    said = "\n".join(Directory(table(tree, *GOOD)).inferred)
    assert "6 WFDB records below" in said
    assert "leads I, II, III" in said
    assert "labels.csv: 6 rows, the record in column record" in said
    assert "4 patients in column patient" in said
    assert "AF (3), LBBB (2)" in said


@pytest.mark.parametrize("record", ["record", "Record ID", "filename", "File_Name", "ecg-id", "PATH", "exam_id"])
@pytest.mark.parametrize("patient", ["patient", "Patient ID", "subject_id", "PatientNo"])
def test_common_spellings_of_record_and_patient_are_understood(tree, record, patient):
    source = Directory(table(tree, GOOD[0].replace("record,patient", f"{record},{patient}"), *GOOD[1:]))
    assert [entry.patient for entry in source.entries()] == ["a", "a", "b", "c", "d", "d"]


@pytest.mark.parametrize("spell", ["{0}.hea", "{0}.dat", "./{0}", "{0}.mat"])
def test_a_record_may_be_named_by_its_file(tree, spell):
    rows = [spell.format(("ward/" if k > 3 else "") + f"rec{k}") + ",0" for k in range(6)]
    entries = Directory(table(tree, "file,AF", *rows)).entries()
    assert [entry.record_id for entry in entries] == ["rec0", "rec1", "rec2", "rec3", "ward/rec4", "ward/rec5"]
    assert {entry.problem for entry in entries} == {None}


def test_a_record_column_with_a_name_of_its_own_is_told_by_its_values(tree):
    source = Directory(table(tree, GOOD[0].replace("record", "tracing number"), *GOOD[1:]))
    assert "the record in column tracing number" in "\n".join(source.inferred)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_a_mark_at_the_start_and_windows_lines_are_understood(tree, delimiter):
    text = "\ufeff" + "\r\n".join(GOOD).replace(",", delimiter)
    (tree / "labels.csv").write_bytes(text.encode())
    assert len(Directory(tree).entries()) == 6


def test_without_a_patient_column_every_record_is_its_own_patient_and_that_is_said(tree):
    rows = [",".join(np.delete(line.split(","), 1)) for line in GOOD]
    source = Directory(table(tree, *rows))
    assert len({entry.patient for entry in source.entries()}) == 6
    assert "no column names the patient: every record counts as its own patient" in source.inferred


def test_age_sex_and_fold_are_read_and_other_columns_are_named_as_unused(tree):
    extra = ["Age,Gender,fold,hospital", "51,F,1,X", "300,m,1,X", "NaN,?,2,Y", "40,female,2,Y", "1,M,3,Y", "2,M,3,Z"]
    rows = [f"{line},{more}" for line, more in zip(GOOD, extra, strict=True)]
    source = Directory(table(tree, *rows))
    entries = source.entries()
    assert [(e.age, e.sex, e.fold) for e in entries[:4]] == [
        (51, "female", 1), (None, "male", 1), (None, None, 2), (40, "female", 2)
    ]  # fmt: skip
    assert "not used: hospital" in source.inferred
    assert "age in column Age, understood in 4 rows" in source.inferred  # not 300, not NaN
    assert "sex in column Gender, understood in 5 rows" in source.inferred
    assert source.labels == ("AF", "LBBB")


def test_rows_without_files_and_files_without_rows_are_listed_one_by_one(tree, tmp_path_factory):
    rows = [line for line in GOOD if not line.startswith("rec3")]
    source = Directory(table(tree, *rows, "rec9,z,1,0"))
    problems = {entry.record_id: entry.problem for entry in source.entries() if entry.problem}
    assert problems == {
        "rec9": "labels.csv, line 7: no file, or more than one, for this record",
        "rec3": "no row in labels.csv",
    }
    assert "1 row without a file" in source.inferred
    corpus, found = prepare(source, tmp_path_factory.mktemp("out") / "mine")
    assert len(corpus) == 5
    assert {problem.record for problem in found} == {"rec3", "rec9"}


def test_a_record_in_two_rows_is_not_used(tree):
    entries = Directory(table(tree, *GOOD, "rec2.hea,b,0,0")).entries()
    assert [e.record_id for e in entries if e.problem == "labels.csv has 2 rows for this record"] == ["rec2"]


def test_a_record_in_two_rows_is_one_record_to_prepare_and_to_check(tree, tmp_path_factory):
    source = Directory(table(tree, *GOOD, "rec2.hea,b,0,0"))
    corpus, _ = prepare(source, tmp_path_factory.mktemp("out") / "mine")
    found = survey(source)
    assert (len(corpus), corpus.unusable) == (5, 1)
    assert (found.records, found.unusable) == (6, 1)
    assert [problem.record for problem in found.problems] == ["rec2"]


def test_a_file_name_in_two_folders_needs_its_folder(tree, record_writer):
    record_writer(tree / "ward" / "rec0")
    problems = [entry.problem for entry in Directory(table(tree, *GOOD)).entries()]
    assert problems[0] is None  # rec0 itself is the path of one of both
    record_writer(tree / "other" / "rec5")
    entries = {entry.record_id: entry.problem for entry in Directory(tree).entries()}
    assert entries["rec5"] == "labels.csv, line 7: no file, or more than one, for this record"


def test_a_row_without_a_patient_is_a_problem_of_its_record(tree):
    entries = Directory(table(tree, *GOOD[:-1], "rec5,,1,0")).entries()
    assert entries[5].problem == "no patient in column patient"


@pytest.mark.parametrize(
    "lines, sentence",
    [
        (["record,filename,AF", "rec0,rec0,1", "rec1,rec2,0"], "record and filename could both be the record"),
        (["record,patient,subject,AF", "rec0,a,b,1"], "patient and subject could both be the patient"),
        (["record,AF", "rec0,1", "rec1,2", "rec2,0"], "line 3: AF says '2'; a label is 0 or 1 in every row"),
        (["record,AF,B", "rec0,1,1", "rec1,,0", "rec2,,1"], "line 3: AF says nothing"),
        (["record,AF", "x,1", "y,0"], "no column names the records"),
        (["record,hospital", "rec0,A", "rec1,B"], "has no label column"),
        (["record,AF,AF", "rec0,1,1"], "more than one column named AF"),
        (["record,AF", "rec0,1,1"], "line 2: 3 cells, but 2 columns"),
        (["record,AF"], "no rows below"),
    ],
)
def test_what_could_mean_two_things_is_refused_in_one_sentence(tree, lines, sentence):
    with pytest.raises(SourceError) as caught:
        Directory(table(tree, *lines))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_without_a_name_is_named_by_its_place(tree):
    header, *rows = GOOD
    source = Directory(table(tree, f"{header},,,", *(f"{row},{k % 2},x," for k, row in enumerate(rows))))
    assert source.labels == ("AF", "LBBB", "unnamed 5")
    assert "AF (3), LBBB (2), unnamed 5 (3)" in " ".join(source.inferred)
    assert "not used: unnamed 6" in source.inferred


def test_two_tables_are_refused(tree):
    table(tree, *GOOD)
    with pytest.raises(SourceError, match=r"has 2 tables \(labels.csv, more.csv\)"):
        Directory(table(tree, *GOOD, name="more.csv"))


@pytest.fixture
def coded(tmp_path, record_writer):
    """Six records whose headers have codes."""
    for k in range(6):
        record_writer(tmp_path / f"rec{k}", comments=["Age: 50", f"Dx: {'164889003' if k % 2 else '426783006'}"])
    return tmp_path


CODES = ["426783006", "164889003"] * 3


def labels_of(source):
    return ["".join(entry.labels) for entry in source.entries()]


@pytest.mark.parametrize(
    "lines",
    [
        ("dx,SNOMEDCTCode,Abbreviation", "atrial fibrillation,164889003,AF", "bradycardia,426627000,Brady"),
        ("name,id,count", "atrial fibrillation,7,100", "bradycardia,8,20"),
        ("patient,age", "a,50", "b,51"),
    ],
)
def test_a_table_that_names_no_record_is_said_not_to_be_used_and_the_codes_are_read(coded, lines):
    source = Directory(table(coded, *lines, name="codes.csv"))
    assert labels_of(source) == CODES
    assert "codes.csv is not used: none of its columns names the records" in source.inferred
    assert {entry.problem for entry in source.entries()} == {None}


def test_a_table_meant_for_the_records_that_names_none_is_refused_although_headers_have_codes(coded):
    with pytest.raises(SourceError, match=r"record says 'x0', the files are named rec0, rec1, rec2, \.\.\."):
        Directory(table(coded, "record,AF", "x0,1", "x1,0"))


def test_codes_in_headers_that_a_table_of_labels_sets_aside_are_said(coded):
    source = Directory(table(coded, "record,AF", *(f"rec{k},{k % 2}" for k in range(6))))
    assert source.labels == ("AF",)
    assert "not used: the SNOMED codes in 6 headers; the table has the labels" in source.inferred


def test_a_table_without_labels_gives_patients_ages_and_sexes_and_the_headers_the_labels(coded):
    rows = [f"rec{k},P{k // 2},{60 + k},{'FM'[k % 2]}" for k in range(5)]
    source = Directory(table(coded, "record,patient,age,sex", *rows, name="patients.csv"))
    entries = source.entries()
    assert labels_of(source) == CODES
    assert [entry.patient for entry in entries[:5]] == ["P0", "P0", "P1", "P1", "P2"]
    assert [entry.age for entry in entries] == [50] * 6  # the headers say it
    assert [entry.sex for entry in entries[:5]] == ["female", "male", "female", "male", "female"]
    assert [entry.problem for entry in entries] == [None] * 5 + ["no row in patients.csv"]
    said = " ".join(source.inferred)
    assert "3 patients in column patient" in said
    assert "own patient" not in said


def test_a_table_of_ages_alone_needs_no_row_for_every_record(coded):
    source = Directory(table(coded, "record,sex", "rec0,F", "rec1,M", name="ages.csv"))
    assert [(entry.sex, entry.problem) for entry in source.entries()[:3]] == [
        ("female", None),
        ("male", None),
        (None, None),
    ]
    assert "headers do not name the patient: every record counts as its own patient" in source.inferred


def test_labels_and_patients_may_stand_in_two_tables(tree):
    table(tree, "record,AF", *(f"rec{k},{k % 2}" for k in range(6)))
    table(tree, "file,patient,sex", *(f"rec{k}.hea,P{k // 3},F" for k in range(6)), name="patients.csv")
    source = Directory(tree)
    assert [entry.patient for entry in source.entries()] == ["P0"] * 3 + ["P1"] * 3
    assert {entry.sex for entry in source.entries()} == {"female"}
    assert source.labels == ("AF",)


def test_two_tables_have_to_name_the_same_patients(tree):
    table(tree, *GOOD)
    table(
        tree,
        "record,patient",
        *(",".join(row.split(",")[:2]).upper().replace("REC", "rec") for row in GOOD[1:]),
        name="p.csv",
    )
    assert len(Directory(tree).entries()) == 6
    table(tree, "record,patient", "rec0,z", name="p.csv")
    with pytest.raises(SourceError, match=r"labels.csv and p.csv name different patients for record rec0"):
        Directory(tree)


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.ods", "labels.sav"])
def test_a_spreadsheet_is_refused_where_it_would_be_the_table(tree, name):
    (tree / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(SourceError, match=f"{name} is not a CSV file, and not read: save it as CSV"):
        Directory(tree)
    assert len(Directory(table(tree, *GOOD)).entries()) == 6


def test_a_spreadsheet_next_to_headers_with_codes_is_said_not_to_be_read(coded):
    (coded / "codes.xlsx").write_bytes(b"PK\x03\x04")
    source = Directory(coded)
    assert labels_of(source) == CODES
    assert "codes.xlsx is not read: save it as CSV if it is about these records" in source.inferred


def test_hundreds_of_files_that_are_not_used_are_said_in_one_sentence_a_kind(coded):
    for k in range(300):
        table(coded, "time,value", "1,2", name=f"t{k:03}.csv")
        (coded / f"s{k:03}.xlsx").write_bytes(b"PK\x03\x04")
    said = [sentence for sentence in Directory(coded).inferred if "000" in sentence or "299" in sentence]
    assert said == [
        "300 tables are not used, as none of their columns names the records: "
        "t000.csv, t001.csv, t002.csv, t003.csv, t004.csv and 295 more",
        "300 files are not read (s000.xlsx, s001.xlsx, s002.xlsx, s003.xlsx, s004.xlsx and 295 more): "
        "save as CSV those that are about these records",
    ]


def test_what_systems_leave_next_to_a_table_is_no_table(tree):
    for name in ("._labels.csv", "~$labels.csv", ".~labels.csv"):
        (tree / name).write_bytes(b"\x00\x05\x16\x07")
    (tree / "old.csv").mkdir()
    assert Directory(table(tree, *GOOD)).labels == ("AF", "LBBB")


def test_equal_rows_of_a_record_are_one(tree):
    source = Directory(table(tree, *GOOD, GOOD[3], "rec5.hea,D,1,0"))
    assert [entry.problem for entry in source.entries()] == [None] * 6
    assert len(source.entries()) == 6


def test_one_patient_in_two_spellings_is_never_on_both_sides_of_a_split(tmp_path, record_writer, tmp_path_factory):
    spell = ("P{:03d}", "p{:03d}", "P{}", "P{:03d}\u200b")
    rows = []
    for k in range(24):
        record_writer(tmp_path / f"r{k:02d}", comments=[])
        rows.append(f"r{k:02d},{spell[k % 4].format(k // 4)},{k % 2}")
    source = Directory(table(tmp_path, "record,patient,AF", *rows))
    assert "6 patients in column patient, 6 of them in several spellings, which were joined" in source.inferred
    corpus, _ = prepare(source, tmp_path_factory.mktemp("out") / "mine")
    assert corpus.patients.tolist() == [k // 4 for k in range(24)]
    test = hold_out(corpus).test
    assert not set(corpus.patients[test]) & set(corpus.patients[~test])


def test_without_a_table_the_codes_in_the_headers_are_the_labels(tmp_path, record_writer):
    for k in range(12):
        codes = "164889003" if k % 2 else "426783006,12345678"
        record_writer(tmp_path / f"p{k}", comments=["Age: 50", "Sex: M", f" Dx: {codes}"])
    record_writer(tmp_path / "q", comments=["nothing"])
    source = open_source(tmp_path)
    assert source.labels == ("12345678", "164889003", "426783006")
    assert source.tasks["labels"].classes == {"12345678": ["12345678"], "AF": ["164889003"], "NSR": ["426783006"]}
    assert "AF 164889003" in source.tasks["labels"].description
    said = "\n".join(source.inferred)
    assert "3 SNOMED codes in 12 of 13 headers; none has 10 records, so that all are used" in said
    assert "every record counts as its own patient" in said
    assert [e.record_id for e in source.entries() if e.problem] == ["q"]


def test_codes_with_ten_records_are_preferred(tmp_path, record_writer):
    for k in range(12):
        record_writer(tmp_path / f"p{k}", comments=["Dx: 164889003" + (",59118001" if k == 3 else "")])
    assert list(Directory(tmp_path).tasks["labels"].classes) == ["AF"]


def test_records_without_any_labels_are_refused(tree):
    with pytest.raises(SourceError, match="neither a CSV table nor a header with SNOMED codes"):
        Directory(tree)


def test_a_directory_of_single_lead_records_has_one_lead(tmp_path, record_writer, synthetic_ecg):
    for k in range(3):
        record_writer(tmp_path / f"r{k}", synthetic_ecg()[:1], leads=["MLII"], comments=["Dx: 164889003"])
    assert Directory(tmp_path).leads == ("MLII",)


def test_eight_measured_leads_give_a_corpus_of_twelve(tmp_path, record_writer, synthetic_ecg, tmp_path_factory):
    eight = ("I", "II", *LEADS[6:])
    rows = [LEADS.index(lead) for lead in eight]
    for k in range(3):
        record_writer(tmp_path / f"r{k}", synthetic_ecg(seed=k)[rows], leads=eight, comments=["Dx: 164889003"])
    source = Directory(tmp_path)
    assert source.leads == LEADS
    corpus, problems = prepare(source, tmp_path_factory.mktemp("out") / "mine")
    assert [p.problem for p in problems] == ["III, aVR, aVL, aVF derived from I and II"] * 3
    assert len(corpus) == 3


def test_one_odd_record_does_not_decide_the_leads(tree, record_writer, synthetic_ecg):
    record_writer(tree / "rec0", synthetic_ecg()[:3], leads=LEADS[:3])
    source = Directory(table(tree, *GOOD))
    assert source.leads == LEADS


def test_leads_of_some_records_only_are_named_with_the_number_of_these(tree, record_writer, synthetic_ecg):
    for name in ("rec0", "rec1", "rec2"):
        record_writer(tree / name, synthetic_ecg()[:2], leads=LEADS[:2])
    record_writer(tree / "ward" / "rec4", synthetic_ecg()[:2], leads=LEADS[:2])
    source = Directory(table(tree, *GOOD))
    assert source.leads == LEADS[:6]
    said = "leads I, II, III, aVR, aVL, aVF (6 of 6 headers looked at have or give them)"
    assert f"{said}; not used: V1, V2, V3, V4, V5, V6 of 2 headers" in source.inferred


def test_channels_that_are_no_leads_are_named_and_their_units_do_not_matter(tree, record_writer, synthetic_ecg):
    for name in ("rec0", "rec1"):
        path = record_writer(tree / name, synthetic_ecg(), leads=(*LEADS[:6], *(f"C{k}" for k in range(1, 6)), "Resp"))
        text = path.with_suffix(".hea").read_text().splitlines()
        path.with_suffix(".hea").write_text("\n".join([*text[:-1], text[-1].replace("/mV", "/NU")]) + "\n")
    source = Directory(table(tree, *GOOD))
    assert source.leads == LEADS
    assert "not used: C1, C2, C3, C4, C5, Resp of 2 headers" in source.inferred[1]


def test_leads_under_other_names_are_told(tree, record_writer, synthetic_ecg):
    record_writer(tree / "rec0", synthetic_ecg(), leads=(*LEADS[:6], *(f"C{k}" for k in range(1, 7))))
    source = Directory(table(tree, *GOOD))
    assert source.inferred[1].endswith("; C1, C2, C3, C4, C5, C6 read as V1, V2, V3, V4, V5, V6")


def test_a_channel_in_no_voltage_is_not_a_lead_of_records_without_the_twelve(tmp_path, record_writer, synthetic_ecg):
    for k in range(3):
        path = record_writer(tmp_path / f"r{k}", synthetic_ecg()[:2], leads=["ECG", "Resp"], comments=["Dx: 164889003"])
        text = path.with_suffix(".hea").read_text().splitlines()
        path.with_suffix(".hea").write_text("\n".join([*text[:2], text[2].replace("/mV", "/NU"), *text[3:]]) + "\n")
    source = Directory(tmp_path)
    assert source.leads == ("ECG",)
    assert source.read(source.entries()[0]).sound_leads == ("ECG",)


def test_a_folder_named_like_a_header_and_a_broken_header_are_problems_not_tracebacks(tree):
    (tree / "odd.hea").mkdir()
    (tree / "rec1.hea").write_bytes(b"\x00\xff garbage")
    source = Directory(table(tree, *GOOD))
    problems = {entry.record_id: entry.problem for entry in source.entries() if entry.problem}
    assert set(problems) == {"odd", "rec1"}
    assert problems["rec1"] == "its header does not begin with a WFDB record's line"


CELL = st.sampled_from(
    ["rec0", "rec1", "rec2.hea", "ward/rec4", "D:\\x\\rec3.dat", "REC5", "a", "A", "0", "1", "1.0", "1,0", "true", "Y",
     "N", "", "2", "nan", "NA", ".", "\u00e9", "a\u200b", "1E+05", '"', "F", "M", "45 years"]
)  # fmt: skip
NAME = st.sampled_from(
    ["record", "file", "patient", "AF", "LBBB", "age", "sex", "fold", "", "site", "AF", "id", "is_male", "Unnamed: 0"]
)


@FUZZ
@given(
    names=st.lists(NAME, max_size=6),
    rows=st.lists(st.lists(CELL, max_size=6), max_size=6),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@example(names=["record", "AF"], rows=[["rec0", "1"], ["rec1", "0"]], separator=";", encoding="utf-16")
def test_any_table_is_a_corpus_or_a_sentence(tree, tmp_path_factory, names, rows, separator, encoding):
    text = "\n".join(separator.join(row) for row in (names, *rows))
    (tree / "labels.csv").write_bytes(text.encode(encoding))
    try:
        source = Directory(tree)
        corpus, problems = prepare(source, tmp_path_factory.mktemp("out") / "mine")
    except (SourceError, CorpusError) as error:
        assert "\n" not in str(error)
        return
    listed = {entry.record_id: entry for entry in source.entries()}
    unusable = {problem.record for problem in problems if not problem.usable}
    assert set(corpus.record_ids.tolist()) == set(listed) - unusable
    columns = corpus.task("labels").classes
    for record_id, labels in zip(corpus.record_ids.tolist(), corpus.labels.tolist(), strict=True):
        assert {c for c, value in zip(columns, labels, strict=True) if value} == listed[record_id].labels


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes_for_a_table_are_a_corpus_or_a_sentence(tree, content):
    (tree / "labels.csv").write_bytes(content)
    try:
        Directory(tree).entries()
    except SourceError as error:
        assert "\n" not in str(error)
