"""``ecgadvise curves``: fit learning curves to anybody's runs, show what they expect, draw them."""

import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.terminal.lines import say

if TYPE_CHECKING:
    from typing import Any

    from studies.files.curve import Curve
    from studies.files.curves import CurvesFile

app = typer.Typer(help="Fit, show and draw learning curves.", no_args_is_help=True, rich_markup_mode=None)

_NAMED_WARNINGS = 10

CurvesOption = Annotated[
    Path | None, typer.Option("--curves", help="A curves file. [default: the evidence that ships]")
]


@app.callback()
def curves() -> None:
    """Fit, show and draw learning curves."""


@app.command(epilog="Example: ecgadvise curves fit --runs runs.csv --out curves.json")
def fit(
    runs: Annotated[
        Path,
        typer.Option(
            help="A study store, or a CSV file with the columns task, arch, strategy (scratch, fine-tune, "
            "linear-probe, random-convolutions), upstream, n_records, replicate, and scores; others are ignored."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The curves file to write.")],
    metric: Annotated[
        str, typer.Option(help="The column of scores to fit; errors and losses are refused.")
    ] = "auroc_macro",
) -> None:
    """Fit a curve for every task, network and upstream, for recommend --curves, curves show and curves plot."""
    import json

    from advisor.terminal.answer_files import write_whole
    from advisor.terminal.progress.bar import progress_bar
    from studies.collection.fit_table import fit_file

    with progress_bar("curves") as report:
        document, warnings = fit_file(runs, metric, report)
    write_whole({out: (json.dumps(document, separators=(",", ":")) + "\n").encode()})
    for warning in [*warnings, *_of_curves(document["curves"])]:
        say(f"warning: {warning}")
    n = len(document["curves"])
    typer.echo(f"{n} curve{'s' * (n != 1)}: {out}")


def _of_curves(curves: "list[dict[str, Any]]") -> list[str]:
    """Return what is odd about each curve, the first of many, and how many more there are."""
    from studies.collection.fit_table import warnings_of_curves

    said = warnings_of_curves(curves)
    more = len(said) - _NAMED_WARNINGS
    return said if more <= 1 else [*said[:_NAMED_WARNINGS], f"{more} more such warnings are in the curves file"]


@app.command(epilog="Example: ecgadvise curves show --at 500,5000 --json")
def show(
    at: Annotated[str | None, typer.Option(help="Numbers of records, with commas. [default: measured sizes]")] = None,
    curves_file: CurvesOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what every curve expects at given numbers of records, and how far that is from what was measured."""
    import json as json_

    from advisor.text.curve_rows import curve_rows
    from studies.files.curves import is_released
    from studies.files.precision import with_precision

    sizes, opened = _sizes(at), _open(curves_file)
    rows = curve_rows(opened, sizes)
    if json:
        typer.echo(json_.dumps({"schema_version": 1, "rows": rows}, indent=1, allow_nan=False))
        return
    names = Counter((curve.task, with_precision(curve.arch, curve.precision)) for curve in opened.curves)
    for of_curve, found in groupby(rows, key=lambda row: (row["task"], row["arch"], row["upstream"], row["precision"])):
        task, arch, upstream, precision = of_curve
        network = with_precision(arch, precision)
        is_told = names[task, network] > 1 or is_released(upstream or "")
        typer.echo(f"{task} {network}" + (f" from {upstream}" if is_told else ""))
        rows_of_it = list(found)
        width = max(9, *(len(row["strategy"]) for row in rows_of_it))
        for row in rows_of_it:
            band = f"{row['mean_ci_lower']:.3f} to {row['mean_ci_upper']:.3f}"
            typer.echo(
                f"  {row['strategy']:{width}} {row['n_records']:>9,}  {row['mean']:.3f}  {band}  {row['support']}"
            )


@app.command(epilog="Example: ecgadvise curves plot --out curves.svg")
def plot(
    out: Annotated[Path, typer.Option(help="The figure to write: .svg, .png or .html.")],
    curves_file: CurvesOption = None,
    task: Annotated[str | None, typer.Option(help="Only the curves of this task.")] = None,
    arch: Annotated[str | None, typer.Option(help="Only the curves of cnn, rnn or a network.")] = None,
    margin: Annotated[float, typer.Option(help="The margin of the break-even.")] = 0.01,
) -> None:
    """Draw every curve with its runs, bands and break-even, one panel for each task and network."""
    from advisor.terminal.answer_files import check_targets, write_whole
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    check_targets(None, out, option="out")
    if not 0 < margin < 1:
        raise Failure(f"--margin is {margin:g}: give a difference of the metric between 0 and 1", ExitCode.USAGE)
    opened = _open(curves_file)
    chosen = _choose(opened, task, arch)

    from advisor.text.curve_figure import MOST_PANELS, to_bytes

    if len(chosen) > MOST_PANELS:
        raise Failure(
            f"{len(chosen)} curves do not fit into the {MOST_PANELS} panels of a figure: choose with --task or --arch",
            ExitCode.USAGE,
        )
    write_whole({out: to_bytes(chosen, out.suffix, margin, f"Learning curves of {opened.study}")})
    typer.echo(str(out))


def _open(path: Path | None) -> "CurvesFile":
    from studies.files.curves import read_curves
    from studies.files.shipped import DEFAULT_CURVES

    return read_curves(path or DEFAULT_CURVES)


def _choose(opened: "CurvesFile", task: str | None, arch: str | None) -> "list[Curve]":
    from difflib import get_close_matches

    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    chosen = list(opened.curves)
    named = None if arch is None else opened.spelled(arch)
    network = None if named is None else opened.family_default.get(named, named)
    for option, wanted in (("task", task), ("arch", network)):
        names: list[str] = list(dict.fromkeys(getattr(curve, option) for curve in chosen))
        if wanted is not None and wanted not in names:
            near = get_close_matches(wanted, names, n=1, cutoff=0.0)[0]
            raise Failure(f"--{option} is {wanted}: no curve has it; the nearest is {near}", ExitCode.USAGE)
        chosen = [curve for curve in chosen if wanted in (None, getattr(curve, option))]
    return chosen


def _sizes(at: str | None) -> list[int]:
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    words = [word.strip() for word in at.split(",")] if at is not None else []
    if any(not re.fullmatch(r"0*[1-9]\d{0,11}", word, re.ASCII) for word in words):
        raise Failure(f"--at is {at!r}: give positive whole numbers with commas, as in 500,5000", ExitCode.USAGE)
    return [int(word) for word in words]
