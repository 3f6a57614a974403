"""How far a study is, what its runs are called, and the log of one that has ended."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from studies.runs.run import Run
from studies.runs.run_spec import RunSpec
from studies.runs.store import StoreError


@dataclass
class Progress:
    """How far a study is, in runs and in ``work`` (GFLOP); ``report`` is called after every change.

    ``work_before`` had been done when the study was started.
    """

    total: int
    done: int = 0
    running: int = 0
    failed: int = 0
    elsewhere: int = 0  # in the hands of another runner of the same store
    cells: int = 0
    cells_done: int = 0
    work_total: float = 0.0
    work_before: float = 0.0
    work_done: float = 0.0
    last: str = ""
    report: Callable[["Progress"], None] = field(default=lambda _progress: None, repr=False)
    started: float = field(default_factory=time.monotonic, repr=False)

    def seconds_left(self) -> float | None:
        """Return how long the rest takes at the pace so far, None before a run is finished."""
        if self.work_done <= self.work_before:
            return None
        pace = (time.monotonic() - self.started) / (self.work_done - self.work_before)
        return pace * (self.work_total - self.work_done)


class Pace:
    """How long a group of runs takes: its ``work``, at the pace of the fastest such group so far."""

    def __init__(self, work: Callable[[RunSpec], float]) -> None:
        self._work = work
        self._seconds_a_unit: dict[tuple[str, int], float] = {}

    def note(self, group: Sequence[RunSpec], seconds: float) -> None:
        """Remember what a group took. One network and one size of a group have one pace."""
        kind, pace = (group[0].arch, len(group)), seconds / sum(map(self._work, group))
        self._seconds_a_unit[kind] = min(pace, self._seconds_a_unit.get(kind, pace))

    def seconds(self, group: Sequence[RunSpec]) -> float:
        """Return how long a group takes; 0 where no such group was seen."""
        return self._seconds_a_unit.get((group[0].arch, len(group)), 0.0) * sum(map(self._work, group))


def describe(spec: RunSpec) -> str:
    """Return a run in a few words."""
    rate = "" if spec.learning_rate is None else f" learning rate {spec.learning_rate:g}"
    upstream = "" if spec.upstream is None else f" from {spec.upstream}"
    return f"{spec.task} {spec.arch} {spec.strategy}{upstream} n={spec.n_records} replicate {spec.replicate}{rate}"


def cell_of(spec: RunSpec) -> tuple[str, str, str, str | None, int, str]:
    """Return the cell of a run: all of it but replicate, learning rate and folds."""
    return spec.task, spec.arch, spec.strategy, spec.upstream, spec.n_records, spec.recipe


def write_log(folder: Path, run: Run) -> None:
    """Write a run's trajectory on its validation records as JSON lines, a file a run, for any tool that plots them."""
    facts = {
        "task": run.task, "arch": run.arch, "strategy": run.strategy, "upstream": run.upstream,
        "n_records": run.n_records, "replicate": run.replicate,
    }  # fmt: skip
    lines = [json.dumps({"run": run.key, **facts})]
    lines += [json.dumps({"run": run.key, **validation}) for validation in run.validations]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{run.key}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write the log {folder}/{run.key}.jsonl: {error.strerror}") from error
