"""An ATC file of AliveCor's, written by the vendor's specification 1.7."""

import struct
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import numpy as np

IDENTIFIERS = {"I": b"ecg ", "II": b"ecg2", "III": b"ecg3", "aVR": b"ecg4", "aVL": b"ecg5", "aVF": b"ecg6"} | {
    f"V{k}": b"ecg%x" % (6 + k) for k in range(1, 7)
}
NANOVOLT = 500  # a count
RECORDED = datetime(2021, 12, 8, 15, 54, 23, 245000, timezone(timedelta(hours=10)))


def kardia_bytes(
    signals_uv,
    leads: Sequence[str] = ("I", "II", "III", "aVR", "aVL", "aVF"),
    fs: int = 300,
    *,
    patient: str = "2b6f0cc904d137be2e1730235f5664094b831186",
    serial: str = "AC6L100010",
    recorded: datetime | None = RECORDED,
    version: int = 4,
) -> bytes:
    """Return a file of microvolts (leads, samples), which become counts of 500 nV.

    The format has no place for a patient: ``patient`` is the number of the phone.
    """
    counts = np.round(np.asarray(signals_uv) * 1000 / NANOVOLT).astype("<i2")
    when = recorded.isoformat(timespec="milliseconds") if recorded else ""
    texts = (when, "58E0A7D7-EEBC-11D8-9669-0800200C9A66", patient, "iPhone 4 : iPhone OS4.2", "AliveECG v1.6.7")
    texts = (*texts, "triangle hw1.2.3 fw4.5.6", f"SN={serial},BAT=55")
    info = struct.pack("<32s40s44s32s32s32s52s", *(text.encode() for text in texts))
    blocks = [block(b"info", info), block(b"fmt ", struct.pack("<BHHBH", 1, fs, NANOVOLT, 14, 0))]
    blocks += [block(IDENTIFIERS[lead], row.tobytes()) for lead, row in zip(leads, counts, strict=True)]
    blocks += [block(b"avg ", counts[0, :10].tobytes()), block(b"ann ", struct.pack("<IIH", fs, 100, 1))]
    return b"ALIVE\0\0\0" + struct.pack("<I", version) + b"".join(blocks)


def block(identifier: bytes, data: bytes) -> bytes:
    body = identifier + struct.pack("<I", len(data)) + data
    return body + struct.pack("<I", sum(body) % 2**32)
