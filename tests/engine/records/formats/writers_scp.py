"""SCP-ECG records for tests, written by the definition of EN 1064, and the repair of checksums after a change."""

import binascii
import struct
from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

NUMBERS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64}
NUMBERS |= {f"V{k}": k + 2 for k in range(1, 8)} | {"V2R": 10, "V3R": 11, "V4R": 12, "V8": 66, "V9": 67}
DEFAULT_CODES = [(0, 1, 0, 0)]  # prefix with its first bit the highest, its length, value, bits that follow
for _k in range(1, 9):
    DEFAULT_CODES += [(int("1" * _k + "0" + sign, 2), _k + 2, value, 0) for sign, value in (("0", _k), ("1", -_k))]
DEFAULT_CODES += [(0b1111111110, 10, 0, 8), (0b1111111111, 10, 0, 16)]
Codes = Sequence[tuple[int, int, int, int]]


def scp_bytes(
    signals_uv: NDArray[np.integer],
    leads: Sequence[str | int],
    fs: float = 500.0,
    *,
    patient: str = "",
    name: str = "",
    first_name: str = "",
    birth: date | None = None,
    recorded: datetime | None = None,
    age: tuple[int, int] | None = None,
    sex: int = 0,
    n_differences: int = 2,
    codes: Codes | str | None = "default",
    nanovolt: int = 1000,
    version: int = 20,
    even: bool = False,
    language: int = 1,
    encoding: str = "latin-1",
    fields: Sequence[tuple[int, bytes]] = (),
    flags: int | None = None,
    bimodal: int = 0,
    other_sections: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """Return a record of whole numbers (leads, samples), in microvolt where ``nanovolt`` is 1000.

    ``leads`` are names or numbers; ``codes`` a Huffman table, "default", or None for no such coding.
    """
    zero = bytes(2 if encoding.startswith("utf-16") else 1)
    device = bytearray(73)
    device[8:13], device[14], device[16] = b"Cart1", version, language
    own = [(tag, text.encode(encoding) + zero) for tag, text in ((0, name), (1, first_name), (2, patient)) if text] + [
        (14, bytes(device)),
        (8, bytes([sex])),
    ]
    own += [(4, struct.pack("<HB", *age))] if age else []
    own += [(5, struct.pack("<HBB", birth.year, birth.month, birth.day))] if birth else []
    if recorded:
        own.append((25, struct.pack("<HBB", recorded.year, recorded.month, recorded.day)))
        own.append((26, bytes([recorded.hour, recorded.minute, recorded.second])))
    header = b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in (*own, *fields))

    n_leads, n_samples = signals_uv.shape
    numbers = [lead if isinstance(lead, int) else NUMBERS[lead] for lead in leads]
    described = b"".join(struct.pack("<IIB", 1, n_samples, number) for number in numbers)
    flags = (min(n_leads, 31) << 3 | 4) if flags is None else flags

    stored = [differences(signal, n_differences) for signal in signals_uv]
    table = DEFAULT_CODES if codes == "default" else codes
    data = [values.astype("<i2").tobytes() if table is None else encode(values, table) for values in stored]  # type: ignore[arg-type]
    if even:
        data = [one + bytes(len(one) % 2) for one in data]
    rhythm = struct.pack("<HHBB", nanovolt, round(1e6 / fs), n_differences, bimodal)
    rhythm += struct.pack(f"<{n_leads}H", *map(len, data)) + b"".join(data)

    sections = [(1, header + struct.pack("<BH", 255, 0)), (3, bytes([n_leads, flags]) + described), (6, rhythm)]
    if codes is not None:
        sections.append((2, struct.pack("<H", 19999) if codes == "default" else table_bytes([codes])))  # type: ignore[list-item]
    return record_bytes([*sections, *other_sections], version)


def record_bytes(sections: Sequence[tuple[int, bytes]], version: int = 20) -> bytes:
    """Return a record of sections by number, each without its header."""
    numbers = range(max(12, *(number + 1 for number, _content in sections)))
    length = 16 + 10 * len(numbers)
    pointers, body = struct.pack("<HII", 0, length, 7), b""
    for number in numbers[1:]:
        content = b"".join(content for own, content in sections if own == number)
        content += bytes(len(content) % 2)
        if not content:
            pointers += struct.pack("<HII", number, 0, 0)
            continue
        pointers += struct.pack("<HII", number, 16 + len(content), 7 + length + len(body))
        body += _header(number, 16 + len(content), version) + content
    return sealed(bytes(6) + _header(0, length, version, b"SCPECG") + pointers + body)


def sealed(content: bytes) -> bytes:
    """Return a record with its length and all checksums as they have to be for what it holds."""
    new = bytearray(content)
    struct.pack_into("<I", new, 2, len(new))
    for _number, start, length in pointers_of(content):
        struct.pack_into("<H", new, start, binascii.crc_hqx(bytes(new[start + 2 : start + length]), 0xFFFF))
    struct.pack_into("<H", new, 0, binascii.crc_hqx(bytes(new[2:]), 0xFFFF))
    return bytes(new)


def pointers_of(content: bytes) -> list[tuple[int, int, int]]:
    """Return number, first byte and length of every section with content, as the pointers of a record give them."""
    length = struct.unpack_from("<I", content, 10)[0]
    found = [struct.unpack_from("<HII", content, at) for at in range(22, 6 + length, 10)]
    return [(number, index - 1, n_bytes) for number, n_bytes, index in found if n_bytes]


def differences(signal: NDArray[np.integer], n_differences: int) -> NDArray[np.int64]:
    """Return what is stored of a lead: the first samples as they are, then differences of differences."""
    values = signal.astype(np.int64)
    return np.concatenate([values[:n_differences], np.diff(values, n_differences)])


def encode(values: NDArray[np.int64], codes: Codes) -> bytes:
    """Return the bits of the values, filled up with zeros to a whole byte."""
    exact = {value: f"{prefix:0{n_bits}b}" for prefix, n_bits, value, following in codes if not following}
    numbers = [(f"{prefix:0{n_bits}b}", following) for prefix, n_bits, _value, following in codes if following]
    bits = []
    for value in values.tolist():
        if value not in exact:
            prefix, width = next((p, n) for p, n in numbers if -(1 << n - 1) <= value < 1 << n - 1)
            exact[value] = prefix + f"{value & (1 << width) - 1:0{width}b}"
        bits.append(exact[value])
    joined = "".join(bits)
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big")


def table_bytes(tables: Sequence[Codes]) -> bytes:
    """Return a section 2 with tables of a record's own: prefixes with their first bit the lowest."""
    written = struct.pack("<H", len(tables))
    for codes in tables:
        written += struct.pack("<H", len(codes))
        for prefix, n_bits, value, following in codes:
            backwards = int(f"{prefix:0{n_bits}b}"[::-1], 2)
            written += struct.pack("<BBBhI", n_bits, n_bits + following, 1, value, backwards)
    return written


def _header(number: int, length: int, version: int, reserved: bytes = bytes(6)) -> bytes:
    return struct.pack("<HHIBB6s", 0, number, length, version, version, reserved)
