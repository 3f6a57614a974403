"""How records are recorded where the evidence's are recorded otherwise: leads, rate and length, task by task."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.corpora.corpus import Corpus
from engine.records.lead_names import leads_in_words
from studies.files.transferability import TaskFacts

_RATES = 3  # that are named


@dataclass(frozen=True)
class _Verb:
    """The forms of a verb, for one subject and for many, with what follows and for short."""

    one: str
    many: str
    short_one: str
    short_many: str


_HAVE, _ARE = _Verb("has", "have", "does", "do"), _Verb("is", "are", "is", "are")


def signal_differences(corpus: Corpus, facts: Mapping[str, TaskFacts], tasks: Sequence[str]) -> tuple[str, ...]:
    """Say which of leads, rate and length most of the evidence's ``tasks`` do not share with the records of a corpus.

    What more than half of them share is not said: it is the evidence's own. ``facts`` are those of
    ``transferability.json``; a task without any does not count, and without one there is nothing to compare. The rate
    at which the records were recorded is said where it is not the one at which they are used.
    """
    known = [facts[task] for task in tasks if task in facts]
    return (*_compared(corpus, known), *_resampled(corpus))


def _compared(corpus: Corpus, known: Sequence[TaskFacts]) -> Iterator[str]:
    if not known:
        return
    mine = corpus.contract
    yield from _aspect(_HAVE, leads_in_words(mine.leads), [leads_in_words(one.leads) for one in known])
    yield from _aspect(_ARE, f"at {mine.fs:g} Hz", [f"at {one.fs:g} Hz" for one in known])
    yield from _aspect(_ARE, f"of {mine.seconds:g} s", [f"of {one.seconds:g} s" for one in known])


def _aspect(verb: _Verb, mine: str, theirs: Sequence[str]) -> Iterator[str]:
    total, same = len(theirs), theirs.count(mine)
    if 2 * same > total:
        return
    counts = Counter(one for one in theirs if one != mine).most_common()
    others = ", ".join(f"{n} {verb.one if n == 1 else verb.many} {words}" for words, n in counts)
    start = f"These records {verb.many} {mine}"
    if same:
        short = verb.short_one if same == 1 else verb.short_many
        rest = "the expected scores and gains rest on all of them"
        yield f"{start}: {same} of the evidence's {total} tasks {short}, {others}; {rest}."
        return
    of_many = f"none of the evidence's {total} tasks {verb.short_one}, {others}"
    tasks = of_many if total > 1 else f"the evidence's {theirs[0]}"
    yield f"{start}: {tasks}; nothing was measured with such records."


def _resampled(corpus: Corpus) -> Iterator[str]:
    """Say at which rates the records were recorded, where their corpus knows it and that is another."""
    rates: Sequence[tuple[float, int]] = corpus.manifest.get("recorded", {}).get("fs", ())
    if all(fs == corpus.fs for fs, _ in rates):
        return
    named = [f"{fs:g} Hz ({n:,})" if len(rates) > 1 else f"{fs:g} Hz" for fs, n in rates[:_RATES]]
    more = f" and {len(rates) - _RATES} other rates" if len(rates) > _RATES else ""
    lost = f": nothing above {corpus.fs / 2:g} Hz is left in them" if max(fs for fs, _ in rates) > corpus.fs else ""
    yield f"These records were recorded at {', '.join(named)}{more}, and are used at {corpus.fs:g} Hz{lost}."
