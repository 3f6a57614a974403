"""``ecgadvise study``: plan, run and collect the paired runs that the evidence is made of."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.corpus import Corpus
    from studies.design import Design, RunSpec
    from studies.runner import Progress

app = typer.Typer(help="Plan, run and collect paired runs.", no_args_is_help=True, rich_markup_mode=None)

DesignFile = Annotated[Path, typer.Argument(metavar="DESIGN.toml", help="The study's design.")]
StoreOption = Annotated[Path | None, typer.Option("--store", help="The study's store. [default: NAME.db here]")]
CorporaOption = Annotated[
    Path | None, typer.Option("--corpora", help="Folder of prepared corpora (see ecgadvise data prepare).")
]


@app.command(epilog="Example: ecgadvise study plan studies/designs/ptbxl-cpu.toml")
def plan(design: DesignFile, store: StoreOption = None, corpora: CorporaOption = None) -> None:
    """List the cells of a design and how many of their runs the store holds."""
    from collections import Counter

    from studies.store import Store

    study, specs, data_hashes, _ = _expand(design, corpora)
    path = store or Path(f"{study.name}.db")
    stored = Store(path, create=False).keys() if path.exists() else set()
    cells = Counter((s.task, s.arch, s.strategy, s.n_records) for s in specs)
    done = Counter((s.task, s.arch, s.strategy, s.n_records) for s in specs if s.key(data_hashes) in stored)
    for cell, total in cells.items():
        task, arch, strategy, n_records = cell
        typer.echo(f"{task:24} {arch:16} {strategy:10} n = {n_records:<6} {done[cell]} of {total} runs done")
    typer.echo(f"{sum(done.values())} of {len(specs)} runs done")


@app.command(epilog="Example: ecgadvise study run studies/designs/ptbxl-cpu.toml --store ptbxl-cpu.db")
def run(
    design: DesignFile,
    store: StoreOption = None,
    corpora: CorporaOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time. [default: one a processor]")] = None,
) -> None:
    """Run what the store does not hold yet; stop it at any time and run the same command to go on."""
    from advisor.failures import ExitCode, Failure, Interrupted
    from studies.executors import default_workers, local_executor, stop_workers
    from studies.runner import MissingCheckpointError, run_study
    from studies.store import Store, StoreError

    study, specs, data_hashes, folder = _expand(design, corpora)
    path = store or Path(f"{study.name}.db")
    workers = workers or default_workers()
    executor = local_executor(workers)
    try:
        results = Store(path)
        progress = run_study(specs, results, folder, data_hashes, executor, workers, _report)
        results.close()
    except MissingCheckpointError as error:
        raise Failure(str(error), ExitCode.DATA) from None
    except StoreError as error:
        raise Failure(str(error), ExitCode.FAILURE) from None
    except KeyboardInterrupt:
        stop_workers()
        raise Interrupted(f"go on with: ecgadvise study run {design} --store {path}") from None
    finally:
        executor.shutdown(cancel_futures=True)
    typer.echo(f"{progress.done} of {progress.total} runs done, {progress.failed} failed: {path}")
    if progress.failed:
        raise typer.Exit(ExitCode.FAILURE)


@app.command(epilog="Example: ecgadvise study status --store ptbxl-cpu.db")
def status(store: Annotated[Path, typer.Option("--store", help="The study's store.")]) -> None:
    """Count the runs of a store, and list what failed."""
    from collections import Counter

    from advisor.failures import ExitCode, Failure
    from studies.store import Store, StoreError

    try:
        opened = Store(store, create=False)
        runs, failures = opened.runs(), opened.failures()
    except StoreError as error:
        raise Failure(str(error), ExitCode.DATA) from None
    for (task, arch, strategy), count in sorted(
        Counter((r.row["task"], r.row["arch"], r.row["strategy"]) for r in runs).items()
    ):
        typer.echo(f"{task:24} {arch:16} {strategy:10} {count} runs")
    for key, error_text in failures:
        typer.echo(f"failed: {key}: {error_text}")
    typer.echo(f"{len(runs)} runs, {len(failures)} failed attempts without a result")


@app.command(epilog="Example: ecgadvise study collect --store ptbxl-cpu.db --out evidence/ptbxl-cpu")
def collect(
    store: Annotated[Path, typer.Option("--store", help="The study's store.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for runs.csv and curves.json.")],
    name: Annotated[str | None, typer.Option(help="The study's name. [default: the store's file name]")] = None,
) -> None:
    """Write the tidy runs table and the curves file that recommend reads."""
    from advisor.failures import ExitCode, Failure
    from studies.evidence import EvidenceError
    from studies.evidence import collect as write
    from studies.store import Store, StoreError

    try:
        for path in write(Store(store, create=False), name or store.stem, out):
            typer.echo(str(path))
    except (StoreError, EvidenceError) as error:
        raise Failure(str(error), ExitCode.DATA) from None


def _expand(path: Path, corpora: Path | None) -> "tuple[Design, list[RunSpec], dict[str, str], Path]":
    from advisor.failures import ExitCode, Failure
    from studies.design import DesignError, expand, hash_tasks, read_design

    try:
        design = read_design(path)
        folder, opened = _open_corpora(corpora)
        specs = expand(design, opened)
    except DesignError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    return design, specs, hash_tasks(specs, opened), folder


def _open_corpora(folder: Path | None) -> "tuple[Path, dict[str, Corpus]]":
    from advisor.failures import ExitCode, Failure
    from engine.corpus import Corpus, CorpusError, default_corpora

    folder = folder or default_corpora()
    try:
        opened = [Corpus(path.parent) for path in sorted(folder.glob("*/corpus.json"))]
    except CorpusError as error:
        raise Failure(str(error), ExitCode.DATA) from None
    if not opened:
        raise Failure(f"no prepared corpus in {folder}; make one with ecgadvise data prepare DIR", ExitCode.DATA)
    return folder, {corpus.name: corpus for corpus in opened}


def _report(progress: "Progress") -> None:
    typer.echo(f"{progress.done + progress.failed} of {progress.total}  {progress.last}", err=True)
