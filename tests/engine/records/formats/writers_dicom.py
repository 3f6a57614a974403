"""DICOM files with waveforms, written by PS3.5 (elements, items, transfer syntaxes) and PS3.10 (the file)."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{k}": k + 2 for k in range(1, 7)}
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
}
ECG_12_LEADS = "1.2.840.10008.5.1.4.1.1.9.1.1"
LONG = ("OB", "OW", "SQ", "UN")
TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4", "MB": "u1", "AB": "u1"}
Element = tuple[int, str, Any]  # tag, VR, value: a text, an integer, bytes, or a list of items (lists of elements)


@dataclass(frozen=True)
class Channel:
    """A channel's definition; what is None is left out."""

    code: str | None = None
    scheme: str = "SCPECG"
    meaning: str = ""
    label: str | None = None
    sensitivity: str | None = "1"
    unit: str | None = "uV"
    correction: str | None = "1"
    baseline: str | None = "0"
    time_skew: str | None = None
    sample_skew: str | None = None


@dataclass(frozen=True)
class Group:
    """A multiplex group: counts (channels, samples) of a type."""

    counts: NDArray[Any]
    channels: Sequence[Channel]
    fs: str
    originality: str | None = "ORIGINAL"
    kind: str = "SS"
    padding: int | None = None
    time_offset: str | None = None  # milliseconds
    n_samples: int | None = None  # that the group says it has, where it lies


def channel_of(lead: str, **fields: Any) -> Channel:
    """Return the channel of a lead of the twelve."""
    return Channel(code=f"5.6.3-9-{NUMBERS[lead]}", meaning=f"Lead {lead}", **fields)


def dicom_bytes(
    signals_uv: NDArray[np.integer[Any]],
    leads: Sequence[str],
    fs: float,
    *,
    patient: str = "4711",
    name: str = "Roe^Jane",
    birth: date | None = date(1950, 6, 15),
    sex: str = "F",
    recorded: datetime | None = datetime(2020, 3, 4, 10, 11, 12),
    syntax: str = "explicit",
) -> bytes:
    """Return a file of one group of leads in microvolt, as a 12-lead ECG object."""
    group = Group(np.asarray(signals_uv), [channel_of(lead) for lead in leads], f"{fs:.10g}")
    return dicom_file(
        [group],
        [
            (0x00100010, "PN", name),
            (0x00100020, "LO", patient),
            (0x00100030, "DA", birth.strftime("%Y%m%d") if birth else ""),
            (0x00100040, "CS", sex),
            (0x0008002A, "DT", recorded.strftime("%Y%m%d%H%M%S") if recorded else ""),
        ],
        syntax,
    )


def dicom_file(
    groups: Sequence[Group], elements: Sequence[Element] = (), syntax: str = "explicit", *, undefined: bool = False
) -> bytes:
    """Return a file of groups and of other elements; ``undefined`` sequences end by a delimiter."""
    every: list[Element] = [(0x00080016, "UI", ECG_12_LEADS), *elements]
    if groups:
        every.append((0x54000100, "SQ", [_group(group, syntax == "big") for group in groups]))
    body = _elements(every, syntax, undefined)
    if syntax == "deflated":
        packer = zlib.compressobj(wbits=-15)
        body = packer.compress(body) + packer.flush()
    meta = _elements([(0x00020010, "UI", SYNTAXES[syntax])], "explicit", False)
    length = _elements([(0x00020000, "UL", len(meta))], "explicit", False)
    return bytes(128) + b"DICM" + length + meta + body


def _group(group: Group, big: bool) -> list[Element]:
    dtype = np.dtype(TYPES[group.kind]).newbyteorder(">" if big else "<")
    bits = 8 * dtype.itemsize
    raw = "OB" if bits == 8 else "OW"
    elements: list[Element] = [
        (0x003A0005, "US", len(group.channels)),
        (0x003A0010, "UL", group.counts.shape[1] if group.n_samples is None else group.n_samples),
        (0x003A001A, "DS", group.fs),
        (0x003A0200, "SQ", [_channel(channel) for channel in group.channels]),
        (0x54001004, "US", bits),
        (0x54001006, "CS", group.kind),
        (0x54001010, raw, np.ascontiguousarray(group.counts.T, dtype).tobytes()),
    ]
    if group.originality is not None:
        elements.append((0x003A0004, "CS", group.originality))
    if group.time_offset is not None:
        elements.append((0x00181068, "DS", group.time_offset))
    if group.padding is not None:
        elements.append((0x5400100A, raw, np.array(group.padding, dtype).tobytes()))
    return elements


def _channel(channel: Channel) -> list[Element]:
    source: list[Element] = [(0x00080104, "LO", channel.meaning)]
    if channel.code is not None:
        source += [(0x00080100, "SH", channel.code), (0x00080102, "SH", channel.scheme)]
    elements: list[Element] = [(0x003A0208, "SQ", [source])]
    for tag, vr, value in (
        (0x003A0203, "SH", channel.label),
        (0x003A0210, "DS", channel.sensitivity),
        (0x003A0212, "DS", channel.correction),
        (0x003A0213, "DS", channel.baseline),
        (0x003A0214, "DS", channel.time_skew),
        (0x003A0215, "DS", channel.sample_skew),
    ):
        if value is not None:
            elements.append((tag, vr, value))
    if channel.unit is not None:
        elements.append((0x003A0211, "SQ", [[(0x00080100, "SH", channel.unit), (0x00080102, "SH", "UCUM")]]))
    return elements


def _elements(elements: Sequence[Element], syntax: str, undefined: bool) -> bytes:
    return b"".join(_element(*element, syntax, undefined) for element in sorted(elements, key=lambda one: one[0]))


def _element(tag: int, vr: str, value: Any, syntax: str, undefined: bool) -> bytes:
    order = ">" if syntax == "big" else "<"
    content = _value(vr, value, syntax, undefined)
    length = 0xFFFFFFFF if vr == "SQ" and undefined else len(content)
    numbers = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == "implicit":
        return numbers + struct.pack("<L", length) + content
    if vr in LONG:
        return numbers + vr.encode() + bytes(2) + struct.pack(order + "L", length) + content
    return numbers + vr.encode() + struct.pack(order + "H", length) + content


def _value(vr: str, value: Any, syntax: str, undefined: bool) -> bytes:
    order = ">" if syntax == "big" else "<"
    if vr == "SQ":
        mark = struct.Struct(order + "HHL")
        items = [_elements(item, syntax, undefined) for item in value]
        if undefined:
            packed = [mark.pack(0xFFFE, 0xE000, 0xFFFFFFFF) + item + mark.pack(0xFFFE, 0xE00D, 0) for item in items]
            return b"".join(packed) + mark.pack(0xFFFE, 0xE0DD, 0)
        return b"".join(mark.pack(0xFFFE, 0xE000, len(item)) + item for item in items)
    if isinstance(value, int):
        return struct.pack(order + {"US": "H", "UL": "L"}[vr], value)
    raw = value if isinstance(value, bytes) else value.encode("latin-1")
    return raw + (b"\0" if vr in ("UI", "OB", "OW") else b" ") * (len(raw) % 2)
