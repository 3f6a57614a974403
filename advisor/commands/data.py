"""``ecgadvise data``: from a publisher's tree to a prepared corpus."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from advisor.commands import data_fetch

app = typer.Typer(help="Read and prepare ECG records.", no_args_is_help=True, rich_markup_mode=None)
_LISTED = 20


app.command("list", epilog=data_fetch.LIST_EXAMPLE)(data_fetch.list_sets)
app.command("fetch", epilog=data_fetch.FETCH_EXAMPLE)(data_fetch.fetch)


@app.callback()
def data() -> None:
    """Read and prepare ECG records."""


@app.command(epilog="Example: ecgadvise data prepare ptb-xl --corpora corpora")
def prepare(
    tree: Annotated[Path, typer.Argument(metavar="DIR", help="A PTB-XL tree as PhysioNet distributes it.")],
    corpora: Annotated[Path | None, typer.Option("--corpora", help="Folder for prepared corpora.")] = None,
) -> None:
    """Check and read every record once, into a corpus that opens in milliseconds."""
    from advisor.failures import ExitCode, Failure
    from engine.corpus import CorpusError, default_corpora
    from engine.corpus import prepare as write
    from engine.sources import SourceError
    from engine.sources.ptbxl import PtbXl

    try:
        source = PtbXl(tree)
        corpus, problems = write(source, (corpora or default_corpora()) / source.name, _report)
    except (SourceError, CorpusError) as error:
        raise Failure(str(error), ExitCode.DATA) from None
    for problem in problems[:_LISTED]:
        kept = "kept" if problem.usable else "left out"
        typer.echo(f"record {problem.record}: {problem.problem} ({kept})", err=True)
    if len(problems) > _LISTED:
        typer.echo(f"... and {len(problems) - _LISTED} more", err=True)
    typer.echo(f"{len(corpus):,} records, {len(problems)} with a problem: {corpus.root}")


def _report(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 100 == 0 or done == total):
        typer.echo(f"\r{done:,} of {total:,} records", err=True, nl=done == total)
