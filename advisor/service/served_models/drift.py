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
from advisor.service.served_models.drift_answer import ClassDrift, Drift, Kind, Prevalence, Scores, Share
from advisor.service.served_models.intake import MILLION, NOTES, Intake, kind_of
from engine.deploy.model_facts import ModelFacts
from engine.evaluation.score_histogram import known_histogram

LEAST_RECORDS = 30  # fewer say nothing
_NAMED = 5  # differences in the verdict; the document has all


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
    known = _counted(facts, "remarked", "usable")
    return _share(intake.noted, intake.records, known, enough)


def _unusable(facts: ModelFacts, intake: Intake, enough: bool) -> Share:
    known = _counted(facts, "unusable", "usable")
    expected = None if known is None else (known[0], sum(known))
    return _share(sum(intake.of("unusable").values()), _asked(intake), expected, enough)


def _counted(facts: ModelFacts, *names: str) -> tuple[int, int] | None:
    """Return two numbers of the training corpus, None where the model does not say them or there were no records."""
    first, second = (_signals(facts).get(name) for name in names)
    return (first, second) if isinstance(first, int) and isinstance(second, int) and first + second > 0 else None


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
