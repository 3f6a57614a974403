"""Thousands of small trees, valid ones and such as are damaged, checked and prepared: what becomes of every record.

    python tests/fuzz_trees.py --trees 10000 --seed 0

A tree has four records of known samples and a table. Up to three things are done to it: some keep what it says (other
line ends, units, separators, names), some change it at the level of fields or bytes. What the tree then says is read
here once more, by the letter of the WFDB header format (header(5)) and of a table, with code that shares nothing with
the product. Every tree is one of

    right      every record that was kept has these samples, labels and patients
    refused    no record was kept, with a sentence that says why
    wrong      a record was kept with other samples, labels or patients, and nothing was said of it
    remarked   the same, with a remark
    traceback  anything but a UserError
    hang       more than the limit

``right`` says too how many records it holds; ``lost`` counts trees that say what they said and were refused all the
same. Trees that are wrong, remarked, a traceback, a hang or lost are named by their seed and what was done, and
``--seed S --trees 1`` makes that tree again.
"""

import argparse
import csv
import io
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus, prepare
from engine.corpora.survey import survey
from engine.sources.detect import open_source
from models.errors import UserError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LABELS = ("AF", "LBBB")
N_RECORDS, N_SAMPLES, FS = 4, 1000, 100
LIMIT = 20.0  # seconds a tree
_VOLT = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "μV": 1e-3, "nV": 1e-6, "V": 1e3}
_NEAR = 4e-3  # millivolt: samples are stored at 1 uV, and a lead that is derived adds up what was rounded
OUTCOMES = ("right", "refused", "wrong", "remarked", "traceback", "hang")


@dataclass
class Tree:
    """Files by path, as they will be written; ``keeps`` says whether they still say what they said at first."""

    files: dict[str, bytes]
    done: list[str] = field(default_factory=list)
    keeps: bool = True
    links: dict[str, str] = field(default_factory=dict)

    def headers(self) -> list[str]:
        """Paths of the headers."""
        return sorted(name for name in self.files if name.endswith(".hea"))


@dataclass(frozen=True)
class Truth:
    """What a record says: millivolt (samples,) by lead, labels by column, its patient; None where it is unclear."""

    signals: Mapping[str, NDArray[np.float64]] | None
    labels: Mapping[str, bool] | None
    patient: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of a tree: one of ``OUTCOMES``, in words, and how many records were kept."""

    kind: str
    words: str
    kept: int = 0


def samples(number: int) -> NDArray[np.int64]:
    """Return int (12, samples) in microvolt, in which Einthoven's equations hold."""
    rng = np.random.default_rng(number)
    time_ = np.arange(N_SAMPLES) / FS
    sources = np.stack([np.sin(2 * np.pi * f * time_ + rng.uniform(0, 6)) for f in (1.13, 2.37, 5.71, 9.19)])
    leads = (rng.normal(0, 300, (12, 4)) @ sources).round()
    leads[2:6] = leads[1] - leads[0], -(leads[0] + leads[1]) / 2, leads[0] - leads[1] / 2, leads[1] - leads[0] / 2
    return np.asarray(leads.round(), np.int64)


def header(name: str, stored: NDArray[np.int64], gain: str = "1000/mV") -> str:
    """Return the header of format 16 samples."""
    lines = [f"{name} {len(stored)} {FS} {stored.shape[1]}"]
    for row, lead in zip(stored, LEADS, strict=True):
        checksum = (int(row.sum()) + 32768) % 65536 - 32768
        lines.append(f"{name}.dat 16 {gain} 16 0 {row[0]} {checksum} 0 {lead}")
    return "\n".join([*lines, "#Age: 64", "#Sex: F"]) + "\n"


def sound_tree() -> Tree:
    """Four records of three patients, and their table."""
    files = {}
    rows = ["record,patient,age,sex," + ",".join(LABELS)]
    for k in range(N_RECORDS):
        stored = samples(k)
        files[f"r{k}.hea"] = header(f"r{k}", stored).encode()
        files[f"r{k}.dat"] = stored.T.astype("<i2").tobytes()
        rows.append(f"r{k},p{min(k, 2)},{50 + k},{'FM'[k % 2]},{k % 2},{int(k > 1)}")
    return Tree(files | {"labels.csv": ("\n".join(rows) + "\n").encode()})


# What keeps a tree's meaning


def _text(tree: Tree, name: str, change: Callable[[str], str]) -> None:
    tree.files[name] = change(tree.files[name].decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _each_header(tree: Tree, change: Callable[[str], str]) -> None:
    for name in tree.headers():
        _text(tree, name, change)


def line_ends(tree: Tree, rng: random.Random) -> None:
    """Windows' or old Macs' line ends in headers or table."""
    end = rng.choice(["\r\n", "\r\n", "\n\n"])
    if rng.random() < 0.5:
        _each_header(tree, lambda text: text.replace("\n", end))
    else:
        _text(tree, "labels.csv", lambda text: text.replace("\n", end))


def byte_order_mark(tree: Tree, _rng: random.Random) -> None:
    """A table with a byte order mark."""
    tree.files["labels.csv"] = b"\xef\xbb\xbf" + tree.files["labels.csv"]


def separator(tree: Tree, rng: random.Random) -> None:
    """A table with another separator."""
    _text(tree, "labels.csv", lambda text: text.replace(",", rng.choice(";\t")))


def quotes(tree: Tree, _rng: random.Random) -> None:
    """Every cell in quotes."""
    _text(tree, "labels.csv", lambda text: re.sub(r"[^,;\t\r\n]+", lambda cell: f'"{cell[0]}"', text))


def flags(tree: Tree, rng: random.Random) -> None:
    """Labels as other programs write them."""
    no, yes = rng.choice([("0.0", "1.0"), ("False", "True"), ("FALSE", "TRUE"), ("false", "true")])
    _text(tree, "labels.csv", lambda text: re.sub(r",([01]),([01])(?=\s)", lambda m: f",{(no, yes)[int(m[1])]},{(no, yes)[int(m[2])]}", text))  # fmt: skip # noqa: E501


def further_column(tree: Tree, rng: random.Random) -> None:
    """A column that means nothing here."""
    word = rng.choice(["seen by night shift", "", "3.5", "2020-01-01", "ä ö ü", "心電図", "N/A"])
    lines = tree.files["labels.csv"].decode("utf-8", "surrogateescape").split("\n")
    lines = [line + ("," + ("remark" if k == 0 else word) if line.strip() else "") for k, line in enumerate(lines)]
    tree.files["labels.csv"] = "\n".join(lines).encode("utf-8", "surrogateescape")


def rows_in_another_order(tree: Tree, rng: random.Random) -> None:
    """Rows of the table in any order."""
    lines = tree.files["labels.csv"].splitlines(keepends=True)
    tree.files["labels.csv"] = b"".join([*lines[:1], *rng.sample(lines[1:], len(lines) - 1)])


def microvolt(tree: Tree, rng: random.Random) -> None:
    """The same samples in another unit."""
    gain = rng.choice(["1/uV", "1/µV", "1/μV", "1000(0)/mV", "1e3/mV", "1000.0/mV", "1e6/V", "0.001/nV", "1000"])
    _each_header(tree, lambda text: text.replace("1000/mV", gain))


def comments(tree: Tree, rng: random.Random) -> None:
    """Comments, also between the lines of signals."""
    said = rng.choice(
        ["#", "# taken at night", "#Patient: 5 5 5", "# r0.dat 16 1000/mV 16 0 0 0 0 I", "#ü", "# 心電図"]
    )
    at = rng.choice([0, 1, 3, 13])

    def change(text: str) -> str:
        lines = text.split("\n")
        return "\n".join([*lines[:at], said, *lines[at:]])

    _each_header(tree, change)


def checksums_left_out(tree: Tree, _rng: random.Random) -> None:
    """Checksums that are all 0."""
    _each_header(tree, lambda text: re.sub(r"(?m)( 16 0 -?\d+) -?\d+ 0 ", r"\1 0 0 ", text))


def times(tree: Tree, rng: random.Random) -> None:
    """The time and date of a record."""
    when = rng.choice([" 09:49:17", " 9:49:17 05/05/2020", " 09:49:17.25 05/05/2020", " 0:0:0 1/1/1970"])
    _each_header(tree, lambda text: re.sub(rf"(?m)^(\S+ 12 {FS} {N_SAMPLES})", lambda found: found[1] + when, text))


def spaces(tree: Tree, rng: random.Random) -> None:
    """Tabs and several spaces between the fields of a header, and spaces at the ends of lines."""
    between = rng.choice(["\t", "  ", " \t "])
    _each_header(tree, lambda text: re.sub(r"(?m)^(?!#)(.*)$", lambda line: line[1].replace(" ", between), text))


def left_behind(tree: Tree, rng: random.Random) -> None:
    """What operating systems and Excel leave in folders."""
    name, content = rng.choice([
        (".DS_Store", b"\0\0\0\1Bud1"), ("Thumbs.db", b"\xd0\xcf\x11\xe0"), ("desktop.ini", b"[.ShellClassInfo]"),
        ("._r0.hea", b"\0\5\x16\7\0\2\0\0Mac OS X"), ("._labels.csv", b"\0\5\x16\7\0\2\0\0Mac OS X"),
        ("~$labels.csv", b"\5Owner"), (".~lock.labels.csv#", b",me,here,"), ("__MACOSX/._r0.hea", b"\0\5\x16\7"),
        ("notes.txt", b"nothing"), ("r0.hea~", b"old"), ("empty.dat", b""), ("r0.xws", b"<x/>"),
    ])  # fmt: skip
    tree.files[name] = content


def other_names(tree: Tree, rng: random.Random) -> None:
    """Other names of records, in files, headers and table."""
    stem = rng.choice(["ward_", "EKG-", "心電", "تخطيط", "é", "e\N{COMBINING ACUTE ACCENT}", "🫀", "a.b", "R"])
    renamed = {}
    for name, content in tree.files.items():
        found = re.fullmatch(r"r(\d)\.(hea|dat)", name)
        changed = (
            re.sub(rb"\br(\d)\b", lambda m: stem.encode() + m[1], content) if not name.endswith(".dat") else content
        )
        renamed[f"{stem}{found[1]}.{found[2]}" if found else name] = changed
    tree.files = renamed


def folders(tree: Tree, rng: random.Random) -> None:
    """Records in folders, with or without it in the table."""
    folder = rng.choice(["a", "2020/05", "with space", "ü", "CON", "心電図"])
    moved = {f"{folder}/{name}" if name.endswith((".hea", ".dat")) else name: c for name, c in tree.files.items()}
    if rng.random() < 0.5:
        moved["labels.csv"] = re.sub(
            rb"(?m)^(\"?)(?=r\d)", lambda m: m[1] + folder.encode() + b"/", moved["labels.csv"]
        )
    tree.files = moved


def links(tree: Tree, rng: random.Random) -> None:
    """A link to nowhere, or to a folder above."""
    tree.links["link"] = rng.choice(["nowhere", ".", "..", "link"])


KEEPING = (
    line_ends, byte_order_mark, separator, quotes, flags, further_column, rows_in_another_order, microvolt, comments,
    checksums_left_out, times, spaces, left_behind, other_names, folders, links,
)  # fmt: skip

# What changes it

_WORDS = (
    "", " ", "0", "1", "-1", "2", "12", "nan", "NaN", "inf", "1e9", "99999999999999999999", "-32768", "x", "mV", "uV",
    "mmHg", "16", "212", "80", "16x2", "16:3", "16+24", "1000(5)/mV", "100/200", "100.0(7)", "V1", "I", "MLII", "C1",
    "r0", "r9", "r0.dat", "r1.dat", "../r0.dat", "/etc/passwd", "~", "none", "NA", "N/A", ".", "?", "true", "yes", "Y",
    "0,5", "1.0", "\"", "'", "\0", "\x1a", "\ufeff", "é", "心", "a" * 300, "#", "p0", "P0", "p00", " p0",
)  # fmt: skip


def _fields(text: str, between: str) -> list[str]:
    return re.split(f"({between})", text)


def field_of_header(tree: Tree, rng: random.Random) -> None:
    """A field of one header is another word."""
    name = rng.choice(tree.headers())

    def change(text: str) -> str:
        parts = _fields(text, r"[ \t\n]+")
        parts[2 * rng.randrange((len(parts) + 1) // 2)] = rng.choice(_WORDS)
        return "".join(parts)

    _text(tree, name, change)


def number_of_header(tree: Tree, rng: random.Random) -> None:
    """A number of one header is another number."""
    name = rng.choice(tree.headers())

    def change(text: str) -> str:
        found = rng.choice(list(re.finditer(r"\d+", text)) or [re.match("", text)])
        other = rng.choice(
            ["0", "1", "2", "11", "13", "99", "100", "200", "360", "500", "999", "1001", "5000", "65536"]
        )
        return text[: found.start()] + other + text[found.end() :] if found else text

    _text(tree, name, change)


def line_of_header(tree: Tree, rng: random.Random) -> None:
    """A line of one header is left out, said twice or changes places."""
    _text(tree, rng.choice(tree.headers()), lambda text: _shuffle_lines(text, rng))


def line_of_table(tree: Tree, rng: random.Random) -> None:
    """A line of the table is left out, said twice or changes places."""
    _text(tree, "labels.csv", lambda text: _shuffle_lines(text, rng))


def _shuffle_lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines)


def cell_of_table(tree: Tree, rng: random.Random) -> None:
    """A cell of the table is another word."""

    def change(text: str) -> str:
        parts = _fields(text, r"[,;\t\n]")
        parts[2 * rng.randrange((len(parts) + 1) // 2)] = rng.choice(_WORDS)
        return "".join(parts)

    _text(tree, "labels.csv", change)


def bytes_of_a_file(tree: Tree, rng: random.Random) -> None:
    """Bytes of any file are changed, left out or put in."""
    name = rng.choice(sorted(tree.files))
    content = bytearray(tree.files[name])
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(3):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del content[at : at + rng.choice([1, 2, 24])]
            case _:
                content[at:at] = rng.randbytes(rng.choice([1, 2, 24]))
    tree.files[name] = bytes(content)


def bit_of_samples(tree: Tree, rng: random.Random) -> None:
    """One bit of the samples is another."""
    name = rng.choice(sorted(name for name in tree.files if name.endswith(".dat")))
    content = bytearray(tree.files[name])
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    tree.files[name] = bytes(content)


def length_of_a_file(tree: Tree, rng: random.Random) -> None:
    """A file is cut short, empty, longer or gone."""
    name = rng.choice(sorted(tree.files))
    content = tree.files.pop(name)
    if (way := rng.randrange(4)) < 3:
        tree.files[name] = (content[: rng.randrange(len(content) + 1)], b"", content + rng.randbytes(48))[way]


def table_of_another_encoding(tree: Tree, rng: random.Random) -> None:
    """The table is not in UTF-8."""
    text = tree.files["labels.csv"].decode("utf-8", "replace")
    tree.files["labels.csv"] = text.encode(rng.choice(["utf-16", "utf-16-le", "cp1252", "utf-32"]), "replace")


def copied_record(tree: Tree, rng: random.Random) -> None:
    """A record is there twice, in two folders, or a second table is."""
    name = rng.choice(sorted(tree.files))
    tree.files[f"copy/{Path(name).name}" if not name.endswith(".csv") else "copy.csv"] = tree.files[name]


CHANGING = (
    field_of_header, field_of_header, number_of_header, number_of_header, line_of_header, line_of_table, cell_of_table,
    cell_of_table, bytes_of_a_file, bytes_of_a_file, bit_of_samples, length_of_a_file, table_of_another_encoding,
    copied_record,
)  # fmt: skip


def make_tree(seed: int) -> Tree:
    """Return the tree of a seed: up to two things that keep it, and in three of four trees one or two that do not."""
    rng = random.Random(seed)
    tree = sound_tree()
    for keep in rng.sample(KEEPING, rng.randrange(3)):
        keep(tree, rng)
        tree.done.append(keep.__name__)
    for change in rng.choices(CHANGING, k=rng.choice([0, 1, 1, 2])):
        before = dict(tree.files)
        if "labels.csv" in tree.files and tree.headers() and any(name.endswith(".dat") for name in tree.files):
            change(tree, rng)
            tree.done.append(change.__name__)
        tree.keeps &= before == tree.files
    return tree


# What a tree says, read once more


_SIGNAL = re.compile(
    r"(?P<file>\S+)\s+16\s+(?P<gain>-?\d+\.?\d*(?:[eE][+-]?\d+)?)(?:\((?P<baseline>-?\d{1,9})\))?(?:/(?P<unit>\S+))?"
    r"\s+\d+\s+(?P<zero>-?\d{1,9})\s+-?\d+\s+(?P<checksum>-?\d+)\s+\d+\s+(?P<lead>.+)",
    re.ASCII,
)


def signals_said(tree: Tree, path: str) -> dict[str, NDArray[np.float64]] | None:
    """Return millivolt by lead as a header says by the letter of header(5), None where it says it otherwise.

    Nothing is compared, {}, where the header gives another rate: the product resamples then.
    """
    text = tree.files[f"{path}.hea"].decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    first = re.fullmatch(r"\S+\s+(\d+)\s+(\d+\.?\d*)(?:/\S+)?\s+(\d+)(?:\s+\S+){0,2}", lines[0]) if lines else None
    if first is None or int(first[1]) != len(lines) - 1:
        return None
    found = [one for one in map(_SIGNAL.fullmatch, lines[1:]) if one is not None]
    n, n_leads = int(first[3]), len(found)
    units = {one["unit"] or "mV" for one in found}
    content = tree.files.get((Path(path).parent / found[0]["file"]).as_posix(), b"") if found else b""
    if n_leads < int(first[1]) or len({one["file"] for one in found}) > 1 or not units <= set(_VOLT):
        return None
    if not N_SAMPLES <= n <= len(content) // (2 * n_leads):
        return None
    stored = np.frombuffer(content[: 2 * n * n_leads], "<i2").reshape(n, n_leads).T.astype(np.int64)
    checksums = [int(one["checksum"]) for one in found]
    if any(checksums) and any((int(row.sum()) - sum_) % 65536 for row, sum_ in zip(stored, checksums, strict=True)):
        return None
    if float(first[2]) != FS:
        return {}
    return {
        one["lead"].strip(): (row[:N_SAMPLES] - int(one["baseline"] or one["zero"]))
        / (float(one["gain"]) or 200.0)
        * _VOLT[one["unit"] or "mV"]
        for one, row in zip(found, stored, strict=True)
    }


def table_said(tree: Tree) -> dict[str, tuple[dict[str, bool], str | None]] | None:
    """Return labels and patient by the record's cell, as a plain table says them, None where it does not."""
    try:
        text = _table_text(tree.files["labels.csv"])
        rows = list(csv.reader(io.StringIO(text), delimiter=max(",;\t", key=text.split("\n")[0].count), strict=True))
    except (KeyError, UnicodeDecodeError, csv.Error):
        return None
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    stems = {Path(name).stem for name in tree.headers()}
    if not rows or any(len(row) != len(rows[0]) for row in rows) or (stems & set(rows[0]) and "record" not in rows[0]):
        return None
    named = Counter(k for row in rows[1:] for k, cell in enumerate(row) if Path(cell).name in stems)
    column = named.most_common(1)[0][0] if named else 0
    said: dict[str, tuple[dict[str, bool], str | None]] = {}
    for cells in rows[1:]:
        row = dict(zip(rows[0], cells, strict=True))
        words = {name: row.get(name, "").lower() for name in LABELS}
        labels = {name: word in ("1", "1.0", "true", "yes") for name, word in words.items() if word in _FLAGS}
        own = labels, row.get("patient") or None
        record = cells[column].removesuffix(".dat").removesuffix(".hea")
        said[record] = own if said.get(record, own) == own else ({}, None)  # rows that contradict
    return said


def _table_text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if b"\0" in content[:8]:
        return content.decode("utf-32" if b"\0\0\0" in content[:8] else "utf-16-le")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


_FLAGS = ("0", "0.0", "false", "no", "1", "1.0", "true", "yes")


def truths(tree: Tree) -> dict[str, Truth]:
    """Return what the tree says of every record, by its path without suffix."""
    rows = table_said(tree)
    found = {}
    for name in tree.headers():
        path = name.removesuffix(".hea")
        row = None if rows is None else rows.get(path) or rows.get(Path(path).name)
        found[path] = Truth(signals_said(tree, path), None if row is None else row[0], None if row is None else row[1])
    return found


# What becomes of it


class _HangError(Exception):
    pass


def judge(seed: int, folder: Path, limit: float = LIMIT) -> tuple[Tree, Outcome]:
    """Write the tree of a seed into ``folder``, check and prepare it, and say what became of it."""
    tree = make_tree(seed)
    root = folder / "ward"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in tree.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for name, target in tree.links.items():
        (root / name).symlink_to(target)

    def stop(_signal: int, _frame: object) -> None:
        raise _HangError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return tree, _outcome(tree, root, folder / "corpora" / "ward")
    except UserError as error:
        one_line = "\n" not in str(error) and str(error).strip()
        return tree, Outcome("refused" if one_line else "traceback", str(error))
    except _HangError:
        return tree, Outcome("hang", f"more than {limit:g} s")
    except Exception:  # noqa: BLE001 (what is counted)
        return tree, Outcome("traceback", traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _outcome(tree: Tree, root: Path, target: Path) -> Outcome:
    survey(open_source(root))
    corpus, problems = prepare(open_source(root), target)
    said = truths(tree)
    remarked = {problem.record for problem in problems if problem.usable}
    wrong = {record: words for record, words in _differences(corpus, said).items() if words}
    silent = {record: words for record, words in wrong.items() if record not in remarked}
    chosen = silent or wrong
    kind = "wrong" if silent else "remarked" if wrong else "right"
    return Outcome(kind, "; ".join(f"{record}: {words}" for record, words in chosen.items()), len(corpus))


def _differences(corpus: Corpus, said: Mapping[str, Truth]) -> dict[str, str]:
    """Return by record in what the corpus differs from what the tree says; "" where it does not."""
    found, patients = {}, dict[str, int]()
    for row, record in enumerate(corpus.record_ids):
        truth = said.get(str(record))
        if truth is None:
            found[str(record)] = "no such record"
            continue
        found[str(record)] = ", ".join(
            filter(None, [_signals_differ(corpus, row, truth), _labels_differ(corpus, row, truth)])
        )
        if (
            truth.patient is not None
            and patients.setdefault(truth.patient, corpus.patients[row]) != corpus.patients[row]
        ):
            found[str(record)] += f" one patient ({truth.patient}) is two"
    return found


def _signals_differ(corpus: Corpus, row: int, truth: Truth) -> str:
    said = _first_said(str(corpus.record_ids[row])) if truth.signals is None else truth.signals
    by_name = {name.lower(): values for name, values in said.items()}
    for k, lead in enumerate(corpus.leads):
        if lead.lower() not in by_name:
            continue  # derived, or of another name for the same lead
        off = float(np.abs(np.asarray(corpus.signals[row][k], np.float64) - by_name[lead.lower()][:N_SAMPLES]).max())
        if not off <= max(_NEAR, 1e-4 * float(np.abs(by_name[lead.lower()]).max())):
            return f"lead {lead} is off by {off:.3g} mV"
    return ""


def _first_said(record: str) -> dict[str, NDArray[np.float64]]:
    """Return what the record of this name said before anything was done to it."""
    number = int(re.findall(r"\d", Path(record).name)[-1])
    return dict(zip(LEADS, samples(number) / 1000, strict=True))


def _labels_differ(corpus: Corpus, row: int, truth: Truth) -> str:
    if truth.labels is None:
        return "labels are kept that the table does not say"
    kept = dict(zip(corpus.label_names, (corpus.labels[row] > 0).tolist(), strict=True))
    return ", ".join(
        f"{name} is {kept[name]}" for name in kept if name in LABELS and truth.labels.get(name) != kept[name]
    )


def main() -> None:
    """Make the trees and count what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first tree; the others have the next ones")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a tree")
    parser.add_argument("--named", type=int, default=40, help="trees of each kind that are named")
    asked = parser.parse_args()
    counts, named, kept, lost, started = Counter[str](), Counter[str](), 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seed, asked.seed + asked.trees):
            tree, outcome = judge(seed, Path(folder) / "tree", asked.limit)
            counts[outcome.kind] += 1
            kept += outcome.kept
            is_lost = tree.keeps and (outcome.kind == "refused" or 0 < outcome.kept < N_RECORDS)
            lost += is_lost
            kind = "lost" if is_lost else outcome.kind
            if kind not in ("right", "refused"):
                named[kind] += 1
                if named[kind] <= asked.named:
                    sys.stdout.write(f"{kind} seed {seed} ({', '.join(tree.done)}): {outcome.words}\n")
                    sys.stdout.flush()
    figures = ", ".join(f"{kind} {counts[kind]:,}" for kind in OUTCOMES)
    seconds = f"{time.monotonic() - started:.0f} s"
    sys.stdout.write(f"{asked.trees:,} trees in {seconds}: {figures}; lost {lost:,}; {kept:,} records kept\n")
    sys.exit(bool(counts["wrong"] + counts["traceback"] + counts["hang"]))


if __name__ == "__main__":
    main()
