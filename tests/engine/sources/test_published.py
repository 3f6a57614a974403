"""Publishers' trees in small: their quirks, and that every source keeps the promises of the protocol."""

import pickle

import numpy as np
import pytest

from engine.corpora.corpus import prepare
from engine.corpora.splits import draw_records, split_validation
from engine.download.catalogue import PUBLISHED, PublishedSet, find_published
from engine.records.record import LEADS, RecordError
from engine.records.signal import conform
from engine.records.wfdb_reader import read_wfdb
from engine.sources import SourceError
from engine.sources.brugada_huca import BrugadaHuca
from engine.sources.challenges.challenge2011 import Challenge2011
from engine.sources.challenges.challenge2015 import Challenge2015
from engine.sources.challenges.challenge2017 import Challenge2017
from engine.sources.challenges.challenge2021 import SETS, Challenge, set_of
from engine.sources.challenges.challenge2025 import Challenge2025
from engine.sources.code_test import CodeTest
from engine.sources.ludb import Ludb
from engine.sources.own_directory import Directory
from engine.sources.ptb import Ptb
from engine.sources.ptbxl import PtbXl


@pytest.fixture(scope="session")
def sources(trees):
    return {
        "ptb-xl": PtbXl(trees["ptb-xl"]),
        "georgia": Challenge(trees["challenge"], "georgia"),
        "ludb": Ludb(trees["ludb"]),
        "ptb": Ptb(trees["ptb"]),
        "challenge-2017": Challenge2017(trees["challenge-2017"]),
        "code-test": CodeTest(trees["code-test"]),
        "brugada-huca": BrugadaHuca(trees["brugada-huca"]),
        "challenge-2011": Challenge2011(trees["challenge-2011"]),
        "challenge-2015": Challenge2015(trees["challenge-2015"]),
        "chagas-2025": Challenge2025(trees["chagas-2025"]),
        "directory": Directory(trees["challenge"]),
    }


SITES = ["brugada-huca", "challenge-2011", "challenge-2015", "chagas-2025"]


@pytest.mark.parametrize("name", ["ptb-xl", "ludb", "ptb", "challenge-2017", "code-test", *SITES])
def test_a_set_has_one_name_version_licence_page_and_citation(sources, name: str):
    read, listed = sources[name], find_published(name)
    assert (read.name, read.version, read.licence, read.url, read.citation) == (
        listed.name, listed.version, listed.licence, listed.url, listed.citation
    )  # fmt: skip


@pytest.mark.parametrize("one", [one for one in PUBLISHED.values() if one.slug])
def test_the_page_of_a_set_is_that_of_its_slug_and_version(one: PublishedSet):
    assert one.url == f"https://physionet.org/content/{one.slug}/{one.version}/"
    assert one.files_url == f"https://physionet.org/files/{one.slug}/{one.version}"


def test_a_set_is_also_found_by_its_name_on_physionet():
    assert find_published("ptbdb") is find_published("ptb")


ALL = ["ptb-xl", "georgia", "ludb", "ptb", "challenge-2017", "code-test", *SITES, "directory"]


@pytest.mark.parametrize("name", ALL)
def test_every_source_keeps_the_protocol(sources, tmp_path, name):
    source = sources[name]
    entries = source.entries()
    assert len({entry.record_id for entry in entries}) == len(entries)
    assert all(entry.labels <= set(source.labels) for entry in entries)
    assert len(set(source.labels)) == len(source.labels)
    for task in source.tasks.values():
        assert task.classes
        assert {label for union in task.classes.values() for label in union} <= set(source.labels)
    corpus, problems = prepare(source, tmp_path / "corpus")
    unusable = {problem.record for problem in problems if not problem.usable}
    assert corpus.record_ids.tolist() == [e.record_id for e in entries if e.record_id not in unusable]
    assert corpus.signals.shape[1:] == (len(source.leads), 1000)
    assert np.isfinite(corpus.signals).all()
    for task in corpus.tasks:
        assert corpus.task(task).labels.shape[1] == len(source.tasks[task].classes)


@pytest.mark.parametrize("name", ALL)
def test_no_patient_of_any_source_is_on_two_sides_of_a_split(sources, name):
    owners = [entry.patient for entry in sources[name].entries()]
    patients = np.unique(owners, return_inverse=True)[1].astype(np.int64)
    for seed in range(5):
        training, validation = split_validation(patients, 0.2, seed)
        assert not set(patients[training]) & set(patients[validation])
        drawn = draw_records(patients, len(patients) // 2, seed)
        cut = [p for p in set(patients[drawn]) if (patients[drawn] == p).sum() < (patients == p).sum()]
        assert len(cut) <= 1


@pytest.mark.parametrize("name", ALL)
def test_every_source_reads_the_same_in_another_process(sources, name):
    source = sources[name]
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301, how a worker process gets it
    usable = [entry for entry in source.entries() if entry.problem is None]
    assert [entry for entry in copy.entries() if entry.problem is None] == usable
    np.testing.assert_array_equal(copy.read(usable[0]).signals, source.read(usable[0]).signals)


def test_ptb_xl_is_read_at_500_hz_where_that_is_there(tmp_path, trees, record_writer, synthetic_ecg):
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        text = (trees["ptb-xl"] / name).read_text().replace("filename_lr", "filename_lr,filename_hr")
        lines = [f"{line},{line.split(',')[-1].replace('_lr', '_hr')}" for line in text.splitlines()[1:3]]
        kept = [text.splitlines()[0], *lines] if name.startswith("ptbxl") else text.splitlines()
        (tmp_path / name).write_text("\n".join(kept) + "\n")
    source = PtbXl(tmp_path, read_fs=500)
    assert source.name == "ptb-xl-500hz"
    entry = source.entries()[0]
    assert entry.path.name == "00001_hr"
    record_writer(entry.path, synthetic_ecg())
    assert conform(source.read(entry)).signals.shape == (12, 1000)
    with pytest.raises(SourceError, match="lacks the column filename_hr"):
        PtbXl(trees["ptb-xl"], read_fs=500)
    with pytest.raises(SourceError, match="100 and 500 Hz, not 250"):
        PtbXl(trees["ptb-xl"], read_fs=250)


def test_ptb_xl_says_age_and_sex_and_an_age_of_300_is_unknown(tmp_path, trees):
    (tmp_path / "scp_statements.csv").write_text((trees["ptb-xl"] / "scp_statements.csv").read_text())
    header = "ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr"
    rows = ["1,1.0,56.0,1,\"{'NORM': 100.0}\",1,a", "2,2.0,300.0,0,{},2,b", "3,3.0,,,{},3,c"]
    (tmp_path / "ptbxl_database.csv").write_text("\n".join([header, *rows]) + "\n")
    assert [(e.age, e.sex) for e in PtbXl(tmp_path).entries()] == [(56, "female"), (None, "male"), (None, None)]


def test_georgia_is_read_with_its_quirks(sources):
    entries = {entry.record_id: entry for entry in sources["georgia"].entries()}
    assert entries["E00001"].labels == {"426783006", "284470004"}  # 63593006 is the same as 284470004
    assert (entries["E00001"].age, entries["E00001"].sex) == (64, "female")
    assert entries["E00012"].problem == entries["E00013"].problem == "the header gives no diagnosis (#Dx)"
    assert "#Dx holds something other than SNOMED codes" in entries["E00014"].problem
    assert "does not begin with a WFDB record's line" in entries["E00016"].problem
    assert ",".join(sources["georgia"].tasks["paper"].classes) == "NORM,AF,IAVB,SB,LAD,STach,TAb,TInv,LQT,PAC"
    with pytest.raises(RecordError, match="5 s long"):
        conform(sources["georgia"].read(entries["E00015"]))


def test_each_challenge_set_is_told_by_its_record_names(trees):
    assert [set_of(n) for n in ("A0001", "Q0001", "E00001", "S0001", "JS00001", "I0001", "HR00001")] == list(SETS)
    assert set_of("r1") is None
    assert set_of("X00001") is None
    assert set_of("S00001") is None
    cpsc = Challenge(trees["challenge"], "cpsc2018")
    assert [entry.labels for entry in cpsc.entries()] == [{"59118001"}]
    assert [e.labels for e in Challenge(trees["challenge"], "chapman").entries()] == [{"164909002"}]
    with pytest.raises(SourceError, match="no st-petersburg record"):
        Challenge(trees["challenge"], "st-petersburg")
    with pytest.raises(SourceError, match="is not a set of the Challenge"):
        Challenge(trees["challenge"], "mit-bih")


def test_a_record_that_is_twice_in_a_challenge_tree_is_not_used(tmp_path, record_writer):
    for folder in ("g1", "g2"):
        record_writer(tmp_path / folder / "E00001", comments=["Dx: 426783006"])
    entries = Challenge(tmp_path, "georgia").entries()
    assert [entry.record_id for entry in entries] == ["g1/E00001", "g2/E00001"]
    assert {entry.problem for entry in entries} == {"the tree has 2 records of this name"}


def test_ludb_voltages_are_read_at_one_unit_for_all_leads(trees, sources, synthetic_ecg):
    first, last = sources["ludb"].entries()[0], sources["ludb"].entries()[-1]
    record = sources["ludb"].read(first)
    np.testing.assert_allclose(record.signals, synthetic_ecg(seed=1) / 1000, atol=1e-4)
    assert "1 uV a unit" in record.notes[0]
    assert conform(record).notes == record.notes
    assert sources["ludb"].read(last).notes == ()
    published = Ludb(trees["ludb"], as_published=True).read(first)
    np.testing.assert_allclose(np.ptp(published.signals, axis=1), 1, atol=1e-3)


def test_ludb_statements_with_ten_patients_are_its_classes(sources):
    source = sources["ludb"]
    expected = ["Atrial fibrillation", "Sinus rhythm", "Left ventricular hypertrophy"]  # 12, 12, 10; overload has 9
    assert list(source.tasks["diagnoses"].classes) == expected
    first, fifth = source.entries()[0], source.entries()[4]
    assert first.labels == {"Sinus rhythm", "Left ventricular hypertrophy", "Left atrial overload"}
    assert (first.age, first.sex, fifth.age) == (51, "female", None)


def test_ptb_is_labelled_by_the_reason_for_admission_and_grouped_by_patient(sources):
    entries = sources["ptb"].entries()
    assert [entry.patient for entry in entries] == [f"patient{k // 2:03d}" for k in range(8)]
    assert entries[0].labels == {"Healthy control"}
    assert entries[2].labels == {"Myocardial infarction"}
    assert entries[4].labels == {"Bundle branch block"}
    assert entries[6].problem == "the header gives no reason for admission"
    assert conform(sources["ptb"].read(entries[0])).leads == LEADS
    assert (entries[0].age, entries[0].sex) == (81, "female")


def test_challenge_2017_records_are_lead_i_and_short_ones_are_refused(sources):
    source = sources["challenge-2017"]
    entries = source.entries()
    assert [next(iter(entry.labels)) for entry in entries] == list("NAO~NNAO")
    assert conform(source.read(entries[0]), source.leads).notes == ("30 s long: the first 10 s are used",)
    with pytest.raises(RecordError, match="9 s long; 10 s are needed"):
        conform(source.read(entries[7]), source.leads)


def test_code_test_is_cut_to_its_signal_or_kept_padded(trees, sources):
    source = sources["code-test"]
    entries = source.entries()
    assert [entry.labels for entry in entries[:3]] == [{"NORM"}, {"1dAVb", "RBBB"}, {"AF"}]
    assert (entries[1].age, entries[1].sex) == (70, "female")
    assert source.read(entries[0]).signals.shape == (12, 4000)
    with pytest.raises(RecordError, match="7 s long; 10 s are needed"):
        conform(source.read(entries[5]))
    padded = CodeTest(trees["code-test"], padded=True)
    assert padded.read(entries[5]).signals.shape == (12, 4096)
    assert conform(padded.read(entries[5])).notes[0] == "7 s of signal between zeros"


def test_code_test_without_h5py_says_what_to_install(trees, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(SourceError, match="pip install h5py"):
        CodeTest(trees["code-test"])


def test_a_damaged_code_test_file_is_a_named_error(tmp_path, trees):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "ecg_tracings.hdf5").write_bytes(b"no HDF5")
    gold = (trees["code-test"] / "annotations" / "gold_standard.csv").read_text()
    (tmp_path / "annotations" / "gold_standard.csv").write_text(gold)
    with pytest.raises(SourceError, match="damaged"):
        CodeTest(tmp_path)
    (tmp_path / "ecg_tracings.hdf5").write_bytes((trees["code-test"] / "ecg_tracings.hdf5").read_bytes())
    (tmp_path / "annotations" / "gold_standard.csv").write_text("\n".join(gold.splitlines()[:4]))
    with pytest.raises(SourceError, match="shape"):
        CodeTest(tmp_path)


def test_a_challenge_2017_label_that_is_none_of_the_four_is_a_problem_of_its_record(tmp_path, record_writer):
    (tmp_path / "REFERENCE-v3.csv").write_text("A00001,N\nA00002,?\n")
    problems = [entry.problem for entry in Challenge2017(tmp_path).entries()]
    assert problems == [None, "label '?' is none of N, A, O, ~"]


def test_problems_and_notes_reach_the_report_of_a_preparation(tmp_path, trees):
    _, problems = prepare(Challenge(trees["challenge"], "georgia"), tmp_path / "georgia")
    unusable = {problem.record: problem.problem for problem in problems if not problem.usable}
    assert set(unusable) == {"E00012", "E00013", "E00014", "E00015", "E00016"}
    corpus, problems = prepare(Challenge(trees["challenge"], "cpsc2018"), tmp_path / "cpsc2018")
    assert [(p.record, p.problem, p.usable) for p in problems] == [
        ("A0001", "60 s long: the first 10 s are used", True)
    ]
    expected = conform(read_wfdb(trees["challenge"] / "cpsc_2018" / "g1" / "A0001")).signals
    np.testing.assert_array_equal(corpus.signals[0], expected)
