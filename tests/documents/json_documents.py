"""What other commands than ``recommend`` print with ``--json``, key by key, as they print it on synthetic records."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine.corpora.synthetic import DIAGNOSES
from tests.documents.consoles import run_command
from tests.documents.markdown import code, table
from tests.documents.pages import ROOT

# In this order, in a folder of their own; a command whose document is shown ends in --json. ``recommend`` ends here
# with exit code 4, and a sentence on stderr.
_COMMANDS = (
    f"python {ROOT}/examples/synthetic_records.py ward 60",
    "ecgadvise data list --json",
    "ecgadvise data check ward --json",
    "ecgadvise zoo list --json",
    "ecgadvise curves show --at 500 --json",
    "ecgadvise recommend --n-records 500 --upstream ecgfounder --json",
    "ecgadvise train --data ward --arch cnn --out network --json",
    "ecgadvise export network --out model/model.onnx",
    "ecgadvise predict model/model.onnx ward/000001 --json",
)
_DEEPEST = 3  # keys within keys; deeper ones are as their names say


def documents() -> list[str]:
    """Return a section for every document: its command and the table of its keys."""
    return [f"### {_title(command)}\n\n    {command}\n\n{_keys(one)}" for command, one in _printed().items()]


def rows(document: Mapping[str, Any], above: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """Yield every key of a document with what its value is; ``{}`` stands for each label, ``[]`` for each of a list."""
    names = ["{}"] if document and set(document) <= set(DIAGNOSES) else list(document)
    for name in names:
        values = list(document.values()) if name == "{}" else [document[name]]
        key = f"{above}{name}"
        yield key, _kind(values)
        inside, sign = _inside(values)
        if inside and depth < _DEEPEST:
            yield from rows(inside, f"{key}{sign}.", depth + 1)


def _printed() -> dict[str, dict[str, Any]]:
    """Run the commands, and return what those print that end in ``--json``."""
    with TemporaryDirectory() as folder:
        own = {"ECGADVISE_CORPORA": f"{folder}/corpora", "ECGADVISE_ZOO": f"{folder}/zoo"}
        texts = {one: run_command(f"{one} || true", Path(folder), may_speak=True, **own) for one in _COMMANDS}
    return {command: json.loads(text) for command, text in texts.items() if command.endswith("--json")}


def _title(command: str) -> str:
    words = command.split()[1:3]
    if words[0] == "recommend":
        return "recommend, of a network without runs"
    return " ".join(words if words[0] in ("data", "zoo", "curves") else words[:1])


def _keys(document: Mapping[str, Any]) -> str:
    return table(("key", "value"), [(code(key), kind) for key, kind in rows(document)])


def _inside(values: list[Any]) -> tuple[dict[str, Any], str]:
    """Return an object that has every key of those among the values, or of those in lists, and the sign of these."""
    lists = [one for value in values if isinstance(value, list) for one in value]
    sign = "[]" if lists else ""
    objects = [one for one in (lists or values) if isinstance(one, dict)]
    merged: dict[str, Any] = {}
    for one in objects:
        merged |= {key: value for key, value in one.items() if merged.get(key) is None}
    return merged, sign


def _kind(values: list[Any]) -> str:
    """Return in words what values are; null where nothing else was seen."""
    kinds = dict.fromkeys(_kind_of(value) for value in values)
    return " or ".join(sorted(kinds, key=lambda kind: kind == "null"))


def _kind_of(value: Any) -> str:
    if isinstance(value, list):
        inner = _kind(value) if value else ""
        return f"array of {inner}" if inner else "array"
    known = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}
    return known[type(value)]
