"""A pilot on the asker's records, from the network at hand to the answer that it changes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.answer.curve_choice import is_pool
from advisor.answer.question import NOTHING_PRETRAINED
from advisor.answer.recommend import Recommendation, recommend
from advisor.answer.words import duration
from advisor.own_records.pilot_study import FEWEST_REPLICATES, Pilot, PilotError, check_records, plan, run, set_up
from advisor.own_records.pilot_update import fit_pilot
from advisor.own_records.records import OwnData
from engine.json_values import rounded
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.files.curve import PilotCurve
from studies.running.runner import Progress
from studies.running.workload import Speed, measure_speed

if TYPE_CHECKING:
    import torch

Watch = Callable[[], AbstractContextManager[Callable[[Progress], None]]]  # what a study reports to, while it runs


@dataclass(frozen=True)
class Moved:
    """An answer ``before`` a pilot and ``after`` it; ``stopped`` tells that Ctrl-C ended it early."""

    before: Recommendation
    after: Recommendation
    network: str
    store: Path
    seconds: float
    stopped: bool

    @property
    def sizes(self) -> dict[int, int]:
        """The pairs that were run, by number of records."""
        return {n: len(scores) for n, scores in self.after.curve.points[SCRATCH].items()}

    def gain(self, n_records: int) -> float:
        """Return the mean gain that the pilot measured at one of its sizes."""
        scratch, tuned = (self.after.curve.points[arm][n_records] for arm in (SCRATCH, FINE_TUNE))
        return sum(tuned) / len(tuned) - sum(scratch) / len(scratch)

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        pairs = [{"n_records": n, "pairs": count, "gain": round(self.gain(n), 4)} for n, count in self.sizes.items()]
        return {
            "network": self.network,
            "store": str(self.store),
            "seconds": round(self.seconds, 1),
            "stopped": self.stopped,
            "pairs": pairs,
            "before": _figures(self.before),
            "after": _figures(self.after),
        }


def _figures(answer: Recommendation) -> dict[str, Any]:
    arms = {
        name: rounded(vars(score)) for name, score in (("scratch", answer.scratch), ("fine_tune", answer.fine_tune))
    }
    return {"verdict": answer.verdict, **arms, "gain": rounded(vars(answer.gain))}


def run_pilot(
    before: Recommendation, own: OwnData, network: tuple[str, Path], folder: Path, minutes: float,
    say: Callable[[str], None], watch: Watch,
) -> Moved:  # fmt: skip
    """Run a pilot within a budget and answer again, for this dataset; ``watch`` gives what its study reports to.

    After Ctrl-C the pairs that are complete answer; KeyboardInterrupt where they are too few. Raises PilotError,
    CheckpointError, CorpusError, StoreError, DeviceError, WorkersGoneError and OSError, each with one sentence.
    """
    started, stopped = time.monotonic(), False
    smallest = check_records(own.data, own.pool, own.test)
    name, checkpoint = network
    pilot = set_up(folder, own.corpus, own.data, own.test, before.curve.arch, checkpoint)
    try:
        fewest = 1 if is_pool(before.curve) else FEWEST_REPLICATES  # a curve of its own takes two pairs a size
        _run(pilot, len(own.pool), smallest, 60 * minutes, fewest, name, say, watch)
    except KeyboardInterrupt:
        stopped = True
    try:
        after = _answer(before, pilot, own.data.name)
    except PilotError:
        if stopped:
            raise KeyboardInterrupt from None
        raise
    if stopped:
        say(f"stopped: the answer rests on the {after.curve.runs // 2} complete pairs; the same command goes on")
    return Moved(before, after, name, pilot.store, time.monotonic() - started, stopped)


def _run(
    pilot: Pilot, n_pool: int, smallest: int, budget: float, fewest: int, name: str, say: Callable[[str], None],
    watch: Watch,
) -> None:  # fmt: skip
    """Time a few steps, say what will be run, and run it."""
    from studies.running.workload import Workload
    from studies.running.workplaces import choose_devices, choose_workplace, default_workers

    devices = choose_devices("auto")
    device = devices[0]
    corpus = pilot.corpus
    speed = _speed(pilot, device)
    workers = default_workers() if device.type == "cpu" else 1
    chosen = plan(pilot, n_pool, smallest, budget, speed, workers, fewest)
    done = len(pilot.runs()) // 2
    sizes = ", ".join(f"{n:,}" for n in chosen.sizes[:-1]) + f" and {chosen.sizes[-1]:,}"
    pairs = f"{chosen.replicates} pair{'s' * (chosen.replicates > 1)}"
    say(
        f"pilot: {pilot.arch} from scratch and from {name}, {pairs} at each of {sizes} records, about "
        f"{duration(chosen.seconds)}{f' ({done} of {chosen.pairs} are there)' if done else ''}; kept in {pilot.folder}"
    )
    load = Workload({corpus.name: corpus})
    specs = [spec for size in chosen.sizes for spec in pilot.specs(size, 0)]
    with choose_workplace(None, None, devices, specs, load) as workplace, watch() as report:
        if failed := run(pilot, chosen, budget, workplace, device.type, report):
            say(f"{failed} of the pilot's trainings failed and are left out: see {pilot.store}")


def _speed(pilot: Pilot, device: "torch.device") -> Speed:
    """Time a few steps; on a processor that others use too, by the share of it that they leave."""
    began, used = time.monotonic(), time.process_time()
    speed = measure_speed(pilot.arch, "tuned", len(pilot.corpus.leads), pilot.corpus.signals.shape[2], device)
    if device.type != "cpu":
        return speed
    stretch = max(1.0, (time.monotonic() - began) / (time.process_time() - used))
    return Speed(stretch * speed.training, stretch * speed.forward)


def _twice(curve: PilotCurve, name: str) -> tuple[str, ...]:
    """Say so where the records are those of a task that predicted them."""
    if curve.predicted_by is None or name not in curve.predicted_by.tasks:
        return ()
    return (f"the evidence has {name} already: the bands, which take yours for other records, are too sure",)


def _answer(before: Recommendation, pilot: Pilot, name: str) -> Recommendation:
    """Ask again with the pilot as one more task of the evidence, called by its name."""
    curve = fit_pilot(pilot, before.curve if is_pool(before.curve) else None)
    curve = replace(curve, task=name, warnings=(*_twice(curve, name), *curve.warnings))
    asked = before.question
    names_it = before.curves.family_default.get(asked.arch or "", asked.arch) == curve.arch
    upstream = asked.upstream if asked.upstream == NOTHING_PRETRAINED else None
    question = replace(asked, arch=asked.arch if names_it else curve.arch, task=None, upstream=upstream)
    upstreams = {**before.curves.upstreams, curve.upstream: f"the network at hand, pre-trained on {curve.upstream}"}
    curves = replace(
        before.curves, study="pilot" if curve.predicted_by is None else f"{before.curves.study} and a pilot",
        curves=(curve,), upstreams=upstreams,
    )  # fmt: skip
    return recommend(question, curves)
