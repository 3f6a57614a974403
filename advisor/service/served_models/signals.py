"""Recordings that come as numbers in JSON, for programs that have them in memory.

A number in a list of Python's takes 32 bytes and more, in JSON as few as two. So the numbers of one lead at a time are
such a list; what is around them, which may not be long, is read with the number of each lead's list in its place.
"""

import re
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from advisor.service.problems import Problem
from engine.deploy.inference import Listed
from engine.records.lead_names import lead_names
from engine.records.record import Record

_MOST_RECORDINGS, _MOST_LEADS, _MOST_SAMPLES = 1000, 64, 600_000
_FASTEST = 50_000.0  # hertz
_MOST_AROUND = 1_000_000  # bytes of a document that are no number: names, brackets and spaces
_STRING_OR_ROW = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|\[\s*+[^][{}"\s][^][{}"]*+\]', re.DOTALL)
_NUMBERS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "maxItems": _MOST_SAMPLES}}
_SCHEMA = {"anyOf": [_NUMBERS, {"type": "array", "items": _NUMBERS, "maxItems": _MOST_RECORDINGS}]}


def _as_many(value: Any) -> Any:
    """Return one recording as a list of it."""
    is_one = isinstance(value, list) and value and isinstance(value[0], list)
    return [value] if is_one and not (value[0] and isinstance(value[0][0], list)) else value


_Lead = Annotated[list[FiniteFloat], Field(max_length=_MOST_SAMPLES)]
_Recording = Annotated[list[_Lead], Field(max_length=_MOST_LEADS)]
_Recordings = Annotated[
    list[_Recording], Field(min_length=1, max_length=_MOST_RECORDINGS), BeforeValidator(_as_many),
    WithJsonSchema(_SCHEMA),
]  # fmt: skip


_ROW: TypeAdapter[list[float]] = TypeAdapter(_Lead, config=ConfigDict(strict=True))


class Signals(BaseModel):
    """Recordings of one rate and the same leads: (leads, samples) of one, (recordings, leads, samples) of several.

    ``fs`` is in hertz. Each is prepared as a file would be, and is called ``recording 0`` and so on.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    fs: Annotated[FiniteFloat, Field(gt=0, le=_FASTEST, strict=False)]
    leads: Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(min_length=1, max_length=64)]
    signals: _Recordings
    units: Literal["mV"] = "mV"


def read_signals(document: bytes) -> list[Listed]:
    """Return the recordings of a JSON document. Raises Problem, without a number of it in the sentence."""
    around, rows = _take_out_rows(document)
    try:
        given = Signals.model_validate_json(around)
    except ValidationError as error:
        raise _unusable(_in_words(error)) from None
    used = [row for recording in given.signals for row in recording if row]
    if len(used) < len(rows):  # only a value that another of its key has replaced is lost
        raise _unusable("it has a key twice: give fs, leads, signals and units once each")
    leads = lead_names(tuple(given.leads))
    arrays = [
        _array(number, len(leads), [document[rows[int(row[0])]] if row else b"[]" for row in recording])
        for number, recording in enumerate(given.signals)
    ]
    return [
        Listed(f"recording {number}", partial(Record, signals, given.fs, leads))
        for number, signals in enumerate(arrays)
    ]


def _take_out_rows(document: bytes) -> tuple[bytes, list[slice]]:
    """Return a document with ``[k]`` for its k-th list of something flat, and where these lists are. Raises Problem."""
    pieces, rows, taken, end = list[bytes](), list[slice](), 0, 0
    brackets = document.count(b"[")  # of which the search takes each for the begin of a row
    for found in _STRING_OR_ROW.finditer(document) if brackets <= _MOST_AROUND else ():
        start = found.start()
        if start - taken > _MOST_AROUND:
            break
        if document[start : start + 1] == b"[":
            if len(rows) == _MOST_RECORDINGS * _MOST_LEADS:
                raise _unusable(f"it has more than {len(rows):,} lists of numbers")
            pieces += [document[end:start], b"[%d]" % len(rows)]
            end = found.end()
            rows.append(slice(start, end))
            taken += end - start
    if len(document) - taken > _MOST_AROUND:
        raise _unusable(f"it has more than {_MOST_AROUND:,} bytes besides the numbers of its leads")
    return b"".join([*pieces, document[end:]]), rows


def _array(number: int, n_leads: int, rows: list[bytes]) -> NDArray[np.float32]:
    """Return the signals (leads, samples) of a recording, whose rows are in JSON. Raises Problem."""
    if len(rows) != n_leads:
        raise Problem(422, f"recording {number} has {len(rows)} rows, and {n_leads} leads are named: give a row a lead")
    read = [_numbers(row, f"signals.{number}.{lead}") for lead, row in enumerate(rows)]
    if len({len(row) for row in read}) > 1 or not len(read[0]):
        raise Problem(422, f"recording {number}: give every lead the same number of samples, and at least one")
    signals = np.array(read, np.float32)
    if not np.isfinite(signals).all():
        raise Problem(422, f"recording {number} has a sample that no millivolt is: give finite numbers")
    return signals


def _numbers(row: bytes, place: str) -> NDArray[np.float32]:
    if row.count(b",") >= _MOST_SAMPLES:  # before it is parsed
        raise _unusable(f"{place} has more than {_MOST_SAMPLES:,} samples")
    try:
        values = np.array(_ROW.validate_json(row), np.float64)
    except ValidationError as error:
        raise _unusable(_in_words(error, place)) from None
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _unusable(said: str) -> Problem:
    return Problem(422, f"the JSON cannot be used: {said}")


def _in_words(error: ValidationError, *within: str) -> str:
    """Return what is wrong first, with its place and without what was given there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join((*within, *(str(part) for part in first["loc"])))
    if first["type"] == "finite_number":
        return f"{place} is NaN or infinite: give finite numbers"
    if first["type"] == "json_invalid":
        return "it is not JSON"
    said = str(first["msg"])
    return f"{place}: {said[0].lower()}{said[1:]}" if place else f"{said[0].lower()}{said[1:]}"
