"""``docs/reference/settings.md``: variables of the environment, exit codes, and the service's settings."""

from typing import Any

import typer

from advisor.cli import build_app
from models.errors import ExitCode
from tests.documents.commands_page import default_of
from tests.documents.markdown import code, page, table

VARIABLES = {
    "ECGADVISE_CORPORA": "Folder of prepared corpora and pilots. Default: in the user's data folder.",
    "ECGADVISE_ZOO": "Folder of networks that `zoo add` brought in. Default: in the user's data folder.",
    "ECGADVISE_PRECISION": "`float32`: train in it on a GPU too, for runs that go with those of a processor.",
    "ECGADVISE_PROGRESS": "File in which a command keeps how far it is, as JSON, for the program that started it.",
    "ECGADVISE_TOKEN": "A token that may do everything in the service; it is no option, because others see those.",
}
_CODES = {
    ExitCode.OK: "answered",
    ExitCode.FAILURE: "failure",
    ExitCode.USAGE: "usage: a command, an option or a value that cannot be",
    ExitCode.DATA: "data missing or invalid",
    ExitCode.NO_EVIDENCE: "no applicable evidence",
    ExitCode.INTERRUPTED: "interrupted, by Ctrl-C",
}


def settings_page() -> str:
    """Return the page."""
    return page(
        "Settings",
        "## Exit codes",
        table(("code", "meaning"), [(str(int(one)), words) for one, words in _CODES.items()]),
        "## Variables of the environment",
        table(("variable", "what it is"), [(code(name), words) for name, words in VARIABLES.items()]),
        "## Settings of the service",
        "Each is an option of `ecgadvise serve`, or a variable of the environment; the option goes first.",
        settings_table(),
    )


def settings_table() -> str:
    """Return the options of ``ecgadvise serve`` that have a variable in the environment, as a table."""
    command = typer.main.get_command(build_app("serve")).commands["serve"]
    return table(
        ("option", "variable", "default", "what it is"),
        [_row(one) for one in command.params if getattr(one, "envvar", None) is not None],
    )


def _row(option: Any) -> tuple[str, str, str, str]:
    default, words = default_of(option)
    return code(option.opts[0]), code(option.envvar), default, words
