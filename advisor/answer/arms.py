"""Which of the measured arms to train: what each is expected to score, and what choosing it may lose.

A network has to be trained in any case, so that the arm with the best expected score is named, whatever the
probability; how sure that is, is said by the probability that it is the best and by what it loses where it is not.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from advisor.answer.costs import UNKNOWN, Bill, Cost, bill
from advisor.answer.question import Question
from advisor.answer.scores import Score, summarise_score
from studies.files.arms import ARMS, CHEAPEST_FIRST, SCRATCH, Arm, arms_in
from studies.files.curve import Curve, PilotCurve, PooledCurve
from studies.files.draws import BAND, Floats, quantiles
from studies.files.gain import Loss, name_first, summarise_loss

_OFFERED_FROM = 1 / 3  # of the margin: a pilot that can win less is not worth an afternoon
_PAIRS = 2  # of a pilot that is offered, fewer where its seed takes no more
PILOT_RECORDS = 20  # at least, at the smallest size of a pilot
PILOT_PAIRS = 5  # at most, at each size of a pilot with one seed


@dataclass(frozen=True)
class Difference:
    """An arm's expected score less that of scratch, with the 90 % band."""

    mean: float
    mean_ci_lower: float
    mean_ci_upper: float


@dataclass(frozen=True)
class ArmOutlook:
    """What is expected of one arm at the asker's number of records.

    ``difference`` is None of scratch itself. ``p_best`` is the share of draws in which its expected score is the
    highest; draws in which several are count in parts. ``bill`` is None where no price was given.
    """

    arm: Arm
    score: Score
    difference: Difference | None
    p_best: float
    expected_loss: Loss
    cost: Cost
    bill: Bill | None

    @property
    def strategy(self) -> str:
        """The strategy of its runs."""
        return self.arm.strategy


def rank_arms(question: Question, curve: Curve, cost: Mapping[str, Cost]) -> tuple[ArmOutlook, ...]:
    """Return the arms that a curve has, best expected score first (``name_first``); ``cost`` is that of each."""
    arms, n = arms_in(curve.draws), question.n_records
    scores = np.stack([curve.scores(arm.strategy, n)[:, 0] for arm in arms])  # (arms, draws)
    highest = scores.max(axis=0)
    is_best = scores == highest
    p_best = (is_best / is_best.sum(axis=0)).mean(axis=1)
    scratch = scores[[arm.strategy for arm in arms].index(SCRATCH)]
    found = [
        ArmOutlook(
            arm=arm,
            score=summarise_score(curve, arm.strategy, n),
            difference=None if arm.strategy == SCRATCH else _summarise(drawn - scratch),
            p_best=float(p_best[k]),
            expected_loss=summarise_loss(highest - drawn),
            cost=cost.get(arm.field, UNKNOWN),
            bill=bill(arm.field, cost, question, n) if question.is_priced else None,
        )
        for k, (arm, drawn) in enumerate(zip(arms, scores, strict=True))
    ]
    first = name_first({arm.strategy: drawn for arm, drawn in zip(arms, scores, strict=True)})
    return tuple(sorted(found, key=lambda one: (one.strategy != first, -one.score.mean, _place(one))))


def _summarise(draws: Floats) -> Difference:
    low, high = quantiles(draws, BAND)
    return Difference(float(draws.mean()), low, high)


def name_best(ranked: Sequence[ArmOutlook], pays: Callable[[Arm, Arm], bool] | None) -> ArmOutlook:
    """Return the arm to be named first: the best expected score, of those that are worth their pre-training.

    ``pays`` is None where a pre-training costs nothing; else it says whether an arm is worth one next to another arm,
    here the best that needs none.
    """
    without = next((one for one in ranked if not one.arm.is_pretrained), None)
    if pays is None or without is None:
        return ranked[0]
    ahead = ranked[: ranked.index(without)]
    return next((one for one in ahead if pays(one.arm, without.arm)), without)


def _place(one: ArmOutlook) -> int:
    return CHEAPEST_FIRST.index(one.strategy)


@dataclass(frozen=True)
class PilotValue:
    """What ``pairs`` of trainings at each of ``sizes`` can win: ``at_most`` of the score, on average over datasets.

    That is the expected value of perfect information on the choice. ``n_records`` is the largest size. ``seconds`` is
    how long they take on the device of the costs, None where that is not known.
    """

    at_most: float
    n_records: int
    pairs: int
    seconds: float | None
    sizes: tuple[int, ...]


def half_of(n_records: int) -> int:
    """Return the number of records at which pairs say something of the choice at ``n_records``: half of them."""
    return max(n_records // 2, 2)


def value_pilot(
    arms: Sequence[ArmOutlook], curve: Curve, n_records: int, margin: float, cost: Callable[[int], Mapping[str, Cost]]
) -> PilotValue | None:
    """Return what a pilot can win, or after one what more of its pairs can; None where that is next to nothing.

    None too for a curve of a task that was measured, and where half of the records are fewer than a pilot takes.
    ``arms`` are ranked, and ``cost`` is that of each at a number of records. Without more runs the first arm is
    trained, which loses its expected loss against the best of all; no pilot can win more than that. Pairs that are
    added to a pilot are of its sizes; how long they take is known where the costs are of a device that it ran on.
    """
    at_most, sizes = arms[0].expected_loss.mean, _pilot_sizes(curve, n_records)
    if not sizes or at_most <= _OFFERED_FROM * margin:
        return None
    charged = [of_size[arm.field] for of_size in map(cost, sizes) for arm in ARMS if arm.field in of_size]
    known = [one.seconds for one in charged if one.seconds is not None and _is_of_pilot(one, curve)]
    pairs = min(_PAIRS, seed_with_room(curve)[1]) if isinstance(curve, PilotCurve) else _PAIRS
    whole = pairs * sum(known) if len(known) == len(charged) and known else None
    return PilotValue(at_most, sizes[-1], pairs, whole, sizes)


def seed_with_room(curve: PilotCurve) -> tuple[int, int]:
    """Return the first seed with which a pilot can have more pairs at each size, and how many more."""
    return next((seed, room) for seed in itertools.count() if (room := PILOT_PAIRS - curve.seeds.get(seed, 0)) > 0)


def _pilot_sizes(curve: Curve, n_records: int) -> tuple[int, ...]:
    if isinstance(curve, PilotCurve):
        return tuple(sorted(curve.points[SCRATCH]))
    half = half_of(n_records)
    return (half,) if isinstance(curve, PooledCurve) and half >= PILOT_RECORDS else ()


def _is_of_pilot(cost: Cost, curve: Curve) -> bool:
    """Say whether a time is of the device that a pilot ran on, or is the asker's; before a pilot nobody knows it."""
    return not isinstance(curve, PilotCurve) or cost.your_seconds is not None or cost.device in curve.devices


def not_measured(curve: Curve) -> tuple[str, ...]:
    """Return the strategies of the arms that a curve does not have, nor a pilot measured."""
    measured = {arm for arm, scores in curve.points.items() if scores} if isinstance(curve, PilotCurve) else set()
    return tuple(arm.strategy for arm in ARMS if arm.strategy not in {*curve.draws, *measured})
