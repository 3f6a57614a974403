"""How a pilot on the asker's records moved the answer, and what it measured itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.answer.arms import seed_with_room
from advisor.answer.recommend import Recommendation
from engine.json_values import rounded
from studies.files.arms import ARMS, FINE_TUNE, SCRATCH, Arm
from studies.files.curve import PilotCurve
from studies.files.gain import Gain, summarise_gain


@dataclass(frozen=True)
class Moved:
    """An answer ``before`` a pilot and ``after`` it; ``stopped`` tells that Ctrl-C ended it early.

    ``before`` is None where no run of the evidence starts from the network: then ``after`` is from the pilot alone, and
    ``others`` is what the evidence says of its own networks, None where it has no answer either. ``made`` is the day of
    its newest run where an earlier command ran it, None where this one did.
    """

    before: Recommendation | None
    after: Recommendation
    network: str
    store: Path
    seconds: float
    stopped: bool
    made: str | None = None
    others: Recommendation | None = None

    @property
    def is_alone(self) -> bool:
        """Whether the answer after it is from the pilot alone, because nothing was known of its network."""
        return self.before is None

    @property
    def sizes(self) -> dict[int, int]:
        """The pairs that were run, by number of records."""
        return {n: len(scores) for n, scores in self.after.curve.points[SCRATCH].items()}

    @property
    def how_to_add(self) -> str:
        """The options that add pairs: those of one seed are limited."""
        curve = self.after.curve
        assert isinstance(curve, PilotCurve), "an answer after a pilot is from its curve"
        seed, _ = seed_with_room(curve)
        return "--pilot again" if {*curve.seeds, seed} == {0} else f"--pilot --seed {seed}"

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
            "before": None if self.before is None else _figures(self.before),
            "others": None if self.others is None else _of_others(self.others),
            "after": _figures(self.after),
        }


def _is_in(gain: float, band: Gain) -> bool:
    return round(band.mean_ci_lower, 3) <= round(gain, 3) <= round(band.mean_ci_upper, 3)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _figures(answer: Recommendation) -> dict[str, Any]:
    arms = {one.arm.field: rounded(vars(one.score)) for one in answer.arms}
    return {"best": answer.best.strategy, "verdict": answer.verdict, **arms, "gain": rounded(vars(answer.gain))}


def _of_others(answer: Recommendation) -> dict[str, Any]:
    curve = answer.curve
    return {"arch": curve.arch, "upstream": curve.upstream, "tasks": len(curve.measured_tasks), **_figures(answer)}
