"""``ecgadvise study``: plan, run and collect the paired runs that the evidence is made of."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    from advisor.failures import ExitCode, Failure
    from studies.store import Store, StoreError

    study, specs, data_hashes, _ = _expand(design, corpora)
    path = store or Path(f"{study.name}.db")
    try:
        stored = Store(path, create=False).keys() if path.exists() else set()
    except StoreError as error:
        raise Failure(str(error), ExitCode.DATA) from None
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
    from engine.corpus import CorpusError
    from engine.reading import WorkerLostError
    from studies.executors import default_workers, local_executor, stop_workers
    from studies.runner import MissingCheckpointError, run_study
    from studies.store import Store, StoreError

    study, specs, data_hashes, opened = _expand(design, corpora)
    path = store or Path(f"{study.name}.db")
    go_on = shlex.join(["ecgadvise", "study", "run", str(design), *_given(store, corpora, workers)])
    workers = workers or default_workers()
    executor = local_executor(workers)
    try:
        for corpus in opened:
            corpus.verify()
        results = Store(path)
        progress = run_study(specs, results, opened[0].root.parent, data_hashes, executor, workers, _report)
        results.close()
    except (MissingCheckpointError, CorpusError) as error:
        raise Failure(str(error), ExitCode.DATA) from None
    except StoreError as error:
        raise Failure(str(error), ExitCode.FAILURE) from None
    except WorkerLostError as error:
        raise Failure(f"{error}; go on with: {go_on}", ExitCode.FAILURE) from None
    except KeyboardInterrupt:
        stop_workers()
        raise Interrupted(f"go on with: {go_on}") from None
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
        table, curves, not_fitted = write(Store(store, create=False), name or store.stem, out)
    except (StoreError, EvidenceError) as error:
        raise Failure(str(error), ExitCode.DATA) from None
    except OSError as error:
        raise Failure(f"cannot write to {out}: {error.strerror}", ExitCode.FAILURE) from None
    for reason in not_fitted:
        typer.echo(f"no curve for {reason}", err=True)
    typer.echo(f"{table}\n{curves}")


def _given(store: Path | None, corpora: Path | None, workers: int | None) -> list[str]:
    """Return the options as they were given, so that the same command can be shown."""
    options = {"--store": store, "--corpora": corpora, "--workers": workers}
    return [word for name, value in options.items() if value is not None for word in (name, str(value))]


def _expand(path: Path, folder: Path | None) -> "tuple[Design, list[RunSpec], dict[str, str], list[Corpus]]":
    from advisor.failures import ExitCode, Failure
    from engine.corpus import default_corpora
    from studies.design import DesignError, expand, hash_tasks, read_design

    try:
        design = read_design(path)
        opened = _open_corpora(folder or default_corpora(), [*design.tasks, *filter(None, [design.upstream])])
        specs = expand(design, opened)
    except DesignError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    return design, specs, hash_tasks(specs, opened), list(opened.values())


def _open_corpora(folder: Path, tasks: "Iterable[str]") -> "dict[str, Corpus]":
    """Open the prepared corpora that the tasks are of; one that is not there is left to the design to name."""
    from advisor.failures import ExitCode, Failure
    from engine.corpus import Corpus, CorpusError

    names = dict.fromkeys(task.partition("/")[0] for task in tasks)
    try:
        opened = {name: Corpus(folder / name) for name in names if (folder / name).is_dir()}
    except CorpusError as error:
        raise Failure(str(error), ExitCode.DATA) from None
    renamed = [name for name, corpus in opened.items() if corpus.name != name]
    if renamed:
        raise Failure(f"{folder / renamed[0]} was renamed after it was prepared; prepare it again", ExitCode.DATA)
    if not opened:
        raise Failure(f"no prepared corpus in {folder}; make one with ecgadvise data prepare DIR", ExitCode.DATA)
    return opened


def _report(progress: "Progress") -> None:
    typer.echo(f"{progress.done + progress.failed} of {progress.total}  {progress.last}", err=True)
