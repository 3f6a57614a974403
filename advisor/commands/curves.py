"""``ecgadvise curves``: the fitted curves themselves."""

import re
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at the fitted learning curves.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def curves() -> None:
    """Look at the fitted learning curves."""


@app.command(epilog="Example: ecgadvise curves show --at 500,5000 --json")
def show(
    at: Annotated[str | None, typer.Option(help="Numbers of records, with commas. [default: measured sizes]")] = None,
    curves_file: Annotated[Path | None, typer.Option("--curves", help="A curves file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what every curve expects at given numbers of records, and how far that is from what was measured."""
    import json as json_
    from dataclasses import asdict

    from advisor.advice import summarise_score
    from advisor.failures import ExitCode, Failure
    from advisor.render import rounded
    from studies.curves_file import FINE_TUNE, SCRATCH, CurvesFileError, read_curves
    from studies.evidence_files import DEFAULT_CURVES

    try:
        opened = read_curves(curves_file or DEFAULT_CURVES)
    except CurvesFileError as error:
        raise Failure(str(error), ExitCode.DATA) from None
    sizes = _sizes(at)
    rows = [
        {
            **{"task": curve.task, "arch": curve.arch, "strategy": strategy, "n_records": n},
            **rounded(asdict(summarise_score(curve, strategy, n))),
            "support": curve.support(n),
        }
        for curve in opened.curves
        for strategy in (SCRATCH, FINE_TUNE)
        for n in sizes or curve.sizes
    ]
    if json:
        typer.echo(json_.dumps({"schema_version": 1, "rows": rows}, indent=1, allow_nan=False))
        return
    for row in rows:
        band = f"{row['mean_ci_lower']:.3f} to {row['mean_ci_upper']:.3f}"
        cell = f"{row['arch']:15} {row['strategy']:9} {row['n_records']:>7,}"
        typer.echo(f"{cell}  {row['mean']:.3f}  {band}  {row['support']}")


def _sizes(at: str | None) -> list[int]:
    from advisor.failures import ExitCode, Failure

    words = [word.strip() for word in at.split(",")] if at is not None else []
    if any(not re.fullmatch(r"0*[1-9]\d{0,11}", word, re.ASCII) for word in words):
        raise Failure(f"--at is {at!r}: give positive whole numbers with commas, as in 500,5000", ExitCode.USAGE)
    return [int(word) for word in words]
