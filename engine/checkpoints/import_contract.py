"""What a network of another's making reads and says: a TOML file that its importer writes from its publication.

    leads = ["aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]   # in the order of the network's input
    fs = 400                                                     # hertz
    seconds = 2                                                  # of its input; or samples = 800
    crops = true                                                 # records may be longer: crops are averaged
    scaling = "lead"                                             # of each crop: see below
    classes = ["chagas"]                                         # of its outputs, in their order

    [[trained_on]]                                               # the sets whose records it has seen
    name = "ptb-xl"

``scaling`` is ``set`` (default: millivolt less ``mean``, divided by ``std``, one number or one a lead; 0 and 1 where
they are left out, and ``std = 0.001`` for a network that takes microvolt), ``record`` or ``lead`` (each record, or
each of its leads, to mean 0 and standard deviation 1). Optional are ``classes``, ``task`` (what it was trained to do,
in words), ``citation``, ``n_records`` (how many records it was trained on), and of a set in ``trained_on`` ``url``,
``licence``, ``version``, ``citation`` and ``part`` (which of its records). A set that ``ecgadvise data list`` names
needs its name alone, and a training on its records is told that the network has seen them.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any, TypeVar

from engine.checkpoints.checkpoint import Standardisation
from engine.records.contract import SignalContract
from engine.records.lead_names import lead_names
from engine.records.record import LEADS
from engine.sources.publishers import PUBLICATIONS
from models.errors import ExitCode, UserError, decoding_fault
from models.scaling import SCALINGS, Scaling

_FS, _SECONDS = (50, 1000), (1.0, 120.0)  # of records that are prepared here (engine.records.contract)
_KEYS = ("leads", "fs", "seconds", "samples", "crops", "scaling", "mean", "std", "classes", "task", "trained_on",
         "citation", "n_records")  # fmt: skip
_KEYS_OF_SETS = ("name", "version", "licence", "url", "citation", "part")
_LONGEST = 2000  # characters of a text
_WHOLE = 1e-6  # of a sample: what arithmetic in floating point may leave of a whole number

Value = TypeVar("Value")


class ImportContractError(UserError, ValueError):
    """A contract that cannot be used; one sentence lists all that is wrong."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class ImportContract:
    """What a network reads, what its outputs mean, and what it was trained on, as far as its importer knows.

    ``trained_on`` are sets by ``name``, ``version``, ``licence``, ``url``, ``citation`` and ``part``, as far as given.
    """

    signal: SignalContract
    standardisation: Standardisation
    classes: tuple[str, ...] | None
    task: str | None
    citation: str | None
    n_records: int | None
    trained_on: tuple[Mapping[str, str], ...]


def read_contract(path: Path) -> ImportContract:
    """Read a contract. Raises ImportContractError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportContractError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ImportContractError(f"{path} is not a contract: {decoding_fault(error)}") from None
    problems: list[str] = []
    contract = _parse(_Table(table, problems))
    if problems:
        raise ImportContractError(f"{path}: {'; '.join(problems)}")
    assert contract is not None, "what cannot be made has a problem"
    return contract


class _Table:
    """The keys of a table as they are asked for; what is wrong goes into a list."""

    def __init__(self, table: Mapping[str, Any], problems: list[str], of: str = "") -> None:
        self._table, self._problems, self._of = table, problems, of

    def take(self, key: str, check: Callable[[Any], Value], *, required: bool = False) -> Value | None:
        """Return what ``check`` makes of a value, None where there is none or it is wrong."""
        if key not in self._table:
            if required:
                self.refuse(f"{key} is missing")
            return None
        try:
            return check(self._table[key])
        except ValueError as error:
            self.refuse(f"{key} {error}")
            return None

    def has(self, key: str) -> bool:
        """Return whether a key is there."""
        return key in self._table

    def refuse(self, problem: str) -> None:
        """Note what is wrong."""
        self._problems.append(f"{problem}{self._of}")

    def refuse_others(self, known: tuple[str, ...]) -> None:
        """Note keys that are none of those known."""
        if strange := sorted(self._table.keys() - set(known)):
            self.refuse(f"{', '.join(strange)} {'is' if len(strange) == 1 else 'are'} none of {', '.join(known)}")

    def inner(self, table: Mapping[str, Any], of: str) -> "_Table":
        """Return another table whose problems go into the same list."""
        return _Table(table, self._problems, of)


def _parse(table: _Table) -> ImportContract | None:
    table.refuse_others(_KEYS)
    leads = table.take("leads", _leads, required=True)
    fs = table.take("fs", _fs, required=True)
    n_samples = _n_samples(table, fs)
    crops = table.take("crops", _yes_or_no) or False
    scaling = table.take("scaling", _scaling) or "set"
    n_leads = None if leads is None else len(leads)
    mean = table.take("mean", lambda value: _one_a_lead(value, n_leads))
    std = table.take("std", lambda value: _one_a_lead(value, n_leads, above=0))
    for name in ("mean", "std"):
        if scaling != "set" and table.has(name):
            table.refuse(f"{name} is for scaling set, not {scaling}")
    classes = table.take("classes", lambda value: _names(value, "the outputs"))
    task, citation, n_records = (
        table.take("task", _text),
        table.take("citation", _text),
        table.take("n_records", _count),
    )
    trained_on = table.take("trained_on", lambda value: _sets(value, table)) or ()
    if leads is None or fs is None or n_samples is None:
        return None
    signal = SignalContract(leads, float(fs), n_samples, n_samples if crops else None, scaling)
    scale = Standardisation(mean or (0.0,) * len(leads), std or (1.0,) * len(leads))
    return ImportContract(signal, scale, classes, task, citation, n_records, trained_on)


def _n_samples(table: _Table, fs: int | None) -> int | None:
    if table.has("seconds") == table.has("samples"):
        table.refuse("seconds or samples is needed, one of them")
        return None
    key = "seconds" if table.has("seconds") else "samples"
    number = table.take(key, _number)
    if number is None or fs is None:
        return None
    n_samples = number * fs if key == "seconds" else number
    shortest, longest = _SECONDS
    if not shortest * fs <= n_samples <= longest * fs or abs(n_samples - round(n_samples)) > _WHOLE:
        table.refuse(f"{key} {number:g} at {fs} Hz is not a whole number of samples of {shortest:g} to {longest:g} s")
        return None
    return round(n_samples)


def _sets(value: Any, table: _Table) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("is not a list of tables, as [[trained_on]]")
    found: list[Mapping[str, str]] = []
    for place, one in enumerate(value, start=1):
        inner = table.inner(one, f" in trained_on {place}")
        inner.refuse_others(_KEYS_OF_SETS)
        given = {key: text for key in _KEYS_OF_SETS if (text := inner.take(key, _text, required=key == "name"))}
        known = PUBLICATIONS.get(given.get("name", "").casefold())
        # The address stays the known one, whatever version is meant: records are told by it.
        found.append(given if known is None else {**known._asdict(), **given, "name": known.name, "url": known.url})
    return tuple(found)


def _leads(value: Any) -> tuple[str, ...]:
    names = lead_names(_names(value, "the leads"))
    if strange := [name for name in names if name not in LEADS]:
        raise ValueError(f"names {', '.join(strange)}, which is none of {', '.join(LEADS)}")
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


def _names(value: Any, whose: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"is not a list of the names of {whose}")
    names = tuple(map(_text, value))
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
        raise ValueError(f"is not text of 1 to {_LONGEST:,} characters")
    return value.strip()


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _number(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan
    except OverflowError:  # a whole number beyond the largest float
        number = nan
    if not isfinite(number):
        raise ValueError("is not a number")
    return number


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**12:
        raise ValueError("is not a whole number above 0")
    return value


def _fs(value: Any) -> int:
    lowest, highest = _FS
    number = _number(value)
    if number != round(number) or not lowest <= number <= highest:
        raise ValueError(f"is not a whole number of {lowest} to {highest} Hz")
    return round(number)


def _scaling(value: Any) -> Scaling:
    found = next((one for one in SCALINGS if one == value), None)
    if found is None:
        raise ValueError(f"is none of {', '.join(SCALINGS)}")
    return found


def _one_a_lead(value: Any, n_leads: int | None, above: float | None = None) -> tuple[float, ...]:
    numbers = tuple(map(_number, value)) if isinstance(value, list) else (_number(value),) * (n_leads or 1)
    if n_leads is not None and len(numbers) != n_leads:
        raise ValueError(f"has {len(numbers)} numbers for {n_leads} leads")
    if above is not None and any(number <= above for number in numbers):
        raise ValueError(f"has a number that is not above {above:g}")
    return numbers
