"""What may stand in a ``checkpoint.json``: every field of both schemas, checked one by one and then together."""

import math
from collections.abc import Callable
from typing import Any, get_args

from engine.recipes import Strategy
from models.registry import UnknownNetworkError, find_network
from models.scaling import SCALINGS

SCHEMA_VERSION = 2
UNSET: dict[str, Any] = {"crop": None, "scaling": "set"}  # later fields, which are written where they are not this
_DEEPEST = 20  # levels of a free field; deeper is damage, and would end in a RecursionError

Check = Callable[[Any], Any]


class FieldError(ValueError):
    """A field is missing, unknown or wrong; the message says which and follows the name of the file."""


def checked_fields(document: dict[str, Any], schema: int = SCHEMA_VERSION) -> dict[str, Any]:
    """Return the fields of a parsed document (without schema and hashes) as CheckpointFacts takes them.

    Raises FieldError for a field that is missing, unknown, of a wrong type or range, or at odds with another.
    """
    checks = _FIRST if schema == 1 else _FIRST | _SINCE_2
    if missing := sorted(checks.keys() - document.keys() - UNSET.keys()):
        raise FieldError(f"lacks {', '.join(missing)}")
    if unknown := sorted(document.keys() - checks.keys()):
        raise FieldError(f"has fields that schema {schema} does not know: {', '.join(unknown)}")
    fields = {}
    for name, check in checks.items():
        if name not in document:
            continue
        try:
            fields[name] = check(document[name])
        except ValueError as error:
            raise FieldError(f"has a wrong {name}: {error}") from None
    _check_together(fields)
    return fields


def _check_together(fields: dict[str, Any]) -> None:
    classes, n_leads = fields["classes"], len(fields["leads"])
    thresholds = fields.get("thresholds", ())
    if len(thresholds) not in (0, len(classes)):
        raise FieldError(f"has {len(thresholds)} thresholds for {len(classes)} classes")
    for name, values in fields["standardisation"].items():
        if len(values) != n_leads:
            raise FieldError(f"has a standardisation with {len(values)} values of {name} for {n_leads} leads")
    if (crop := fields.get("crop")) is not None and crop > fields["n_samples"]:
        raise FieldError(f"has crops of {crop} samples for records of {fields['n_samples']}")
    if strangers := sorted(fields.get("codes", {}).keys() - set(classes)):
        raise FieldError(f"has codes for what is not a class: {', '.join(strangers)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not text")
    return value


def _name(value: Any) -> str:
    if not _text(value):
        raise ValueError("it is empty")
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    names = tuple(_name(item) for item in _list(value))
    if not names or len(set(names)) < len(names):
        raise ValueError("it is empty or names one twice")
    return names


def _network(value: Any) -> str:
    try:
        return find_network(_name(value)).name
    except UnknownNetworkError as error:
        raise ValueError(str(error)) from None


def _strategy(value: Any) -> str:
    if value not in (known := get_args(Strategy)):
        raise ValueError(f"{_shown(value)} is none of {', '.join(known)}")
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ValueError(f"{_shown(value)} is not a finite number")
    return float(value)


def _positive(value: Any) -> float:
    if (number := _number(value)) <= 0:
        raise ValueError(f"{number:g} is not above 0")
    return number


def _share(value: Any) -> float:
    if not 0 <= (number := _number(value)) <= 1:
        raise ValueError(f"{number:g} does not lie between 0 and 1")
    return number


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{_shown(value)} is not a whole number above 0")
    return value


def _scaling(value: Any) -> str:
    if value not in SCALINGS:
        raise ValueError(f"{_shown(value)} is none of {', '.join(SCALINGS)}")
    return str(value)


def _metric(value: Any) -> float:
    return math.nan if value is None else _number(value)


def _free(value: Any, depth: int = 0) -> Any:
    """Any JSON value of finite numbers."""
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _free(item, depth + 1)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"it holds {value}, which is not a finite number")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{_shown(value)} is not a list")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is not an object")
    return value


def _free_object(value: Any) -> dict[str, Any]:
    return {name: _free(item) for name, item in _object(value).items()}


def _each(check: Check) -> Check:
    """A tuple of what ``check`` takes."""
    return lambda value: tuple(check(item) for item in _list(value))


def _mapping(check: Check) -> Check:
    """A mapping of names to what ``check`` takes."""
    return lambda value: {name: check(item) for name, item in _object(value).items()}


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _standardisation(value: Any) -> dict[str, tuple[float, ...]]:
    if _object(value).keys() != {"mean", "std"}:
        raise ValueError(f"it holds {', '.join(sorted(value)) or 'nothing'} in place of mean, std")
    return {"mean": _each(_number)(value["mean"]), "std": _each(_positive)(value["std"])}


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the largest float
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


_FIRST: dict[str, Check] = {
    "arch": _network,
    "task": _name,
    "classes": _names,
    "leads": _names,
    "fs": _positive,
    "n_samples": _count,
    "standardisation": _standardisation,
    "recipe": _free_object,
    "data_hash": _text,
    "metrics": _mapping(_metric),
}
_SINCE_2: dict[str, Check] = {
    "strategy": _strategy,
    "upstream": _optional(_name),
    "thresholds": _each(_share),
    "temperature": _positive,
    "n_records": _optional(_count),
    "source": _mapping(_text),
    "codes": _mapping(_text),
    "evaluation": _free_object,
    "subgroups": _free_object,
    "versions": _mapping(_text),
    "created": _text,
    "record": _free_object,
    "crop": _count,
    "scaling": _scaling,
}
