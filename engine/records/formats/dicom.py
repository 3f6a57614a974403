"""DICOM waveforms: the ECG objects of PACS archives, and any other that holds channels of ECG leads.

Definition: DICOM PS3.3 C.10.9 (Waveform module), PS3.16 CID 3001 (ECG leads), PS3.10 (the file). ``pydicom`` reads the
elements; the samples are decoded here: sample x sensitivity x correction factor + baseline, in the channel's own unit.

- **Which group of channels**: one with ECG leads whose signals are ORIGINAL, not the median beat; of several the
  longest, then the one with the most leads, and with it all of other leads that have its rate, length and start.
- **Which lead**: the number in its code (5.6.3-9-N of SCPECG, 2:N of MDC), else the text (code meaning, channel label).
  Where both name a lead of the twelve, and different ones, the channel cannot be used.
- **Padding**: a sample of the padding value is missing. A signed padding value of 0 is what a lead at rest has too: it
  marks what is missing only where all channels have it for a second.
- **Skew**: a channel that was sampled more than one sample before or after the median of all cannot be used; a smaller
  skew is noted.
"""

import logging
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import printable, read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents
from engine.records.formats.dicom_person import KEYWORDS, element_text, person_and_time
from engine.records.formats.scp import LEADS_BY_NUMBER
from engine.records.lead_names import lead_name, lead_names, leads_not_read
from engine.records.record import LEADS, RecordError
from engine.records.units import in_millivolt

_PREAMBLE, _PREFIX = 128, b"DICM"
_BARE = (b"\x02\x00", b"\x08\x00")  # the group of the first element of a file without preamble, little endian
_LAST_NUMBER = 255  # of the leads; greater ones are other measurements in MDC
_CODE = re.compile(r"(?:5\.6\.3-9-|2:)0*(\d{1,5})")
_TEXT = re.compile(r"\s*(?:\((?:einthoven|goldberger|wilson)\)|, augmented voltage, (?:right|left|foot))\s*", re.I)
_TYPES = {(8, "SB"): "i1", (8, "UB"): "u1", (16, "SS"): "i2", (16, "US"): "u2", (32, "SL"): "i4", (32, "UL"): "u4"}
_COMPANDED = {"MB": "mu-law", "AB": "A-law"}  # of telephones, with 8 bits
_DOCUMENT = "1.2.840.10008.5.1.4.1.1.104."
_PAD_SECONDS = 1.0
_MAX_READS = 200_000  # of tags, lengths and values: some 3 s of work; an ECG takes about 3,000
_ROUNDED = 1e-6
_OTHERS = (
    "SOPClassUID",
    "OtherPatientIDsSequence",
    "PatientAge",
    "PatientSex",
    "Rows",
    "FileSetID",
    "WaveformSequence",
)
_LISTED = (*KEYWORDS, *_OTHERS)


@dataclass(frozen=True)
class _Channel:
    """A channel: its lead, millivolts a count and at count 0, its unit, and why it cannot be used, if so."""

    lead: str
    is_ecg: bool
    gain: float
    offset: float
    unit: str
    skew: float
    fault: str | None


_Group = tuple[Any, list[_Channel]]  # a multiplex group's elements, and its channels


class _Stream(BytesIO):
    """Bytes that are read in no more pieces than any recording has, all streams of a file together."""

    def __init__(self, content: bytes, reads: Iterator[int]) -> None:
        super().__init__(content)
        self._reads = reads

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as BytesIO does. Raises RecordError for the piece that is too many."""
        if next(self._reads, None) is None:
            raise RecordError("it has more elements than any recording")
        return super().read(size)


def open_dicom(path: Path) -> Contents:
    """Open a DICOM file with a waveform of ECG leads, whatever its SOP class says it is.

    Raises RecordError for other objects (images, documents), for compressed samples, and for a file that is damaged.
    """
    content = read_whole(path, MAX_FILE_BYTES)
    if not content.startswith(_PREFIX, _PREAMBLE) and content[:2] not in _BARE:
        raise RecordError("it is not a DICOM file")
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise RecordError("reading DICOM needs pydicom: pip install 'ecgadvise[formats]'") from None
    try:
        with _silence():
            reads = iter(range(_MAX_READS))
            return _contents(_parse(content, reads), reads)
    except RecordError:
        raise
    except Exception:  # noqa: BLE001  pydicom raises what its conversions do, and the text quotes the file
        raise RecordError("its DICOM elements are damaged") from None


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what pydicom warns of and logs to itself: it quotes values."""
    logger = logging.getLogger("pydicom")
    was = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = was


def _parse(content: bytes, reads: Iterator[int]) -> Any:
    """Return the elements that are needed. A deflated file is unpacked to no more than a file may have."""
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import ImplicitVRLittleEndian

    stream = _Stream(content, reads)
    syntax = ImplicitVRLittleEndian
    if content.startswith(_PREFIX, _PREAMBLE):
        stream.seek(_PREAMBLE + len(_PREFIX))
    if content.startswith(_BARE[0], stream.tell()):
        meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
        syntax = meta.get("TransferSyntaxUID") or syntax
    if syntax.is_private:
        raise RecordError("its transfer syntax is private")
    if syntax.is_deflated:
        stream = _Stream(_inflate(content[stream.tell() :]), reads)
    tags: list[Any] = [Tag(keyword) for keyword in _LISTED]
    return read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=tags)


def _inflate(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(packed, MAX_FILE_BYTES)
    except zlib.error:
        raise RecordError("its deflated elements are damaged") from None
    if not unpacker.eof or len(unpacker.unused_data) > 1:  # one byte makes the length even
        raise RecordError("its deflated elements are cut, or too many")
    return unpacked


def _items(dataset: Any, keyword: str, reads: Iterator[int]) -> list[Any]:
    """Return the items of a sequence; pydicom parses one of a given length only here."""
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_sequence

    if keyword not in dataset:
        return []
    element = dataset.get_item(keyword)
    if not isinstance(element, RawDataElement):
        return list(element.value or ())
    if element.VR not in (None, "SQ", "UN"):
        raise RecordError("its DICOM elements are damaged")
    value = element.value or b""
    is_unknown = element.VR == "UN"  # of which the inside is implicit, little endian
    is_implicit, is_little = element.is_implicit_VR or is_unknown, element.is_little_endian or is_unknown
    encoding = dataset.original_character_set
    return list(read_sequence(_Stream(value, reads), is_implicit, is_little, len(value), encoding))


def _contents(dataset: Any, reads: Iterator[int]) -> Contents:
    groups = _items(dataset, "WaveformSequence", reads)
    if not groups:
        raise RecordError(_what_it_is(dataset))
    chosen, others = _choose(groups, reads)
    group = chosen[0][0]
    fs, n_samples = _rate(group), int(group.NumberOfWaveformSamples)
    is_little = bool(dataset.original_encoding[1])
    parts = [_decoder(one, of_one, fs, n_samples, is_little) for one, of_one in chosen]
    channels = [channel for _one, of_one in chosen for channel in of_one]
    skew_faults, skew_notes = _skews(channels, fs)
    faults = skew_faults | {row: channel.fault for row, channel in enumerate(channels) if channel.fault is not None}
    notes = ["its file calls these signals derived"] if _originality(group) == "DERIVED" else []
    leads = tuple(channel.lead for channel in channels)
    notes += leads_not_read([[channel.lead for channel in of_one] for _one, of_one in others], leads)
    person, recorded = person_and_time(
        dataset, [element_text(item, "PatientID") for item in _items(dataset, "OtherPatientIDsSequence", reads)]
    )
    return Contents(
        leads,
        fs,
        n_samples,
        Counter(channel.unit for channel in channels if channel.is_ecg).most_common(1)[0][0],
        lambda: np.concatenate([decode() for decode in parts]),
        person,
        recorded,
        notes=(*notes, *skew_notes),
        faults=tuple(sorted(faults.items())),
    )


def _what_it_is(dataset: Any) -> str:
    """Say what a file without waveforms is."""
    if str(dataset.get("SOPClassUID", "")).startswith(_DOCUMENT):
        return "it holds a document, as the PDF of an ECG, and not the signals"
    if "Rows" in dataset:
        return "it holds an image and no signals"
    if "FileSetID" in dataset:
        return "it is a DICOMDIR: a list of files"
    return "it holds no waveform"


def _decoder(
    group: Any, channels: list[_Channel], fs: float, n_samples: int, is_little: bool
) -> Callable[[], NDArray[np.float64]]:
    """Check how many samples a group has, and return what scales them to millivolt."""
    if int(group.NumberOfWaveformChannels) != len(channels):
        raise RecordError(f"it says {int(group.NumberOfWaveformChannels)} channels and describes {len(channels)}")
    counts, padding = _counts(group, len(channels), n_samples, is_little)
    gains, offsets = (np.array([[getattr(channel, key)] for channel in channels]) for key in ("gain", "offset"))
    return lambda: _voltages(counts, padding, fs, gains, offsets)


def _choose(groups: list[Any], reads: Iterator[int]) -> tuple[list[_Group], list[_Group]]:
    """Return the groups of channels to read, which have one rate, length and start, and the others of their kind."""
    for original in (True, False):
        some = [group for group in groups if (_originality(group) == "ORIGINAL") is original]
        described = [(group, _channels(group, reads)) for group in some]
        of_leads = [(group, channels) for group, channels in described if any(channel.is_ecg for channel in channels)]
        if of_leads:
            best = max(of_leads, key=lambda one: (_seconds(one[0]), sum(channel.is_ecg for channel in one[1])))
            chosen = [best]
            others: list[_Group] = []
            for one in of_leads:
                if one is not best:
                    (chosen if original and _continues(one, chosen) else others).append(one)
            return chosen, others
    raise RecordError("none of its channels is a lead of an ECG")


def _continues(one: _Group, chosen: list[_Group]) -> bool:
    """Whether a group has other leads of the same time as those that are chosen."""
    taken = {channel.lead for _group, channels in chosen for channel in channels}
    same = _span(one[0]) == _span(chosen[0][0])
    return same and taken.isdisjoint(channel.lead for channel in one[1])


def _span(group: Any) -> tuple[float, int, float] | None:
    """Return a group's rate, samples and start in milliseconds, None where one is not a number."""
    try:
        return _rate(group), int(group.NumberOfWaveformSamples), _number(group, "MultiplexGroupTimeOffset", 0.0)
    except (AttributeError, TypeError, ValueError):
        return None


def _originality(group: Any) -> str:
    return str(group.get("WaveformOriginality") or "").strip().upper()


def _rate(group: Any) -> float:
    return float(group.SamplingFrequency)


def _seconds(group: Any) -> float:
    try:
        return int(group.NumberOfWaveformSamples) / _rate(group)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):  # of a group that then is not the longest
        return 0.0


def _channels(group: Any, reads: Iterator[int]) -> list[_Channel]:
    definitions = _items(group, "ChannelDefinitionSequence", reads)
    sources, units = (
        [next(iter(_items(definition, keyword, reads)), None) for definition in definitions]
        for keyword in ("ChannelSourceSequence", "ChannelSensitivityUnitsSequence")
    )
    texts = [_lead_text(definition, source) for definition, source in zip(definitions, sources, strict=True)]
    named = lead_names(tuple(texts))
    return [
        _channel(definition, unit, _lead_number(source), name or f"channel {row + 1}", _rate(group))
        for row, (definition, source, unit, name) in enumerate(zip(definitions, sources, units, named, strict=True))
    ]


def _channel(definition: Any, units: Any, number: int | None, name: str, fs: float) -> _Channel:
    """Read how a channel is scaled; ``name`` is what its text says, ``number`` that of its code."""
    coded = LEADS_BY_NUMBER.get(number or 0)
    sensitivity = definition.get("ChannelSensitivity")
    unit = next((text for key in ("CodeValue", "CodeMeaning") if (text := element_text(units, key))), "")
    millivolt = in_millivolt(unit)
    gain, offset = np.nan, np.nan
    fault = None
    if sensitivity is None:
        fault = "no sensitivity of {} is given, which scales it"
    elif millivolt is None:
        fault = f"unit {printable(unit)} of {{}} is not a voltage" if unit else "no unit of {} is given"
    else:
        gain = float(sensitivity) * _number(definition, "ChannelSensitivityCorrectionFactor", 1.0) * millivolt
        offset = _number(definition, "ChannelBaseline", 0.0) * millivolt
        if not (np.isfinite([gain, offset]).all() and gain):
            fault = "the sensitivity of {} is 0, or it or the baseline is not a number"
    if number and name in LEADS and coded != name:
        fault = "code and name of {} are of different leads"
    skew = definition.get("ChannelTimeSkew")
    seconds = _number(definition, "ChannelSampleSkew", 0.0) / fs if skew is None else float(skew)
    is_ecg = coded is not None or name in LEADS or bool(number)
    return _Channel(coded or name, is_ecg, gain, offset, unit, seconds, fault)


def _lead_number(source: Any) -> int | None:
    """Return the number of a lead's code, 0 for an unspecified lead, None for another code."""
    found = _CODE.fullmatch(element_text(source, "CodeValue"))
    if found is None or (found[0].startswith("2:") and element_text(source, "CodingSchemeDesignator") != "MDC"):
        return None
    return int(found[1]) if int(found[1]) <= _LAST_NUMBER else None


def _lead_text(definition: Any, source: Any) -> str:
    """Return the text that names a channel's lead: the meaning of its code, or its label."""
    texts = [
        _TEXT.sub("", text)
        for text in (element_text(source, "CodeMeaning"), element_text(definition, "ChannelLabel"))
        if text
    ]
    return next((text for text in texts if lead_name(text) in LEADS), next(iter(texts), ""))


def _number(item: Any, keyword: str, default: float) -> float:
    value = item.get(keyword)
    return default if value is None else float(value)


def _skews(channels: list[_Channel], fs: float) -> tuple[dict[int, str], list[str]]:
    """Return the channels that are more than a sample apart from the median, and a note on those that are less."""
    skews = [channel.skew for channel in channels if np.isfinite(channel.skew)]
    usual = median_low(skews or [0.0])  # one that there is, also where two halves are apart
    apart = [abs(channel.skew - usual) * fs for channel in channels]
    faults = {
        row: f"{{}} was sampled {samples:.3g} samples before or after most leads"
        for row, samples in enumerate(apart)
        if not samples <= 1 + _ROUNDED  # nor NaN
    }
    sound = [channel.skew for row, channel in enumerate(channels) if row not in faults]
    largest = max(sound, default=0.0) - min(sound, default=0.0)
    return faults, [f"its leads were sampled up to {largest * 1000:.3g} ms apart"] if largest else []


def _counts(group: Any, n_channels: int, n_samples: int, is_little: bool) -> tuple[NDArray[Any], int | None]:
    """Return a group's samples (samples, channels) as they are stored, and the one that means none."""
    bits, kind = int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation).strip().upper()
    if kind in _COMPANDED:
        raise RecordError(f"its samples are companded by {_COMPANDED[kind]} ({kind}), which is not read")
    if (bits, kind) not in _TYPES:
        raise RecordError(f"its samples are {printable(kind)} of {bits} bits, which is not read")
    dtype = np.dtype(_TYPES[bits, kind]).newbyteorder("<" if is_little else ">")
    data = group.WaveformData
    n_bytes = n_samples * n_channels * dtype.itemsize
    if not isinstance(data, bytes) or not n_bytes <= len(data) <= n_bytes + n_bytes % 2:
        there = len(data) if isinstance(data, bytes) else 0
        raise RecordError(f"it says {n_samples:,} samples of {n_channels} channels and has {there:,} bytes of them")
    counts = np.frombuffer(data, dtype, n_samples * n_channels).reshape(n_samples, n_channels)
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= dtype.itemsize:
        return counts, int(np.frombuffer(padding, dtype, 1)[0])
    return counts, padding if isinstance(padding, int) else None


def _voltages(
    counts: NDArray[Any], padding: int | None, fs: float, gains: NDArray[np.float64], offsets: NDArray[np.float64]
) -> NDArray[np.float64]:
    voltages: NDArray[np.float64] = counts.T.astype(np.float64) * gains + offsets
    if padding is not None:
        missing = np.equal(counts.T, padding)
        if padding == 0 and counts.dtype.kind == "i":
            missing &= _long_runs(missing.all(axis=0), _PAD_SECONDS * fs)
        voltages[missing] = np.nan
    return voltages


def _long_runs(marked: NDArray[np.bool_], at_least: float) -> NDArray[np.bool_]:
    """Return what is marked in runs of at least that many."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    long = np.zeros_like(marked)
    for start, stop in edges.reshape(-1, 2).tolist():
        long[start:stop] = stop - start >= at_least
    return long
