"""Which labels the records have that a corpus leaves out: where they are not left out at random, whoever trains knows.

A record that cannot be read may still have its labels in a table. Where the shares of a label among the excluded and
the kept records differ, a network does not learn from a part of those it is meant for, and its test has none of them.

A label differs by two criteria together. Fisher's exact test of having the label against being excluded, two-sided,
rejects at 1 % after Holm's correction over the labels: among many labels some differ by chance. And the exclusion
changes the share of the rarer outcome, having the label or lacking it, by a tenth of itself or more (30 % of the
records become 27 %, 1 % becomes 0.9 %): with thousands of excluded records any difference is significant. The change is
counted against the share itself and not in percentage points, in which a rare label that loses half of its records has
not changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.corpora.corpus import Corpus, TaskData

_LEVEL = 0.01  # of the tests together
_NOTABLE = 0.1  # of a label's share: a smaller change is none that matters
_NAMED = 3


@dataclass(frozen=True)
class ExcludedLabel:
    """A label: ``records`` of the excluded ones whose labels are known have it, ``kept`` of those in the corpus."""

    records: int
    kept: int
    differs: bool


@dataclass(frozen=True)
class Exclusion:
    """``records`` of ``listed`` are excluded; the labels of ``known`` of these are known."""

    records: int
    listed: int
    known: int
    labels: Mapping[str, ExcludedLabel]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return {
            "records": self.records,
            "of": self.listed,
            "labels_known": self.known,
            "classes": {
                name: {"records": one.records, "kept": one.kept, "differs": one.differs}
                for name, one in self.labels.items()
            },
        }

    def warning(self) -> str | None:
        """Say which labels differ, the most excluded first; None where none does."""
        differing = {name: one for name, one in self.labels.items() if one.differs}
        if not differing:
            return None
        ordered = sorted(differing.items(), key=lambda item: -item[1].records)
        named = "; ".join(self._in_words(name, one) for name, one in ordered[:_NAMED])
        more = f"; and {len(ordered) - _NAMED} more labels differ" if len(ordered) > _NAMED else ""
        return (
            f"{self.records:,} of {self.listed:,} records cannot be used{self._unknown()}; {named}{more}: what a "
            "network learns and every score is without them"
        )

    def counts(self) -> str:
        """Say how many of them have each label, the most frequent first."""
        ordered = sorted(self.labels.items(), key=lambda item: -item[1].records)
        named = ", ".join(f"{name} {one.records:,}" for name, one in ordered[:_NAMED])
        more = f" and {len(ordered) - _NAMED} more labels" if len(ordered) > _NAMED else ""
        return f"{named}{more}{self._unknown()}" if self.known else "their labels are not known"

    def _in_words(self, name: str, one: ExcludedLabel) -> str:
        of_kept = f"{percent(one.kept / (self.listed - self.records))} of those kept"
        which = f"{self.known:,}" + (" whose labels are known" if self.known < self.records else "")
        if one.records == self.known:
            return f"all {which} have {name} ({of_kept})" if self.known > 1 else f"the one has {name} ({of_kept})"
        which = f"the {which}"
        if not one.records:
            return f"none of {which} has {name} ({of_kept})"
        return f"{one.records:,} of {which} have {name} ({percent(one.records / self.known)}; {of_kept})"

    def _unknown(self) -> str:
        unknown = self.records - self.known
        return f" (the labels of {unknown:,} are not known)" if unknown else ""


def exclusion(corpus: Corpus, data: TaskData) -> Exclusion | None:
    """Return how the records that a corpus leaves out are labelled, as the classes of ``data``, one of its tasks.

    None where it leaves out none, and for a corpus of an older version, which did not keep their labels.
    """
    kept = corpus.manifest.get("unusable_labels")
    if not kept:
        return None
    task = data.name.partition("/")[2]
    unions = corpus.classes_of(task)
    if corpus.is_labelled_only(task):  # the task has none of the records without a class
        every = {label for union in unions.values() for label in union}
        kept = [[labels, n] for labels, n in kept if labels is None or not every.isdisjoint(labels)]
    counts = dict(zip(data.classes, data.labels.sum(axis=0, dtype=int).tolist(), strict=True))
    return compare_labels(kept, {name: unions[name] for name in data.classes}, counts, len(data.rows))


def compare_labels(
    excluded: Sequence[Sequence[Any]], classes: Mapping[str, Iterable[str]], kept: Mapping[str, int], n_kept: int
) -> Exclusion:
    """Compare the labels of ``excluded`` records, as a manifest has them, with the counts of ``n_kept`` others."""
    known = [(set(labels), int(n)) for labels, n in excluded if labels is not None]
    records, n_known = sum(int(n) for _, n in excluded), sum(n for _, n in known)
    with_it = {name: sum(n for labels, n in known if not labels.isdisjoint(union)) for name, union in classes.items()}
    differ = _differing([(with_it[name], n_known, kept[name], n_kept) for name in classes])
    labels = {name: ExcludedLabel(with_it[name], kept[name], one) for name, one in zip(classes, differ, strict=True)}
    return Exclusion(records, records + n_kept, n_known, labels)


def _differing(tables: Sequence[tuple[int, int, int, int]]) -> list[bool]:
    """Return for (with the label, of the excluded, with it, of the kept) whether the shares differ, by both criteria.

    Labels that cannot differ notably are tested all the same, or Holm's correction would depend on what was found.
    """
    if not tables:
        return []
    p_values = np.array([_fisher(*table) for table in tables])
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(tables), 0, -1)
    adjusted = np.empty(len(tables))
    adjusted[order] = np.maximum.accumulate(steps)
    return [bool(p <= _LEVEL and _changes(*table)) for p, table in zip(adjusted, tables, strict=True)]


def _fisher(with_it: int, excluded: int, kept_with_it: int, kept: int) -> float:
    from scipy.stats import fisher_exact

    return float(fisher_exact([[with_it, excluded - with_it], [kept_with_it, kept - kept_with_it]])[1])


def _changes(with_it: int, excluded: int, kept_with_it: int, kept: int) -> bool:
    """Whether the share of the rarer outcome among the kept is another than among all by a tenth or more."""
    if not kept:
        return False
    both = (with_it + kept_with_it) / (excluded + kept)
    of_kept = kept_with_it / kept
    return bool(abs(both - of_kept) >= _NOTABLE * min(both, 1 - both) > 0)


def percent(share: float) -> str:
    """Write a share of records."""
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"
