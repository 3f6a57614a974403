"""Which arm to train, from which pre-trained network if any, as asked or as the adviser says, and why.

Where further arms were measured ``auto`` takes the one with the best expected score, of those that the networks at hand
allow: it is the one with the least expected loss. Of arms that are tied with it, which differ from it by at most the
margin with the probability that a verdict requires, the cheapest is taken. Where only fine-tuning and scratch were
measured it follows the verdict on the two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from advisor.answer.arms import cheapest_tie
from advisor.answer.decision import probability
from advisor.answer.recommend import NoEvidenceError, Question, Recommendation, UnknownNameError, Verdict, recommend
from advisor.answer.words import compares_more
from engine.recipes import Strategy
from models.errors import ExitCode, UserError
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curves import CurvesFile
from studies.files.label_levels import Label

AUTO = "auto"
_DISCARDED: tuple[Verdict, ...] = ("scratch", "no-material-difference")
_TRAINING = {
    FINE_TUNE: "Fine-tuning {}",
    SCRATCH: "From scratch",
    LINEAR_PROBE: "A linear probe of {}",
    RANDOM_CONVOLUTIONS: "Random convolutions",
}


class NothingToStartFromError(UserError, LookupError):
    """A strategy that needs a pre-trained network, and none is available; the message says how to give one."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Choice:
    """How to train: ``upstream`` is the checkpoint to start from, None from scratch; ``why`` is one sentence.

    ``verdict`` is the adviser's, None where it was not asked or could not answer, and ``recipe`` that of the runs which
    it rests on, None where that is not known; ``tasks`` are those that were measured for it.
    """

    strategy: Strategy
    upstream: Path | None
    why: str
    verdict: Verdict | None = None
    recipe: str | None = None
    tasks: tuple[str, ...] = ()


def choose_strategy(
    asked: str, arch: str, n_records: int, at_hand: Mapping[str, Path], trained_on: str | None, curves: CurvesFile,
    released: Iterable[str] = (), leads: str = "these leads", labels: tuple[Label, ...] = (),
) -> Choice:  # fmt: skip
    """Choose as asked, or for ``auto`` as the adviser says; where it does not decide, a network that is available is
    used.

    ``at_hand`` names the pre-trained networks that suit, best first, and ``trained_on`` is the task of the first;
    ``released`` names all that come with this version, ``leads`` the records' leads in words; ``labels`` are theirs.
    Raises NothingToStartFromError.
    """
    name, upstream = next(iter(at_hand.items()), ("", None))
    if asked != AUTO:
        if asked in (SCRATCH, RANDOM_CONVOLUTIONS):
            return Choice(cast(Strategy, asked), None, f"{_TRAINING[asked]}, as asked.")
        if upstream is None:
            raise NothingToStartFromError(
                f"--strategy {asked} needs a pre-trained {arch} for {leads} at this rate and length, and none is "
                f"released with this version ({', '.join(released) or 'it has no network'}): give a checkpoint's "
                "folder with --from"
            )
        return Choice(cast(Strategy, asked), upstream, f"Starting from {name}, as asked.")
    answer, reason = _ask(Question(n_records, arch, labels=labels), trained_on, curves)
    chosen = _as_advised(answer, reason, arch, name, upstream, leads)
    return chosen if answer is None else replace(chosen, tasks=answer.curve.measured_tasks)


def _as_advised(
    answer: Recommendation | None, reason: str, arch: str, name: str, upstream: Path | None, leads: str
) -> Choice:
    """Choose by an answer, or without one, as ``choose_strategy`` says."""
    if answer is not None and compares_more(answer):
        return _best_of_all(answer, name, upstream)
    verdict, recipe = (None, None) if answer is None else (answer.verdict, answer.curve.recipe)
    if verdict in _DISCARDED:
        return Choice("scratch", None, f"From scratch: {reason}", verdict, recipe)
    if upstream is not None:
        extra = "" if verdict == "fine-tune" else ", since it is available and takes no more epochs"
        return Choice("fine-tune", upstream, f"Fine-tuning {name}{extra}: {reason}", verdict, recipe)
    advised = "fine-tuning is advised, but " if verdict == "fine-tune" else ""
    why = (
        f"From scratch: {advised}no pre-trained {arch} for {leads} at this rate and length is available (--from). "
        f"{reason}"
    )
    return Choice("scratch", None, why, verdict, recipe)


def _best_of_all(answer: Recommendation, name: str, upstream: Path | None) -> Choice:
    """Choose among all measured arms, without those that need a pre-trained network where none is available."""
    possible = [one for one in answer.arms if upstream is not None or not one.arm.is_pretrained]
    best, chosen = possible[0], cheapest_tie(possible, answer.curve, answer.question)
    first = IN_WORDS[answer.arms[0].strategy]
    missed = "" if best is answer.arms[0] else f"{first} is ahead, but no pre-trained network is available; "
    loss = chosen.expected_loss
    why = (
        f"{_TRAINING[chosen.strategy].format(name)}: {missed}with {answer.question.n_records:,} records "
        + (
            f"the best expected score of {len(possible)} arms, {best.score.mean:.3f}"
            if chosen is best
            else f"the cheapest of those within {answer.question.margin:g} of {IN_WORDS[best.strategy]}, the best"
        )
        + f" (probability {probability(chosen.p_best)} to be the best; loses {loss.mean:.3f} on average, at most "
        f"{loss.upper:.3f} in 90 %). (Evidence: {answer.curves.study}.)"
    )
    start = upstream if chosen.arm.is_pretrained else None
    return Choice(cast(Strategy, chosen.strategy), start, why, answer.verdict, answer.curve.recipe)


def _ask(question: Question, trained_on: str | None, curves: CurvesFile) -> tuple[Recommendation | None, str]:
    """Return the answer and its reason; about the available upstream where the evidence has it, else about any."""
    answer: Recommendation | None = None
    reason = ""
    for upstream in dict.fromkeys((trained_on, None)):
        try:
            answer = recommend(replace(question, upstream=upstream), curves)
            break
        except (UnknownNameError, NoEvidenceError) as error:
            reason = f"The adviser has no answer: {error}."
    return answer, reason if answer is None else f"{answer.why} (Evidence: {curves.study}.)"
