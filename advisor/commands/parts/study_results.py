"""What a study's store holds: its state, what the learning-rate tuning shows, and the evidence made from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.terminal.lines import say

if TYPE_CHECKING:
    from engine.corpora.corpus import Corpus
    from studies.runs.run import Run

STATUS_EXAMPLE = "Example: ecgadvise study status --store atlas.db"
TUNING_EXAMPLE = "Example: ecgadvise study tuning --store atlas.db"
COLLECT_EXAMPLE = "Example: ecgadvise study collect --store atlas.db --from other.db --out evidence/atlas"
TRANSFERABILITY_EXAMPLE = "Example: ecgadvise study transferability --store atlas.db --out evidence/atlas"
RESCORE_EXAMPLE = "Example: ecgadvise study rescore --store atlas.db"
FINDINGS_EXAMPLE = "Example: ecgadvise study findings --out FINDINGS.md"

StoreFile = Annotated[Path, typer.Option("--store", help="The study's store.")]


def status(store: StoreFile) -> None:
    """Count what is done, in work and failed, cell by cell, also while the study runs."""
    from advisor.terminal.progress.study import cell_line
    from studies.runs.store import Store

    opened = Store(store, create=False)
    cells, failures = opened.cells(), opened.failures()
    for cell in cells:
        counts = f"{cell.done} done, {cell.running} running, {cell.failed} failed"
        typer.echo(cell_line(cell.task, cell.arch, cell.strategy, cell.upstream, cell.n_records, cell.recipe, counts))
    for key, error_text in failures:
        typer.echo(f"failed: {key}: {error_text}")
    done, running = sum(cell.done for cell in cells), sum(cell.running for cell in cells)
    typer.echo(f"{done} runs done, {running} running, {len(failures)} failed attempts without a result")


def tuning(store: StoreFile) -> None:
    """Compare learning rates by what they score on validation records; test scores are not shown."""
    from collections import defaultdict
    from statistics import mean

    from advisor.terminal.failures import Failure
    from models.errors import ExitCode
    from studies.runs.store import Store

    runs = Store(store, create=False).runs()
    scores: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for run in runs:
        own_rate = run.spec.learning_rate
        if own_rate is not None and run.validation_auroc is not None:
            arm = run.task, run.network, run.strategy, run.upstream or ""
            scores[*arm, f"{own_rate:g}"].append(run.validation_auroc)
    if not scores:
        raise Failure(f"{store} holds no tuning: no run has a learning rate of its own", ExitCode.DATA)
    for (task, arch, strategy, upstream, rate), values in scores.items():
        start = f"from {upstream}" if upstream else ""
        words = (
            f"{task:24} {arch:16} {strategy:13} rate {rate:<6} validation AUROC {mean(values):.4f}, {len(values)} runs"
        )
        typer.echo(f"{words} {start}".rstrip())


def collect(
    store: StoreFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for runs.csv, curves.json and SUMMARY.md.")],
    others: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Another store, or a folder of one in parts: its runs are copied into the first."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The study's name. [default: the store's file name]")] = None,
) -> None:
    """Write the tidy runs table, the curves file that recommend reads, and a summary for people."""
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import at_work
    from models.errors import ExitCode
    from studies.collection.collect import collect as write
    from studies.collection.parted_store import bring_together
    from studies.collection.summary import SUMMARY
    from studies.runs.store import Store
    from studies.runs.store_files import without_packing

    try:
        apart, said = bring_together(store, others) if others else ([], [])
        for sentence in said:
            say(sentence)
        study = name or without_packing(store).stem
        with at_work("curves are fitted: minutes"):
            table, curves, not_fitted = write(Store(store, create=False), study, out, apart)
    except OSError as error:
        named = f" ({error.filename})" if error.filename not in (None, str(out)) else ""
        raise Failure(f"cannot write to {out}: {error.strerror}{named}", ExitCode.FAILURE) from None
    for reason in not_fitted:
        say(f"no curve for {reason}")
    typer.echo(f"{table}\n{curves}\n{out / SUMMARY}")


def rescore(
    store: StoreFile,
    corpora: Annotated[Path | None, typer.Option(help="Folder of prepared corpora.")] = None,
    least_positives: Annotated[
        int,
        typer.Option(min=1, help="Positive and negative test records that a class in macro averages needs."),
    ] = 10,
) -> None:
    """Score all runs of a store by one rule of which classes macro averages take; none is trained again.

    It takes the corpora that the runs were made from. A store that was begun before rare classes were left out has runs
    of two rules, which are not compared until then.
    """
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import default_corpora
    from studies.collection.rescore import rescore as score
    from studies.runs.store import Store

    Store(store, create=False).close()  # one that is not there is not made
    opened = Store(store)
    of_runs = _open_corpora(opened.runs(), corpora or default_corpora())
    with progress_bar("runs") as progress:
        found = score(opened, of_runs, least_positives, progress)
    opened.close()
    for task in dict.fromkeys(run.task for run in found.changed):
        runs = [run for run in found.changed if run.task == task]
        averaged, classes = runs[0].averaged or (), runs[0].classes
        typer.echo(f"{task}: {len(runs)} runs, {len(averaged)} of {len(classes)} classes averaged")
    typer.echo(f"{found.n_runs} runs, {len(found.changed)} with other scores than before")


def findings(
    out: Annotated[Path, typer.Option("--out", help="The file to write; its figures go into findings/ next to it.")],
    stores: Annotated[
        list[Path] | None, typer.Option("--store", help="A study's store. [default: all that ship]")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="A CSV file of published scores. [default: the one that ships]")
    ] = None,
    margin: Annotated[float, typer.Option(help="The smallest difference of the score that matters.")] = 0.01,
) -> None:
    """Write what runs say of the four claims, of the protocol and of published numbers, with figures."""
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import at_work
    from models.errors import ExitCode
    from studies.findings.findings import make_findings, shipped_stores, write_findings
    from studies.findings.published import PUBLISHED

    if not 0 < margin < 1:
        raise Failure(f"--margin is {margin:g}: give a difference of the score between 0 and 1", ExitCode.USAGE)
    with at_work("findings are made: a minute or two"):
        found = make_findings(stores or shipped_stores(), published or PUBLISHED, margin)
    try:
        written = write_findings(found, out)
    except OSError as error:
        raise Failure(f"cannot write {out}: {error.strerror}", ExitCode.FAILURE) from None
    typer.echo("\n".join(map(str, written)))


def transferability(
    store: Annotated[
        list[Path], typer.Option("--store", help="A study's store, with its networks next to it; several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the curves file that it belongs to.")],
    corpora: Annotated[Path | None, typer.Option(help="Folder of prepared corpora.")] = None,
) -> None:
    """Measure how the probe gap of pre-trained networks ranks the gains of a study's pairs, and describe its records.

    It takes the corpora that the runs were made from, and writes transferability.json, which recommend --data reads.
    """
    import json

    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import default_corpora
    from engine.files import write_files
    from models.errors import ExitCode
    from studies.collection.transferability import measure
    from studies.files.transferability import NAME
    from studies.runs.store import Store

    try:
        opened = [Store(path, create=False) for path in store]
        runs = [run for one in opened for run in one.runs() if run.role == "downstream"]
        of_runs = _open_corpora(runs, corpora or default_corpora())
        with progress_bar("pairs") as progress:
            document = measure(opened, of_runs, progress)
        write_files({out / NAME: (json.dumps(document, indent=1) + "\n").encode()})
    except OSError as error:
        raise Failure(f"cannot write to {out}: {error.strerror}", ExitCode.FAILURE) from None
    for arch, found in document["networks"].items():
        typer.echo(_in_words(arch, found))
    typer.echo(out / NAME)


def _in_words(arch: str, found: dict[str, Any]) -> str:
    from advisor.answer.words import count

    cells, tasks = len(found["cells"]), found["tasks"]
    correlations = [
        f"{name} {_correlation(found[key])}"
        for name, key in (("over all cells", "over_all_cells"), ("at equal n", "at_equal_n"))
    ]
    correlations += [f"at {int(n):,} {_correlation(numbers)}" for n, numbers in found["by_n"].items()]
    return f"{arch}: {count(cells, 'cell')} of {count(tasks, 'task')}, rank correlation {', '.join(correlations)}"


def _correlation(numbers: dict[str, float | None]) -> str:
    value, low, high = (numbers[name] for name in ("spearman", "ci_lower", "ci_upper"))
    if value is None:
        return "unknown"
    return f"{value:.2f}" + ("" if low is None or high is None else f" (90 %: {low:.2f} to {high:.2f})")


def _open_corpora(runs: "Sequence[Run]", folder: Path) -> "dict[str, Corpus]":
    """Open the corpora of the runs. Raises CorpusError where one is missing or holds other records."""
    from engine.corpora.corpus import Corpus, CorpusError
    from studies.runs.task_names import hash_task, parse_task

    hashes = {run.spec.read_task: run.data_hash for run in runs}
    opened = {name: Corpus(folder / name) for name in sorted({parse_task(task).source for task in hashes})}
    for task, known in hashes.items():
        if hash_task(opened, task) != known:
            raise CorpusError(f"{folder} holds other records of {task} than the runs were made from")
    return opened
