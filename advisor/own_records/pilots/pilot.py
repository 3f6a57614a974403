"""A pilot on the asker's records, from the available network to the answer that it changes."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.answer.curve_choice import is_pool
from advisor.answer.question import NOTHING_PRETRAINED, Question
from advisor.answer.recommend import Recommendation, recommend
from advisor.answer.strategy import NothingToStartFromError
from advisor.answer.words import count, duration
from advisor.own_records.answer import OwnAnswer, Unanswered
from advisor.own_records.moved import Moved
from advisor.own_records.network import Pretrained
from advisor.own_records.pilots.folders import folders_of
from advisor.own_records.pilots.so_far import SoFar
from advisor.own_records.pilots.study import (
    FEWEST_REPLICATES,
    Pilot,
    PilotError,
    Plan,
    find_pilot,
    plan,
    run,
    set_up,
)
from advisor.own_records.pilots.update import fit_pilot
from advisor.own_records.records import OwnData
from engine.checkpoints.checkpoint import CheckpointError
from engine.corpora.corpus import CorpusError
from engine.evaluation.evaluation import describe_averages
from engine.recipes import DEFAULT_RECIPE
from engine.records.lead_names import leads_in_words
from studies.files.arms import RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curve import PilotCurve, PooledCurve
from studies.files.curves import CurvesFile, Network
from studies.running.progress import Progress
from studies.running.workload import Speed, Workload, measure_speed
from studies.runs.run import METRIC, Run, known
from studies.runs.store import StoreError
from studies.runs.tidy_runs import RunsFileError, check_averages

if TYPE_CHECKING:
    import torch

Report = Callable[[Progress], None]
Watch = Callable[[], AbstractContextManager[Report]]  # what a study reports to, while it runs


@dataclass(frozen=True)
class PilotRequest:
    """The ``folder`` that keeps a pilot, the ``minutes`` that it may take, and whom it tells what it does.

    ``say`` takes a sentence, ``watch`` gives what the pilot's study reports to. Another ``seed`` draws other subsets.
    The runs go to the Dask cluster of a ``scheduler`` where one is named. ``tell`` gets what the answer would be each
    time that another pair is complete, None where the pairs are too few.
    """

    folder: Path
    minutes: float
    say: Callable[[str], None]
    watch: Watch
    seed: int = 0
    scheduler: str | None = None
    tell: Callable[[Recommendation | None], None] | None = None


@dataclass(frozen=True)
class _Ground:
    """What a pilot is added to: the question, the evidence, the records, the network and, where there is one, the
    ``pool`` that predicts the records; ``before`` and ``others`` as in ``Moved``.
    """

    question: Question
    curves: CurvesFile
    own: OwnData
    arch: str
    network: Pretrained
    pool: PooledCurve | None
    before: Recommendation | None
    others: Recommendation | None = None


def with_pilot(found: OwnAnswer, wanted: PilotRequest) -> OwnAnswer:
    """Run a pilot and answer again, for this dataset.

    After Ctrl-C the pairs that are complete answer; KeyboardInterrupt where they are too few. Raises
    NothingToStartFromError, PilotError, RunsFileError, CheckpointError, CorpusError, StoreError, DeviceError,
    WorkersGoneError and OSError, each with one sentence.
    """
    moved = _pilot(_ground_of(found, _network_to_tune(found)), wanted)
    return replace(found, answer=moved.after, moved=moved)


def answer_by_pilot(asked: Unanswered, wanted: PilotRequest) -> OwnAnswer:
    """Run a pilot from a network of which the evidence knows nothing, and answer from the pilot alone.

    Raises what ``with_pilot`` does.
    """
    return asked.answered(_pilot(_ground_without(asked), wanted))


def _ground_of(found: OwnAnswer, network: Pretrained) -> _Ground:
    before = found.answer
    pool = before.curve if is_pool(before.curve) else None
    return _Ground(before.question, before.curves, found.own, before.curve.arch, network, pool, before)


def _ground_without(asked: Unanswered) -> _Ground:
    arch = asked.network.arch
    return _Ground(asked.question, asked.curves, asked.own, arch, asked.network, None, None, asked.others())


def _pilot(ground: _Ground, wanted: PilotRequest) -> Moved:
    started, stopped = time.monotonic(), False
    network, pool = ground.network, ground.pool
    pilot = set_up(wanted.folder, ground.own, ground.arch, network.folder, wanted.seed)
    try:
        fewest = FEWEST_REPLICATES if pool is None else 1  # a curve of its own takes two
        _run(pilot, ground, wanted, fewest)
    except KeyboardInterrupt:
        stopped = True
    try:
        check_averages(pilot.runs())  # a version that averaged over rare labels too may have begun the pilot
    except StoreError:
        if stopped:  # before its store was made
            raise KeyboardInterrupt from None
        raise
    try:
        after = _answer(ground, fit_pilot(pilot, pool, ground.question.n_records), pilot.runs()[0])
    except PilotError:
        if stopped:
            raise KeyboardInterrupt from None
        raise
    if stopped:
        pairs = count(after.curve.runs // 2, "complete pair")
        wanted.say(f"stopped: the answer rests on the {pairs}; the same command goes on")
    took = time.monotonic() - started
    return Moved(ground.before, after, network.name, pilot.store, took, stopped, others=ground.others)


def with_known_pilot(found: OwnAnswer, pilots: Path) -> OwnAnswer:
    """Take a pilot into account that an earlier command ran on these records, or say which one is ignored and why.

    ``pilots`` is the folder of ``folders_of``. One that cannot be read is ignored too: nobody asked for it.
    """
    folders, asked, network = folders_of(pilots, found.own.corpus.content_hash), found.answer.question, found.network
    if asked.metric != METRIC:
        why = f"it measured {METRIC} alone"
    elif asked.task is not None:
        why = f"--task answers from {asked.task} alone"
    elif network is None:
        why = f"no pre-trained {found.answer.curve.arch} is available that it started from"
    else:
        return _with_first(found, _ground_of(found, network), folders)
    return replace(found, ignored=_ignored(folders[0], why)) if folders else found


def _with_first(found: OwnAnswer, ground: _Ground, folders: Sequence[Path]) -> OwnAnswer:
    """Take the first pilot into account that can be, or say why the first of all is not."""
    reasons = []
    for folder in folders:
        if isinstance(moved := _known_pilot(ground, folder), Moved):
            return replace(found, answer=moved.after, moved=moved)
        reasons.append(_ignored(folder, moved))
    return replace(found, ignored=reasons[0]) if reasons else found


def answer_by_known_pilot(asked: Unanswered, pilots: Path) -> OwnAnswer | None:
    """Answer from a pilot alone that an earlier command ran on these records from the network; None without one."""
    if asked.question.metric != METRIC or asked.question.task is not None:
        return None
    for folder in folders_of(pilots, asked.own.corpus.content_hash):
        if isinstance(moved := _known_pilot(_ground_without(asked), folder), Moved):
            return asked.answered(moved)
    return None


def _ignored(folder: Path, why: str) -> str:
    return f"A pilot on these records ({folder}) is not in the answer: {why}."


def _known_pilot(ground: _Ground, folder: Path) -> Moved | str:
    """Return what the pilot in a folder changes, or a phrase that says why it changes nothing."""
    try:
        pilot = find_pilot(folder, ground.own, ground.arch, ground.network.folder)
        if isinstance(pilot, str):
            return pilot
        runs = pilot.runs()
        check_averages(runs)
        after = _answer(ground, fit_pilot(pilot, ground.pool, ground.question.n_records), runs[0])
    except (PilotError, RunsFileError, CheckpointError, CorpusError, StoreError, OSError) as error:
        return str(error)
    took = sum(known(run.seconds) for run in runs)
    made = max(known(run.created) for run in runs)[:10]
    return Moved(ground.before, after, ground.network.name, pilot.store, took, False, made, ground.others)


def _network_to_tune(found: OwnAnswer) -> Pretrained:
    arch, signal, network = found.answer.curve.arch, found.own.corpus.contract, found.network
    if network is None:
        raise NothingToStartFromError(
            f"a pilot fine-tunes a pre-trained {arch} for {leads_in_words(signal.leads)} of {signal.seconds:g} s "
            f"at {signal.fs:g} Hz, and none is released or was added: give a checkpoint's folder with --from "
            "(ecgadvise train makes one)"
        )
    return network


def _told_so_far(ground: _Ground, pilot: Pilot, wanted: PilotRequest, report: Report) -> Report:
    """Return what reports to ``report`` and tells the answer so far, where that is asked for."""
    if wanted.tell is None:
        return report

    def answer() -> Recommendation:
        return _answer(ground, fit_pilot(pilot, ground.pool, ground.question.n_records), pilot.runs()[0])

    def pairs() -> int:
        return sum(run.strategy == SCRATCH for run in pilot.runs())

    return SoFar(pairs, answer, wanted.tell).after(report)


def _run(pilot: Pilot, ground: _Ground, wanted: PilotRequest, fewest: int) -> None:
    """Time a few steps, say what will be run, and run it; ``fewest`` pairs or more at each size.

    The workers of a cluster are taken to be as fast as this machine.
    """
    from studies.running.workplaces import choose_devices, choose_workplace

    device, corpus = choose_devices("auto")[0], pilot.corpus
    with choose_workplace(wanted.scheduler, None, "auto", Workload({corpus.name: corpus})) as workplace:
        at_a_time = max(1, workplace.capacity())
        chosen = plan(pilot, 60 * wanted.minutes, _speeds(pilot, device), at_a_time, fewest)
        wanted.say(_describe(pilot, ground.network.name, chosen))
        with wanted.watch() as report:
            failed = run(pilot, chosen, workplace, _told_so_far(ground, pilot, wanted, report))
    if failed:
        is_out = "failed and is" if failed == 1 else "failed and are"
        wanted.say(f"{failed} of the pilot's trainings {is_out} left out: see {pilot.store}")


def _describe(pilot: Pilot, network: str, chosen: Plan) -> str:
    """Say what will be run, how long that takes and where it is kept."""
    done = sum(run.strategy == SCRATCH for run in pilot.runs())
    there = f" ({done} of {chosen.pairs} pairs {'is' if done == 1 else 'are'} there)"
    sizes = ", ".join(f"{n:,}" for n in chosen.sizes[:-1]) + f" and {chosen.sizes[-1]:,}"
    return (
        f"pilot: {pilot.arch} from scratch and from {network}, {count(chosen.replicates, 'pair')} at each of {sizes} "
        f"records, each with a linear probe and random convolutions, about {duration(chosen.seconds)}"
        f"{there if done else ''}; kept in {pilot.folder}"
    )


def _speeds(pilot: Pilot, device: "torch.device") -> dict[str, Speed]:
    """Time each network; on a processor that others use too, by the share of it that they leave."""
    began, used = time.monotonic(), time.process_time()
    load = Workload({pilot.corpus.name: pilot.corpus})
    speeds = {spec.arch: measure_speed(spec.arch, DEFAULT_RECIPE, load.signal(spec), device) for spec in
              pilot.specs(pilot.largest, pilot.first) if spec.strategy in (SCRATCH, RANDOM_CONVOLUTIONS)}  # fmt: skip
    if device.type != "cpu":
        return speeds
    stretch = max(1.0, (time.monotonic() - began) / (time.process_time() - used))
    return {arch: speed.times(stretch) for arch, speed in speeds.items()}


def _twice(curve: PilotCurve, name: str) -> tuple[str, ...]:
    """Say so where the records are those of a task that predicted them."""
    if curve.predicted_by is None or name not in curve.predicted_by.tasks:
        return ()
    return (f"the evidence has {name} already: the bands, which take yours for other records, are too sure",)


def _averages(run: Run) -> tuple[str, ...]:
    """Say which labels the macro averages of a pilot's runs leave out, all tested on the same records."""
    by_class, left_out = run.details.get("evaluation", {}), run.details.get("left_out", ())
    counted = {"n_records": run.test_records, "least_positives": run.least_positives, "left_out": left_out}
    return tuple(sentence.removesuffix(".") for sentence in describe_averages({**by_class, **counted}))


def _answer(ground: _Ground, curve: PilotCurve, run: Run) -> Recommendation:
    """Ask again with the pilot as one more task of the evidence, called as the records are; ``run`` is one of its runs.

    Raises what ``recommend`` does where the records are more than the pilot alone can speak of.
    """
    name, asked = ground.own.data.name, ground.question
    curve = replace(curve, task=name, warnings=(*_twice(curve, name), *_averages(run), *curve.warnings))
    names_it = ground.curves.family_default.get(asked.arch or "", asked.arch) == curve.arch
    upstream = asked.upstream if asked.upstream == NOTHING_PRETRAINED else None
    question = replace(asked, arch=asked.arch if names_it else curve.arch, task=None, upstream=upstream)
    upstreams = {**ground.curves.upstreams, curve.upstream: ground.network.described}
    networks = {curve.arch: Network(curve.arch, curve.family, None), **ground.curves.networks}
    study = "pilot" if curve.predicted_by is None else f"{ground.curves.study} and a pilot"
    of_pilot = replace(ground.curves, study=study, curves=(curve,), upstreams=upstreams, networks=networks)
    return recommend(question, of_pilot)
