"""No name, birth date, patient id or remark in marked files reaches a corpus, a network, a card, a page or a message.

A record's path below the directory, a cell of the record column and the name of a lead may be shown where that is what
has to be named.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from advisor.cli import main
from tests.engine.records.formats.mixed_folder import BIRTH, FIRST_NAME, NUMBER, SURNAME, write_mixed

MARKS = ("Zvonimir", "Qxtorova", "19470311", "1947-03-11", "11.03.1947", "MRN884213", "PATQX77", "fainted at the opera")
FOLDERS = ("Wexfordson", "Yttrasen")  # of patients: part of a record's path
ENCODINGS = ("utf-8", "utf-16-le", "utf-32-le")
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
COMMENTS = (
    "Patient: Qxtorova, Zvonimir", "Date of birth: 11.03.1947", "MRN: MRN884213", "<age>: 64 <sex>: F",
    "Age: Zvonimir 64", "Sex: Qxtorova", "History: fainted at the opera",
)  # fmt: skip
HEADER = "record,patient_id,Name,birth_date,hospital number,remarks,sex,age,AF,LBBB"
N_RECORDS = 48


class Ended(NamedTuple):
    code: int
    said: str


@pytest.fixture
def ecgadvise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Call the command in this process, with corpora of its own; what it says on either stream is checked for marks."""
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))

    def call(*arguments: object, code: int | None = 0) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ecgadvise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capsys.readouterr())
        found = Ended(int(ended.value.code or 0), said)
        assert code is None or found.code == code, found
        assert "Traceback" not in said
        assert_unmarked(said.encode(), " ".join(map(str, arguments)))
        return found

    return call


def assert_unmarked(content: bytes, where: str, marks: Sequence[str] = MARKS) -> None:
    lowered = content.lower()
    for mark in marks:
        for encoding in ENCODINGS:
            at = lowered.find(mark.lower().encode(encoding))
            assert at < 0, f"{mark} is in {where}: {content[max(at - 80, 0) : at + 80]!r}"


def assert_files_unmarked(folder: Path, marks: Sequence[str] = MARKS) -> int:
    """Search the names and contents of files in a folder, or of one; return how many there are."""
    files = [path for path in ([folder] if folder.is_file() else folder.rglob("*")) if path.is_file()]
    for path in files:
        assert_unmarked(str(path.relative_to(folder.parent)).encode(), f"the name {path.name}", marks)
        assert_unmarked(path.read_bytes(), str(path), marks)
    return len(files)


def beats(number: int, wide: bool, fs: int = 100, seconds: float = 10.0) -> np.ndarray:
    """Millivolt (12, samples) of bumps a second, narrow or wide."""
    time = np.arange(round(fs * seconds)) / fs
    rng = np.random.default_rng(number)
    bump = np.exp(-0.5 * (((time + rng.random()) % 1 - 0.5) / (0.06 if wide else 0.02)) ** 2)
    one, two, *chest = (gain * bump for gain in rng.uniform(0.5, 1.2, 8))
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.array([*limb, *chest]) + 0.01 * rng.standard_normal((12, len(time)))


def write(path: Path, signals: np.ndarray, fs: int = 100, comments: Sequence[str] = COMMENTS, unit: str = "mV") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.round(signals * 1000).astype("<i2")
    stored.T.tofile(path.with_name(path.name + ".dat"))
    lines = [f"{path.name} 12 {fs} {stored.shape[1]} 09:49:17 11/03/2020"]
    lines += [
        f"{path.name}.dat 16 1000/{unit} 16 0 {row[0]} {(int(row.sum()) + 32768) % 65536 - 32768} 0 {lead}"
        for row, lead in zip(stored.astype(int), LEADS, strict=True)
    ]
    text = "\n".join([*lines, *(f"# {comment}" for comment in comments)]) + "\n"
    path.with_name(path.name + ".hea").write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """Records of two folders whose headers, table and folder names are marked."""
    root = tmp_path / "ward"
    rows = [HEADER]
    for k in range(N_RECORDS):
        path = f"{FOLDERS[k % 2]}/r{k:03d}"
        write(root / path, beats(k, wide=k % 3 == 0))
        rows.append(
            f'{path},PATQX77-{k // 2},"Qxtorova, Zvonimir",1947-03-11,MRN884213,fainted at the opera,'
            f"F,{40 + k},{int(k % 3 == 0)},{int(k % 4 == 0)}"
        )
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_nothing_marked_leaves_the_records(ecgadvise, ward: Path, tmp_path: Path, checkpoint_writer):
    checked = ecgadvise("data", "check", ward, "--json").said
    assert f'"records": {N_RECORDS}' in checked
    ecgadvise("data", "check", ward)
    ecgadvise("data", "prepare", ward)
    assert assert_files_unmarked(tmp_path / "corpora")
    asked = ("--arch", "resnet1d18-w2", "--strategy", "scratch", "--device", "cpu", "--least-positives", 1)
    ecgadvise("train", "--data", ward, *asked, "--out", tmp_path / "trained")
    ecgadvise("train", "--data", ward, *asked, "--out", tmp_path / "as-json", "--json")
    split = tmp_path / "trained" / "split.csv"
    assert assert_files_unmarked(split)  # names records, for whoever has them
    split.unlink()
    assert assert_files_unmarked(tmp_path / "trained", (*MARKS, *FOLDERS))
    ecgadvise("export", tmp_path / "trained", "--out", tmp_path / "exported" / "model.onnx")
    assert assert_files_unmarked(tmp_path / "exported", (*MARKS, *FOLDERS))
    model = next((tmp_path / "exported").glob("*.onnx"))
    for way in ((), ("--json",), ("--csv", tmp_path / "predicted.csv")):
        ecgadvise("predict", model, ward, *way)
    assert assert_files_unmarked(tmp_path / "predicted.csv")
    own = ("--data", ward, "--arch", "cnn")
    ecgadvise("recommend", *own)
    ecgadvise("recommend", *own, "--json")
    ecgadvise("recommend", *own, "--report", tmp_path / "page.html")
    assert assert_files_unmarked(tmp_path / "page.html", (*MARKS, *FOLDERS))


def put(name: str, content: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(content, encoding="utf-8") and None


def change(name: str, pattern: str, by: str, count: int = 1) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / name
        text = path.read_text(encoding="utf-8")
        changed = re.sub(pattern, by, text, count=count)
        assert changed != text
        path.write_text(changed, encoding="utf-8")

    return apply


RECORD = f"{FOLDERS[0]}/r000.hea"
FAULTS = {
    "a label that is text": change("labels.csv", r",[01],([01])\n", r",Qxtorova fainted at the opera,\1\n"),
    "a label that is a birth date": change("labels.csv", r",[01],([01])\n", r",19470311,\1\n"),
    "no line of column names": change("labels.csv", r"record,.*\n", ""),
    "no line of column names, and no cell twice in it": lambda root: (root / "labels.csv").write_text(
        f"{FOLDERS[0]}/r000,PATQX77-1,Zvonimir,1,0\n{FOLDERS[1]}/r001,PATQX77-2,Qxtorova,0,1\n", encoding="utf-8"
    ),
    "records that no column names": change("labels.csv", r"(Wexfordson|Yttrasen)/r", "elsewhere/q", 0),
    "a table of another ward": lambda root: put("labels.csv", "MRN,AF\nMRN884213,1\n19470311,0\n")(root),
    "a patient that is missing": change("labels.csv", "PATQX77-3", ""),
    "an age and a sex in words": change("labels.csv", r",F,4\d", ",Qxtorova,Zvonimir", 0),
    "a name for a flag in every row": change("labels.csv", r",[01],([01])\n", r",Zvonimir,\1\n", 0),
    "a table that is no text": lambda root: (root / "labels.csv").write_bytes("Zvonimir\xff".encode("latin-1") * 9),
    "signals cut short": lambda root: (root / RECORD.replace("hea", "dat")).write_bytes(b"Zvonimir"),
    "a row with a cell too many": change("labels.csv", r'"Qxtorova, Zvonimir"', "Qxtorova, Zvonimir"),
    "a quote that is never closed": change("labels.csv", r'"Qxtorova, Zvonimir"', '"Qxtorova, Zvonimir'),
    "two columns for the patient": change("labels.csv", "hospital number", "subject"),
    "a fold that is text": change("labels.csv", "remarks,", "fold,"),
    "two tables": put("copy.csv", "record,AF\nr000,Zvonimir\n"),
    "a comment that lost its mark": change(RECORD, "# Patient", "Patient"),
    "a comment before the record line": change(RECORD, r"^", "Qxtorova Zvonimir 11.03.1947\n"),
    "a name where the rate should be": change(RECORD, r" 12 100 ", " 12 Zvonimir "),
    "a name where the number of leads should be": change(RECORD, r" 12 100 ", " Qxtorova 100 "),
    "a name where the format should be": change(RECORD, r"dat 16 ", "dat Zvonimir "),
    "a birth date as a start date": change(RECORD, "11/03/2020", "1947-03-11"),
    "a signal line of free text": change(RECORD, r"(r000.dat .*) I\n", "fainted at the opera\n"),
    "no table, and a diagnosis in words": lambda root: [
        (root / "labels.csv").unlink(),
        change(RECORD, "# Patient", "# Dx: Qxtorova fainted at the opera\n# Patient")(root),
        change(RECORD.replace("r000", "r002"), "# Patient", "# Dx: 426783006\n# Patient")(root),
    ],
    "no table and no diagnosis": lambda root: (root / "labels.csv").unlink(),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_message_about_a_damaged_tree_says_what_is_marked(fault, ecgadvise, ward: Path, tmp_path: Path):
    fault(ward)
    ecgadvise("data", "check", ward, code=None)
    ecgadvise("data", "check", ward, "--json", code=None)
    ecgadvise("data", "prepare", ward, code=None)
    assert_files_unmarked(tmp_path / "corpora")
    ecgadvise("recommend", "--data", ward, "--arch", "cnn", code=None)
    ecgadvise("train", "--data", ward, "--n-records", 1_000_000, "--out", tmp_path / "out", code=None)


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Files of every format, three of each, whose people are marked, and a table of their labels."""
    write_mixed(tmp_path / "exports", 3)
    assert {SURNAME, FIRST_NAME, NUMBER, BIRTH.strftime("%Y%m%d")} <= set(MARKS)
    return tmp_path / "exports"


def test_nothing_marked_leaves_files_of_any_format(ecgadvise, exports: Path, tmp_path: Path):
    """From a folder of all formats to a network, an ONNX model, predictions, a page and a copy: in one go."""
    formats = [path for path in exports.rglob("*") if path.is_file()]
    assert sum(re.search(rb"MRN884213|Qxtorova", path.read_bytes()) is not None for path in formats) > 20
    checked = ecgadvise("data", "check", exports).said
    assert "0 unusable" in checked
    assert "30 of 45 files say whose they are: 20 patients" in checked
    ecgadvise("data", "prepare", exports)
    assert assert_files_unmarked(tmp_path / "corpora")
    ecgadvise("train", "--data", exports, "--arch", "resnet1d18-w16", "--strategy", "linear-probe", "--device", "cpu",
              "--least-positives", 1, "--out", tmp_path / "trained")  # fmt: skip
    assert assert_files_unmarked(tmp_path / "trained")
    model = tmp_path / "exported" / "model.onnx"
    ecgadvise("export", tmp_path / "trained", "--out", model, "--records", exports)
    assert assert_files_unmarked(tmp_path / "exported")
    assert len(ecgadvise("predict", model, exports, "--json").said) > 1000
    ecgadvise("predict", model, exports, "--csv", tmp_path / "predicted.csv")
    assert len((tmp_path / "predicted.csv").read_text().splitlines()) == 46
    ecgadvise("recommend", "--data", exports, "--arch", "cnn", "--report", tmp_path / "page.html")
    assert assert_files_unmarked(tmp_path / "page.html")
    (tmp_path / "key").write_text("a secret of more than sixteen characters")
    ecgadvise("data", "convert", exports, "--to", "wfdb", "--out", tmp_path / "copy", "--key", tmp_path / "key")
    assert assert_files_unmarked(tmp_path / "copy") == 2 * 45 + 1
    ecgadvise("data", "check", tmp_path / "copy")


def test_no_message_about_a_damaged_file_of_any_format_says_what_is_marked(ecgadvise, exports: Path, tmp_path: Path):
    """Each file cut at many places, with marks written over what stood there, and with its bytes in another order."""
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    rows = ["record,AF"]
    for path in sorted(exports.rglob("e*.*")):
        if not path.is_file():
            continue
        whole = path.read_bytes()
        for k in range(12):
            content = bytearray(whole)
            at = int(rng.integers(0, min(len(content), 4000 if k % 2 else len(content))))
            if k % 3 == 0:
                del content[at:]
            elif k % 3 == 1:
                mark = MARKS[k % len(MARKS)].encode("utf-16-le" if whole[:2] == b"\xff\xfe" else "utf-8")
                content[at : at + len(mark)] = mark
            else:
                content[at : at + 40] = content[at : at + 40][::-1]
            name = f"{path.stem.split('.')[0]}-{k}"
            (damaged / f"{name}{path.suffix}").write_bytes(content)
            rows.append(f"{name},{k % 2}")
    (damaged / "labels.csv").write_text("\n".join(rows) + "\n")
    said = ecgadvise("data", "check", damaged, "--json", code=3).said
    assert said.count('"usable": false') > 100
    ecgadvise("data", "check", damaged, code=3)
    ecgadvise("data", "convert", damaged, "--to", "wfdb", "--out", tmp_path / "copy")
    assert assert_files_unmarked(tmp_path / "copy")
