"""One synthetic record in every form that WFDB has for it is the same record."""

import numpy as np
import pytest
import wfdb

from engine.records.folders import walk
from engine.records.record import LEADS, RecordError, order_leads
from engine.records.signal import conform
from engine.records.wfdb_reader import read_header, read_wfdb

N, FS, GAIN = 1200, 100, 50
BASELINE = 3


def digital():
    """(samples, 12) integers, small enough for 8 bits, with small steps for format 8 and different sums."""
    t = np.arange(N) / FS
    waves = [np.sin(2 * np.pi * (0.7 + 0.1 * k) * t + k) for k in range(12)]
    return np.round(90 * np.stack(waves, axis=1)).astype(np.int64) + np.arange(1, 13)


def expected(values=None):
    """(12, samples) millivolt, worked out without any reader."""
    return ((digital() if values is None else values) - BASELINE).T / GAIN


def checksum(values):
    return (int(values.sum()) + 32768) % 65536 - 32768


def line(file, form, values, lead, unit="mV", gain=GAIN):
    return f"{file} {form} {gain}({BASELINE})/{unit} 12 0 {values[:1].sum()} {checksum(values)} 0 {lead}"


def header(path, lines, first=None, encoding="utf-8"):
    text = "\n".join([first or f"{path.name} 12 {FS} {N}", *lines]) + "\n"
    path.with_name(path.name + ".hea").write_bytes(text.encode(encoding))
    return path


def pack(values, form):
    """Return the bytes of a flat sequence of integers, as signal(5) defines the format."""
    if form in (16, 61, 32):
        return values.astype({16: "<i2", 61: ">i2", 32: "<i4"}[form]).tobytes()
    if form == 24:
        return values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    if form == 80:
        return (values + 128).astype(np.uint8).tobytes()
    if form == 160:
        return (values + 32768).astype("<u2").tobytes()
    if form == 212:
        one, two = values.reshape(-1, 2).T & 0xFFF
        return np.stack([one & 0xFF, (one >> 8) | ((two >> 8) << 4), two & 0xFF], axis=1).astype(np.uint8).tobytes()
    one, two, three = values.reshape(-1, 3).T & 0x3FF
    if form == 310:  # two 16-bit words with a spare lowest bit, the third sample shared between their upper five bits
        words = np.stack([(one << 1) | ((three & 0x1F) << 11), (two << 1) | ((three >> 5) << 11)], axis=1)
        return words.astype("<u2").tobytes()
    return (one | (two << 10) | (three << 20)).astype("<u4").tobytes()


def write_one_file(path, form):
    values = digital()
    if form == 8:
        differences = np.diff(values, axis=0, prepend=values[:1])
        content = differences.astype(np.int8).tobytes()
    else:
        content = pack(values.reshape(-1), form)
    path.with_name("r.dat").write_bytes(content)
    return header(path, [line("r.dat", form, values[:, k], lead) for k, lead in enumerate(LEADS)])


def write_flac(path, form):
    """By wfdb itself, at most eight signals a file; its checksums and initial values too."""
    wfdb.wrsamp(
        "r", FS, ["mV"] * 12, list(LEADS), d_signal=digital(), fmt=[str(form)] * 12, adc_gain=[float(GAIN)] * 12,
        baseline=[BASELINE] * 12, write_dir=str(path.parent),
    )  # fmt: skip
    return path


def write_in_frames(path, form, per_frame):
    """Each frame has ``per_frame`` samples of lead I, then as many of lead II, and so on."""
    values = digital()
    frames = values.reshape(N // per_frame, per_frame, 12).transpose(0, 2, 1)
    path.with_name("r.dat").write_bytes(pack(frames.reshape(-1), form))
    lines = [line("r.dat", f"{form}x{per_frame}", values[:, k], lead) for k, lead in enumerate(LEADS)]
    return header(path, lines, f"r 12 {FS / per_frame:g} {N // per_frame}")


def write_two_files(path, forms=(16, 16), unit="mV", encoding="utf-8"):
    values, lines = digital(), []
    for file, rows, form in (("limb.dat", range(6), forms[0]), ("chest.dat", range(6, 12), forms[1])):
        path.with_name(file).write_bytes(pack(values[:, rows].reshape(-1), form))
        lines += [line(file, form, values[:, k], LEADS[k], unit) for k in rows]
    return header(path, lines, encoding=encoding)


def write_with_offset(path, form):
    write_one_file(path, form)
    file = path.with_name("r.dat")
    file.write_bytes(b"a preface of 24 bytes   " + file.read_bytes())
    text = path.with_name("r.hea").read_text()
    path.with_name("r.hea").write_text(text.replace(f"r.dat {form} ", f"r.dat {form}+24 "))
    return path


FORMS = {
    **{f"format {form}": lambda path, form=form: write_one_file(path, form)
       for form in (8, 16, 24, 32, 61, 80, 160, 212, 310, 311)},
    **{f"FLAC {form}": lambda path, form=form: write_flac(path, form) for form in (508, 516, 524)},
    **{f"{n} samples a frame, format {form}": lambda path, n=n, form=form: write_in_frames(path, form, n)
       for form in (16, 24, 212) for n in (2, 5, 100, 600)},
    **{f"two files, formats {forms}": lambda path, forms=forms: write_two_files(path, forms)
       for forms in ((16, 16), (212, 212), (16, 24), (32, 80))},
    **{f"bytes before format {form}": lambda path, form=form: write_with_offset(path, form) for form in (16, 80, 212)},
}  # fmt: skip


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_a_record_is_the_same_in_every_form_that_wfdb_has_for_it(tmp_path, write):
    path = write(tmp_path / "r")
    record, told = read_wfdb(path), read_header(path)
    assert (told.fs, told.n_samples, told.leads) == (record.fs, N, record.leads) == (FS, N, LEADS)
    assert record.notes == ()
    np.testing.assert_array_equal(record.signals, expected().astype(np.float32))


@pytest.mark.parametrize("form", ["16", "24", "32", "80", "160", "212", "61"])
def test_wfdb_gives_the_same_values_without_smoothing(tmp_path, form):
    path = write_in_frames(tmp_path / "r", int(form), 4)
    by_wfdb = wfdb.rdrecord(str(path), smooth_frames=False)
    np.testing.assert_allclose(read_wfdb(path).signals, np.array(by_wfdb.e_p_signal), atol=1e-6)


@pytest.mark.parametrize("form", [16, 24, 212, 80])
def test_the_mark_of_a_missing_sample_is_nan_in_every_format(tmp_path, form):
    marks = {16: -(1 << 15), 24: -(1 << 23), 212: -(1 << 11), 80: -(1 << 7)}
    values = digital()
    values[7, 3] = marks[form]
    (tmp_path / "r.dat").write_bytes(pack(values.reshape(-1), form))
    path = header(tmp_path / "r", [line("r.dat", form, values[:, k], lead) for k, lead in enumerate(LEADS)])
    assert np.argwhere(np.isnan(read_wfdb(path).signals)).tolist() == [[3, 7]]


@pytest.mark.parametrize("form", [16, 212])
@pytest.mark.parametrize("per_frame", [1, 4])
def test_a_skewed_lead_is_shifted_by_its_frames_and_ends_in_missing_samples(tmp_path, form, per_frame):
    path = write_in_frames(tmp_path / "r", form, per_frame)
    text = path.with_name("r.hea").read_text().splitlines()
    text[2] = text[2].replace(f"{form}x{per_frame} ", f"{form}x{per_frame}:3 ")
    path.with_name("r.hea").write_text("\n".join(text))
    want = expected().astype(np.float32)
    want[1] = np.concatenate([want[1, 3 * per_frame :], np.full(3 * per_frame, np.nan)])
    np.testing.assert_array_equal(read_wfdb(path).signals, want)


def test_format_8_without_an_initial_value_begins_at_the_converters_zero(tmp_path):
    values = digital()
    differences = np.diff(values, axis=0, prepend=np.full((1, 12), 7))
    assert np.abs(differences).max() < 128
    (tmp_path / "r.dat").write_bytes(differences.astype(np.int8).tobytes())
    lines = [f"r.dat 8 {GAIN}({BASELINE})/mV 12 7 {lead}" for lead in LEADS]
    record = read_wfdb(header(tmp_path / "r", lines))
    np.testing.assert_array_equal(record.signals, expected().astype(np.float32))
    assert record.notes == ("the header gives no checksums: not verified",)


ENCODINGS = [
    (encoding, unit)
    for encoding in ("utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16")
    for unit in ("\u00b5V", "\u03bcV", "uV", "mV")
    if unit != "\u03bcV" or encoding.startswith("utf")  # the others have no Greek letters
]


@pytest.mark.parametrize("encoding, unit", ENCODINGS)
def test_a_unit_is_the_same_in_every_encoding_of_the_header(tmp_path, encoding, unit):
    path = write_two_files(tmp_path / "r", unit=unit, encoding=encoding)
    np.testing.assert_allclose(read_wfdb(path).signals, expected() * (1 if unit == "mV" else 1e-3), rtol=1e-6)


@pytest.mark.parametrize("encoding, unit", [one for one in ENCODINGS if one[0] != "utf-16"])
def test_a_unit_is_the_same_where_wfdb_decodes_the_samples(tmp_path, encoding, unit):
    path = write_two_files(tmp_path / "r", (212, 212), unit, encoding)
    np.testing.assert_allclose(read_wfdb(path).signals, expected() * (1 if unit == "mV" else 1e-3), rtol=1e-6)


def with_another_channel(path, form="16", unit="mV", per_frame=1, file="other.dat", length=N):
    """Add a channel that is no lead, in a file of its own."""
    write_one_file(path, 16)
    values = np.arange(length * per_frame)
    if length:
        path.with_name(file).write_bytes(values.astype("<i2").tobytes())
    text = path.with_name("r.hea").read_text().replace("r 12", "r 13")
    path.with_name("r.hea").write_text(text + line(file, f"{form}x{per_frame}", values, "Resp", unit) + "\n")
    return path


@pytest.mark.parametrize(
    "other, reason",
    [
        ({"unit": "NU"}, "unit NU of Resp is not a voltage"),
        ({"unit": "cmH2O"}, "unit cmH2O of Resp is not a voltage"),
        ({"unit": "{0.x}"}, r"unit \?0.x\? of Resp is not a voltage"),
        ({"per_frame": 4}, "Resp is sampled at 400 Hz, most leads at 100 Hz"),
        ({"form": "0"}, "no samples of Resp are in the record"),
        ({"unit": "l/min", "file": "gone.dat", "length": 0}, "unit l/min of Resp is not a voltage"),
    ],
)
def test_a_channel_that_is_not_used_harms_nobody_and_is_named_where_it_is_wanted(tmp_path, other, reason):
    record = read_wfdb(with_another_channel(tmp_path / "r", **other))
    np.testing.assert_array_equal(order_leads(record).signals, expected().astype(np.float32))
    assert record.sound_leads == LEADS
    with pytest.raises(RecordError, match=f"^{reason}$"):
        order_leads(record, ("I", "Resp"))


def test_a_lead_in_no_voltage_is_neither_used_nor_derived_nor_derived_from(tmp_path):
    path = write_one_file(tmp_path / "r", 16)
    good = path.with_name("r.hea").read_text()
    for lead, wanted in (("III", LEADS), ("I", LEADS), ("I", ("I",)), ("V6", LEADS)):
        wrong = [row.replace("/mV", "/NU") if row.endswith(f" {lead}") else row for row in good.splitlines()]
        path.with_name("r.hea").write_text("\n".join(wrong) + "\n")
        with pytest.raises(RecordError, match=f"^unit NU of {lead} is not a voltage$"):
            conform(read_wfdb(path), wanted)
    rows = [row for row in good.splitlines() if not row.endswith(" III")]
    eleven = "\n".join(rows).replace("r 12", "r 11").replace("/mV 12 0 ", "/NU 12 0 ", 1)
    assert "/NU" in eleven.splitlines()[1]
    values = np.delete(digital(), 2, axis=1)
    path.with_name("r.dat").write_bytes(pack(values.reshape(-1), 16))
    path.with_name("r.hea").write_text(eleven)
    with pytest.raises(RecordError, match=r"^lead III missing$"):
        conform(read_wfdb(path))


def test_one_rate_of_most_leads_is_the_records(tmp_path):
    values, per_frame = digital(), [5 if lead in ("V5", "V6") else 10 for lead in LEADS]
    frames = [values[:, k].reshape(-1, 10)[:, :n] for k, n in enumerate(per_frame)]
    (tmp_path / "r.dat").write_bytes(np.concatenate(frames, axis=1).astype("<i2").tobytes())
    lines = [line("r.dat", f"16x{n}", frames[k].reshape(-1), LEADS[k]) for k, n in enumerate(per_frame)]
    path = header(tmp_path / "r", lines, f"r 12 10 {N // 10}")
    record = read_wfdb(path)
    np.testing.assert_array_equal(order_leads(record, LEADS[:10]).signals, expected()[:10].astype(np.float32))
    with pytest.raises(RecordError, match=r"^V5, V6 is sampled at 50 Hz, most leads at 100 Hz$"):
        order_leads(record)


def segments(path, lengths, leads_of=None, unit="mV"):
    """Write a record in segments, the k-th with the leads ``leads_of[k]`` (None: a gap); with ``leads_of`` a layout."""
    values, start, lines = digital(), 0, []
    if leads_of is not None:
        told = [f"~ 0 {GAIN}({BASELINE})/{unit} 12 0 0 0 0 {lead}" for lead in LEADS]
        header(path.with_name("r_layout"), told, f"r_layout 12 {FS} 0")
        lines.append("r_layout 0")
    for k, length in enumerate(lengths):
        part, name = values[start : start + length], f"r_{k}"
        leads = LEADS if leads_of is None else leads_of[k]
        start += length
        lines.append(f"{'~' if leads is None else name} {length}")
        if leads is None:
            continue
        rows = [LEADS.index(lead) for lead in leads]
        path.with_name(f"{name}.dat").write_bytes(pack(part[:, rows].reshape(-1), 16))
        told = [line(f"{name}.dat", 16, part[:, row], LEADS[row], unit) for row in rows]
        header(path.with_name(name), told, f"{name} {len(rows)} {FS} {length}")
    return header(path, lines, f"r/{len(lines)} 12 {FS} {N}")


def test_a_record_in_segments_is_put_together_as_by_wfdb(tmp_path):
    path = segments(tmp_path / "r", [500, 300, 400])
    record = read_wfdb(path)
    np.testing.assert_array_equal(record.signals, expected().astype(np.float32))
    np.testing.assert_allclose(record.signals, wfdb.rdrecord(str(path)).p_signal.T, atol=1e-6)
    assert (record.leads, record.fs, record.notes) == (LEADS, FS, ("put together from 3 segments",))


def test_a_lead_that_a_segment_lacks_and_a_gap_are_missing_samples(tmp_path):
    path = segments(tmp_path / "r", [1000, 50, 150], [LEADS[::-1], None, LEADS[:6]])
    record = read_wfdb(path)
    want = expected().astype(np.float32)
    want[:, 1000:1050] = np.nan
    want[6:, 1050:] = np.nan
    np.testing.assert_array_equal(record.signals, want)
    by_wfdb = wfdb.rdrecord(str(path))
    assert by_wfdb.sig_name == list(LEADS)
    np.testing.assert_allclose(record.signals, by_wfdb.p_signal.T, atol=1e-6)
    assert record.notes == ("put together from 2 segments",)
    assert conform(record).signals.shape == (12, 1000)


def test_a_micro_unit_in_segments_is_a_micro_unit(tmp_path):
    record = read_wfdb(segments(tmp_path / "r", [600, 600], unit="\u00b5V"))
    np.testing.assert_allclose(record.signals, expected() / 1000, rtol=1e-6)


def test_segments_are_not_records_of_their_own(tmp_path):
    segments(tmp_path / "r", [600, 600], [LEADS, LEADS])
    write_one_file(tmp_path / "s", 80)
    assert [path.name for path in walk(tmp_path).headers] == ["r.hea", "s.hea"]


@pytest.mark.parametrize(
    "file, old, new, reason",
    [
        ("r.hea", "r_1 300", "r_1 290", "header says 1200 samples, its segments have 1190"),
        ("r_1.hea", f"{FS} 300", f"{FS} 290", "segment r_1: it has 290 samples at 100 Hz, not 300 at 100 Hz"),
        ("r_1.hea", f"12 {FS} 300", "12 50 300", "segment r_1: it has 300 samples at 50 Hz, not 300 at 100 Hz"),
        ("r_1.hea", " aVR", " vx", "segment r_1 has a signal that the first has not"),
        ("r.hea", "r/3", "r/4", "the header lists 3 segments, not 4"),
        ("r.hea", "r_1 300", "r_7 300", "segment r_7: file missing: r_7.hea"),
        ("r.hea", "r_1 300", "r 300", "segment r: segment r is in segments itself"),
        ("r.hea", "r_1 300", "../r_1 300", "line 3 of the header does not describe a segment"),
        ("r_0.hea", " aVR", " aVL", "two of its signals have one name"),
    ],
)
def test_segments_that_do_not_fit_their_record_are_a_named_error(tmp_path, file, old, new, reason):
    path = segments(tmp_path / "r", [500, 300, 400])
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(RecordError, match=reason):
        read_wfdb(path)


def without_checksums(path):
    rows = path.with_name("r.hea").read_text().splitlines()
    cut = [" ".join([*row.split()[:6], "0", "0", row.split()[-1]]) for row in rows[1:]]
    path.with_name("r.hea").write_text("\n".join([rows[0], *cut]) + "\n")
    return path


@pytest.mark.parametrize("form", [16, 24, 212])
def test_a_longer_file_is_read_only_where_a_checksum_tells_that_it_is_read_right(tmp_path, form):
    path = write_one_file(tmp_path / "r", form)
    file = tmp_path / "r.dat"
    file.write_bytes(file.read_bytes() + bytes(1200))
    np.testing.assert_array_equal(read_wfdb(path).signals, expected().astype(np.float32))
    with pytest.raises(RecordError, match=r"^r.dat holds more than the header says, and no checksum tells which is"):
        read_wfdb(without_checksums(path))


@pytest.mark.parametrize("form", [16, 212])
def test_where_no_checksum_is_given_the_first_values_tell_of_another_order(tmp_path, form):
    path = without_checksums(write_one_file(tmp_path / "r", form))
    assert read_wfdb(path).notes == ("the header's checksums are all 0: not verified",)
    text = path.with_name("r.hea").read_text()
    first = digital()[0, 7]
    assert f" {first} 0 0 V2" in text
    path.with_name("r.hea").write_text(text.replace(f" {first} 0 0 V2", f" {first + 1} 0 0 V2"))
    unlike = "the header's first value of V2 is not the file's"
    assert read_wfdb(path).notes == ("the header's checksums are all 0: not verified", unlike)


@pytest.mark.parametrize("form", [16, 24, 32, 80, 160, 212, 310, 311, 61, 8])
def test_a_shorter_file_is_said_to_be_truncated_in_every_format(tmp_path, form):
    path = write_one_file(tmp_path / "r", form)
    file = tmp_path / "r.dat"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(RecordError, match=r"^truncated: r.dat has 600 of 1200 samples$"):
        read_wfdb(path)


@pytest.mark.parametrize("form", [16, 212, 80])
def test_a_length_that_the_header_does_not_give_is_the_files_and_said_so(tmp_path, form):
    path = write_one_file(tmp_path / "r", form)
    text = path.with_name("r.hea").read_text()
    for unspecified in ("", " 0") if form == 16 else ("",):  # header(5): "if zero or missing"
        path.with_name("r.hea").write_text(text.replace(f"r 12 {FS} {N}", f"r 12 {FS}{unspecified}"))
        record = read_wfdb(path)
        np.testing.assert_array_equal(record.signals, expected().astype(np.float32))
        assert record.notes == ("its length is told by the file's size only",)


@pytest.mark.parametrize("form", [16, 80])
def test_what_a_header_leaves_out_is_what_wfdb_defines_and_said_so(tmp_path, form):
    path = write_one_file(tmp_path / "r", form)
    path.with_name("r.hea").write_text("r 12\n" + "".join(f"r.dat {form}\n" for _lead in LEADS))
    record = read_wfdb(path)
    np.testing.assert_array_equal(record.signals, (digital().T / 200).astype(np.float32))
    assert record.fs == 250
    assert record.leads == tuple(f"signal {k}" for k in range(12))
    assert [note.split(":")[0] for note in record.notes][:2] == [
        "the header gives no sampling frequency",
        "its length is told by the file's size only",
    ]
    assert any("200 units/mV assumed" in note for note in record.notes)


@pytest.mark.parametrize("form", [16, 212])
@pytest.mark.parametrize(
    "gain, scale, zero",
    [("50", 50, 40), ("-50(3)/mV", -50, 3), ("5.e1(-3)", 50, -3), ("0(3)/mV", 200, 3), ("5e-2(0)", 0.05, 0)],
)  # fmt: skip
def test_gain_baseline_and_converters_zero_mean_the_same_in_every_format(tmp_path, form, gain, scale, zero):
    path = write_one_file(tmp_path / "r", form)
    text = path.with_name("r.hea").read_text()
    path.with_name("r.hea").write_text(text.replace(f" {GAIN}({BASELINE})/mV 12 0 ", f" {gain} 12 40 "))
    np.testing.assert_allclose(read_wfdb(path).signals, (digital().T - zero) / scale, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    ["r.dat 16 50(3.5)/mV 12 0 0 0 0 I", "r.dat 16 fifty/mV 12 0 0 0 0 I", "r.dat sixteen 50 12 0 0 0 0 I",
     "sub/r.dat 16 50/mV 12 0 0 0 0 I", "r.dat 16x0 50/mV 12 0 0 0 0 I", "r.dat 16 I", "r.dat"],
)  # fmt: skip
def test_a_line_that_is_not_a_signals_is_refused_by_its_number_without_its_text(tmp_path, wrong):
    path = write_one_file(tmp_path / "r", 16)
    rows = path.with_name("r.hea").read_text().splitlines()
    path.with_name("r.hea").write_text("\n".join(["# a comment", rows[0], wrong, *rows[2:]]))
    with pytest.raises(RecordError, match=r"^line 3 of the header does not describe a signal as WFDB defines it$"):
        read_wfdb(path)


def test_files_that_are_described_in_two_ways_are_refused(tmp_path):
    path = write_one_file(tmp_path / "r", 16)
    rows = path.with_name("r.hea").read_text().splitlines()
    (tmp_path / "s.dat").write_bytes(b"")
    for row, old, new, reason in (
        (3, "r.dat", "s.dat", "signals of one file apart from each other"),
        (3, " 16 ", " 212 ", "gives r.dat more than one format or offset"),
        (1, " 16 ", " 0 ", "gives r.dat more than one format or offset"),
        (3, " 16 ", " 16+2 ", "gives r.dat more than one format or offset"),
    ):
        changed = [line.replace(old, new) if k == row else line for k, line in enumerate(rows)]
        path.with_name("r.hea").write_text("\n".join(changed))
        with pytest.raises(RecordError, match=reason):
            read_wfdb(path)


def test_a_comment_with_another_code_pages_line_end_is_one_line(tmp_path):
    path = write_one_file(tmp_path / "r", 16)
    file = path.with_name("r.hea")
    file.write_bytes(b"# caf\xe9 \x85 and so on\r\n" + file.read_bytes().replace(b"\n", b"\r\n") + b"# \x0b end")
    np.testing.assert_array_equal(read_wfdb(path).signals, expected().astype(np.float32))
    assert len(read_header(path).comments) == 2


@pytest.mark.parametrize("form", [61, 16])
def test_a_file_name_outside_ascii_is_found(tmp_path, form):
    path = write_one_file(tmp_path / "r", form)
    (tmp_path / "r.dat").rename(tmp_path / "\u5fc3\u7535\u56fe.dat")
    text = path.with_name("r.hea").read_text().replace("r.dat", "\u5fc3\u7535\u56fe.dat")
    path.with_name("r.hea").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(read_wfdb(path).signals, expected().astype(np.float32))


def test_a_header_that_wfdb_takes_for_another_is_refused(tmp_path):
    path = write_one_file(tmp_path / "r", 212)
    (tmp_path / "r.dat").rename(tmp_path / "r\u00e9.dat")
    write_one_file(tmp_path / "r", 212)  # wfdb drops the accent and would read this file
    text = path.with_name("r.hea").read_text().replace("r.dat", "r\u00e9.dat")
    path.with_name("r.hea").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match="wfdb takes its header for another"):
        read_wfdb(path)


def test_a_lead_without_a_checksum_among_others_is_said_not_to_be_verified(tmp_path, record_writer):
    path = record_writer(tmp_path / "r")
    header = path.with_suffix(".hea")
    lines = header.read_text().splitlines()
    at = next(k for k, line in enumerate(lines) if line.endswith(" V5"))
    fields = lines[at].split()
    lines[at] = " ".join([*fields[:3], fields[-1]])  # file, format, gain, name
    header.write_text("\n".join(lines) + "\n")
    assert read_wfdb(path).notes == ("the header gives no checksum of V5: not verified",)
