"""Whether what a model is given is like what it was tested on: from counts, without labels and without records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from advisor.service.served_models.differences import (
    LEVEL,
    compare_histograms,
    holm,
    shares_differ,
    wilson_interval,
)
from advisor.service.served_models.intake import MILLION, NOTES, Intake, kind_of
from engine.deploy.model_facts import ModelFacts
from engine.evaluation.score_histogram import known_histogram

LEAST_RECORDS = 30  # fewer say nothing
_NAMED = 5  # differences in the verdict; the document has all
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


def drift(model: str, facts: ModelFacts, intake: Intake, since: date | None = None) -> Drift:
    """Return how what came in differs from what the model was tested on.

    Of a class the share of positive decisions that is expected is that of the test records, which is
    ``sensitivity * prevalence + (1 - specificity) * (1 - prevalence)``.
    """
    enough, asked = intake.records >= LEAST_RECORDS, _asked(intake)
    classes = [_class(facts, name, intake, enough) for name in facts.classes]
    noted, unusable = _noted(facts, intake, enough), _unusable(facts, intake, asked >= LEAST_RECORDS)
    classes, (noted, unusable), tests = _corrected(classes, (noted, unusable))
    differences = tuple(_differences(classes, noted, unusable))
    return Drift(
        model, since, intake.first_day, intake.last_day, intake.days, intake.records,
        verdict=_verdict(intake.records, tests, differences),
        differs=bool(differences) if differences or (enough and tests) else None,
        differences=differences, tests=tests, level=LEVEL, classes=tuple(classes), noted=noted, unusable=unusable,
        notes=_notes(facts, intake), problems=_kinds(intake.of("unusable"), asked),
        fs=intake.of("fs"), leads=intake.of("leads"),
    )  # fmt: skip


def _class(facts: ModelFacts, name: str, intake: Intake, enough: bool) -> ClassDrift:
    tested, n = _tested(facts, name), intake.records
    positive = intake.counts.get(("positive", name), 0)
    mean = intake.counts.get(("millionths", name), 0) / MILLION / n if n else None
    test = None if tested is None else tested.positives / tested.records
    prevalence = Prevalence(test, mean, None if tested is None or not n else tested.prevalence_behind(positive / n))
    expected = None if tested is None else (tested.decided, tested.records)
    return ClassDrift(name, _share(positive, n, expected, enough), prevalence, _scores(facts, name, intake, enough))


@dataclass(frozen=True)
class _Tested:
    """What the facts say of a class's test records: how many, and how many of them were decided to have it."""

    positives: int
    records: int
    sensitivity: float
    specificity: float

    @property
    def decided(self) -> int:
        negatives = self.records - self.positives
        return round(self.sensitivity * self.positives + (1 - self.specificity) * negatives)

    def prevalence_behind(self, share: float) -> float | None:
        informed = self.sensitivity + self.specificity - 1
        return min(1.0, max(0.0, (share + self.specificity - 1) / informed)) if informed > 0 else None


def _tested(facts: ModelFacts, name: str) -> _Tested | None:
    """Return what is known of the test records, None where it is not; of only one outcome the other rate counts 0."""
    known = facts.evaluation.get("classes", {}).get(name, {})
    positives, negatives = (known.get(outcome) for outcome in ("positives", "negatives"))
    if not isinstance(positives, int) or not isinstance(negatives, int) or positives + negatives < 1:
        return None
    sensitivity, specificity = known.get("sensitivity"), known.get("specificity")
    if (positives and sensitivity is None) or (negatives and specificity is None):
        return None
    return _Tested(positives, positives + negatives, sensitivity or 0.0, specificity or 0.0)


def _share(with_it: int, n: int, expected: tuple[int, int] | None, enough: bool) -> Share:
    lower, upper = wilson_interval(with_it, n)
    p_value = shares_differ((with_it, n), expected) if enough and expected is not None else None
    return Share(
        expected=None if expected is None else expected[0] / expected[1],
        observed=with_it / n if n else None, lower=lower, upper=upper, n=n, p_value=p_value,
    )  # fmt: skip


def _scores(facts: ModelFacts, name: str, intake: Intake, enough: bool) -> Scores:
    expected, observed = known_histogram(facts.record, name), intake.bins(name)
    if expected is None:
        return Scores(None, observed, reason="the model does not say how its test scores are distributed")
    if not enough:
        return Scores(expected, observed, reason=f"fewer than {LEAST_RECORDS} records")
    found = compare_histograms(observed, expected)
    if found is None:
        return Scores(expected, observed, reason="too few scores lie outside of one bin")
    return Scores(expected, observed, found.psi, found.usual_psi, found.bins, found.p_value)


def _signals(facts: ModelFacts) -> Mapping[str, Any]:
    """Return how the records of the training corpus were, empty where the model does not say."""
    known = facts.record.get("signals")
    return known if isinstance(known, Mapping) else {}


def _noted(facts: ModelFacts, intake: Intake, enough: bool) -> Share:
    usable, remarked = (_signals(facts).get(name) for name in ("usable", "remarked"))
    known = isinstance(usable, int) and isinstance(remarked, int) and usable > 0
    return _share(intake.noted, intake.records, (remarked, usable) if known else None, enough)  # type: ignore[arg-type]


def _unusable(facts: ModelFacts, intake: Intake, enough: bool) -> Share:
    usable, unusable = (_signals(facts).get(name) for name in ("usable", "unusable"))
    known = isinstance(usable, int) and isinstance(unusable, int) and usable + unusable > 0
    expected = (unusable, usable + unusable) if known else None  # type: ignore[operator]
    return _share(sum(intake.of("unusable").values()), _asked(intake), expected, enough)  # type: ignore[arg-type]


def _asked(intake: Intake) -> int:
    return intake.records + sum(intake.of("unusable").values())


def _notes(facts: ModelFacts, intake: Intake) -> tuple[Kind, ...]:
    """Return the notes of what came in next to those of the training corpus; one with two of a kind counts twice."""
    known, usable = _signals(facts).get("kinds"), _signals(facts).get("usable")
    if not isinstance(known, Mapping) or not isinstance(usable, int) or not usable:
        return _kinds(intake.of("note"), intake.records)
    expected: dict[str, int] = {}
    for sentence, n in known.items():
        kind = kind_of(sentence, NOTES)
        expected[kind] = expected.get(kind, 0) + n
    shares = {kind: min(1.0, n / usable) for kind, n in expected.items()}
    return _kinds({**dict.fromkeys(shares, 0), **intake.of("note")}, intake.records, shares)


def _kinds(counts: Mapping[str, int], n: int, expected: Mapping[str, float] | None = None) -> tuple[Kind, ...]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    known = {} if expected is None else {**dict.fromkeys(counts, 0.0), **expected}
    return tuple(Kind(kind, found, found / n if n else 0.0, known.get(kind)) for kind, found in ordered)


def _corrected(classes: Sequence[ClassDrift], shares: Sequence[Share]) -> tuple[list[ClassDrift], list[Share], int]:
    """Return the same with p-values corrected for the number of all tests, and that number."""
    raw = [p for one in classes for p in (one.positive.p_value, one.scores.p_value)] + [one.p_value for one in shares]
    adjusted = holm(raw)
    corrected = [
        replace(one, positive=replace(one.positive, p_holm=adjusted[2 * k]),
                scores=replace(one.scores, p_holm=adjusted[2 * k + 1]))
        for k, one in enumerate(classes)
    ]  # fmt: skip
    others = [replace(one, p_holm=p) for one, p in zip(shares, adjusted[2 * len(classes) :], strict=True)]
    return corrected, others, sum(p is not None for p in raw)


def _differences(classes: Sequence[ClassDrift], noted: Share, unusable: Share) -> list[str]:
    """Return a phrase for every difference, the surest first."""
    found = [(one.positive.p_holm, _decided_in(one)) for one in classes if _differs(one.positive)]
    found += [(one.scores.p_holm, _scored(one)) for one in classes if _differs(one.scores)]
    if _differs(noted):
        found.append((noted.p_holm, f"there are notes on {_against(noted, 'training records')}"))
    if _differs(unusable):
        found.append((unusable.p_holm, f"no prediction was possible for {_against(unusable, 'training records')}"))
    return [said for _, said in sorted(found, key=lambda one: one[0] or 0.0)]


def _differs(tested: Share | Scores) -> bool:
    return tested.p_holm is not None and tested.p_holm <= LEVEL


def _decided_in(one: ClassDrift) -> str:
    return f"{one.name} is decided in {_against(one.positive, 'test records')}"


def _scored(one: ClassDrift) -> str:
    index = f"index {one.scores.psi:.2f}, usually below {one.scores.usual_psi:.2f}"
    return f"the scores of {one.name} are distributed otherwise ({index})"


def _against(share: Share, others: str) -> str:
    assert share.observed is not None and share.expected is not None
    return f"{100 * share.observed:.1f} % of {share.n:,} records, {100 * share.expected:.1f} % of the {others}"


def _verdict(n: int, tests: int, differences: Sequence[str]) -> str:
    if differences:
        more = len(differences) - _NAMED
        return "differs: " + "; ".join([*differences[:_NAMED], *([f"and {more} more"] if more > 0 else [])])
    if n < LEAST_RECORDS:
        return f"too few records to say: {n} so far, and {LEAST_RECORDS} are needed"
    if not tests:
        return f"nothing to compare {n:,} records with: the model does not say what its test records were like"
    return f"no difference found in {n:,} records: {tests} comparisons at a level of {LEVEL:g} together"
