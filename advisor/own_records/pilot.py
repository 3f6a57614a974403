"""A pilot on the asker's records, from the available network to the answer that it changes.

A pilot lies in a folder that is named after the records' content, or in one that the asker names, which is written down
there: so every later command on the same records finds it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.answer.curve_choice import is_pool
from advisor.answer.question import NOTHING_PRETRAINED
from advisor.answer.recommend import Recommendation, recommend
from advisor.answer.strategy import NothingToStartFromError
from advisor.answer.words import count, duration
from advisor.own_records.answer import OwnAnswer, Pretrained
from advisor.own_records.pilot_study import (
    FEWEST_REPLICATES,
    STORE,
    Pilot,
    PilotError,
    Plan,
    find_pilot,
    plan,
    run,
    set_up,
)
from advisor.own_records.pilot_update import fit_pilot
from engine.checkpoints.checkpoint import CheckpointError
from engine.corpora.corpus import CorpusError, default_corpora
from engine.evaluation.evaluation import describe_averages
from engine.json_values import rounded
from engine.recipes import DEFAULT_RECIPE
from engine.records.lead_names import leads_in_words
from studies.files.arms import ARMS, FINE_TUNE, RANDOM_CONVOLUTIONS, SCRATCH, Arm
from studies.files.curve import PilotCurve
from studies.files.gain import Gain, summarise_gain
from studies.running.progress import Progress
from studies.running.workload import Speed, Workload, measure_speed
from studies.runs.run import METRIC, Run, known
from studies.runs.store import StoreError
from studies.runs.tidy_runs import RunsFileError, check_averages

if TYPE_CHECKING:
    import torch

_ELSEWHERE = "elsewhere.txt"  # folders that askers named for pilots on these records, a line each
Watch = Callable[[], AbstractContextManager[Callable[[Progress], None]]]  # what a study reports to, while it runs


@dataclass(frozen=True)
class PilotRequest:
    """The ``folder`` that keeps a pilot, the ``minutes`` that it may take, and whom it tells what it does.

    ``say`` takes a sentence, ``watch`` gives what the pilot's study reports to. Another ``seed`` draws other subsets.
    """

    folder: Path
    minutes: float
    say: Callable[[str], None]
    watch: Watch
    seed: int = 0


@dataclass(frozen=True)
class Moved:
    """An answer ``before`` a pilot and ``after`` it; ``stopped`` tells that Ctrl-C ended it early.

    ``made`` is the day of its newest run where an earlier command ran it, None where this one did.
    """

    before: Recommendation
    after: Recommendation
    network: str
    store: Path
    seconds: float
    stopped: bool
    made: str | None = None

    @property
    def sizes(self) -> dict[int, int]:
        """The pairs that were run, by number of records."""
        return {n: len(scores) for n, scores in self.after.curve.points[SCRATCH].items()}

    def gain(self, n_records: int) -> float:
        """Return the mean gain that the pilot measured at one of its sizes."""
        scratch, tuned = (self.after.curve.points[arm][n_records] for arm in (SCRATCH, FINE_TUNE))
        return _mean(tuned) - _mean(scratch)

    def expected_gain(self, n_records: int) -> Gain:
        """Return the gain that is expected at a number of records after the pilot."""
        scratch, tuned = (self.after.curve.scores(arm, n_records)[:, 0] for arm in (SCRATCH, FINE_TUNE))
        return summarise_gain(tuned - scratch, self.after.question.margin)

    @property
    def off_band(self) -> dict[int, Gain]:
        """What is expected where the measured gain, as it reads, is not in the band of the answer or of its size."""
        bands = {n: self.expected_gain(n) for n in self.sizes}
        return {
            n: band
            for n, band in bands.items()
            if not (_is_in(self.gain(n), band) and _is_in(self.gain(n), self.after.gain))
        }

    @property
    def why_off_band(self) -> str | None:
        """Say why measured gains are not in the bands, None where all are."""
        if not (off := self.off_band):
            return None
        bands = ", ".join(f"{g.mean_ci_lower:+.3f} to {g.mean_ci_upper:+.3f} at {n:,}" for n, g in off.items())
        if all(_is_in(self.gain(n), band) for n, band in off.items()):
            return f"{bands} records (90 %): the gain changes with the number of records"
        why = "what the other tasks gained draws it towards them (partial pooling)"
        if self.after.curve.rests_on[-1] is self.after.curve:
            why = "the curve draws on all sizes together"
        return f"{bands} records (90 %): a few pairs are noisy, and {why}"

    @property
    def scores(self) -> dict[Arm, dict[int, tuple[float, ...]]]:
        """The scores of each arm's runs, by number of records; arms of which none was run are left out."""
        points = self.after.curve.points
        return {arm: dict(found) for arm in ARMS if (found := points.get(arm.strategy))}

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        pairs = [{"n_records": n, "pairs": count, "gain": round(self.gain(n), 4)} for n, count in self.sizes.items()]
        return {
            "network": self.network,
            "store": str(self.store),
            "seconds": round(self.seconds, 1),
            "stopped": self.stopped,
            "made": self.made,
            "pairs": pairs,
            "off_band": [
                {"n_records": n, "gain": round(self.gain(n), 4), "expected": rounded(vars(band))}
                for n, band in self.off_band.items()
            ],
            "why_off_band": self.why_off_band,
            "scores": [
                {"strategy": arm.strategy, "n_records": n, "runs": len(values), "mean": round(_mean(values), 4)}
                for arm, by_size in self.scores.items()
                for n, values in by_size.items()
            ],
            "before": _figures(self.before),
            "after": _figures(self.after),
        }


def _is_in(gain: float, band: Gain) -> bool:
    return round(band.mean_ci_lower, 3) <= round(gain, 3) <= round(band.mean_ci_upper, 3)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _figures(answer: Recommendation) -> dict[str, Any]:
    arms = {one.arm.field: rounded(vars(one.score)) for one in answer.arms}
    return {"best": answer.best.strategy, "verdict": answer.verdict, **arms, "gain": rounded(vars(answer.gain))}


def with_pilot(found: OwnAnswer, wanted: PilotRequest) -> OwnAnswer:
    """Run a pilot and answer again, for this dataset.

    After Ctrl-C the pairs that are complete answer; KeyboardInterrupt where they are too few. Raises
    NothingToStartFromError, PilotError, RunsFileError, CheckpointError, CorpusError, StoreError, DeviceError,
    WorkersGoneError and OSError, each with one sentence.
    """
    started, stopped = time.monotonic(), False
    before = found.answer
    network = _network_to_tune(found)
    pilot = set_up(wanted.folder, found.own, before.curve.arch, network.folder, wanted.seed)
    pool = before.curve if is_pool(before.curve) else None
    try:
        _run(pilot, network.name, wanted, FEWEST_REPLICATES if pool is None else 1)  # a curve of its own takes two
    except KeyboardInterrupt:
        stopped = True
    check_averages(pilot.runs())  # a version that averaged over rare labels too may have begun the pilot
    try:
        after = _answer(before, fit_pilot(pilot, pool, before.question.n_records), found.own.data.name, pilot.runs()[0])
    except PilotError:
        if stopped:
            raise KeyboardInterrupt from None
        raise
    if stopped:
        pairs = count(after.curve.runs // 2, "complete pair")
        wanted.say(f"stopped: the answer rests on the {pairs}; the same command goes on")
    moved = Moved(before, after, network.name, pilot.store, time.monotonic() - started, stopped)
    return replace(found, answer=after, moved=moved)


def with_known_pilot(found: OwnAnswer, pilots: Path) -> OwnAnswer:
    """Take a pilot into account that an earlier command ran on these records, or say which one is ignored and why.

    ``pilots`` is the folder of ``folders_of``. One that cannot be read is ignored too: nobody asked for it.
    """
    reasons = []
    for folder in folders_of(pilots, found.own.corpus.content_hash):
        try:
            moved = _moved_by(found, folder)
        except (PilotError, RunsFileError, CheckpointError, CorpusError, StoreError, OSError) as error:
            moved = str(error)
        if isinstance(moved, Moved):
            return replace(found, answer=moved.after, moved=moved)
        reasons.append(f"A pilot on these records ({folder}) is not in the answer: {moved}.")
    return replace(found, ignored=reasons[0]) if reasons else found


def _moved_by(found: OwnAnswer, folder: Path) -> Moved | str:
    """Return what the pilot in a folder changes, or a phrase that says why it changes nothing."""
    before = found.answer
    if before.question.metric != METRIC:
        return f"it measured {METRIC} alone"
    if before.question.task is not None:
        return f"--task answers from {before.question.task} alone"
    if found.network is None:
        return f"no pre-trained {before.curve.arch} is available that it started from"
    pilot = find_pilot(folder, found.own, before.curve.arch, found.network.folder)
    if isinstance(pilot, str):
        return pilot
    runs = pilot.runs()
    check_averages(runs)
    pool = before.curve if is_pool(before.curve) else None
    after = _answer(before, fit_pilot(pilot, pool, before.question.n_records), found.own.data.name, runs[0])
    took = sum(known(run.seconds) for run in runs)
    made = max(known(run.created) for run in runs)[:10]
    return Moved(before, after, found.network.name, pilot.store, took, stopped=False, made=made)


def pilots_folder() -> Path:
    """Return where pilots lie that no other folder was named for."""
    return default_corpora() / "pilots"


def folders_of(pilots: Path, content_hash: str) -> list[Path]:
    """Return the folders with pilots on the records of that content, newest store first.

    ``pilots`` is where pilots are kept that no other folder was named for.
    """
    own = _own_folder(pilots, content_hash)
    named = own / _ELSEWHERE
    others = named.read_text(encoding="utf-8").splitlines() if named.is_file() else []
    stores = [folder / STORE for folder in (own, *map(Path, others))]
    there = [store for store in stores if store.is_file()]
    return [store.parent for store in sorted(there, key=lambda store: -store.stat().st_mtime_ns)]


def choose_folder(pilots: Path, content_hash: str, named: Path | None) -> Path:
    """Return the folder of a pilot: the one ``named``, which is written down for later commands, else its own.

    Raises OSError.
    """
    own = _own_folder(pilots, content_hash)
    if named is None:
        return own
    own.mkdir(parents=True, exist_ok=True)
    where, list_of = str(named.resolve()), own / _ELSEWHERE
    known_ones = list_of.read_text(encoding="utf-8").splitlines() if list_of.is_file() else []
    if where not in known_ones:
        list_of.write_text("\n".join([*known_ones, where, ""]), encoding="utf-8")
    return named


def _own_folder(pilots: Path, content_hash: str) -> Path:
    return pilots / content_hash[:12]


def _network_to_tune(found: OwnAnswer) -> Pretrained:
    arch, signal, network = found.answer.curve.arch, found.own.corpus.contract, found.network
    if network is None:
        raise NothingToStartFromError(
            f"a pilot fine-tunes a pre-trained {arch} for {leads_in_words(signal.leads)} of {signal.seconds:g} s "
            f"at {signal.fs:g} Hz, and none is released or was added: give a checkpoint's folder with --from "
            "(ecgadvise train makes one)"
        )
    return network


def _run(pilot: Pilot, network: str, wanted: PilotRequest, fewest: int) -> None:
    """Time a few steps, say what will be run, and run it; ``fewest`` pairs or more at each size."""
    from studies.running.workplaces import choose_devices, choose_workplace, default_workers

    device = choose_devices("auto")[0]
    corpus = pilot.corpus
    workers = default_workers() if device.type == "cpu" else 1
    chosen = plan(pilot, 60 * wanted.minutes, _speeds(pilot, device), workers, fewest)
    wanted.say(_describe(pilot, network, chosen))
    load = Workload({corpus.name: corpus})
    with choose_workplace(None, None, "auto", load) as workplace, wanted.watch() as report:
        if failed := run(pilot, chosen, workplace, report):
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


def _answer(before: Recommendation, curve: PilotCurve, name: str, run: Run) -> Recommendation:
    """Ask again with the pilot as one more task of the evidence, called by its ``name``; ``run`` is one of its runs."""
    curve = replace(curve, task=name, warnings=(*_twice(curve, name), *_averages(run), *curve.warnings))
    asked = before.question
    names_it = before.curves.family_default.get(asked.arch or "", asked.arch) == curve.arch
    upstream = asked.upstream if asked.upstream == NOTHING_PRETRAINED else None
    question = replace(asked, arch=asked.arch if names_it else curve.arch, task=None, upstream=upstream)
    upstreams = {**before.curves.upstreams, curve.upstream: f"the available network, pre-trained on {curve.upstream}"}
    curves = replace(
        before.curves, study="pilot" if curve.predicted_by is None else f"{before.curves.study} and a pilot",
        curves=(curve,), upstreams=upstreams,
    )  # fmt: skip
    return recommend(question, curves)
