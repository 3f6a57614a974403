"""Recordings that come as numbers in JSON, for programs that have them in memory."""

from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError, WithJsonSchema

from advisor.service.problems import Problem
from engine.deploy.inference import Listed
from engine.records.lead_names import lead_names
from engine.records.record import Record

_MOST_RECORDINGS, _MOST_LEADS, _MOST_SAMPLES = 1000, 64, 600_000
_FASTEST = 50_000.0  # hertz
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
    try:
        given = Signals.model_validate_json(document)
    except ValidationError as error:
        raise Problem(422, f"the JSON cannot be used: {_in_words(error)}") from None
    leads = lead_names(tuple(given.leads))
    arrays = [_array(number, rows, len(leads)) for number, rows in enumerate(given.signals)]
    return [
        Listed(f"recording {number}", partial(Record, signals, given.fs, leads))
        for number, signals in enumerate(arrays)
    ]


def _array(number: int, rows: list[list[float]], n_leads: int) -> NDArray[np.float32]:
    if len(rows) != n_leads:
        raise Problem(422, f"recording {number} has {len(rows)} rows, and {n_leads} leads are named: give a row a lead")
    if len({len(row) for row in rows}) > 1 or not rows[0]:
        raise Problem(422, f"recording {number}: give every lead the same number of samples, and at least one")
    with np.errstate(over="ignore"):
        signals = np.array(rows, np.float64).astype(np.float32)
    if not np.isfinite(signals).all():
        raise Problem(422, f"recording {number} has a sample that no millivolt is: give finite numbers")
    return signals


def _in_words(error: ValidationError) -> str:
    """Return what is wrong first, with its place and without what was given there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "finite_number":
        return f"{place} is NaN or infinite: give finite numbers"
    if first["type"] == "json_invalid":
        return "it is not JSON"
    said = str(first["msg"])
    return f"{place}: {said[0].lower()}{said[1:]}" if place else f"{said[0].lower()}{said[1:]}"
