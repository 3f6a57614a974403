"""``docs/reference/python.md``: signatures and docstrings of what ``import ecgadvise`` offers."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from typing import Literal, get_origin

import ecgadvise
from tests.documents.markdown import page, prose, table

_OPENING = (
    "What `import ecgadvise` offers. Importing it loads nothing else; how to use it: "
    "[from Python](../how-to/python.md). Errors that a user can put right are `UserError` of "
    "[`models/errors.py`](../../models/errors.py)."
)
_WIDTH = 110
Definition = ast.FunctionDef | ast.ClassDef


def python_page() -> str:
    """Return the page."""
    things = [getattr(ecgadvise, name) for name in ecgadvise.__all__ if not name.startswith("__")]
    functions = [one for one in things if inspect.isfunction(one)]
    classes = [one for one in things if inspect.isclass(one)]
    rows = [(f"[`{one.__name__}`](#{one.__name__.lower()})", _opening(one)) for one in (*functions, *classes)]
    parts = [*map(_function, functions), *map(_class, classes)]
    return page("Python", _OPENING, table(("name", "what it is"), rows), "## Functions", *parts[: len(functions)],
                "## Classes", *parts[len(functions) :])  # fmt: skip


def _opening(thing: object) -> str:
    return prose(inspect.getdoc(thing) or "").partition("\n\n")[0].partition(": ")[0].rstrip(".") + "."


def _function(function: object) -> str:
    return f"### {function.__name__}\n\n{_block(_signature(function))}\n\n{prose(inspect.getdoc(function) or '')}"


def _class(kind: type) -> str:
    parts = [f"### {kind.__name__}", prose(inspect.getdoc(kind) or "")]
    if dataclasses.is_dataclass(kind):
        parts.append(_block("\n".join(_fields(kind))))
    parts += [_member(kind, name) for name in _members(kind)]
    return "\n\n".join(parts)


def _fields(kind: type) -> Iterator[str]:
    """Yield the fields of a dataclass as they are written, those of the classes that it is derived from first."""
    written = dict[str, str]()
    for one in reversed([base for base in kind.__mro__ if base is not object]):
        for line in _tree(one).body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                written[line.target.id] = ast.unparse(line.annotation)
    for field in dataclasses.fields(kind):
        if not field.name.startswith("_"):
            yield f"{field.name}: {written[field.name]}"


def _members(kind: type) -> list[str]:
    """Return the public methods and properties of a class of ours, in the order in which they are written."""
    found = dict[str, None]()
    for one in kind.__mro__:
        if one is not object:
            found |= {name: None for name, value in vars(one).items() if not name.startswith("_") and _is_ours(value)}
    return list(found)


def _is_ours(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | classmethod) or hasattr(value, "func")


def _member(kind: type, name: str) -> str:
    value = inspect.getattr_static(kind, name)
    is_method = inspect.isfunction(value) or isinstance(value, classmethod)
    wrapped = (getattr(value, name, None) for name in ("fget", "func", "__func__"))  # of a property, a cached one, ...
    function = next((one for one in wrapped if one is not None), value)
    shown = _signature(function, kind.__name__) if is_method else f"{kind.__name__}.{name}: {_returned(function)}"
    return f"{_block(shown)}\n\n{prose(inspect.getdoc(value) or '')}"


def _tree(thing: object) -> Definition:
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.ClassDef)
    return tree


def _returned(function: object) -> str:
    tree = _tree(function)
    assert isinstance(tree, ast.FunctionDef)
    return "object" if tree.returns is None else _annotation(tree.returns, function)


def _signature(function: object, owner: str = "ecgadvise") -> str:
    """Return a function's name, what it takes and what it returns, as written; one argument a line where it is long."""
    tree = _tree(function)
    assert isinstance(tree, ast.FunctionDef)
    given = list(_arguments(tree.args, function))[owner != "ecgadvise" :]
    name, returned = f"{owner}.{tree.name}", _returned(function)
    line = f"{name}({', '.join(given)}) -> {returned}"
    if len(line) <= _WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in given) + f") -> {returned}"


def _arguments(given: ast.arguments, function: object) -> Iterator[str]:
    """Yield the arguments of a signature one by one, with the star before those that have to be named."""
    by_place = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    yield from (_argument(*one, function) for one in zip(given.args, by_place, strict=True))
    if given.kwonlyargs:
        yield "*"
        yield from (_argument(*one, function) for one in zip(given.kwonlyargs, given.kw_defaults, strict=True))


def _argument(one: ast.arg, default: ast.expr | None, function: object) -> str:
    annotation = "" if one.annotation is None else f": {_annotation(one.annotation, function)}"
    if default is None:
        return f"{one.arg}{annotation}"
    is_named = isinstance(default, ast.Name)  # a constant of the module: its value says more
    value = repr(inspect.signature(function).parameters[one.arg].default) if is_named else ast.unparse(default)
    return f"{one.arg}{annotation} = {_double_quoted(value)}"


def _annotation(written: ast.expr, function: object) -> str:
    """Return a type as it is written, without the quotes around it, and a named choice of words as these words."""
    if isinstance(written, ast.Constant) and isinstance(written.value, str):
        return written.value
    known = getattr(function, "__globals__", {}).get(written.id) if isinstance(written, ast.Name) else None
    return _double_quoted(str(known).replace("typing.", "") if get_origin(known) is Literal else ast.unparse(written))


def _double_quoted(words: str) -> str:
    return words.replace("'", '"')


def _block(lines: str) -> str:
    return f"```python\n{lines}\n```"
