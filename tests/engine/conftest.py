"""Small WFDB records with known content, publishers' trees in small, and the quirks that published files have."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MATLAB_PREFIX = b"\x00" * 24


def ecg(seconds: float = 10.0, fs: float = 500.0, seed: int = 0) -> NDArray[np.int16]:
    """Return int16 (12, samples) at 1 uV a unit: slow waves of all leads, in which Einthoven's equations hold."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * fs)) / fs
    sources = np.stack([np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in (1.13, 2.37, 5.71, 9.19)])
    leads = rng.normal(0, 400, (12, 4)) @ sources
    one, two = leads[0].round(), leads[1].round()
    leads[:2] = one, two
    leads[2:6] = two - one, -(one + two) / 2, one - two / 2, two - one / 2
    return leads.round().astype(np.int16)


def write_record(
    path: Path,
    samples: NDArray[np.int16] | None = None,
    fs: str = "500",
    leads: Sequence[str] = LEADS,
    comments: Sequence[str] = (),
    *,
    matlab: bool = False,
    first_word: str | None = None,
    gain: str = "1000/mV",
    baseline: int | None = None,
    checksums: Sequence[int] | None = None,
) -> Path:
    """Write format 16 samples (leads, samples) and a header, by hand; return ``path``, which has no suffix."""
    samples = ecg() if samples is None else samples
    path.parent.mkdir(parents=True, exist_ok=True)
    signal_file = path.name + (".mat" if matlab else ".dat")
    body = np.ascontiguousarray(samples.T).astype("<i2").tobytes()
    (path.parent / signal_file).write_bytes((MATLAB_PREFIX if matlab else b"") + body)
    sums = samples.sum(axis=1, dtype=np.int64) if checksums is None else checksums
    scale = gain if baseline is None else gain.replace("/", f"({baseline})/")
    lines = [f"{first_word or path.name} {len(leads)} {fs} {samples.shape[1]} 05-May-2020 09:49:17"]
    for lead, first, total in zip(leads, samples[:, 0], sums, strict=True):
        signed = (int(total) + 32768) % 65536 - 32768
        lines.append(f"{signal_file} {'16+24' if matlab else '16'} {scale} 16 0 {first} {signed} 0 {lead}")
    header = "\n".join([*lines, *(f"#{comment}" for comment in comments)]) + "\n"
    path.with_name(path.name + ".hea").write_text(header, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def synthetic_ecg():
    """The function that makes int16 samples."""
    return ecg


@pytest.fixture(scope="session")
def record_writer():
    """The function that writes a record."""
    return write_record


def challenge_tree(root: Path) -> Path:
    def record(name, folder, dx, **options):
        comments = ["Age: 64", "Sex: Female", f"Dx: {dx}"] if dx is not None else []
        samples = ecg(options.pop("seconds", 10), seed=sum(map(ord, name)))
        write_record(root / folder / "g1" / name, samples, comments=comments, matlab=True, **options)

    for k in range(12):
        record(f"E{k:05d}", "georgia", "426783006,63593006" if k % 2 else "164934002", first_word=f"E{k:05d}.mat")
    record("E00012", "georgia", None)
    record("E00013", "georgia", "Unknown")
    record("E00014", "georgia", "sinus rhythm")
    record("E00015", "georgia", "426783006", seconds=5)
    (root / "georgia" / "g1" / "E00016.hea").write_text("no header at all")
    record("A0001", "cpsc_2018", "713427006", seconds=60)
    record("S0001", "ptb", "164865005", leads=[lead.upper() for lead in LEADS])
    record("JS00001", "chapman_shaoxing", "733534002")
    return root


def ludb_tree(root: Path) -> Path:
    rows = [["ID", "Sex", "Age", "Rhythms", "Hypertrophies"]]
    for k in range(1, 25):
        path = write_record(root / "data" / str(k), ecg(seed=k), leads=[lead.lower() for lead in LEADS])
        if k <= 12:
            give_each_lead_its_own_gain(path, ecg(seed=k))
        rhythm = "Sinus rhythm" if k % 2 else "Atrial fibrillation"
        overload = "Left ventricular hypertrophy\n" * (k <= 10) + "Left atrial overload" * (k <= 9)
        rows.append([str(k), "F\n" if k % 2 else "M\n", ">89" if k == 5 else f"{50 + k}\n", rhythm, overload])
    with (root / "ludb.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def give_each_lead_its_own_gain(path: Path, samples) -> None:
    lines = path.with_suffix(".hea").read_text().splitlines()
    for k, span in enumerate(np.ptp(samples.astype(int), axis=1), start=1):
        lines[k] = lines[k].replace("1000/mV", f"{span}({k})/mV")
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")


def ptb_tree(root: Path) -> Path:
    reasons = ["Healthy control", "Myocardial infarction", "Bundle branch block", "n/a"]
    fifteen = [lead.lower() for lead in LEADS] + ["vx", "vy", "vz"]
    for k in range(8):
        samples = ecg(11, 1000, seed=k)
        comments = ["age: 81", "sex: female", "Diagnose:", f"Reason for admission: {reasons[k // 2]}"]
        name = root / f"patient{k // 2:03d}" / f"s{k:04d}_re"
        write_record(name, np.vstack([samples, samples[6:9]]), "1000", fifteen, comments, gain="2000")
    return root


def challenge2017_tree(root: Path) -> Path:
    lines = []
    for k, label in enumerate("NAO~NNAO"):
        seconds = 9 if k == 7 else 30
        write_record(root / "training2017" / f"A{k:05d}", ecg(seconds, 300, k)[:1], "300", ["ECG"], matlab=True)
        lines.append(f"A{k:05d},{label}")
    (root / "REFERENCE-v3.csv").write_text("\n".join(lines) + "\n")
    return root


def brugada_huca_tree(root: Path) -> Path:
    rows = ["patient_id,basal_pattern,sudden_death,brugada"]
    values = ("1,0,1", "0,1,0", "0,0,2", "0,0,0", "1,0,0", "0,0,9")
    for k, value in enumerate(values):
        patient = f"18898{k}"
        samples = ecg(12, 100, seed=min(k, 3))  # 3, 4 and 5 are the same
        write_record(root / "files" / patient / patient, samples, "100", gain="1000.0(0)/mV")
        rows.append(f"{patient},{value}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    (root / "metadata_dictionary.csv").write_text("Variable,Description\nbrugada,The diagnosis of the subject\n")
    return root


def challenge2011_tree(root: Path) -> Path:
    comments = ["<age>: 58 <sex>: F", "<age>: 0 <sex>: M", "<age>: 90 <sex>: M", "Age: 45 Gender: male", "unlike", "x"]
    names = [f"100{k}603" for k in range(6)]
    for k, name in enumerate(names):
        samples = np.zeros((12, 5000), np.int16) if k == 4 else ecg(seed=k) // 5
        write_record(root / "set-a" / name, samples, comments=["first", comments[k]], gain="200")
    lists = {"RECORDS": names, "RECORDS-acceptable": names[:2], "RECORDS-unacceptable": names[2:5]}
    for file, listed in lists.items():
        (root / "set-a" / file).write_text("\n".join(listed) + "\n")
    return root


def challenge2015_tree(root: Path) -> Path:
    """Lead II rises by 1 uV every 10 samples, so that its voltage tells the time."""
    kinds = {"a103l": ("II", "Asystole", "True alarm"), "b104s": ("II", "Bradycardia", "False alarm"),
             "t105l": ("I", "Tachycardia", "True alarm"), "v106s": ("II", "Ventricular_Tachycardia")}  # fmt: skip
    for name, (lead, *comments) in kinds.items():
        time = np.arange(82_500 if name.endswith("l") else 75_000)
        samples = np.stack([time // 10, time % 999, time % 500]).astype(np.int16)
        path = write_record(root / "training" / name, samples, "250", [lead, "V", "PLETH"], comments, matlab=True)
        header = path.with_suffix(".hea").read_text().splitlines()
        header[3] = header[3].replace("1000/mV", "1.253e+04/NU")
        path.with_suffix(".hea").write_text("\n".join(header) + "\n")
    (root / "training" / "ALARMS").write_text("".join(f"{name},{kind[1]},1\n" for name, kind in kinds.items()))
    return root


def challenge2025_tree(root: Path) -> Path:
    def record(path: str, source: str, chagas: bool, seconds: float, fs: int = 400, age: str = "68"):
        comments = [f" Age: {age}", " Sex: Female", f" Chagas label: {chagas}", f" Source: {source}"]
        leads, samples = [lead.upper() for lead in LEADS], ecg(seconds, fs, seed=sum(map(ord, path)))
        write_record(root / path, samples, str(fs), leads, comments, gain="1000(0)/mV")

    record("code15/113", "CODE-15%", False, 7)
    record("code15/114", "CODE-15%", True, 10.24)
    record("code15/115", "CODE-15%", False, 7)
    record("samitrop/113", "SaMi-Trop", True, 10.24)
    record("samitrop/22", "SaMi-Trop", True, 7)
    record("ptbxl/00000/00001_hr", "PTB-XL", False, 10, 500, "300.0")
    record("ptbxl/00000/00002_hr", "PTB-XL", False, 10, 500)
    (root / "exams.csv").write_text("exam_id,age,is_male,patient_id\n113,68,False,7\n114,68,False,7\n115,68,False,8\n")
    return root


def code_test_tree(root: Path) -> Path:
    import h5py

    tracings = np.zeros((6, 4096, 12), np.float32)
    for k in range(6):
        n_samples = 2800 if k == 5 else 4000
        start = (4096 - n_samples) // 2
        tracings[k, start : start + n_samples] = ecg(n_samples / 400, 400, k).T / 1000
    (root / "annotations").mkdir(parents=True)
    with h5py.File(root / "ecg_tracings.hdf5", "w") as file:
        file["tracings"] = tracings
    rows = ["1dAVb,RBBB,LBBB,SB,AF,ST", "0,0,0,0,0,0", "1,1,0,0,0,0", *["0,0,0,0,1,0"] * 4]
    (root / "annotations" / "gold_standard.csv").write_text("\n".join(rows) + "\n")
    (root / "attributes.csv").write_text("age,sex\n" + "34,M\n70,F\n" * 3)
    return root


@pytest.fixture(scope="session")
def trees(tmp_path_factory, ptbxl_tree) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    return {
        "ptb-xl": ptbxl_tree,
        "challenge": challenge_tree(root / "challenge"),
        "ludb": ludb_tree(root / "ludb"),
        "ptb": ptb_tree(root / "ptb"),
        "challenge-2017": challenge2017_tree(root / "c17"),
        "code-test": code_test_tree(root / "code"),
        "brugada-huca": brugada_huca_tree(root / "brugada"),
        "challenge-2011": challenge2011_tree(root / "c11"),
        "challenge-2015": challenge2015_tree(root / "c15"),
        "chagas-2025": challenge2025_tree(root / "c25"),
    }
