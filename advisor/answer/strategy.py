"""Which arm to train, from which pre-trained network if any, as asked or as the adviser says, and why.

Where further arms were measured ``auto`` trains the one that the answer names, of those that the networks available
allow. Where only fine-tuning and scratch were measured it follows the verdict on the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

from advisor.answer.decision import losing
from advisor.answer.recommend import Recommendation, Verdict
from advisor.answer.words import compares_more, why_best
from engine.recipes import Strategy
from models.errors import ExitCode, UserError
from studies.files.arms import FINE_TUNE, IN_WORDS, LINEAR_PROBE, RANDOM_CONVOLUTIONS, SCRATCH

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
    """How to train: ``starts`` says that the pre-trained network available is started from; ``why`` is in sentences.

    ``verdict`` is the adviser's, None where it was not asked or could not answer, and ``recipe`` that of the runs which
    it rests on, None where that is not known.
    """

    strategy: Strategy
    starts: bool
    why: str
    verdict: Verdict | None = None
    recipe: str | None = None


def choose_strategy(
    asked: str, arch: str, network: str | None, answer: Recommendation | None, reason: str = "",
    released: Iterable[str] = (), leads: str = "these leads",
) -> Choice:  # fmt: skip
    """Choose as asked, or for ``auto`` as the adviser says; where it does not decide, a network that is available is
    used.

    ``network`` is the name of the pre-trained one that is available; ``answer`` is the adviser's, None with the
    ``reason`` where it has none. ``released`` names all that are known by name, ``leads`` the records' leads in
    words. Raises NothingToStartFromError.
    """
    if asked != AUTO:
        if asked in (SCRATCH, RANDOM_CONVOLUTIONS):
            return Choice(cast(Strategy, asked), False, f"{_TRAINING[asked]}, as asked.")
        if network is None:
            raise NothingToStartFromError(
                f"--strategy {asked} needs a pre-trained {arch} for {leads} at this rate and length, and none "
                f"of those released or added is ({', '.join(released) or 'there are none'}): give a checkpoint's "
                "folder with --from"
            )
        return Choice(cast(Strategy, asked), True, f"Starting from {network}, as asked.")
    if answer is not None and compares_more(answer):
        return _best_of_all(answer, network)
    verdict, recipe = (None, None) if answer is None else (answer.verdict, answer.curve.recipe)
    said = f"The adviser has no answer: {reason}." if answer is None else f"{answer.why} {_evidence(answer)}"
    if verdict in _DISCARDED:
        return Choice("scratch", False, f"From scratch: {said}", verdict, recipe)
    if network is not None:
        extra = "" if verdict == "fine-tune" else ", since it is available and takes no more epochs"
        return Choice("fine-tune", True, f"Fine-tuning {network}{extra}: {said}", verdict, recipe)
    advised = "fine-tuning is advised, but " if verdict == "fine-tune" else ""
    why = (
        f"From scratch: {advised}no pre-trained {arch} for {leads} at this rate and length is available (--from). "
        f"{said}"
    )
    return Choice("scratch", False, why, verdict, recipe)


def as_begun(begun: Choice, advised: Choice) -> Choice:
    """Return the choice of a training that goes on as it was ``begun`` where the adviser says otherwise by now.

    It does after a pilot that was made meanwhile: half a training by each of two strategies would be none by either.
    """
    why = f"Going on with strategy {begun.strategy}, as this training was begun; the adviser now says: {advised.why}"
    return replace(begun, why=why, verdict=advised.verdict, recipe=advised.recipe)


def _best_of_all(answer: Recommendation, network: str | None) -> Choice:
    """Take the arm that the answer names, else the best of those that need no pre-trained network."""
    named = answer.best
    if network is None and named.arm.is_pretrained:
        chosen = next(one for one in answer.arms if not one.arm.is_pretrained)
        why = (
            f"{_TRAINING[chosen.strategy]}: no pre-trained {answer.curve.arch} that takes these records is available "
            f"(--from), and {IN_WORDS[named.strategy]} is advised. {why_best(answer)} What is trained in its place "
            f"loses {losing(chosen.expected_loss, answer.question.margin)}."
        )
    else:
        chosen, why = named, f"{_TRAINING[named.strategy].format(network)}. {why_best(answer)}"
    why = f"{why} {_evidence(answer)}"
    return Choice(cast(Strategy, chosen.strategy), chosen.arm.is_pretrained, why, answer.verdict, answer.curve.recipe)


def _evidence(answer: Recommendation) -> str:
    return f"(Evidence: {answer.curves.study}.)"
