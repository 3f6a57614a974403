"""``docs/reference/json.md``: the JSON of an answer key by key, from its schema, and the facts in a model file."""

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from engine.deploy.model_facts import PREFIX, ModelFacts
from tests.documents.commands_page import commands
from tests.documents.json_documents import documents
from tests.documents.markdown import code, page, prose, table
from tests.documents.pages import ROOT

_SCHEMA = ROOT / "advisor" / "recommendation.schema.json"
_OPENING = (
    "`--json` puts one document alone on stdout, with a `schema_version`. Keys are added, never changed; what cannot "
    "be given is null."
)
_ANSWER = (
    "`ecgadvise recommend --json`, `Answer.to_dict()` and the service's `/v1/recommendation` give this, by "
    "[this schema](../../advisor/recommendation.schema.json). A key in brackets may be missing; `[]` stands for each "
    "of a list, `{}` for each name of an object."
)
_FACTS = (
    "What an exported ONNX file says of itself: keys of its `metadata_props`, each value JSON "
    "([how a program reads them](../how-to/export-and-predict.md#from-a-program-that-is-not-ours))."
)
_OTHERS = (
    "What else commands print, as they print it on synthetic records: `null` alone is a key that has nothing there, "
    "`{}` stands for each label."
)
_WORDS = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}


def json_page() -> str:
    """Return the page."""
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    kinds = [f"### {name}\n\n{_kind_section(one)}" for name, one in schema["$defs"].items()]
    return page(
        "JSON", _OPENING, _documents(), "## The answer", _ANSWER, _keys(schema), "## Kinds of values", *kinds,
        "## Other documents", _OTHERS, *documents(),
        "## The facts in a model file", _FACTS, prose(inspect.getdoc(ModelFacts) or ""), _facts(),
    )  # fmt: skip


def _documents() -> str:
    """Return the commands that print a document, as a table."""
    rows = [
        (f"[`{name}`](commands.md#ecgadvise-{name.replace(' ', '-')})", option.help)
        for name, command in commands()
        for option in command.params
        if "--json" in option.opts
    ]
    return table(("command", "its `--json`"), rows)


def _keys(schema: dict[str, Any]) -> str:
    return table(("key", "value", "what it is"), _rows(schema, ""))


def _rows(schema: dict[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    """Yield a row for every key of an object's schema, and after it those of the objects inside."""
    required = set(schema.get("required", ()))
    for name, one in schema.get("properties", {}).items():
        key = f"{above}{name}"
        yield code(key) if name in required else f"[{code(key)}]", _value(one), _words(one)
        yield from _inside(one, key)
    further = schema.get("additionalProperties")
    if isinstance(further, dict):
        names = sorted(required - set(schema.get("properties", ()))) or ["{}"]
        for name in names:
            key = f"{above}{name}"
            yield code(key), _value(further), _words(further)
            yield from _inside(further, key)


def _inside(schema: dict[str, Any], key: str) -> Iterator[tuple[str, str, str]]:
    for one in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if "items" in one:
            yield from _rows(one["items"], f"{key}[].")
        yield from _rows(one, f"{key}.")


def _kind_section(schema: dict[str, Any]) -> str:
    described = [_words(schema)] if "description" in schema else []
    rows = list(_rows(schema, ""))
    return "\n\n".join([*described, table(("key", "value", "what it is"), rows) if rows else f"{_value(schema)}."])


def _words(schema: dict[str, Any]) -> str:
    return str(schema.get("description", ""))


def _value(schema: dict[str, Any]) -> str:
    """Return what a value is, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(one) for one in schema["enum"])
    if several := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(_value(one) for one in several)
    if "items" in schema:
        return f"{_type(schema)} of {_value(schema['items'])}{_limits(schema)}"
    return f"{_type(schema)}{_limits(schema)}"


def _type(schema: dict[str, Any]) -> str:
    named = schema.get("type", "object")
    return named if isinstance(named, str) else " or ".join(named)


def _limits(schema: dict[str, Any]) -> str:
    said = [f"{words} {schema[limit]:g}" for limit, words in _WORDS.items() if limit in schema]
    return f", {', '.join(said)}" if said else ""


def _facts() -> str:
    tree = ast.parse(inspect.getsource(ModelFacts)).body[0]
    assert isinstance(tree, ast.ClassDef)
    types = {one.target.id: ast.unparse(one.annotation) for one in tree.body
             if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}  # fmt: skip
    rows = [(code(PREFIX + one.name), code(types[one.name])) for one in fields(ModelFacts)]
    return table(("key", "what its JSON is of"), [*rows, (code(f"{PREFIX}seconds"), code("float"))])
