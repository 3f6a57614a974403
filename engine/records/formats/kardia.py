"""AliveCor's ATC, as KardiaMobile writes it: an "ALIVE" file of blocks.

By the vendor's ATC File Format Specification 1.7 (file versions 2 to 5) and its reader and writer, ATCpy: a signature
of 8 bytes and a version (u32), then blocks of an identifier of 4 letters, the length of the data (u32), the data and a
checksum (u32), all little-endian. The specification calls the checksum a cyclic sum and a CRC-32; ATCpy takes the sum
of all bytes of the block before it, modulo 2^32, and so does this module. A sum does not see bytes that changed places.
No real file was available. The format names no patient.
"""

import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person, identifying
from engine.records.record import LEADS, RecordError

SIGNATURE = b"ALIVE\0\0\0"

_VERSIONS = (2, 5)
_BLOCK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<BHHBH")  # kind of samples, hertz, nanovolt of one count, flags, reserved
_INFO = struct.Struct("<32s40s44s32s32s32s52s")  # time, recording, phone, its model, software, hardware, device data
_INT16 = 1
_MAX_BLOCKS = 1000
_LEADS = dict(zip((b"ecg", *(b"ecg%x" % number for number in range(2, 13))), LEADS, strict=True))


def open_kardia(path: Path) -> Contents:
    """Return what an ATC file holds; ``decode`` gives float64 (leads, samples) in millivolt. Raises RecordError.

    Average beats and what software annotated are left alone.
    """
    content = read_whole(path, MAX_FILE_BYTES)
    if not content.startswith(SIGNATURE):
        raise RecordError("is not an ATC file: it does not begin with ALIVE")
    blocks: dict[bytes, memoryview] = {}
    for name, data in _blocks(content):
        if name in blocks and (name in _LEADS or name in (b"fmt", b"info")):
            raise RecordError(f"it has the block {name.decode()} more than once")
        blocks[name] = data
    if b"fmt" not in blocks:
        raise RecordError("it has no block that says its sampling rate")
    kind, fs, nanovolt, _flags, _reserved = _unpacked(_FORMAT, blocks[b"fmt"])
    if kind != _INT16 or not nanovolt:
        raise RecordError("its samples are not of 16 bits with a resolution")
    stored = {_LEADS[name]: data for name, data in blocks.items() if name in _LEADS}
    lengths = {len(data) for data in stored.values()}
    if len(lengths) != 1 or (n_bytes := lengths.pop()) % 2:
        raise RecordError("its leads are not of one length in 16-bit samples" if stored else "it has no lead")
    leads = tuple(lead for lead in LEADS if lead in stored)
    samples = b"".join(stored[lead] for lead in leads)

    def decode() -> NDArray[np.float64]:
        return np.frombuffer(samples, "<i2").reshape(len(leads), -1) * float(nanovolt) / 1e6

    person, recorded = _info(blocks.get(b"info"))
    return Contents(leads, float(fs), n_bytes // 2, "nV", decode, person, recorded)


def _blocks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield every block's name and data, its checksum checked."""
    view = memoryview(content)
    at = len(SIGNATURE) + 4
    lowest, highest = _VERSIONS
    if not lowest <= int.from_bytes(view[at - 4 : at], "little") <= highest:
        raise RecordError(f"is of a version of the ATC format that is not read ({lowest} to {highest} are)")
    n_blocks = 0
    while at < len(content):
        n_blocks += 1
        if n_blocks > _MAX_BLOCKS:
            raise RecordError("it has more blocks than any recording")
        if len(content) - at < _BLOCK.size:
            raise RecordError("it is cut, or has something after its last block")
        name, n_bytes = _BLOCK.unpack_from(view, at)
        end = at + _BLOCK.size + n_bytes
        if len(content) - end < 4:
            raise RecordError("it is cut: a block is longer than what is left")
        total = int(np.frombuffer(view[at:end], np.uint8).sum(dtype=np.uint64)) % 2**32
        if total != int.from_bytes(view[end : end + 4], "little"):
            raise RecordError("it is damaged: a block does not have the checksum that it says")
        yield name.rstrip(b" "), view[at + _BLOCK.size : end]
        at = end + 4


def _unpacked(form: struct.Struct, data: memoryview) -> tuple[Any, ...]:
    if len(data) < form.size:
        raise RecordError("a block is shorter than the format defines")
    return form.unpack_from(data)  # a later version may have more after it


def _info(data: memoryview | None) -> tuple[Person, datetime | None]:
    """Return what the file tells of its owner, which is numbers of devices, and the time by the clock of the place."""
    if data is None or len(data) < _INFO.size:
        return Person(), None
    texts = [bytes(text).split(b"\0")[0].decode("utf-8", "replace").strip() for text in _unpacked(_INFO, data)]
    written, recording, phone, _model, _software, _hardware, device = texts
    pairs = (pair.partition("=") for pair in device.split(","))
    serial = [value for key, _equals, value in pairs if key.strip() in ("SN", "SER")]
    try:
        recorded = datetime.fromisoformat(written).replace(tzinfo=None)
    except ValueError:
        recorded = None
    return Person(identity=identifying(recording, phone, *serial)), recorded
