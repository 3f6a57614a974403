"""A FHIR Observation of HL7 with SampledData, alone or in a Bundle, in XML or JSON.

By the releases R4 and R5 of the standard: a sample is ``origin + factor * data`` in the unit of the origin, E, U and L
stand for samples that are missing or out of the range, and ``period`` is in milliseconds. A lead is told by codes of
MDC (ISO/IEEE 11073-10101), LOINC or SNOMED CT, or by its name. The official example gives no unit and has the
converter's zero for an origin: such a file is refused unless the caller says what it means.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from engine.records.file_content import read_whole
from engine.records.formats.contents import MAX_FILE_BYTES, Contents, Person, person_of
from engine.records.formats.scp import LEADS_BY_NUMBER
from engine.records.formats.xml_documents.texts import count_numbers, iso_moment
from engine.records.formats.xml_documents.tree import number_of, parse_xml
from engine.records.lead_names import lead_name, lead_names
from engine.records.record import LEADS, RecordError
from engine.records.units import in_millivolt

ROOT = "Observation"
BUNDLE = "Bundle"  # the root of several resources

_Node = Mapping[str, list[Any]]  # an element: its children by name, each a node, or the text of a value

_MDC_NUMBERS = {number: lead for number, lead in LEADS_BY_NUMBER.items() if lead in LEADS}
_MDC_PARTITION, _MDC_POTENTIAL = 2 << 16, 256  # MDC_ECG_LEAD_I is 131073, MDC_ECG_ELEC_POTL_I 131329
_MDC = {str(_MDC_PARTITION + k + more): lead for k, lead in _MDC_NUMBERS.items() for more in (0, _MDC_POTENTIAL)}
_MDC |= {f"2:{k}": lead for k, lead in _MDC_NUMBERS.items()}  # as DICOM writes them
_LOINC = {"LP7386-8": "I", "LP7387-6": "II", "LP7388-4": "III", "LP7385-0": "aVR", "LP7384-3": "aVL", "LP7383-5": "aVF"}
_LOINC |= {"LP7389-2": "V1", "LP7390-0": "V2", "LP7391-8": "V3", "LP7392-6": "V4", "LP7393-4": "V5", "LP7394-2": "V6"}
_SNOMED = {"272729005": "I", "272730000": "II", "272731001": "III"}
_SNOMED |= {"257474006": "aVR", "257473000": "aVL", "257472005": "aVF", "257475007": "V1", "257476008": "V2"}
_SNOMED |= {"257477004": "V3", "257478009": "V4", "257479001": "V5", "257480003": "V6"}
_SYSTEMS = {"2.16.840.1.113883.6.24": _MDC, "11073": _MDC, "loinc.org": _LOINC, "snomed.info": _SNOMED}
_MDC_NAME = re.compile(r"MDC_ECG_(?:ELEC_POTL|LEAD)_", re.IGNORECASE)

_MAX_ELEMENTS = 2_000_000
_MAX_SAMPLES = 10_000_000  # of one SampledData: they are text, which is costly
_MARKS = ("E", "U", "L")  # an error, above or below what can be measured
_IN_SAMPLES = b"0123456789+-.eEUL \t\r\n"
_MAX_MILLIVOLT = 1e9  # single precision ends at 1e38
_MILLISECONDS = {"ms": 1.0, "s": 1000.0, "us": 0.001}


@dataclass(frozen=True)
class _Signal:
    """One SampledData: of which lead, in which Observation, and how its samples become millivolt."""

    lead: str
    observation: int
    milliseconds: float
    unit: str
    origin: float
    factor: float
    data: str
    n_samples: int

    def millivolt(self, zero: float | None) -> NDArray[np.float64]:
        words = self.data.split()
        if not set(_MARKS).isdisjoint(self.data):
            words = ["nan" if word in _MARKS else word for word in words]
        try:
            if self.data.encode("utf-8", "replace").translate(None, _IN_SAMPLES):
                raise ValueError
            data = np.array(words, np.float64)
        except ValueError:
            raise RecordError("a sample is not a number") from None
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.origin + self.factor * data if zero is None else self.factor * (data - zero)
            values = values * (in_millivolt(self.unit) or np.nan)
        if (np.abs(values) > _MAX_MILLIVOLT).any() or np.isnan(values).sum() > np.isnan(data).sum():
            raise RecordError("a sample is larger than any voltage of a heart")
        return values


def open_fhir(path: Path, unit: str | None = None, zero: float | None = None) -> Contents:
    """Return what an Observation holds; ``decode`` gives float64 (leads, samples) in millivolt.

    ``unit`` is that of samples for which the file gives none. With ``zero`` a sample is ``factor * (data - zero)``,
    whatever the origin says. Raises RecordError, also for a unit that contradicts the file's.
    """
    resources = list(_resources(_document(read_whole(path, MAX_FILE_BYTES))))
    observations = [node for _url, node in resources if _text(node, "resourceType") == ROOT]
    parts_of = ((k, part) for k, node in enumerate(observations) for part in (node, *_nodes(node, "component")))
    signals = [_signal(k, part, unit) for k, part in parts_of if "valueSampledData" in part]
    if not signals:
        raise RecordError("holds no sampled data")
    voltages = [signal for signal in signals if signal is not None]
    if not voltages:
        raise RecordError("its sampled data are in no unit of voltage")
    used = [observations[k] for k in dict.fromkeys(signal.observation for signal in voltages)]
    _check_one_recording(used)
    leads, parts = _by_lead(voltages)
    lengths = [part.n_samples for part in parts[0]]
    if any([part.n_samples for part in row] != lengths for row in parts[1:]):
        raise RecordError("its leads have different numbers of samples")
    if len({signal.milliseconds for signal in voltages}) > 1:
        raise RecordError("its leads have different sampling periods")

    def decode() -> NDArray[np.float64]:
        return np.stack([np.concatenate([part.millivolt(zero) for part in row]) for row in parts])

    recorded = _recorded(used[0])
    return Contents(
        leads,
        1000 / voltages[0].milliseconds,
        sum(lengths),
        ", ".join(dict.fromkeys(signal.unit for signal in voltages)),
        decode,
        _person(used[0], resources, recorded),
        recorded,
        notes=tuple(_notes(leads, parts, zero, left_out=len(voltages) < len(signals))),
    )


def _document(content: bytes) -> _Node:
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _resource(parse_xml(content))
    if sum(map(content.count, (b"{", b"[", b","))) > _MAX_ELEMENTS:  # samples are one text, without commas
        raise RecordError("its JSON has more elements than any recording")
    try:
        document = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_object, parse_float=str, parse_int=str, parse_constant=str
        )
    except RecordError:  # which is a ValueError
        raise
    except RecursionError:
        raise RecordError("its JSON is nested deeper than any recording") from None
    except ValueError as error:
        line = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RecordError(f"its JSON is damaged{line}") from None
    assert isinstance(document, dict)  # it begins with a brace
    return document


def _object(pairs: list[tuple[str, Any]]) -> _Node:
    node = {name: value if isinstance(value, list) else [value] for name, value in pairs}
    if len(node) < len(pairs):
        raise RecordError("its JSON says something twice")
    return node


def _resource(element: Element) -> _Node:
    return {**_children(element), "resourceType": [element.tag]}


def _children(element: Element) -> dict[str, list[Any]]:
    node: dict[str, list[Any]] = {}
    for child in element:
        if child.tag in ("resource", "contained"):
            value: Any = _resource(child[0]) if len(child) else {}
        else:
            value = child.attrib["value"] if "value" in child.attrib else _children(child)
        node.setdefault(child.tag, []).append(value)
    return node


def _resources(root: _Node) -> Iterator[tuple[str, _Node]]:
    """Yield every resource with its address in the Bundle, "" where it has none."""
    kind = _text(root, "resourceType")
    if kind not in (ROOT, BUNDLE):
        raise RecordError("is not a FHIR Observation")
    entries = [("", root)]
    if kind == BUNDLE:
        entries = [
            (_text(entry, "fullUrl"), node) for entry in _nodes(root, "entry") for node in _nodes(entry, "resource")
        ]
    for url, node in entries:
        yield url, node
        for contained in _nodes(node, "contained"):
            yield "#" + _text(contained, "id"), contained


def _values(node: _Node, path: tuple[str, ...]) -> list[Any]:
    found: list[Any] = [node]
    for name in path:
        found = list(chain.from_iterable(parent.get(name, ()) for parent in found if isinstance(parent, dict)))
    return found


def _nodes(node: _Node, *path: str) -> list[_Node]:
    return [value for value in _values(node, path) if isinstance(value, dict)]


def _texts(node: _Node, *path: str) -> list[str]:
    return [value.strip() for value in _values(node, path) if isinstance(value, str) and value.strip()]


def _text(node: _Node, *path: str) -> str:
    return next(iter(_texts(node, *path)), "")


def _signal(observation: int, part: _Node, unit: str | None) -> _Signal | None:
    """Return a SampledData, None for one of something else than a voltage."""
    sampled = _nodes(part, "valueSampledData")
    if len(sampled) != 1:
        raise RecordError("it has sampled data that are damaged")
    own = _unit(sampled[0])
    if own and in_millivolt(own) is None:
        return None
    if not own and not unit:
        raise RecordError("its sampled data have no unit, which cannot be guessed")
    if unit and (in_millivolt(unit) is None or (own and in_millivolt(own) != in_millivolt(unit))):
        raise RecordError(f"its unit is {own}, not {unit}" if own else f"{unit} is not a unit of voltage")
    if _text(sampled[0], "dimensions") not in ("", "1"):
        raise RecordError("its sampled data have more than one dimension")
    if len(_texts(sampled[0], "data")) != 1:
        raise RecordError("a lead has no samples")
    data = _text(sampled[0], "data")
    n_samples = count_numbers(data, " ")
    if n_samples > _MAX_SAMPLES:
        raise RecordError(f"a lead has {n_samples:,} samples, more than any recording of its kind")
    return _Signal(
        _lead(part),
        observation,
        _milliseconds(sampled[0]),
        own or unit or "",
        number_of(_text(sampled[0], "origin", "value") or "0", "origin"),
        number_of(_text(sampled[0], "factor") or "1", "factor"),
        data,
        n_samples,
    )


def _unit(sampled: _Node) -> str:
    """Return the unit of the origin, by preference a voltage; "" where none is given."""
    given = [*_texts(sampled, "origin", "code"), *_texts(sampled, "origin", "unit")]
    voltages = [text for text in given if in_millivolt(text) is not None]
    if len({in_millivolt(text) for text in voltages}) > 1:
        raise RecordError("its sampled data have two units")
    return next(iter(voltages or given), "")


def _milliseconds(sampled: _Node) -> float:
    """Return the time from one sample to the next."""
    period, interval = _text(sampled, "period"), _text(sampled, "interval")
    if period:
        milliseconds = number_of(period, "sampling period")
    elif interval and (each := _MILLISECONDS.get(_text(sampled, "intervalUnit"))):
        milliseconds = number_of(interval, "sampling interval") * each
    else:
        raise RecordError("it does not say its sampling period")
    if milliseconds <= 0:
        raise RecordError("its sampling period is not above zero")
    return milliseconds


def _lead(part: _Node) -> str:
    """Return the lead that codes and names agree on, else a name that is none of the twelve leads'."""
    named, told = [], set()
    for coding in _nodes(part, "code", "coding"):
        system, code, display = (_text(coding, name) for name in ("system", "code", "display"))
        table = next((codes for name, codes in _SYSTEMS.items() if name in system), {})
        told.add(table.get(code))
        named += [display, code]
    named.insert(0, _text(part, "code", "text"))
    names = [name for name in named if name]
    told |= {lead for name in names if (lead := lead_name(_MDC_NAME.sub("", name))) in LEADS}
    leads = told - {None}
    if len(leads) > 1:
        raise RecordError(f"a lead is coded as {' and as '.join(sorted(map(str, leads)))}")
    if not leads and not names:
        raise RecordError("a lead has no name")
    return next(iter(leads), None) or names[0]


def _by_lead(signals: list[_Signal]) -> tuple[tuple[str, ...], list[list[_Signal]]]:
    """Return the leads, and the parts of each in their order."""
    rows: dict[str, list[_Signal]] = {}
    for signal in signals:
        rows.setdefault(signal.lead, []).append(signal)
    for row in rows.values():
        lengths = [part.n_samples for part in row]
        like_a_series = len(set(lengths[:-1])) <= 1 and lengths[-1] <= lengths[0]
        if len(row) > 1 and not (like_a_series and len({part.observation for part in row}) == 1):
            raise RecordError("a lead is there more than once")
    return lead_names(tuple(rows)), list(rows.values())


def _check_one_recording(observations: list[_Node]) -> None:
    if any(_text(node, "status") == "entered-in-error" for node in observations):
        raise RecordError("it was entered in error, as it says itself")
    whose = {(_text(node, "subject", "reference"), *_when(node)) for node in observations}
    if len(observations) > 1 and (len(whose) > 1 or not _when(observations[0])):
        raise RecordError(f"holds {len(observations)} recordings")


def _when(observation: _Node) -> list[str]:
    return [
        *_texts(observation, "effectiveDateTime"),
        *_texts(observation, "effectiveInstant"),
        *_texts(observation, "effectivePeriod", "start"),
    ]


def _recorded(observation: _Node) -> datetime | None:
    """Return the time of the recording, by the clock of the place."""
    return iso_moment(next(iter(_when(observation)), ""))


def _notes(leads: tuple[str, ...], parts: list[list[_Signal]], zero: float | None, left_out: bool) -> Iterator[str]:
    if left_out:
        yield "what is not a voltage is left out"
    if len(parts[0]) > 1:
        yield f"each lead is in {len(parts[0])} parts, which are joined in their order"
    same: dict[tuple[Any, ...], list[str]] = {}
    for lead, row in zip(leads, parts, strict=True):
        same.setdefault(tuple((part.data, part.origin, part.factor, part.unit) for part in row), []).append(lead)
    for alike in same.values():
        if len(alike) > 1:
            yield f"{', '.join(alike)} have the same samples"
    moved = {f"{part.origin:g} {part.unit}" for row in parts for part in row if part.origin}
    if moved and zero is None:
        yield f"every sample is moved by {', '.join(sorted(moved))}, which is the origin"


def _person(observation: _Node, resources: list[tuple[str, _Node]], recorded: datetime | None) -> Person:
    reference = _text(observation, "subject", "reference")
    own = _id_in(reference)
    patients = [(url, node) for url, node in resources if _text(node, "resourceType") == "Patient"]
    meant = [entry for entry in patients if entry[0] == reference or (own and own == _text(entry[1], "id"))]
    url, patient = next(iter(meant or (patients if len(patients) == 1 else [])), ("", {}))
    numbers = [*_texts(observation, "subject", "identifier", "value"), *_texts(patient, "identifier", "value"), own]
    if not url.startswith("#"):  # such an identifier holds in its own file alone
        numbers.append(_text(patient, "id"))
    names = _nodes(patient, "name")
    born = _text(patient, "birthDate")
    texts = (
        _text(observation, "subject", "display"),
        *(text for name in names for text in (*_texts(name, "text"), *_texts(name, "given"), *_texts(name, "family"))),
        *(" ".join([*_texts(name, "given"), *_texts(name, "family")]) for name in names),
        *_texts(patient, "telecom", "value"),
        born,
        *_texts(observation, "identifier", "value"),
        *_texts(observation, "encounter", "identifier", "value"),
        _id_in(_text(observation, "encounter", "reference")),
    )
    return person_of(numbers, texts, born=iso_moment(born), sex=_text(patient, "gender"), recorded=recorded)


def _id_in(reference: str) -> str:
    """Return the identifier in a reference to a resource, "" for one that holds in its own file alone."""
    return "" if reference.startswith("#") else reference.split("/_history/")[0].rpartition("/")[2]
