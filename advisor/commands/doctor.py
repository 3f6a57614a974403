"""``ecgadvise doctor``: what works on this machine, what does not and why, and how fast it trains."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from advisor.terminal.checkup import Checkup, Finding

EXAMPLE = "Example: ecgadvise doctor --quick"
_WIDTH = 80
_INDENT = 12
_NOT = {"absent": "not yet", "broken": "BROKEN"}


def doctor(
    device: Annotated[
        str, typer.Option(help="What to measure the training speed on: auto, cpu, cuda, cuda:N.")
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Do not measure the training speed.")] = False,
    corpora: Annotated[Path | None, typer.Option(help="Folder of prepared corpora.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what works here: versions, devices, prepared corpora, evidence, released networks, training speed.

    Ends with exit code 1 when something that should work does not.
    """
    from advisor.terminal.checkup import examine
    from advisor.terminal.progress.bar import at_work
    from engine.corpora.corpus import default_corpora
    from models.errors import ExitCode
    from studies.files.shipped import DEFAULT_CURVES

    with at_work("looking at everything" if quick else "looking at everything, and training some steps"):
        checkup = examine(corpora or default_corpora(), device, DEFAULT_CURVES, probe=not quick)
    if json:
        from json import dumps

        typer.echo(dumps(checkup.as_dict(), indent=1, allow_nan=False))
    else:
        typer.echo("\n".join(_lines(checkup)))
    if not checkup.is_healthy:
        raise typer.Exit(ExitCode.FAILURE)


def _lines(checkup: "Checkup") -> Iterator[str]:
    from engine.versions import version_of

    yield from _item("ecgadvise", f"{version_of('ecgadvise')}, Python {checkup.python}, {checkup.machine}")
    working = [f"{found.what} {found.detail}" for found in checkup.libraries if found.state == "ok"]
    yield from _item("libraries", ", ".join(working))
    yield from _findings("", [found for found in checkup.libraries if found.state != "ok"])
    yield from _findings("devices", checkup.devices)
    yield from _item("corpora", checkup.corpora_folder if checkup.corpora else f"none in {checkup.corpora_folder}")
    yield from _findings("", checkup.corpora)
    yield from _item("evidence", _said(checkup.evidence))
    yield from (
        _findings("zoo", checkup.zoo) if checkup.zoo else _item("zoo", "no network is released with this version")
    )
    for position, speed in enumerate(checkup.speeds):
        measured = (
            f"could not be measured on {speed.device}: {speed.reason}"
            if speed.records_per_second is None
            else f"{speed.records_per_second:,.0f} records/s on {speed.device}: "
            f"--arch {speed.family} --device-speed {speed.records_per_second:g}"
        )
        yield from _item("" if position else "training", f"{speed.arch} {measured}")
    for position, found in enumerate(checkup.commands):
        words = "works" if found.state == "ok" else f"{_NOT[found.state]}: {found.detail}"
        yield from _item("" if position else "commands", f"{found.what}: {words}")


def _findings(title: str, found: "list[Finding] | tuple[Finding, ...]") -> Iterator[str]:
    for position, one in enumerate(found):
        yield from _item("" if position else title, f"{one.what}: {_said(one)}")


def _said(found: "Finding") -> str:
    return f"BROKEN: {found.detail}" if found.state == "broken" else found.detail


def _item(title: str, text: str) -> Iterator[str]:
    from textwrap import wrap

    lines = wrap(text, _WIDTH - _INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    yield f"{title:{_INDENT}}{lines[0]}"
    for line in lines[1:]:
        yield f"{'':{_INDENT}}{line}"
