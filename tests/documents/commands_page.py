"""``docs/reference/commands.md``: every command with all its options, from the command line itself."""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer

from advisor.cli import build_app
from tests.documents.markdown import code, page, prose, table

_IN_HELP = re.compile(r"\s*\[default: (.*)\]\s*$")
_OPENING = (
    "Every command and all its options, as `ecgadvise COMMAND --help` has them. An error is one sentence on stderr, "
    "with an [exit code](settings.md#exit-codes)."
)


def commands_page() -> str:
    """Return the page."""
    found = list(commands())
    rows = [(f"[`ecgadvise {name}`](#ecgadvise-{name.replace(' ', '-')})", _opening(one)) for name, one in found]
    return page("Commands", _OPENING, table(("command", "what it does"), rows), *(_section(*one) for one in found))


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command of the command line with its name, in the order of the help."""
    yield from _below(typer.main.get_command(build_app()), "")


def default_of(parameter: Any) -> tuple[str, str]:
    """Return what an option is when it is not given, and its help without that."""
    words = parameter.help or ""
    if said := _IN_HELP.search(words):
        return said[1], words[: said.start()]
    if getattr(parameter, "is_flag", False) or parameter.default in (None, ""):
        return "", words
    value = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    return code(f"{value:g}" if isinstance(value, float) else value), words


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
    else:
        for word, one in command.commands.items():
            yield from _below(one, f"{name} {word}".strip())


def _opening(command: Any) -> str:
    return prose(command.help).partition("\n\n")[0]


def _section(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(["ecgadvise", name, *(one.metavar for one in arguments), "[OPTIONS]"])
    parts = [f"## ecgadvise {name}", f"    {usage}", prose(command.help)]
    if arguments:
        rows = [(code(one.metavar), one.help or "") for one in arguments]
        parts.append(table(("argument", "what it is"), rows))
    parts.append(table(("option", "value", "default", "what it is"), [_row(one) for one in options]))
    parts.append(f"Example: {code(command.epilog.removeprefix('Example: '))}")
    return "\n\n".join(parts)


def _row(option: Any) -> tuple[str, str, str, str]:
    default, words = default_of(option)
    return code(", ".join(option.opts)), _value(option), "required" if option.required else default, words


def _value(option: Any) -> str:
    """Return what is given with an option: its kind, or its choices, or from where to where it may be."""
    if option.is_flag:
        return ""
    kind = option.type
    if choices := getattr(kind, "choices", None):
        return ", ".join(code(getattr(one, "value", one)) for one in choices)
    return " ".join([code(option.metavar or kind.name.removesuffix(" range").upper()), _limits(kind)]).strip()


def _limits(kind: Any) -> str:
    low, high = (getattr(kind, end, None) for end in ("min", "max"))
    if low is None:
        return "" if high is None else f"to {high:,}"
    return f"from {low:,}" if high is None else f"{low:,} to {high:,}"
