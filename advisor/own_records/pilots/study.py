"""A pilot: a few small paired runs on one directory's own records, within a budget of time.

It is a study like any other (``studies.running.runner``), with its store in a folder of its own. Of the records that
may be learnt from, three quarters are fold 1 of a corpus made for it, which it learns from, and a quarter fold 2, on
which it scores: the records that a network for use is tested on are in neither, so that the choice which a pilot leads
to has not seen them. All arms of a cell share subset and seed. Whole replicates are run one after the other while the
budget lasts, so that a stop leaves whole pairs; the same pilot again goes on where it was. A linear probe and random
convolutions are fitted next to every pair, before the pairs of their replicate: they take seconds.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advisor.answer.arms import PILOT_PAIRS, PILOT_RECORDS
from advisor.own_records.pilots.folders import STORE
from advisor.own_records.records import OwnData
from engine.checkpoints.checkpoint import CheckpointError, load_checkpoint
from engine.corpora.corpus import Corpus, write_divided
from engine.corpora.held_out import draw_test, together
from engine.corpora.splits import has_both_outcomes
from engine.recipes import DEFAULT_RECIPE
from engine.records.contract import Reading
from models.errors import ExitCode, UserError
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, RANDOM_CONVOLUTIONS, SCRATCH
from studies.running.progress import Progress
from studies.running.runner import run_study
from studies.running.study_networks import digest_of, folder_of, read_files, write_files
from studies.running.workload import Speed, Workload
from studies.running.workplaces import Workplace
from studies.runs.pairs import of_one_precision
from studies.runs.run import Run
from studies.runs.run_spec import RunSpec, find_keys
from studies.runs.store import Store
from studies.runs.task_names import hash_task, read_as

POOL, TEST, KEPT = 1, 2, 3  # folds: to learn from, to score on, and what is kept for the test of a network for use
_TEST_FRACTION = 0.25  # of the records to learn from
_PER_SEED = 1000  # replicates: those of another seed are others
MOST_REPLICATES, FEWEST_REPLICATES = PILOT_PAIRS, 2
_POSITIVES = 5  # records with a typical label that a size must have, next to PILOT_RECORDS in all
_FEWEST_PATIENTS = 10
_RATIO, _CLOSEST = 3.0, 1.3  # between one size and the next
_MOST_SIZES, _FEWEST_SIZES = 3, 2
_OVERRUN = 1.1  # of the budget, before another replicate is left out
_PAIR = (SCRATCH, FINE_TUNE)
_ALL = (*FURTHER_STRATEGIES, *_PAIR)  # as they are run: first what takes seconds


class PilotError(UserError, ValueError):
    """Records with which no pilot can be run; one sentence says what is missing."""

    exit_code = ExitCode.DATA


class BudgetError(PilotError):
    """A budget in which no pilot fits; the message says which one would do."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Pilot:
    """What is run: a divided corpus, a task of it, a network, and the pre-trained one that is fine-tuned and probed,
    which was trained on ``upstream`` and lies where the runner looks for it. Its sizes are from the ``smallest``
    useful one to the ``largest``, all records that it learns from. ``first`` is its first replicate.
    """

    folder: Path
    corpus: Corpus
    task: str
    arch: str
    upstream: str
    upstream_records: int
    data_hashes: dict[str, str]
    smallest: int
    largest: int
    first: int = 0
    reading: str = ""

    @property
    def store(self) -> Path:
        """Where the runs are kept."""
        return self.folder / STORE

    def specs(self, n_records: int, replicate: int) -> tuple[RunSpec, ...]:
        """Return the runs of a cell: the pair, from scratch and fine-tuned, a linear probe and random convolutions."""
        scratch = RunSpec(
            self.task, self.arch, "scratch", None, n_records, replicate, DEFAULT_RECIPE, (POOL,), (TEST,),
            reading=self.reading,
        )  # fmt: skip
        tuned = replace(scratch, strategy="fine-tune", upstream=self.upstream, upstream_records=self.upstream_records)
        kernels = replace(scratch, arch=RANDOM_CONVOLUTIONS, strategy="random-convolutions", reading="")
        return scratch, tuned, replace(tuned, strategy="linear-probe"), kernels

    def runs(self) -> list[Run]:
        """Return the whole pairs that the store holds, in the precision that most have, and what ran next to them.

        The two runs of each pair come first, then those of the linear probe and of random convolutions in their cells.
        """
        if not self.store.is_file():
            return []
        store = Store(self.store, create=False)
        mine = [run for run in store.runs() if self._is_mine(run)]
        store.close()
        pairs, _ = of_one_precision([run for run in mine if run.strategy in _PAIR])
        whole = set.intersection(*({_cell(run) for run in pairs if run.strategy == arm} for arm in _PAIR))
        others = [run for run in mine if run.strategy in FURTHER_STRATEGIES]
        return [run for run in (*pairs, *others) if _cell(run) in whole]

    def _is_mine(self, run: Run) -> bool:
        keys = self._keys_at(run.n_records, run.replicate)
        return run.key in keys and run.has_score

    def _keys_at(self, n_records: int, replicate: int) -> set[str]:
        specs = self.specs(n_records, replicate)
        keys = find_keys(specs, self.data_hashes)
        return {keys[spec] for spec in specs}


@dataclass(frozen=True)
class Plan:
    """The sizes and replicates that a ``budget`` allows, and the ``seconds`` that their runs are expected to take."""

    sizes: tuple[int, ...]
    replicates: int
    seconds: float
    budget: float

    @property
    def pairs(self) -> int:
        """The number of pairs of runs."""
        return len(self.sizes) * self.replicates

    @property
    def runs(self) -> int:
        """The number of runs of all arms."""
        return len(_ALL) * self.pairs


def pairs_by_seed(runs: Sequence[Run]) -> dict[int, int]:
    """Return how many pairs each seed has at the size with the most, of what ``Pilot.runs`` returns."""
    found = Counter((run.replicate // _PER_SEED, run.n_records) for run in runs if run.strategy == SCRATCH)
    return {seed: max(n for (of, _), n in found.items() if of == seed) for seed in sorted({of for of, _ in found})}


def _cell(run: Run) -> tuple[int, int]:
    return run.n_records, run.replicate


def set_up(folder: Path, own: OwnData, arch: str, checkpoint: Path, seed: int = 0) -> Pilot:
    """Make a pilot's folder ready: the divided corpus, and the pre-trained network next to the store.

    Another ``seed`` draws other subsets. Raises PilotError for records that are too few, CheckpointError for a network
    that does not take them, CorpusError and OSError when the folder cannot be written.
    """
    corpus, data = own.corpus, own.data
    pool, test, folds, target = _divide(folder, own)
    check_records(own, pool, test)
    facts = load_checkpoint(checkpoint).facts
    if facts.arch != arch:
        raise CheckpointError(f"{checkpoint} holds {facts.arch}, not {arch}")
    if facts.contract.unlike(corpus.contract):
        taken, given = facts.contract.in_words(), corpus.contract.in_words()
        raise CheckpointError(f"{checkpoint} takes {taken}, and these records have {given}")
    if not target.is_dir():
        write_divided(corpus, data, folds, target)
    pilot = _open(folder, own, arch, checkpoint, seed)
    start = pilot.specs(2, 0)[1].pretraining()
    assert start is not None, "the fine-tuned arm starts from a network"
    kept = folder_of(pilot.store) / start.key(pilot.data_hashes)
    if not kept.is_dir():
        write_files(read_files(checkpoint), kept)
    return pilot


def _open(folder: Path, own: OwnData, arch: str, checkpoint: Path, seed: int = 0) -> Pilot:
    """Return a pilot whose divided corpus is there; nothing is written."""
    pool, test, _, target = _divide(folder, own)
    facts, divided, task = load_checkpoint(checkpoint).facts, Corpus(target), f"{target.name}/labels"
    found = Reading.of(facts.contract, divided.contract)
    reading = "" if found is None else str(found)
    own_hash = hash_task({target.name: divided}, task)
    hashes = {task: own_hash, task if found is None else read_as(task, found): own_hash}
    hashes[facts.task] = digest_of(checkpoint)
    smallest, records = check_records(own, pool, test), facts.n_records or 0
    return Pilot(
        folder, divided, task, arch, facts.task, records, hashes, smallest, len(pool), _PER_SEED * seed, reading
    )


def find_pilot(folder: Path, own: OwnData, arch: str, checkpoint: Path) -> Pilot | str:
    """Return the pilot in a folder that was run for these records, labels, network and test records, with whole pairs;
    or a phrase that says why what is there is not it.

    Raises PilotError, CheckpointError, CorpusError and StoreError as ``set_up`` and ``Pilot.runs`` do.
    """
    target = _divide(folder, own)[-1]
    if not target.is_dir():
        return "it is of other labels, or other records were kept for the test then"
    store = Store(folder / STORE, create=False)
    archs = {run.arch for run in store.runs() if run.task == f"{target.name}/labels"} - {RANDOM_CONVOLUTIONS}
    store.close()
    if archs and arch not in archs:
        return f"it is of {' and '.join(sorted(archs))}, and this is about {arch}"
    pilot = _open(folder, own, arch, checkpoint)
    if not pilot.runs():
        return "it has no whole pair from this pre-trained network by this version's recipe"
    return pilot


def divide_pool(own: OwnData) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the records that a pilot learns from and of those that it scores on.

    Whole patients, with equal shares of the labels. Raises PilotError for records of one patient.
    """
    rows = own.data.rows[own.pool]
    try:
        chosen, _ = draw_test(together(own.corpus)[rows], own.corpus.labels[rows], _TEST_FRACTION, 0)
    except ValueError as error:
        raise PilotError(f"{own.data.name} cannot be piloted: {error}") from None
    return own.pool[~chosen], own.pool[chosen]


def _divide(folder: Path, own: OwnData) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Path]:
    """Return what ``divide_pool`` does, the folds (records,), and where the corpus named after all this lies."""
    pool, test = divide_pool(own)
    folds = np.full(len(own.data.rows), KEPT, np.int64)
    folds[pool], folds[test] = POOL, TEST
    identity = json.dumps([own.corpus.content_hash, own.data.name, own.data.classes, folds.tolist()])
    name = f"own-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    return pool, test, folds, folder / "corpora" / name


def check_records(own: OwnData, pool: NDArray[np.int64], test: NDArray[np.int64]) -> int:
    """Return the smallest useful size, of positions to learn from and to score on.

    Raises PilotError for records that are too few to tell two arms apart.
    """
    data = own.data
    for name, column in zip(data.classes, data.labels.T, strict=True):
        if not column.any():
            raise PilotError(
                f"no record of {data.name} has the label {name}: a pilot cannot score it; leave it out with --labels"
            )
    if not has_both_outcomes(data.labels[test]).any():
        raise PilotError(
            f"no label of {data.name} has both records with it and records without it among the {len(test):,} records "
            "that a pilot scores on: it has nothing to score"
        )
    shares = data.labels[pool].mean(axis=0)
    typical = float(np.median(np.minimum(shares, 1 - shares)))
    smallest = max(PILOT_RECORDS, ceil(_POSITIVES / max(typical, 1e-9)))
    smallest = min(smallest, max(PILOT_RECORDS, len(pool) // 2))
    n_patients = len(np.unique(data.patients[pool]))
    if len(pool) < PILOT_RECORDS * _FEWEST_SIZES or n_patients < _FEWEST_PATIENTS:
        raise PilotError(
            f"{data.name} has {len(pool):,} records of {n_patients:,} patients besides those kept for the test and "
            f"those that a pilot scores on: it needs {PILOT_RECORDS * _FEWEST_SIZES} records of {_FEWEST_PATIENTS} "
            "patients or more"
        )
    return smallest


def plan(
    pilot: Pilot, budget: float, speeds: Mapping[str, Speed], at_a_time: int, fewest: int = FEWEST_REPLICATES
) -> Plan:
    """Choose the sizes and replicates, at least ``fewest``, for ``budget`` seconds; ``speeds`` are by network.

    A pilot that has begun keeps its sizes, may get more, and what it holds costs nothing. Where the pairs fit and the
    seconds of the other arms do not, these are run all the same. Raises BudgetError where nothing fits.
    """
    load = Workload({pilot.corpus.name: pilot.corpus})
    stored = {(_cell(run), run.strategy) for run in pilot.runs()}

    def seconds(sizes: Sequence[int], replicate: int, strategies: Sequence[str] = _ALL) -> float:
        """Return how long a replicate's missing runs take: side by side, and never less than the longest of them."""
        cells = (pilot.specs(size, pilot.first + replicate) for size in sizes)
        specs = [spec for cell in cells for spec in cell if spec.strategy in strategies]
        missing = [spec for spec in specs if ((spec.n_records, spec.replicate), spec.strategy) not in stored]
        each = [speeds[spec.arch].seconds(load.passes(spec)) for spec in missing]
        return max(sum(each) / at_a_time, *each) if each else 0.0

    begun = tuple(sorted({cell[0] for cell, _ in stored}))
    offers = _offers(pilot.largest, pilot.smallest)
    if len(begun) >= _FEWEST_SIZES:  # a stop leaves whole pairs of the larger sizes, which are run first
        offers = [*(offer for offer in offers if set(begun) < set(offer)), begun]
    for counted, most in ((_ALL, MOST_REPLICATES), (_PAIR, fewest)):
        for sizes in offers:
            after = list(accumulate(seconds(sizes, replicate, counted) for replicate in range(most)))
            replicates = sum(total <= budget for total in after)
            if replicates >= fewest:
                expected = sum(seconds(sizes, replicate) for replicate in range(replicates))
                return Plan(sizes, replicates, expected, max(budget, expected))
    least = min(sum(seconds(sizes, replicate, _PAIR) for replicate in range(fewest)) for sizes in offers) / 60
    raise BudgetError(
        f"the smallest pilot takes about {least:.2g} minutes here, more than {budget / 60:g}; give --minutes "
        f"{ceil(least)} or more"
    )


def _offers(n_pool: int, smallest: int) -> list[tuple[int, ...]]:
    """Return choices of sizes, the most telling first: up to all records before fewer, three before two."""
    offers, top = [], n_pool
    while top >= smallest:
        for count in (_MOST_SIZES, _FEWEST_SIZES):
            ratio = min(_RATIO, (top / smallest) ** (1 / (count - 1)))
            below = {max(PILOT_RECORDS, _rounded(top / ratio**k)) for k in range(1, count)}
            if ratio > _CLOSEST and len(below) == count - 1:
                offers.append((*sorted(below), top))
        top = _rounded(top / 2)
    return offers


def _rounded(value: float) -> int:
    """Return a number of records to two digits."""
    return int(float(f"{value:.2g}"))


def _report_whole(report: Callable[[Progress], None], total: int, before: int, progress: Progress) -> None:
    """Report a replicate's progress as that of all the pilot's runs, ``before`` of which went before it.

    All replicates are the same work, so that the pace of this one says how long the rest takes.
    """
    behind = before / progress.total * progress.work_total
    whole = replace(progress, total=total, done=before + progress.done)
    whole.work_total *= total / progress.total
    whole.work_before += behind
    whole.work_done += behind
    report(whole)


def run(
    pilot: Pilot, chosen: Plan, workplace: Workplace, report: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
) -> int:  # fmt: skip
    """Run the plan, replicate by replicate while its budget in seconds lasts; return how many runs failed.

    KeyboardInterrupt leaves what has come back in the store. Raises what ``run_study`` does.
    """
    started, slowest, failed = clock(), 0.0, 0
    store = Store(pilot.store)
    try:
        for replicate in range(chosen.replicates):
            began = clock()
            if replicate and began - started + slowest > _OVERRUN * chosen.budget:
                break
            cells = (pilot.specs(size, pilot.first + replicate) for size in reversed(chosen.sizes))
            specs = [spec for cell in cells for spec in cell]
            specs.sort(key=lambda spec: spec.strategy in _PAIR)  # a stop after seconds has the others
            shown = partial(_report_whole, report, chosen.runs, replicate * len(specs))
            corpora = pilot.corpus.root.parent
            failed += run_study(specs, store, corpora, pilot.data_hashes, workplace, shown).failed
            slowest = max(slowest, clock() - began)
    finally:
        store.close()
    return failed
