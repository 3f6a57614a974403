"""The sections of an SCP-ECG record, found by its pointers and checked by its lengths and checksums.

After EN 1064 (ISO 11073-91064), 5.2 and 5.3: a checksum (2 bytes) and the length (4) of the record, then section 0 with
a pointer (number, length, index of the first byte from 1) to every section. A section has a header of 16 bytes:
checksum, number, length, versions of the section and of the protocol, 6 reserved bytes ("SCPECG" in section 0).
Checksums are CRC-CCITT, polynomial 0x1021 from 0xFFFF, over all that follows them.
"""

import binascii
from struct import Struct

from engine.records.record import RecordError

_RECORD = Struct("<HI")
_HEADER = Struct("<HHIBB6s")
_POINTER = Struct("<HII")
_MARK = b"SCPECG"
_LAST_STANDARD = 11  # sections with a higher number are a manufacturer's, or of version 3
_VERSIONS = range(10, 40)  # of the protocol, times ten


def is_scp(first_bytes: bytes) -> bool:
    """Say whether a file that begins with these bytes (32 or more) is an SCP-ECG record, whole or damaged."""
    if len(first_bytes) < _RECORD.size + _HEADER.size + _POINTER.size:
        return False
    _crc, number, length, _section, _protocol, reserved = _HEADER.unpack_from(first_bytes, _RECORD.size)
    pointer = _POINTER.unpack_from(first_bytes, _RECORD.size + _HEADER.size)
    return reserved == _MARK or (number == 0 and length > 0 and pointer == (0, length, _RECORD.size + 1))


def read_sections(content: bytes) -> tuple[dict[int, bytes], int]:
    """Return every section by its number, without its header, and the version of the protocol times ten.

    Raises RecordError for what is not SCP-ECG, for pointers that do not lead to their sections, for lengths that are
    not those of the file, and for checksums that do not fit.
    """
    if not is_scp(content):
        raise RecordError("not SCP-ECG: there is no section 0 at its beginning")
    _crc, number, length, _section, protocol, _reserved = _HEADER.unpack_from(content, _RECORD.size)
    if number or (length - _HEADER.size) % _POINTER.size or not _HEADER.size < length <= len(content) - _RECORD.size:
        raise RecordError("its section 0 gives itself a wrong number or length")
    record_crc, record_length = _RECORD.unpack_from(content)
    places = _places(content, length)
    if record_length > len(content):
        raise RecordError(f"cut off: it says {record_length:,} bytes and has {len(content):,}")
    if any(content[record_length:]):
        raise RecordError(f"it says {record_length:,} bytes and has {len(content):,}")
    if any(end > record_length for _start, end in places.values()):
        raise RecordError("it has a section beyond its end")
    for number, (start, end) in places.items():
        if number <= _LAST_STANDARD:
            _check(content[start:end], f"section {number}")
    if binascii.crc_hqx(content[2:record_length], 0xFFFF) != record_crc:
        raise RecordError("the checksum of the record does not fit: it is damaged")
    return {number: content[start + _HEADER.size : end] for number, (start, end) in places.items()}, protocol


def _places(content: bytes, length: int) -> dict[int, tuple[int, int]]:
    """Return where every section that has content begins and ends."""
    begin = _RECORD.size + _HEADER.size
    places: dict[int, tuple[int, int]] = {}
    for number, n_bytes, index in _POINTER.iter_unpack(content[begin : _RECORD.size + length]):
        start, end = index - 1, index - 1 + n_bytes
        if not n_bytes:
            continue
        if number in places:
            raise RecordError(f"it has two pointers to section {number}")
        if n_bytes < _HEADER.size or start < _RECORD.size or end > len(content):
            raise RecordError(f"its pointer to section {number} leads out of the file")
        if number <= _LAST_STANDARD:  # a manufacturer's may have a header of its own
            _crc, own, own_length, _section, own_protocol, _reserved = _HEADER.unpack_from(content, start)
            if (own, own_length) != (number, n_bytes):
                raise RecordError(f"its pointer to section {number} does not lead to it")
            if own_protocol not in _VERSIONS:
                raise RecordError(f"its section {number} is of version {own_protocol / 10:g} of SCP-ECG: not read")
        places[number] = start, end
    if places.get(0) != (_RECORD.size, _RECORD.size + length):
        raise RecordError("its first pointer does not lead to section 0")
    return places


def _check(section: bytes, name: str) -> None:
    if binascii.crc_hqx(section[2:], 0xFFFF) != _HEADER.unpack_from(section)[0]:
        raise RecordError(f"the checksum of {name} does not fit: it is damaged")
