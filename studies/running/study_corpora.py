"""The corpora of a design: opened, and prepared first from the design's directories where they are not yet."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from engine.checkpoints.checkpoint import CheckpointError
from engine.checkpoints.zoo import UnknownCheckpointError
from engine.corpora.corpus import Corpus, CorpusError, prepare
from engine.corpora.synthetic import NAME as SYNTHETIC
from engine.corpora.synthetic import prepared_synthetic
from engine.records.contract import DEFAULT_SAMPLING, Sampling
from engine.records.signal import CONTRACT, paper_preparation
from engine.sources import SourceError
from engine.sources.detect import open_source, source_names
from studies.running.design import Design
from studies.running.expansion import grid_reading
from studies.runs.task_names import parse_task, read_as

PAPER_SUFFIX = "-paper"
_OF_ANOTHER_SAMPLING = re.compile(r"-(\d+(\.\d+)?s|at-\d+hz)$")  # as Sampling.suffix names it


def open_corpora(
    design: Design,
    folder: Path,
    say: Callable[[str], None] = lambda _sentence: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    workers: int = 1,
) -> tuple[dict[str, Corpus], dict[str, str]]:
    """Return the corpora of a design's tasks by name, and for those that are not there a sentence that says so.

    What is not prepared yet is prepared into ``folder`` first, unless another corpus is missing: then nothing can run.
    The synthetic corpus ``synthetic`` is made. A corpus whose name ends in ``-paper`` is prepared as Nguyen and Do
    (2025) published it. Raises CorpusError for one that is damaged or cannot be prepared.
    """
    names = dict.fromkeys(parse_task(task).source for task in design.tasks)
    absent = {name: None for name in names if name != SYNTHETIC and not (folder / name).is_dir()}
    missing = {name: _missing(name, design, folder) for name in absent}
    if not any(name not in design.data or not design.data[name].is_dir() for name in absent):
        for name in absent:
            say(f"preparing {design.data[name]} into {folder / name}, once")
            _prepare(name, design.data[name], folder / name, progress, workers)
        missing = {}
    opened = {name: _open(name, folder) for name in names if name not in missing}
    for name, (base, sampling) in {} if missing else _read_otherwise(design, opened).items():
        if not (folder / name).is_dir():
            tree = design.data.get(base)
            if tree is None or not tree.is_dir():
                missing[name] = (
                    f"no prepared corpus {name} in {folder}, which a released network reads: give --data {base}=DIR, "
                    f"or make it with ecgadvise data prepare --fs {sampling.fs:g}{_length(sampling)}"
                )
                continue
            say(f"preparing {tree} into {folder / name}, once")
            _prepare(base, tree, folder / name, progress, workers, sampling)
        opened[name] = _open(name, folder)
    return opened, missing


def _length(sampling: Sampling) -> str:
    return "" if sampling.seconds == DEFAULT_SAMPLING.seconds else f" --seconds {sampling.seconds:g}"


def _read_otherwise(design: Design, opened: Mapping[str, Corpus]) -> dict[str, tuple[str, Sampling]]:
    """Return the corpora that released networks read in place of a task's own, each with that one and its sampling."""
    found = {}
    for grid, task in ((each, task) for each in design.all_grids for task in each.tasks):
        base = parse_task(task).source
        with suppress(UnknownCheckpointError, CheckpointError):  # which the expansion names
            reading = grid_reading(grid, opened[base].contract)
            if reading is not None and reading.fs is not None:
                name = parse_task(read_as(task, reading)).source
                found[name] = base, Sampling(opened[base].contract.seconds, reading.fs)
    return found


def _open(name: str, folder: Path) -> Corpus:
    if name == SYNTHETIC:
        return prepared_synthetic(folder)
    corpus = Corpus(folder / name)
    if corpus.name != name:
        raise CorpusError(f"{folder / name} was renamed after it was prepared; prepare it again")
    return corpus


def _missing(name: str, design: Design, folder: Path) -> str:
    tree = design.data.get(name)
    if tree is None:
        return f"no prepared corpus {name} in {folder}: make it with ecgadvise data prepare, or give --data {name}=DIR"
    if tree.is_dir():
        return f"no prepared corpus {name} in {folder} yet: {tree} will be prepared when the others are there"
    return f"no prepared corpus {name} in {folder}, and no directory {tree} to prepare it from: give --data {name}=DIR"


def _prepare(
    name: str, tree: Path, target: Path, progress: Callable[[int, int], None], workers: int,
    sampling: Sampling = DEFAULT_SAMPLING,
) -> None:  # fmt: skip
    published = name.removesuffix(PAPER_SUFFIX)
    if published not in source_names() and _OF_ANOTHER_SAMPLING.search(published):
        raise CorpusError(
            f"corpus {name} is named as one of another length or rate, and a study prepares "
            f"{DEFAULT_SAMPLING.in_words()}: prepare it first, with ecgadvise data prepare --seconds or --fs"
        )
    try:
        source = open_source(tree, published if published in source_names() else None)
        preparation = paper_preparation(source.name) if name.endswith(PAPER_SUFFIX) else CONTRACT
        prepare(source, target, progress, workers, preparation, sampling=sampling)
    except SourceError as error:
        raise CorpusError(f"corpus {name} cannot be prepared: {error}") from None
