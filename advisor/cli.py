"""The ``ecgadvise`` command: one file a verb in ``advisor/commands``, errors in one sentence with their exit code.

Commands import what they need when they run, so that ``recommend`` answers without loading the training stack.
"""

import os
import sys
from errno import EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOSPC, ENOTDIR, EPERM, EPIPE, EROFS
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from advisor.terminal.failures import Interrupted
from advisor.terminal.lines import be_quiet, in_one_line
from models.errors import ExitCode, UserError

# In the order of ``ecgadvise --help``. Each is a module of advisor.commands with an ``app`` of its own commands or with
# a function of its name and an EXAMPLE.
COMMANDS = ("recommend", "train", "export", "predict", "backtest", "study", "curves", "data", "zoo", "serve", "doctor")

# What a path may be that the user named; commands say it better where they can.
_UNUSABLE = (EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOTDIR, EPERM, EROFS)


def build_app(only: str | None = None) -> typer.Typer:
    """Return the command line, with all commands or with one: an answer does not wait for the others to load."""
    app = typer.Typer(
        name="ecgadvise",
        help="Fine-tune a pre-trained ECG network or train from scratch? An answer from measured evidence.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(ecgadvise)
    for name in COMMANDS if only is None else (only,):
        module = import_module(f"advisor.commands.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=module.EXAMPLE)(getattr(module, name))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from engine.versions import version_of

        typer.echo(f"ecgadvise {version_of('ecgadvise')}")
        raise typer.Exit


def ecgadvise(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print answers and errors alone: no remarks, no progress.")
    ] = False,
) -> None:
    """Fine-tune a pre-trained ECG network or train from scratch? An answer from measured evidence."""
    be_quiet(quiet)


def _open_streams() -> None:
    """Let a command run whose streams were closed (``>&-``): it cannot answer without stdout, and says nothing then."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 as long as the process
    if sys.stdout is None:
        typer.echo("error: there is nowhere to answer: stdout is closed", err=True)
        sys.exit(ExitCode.FAILURE)
    if isinstance(sys.stdout, TextIOWrapper):  # a name in a script that this terminal does not write ends no command
        sys.stdout.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line and exit with an ExitCode, that of a UserError for one; a defect ends in a traceback."""
    _open_streams()
    if any("\0" in word for word in sys.argv[1:]):  # no shell passes one; a program that calls this can
        typer.echo("error: an argument holds a null character", err=True)
        sys.exit(ExitCode.USAGE)
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    named = first if first in COMMANDS else None
    try:
        code = build_app(named)(prog_name="ecgadvise", standalone_mode=False)
    except Interrupted as stop:
        typer.echo(f"interrupted; {stop}", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except UserError as error:
        typer.echo(f"error: {in_one_line(str(error))}", err=True)
        sys.exit(error.exit_code)
    except TyperException as error:
        if message := error.format_message():
            typer.echo(message if message.startswith("Usage:") else f"error: {in_one_line(message)}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno in _UNUSABLE and error.filename is not None:
            typer.echo(f"error: {in_one_line(str(error.filename))}: {error.strerror}", err=True)
            sys.exit(ExitCode.FAILURE)
        if error.errno not in (EPIPE, ENOSPC):
            raise
        # The reader went away (`ecgadvise ... | head`), or the disk that stdout goes to is full.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == ENOSPC:
            typer.echo("error: the output could not be written: no space is left", err=True)
        sys.exit(ExitCode.FAILURE)
    except typer.Abort:  # Ctrl-C or the end of input at a question
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:  # typer turns a KeyboardInterrupt that no command caught into this code
        typer.echo("interrupted", err=True)
    sys.exit(code or ExitCode.OK)
