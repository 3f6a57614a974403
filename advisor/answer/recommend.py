"""Question -> Recommendation: the answer of METHODS.md, Decision, in plain numpy.

Every number comes from the posterior draws of a curves file, so that the gain, its probabilities and the break-even
belong to the same fits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from advisor.answer.arms import ArmOutlook, PilotValue, name_best, not_measured, rank_arms, value_pilot
from advisor.answer.caveats import warn
from advisor.answer.costs import Cost, Money, Saving, charge, cost_curve, count_money, weigh_saving
from advisor.answer.curve_choice import choose_curve, choose_curves, with_network_named
from advisor.answer.decision import (
    Verdict,
    decide,
    decide_paid,
    explain,
    explain_paid,
    explain_saving,
    is_material,
    judge,
)
from advisor.answer.flips import Flip, find_flips
from advisor.answer.question import NoEvidenceError, Question, UnknownNameError
from advisor.answer.scores import MoreRecords, Reach, Score, add_records, reach_target, summarise_score
from advisor.answer.words import at_sizes, count
from advisor.answer.words import money as sum_in_words
from studies.files.arms import FINE_TUNE, PAIR, RANDOM_CONVOLUTIONS, SCRATCH, Arm, arms_in
from studies.files.curve import Curve, PilotCurve, PooledCurve, Support
from studies.files.curves import CurvesFile
from studies.files.draws import REACH, Floats, Interval, ScoreGrid, chance_level, interval, score_grid
from studies.files.gain import Gain, summarise_gain
from studies.files.precision import in_words

__all__ = [
    "ArmOutlook",
    "NetworkRow",
    "NoEvidenceError",
    "Question",
    "Recommendation",
    "UnknownNameError",
    "Verdict",
    "judge",
    "recommend",
    "summarise_score",
]


@dataclass(frozen=True)
class NetworkRow:
    """One measured network at the asker's number of records: the arm to train, its score and time, and on what.

    ``device`` is None where ``seconds`` are.
    """

    arch: str
    family: str
    arm: str
    score: Score
    seconds: float | None
    support: Support
    precision: str | None
    device: str | None


@dataclass(frozen=True)
class Recommendation:
    """The answer, with everything it rests on.

    ``arms`` are all that were measured, best expected score first, and ``best`` is the one to train; ``not_measured``
    are the strategies of the others. The verdict, its reason, the gain, its worth in records, the break-even, the money
    and ``flips``, the nearest numbers of records with another verdict, fewer and more, are of fine-tuning against
    scratch; ``target``, ``more_records`` and ``pilot_value`` are of all arms. ``networks`` are those that were
    compared, best first; empty when one was asked for.
    """

    question: Question
    curve: Curve
    curves: CurvesFile
    verdict: Verdict
    why: str
    scratch: Score
    fine_tune: Score
    gain: Gain
    worth_in_records: Interval
    break_even: Interval
    cost: Mapping[str, Cost]
    support: Support
    warnings: tuple[str, ...]
    target: Mapping[str, Reach] | None
    money: Money | None
    more_records: MoreRecords | None
    pilot_value: PilotValue | None
    flips: tuple[Flip | None, Flip | None]
    arms: tuple[ArmOutlook, ...]
    best: ArmOutlook
    not_measured: tuple[str, ...]
    networks: tuple[NetworkRow, ...] = ()


@dataclass(frozen=True)
class _Case:
    """A question and the curves that answer it: one for the scores, one for what a training costs."""

    question: Question
    curve: Curve
    priced_by: Curve

    def gain(self, n_records: int) -> Floats:
        """Return draws of the gain."""
        scratch, fine_tuned = (self.curve.scores(arm, n_records)[:, 0] for arm in (SCRATCH, FINE_TUNE))
        return fine_tuned - scratch

    @cached_property
    def grids(self) -> dict[str, ScoreGrid]:
        """Scores of each measured arm's strategy over the evidence's reach."""
        curve = self.curve
        smallest, largest, chance = min(curve.sizes), max(curve.sizes), chance_level(curve.metric)
        return {
            arm.strategy: score_grid(curve.draws[arm.strategy], smallest, largest, chance)
            for arm in arms_in(curve.draws)
        }

    def worth(self, n_records: int, arm: str = FINE_TUNE, other: str = SCRATCH) -> Floats:
        """Return draws of what pre-training is worth: how many more records the other arm needs to score the same."""
        return self.grids[other].reaching_from(n_records, self.curve.scores(arm, n_records)[:, 0]) - n_records

    def pays(self, arm: Arm, other: Arm) -> bool:
        """Say whether an arm more likely than not gains more than the margin, and is expected to pay for itself."""
        question, n = self.question, self.question.n_records
        gain = (self.curve.scores(arm.strategy, n) - self.curve.scores(other.strategy, n))[:, 0]
        saving = self._save(n, arm, other)
        return is_material(gain, question.margin) and (saving is None or saving.expected > 0)

    def cost(self, n_records: int) -> dict[str, Cost]:
        """Return what a training of each arm and the pre-training cost."""
        return charge(self.priced_by, n_records, self.question.device_speed)

    def saving(self, n_records: int) -> Saving | None:
        """Return what a pre-training saves over scratch, None where there are no prices."""
        return self._save(n_records, *PAIR)

    def _save(self, n_records: int, arm: Arm, other: Arm) -> Saving | None:
        worth = self.worth(n_records, arm.strategy, other.strategy)
        most = max(max(self.curve.sizes) * REACH - n_records, n_records)
        return weigh_saving(self.question, self.cost(n_records), worth, most, arm.field, other.field)

    def decide(self, n_records: int) -> Verdict:
        """Return the verdict."""
        gain, margin = self.gain(n_records), self.question.margin
        if not self.question.pays_pretraining:
            return decide(gain, margin)
        saving = self.saving(n_records)
        return decide_paid(gain, margin, None if saving is None else saving.expected)


def recommend(question: Question, curves: CurvesFile) -> Recommendation:
    """Answer a question from a curves file.

    Raises UnknownNameError for a name that does not exist, NoEvidenceError when nothing was measured near enough,
    NoRunsFromError, one of these, when no run starts from the network that is named.
    """
    if question.arch is not None:
        question = replace(question, arch=curves.spelled(question.arch))
    question = with_network_named(question, curves)
    if question.arch is not None:
        return _answer(question, choose_curve(question, question.arch, curves), curves)
    compared, left_out = choose_curves(question, curves)
    compared = sorted(compared, key=lambda curve: -_best_of_its_own(curve, question.n_records))
    rows = [_row(question, curve, curves) for curve in compared]
    answer = _answer(question, compared[0], curves)
    notes = [f"Not compared: {reason}." for reason in left_out]
    if len({row.precision for row in rows}) > 1:
        trained = ", ".join(f"{row.arch} in {in_words(row.precision)}" for row in rows)
        notes.append(f"The networks were trained in different precisions: {trained}.")
    return replace(answer, networks=tuple(rows), warnings=(*answer.warnings, *notes))


def _answer(question: Question, curve: Curve, curves: CurvesFile) -> Recommendation:
    n, case = question.n_records, _Case(question, curve, cost_curve(curve, curves))
    least, most = curve.reach
    gain, verdict = summarise_gain(case.gain(n), question.margin), case.decide(n)
    worth = case.worth(n)
    even = interval(case.grids[FINE_TUNE].last_ahead(case.grids[SCRATCH], question.margin))
    support, cost = curve.support(n), case.cost(n)
    money = count_money(question, cost, worth, case.saving(n))
    arms, best = _rank(case)
    pilot_value = value_pilot(arms, curve, n, question.margin, case.cost)
    scores = {one.strategy: one.score for one in arms}
    return Recommendation(
        question=question,
        curve=curve,
        curves=curves,
        verdict=verdict,
        why=_reason(case, verdict, _further_evidence(n, curve, pilot_value, arms[0])),
        scratch=scores[SCRATCH],
        fine_tune=scores[FINE_TUNE],
        gain=gain,
        worth_in_records=interval(worth),
        break_even=even,
        cost=cost,
        support=support,
        warnings=tuple(warn(question, curve, curves, support, (interval(worth), even), cost, money)),
        target=None
        if question.target is None
        else reach_target(question, question.target, case.grids, least, case.priced_by),
        money=money,
        more_records=add_records(question, curve, {best.arm.field: best.score.mean}),
        pilot_value=pilot_value,
        flips=find_flips(case.decide, n, verdict, least, most),
        arms=arms,
        best=best,
        not_measured=not_measured(curve),
    )


def _reason(case: _Case, verdict: Verdict, more: str) -> str:
    question, n = case.question, case.question.n_records
    gain = case.gain(n)
    saving = case.saving(n) if question.pays_pretraining else None
    if saving is not None:
        price = sum_in_words(abs(saving.expected))
        return explain_saving(n, verdict, gain, question.margin, saving.expected, saving.p_pays_off, price, more)
    if question.pays_pretraining:
        return explain_paid(n, verdict, gain, question.margin, more)
    return explain(n, verdict, gain, question.margin, more)


def _further_evidence(n_records: int, curve: Curve, pilot: PilotValue | None, first: ArmOutlook) -> str:
    """Say what would help to decide; after a pilot, how much more of it, or that more of it can win little."""
    if isinstance(curve, PilotCurve):
        if pilot is None:
            return f"more pairs of the pilot can win at most {first.expected_loss.mean:.3f} by a better choice of arm"
        return f"{count(pilot.pairs, 'more pair')} {at_sizes(pilot.sizes)} would help to decide"
    if isinstance(curve, PooledCurve):
        return "paired runs on your own records would help to decide"
    inside = min(curve.measured_sizes) <= n_records <= max(curve.measured_sizes)
    more = "more paired replicates" if inside else f"paired runs at {n_records:,} records"
    return f"{more} would help to decide"


def _best_of_its_own(curve: Curve, n_records: int) -> float:
    """Return a network's best expected score; random convolutions are the same ones next to every network."""
    own = [arm.strategy for arm in arms_in(curve.draws) if arm.strategy != RANDOM_CONVOLUTIONS]
    return max(float(curve.scores(strategy, n_records).mean()) for strategy in own)


def _row(question: Question, curve: Curve, curves: CurvesFile) -> NetworkRow:
    best = _rank(_Case(question, curve, cost_curve(curve, curves)))[1]
    support, seconds = curve.support(question.n_records), best.cost.seconds
    device = None if seconds is None else best.cost.device
    return NetworkRow(
        curve.arch, curve.family, best.arm.field, best.score, seconds, support, curve.precision, device
    )  # fmt: skip


def _rank(case: _Case) -> tuple[tuple[ArmOutlook, ...], ArmOutlook]:
    """Return all arms, and the one that is named first."""
    question = case.question
    arms = rank_arms(question, case.curve, case.cost(question.n_records))
    return arms, name_best(arms, case.pays if question.pays_pretraining else None)
