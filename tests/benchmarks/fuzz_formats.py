"""Thousands of damaged and hostile copies of recordings, opened and decoded: what becomes of each.

    python tests/benchmarks/fuzz_formats.py FOLDER --number 1000 --seed 0

FOLDER is searched for files that are read as they are, with the ``signals.toml`` next to them; of each, NUMBER copies
are made: bits, bytes, blocks and numbers are changed, XML is made to nest, to repeat, to declare entities and other
encodings. A format with checksums gets a second row, of copies whose checksums were made right again: what a careless
writer would make, which is read as what it says.
Every copy is opened and decoded in one of two child processes and is one of

    refused    a RecordError
    equal      read, with the samples, leads and rate of the original
    person     the same, but of another person or time
    noted      read with other samples, leads or rate, and with another note or fault than the original
    silent     the same, without one
    exception  anything but a RecordError, a child that died among it
    hang       more than LIMIT seconds; the child is killed

Exceptions and hangs are named with the number of the copy (``--first K --number 1`` makes it again) and what was done
to it; with any of them the exit code is 1. ``slowest`` is in seconds.
"""

import argparse
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Process, get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from engine.records.formats.contents import Contents
from engine.records.formats.described.told import FILE_NAME
from engine.records.formats.recordings import WFDB, recordings_in
from engine.records.record import Record, RecordError
from tests.engine.records.formats.writers_scp import sealed

REPAIRS: dict[str, Callable[[bytes], bytes]] = {".scp": sealed}  # by suffix: makes the checksums of a copy right again
OUTCOMES = ("refused", "equal", "person", "noted", "silent", "exception", "hang")
N_WORKERS = 2
MEMORY = 4 << 30  # bytes that a child may ask for
SHOWN = 12  # failures that are named in full
EXTREMES = (
    *("0", "-1", "1", "00", "-0", "1e309", "-1e309", "1e-320", "NaN", "inf", "2147483647", "2147483648", "4294967296"),
    *("9223372036854775808", "1" * 400, "1" * 5000, "0x10", "1_000", "1,5", "", " ", "+7", "\u0663", "1e400000000"),
)


@dataclass(frozen=True)
class Case:
    """A file that is read as it is, under which row its copies count, and whether their checksums are repaired."""

    path: Path
    row: str
    repaired: bool


@dataclass
class Row:
    """How many copies became what, how long the slowest took, and what went wrong."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def main(arguments: list[str] | None = None) -> int:
    """Run it; 1 where a copy ended in anything but a record or a RecordError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=1000, help="copies of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first copy")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds a copy")
    chosen = parser.parse_args(arguments)
    cases, unread = find_cases(chosen.folder)
    _say(*unread)
    rows: dict[str, Row] = defaultdict(Row)
    began = time.monotonic()
    copies = ((case, k) for k in range(chosen.first, chosen.first + chosen.number) for case in cases)
    for case, k, outcome, seconds, what in run_all(copies, chosen.seed, chosen.limit):
        row = rows[case.row]
        row.outcomes[outcome] += 1
        row.slowest = max(row.slowest, seconds)
        if outcome in ("exception", "hang"):
            row.kinds[what.partition(":")[0] if outcome == "exception" else "hang"] += 1
            row.failures.append(f"{case.path} copy {k}: {outcome}, {what}")
    print_table(rows, time.monotonic() - began)
    failures = [failure for row in rows.values() for failure in row.failures]
    _say(*failures[:SHOWN])
    if len(failures) > SHOWN:
        _say(f"and {len(failures) - SHOWN} more")
    crashed = any("is not read:" not in line for line in unread)
    return int(bool(failures) or crashed or not cases)


def open_copy(path: Path) -> Contents:
    """Open a file as every command does; of an array of many recordings the first."""
    recording = recordings_in(path)[0]
    if recording.format == WFDB:
        raise RecordError("not in a format that has contents")
    return recording.contents()


def find_cases(folder: Path) -> tuple[list[Case], list[str]]:
    """Return the files that are read as they are, and a line on each other file."""
    cases, lines = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            open_copy(path).record()
        except RecordError as error:
            lines.append(f"{path} is not read: {error}")
        except Exception as error:  # noqa: BLE001  what an opener must not raise
            lines.append(f"{path} ends in {type(error).__name__}")
        else:
            row = path.relative_to(folder).parts[0] if path.parent != folder else path.suffix.lstrip(".")
            cases.append(Case(path, row, False))
            if path.suffix.lower() in REPAIRS:
                cases.append(Case(path, f"{row}, repaired", True))
    return cases, lines


@dataclass
class Worker:
    """A child process, and since when it has been at which copy."""

    process: Process
    connection: Connection
    at: tuple[Case, int] | None = None
    since: float = 0.0


def run_all(copies: Iterator[tuple[Case, int]], seed: int, limit: float) -> Iterator[tuple[Case, int, str, float, str]]:
    """Yield case, number, outcome, seconds and what was done or raised of every copy, as they come."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        workers = [_start(place, seed) for _ in range(N_WORKERS)]
        try:
            while True:
                for worker in workers:
                    if worker.at is None and (copy := next(copies, None)):
                        worker.at, worker.since = copy, time.monotonic()
                        worker.connection.send(copy)
                busy = [worker for worker in workers if worker.at]
                if not busy:
                    return
                deadline = min(worker.since for worker in busy) + limit
                ready = wait([worker.connection for worker in busy], max(0.0, deadline - time.monotonic()))
                for k, worker in enumerate(workers):
                    if worker.at is None:
                        continue
                    case, number = worker.at
                    seconds = time.monotonic() - worker.since
                    if worker.connection in ready:
                        try:
                            outcome, what, seconds = worker.connection.recv()
                        except EOFError:
                            worker.process.join()
                            outcome, what = "exception", f"died: exit code {worker.process.exitcode}"
                            workers[k] = _start(place, seed)
                    elif seconds > limit:
                        worker.process.kill()
                        worker.process.join()
                        outcome, what = "hang", ", ".join(_make(case, number, seed)[1])
                        workers[k] = _start(place, seed)
                    else:
                        continue
                    worker.at = None
                    yield case, number, outcome, seconds, what
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()


def _start(place: str, seed: int) -> Worker:
    context = get_context("fork")  # starts at once, with what was imported here
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, place, seed), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _work(connection: Connection, place: str, seed: int) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    originals: dict[Path, tuple[Contents, Record]] = {}
    while True:
        try:
            case, number = connection.recv()
        except EOFError:
            return
        if case.path not in originals:
            contents = open_copy(case.path)
            originals[case.path] = contents, contents.record()
        content, done = _make(case, number, seed)
        folder = Path(place, str(os.getpid()))
        folder.mkdir(exist_ok=True)
        description, copy = case.path.with_name(FILE_NAME), folder / case.path.name
        (folder / FILE_NAME).write_bytes(description.read_bytes() if description.is_file() else b"")
        copy.write_bytes(content)
        began = time.monotonic()
        outcome, what = judge(copy, *originals[case.path])
        seconds = time.monotonic() - began
        copy.unlink()
        connection.send((outcome, f"{what}{' after ' if what else ''}{', '.join(done)}", seconds))


def judge(copy: Path, contents: Contents, record: Record) -> tuple[str, str]:
    """Open and decode a copy; return what became of it, and what was raised where that should not have been."""
    try:
        other = open_copy(copy)
        read = other.record()
    except RecordError as error:
        if not str(error) or "\n" in str(error):
            return "exception", "RecordError: not a sentence"
        return "refused", ""
    except Exception as error:  # noqa: BLE001  all that is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "exception", f"{type(error).__name__}: {Path(last.filename).name} line {last.lineno}"
    same = (read.leads, read.fs) == (record.leads, record.fs)
    if same and np.array_equal(read.signals, record.signals, equal_nan=True):
        persons = (other.person, other.person.identity, other.recorded)
        return ("equal" if persons == (contents.person, contents.person.identity, contents.recorded) else "person"), ""
    noted = (read.notes, read.faults) != (record.notes, record.faults)
    return ("noted" if noted else "silent"), ""


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def print_table(rows: dict[str, Row], seconds: float) -> None:
    """Print how many copies of each row became what."""
    width = max((len(name) for name in rows), default=0) + 2
    _say(" " * width + "".join(f"{outcome:>11}" for outcome in OUTCOMES) + f"{'slowest':>9}")
    for name, row in sorted(rows.items()):
        kinds = ", ".join(f"{kind} {count}" for kind, count in row.kinds.most_common())
        counts = "".join(f"{row.outcomes[outcome]:>11,}" for outcome in OUTCOMES)
        _say(f"{name:<{width}}{counts}{row.slowest:>9.2f}  {kinds}".rstrip())
    total = sum(row.outcomes.total() for row in rows.values())
    _say(f"{total:,} copies in {seconds:,.0f} s")


def _make(case: Case, number: int, seed: int) -> tuple[bytes, list[str]]:
    content, done = make_copy(
        case.path.read_bytes(), random.Random(f"{seed} {case.path.name} {case.repaired} {number}")
    )
    if case.repaired:
        try:
            content = REPAIRS[case.path.suffix.lower()](content)
        except (struct.error, ValueError, IndexError):  # nothing left of its structure
            done.append("not repaired")
    return content, done


def make_copy(content: bytes, rng: random.Random) -> tuple[bytes, list[str]]:
    """Return a copy of a file with one to three changes, and their names."""
    changes = [*BINARY, *(TEXT if _is_text(content) else ()), *(XML if _is_xml(content) else ())]
    copy, done = content, list[str]()
    wanted = rng.choice((1, 1, 1, 2, 3))
    while copy and (len(done) < wanted or copy == content):  # a block of zeros may be set to zeros
        change = rng.choice(changes)
        copy = change(copy, rng)
        done.append(change.__name__.replace("_", " "))
    return copy, done


def _is_text(content: bytes) -> bool:
    return not any(content[:2000].translate(None, bytes([0, 9, 10, 13, *range(32, 256)])))


def _is_xml(content: bytes) -> bool:
    return content[:200].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t").startswith(b"<")


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    new = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        new[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(new)


def overwrite_bytes(content: bytes, rng: random.Random) -> bytes:
    """Up to sixteen bytes in a row, by any."""
    start, length = _place(content, rng), rng.randint(1, 16)
    return content[:start] + rng.randbytes(length) + content[start + length :]


def overwrite_number(content: bytes, rng: random.Random) -> bytes:
    """A number of one, two, four or eight bytes, by the largest, the smallest or one near to what it was."""
    form = rng.choice((*"bBhHiIqQ", *"hHiIqQ"))
    order = rng.choice("<>")
    size = struct.calcsize(f"{order}{form}")
    if len(content) < size:
        return content
    start = min(_place(content, rng), len(content) - size)
    was = int.from_bytes(content[start : start + size], "little" if order == "<" else "big")
    top = (1 << 8 * size) - 1
    value = rng.choice((0, 1, top, top >> 1, (top >> 1) + 1, was + 1, was - 1, was * 2, was * 256, was >> 1)) & top
    return content[:start] + value.to_bytes(size, "little" if order == "<" else "big") + content[start + size :]


def cut_end(content: bytes, rng: random.Random) -> bytes:
    """All from a place on."""
    return content[: rng.choice((_place(content, rng), len(content) - rng.randint(1, min(64, len(content)))))]


def cut_out(content: bytes, rng: random.Random) -> bytes:
    """A block, or a few bytes."""
    start, end = _block(content, rng)
    return content[:start] + content[end:]


def insert_bytes(content: bytes, rng: random.Random) -> bytes:
    """Up to a hundred bytes."""
    start = _place(content, rng)
    return content[:start] + rng.randbytes(rng.randint(1, 100)) + content[start:]


def add_to_end(content: bytes, rng: random.Random) -> bytes:
    """Zeros, the file itself, or anything."""
    return content + rng.choice((bytes(rng.randint(1, 5000)), content, rng.randbytes(rng.randint(1, 5000))))


def zero_block(content: bytes, rng: random.Random) -> bytes:
    """A block, by zeros, ones or blanks."""
    start, end = _block(content, rng)
    return content[:start] + rng.choice((b"\0", b"\xff", b" ")) * (end - start) + content[end:]


def double_block(content: bytes, rng: random.Random) -> bytes:
    """A block twice in a row."""
    start, end = _block(content, rng)
    return content[:end] + content[start:]


def swap_blocks(content: bytes, rng: random.Random) -> bytes:
    """Two blocks that follow each other."""
    start, end = _block(content, rng)
    middle = rng.randint(start, end)
    return content[:start] + content[middle:end] + content[start:middle] + content[end:]


def replace_number(content: bytes, rng: random.Random) -> bytes:
    """A number in a text, by an extreme one or none."""
    wide = b"\0" in content[:200]
    found = list(re.finditer(rb"(?:[0-9]\0)+" if wide else rb"-?[0-9]+(?:\.[0-9]+)?", content[:2_000_000]))
    if not found:
        return content
    number = rng.choice(found[: rng.choice((20, 200, len(found)))])
    new = rng.choice(EXTREMES).encode("utf-16-le" if wide else "utf-8")
    return content[: number.start()] + new + content[number.end() :]


def change_lines(content: bytes, rng: random.Random) -> bytes:
    """A line left out, doubled, swapped with another, or all with another end."""
    lines = content.splitlines(keepends=True)
    k, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[k]
        case 1:
            lines[k] *= rng.choice((2, 1000))
        case 2:
            lines[k], lines[other] = lines[other], lines[k]
        case _:
            return content.replace(b"\n", rng.choice((b"\r", b"\r\n", b"")))
    return b"".join(lines)


def declare_entities(content: bytes, rng: random.Random) -> bytes:
    """Entities that unfold to billions of bytes, that name a file or an address, or that are never used."""
    tens = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 10))
    subset = rng.choice(
        (
            f'<!ENTITY e0 "0">{tens}',
            '<!ENTITY e9 SYSTEM "file:///etc/passwd">',
            '<!ENTITY e9 SYSTEM "http://127.0.0.1:9/x">',
            '<!ENTITY % p SYSTEM "file:///etc/passwd">%p;',
            f'<!ENTITY e9 "{"1" * 100_000}">',
            '<!ENTITY e9 "&e9;">',
            '<!ATTLIST x y CDATA "z">',
        )
    )
    text, encoding = _decoded(content)
    declared = re.sub(r"<!DOCTYPE[^>]*>", "", text, count=1)
    root = re.search(r"<([A-Za-z_][\w.:-]*)[^>]*>", declared)
    if not root:
        return content
    doctype = f"<!DOCTYPE {root[1]} [{subset}]>"
    use = rng.choice(("&e9;", "&e9;" * 100, ""))
    return (declared[: root.start()] + doctype + root[0] + use + declared[root.end() :]).encode(encoding, "replace")


def nest_deeply(content: bytes, rng: random.Random) -> bytes:
    """Elements in elements, up to a hundred thousand."""
    depth = rng.choice((90, 200, 5000, 100_000))
    return _inserted(content, rng, "<a>" * depth + rng.choice(("", "</a>" * depth)))


def add_attributes(content: bytes, rng: random.Random) -> bytes:
    """An element with up to a hundred thousand attributes, or a long one, or the same twice."""
    count = rng.choice((10, 10_000, 100_000))
    many = "".join(f' a{k}="{k}"' for k in range(count))
    return _inserted(content, rng, rng.choice((f"<b{many}/>", f'<b c="{"1" * count * 10}"/>', '<b c="1" c="2"/>')))


def add_elements(content: bytes, rng: random.Random) -> bytes:
    """Up to a million empty elements, a long text, or a section of characters."""
    count = rng.choice((100, 10_000, 1_000_000))
    return _inserted(
        content, rng, rng.choice(("<c/>" * count, "7," * count, f"<![CDATA[{'<' * count}]]>", f"<!--{'x' * count}-->"))
    )


def double_element(content: bytes, rng: random.Random) -> bytes:
    """An element with all that is in it twice, left out, or empty."""
    text, encoding = _decoded(content)
    starts = list(re.finditer(r"<([A-Za-z_][\w.:-]*)(?=[\s>])[^>]*[^/>]?>", text))
    if not starts:
        return content
    start = rng.choice(starts[: rng.choice((10, 100, len(starts)))])
    close = text.find(f"</{start[1]}>", start.end())
    if close < 0:
        return content
    end = close + len(start[1]) + 3
    whole = text[start.start() : end]
    new = rng.choice((whole * 2, whole * 20, "", start[0] + f"</{start[1]}>"))
    return (text[: start.start()] + new + text[end:]).encode(encoding, "replace")


def rename_element(content: bytes, rng: random.Random) -> bytes:
    """A name of elements, by that of another, or in another case."""
    text, encoding = _decoded(content)
    names = sorted(set(re.findall(r"<([A-Za-z_][\w.:-]*)", text[:200_000])))
    if not names:
        return content
    name = rng.choice(names)
    new = rng.choice((rng.choice(names), name.swapcase(), f"x:{name}"))
    return re.sub(rf"(</?){re.escape(name)}(?=[\s/>])", rf"\g<1>{new}", text).encode(encoding, "replace")


def declare_encoding(content: bytes, rng: random.Random) -> bytes:
    """Another encoding than it has, in the declaration, in the bytes, or in the mark before them."""
    text, encoding = _decoded(content)
    names = (
        "utf-8",
        "UTF-16",
        "utf-7",
        "utf-32",
        "ISO8859-1",
        "latin-1",
        "ascii",
        "cp037",
        "rot13",
        "idna",
        "zip",
        "x",
    )
    match rng.randrange(3):
        case 0:
            declared = re.sub(r"encoding\s*=\s*[\"'][^\"']*[\"']", f'encoding="{rng.choice(names)}"', text, count=1)
            return declared.encode(encoding, "replace")
        case 1:
            return text.encode(
                rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037")), "replace"
            )
        case _:
            return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"\0")) + content


BINARY = (
    *(flip_bits, overwrite_bytes, overwrite_number, cut_end, cut_out, insert_bytes, add_to_end, zero_block),
    *(double_block, swap_blocks),
)
TEXT = (replace_number, replace_number, replace_number, change_lines)
XML = (
    *(declare_entities, nest_deeply, add_attributes, add_elements, double_element, double_element, rename_element),
    declare_encoding,
)


def _place(content: bytes, rng: random.Random) -> int:
    """A place anywhere, as often as not near the beginning, where a format says what it holds."""
    return rng.randrange(rng.choice((min(64, len(content)), min(1024, len(content)), len(content), len(content))))


def _block(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = _place(content, rng)
    length = min(rng.choice((1, 2, 16, 256, 4096, len(content) // 2 + 1)), len(content) - start)
    return start, start + rng.randint(1, length)


def _decoded(content: bytes) -> tuple[str, str]:
    encoding = "latin-1"
    if b"\0" in content[:4]:
        encoding = "utf-16-le" if content[:1] != b"\0" and content[:2] != b"\xfe\xff" else "utf-16-be"
    return content.decode(encoding, "replace"), encoding


def _inserted(content: bytes, rng: random.Random, new: str) -> bytes:
    """The document with a text after one of its tags."""
    text, encoding = _decoded(content)
    ends = [found.end() for found in re.finditer(">", text[: rng.choice((500, 5000, 1_000_000))])]
    at = rng.choice(ends) if ends else 0
    return (text[:at] + new + text[at:]).encode(encoding, "replace")


if __name__ == "__main__":
    sys.exit(main())
