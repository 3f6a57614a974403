"""From scratch or from a pre-trained network, for the training that is asked for: what the adviser says, and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from advisor.answer.recommend import NoEvidenceError, Question, Recommendation, UnknownNameError, Verdict, recommend
from engine.recipes import Strategy
from models.errors import ExitCode, UserError
from studies.files.curves import CurvesFile

AUTO = "auto"
_DISCARDED: tuple[Verdict, ...] = ("scratch", "no-material-difference")


class NothingToStartFromError(UserError, LookupError):
    """A strategy that needs a pre-trained network, and none is available; the message says how to give one."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Choice:
    """How to train: ``upstream`` is the checkpoint to start from, None from scratch; ``why`` is one sentence.

    ``verdict`` is the adviser's, None where it was not asked or could not answer.
    """

    strategy: Strategy
    upstream: Path | None
    why: str
    verdict: Verdict | None = None


def choose_strategy(
    asked: str, arch: str, n_records: int, at_hand: Mapping[str, Path], trained_on: str | None, curves: CurvesFile,
    released: Iterable[str] = (),
) -> Choice:  # fmt: skip
    """Choose as asked, or for ``auto`` as the adviser says; where it does not decide, a network that is available is
    used.

    ``at_hand`` names the pre-trained networks that suit, best first, and ``trained_on`` is the task of the first;
    ``released`` names all that come with this version. Raises NothingToStartFromError.
    """
    name, upstream = next(iter(at_hand.items()), ("", None))
    if asked != AUTO:
        if asked == "scratch":
            return Choice("scratch", None, "From scratch, as asked.")
        if asked == "random-convolutions":
            return Choice("random-convolutions", None, "A regression on random convolutions, as asked.")
        if upstream is None:
            raise NothingToStartFromError(
                f"--strategy {asked} needs a pre-trained {arch} for these leads, and none is released with this "
                f"version ({', '.join(released) or 'it has no network'}): give a checkpoint's folder with --from"
            )
        (strategy,) = (known for known in get_args(Strategy) if known == asked)
        return Choice(strategy, upstream, f"Starting from {name}, as asked.")
    verdict, reason = _ask(arch, n_records, trained_on, curves)
    if verdict in _DISCARDED:
        return Choice("scratch", None, f"From scratch: {reason}", verdict)
    if upstream is not None:
        extra = "" if verdict == "fine-tune" else ", since it is available and takes no more epochs"
        return Choice("fine-tune", upstream, f"Fine-tuning {name}{extra}: {reason}", verdict)
    advised = "fine-tuning is advised, but " if verdict == "fine-tune" else ""
    why = f"From scratch: {advised}no pre-trained {arch} for these leads is available (--from). {reason}"
    return Choice("scratch", None, why, verdict)


def _ask(arch: str, n_records: int, trained_on: str | None, curves: CurvesFile) -> tuple[Verdict | None, str]:
    """Return the verdict and the reason; about the available upstream where the evidence has it, else about any."""
    answer: Recommendation | None = None
    reason = ""
    for upstream in dict.fromkeys((trained_on, None)):
        try:
            answer = recommend(Question(n_records, arch, upstream=upstream), curves)
            break
        except (UnknownNameError, NoEvidenceError) as error:
            reason = f"The adviser has no answer: {error}."
    return (None, reason) if answer is None else (answer.verdict, f"{answer.why} (Evidence: {curves.study}.)")
