"""XLI, the compression of Philips' Sierra XML: differences of differences in LZW of 10 bits.

As C. Watford published it (sierra-ecg-tools, from 2011). Each lead is a chunk: the length of its codes (u32), a number
that is always 1 (u16) and the first difference (i16), little-endian, then the codes, highest bit first. Code 1023 ends
them, what follows it is padding; the table has the 256 bytes and grows up to code 1022. The bytes are the upper halves
of all 16-bit words, then the lower halves: the first two samples, then each difference of differences plus 64, negated
and one sample late. The last word means nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.records.record import RecordError

_HEADER_BYTES = 8
_END = 1023
_LONGEST = _END - 256 + 1  # bytes that one code can stand for: every new one is a byte longer at most
_OFFSET = 64
_INT16 = 32767
_BYTES = [bytes([value]) for value in range(256)]


class Chunk(NamedTuple):
    """One lead as it is stored: its first difference, and its codes with their padding."""

    first: int
    codes: bytes


def split_chunks(content: bytes, n_leads: int, n_samples: int) -> list[Chunk]:
    """Return the chunks of the first leads. Raises RecordError where they do not fill the content, or hold too little.

    Nothing is decoded, and a number of samples that the codes cannot hold is refused before any is.
    """
    chunks: list[Chunk] = []
    at = 0
    while at < len(content):
        header = content[at : at + _HEADER_BYTES]
        n_bytes, first = int.from_bytes(header[:4], "little"), int.from_bytes(header[6:], "little", signed=True)
        at += _HEADER_BYTES + n_bytes
        if len(header) < _HEADER_BYTES or at > len(content):
            raise RecordError("its compressed waveforms are cut or damaged")
        if len(chunks) < n_leads:
            chunks.append(Chunk(first, content[at - n_bytes : at]))
    if len(chunks) < n_leads:
        raise RecordError(f"it has compressed waveforms of {len(chunks)} leads instead of {n_leads}")
    for chunk in chunks:
        n_codes = len(chunk.codes) * 8 // 10
        if n_samples < 2 or not 2 * n_samples / _LONGEST <= n_codes <= 2 * n_samples + 2:
            raise RecordError(f"a lead's compressed waveform cannot be one of {n_samples:,} samples")
    return chunks


def decompress(chunk: Chunk, n_samples: int) -> NDArray[np.int64]:
    """Return the samples of one lead. Raises RecordError for codes that are not those of that many 16-bit samples."""
    halves = np.frombuffer(_bytes_of(_codes(chunk.codes), 2 * n_samples), np.uint8).reshape(2, n_samples)
    words = (halves[0].astype(np.uint16) << 8 | halves[1]).view(np.int16).astype(np.int64)
    steps = np.empty(n_samples, np.int64)
    steps[:2] = words[0], words[1] - words[0]
    steps[2:3] = -chunk.first
    steps[3:] = _OFFSET - words[2:-1]
    steps[1:] = np.cumsum(steps[1:])
    samples: NDArray[np.int64] = np.cumsum(steps)
    if np.abs(samples).max() > _INT16 + 1:
        raise RecordError("its compressed waveforms are damaged: a lead leaves the range of 16 bits")
    return samples


def _codes(packed: bytes) -> list[int]:
    """Return the codes before the one that ends them."""
    five = np.frombuffer(packed + bytes(-len(packed) % 5), np.uint8).reshape(-1, 5).astype(np.uint16)
    a, b, c, d, e = five.T
    four = np.stack([a << 2 | b >> 6, (b & 63) << 4 | c >> 4, (c & 15) << 6 | d >> 2, (d & 3) << 8 | e], axis=1)
    codes = four.ravel()[: len(packed) * 8 // 10]
    ends = np.flatnonzero(codes == _END)
    if not len(ends):
        raise RecordError("its compressed waveforms have no end: they are cut or damaged")
    return [int(code) for code in codes[: ends[0]]]


def _bytes_of(codes: list[int], n_bytes: int) -> bytes:
    """Undo LZW. Raises RecordError unless exactly ``n_bytes`` come out, before more are made."""
    strings = list(_BYTES)
    pieces: list[bytes] = []
    previous = b""
    for code in codes[:_LONGEST]:  # each but the first adds to the table, until it is full
        if code < len(strings):
            string = strings[code]
        elif code == len(strings) and previous:
            string = previous + previous[:1]
        else:
            raise RecordError("its compressed waveforms are damaged: a code is not in its table")
        if previous:
            strings.append(previous + string[:1])
        pieces.append(string)
        previous = string
    pieces += [strings[code] for code in codes[_LONGEST:]]
    if sum(map(len, pieces)) != n_bytes:
        raise RecordError("its compressed waveforms are damaged: a lead does not have as many samples as the file says")
    return b"".join(pieces)
