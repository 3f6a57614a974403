"""A Philips Sierra XML document, written by the vendor's schemas and the definition of XLI."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from xml.sax.saxutils import escape

import numpy as np

LIMB = ("I", "II", "III", "aVR", "aVL", "aVF")
MICROVOLT = 5  # a count
PULSE = 200  # counts: 1 mV
N_CHANNELS = 16  # of a cart, of which those that are not used have the calibration alone


def sierra_bytes(
    signals_uv,
    leads: Sequence[str] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"),
    fs: float = 500,
    *,
    version: str = "1.04.01",
    patient: str = "4711",
    name: str = "Jane Doe",
    birth: str = "1951-04-13",
    sex: str = "Female",
    recorded: datetime | None = datetime(2020, 5, 18, 15, 48, 11),
    encoding: str = "utf-16",
    compression: str = "XLI",
    calibration: bool | None = None,
) -> bytes:
    """Return a document of microvolts (leads, samples), which become counts of 5 uV.

    Of 10 s it makes 11 with a calibration, as the carts do, unless ``calibration`` says otherwise.
    """
    counts = np.round(np.asarray(signals_uv) / MICROVOLT).astype(np.int64)
    calibrated = counts.shape[1] == round(10 * fs) if calibration is None else calibration
    if calibrated:
        counts = np.concatenate([counts, np.zeros((len(counts), round(fs)), np.int64)], axis=1)
        counts[:, -round(0.4 * fs) : -round(0.2 * fs)] = PULSE
    milliseconds = f"{counts.shape[1] / fs * 1000:.10g}"
    first, last = name.split(" ", 1)
    old = version == "1.03"
    if compression == "XLI":
        unused = [counts[-1] * 0 + (counts[-1] == PULSE) * PULSE for _ in range(N_CHANNELS - len(counts))]
        data = b64encode(b"".join(map(chunk, [*stored(counts, leads), *unused]))).decode()
        how = 'compressflag="True" compressmethod="XLI"' if old else 'compression="XLI"'
    else:
        binary = b64encode(counts.astype("<i2").tobytes()).decode()
        data = binary if compression == "Base64" else " ".join(map(str, counts.ravel()))
        how = 'compressflag="False" compressmethod="XLI"' if old else ""
    shape = (
        f'{how} dataencoding="{"Plain" if compression == "Plain" else "Base64"}" durationperchannel="{milliseconds}"'
    )
    if old:
        attributes = f'{shape} nbitspersample="16"'
    else:
        attributes = (
            f'{shape} numberofleads="{len(counts)}" leadlabels="{" ".join(leads)}" samplespersecond="{fs:g}" '
            f'resolution="{MICROVOLT}" signaloffset="0" signalsigned="True" bitspersample="16"'
        )
    when = f' date="{recorded:%Y-%m-%d}" time="{recorded:%H:%M:%S}"' if recorded else ""
    text = f"""<?xml version="1.0" encoding="{encoding}"?>
<restingecgdata xmlns="http://www3.medical.philips.com" status="New" lang="en">
  <documentinfo>
    <documentname>0.xml</documentname>
    <documenttype>{"SierraECG" if old else "PhilipsECG"}</documenttype>
    <documentversion>{version}</documentversion>
  </documentinfo>
  <userdefines><userdefine index="1"><label>FIN</label><value>98-7654</value></userdefine></userdefines>
  <dataacquisition{when} statflag="False">
    <acquirer><encounterid>E-20</encounterid></acquirer>
    <signalcharacteristics>
      <samplingrate>{fs:g}</samplingrate>
      <{"signal" if old else ""}resolution>{MICROVOLT}</{"signal" if old else ""}resolution>
      <acquisitiontype>{"STD-12" if old else "10-WIRE"}</acquisitiontype>
      <bitspersample>16</bitspersample><signaloffset>0</signaloffset><signalsigned>True</signalsigned>
      <numberchannelsallocated>{len(counts)}</numberchannelsallocated>
    </signalcharacteristics>
  </dataacquisition>
  <patient>
    <generalpatientdata>
      <patientid>{escape(patient)}</patientid>
      <name><lastname>{escape(last)}</lastname><firstname>{escape(first)}</firstname></name>
      <age defaultage="50"><dateofbirth>{birth}</dateofbirth></age>
      <sex>{sex}</sex>
    </generalpatientdata>
  </patient>
  <waveforms>
    <parsedwaveforms {attributes}>
{data}
    </parsedwaveforms>
    <repbeats dataencoding="Base64"><repbeat leadname="I"><waveform duration="4">AAAA</waveform></repbeat></repbeats>
  </waveforms>
</restingecgdata>
"""
    return text.encode(encoding)


def stored(counts, leads):
    """Return the rows that XLI stores: of the limb leads what I and II make of them, less the lead itself."""
    if tuple(leads[:6]) != LIMB:
        return counts
    one, two, three, right, left, foot = counts[:6]
    made = [two - one, -half(one + two), half(one - three), half(two + three)]
    return np.concatenate([counts[:2], np.stack(made) - [three, right, left, foot], counts[6:]])


def half(counts):
    return np.trunc(counts / 2).astype(np.int64)


def chunk(samples) -> bytes:
    """Return one lead in XLI."""
    bends = np.diff(samples, 2)
    words = np.concatenate([samples[:2], 64 - bends[1:], [0]]).astype(">i2")  # each bend one sample late
    codes = lzw(words.view(np.uint8).reshape(-1, 2).T.tobytes())
    header = len(codes).to_bytes(4, "little") + b"\1\0" + int(-bends[0]).to_bytes(2, "little", signed=True)
    return header + codes


def lzw(data: bytes) -> bytes:
    """Return codes of 10 bits for bytes, ended by code 1023."""
    table = {bytes([value]): value for value in range(256)}
    codes, longest = [], b""
    for value in data:
        longer = longest + bytes([value])
        if longer not in table:
            codes.append(table[longest])
            if len(table) < 1023:
                table[longer] = len(table)
            longer = bytes([value])
        longest = longer
    return packed([*codes, table[longest], 1023])


def packed(codes) -> bytes:
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")
