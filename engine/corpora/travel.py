"""A prepared corpus as one small file, for a machine to which little can be sent; unpacked, it is the same to the bit.

Most samples of a prepared corpus are whole microvolts. They are kept as differences from one sample to the next, in
the largest step that all of a lead's samples are multiples of, and of III, aVR, aVL and aVF only what Einthoven's and
Goldberger's equations do not make of I and II (nothing, as a rule). What a sample is beyond a whole microvolt, in a
corpus that was resampled, is kept as its distance from it in representable float32 numbers. Differences are mapped to
0, 1, 2, ... (0, -1, 1, ...), and every byte of them is compressed for itself.

The file is a zip archive: ``packed.json``, the corpus's other files compressed by bzip2, and ``signals``, the planes
of bytes of one block of records after another, whose sizes ``packed.json`` lists.
"""

import bz2
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus, CorpusError, UnwritableCorpusError
from engine.files import write_files, written_whole
from engine.records.signal import DERIVED
from models.errors import ExitCode

FORMAT_VERSION = 1
_BLOCK = 512  # records
_TABLES = ("corpus.json", "labels.npy", "records.npz")
_MICROVOLT = 1000.0  # of a millivolt
_MOST_MICROVOLT = 2**29  # differences of such numbers fit into 32 bits
_DATE = (1980, 1, 1, 0, 0, 0)  # the same corpus gives the same file
Progress = Callable[[int, int], None]


class PackedFileError(CorpusError):
    """A packed corpus that is missing, incomplete or damaged; one sentence says which."""

    exit_code = ExitCode.DATA


def pack(
    corpus: Corpus,
    file: Path,
    part_size: int | None = None,
    workers: int = 1,
    progress: Progress = lambda _done, _total: None,
) -> list[Path]:
    """Write a corpus into ``file``, or into ``file.001``, ``file.002``, ... of at most ``part_size`` bytes each.

    Returns the files that were written. Raises CorpusError for a corpus that was altered, and where a file cannot be
    written.
    """
    corpus.verify()
    parts = [bytes(part) for part in _split(_packed(corpus, workers, progress), part_size)]
    names = [file] if part_size is None else [Path(f"{file}.{k:03d}") for k in range(1, len(parts) + 1)]
    try:
        write_files(dict(zip(names, parts, strict=True)))
    except OSError as error:
        raise UnwritableCorpusError(f"cannot write {file}: {error.strerror}") from error
    return names


def unpack(file: Path, corpora: Path, workers: int = 1, progress: Progress = lambda _done, _total: None) -> Corpus:
    """Write the corpus that ``pack`` made a file of, or its parts, into ``corpora`` under its name, and verify it.

    Raises PackedFileError for a file that is missing or damaged, CorpusError where the corpus is there already or
    cannot be written.
    """
    try:
        with zipfile.ZipFile(BytesIO(_joined(file))) as archive:
            facts = json.loads(archive.read("packed.json"))
            if facts["format_version"] != FORMAT_VERSION:
                raise PackedFileError(
                    f"{file} has format {facts['format_version']}; this version reads {FORMAT_VERSION}: pack it again"
                )
            tables = {name: bz2.decompress(archive.read(f"{name}.bz2")) for name in _TABLES}
            signals = archive.read("signals")
        name = str(json.loads(tables["corpus.json"])["name"])
        if name != Path(name).name or not name.strip("."):
            raise PackedFileError(f"{file} is damaged: a corpus cannot be named {name!r}; copy it again")
        target = corpora / name
        if target.exists():
            raise CorpusError(f"{target} exists already; remove it to unpack it again")
        with written_whole(target) as folder:
            for name, content in tables.items():
                (folder / name).write_bytes(content)
            _unpack_signals(signals, facts, folder / "signals.npy", workers, progress)
            Corpus(folder).verify()
    except CorpusError:
        raise
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, TypeError, IndexError) as error:
        raise PackedFileError(f"{file} is damaged ({type(error).__name__}: {error}); copy it again") from None
    except OSError as error:
        if error.strerror is None:  # what bz2 says of damaged data
            raise PackedFileError(f"{file} is damaged ({error}); copy it again") from None
        raise UnwritableCorpusError(f"cannot write the corpus of {file}: {error.strerror}") from error
    return Corpus(target)


def _packed(corpus: Corpus, workers: int, progress: Progress) -> bytes:
    """Return the bytes of a packed corpus."""
    starts = range(0, len(corpus), _BLOCK)
    blocks: list[dict[str, Any]] = []
    signals = BytesIO()

    def encode(start: int) -> tuple[dict[str, Any], list[bytes]]:
        return _encode(np.asarray(corpus.signals[start : start + _BLOCK]), corpus.leads)

    with ThreadPoolExecutor(workers) as pool:  # bz2 and numpy let other threads run
        for facts, planes in _in_turn(pool, encode, starts, workers):
            blocks.append({**facts, "sizes": [len(plane) for plane in planes]})
            signals.writelines(planes)
            progress(sum(block["records"] for block in blocks), len(corpus))
    content = {f"{name}.bz2": bz2.compress((corpus.root / name).read_bytes()) for name in _TABLES}
    facts = {
        "format_version": FORMAT_VERSION,
        "shape": list(corpus.signals.shape),
        "leads": list(corpus.leads),
        "blocks": blocks,
    }
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in {"packed.json": json.dumps(facts).encode(), **content, "signals": signals.getvalue()}.items():
            file.writestr(zipfile.ZipInfo(name, _DATE), data)
    return archive.getvalue()


def _unpack_signals(signals: bytes, facts: dict[str, Any], target: Path, workers: int, progress: Progress) -> None:
    n_records, n_leads, n_samples = facts["shape"]
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_records, n_leads, n_samples)}
    with target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for values in _decode_all(signals, facts, workers):
            file.write(values.tobytes())
            progress((file.tell() - 128) // (4 * n_leads * n_samples), n_records)


def _decode_all(signals: bytes, facts: dict[str, Any], workers: int) -> Iterator[NDArray[np.float32]]:
    """Decode block after block, several at a time."""
    jobs, start = [], 0
    for block in facts["blocks"]:
        planes = []
        for size in block["sizes"]:
            planes.append(signals[start : start + size])
            start += size
        jobs.append((block, planes))

    def decode(job: tuple[dict[str, Any], list[bytes]]) -> NDArray[np.float32]:
        block, planes = job
        return _decode(block, planes, tuple(facts["leads"]), facts["shape"][2])

    with ThreadPoolExecutor(workers) as pool:
        yield from _in_turn(pool, decode, jobs, workers)


def _in_turn(pool: ThreadPoolExecutor, call: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yield what the calls return, in order, with no more of them begun than fit into memory."""
    ahead = 2 * workers
    futures = [pool.submit(call, item) for item in items[:ahead]]
    for k in range(len(items)):
        yield futures.pop(0).result()
        if k + ahead < len(items):
            futures.append(pool.submit(call, items[k + ahead]))


def _encode(signals: NDArray[np.float32], leads: tuple[str, ...]) -> tuple[dict[str, Any], list[bytes]]:
    """Return what a block of (records, leads, samples) is, and its planes of bytes, compressed."""
    millivolt = signals.transpose(1, 0, 2)  # a lead's records side by side: they are alike
    scaled = np.rint(millivolt.astype(np.float64) * _MICROVOLT)
    if not np.abs(scaled).max() < _MOST_MICROVOLT:
        raise CorpusError(f"a sample of {_MOST_MICROVOLT / 1e6:.0f} V or more cannot be packed")
    whole = scaled.astype(np.int32)
    nearest = _millivolt(whole)
    beyond = (_ordered(millivolt) - _ordered(nearest)).ravel()[_by_magnitude(nearest)]
    for row, derived in _derived(whole, leads):
        whole[row] -= derived
    steps = [int(step) or 1 for step in np.gcd.reduce(whole.reshape(len(leads), -1), axis=1)]
    whole //= np.array(steps, np.int32)[:, None, None]
    whole[:, :, 1:] -= whole[:, :, :-1].copy()
    numbers = [_planes(_unsigned(whole)), _planes(_unsigned(beyond))]
    facts = {"records": len(signals), "steps": steps, "planes": [len(planes) for planes in numbers]}
    return facts, [bz2.compress(plane) for planes in numbers for plane in planes]


def _decode(block: dict[str, Any], planes: list[bytes], leads: tuple[str, ...], n_samples: int) -> NDArray[np.float32]:
    """Return the block (records, leads, samples) that ``_encode`` was given."""
    shape = (len(leads), block["records"], n_samples)
    n_whole, _ = block["planes"]
    whole = _signed(_joined_planes(planes[:n_whole], shape))
    np.cumsum(whole, axis=2, out=whole)
    whole *= np.array(block["steps"], np.int32)[:, None, None]
    for row, derived in reversed(_derived(whole, leads)):
        whole[row] += derived
    millivolt = _millivolt(whole)
    if planes[n_whole:]:
        beyond = np.empty(millivolt.size, np.int32)
        beyond[_by_magnitude(millivolt)] = _signed(_joined_planes(planes[n_whole:], (millivolt.size,)))
        millivolt = _ordered_back(_ordered(millivolt) + beyond.reshape(shape))
    return np.ascontiguousarray(millivolt.transpose(1, 0, 2))


def _derived(whole: NDArray[np.int32], leads: tuple[str, ...]) -> list[tuple[int, NDArray[np.int32]]]:
    """Return the rows of III, aVR, aVL and aVF and what follows for them from I and II, to the microvolt."""
    if not {"I", "II"} <= set(leads):
        return []
    one, two = (whole[leads.index(lead)].astype(np.float64) for lead in ("I", "II"))
    return [
        (row, np.rint(DERIVED[lead][0] * one + DERIVED[lead][1] * two).astype(np.int32))
        for row, lead in enumerate(leads)
        if lead in DERIVED
    ]


def _millivolt(whole: NDArray[np.int32]) -> NDArray[np.float32]:
    return (whole / _MICROVOLT).astype(np.float32)


def _by_magnitude(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the flat order of values by their power of two: the larger they are, the fewer float32 lie between two."""
    exponents = (np.ascontiguousarray(values).view(np.uint32) >> np.uint32(23)).astype(np.uint8)
    return np.argsort(exponents, axis=None, kind="stable")


def _ordered(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Number all float32 in their order: neighbours differ by 1, and -0.0 comes before 0.0."""
    bits = np.ascontiguousarray(values).view(np.int32)
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def _ordered_back(numbers: NDArray[np.int32]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (numbers ^ ((numbers >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return values


def _unsigned(values: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Map 0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return ((values << 1) ^ (values >> 31)).view(np.uint32)


def _signed(values: NDArray[np.uint32]) -> NDArray[np.int32]:
    halves = (values >> 1).view(np.int32)
    return halves ^ -(values & 1).view(np.int32)


def _planes(values: NDArray[np.uint32]) -> list[bytes]:
    """Return the lowest byte of every value, then the next, without those that are 0 in all."""
    n_bytes = (int(values.max()).bit_length() + 7) // 8
    return [(values >> np.uint32(8 * k)).astype(np.uint8).tobytes() for k in range(n_bytes)]


def _joined_planes(planes: list[bytes], shape: tuple[int, ...]) -> NDArray[np.uint32]:
    values = np.zeros(shape, np.uint32)
    for k, plane in enumerate(planes):
        values |= np.frombuffer(bz2.decompress(plane), np.uint8).reshape(shape).astype(np.uint32) << np.uint32(8 * k)
    return values


def _split(content: bytes, part_size: int | None) -> Iterator[memoryview]:
    view, size = memoryview(content), part_size or len(content)
    return (view[start : start + size] for start in range(0, len(content), size))


def _joined(file: Path) -> bytes:
    """Return the bytes of a file, or of its parts. Raises PackedFileError."""
    parts = [file] if file.is_file() else sorted(file.parent.glob(f"{file.name}.[0-9][0-9][0-9]"))
    if not parts:
        raise PackedFileError(f"no packed corpus at {file}, and no {file.name}.001 beside it")
    if parts != [file] and [part.suffix for part in parts] != [f".{k:03d}" for k in range(1, len(parts) + 1)]:
        raise PackedFileError(f"of {file}, part {len(parts)} or one before it is missing")
    try:
        return b"".join(part.read_bytes() for part in parts)
    except OSError as error:
        raise PackedFileError(f"cannot read {file}: {error.strerror}") from None
