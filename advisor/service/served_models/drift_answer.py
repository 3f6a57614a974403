"""The answer on drift: what a model was given, next to what it was tested on, and what this cannot know."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

CANNOT_KNOW = (
    "The labels of what came in are not known: nothing here says how often the model was right.",
    "Other scores may come from other patients, other recorders or other software; these counts do not tell which.",
    "A finding whose appearance changes, and not its share or its scores, leaves no trace here.",
    "The mean probability follows a changed prevalence only in part: calibration holds for the prevalence of the test.",
    "Records are counted, not patients, and each of these as independent: several of one patient, or one sent twice, "
    "make a difference look surer than it is.",
    "With many records a difference that is too small to matter is found as well: look at the shares. Asked every "
    "day, one in many answers is a false alarm.",
)


@dataclass(frozen=True)
class Share:
    """A share of what came in, ``observed`` with its 90 % interval (Wilson), next to the ``expected`` one.

    ``p_value`` is Fisher's, ``p_holm`` the same corrected for all tests of the answer; null where nothing is expected.
    """

    expected: float | None
    observed: float | None
    lower: float
    upper: float
    n: int
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Scores:
    """How probabilities are distributed in ten equal bins, in the test and in what came in.

    ``psi`` is the population stability index, ``usual_psi`` what 95 of 100 do not exceed where nothing has changed,
    ``bins`` how many were compared; null with the ``reason``.
    """

    expected: tuple[int, ...] | None
    observed: tuple[int, ...]
    psi: float | None = None
    usual_psi: float | None = None
    bins: int | None = None
    p_value: float | None = None
    p_holm: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Prevalence:
    """The share of records that have a class: in the ``test``, and as the model estimates it for what came in.

    ``mean_probability`` is the mean of its calibrated probabilities. ``from_decisions`` corrects the share of positive
    decisions by sensitivity and specificity (Rogan and Gladen 1978, Am J Epidemiol 107:71):
    ``(share + specificity - 1) / (sensitivity + specificity - 1)``, within 0 and 1; null where that has no meaning.
    """

    test: float | None
    mean_probability: float | None
    from_decisions: float | None


@dataclass(frozen=True)
class ClassDrift:
    """One class. ``positive`` is the share of records whose probability reaches the threshold."""

    name: str
    positive: Share
    prevalence: Prevalence
    scores: Scores


@dataclass(frozen=True)
class Kind:
    """Records of one kind of note or problem; ``expected`` is the share of the training corpus that has it."""

    kind: str
    records: int
    share: float
    expected: float | None = None


@dataclass(frozen=True)
class Drift:
    """What a model was given since a day, against the facts that it carries; ``verdict`` is it in a sentence.

    ``differs`` is null where there are too few records, or nothing to compare with, to say. ``noted`` are records with
    a note, ``unusable`` those without a prediction; ``expected`` of both is the training corpus's. ``tests`` were
    made, at ``level`` together (Holm).
    """

    model: str
    since: date | None
    first_day: date | None
    last_day: date | None
    days: int
    records: int
    verdict: str
    differs: bool | None
    differences: tuple[str, ...]
    tests: int
    level: float
    classes: tuple[ClassDrift, ...]
    noted: Share
    unusable: Share
    notes: tuple[Kind, ...]
    problems: tuple[Kind, ...]
    fs: Mapping[str, int]
    leads: Mapping[str, int]
    cannot_know: tuple[str, ...] = CANNOT_KNOW
