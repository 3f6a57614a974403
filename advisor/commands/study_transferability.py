"""``ecgadvise study transferability``: does a score of a pre-trained network foretell what fine-tuning it gains?"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.corpus import Corpus
    from studies.store import Store

EXAMPLE = "Example: ecgadvise study transferability --store ptbxl-cpu.db --out evidence/ptbxl-cpu"


def transferability(
    store: Annotated[
        list[Path], typer.Option("--store", help="A study's store, with its networks beside it; several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the curves file that it belongs to.")],
    corpora: Annotated[Path | None, typer.Option(help="Folder of prepared corpora.")] = None,
) -> None:
    """Measure how LogME of the pre-trained networks ranks the gains of a study's pairs, and describe its records.

    It takes the corpora that the runs were made from, and writes transferability.json, which recommend --data reads.
    """
    import json

    from advisor.progress import drawn
    from engine.corpus import default_corpora
    from engine.directories import write_files
    from studies.store import Store
    from studies.transferability import measure
    from studies.transferability_file import NAME

    with _said_in_one_sentence(out):
        opened = [Store(path, create=False) for path in store]
        of_runs = _open_corpora(opened, corpora or default_corpora())
        with drawn("pairs") as progress:
            document = measure(opened, of_runs, progress)
        write_files({out / NAME: (json.dumps(document, indent=1) + "\n").encode()})
    for arch, found in document["networks"].items():
        typer.echo(_in_words(arch, found))
    typer.echo(out / NAME)


def _in_words(arch: str, found: dict[str, Any]) -> str:
    from advisor.words import count

    cells, tasks = len(found["cells"]), found["tasks"]
    correlations = [
        f"{name} {_correlation(found[key])}"
        for name, key in (("over all cells", "over_all_cells"), ("at equal n", "at_equal_n"))
    ]
    return f"{arch}: {count(cells, 'cell')} of {count(tasks, 'task')}, rank correlation {', '.join(correlations)}"


def _correlation(numbers: dict[str, float | None]) -> str:
    value, low, high = (numbers[name] for name in ("spearman", "ci_lower", "ci_upper"))
    if value is None:
        return "unknown"
    return f"{value:.2f}" + ("" if low is None or high is None else f" (90 %: {low:.2f} to {high:.2f})")


def _open_corpora(stores: "Sequence[Store]", folder: Path) -> "dict[str, Corpus]":
    """Open the corpora of the runs. Raises CorpusError where one is missing or holds other records."""
    from engine.corpus import Corpus, CorpusError
    from studies.tasks import hash_task, parse_task

    runs = [run.row for store in stores for run in store.runs()]
    hashes = {run["task"]: run["data_hash"] for run in runs if run["role"] == "downstream"}
    opened = {name: Corpus(folder / name) for name in sorted({parse_task(task).source for task in hashes})}
    for task, known in hashes.items():
        if hash_task(opened, task) != known:
            raise CorpusError(f"{folder} holds other records of {task} than the runs were made from")
    return opened


@contextmanager
def _said_in_one_sentence(out: Path) -> Iterator[None]:
    from advisor.failures import ExitCode, Failure
    from engine.checkpoint import CheckpointError
    from engine.corpus import CorpusError
    from studies.checkpoints import MissingCheckpointError
    from studies.store import StoreError
    from studies.transferability import NoPairsError

    try:
        yield
    except (StoreError, CorpusError, CheckpointError, MissingCheckpointError, NoPairsError) as error:
        raise Failure(str(error), ExitCode.DATA) from None
    except OSError as error:
        raise Failure(f"cannot write to {out}: {error.strerror}", ExitCode.FAILURE) from None
