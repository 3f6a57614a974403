import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.records.record import LEADS, RecordError, order_leads
from engine.records.wfdb_reader import read_header, read_wfdb

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_wfdb_reads(path):
    """The conversion that the corpus has always made, by wfdb alone."""
    record = wfdb.rdrecord(str(path), physical=False)
    return (record.dac() * np.ones(record.n_sig)).T.astype(np.float32)


@pytest.mark.parametrize("matlab", [False, True])
@pytest.mark.parametrize(
    "quirk",
    [
        {},
        {"gain": "200/mV"},
        {"gain": "1716.5/mV", "baseline": -7},
        {"gain": "1000.0/mV", "baseline": 0},
        {"gain": "2e3/mV"},
        {"gain": "2000"},
        {"fs": "257.5"},
    ],
)
def test_a_plain_record_reads_the_same_as_by_wfdb(tmp_path, record_writer, quirk, matlab):
    path = record_writer(tmp_path / "r1", matlab=matlab, **quirk)
    record = read_wfdb(path)

    np.testing.assert_array_equal(record.signals, as_wfdb_reads(path))
    assert record.leads == LEADS
    assert record.fs == float(quirk.get("fs", 500))
    assert record.signals.flags.c_contiguous


@FUZZ
@given(
    samples=st.lists(st.lists(st.integers(-32768, 32767), min_size=3, max_size=3), min_size=1, max_size=40),
    gain=st.floats(0.01, 1e5).map(lambda gain: f"{gain:.4f}"),
    baseline=st.integers(-30000, 30000),
)
def test_any_plain_record_reads_the_same_as_by_wfdb(tmp_path, record_writer, samples, gain, baseline):
    values = np.array(samples, np.int16).T
    path = record_writer(tmp_path / "r", values, leads=("I", "II", "V1"), gain=f"{gain}/mV", baseline=baseline)
    np.testing.assert_array_equal(read_wfdb(path).signals, as_wfdb_reads(path))


@pytest.mark.parametrize("fmt", ["16", "24", "32", "80", "212"])
def test_other_formats_are_read_through_wfdb(tmp_path, fmt):
    rng = np.random.default_rng(1)
    signal = rng.uniform(-1, 1, (500, 2))
    wfdb.wrsamp("r", 100, ["mV", "uV"], ["I", "v1"], signal, fmt=[fmt, fmt], write_dir=str(tmp_path))
    record = read_wfdb(tmp_path / "r")
    expected = wfdb.rdrecord(str(tmp_path / "r")).p_signal * [1, 1e-3]
    np.testing.assert_allclose(record.signals, expected.T.astype(np.float32), rtol=1e-6)
    assert record.leads == ("I", "V1")


def test_a_record_in_two_files_is_read(tmp_path):
    signal = np.random.default_rng(2).uniform(-1, 1, (500, 3))
    wfdb.wrsamp("r", 100, ["mV"] * 3, ["i", "ii", "vx"], signal, fmt=["16"] * 3, write_dir=str(tmp_path))
    text = (tmp_path / "r.hea").read_text().splitlines()
    stored = np.fromfile(tmp_path / "r.dat", "<i2").reshape(500, 3)
    stored[:, :2].copy().tofile(tmp_path / "r.dat")
    stored[:, 2].copy().tofile(tmp_path / "r.xyz")
    text[3] = text[3].replace("r.dat", "r.xyz")
    (tmp_path / "r.hea").write_text("\n".join(text) + "\n")
    np.testing.assert_allclose(read_wfdb(tmp_path / "r").signals, signal.T, atol=1e-3)


def test_a_georgia_header_whose_record_name_carries_mat_is_read(tmp_path, record_writer, synthetic_ecg):
    path = record_writer(tmp_path / "E00001", matlab=True, first_word="E00001.mat", comments=["Dx: 426783006"])
    np.testing.assert_allclose(read_wfdb(path).signals, synthetic_ecg() / 1000, atol=1e-6)
    assert read_header(path).comments == ("Dx: 426783006",)


@pytest.mark.parametrize("unit, factor", [("mV", 1), ("mv", 1), ("uV", 1e-3), ("\u00b5V", 1e-3), ("V", 1e3)])
def test_voltages_of_any_unit_become_millivolt(tmp_path, record_writer, synthetic_ecg, unit, factor):
    path = record_writer(tmp_path / "r", gain=f"10/{unit}")
    np.testing.assert_allclose(read_wfdb(path).signals, synthetic_ecg() / 10 * factor, rtol=1e-5)


def test_samples_marked_as_missing_are_nan(tmp_path, record_writer, synthetic_ecg):
    samples = synthetic_ecg()
    samples[3, 17] = -32768
    signals = read_wfdb(record_writer(tmp_path / "r", samples)).signals
    assert np.argwhere(np.isnan(signals)).tolist() == [[3, 17]]


def test_a_gain_of_zero_is_wfdbs_default_and_said_so(tmp_path, record_writer, synthetic_ecg):
    record = read_wfdb(record_writer(tmp_path / "r", gain="0/mV"))
    np.testing.assert_allclose(record.signals, synthetic_ecg() / 200, rtol=1e-6)
    assert any("200 units/mV assumed" in note for note in record.notes)


def test_one_changed_sample_fails_the_checksum_of_its_lead(tmp_path, record_writer, synthetic_ecg):
    samples = synthetic_ecg()
    sums = samples.sum(axis=1, dtype=np.int64)
    samples[7, 100] += 1
    with pytest.raises(RecordError, match="checksum mismatch in lead V2"):
        read_wfdb(record_writer(tmp_path / "r", samples, checksums=sums))


def test_checksums_that_nobody_filled_in_are_reported_as_not_verified(tmp_path, record_writer):
    assert "not verified" in read_wfdb(record_writer(tmp_path / "r", checksums=[0] * 12)).notes[0]


def cut_short(path):
    file = path.with_suffix(".dat")
    file.write_bytes(file.read_bytes()[:1000])


def remove_samples(path):
    path.with_suffix(".dat").unlink()


def remove_header(path):
    path.with_suffix(".hea").unlink()


def empty_header(path):
    path.with_suffix(".hea").write_text("")


def a_folder_for_samples(path):
    remove_samples(path)
    path.with_suffix(".dat").mkdir()


def a_folder_for_the_header(path):
    remove_header(path)
    path.with_suffix(".hea").mkdir()


def swap_files(path):
    header, samples = path.with_suffix(".hea"), path.with_suffix(".dat")
    text, body = header.read_bytes(), samples.read_bytes()
    header.write_bytes(body)
    samples.write_bytes(text)


def edit(old, new):
    def change(path):
        header = path.with_suffix(".hea")
        assert old in header.read_text()
        header.write_text(header.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    "damage, reason",
    [
        (cut_short, "^truncated: r.dat has 41 of 5000 samples"),
        (remove_samples, "file missing: r.dat"),
        (remove_header, "file missing: r.hea"),
        (empty_header, "r.hea is empty"),
        (a_folder_for_samples, "^unreadable: r.dat: is not a file"),
        (a_folder_for_the_header, "^unreadable: r.hea: is not a file"),
        (swap_files, None),
        (edit("1000/mV", "1000/mmHg"), "unit mmHg of I, II, III, .*, V6 is not a voltage"),
        (edit(" 5000 ", " 999999999999 "), "claims"),
        (edit(" 5000 ", " 16000000 "), "truncated"),
        (edit("r 12 500", "r 11 500"), "12 signals, not 11"),
        (edit("r 12 500", "r 12 0"), "sampling frequency"),
        (edit("r.dat", "/dev/zero"), None),
        (edit(" 16 1000", " 99 1000"), None),
    ],
)
def test_a_damaged_record_is_a_named_error(tmp_path, record_writer, damage, reason):
    path = record_writer(tmp_path / "r")
    damage(path)
    with pytest.raises(RecordError, match=reason) as caught:
        read_wfdb(path)
    assert len(str(caught.value)) > 5


def test_a_file_without_permission_is_a_named_error(tmp_path, record_writer, monkeypatch):
    path = record_writer(tmp_path / "r")

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RecordError, match="Permission denied"):
        read_wfdb(path)


def only_a_record_error(path):
    """Read; anything but a record or a RecordError is a failure. A record must be what its checksums say."""
    try:
        record = read_wfdb(path)
    except RecordError as error:
        assert str(error)
        return None
    assert record.signals.ndim == 2
    assert len(record.signals) == len(record.leads)
    return record


@FUZZ
@given(content=st.binary(max_size=300))
def test_random_bytes_for_a_header_are_a_named_error(tmp_path, record_writer, content):
    path = record_writer(tmp_path / "r")
    path.with_suffix(".hea").write_bytes(content)
    only_a_record_error(path)


WORDS = st.sampled_from(
    ["r", "r.dat", "16", "16+24", "212", "1000/mV", "1000(5)/mV", "0", "-1", "12", "3", "500", "5000", "1e9", "nan",
     "inf", "x", "16x2", "#Dx: 1", "/", "r/2", "~", "-", "99999999999999999999", "V1", "\u0663", "", "\x00", "..", "\t"]
)  # fmt: skip


@FUZZ
@given(lines=st.lists(st.lists(WORDS, max_size=10).map(" ".join), max_size=6))
def test_random_lines_for_a_header_are_a_named_error(tmp_path, record_writer, synthetic_ecg, lines):
    path = record_writer(tmp_path / "r", synthetic_ecg(1)[:3], leads=("I", "II", "V1"))
    path.with_suffix(".hea").write_text("\n".join(lines), encoding="utf-8")
    only_a_record_error(path)


@FUZZ
@given(data=st.data())
def test_an_edited_header_never_gives_other_signals_unnoticed(tmp_path, record_writer, synthetic_ecg, data):
    path = record_writer(tmp_path / "r", synthetic_ecg(1)[:3], leads=("I", "II", "V1"))
    truth = read_wfdb(path)
    lines = path.with_suffix(".hea").read_text().splitlines()
    action = data.draw(st.sampled_from(["drop line", "repeat line", "swap lines", "cut"]))
    first, second = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, len(lines) - 1))
    if action == "drop line":
        del lines[first]
    elif action == "repeat line":
        lines.insert(second, lines[first])
    elif action == "swap lines":
        lines[first], lines[second] = lines[second], lines[first]
    text = "\n".join(lines)
    path.with_suffix(".hea").write_text(text[: data.draw(st.integers(0, len(text)))] if action == "cut" else text)
    record = only_a_record_error(path)
    if record is not None:  # wherever a lead keeps its name, it keeps its samples: checksums see to the rest
        for lead in set(record.leads) & set(truth.leads):
            np.testing.assert_array_equal(
                record.signals[record.leads.index(lead)], truth.signals[truth.leads.index(lead)]
            )


@FUZZ
@given(length=st.integers(0, 11_999))
def test_truncated_samples_are_a_named_error(tmp_path, record_writer, synthetic_ecg, length):
    path = record_writer(tmp_path / "r", synthetic_ecg(1))
    file = path.with_suffix(".dat")
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    with pytest.raises(RecordError, match=r"^truncated"):
        read_wfdb(path)


def test_leads_come_in_the_order_asked_for(tmp_path, record_writer, synthetic_ecg):
    order = np.random.default_rng(5).permutation(12)
    path = record_writer(tmp_path / "r", synthetic_ecg()[order], leads=[LEADS[k].upper() for k in order])
    ordered = order_leads(read_wfdb(path))
    np.testing.assert_allclose(ordered.signals, synthetic_ecg() / 1000, atol=1e-6)
    assert ordered.leads == LEADS


def test_a_missing_or_doubled_lead_is_a_named_error(tmp_path, record_writer):
    record = read_wfdb(record_writer(tmp_path / "r", leads=[*LEADS[:11], "V5"]))
    with pytest.raises(RecordError, match="lead V6 missing"):
        order_leads(record)
    with pytest.raises(RecordError, match="lead V5 is there more than once"):
        order_leads(record, LEADS[:11])
