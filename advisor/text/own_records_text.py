"""The asker's records and what a pilot changed: the rows that say it, and their tables of at most 80 columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from advisor.answer.words import VERDICTS, compares_more, count, duration
from advisor.own_records.answer import OwnAnswer
from advisor.own_records.records import OwnData
from advisor.text.table import NOTICE, band, console, plain_table, take_lines, to_table
from engine.corpora.excluded import percent
from engine.corpora.remarks import EACH_ITS_OWN
from engine.records.lead_names import leads_in_words
from studies.files.arms import ARMS, FURTHER
from studies.files.curves import start_in_words

if TYPE_CHECKING:
    from rich.table import Table

    from advisor.own_records.moved import Moved

_LABELS = 6
_MOVED = ("", "before", "after")
_ALONE = "pilot alone"


def to_own_table(found: OwnAnswer, *, color: bool = False) -> str:
    """Return the answer, then the records, what does not match the evidence, and what a pilot changed."""
    return with_records(to_table(found.answer, color=color), found, color=color)


def with_records(text: str, found: OwnAnswer, *, color: bool = False) -> str:
    """Put the sections about the asker's records before the last line of an answer in words."""
    out = console(color)
    if found.moved is not None:
        out.print()
        out.print(pilot_title(found.moved), style="bold")
        out.print(_moved_table(found.moved))
    out.print()
    out.print("Your records", style="bold")
    out.print(_table(record_rows(found)))
    for sentence in (found.n_given, found.ignored, *found.mismatches):
        if sentence is not None:
            out.print(f"! {sentence}")
    first, *body = text.removesuffix(f"{NOTICE}\n").rstrip("\n").split("\n")
    said = take_lines(out)
    out.print(found.starts_from)
    return "\n".join([first, *take_lines(out), *body, *said, NOTICE, ""])


def record_rows(found: OwnAnswer) -> Iterator[tuple[str, str]]:
    """What the records are, each fact with its name."""
    own = found.own
    yield "directory", f"{own.directory} ({own.data.name})"
    seconds = own.corpus.contract.seconds
    named = leads_in_words(own.corpus.leads)
    prepared = f"{named}, the first {seconds:g} s at {own.corpus.fs:g} Hz{_left_out(own)}"
    whose = f"of {count(own.patients, 'patient')}" if own.corpus.tells_patients_apart else EACH_ITS_OWN
    yield "records", f"{len(own.data.rows):,}, {whose}, {prepared}"
    yield "to learn from", f"{len(own.pool):,}; {len(own.test):,} kept for the test: {own.held_out}"
    if found.precision is not None:
        yield "test", found.precision.in_words()
    yield "labels", _labels(own.prevalence)
    if said := found.score.in_words() if found.score is not None else found.no_score:
        yield "transferability", said


def _left_out(own: OwnData) -> str:
    """Say how many records could not be used, and, but for a corpus prepared elsewhere, what tells why."""
    if not own.corpus.unusable:
        return ""
    where = "" if own.corpus.root == own.directory else f" (ecgadvise data check {own.directory})"
    labels = "" if own.excluded is None else f": {own.excluded.counts()}"
    return f"; {own.corpus.unusable:,} of {len(own.corpus) + own.corpus.unusable:,} could not be used{where}{labels}"


def _labels(prevalence: Mapping[str, float]) -> str:
    shown = [f"{name} {percent(share)}" for name, share in list(prevalence.items())[:_LABELS]]
    more = len(prevalence) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _moved_table(moved: "Moved") -> "Table":
    whole = plain_table()
    whole.add_column()
    whole.add_row(_table(moved_rows(moved), *moved_columns(moved)))
    whole.add_row(_table(measured_rows(moved)))
    return whole


def _table(rows: Iterable[tuple[str, ...]], *header: str) -> "Table":
    table = plain_table(*header)
    for row in rows:
        table.add_row(*row)
    for column in table.columns:
        column.overflow = "fold"  # a long path is broken, not cut
    return table


def measured_rows(moved: "Moved") -> Iterator[tuple[str, str]]:
    """What the pilot itself measured, and from what."""
    yield "measured gain", _measured(moved)
    if (why := moved.why_off_band) is not None:
        yield "expected there", why
    for arm in FURTHER:
        if by_size := moved.scores.get(arm):
            yield arm.words, f"measured {_at_sizes(by_size)}"
    when = "" if moved.made is None else f" on {moved.made}"
    yield "pilot", f"from {moved.network}, {duration(moved.seconds)}{when}; kept in {moved.store}"
    if moved.after.pilot_value is not None:
        yield "more pairs", f"{moved.how_to_add} adds them"


def _measured(moved: "Moved") -> str:
    first, *others = (f"{moved.gain(n):+.3f} at {n:,}" for n in moved.sizes)
    counts = sorted(set(moved.sizes.values()))
    pairs = count(counts[0], "pair") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} pairs"
    return ", ".join([f"{first} records", *others]) + f" ({pairs} each)"


def _at_sizes(scores: Mapping[int, Sequence[float]]) -> str:
    first, *others = (f"{sum(values) / len(values):.3f} at {n:,}" for n, values in scores.items())
    return ", ".join([f"{first} records", *others])


def pilot_title(moved: "Moved") -> str:
    """Return what heads the section about a pilot."""
    return "What the pilot measured" if moved.is_alone else "What the pilot changed"


def moved_columns(moved: "Moved") -> tuple[str, ...]:
    """Return what heads the cells of ``moved_rows``."""
    if not moved.is_alone:
        return _MOVED
    return ("", _ALONE) if moved.others is None else ("", "other networks", _ALONE)


def moved_rows(moved: "Moved") -> Iterator[tuple[str, ...]]:
    """The answer before and after the pilot or, of a network that nobody measured, that of others and of the pilot."""
    both = [answer for answer in (moved.before, moved.others, moved.after) if answer is not None]
    if moved.others is not None:
        curve = moved.others.curve
        yield (
            "network",
            f"{curve.arch}, {start_in_words(curve.upstream)}",
            f"{moved.after.curve.arch}, {moved.network}",
        )
    if any(map(compares_more, both)):
        yield ("best arm", *(answer.best.arm.words for answer in both))
    yield ("verdict", *(VERDICTS[answer.verdict][0].lower() for answer in both))
    scores = [{one.arm: one.score for one in answer.arms} for answer in both]
    for arm in ARMS:
        if any(arm in known for known in scores):
            yield (
                arm.words,
                *(f"{known[arm].mean:.3f} ({band(known[arm])})" if arm in known else "-" for known in scores),
            )
    gains = [answer.gain for answer in both]
    yield ("gain", *(f"{g.mean:+.3f} ({g.mean_ci_lower:+.3f} to {g.mean_ci_upper:+.3f})" for g in gains))
