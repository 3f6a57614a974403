"""From a design to its runs: what the data can give, what they cannot, and in which order."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from types import MappingProxyType

import numpy as np

from engine.checkpoints.checkpoint import CheckpointError
from engine.checkpoints.zoo import UnknownCheckpointError
from engine.corpora.corpus import Corpus, CorpusError, TaskData
from engine.recipes import PROBES, UnknownRecipeError, find_recipe
from engine.records.contract import Reading, SignalContract
from engine.training.fit import has_seen
from engine.training.probe_arms import KERNELS
from models.registry import UnknownNetworkError, find_network
from studies.files.curves import is_released
from studies.running.design import Design, DesignError, Grid, MissingDataError
from studies.running.study_networks import hash_released, released_network
from studies.runs.run_spec import STARTING_FROM_UPSTREAM, RunSpec
from studies.runs.task_names import hash_task, open_task, parse_task, pick_leads, read_as

_NONE_MISSING: Mapping[str, str] = MappingProxyType({})


def expand(design: Design, corpora: Mapping[str, Corpus], missing: Mapping[str, str] = _NONE_MISSING) -> list[RunSpec]:
    """Return the design's runs: tuning, then stage by stage, each replicate by replicate: a stop leaves whole pairs.

    The pre-trainings that a stage needs, and none before it had, come first in it.

    ``missing`` says for a corpus that is not there why. Raises DesignError with everything that the data cannot give:
    an unknown task, a size beyond the pool, an unknown network or recipe, a patient on two sides; MissingDataError
    where missing corpora are all that is wrong.
    """
    view = _View(corpora, missing)
    problems = [problem for grid in design.all_grids for problem in _grid_problems(grid, view)]
    problems = list(dict.fromkeys(problems))
    if problems and set(problems) <= set(missing.values()):
        raise MissingDataError(f"design {design.name}: " + "; ".join(problems))
    if not problems:
        problems = list(dict.fromkeys(p for grid in design.all_grids for p in _shared_patients(grid, view)))
    if problems:
        raise DesignError(f"design {design.name}: " + "; ".join(problems))
    stages = [list(_runs(design.tuning, view))] if design.tuning else []
    for stage in sorted({grid.stage for grid in design.grids}):
        runs = [run for grid in design.grids if grid.stage == stage for run in _runs(grid, view)]
        stages.append(sorted(runs, key=lambda run: run.replicate))
    return list(dict.fromkeys(spec for runs in stages for spec in (*_pretrainings(runs), *runs)))


def _pretrainings(runs: Sequence[RunSpec]) -> Iterator[RunSpec]:
    return (spec for run in runs if (spec := run.pretraining()) and not is_released(spec.task))


def hash_tasks(specs: Iterable[RunSpec], corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Return the data hash of every task that the runs use, as ``RunSpec.key`` takes them.

    That of a released network stands for the data that it was pre-trained on.
    """
    specs = list(specs)
    return {task: hash_task(corpora, task) for task in {spec.read_task for spec in specs}} | hash_released(specs)


def grid_reading(grid: Grid, records: SignalContract) -> Reading | None:
    """Return how the networks of a grid read records: as its released network does, None where that is as they are."""
    for name in grid.released:
        if (found := Reading.of(released_network(name).facts.contract, records)) is not None:
            return found
    return None


class _View:
    """The prepared corpora, each task opened once."""

    def __init__(self, corpora: Mapping[str, Corpus], missing: Mapping[str, str]) -> None:
        self.corpora, self.missing = corpora, missing
        self.task: Callable[[str], TaskData] = cache(self._task)
        self.n_records: Callable[[str, tuple[int, ...]], int] = cache(self._n_records)

    def corpus(self, task: str) -> Corpus:
        """Return the corpus of a task. Raises CorpusError when it is not prepared."""
        source = parse_task(task).source
        if source not in self.corpora:
            raise CorpusError(self.missing.get(source, f"task {task} needs the corpus {source}, which is not prepared"))
        return self.corpora[source]

    def contract(self, task: str) -> SignalContract:
        """Return what a task's signals are, its leads alone. Raises CorpusError for a lead that its corpus lacks."""
        corpus = self.corpus(task)
        return replace(corpus.contract, leads=tuple(corpus.leads[k] for k in pick_leads(corpus, task)))

    def reading(self, task: str, grid: Grid) -> str:
        """Return how the networks of a grid read a task's records: as the released one does that they start from."""
        found = grid_reading(grid, self.contract(task))
        return "" if found is None else str(found)

    def patients(self, task: str, folds: Sequence[int]) -> set[int]:
        """Return the patients of a task in the folds."""
        data = self.task(task)
        return set(data.patients[data.in_folds(folds)].tolist())

    def _task(self, task: str) -> TaskData:
        return open_task(self.corpus(task), task)

    def _n_records(self, task: str, folds: tuple[int, ...]) -> int:
        """Return the number of records of a task in the folds. Raises CorpusError where there are none."""
        if not (n_records := len(self.task(task).in_folds(folds))):
            raise CorpusError(f"{task} has no records in folds {list(folds)}")
        return n_records


def _runs(grid: Grid, view: _View) -> Iterator[RunSpec]:
    replicates = range(grid.first_replicate, grid.first_replicate + grid.replicates)
    archs = [find_network(name).name for name in grid.archs]  # as they are registered: names go into keys
    for replicate, task, arch, size, strategy in product(replicates, grid.tasks, archs, grid.sizes, grid.strategies):
        n_records = view.n_records(task, grid.pool_folds) if size == "all" else int(size)
        for upstream in grid.upstreams if strategy in STARTING_FROM_UPSTREAM else (None,):
            spec = RunSpec(
                task, arch, strategy, upstream, n_records, replicate, grid.recipe, grid.pool_folds, grid.test_folds,
                validation_folds=grid.validation_folds,
            )  # fmt: skip
            if upstream is not None and is_released(upstream):
                records = released_network(upstream).facts.n_records or 0
                spec = replace(spec, upstream_records=records, reading=view.reading(task, grid))
            elif upstream is not None:
                spec = replace(
                    spec,
                    upstream_folds=grid.upstream_folds,
                    upstream_records=view.n_records(upstream, grid.upstream_folds),
                    upstream_test_folds=grid.upstream_test_folds,
                    upstream_replicate=grid.upstream_replicate,
                    upstream_recipe="" if grid.upstream_recipe == grid.recipe else grid.upstream_recipe,
                )
            if strategy in ("scratch", "random-frozen"):  # as what they are compared with reads them
                spec = replace(spec, reading=view.reading(task, grid))
            if strategy == "random-convolutions":
                spec = replace(spec, arch=KERNELS)  # whatever the networks: ``expand`` leaves one of equal runs
            for rate in grid.learning_rates:
                yield spec if rate is None or strategy in PROBES else replace(spec, learning_rate=rate)


def _grid_problems(grid: Grid, view: _View) -> Iterator[str]:
    for name in grid.archs:
        try:
            family = find_network(name).family
        except UnknownNetworkError as error:
            yield str(error)
            continue
        if family == "kernel":
            yield f"{name} is not trained: the strategy random-convolutions takes it, whatever the networks"
    for recipe in filter(None, (grid.recipe, grid.upstream_recipe)):
        try:
            find_recipe(recipe, "cnn", "scratch")
        except UnknownRecipeError as error:
            yield str(error)
    used = [(task, folds) for task in grid.tasks for folds in (grid.pool_folds, grid.test_folds)]
    used += [
        (task, folds)
        for task in grid.pretrained_on
        for folds in (grid.upstream_folds, grid.upstream_test_folds or grid.test_folds)
    ]
    for task, folds in used:
        try:
            view.n_records(task, folds)
            view.contract(task)
        except CorpusError as error:
            yield str(error)
    yield from _size_problems(grid, view)
    yield from _signal_problems(grid, view)
    yield from _reading_problems(grid, view)
    for name in grid.released:
        yield from _released_problems(name, grid, view)


def _reading_problems(grid: Grid, view: _View) -> Iterator[str]:
    """Say where the upstreams of a grid read records in several ways: what they are compared with can read in one."""
    for task in grid.tasks:
        try:
            records = view.contract(task)
            ways = {Reading.of(released_network(name).facts.contract, records) for name in grid.released}
        except (CorpusError, UnknownCheckpointError, CheckpointError):
            continue  # named already, or below
        if len(ways | ({None} if grid.pretrained_on else set())) > 1:
            yield f"{' and '.join(grid.upstreams)} read {task} in several ways: give each a [[grid]] of its own"


def _released_problems(name: str, grid: Grid, view: _View) -> Iterator[str]:
    """Say why the runs of a grid cannot start from a released network, or be tested where they do."""
    try:
        facts = released_network(name).facts
    except (UnknownCheckpointError, CheckpointError) as error:
        yield str(error)
        return
    for arch in grid.archs:
        if arch.lower() != facts.arch:
            yield f"{name} holds {facts.arch}, not {arch}: give it a [[grid]] of that network"
    for task in grid.tasks:
        try:
            reading = Reading.of(facts.contract, view.contract(task))
        except CorpusError:
            continue  # named already
        read = task if reading is None else read_as(task, reading)
        try:
            corpus, contract = view.corpus(read), view.contract(read)
        except CorpusError as error:
            yield f"{name} takes {facts.contract.in_words()}: {error}"
            continue
        if unlike := facts.contract.unlike(contract):
            yield f"{name} takes {unlike} as {read} has"
        if reading is not None and (other := _other_records(view.corpus(task), corpus)):
            yield f"{name} reads {corpus.name}, which does not hold the records of {view.corpus(task).name}: {other}"
        if corpus.content_hash == facts.data_hash:
            seen = {int(fold) for fold in re.findall(r"\d+", str(facts.record.get("folds", "")))}
            if not seen or (shared := seen & set(grid.test_folds)):
                which = f"fold {', '.join(map(str, sorted(shared)))}" if seen else "which folds, nobody knows"
                yield f"{name} was pre-trained on records of {task} ({which}): test_folds must be others"
        elif has_seen(facts, corpus.manifest["source"]):
            yield (
                f"{name} was pre-trained on records of {corpus.manifest['source']['name']}, and {task} is of the same "
                "publisher, prepared otherwise: a patient of its pre-training may be in the test"
            )


def _other_records(one: Corpus, other: Corpus) -> str | None:
    """Say in what two corpora of one source differ, at whatever rate: folds and subsets go by records and patients."""
    if len(one) != len(other):
        return f"{len(other):,} records, not {len(one):,}"
    told_apart = ("record_ids", "patients", "labels", "folds")
    differ = [of for of in told_apart if not np.array_equal(getattr(one, of), getattr(other, of))]
    return f"other {', '.join(differ)}" if differ else None


def _size_problems(grid: Grid, view: _View) -> Iterator[str]:
    for task, size in product(grid.tasks, grid.sizes):
        try:
            n_records = view.n_records(task, grid.pool_folds)
        except CorpusError:
            continue  # named already
        if isinstance(size, int) and n_records < size:
            yield f"{task} has {n_records} records in folds {list(grid.pool_folds)}, fewer than the size {size}"


def _signal_problems(grid: Grid, view: _View) -> Iterator[str]:
    """Name the tasks whose signals the networks of an upstream cannot take."""
    for task, upstream in product(grid.tasks, grid.pretrained_on):
        try:
            one, other = view.contract(task), view.contract(upstream)
        except CorpusError:
            continue  # named already
        if one.leads != other.leads:
            leads, others = " ".join(one.leads), " ".join(other.leads)
            yield f"{task} has leads {leads}, its upstream {upstream} has {others}: choose some with @"
        elif mismatch := one.mismatch(other):
            yield f"{task} has {mismatch} as its upstream {upstream} has"


def _shared_patients(grid: Grid, view: _View) -> Iterator[str]:
    """Name the sides of a split that share a patient, which no fold number shows."""
    for task in grid.tasks:
        own = {"pool_folds": (task, grid.pool_folds), "test_folds": (task, grid.test_folds)}
        if grid.validation_folds:
            own["pool_folds"] = (task, tuple(fold for fold in grid.pool_folds if fold not in grid.validation_folds))
            own["validation_folds"] = (task, grid.validation_folds)
        yield from _overlaps(task, own, view)
        for upstream in grid.pretrained_on:
            if parse_task(upstream).source == parse_task(task).source:
                sides = {"upstream_folds": (upstream, grid.upstream_folds)}
                yield from _overlaps(task, own | sides, view)
    for upstream in grid.pretrained_on:
        test_side = "upstream_test_folds" if grid.upstream_test_folds else "test_folds"
        sides = {
            "upstream_folds": (upstream, grid.upstream_folds),
            test_side: (upstream, grid.upstream_test_folds or grid.test_folds),
        }
        yield from _overlaps(upstream, sides, view)


def _overlaps(task: str, sides: Mapping[str, tuple[str, tuple[int, ...]]], view: _View) -> Iterator[str]:
    patients = {side: view.patients(*where) for side, where in sides.items()}
    for one, other in combinations(patients, 2):
        if shared := patients[one] & patients[other]:
            yield f"{len(shared)} patients of {task} are in both {one} and {other}"
