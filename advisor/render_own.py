"""The asker's records and what a pilot changed, for a reader: at most 80 columns."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from advisor.own_answer import OwnAnswer
from advisor.own_data import OwnData, percent
from advisor.render import NOTICE, band, console, plain_table, take_lines, to_table
from advisor.words import VERDICTS, duration

if TYPE_CHECKING:
    from rich.table import Table

    from advisor.pilot import Moved

_LABELS = 6


def to_own_table(found: OwnAnswer, *, color: bool = False) -> str:
    """Return the answer, then the records, what does not match the evidence, and what a pilot changed."""
    return with_records(to_table(found.answer, color=color), found, color=color)


def with_records(text: str, found: OwnAnswer, *, color: bool = False) -> str:
    """Put the sections about the asker's records before the last line of an answer in words."""
    out = console(color)
    if found.moved is not None:
        out.print()
        out.print("What the pilot changed", style="bold")
        out.print(_moved_table(found.moved))
    out.print()
    out.print("Your records", style="bold")
    out.print(_record_table(found.own, found.score.in_words() if found.score is not None else found.no_score or ""))
    for sentence in (found.n_given, *found.mismatches):
        if sentence is not None:
            out.print(f"! {sentence}")
    body = text.removesuffix(f"{NOTICE}\n").rstrip("\n")
    return "\n".join([body, *take_lines(out), NOTICE, ""])


def _record_table(own: OwnData, transferability: str) -> "Table":
    table = plain_table()
    leads = own.corpus.leads
    named = f"lead {leads[0]}" if len(leads) == 1 else f"{len(leads)} leads"
    table.add_row("directory", f"{own.directory} ({own.data.name})")
    table.add_row(
        "records", f"{len(own.data.rows):,} of {own.patients:,} patients, {named}, prepared at {own.corpus.fs:g} Hz"
    )
    table.add_row("to learn from", f"{len(own.pool):,}; {len(own.test):,} kept for the test: {own.held_out}")
    table.add_row("labels", _labels(own.prevalence))
    table.add_row("transferability", transferability)
    return table


def _labels(prevalence: Mapping[str, float]) -> str:
    shown = [f"{name} {percent(share)}" for name, share in list(prevalence.items())[:_LABELS]]
    more = len(prevalence) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _moved_table(moved: "Moved") -> "Table":
    table = plain_table("", "before", "after")
    for row in _moved_rows(moved):
        table.add_row(*row)
    measured = plain_table()
    measured.add_row("measured gain", _measured(moved))
    measured.add_row("pilot", f"from {moved.network}, {duration(moved.seconds)}; kept in {moved.store}")
    whole = plain_table()
    whole.add_column()
    whole.add_row(table)
    whole.add_row(measured)
    return whole


def _measured(moved: "Moved") -> str:
    first, *others = (f"{moved.gain(n):+.3f} at {n:,}" for n in moved.sizes)
    counts = sorted(set(moved.sizes.values()))
    pairs = f"{counts[0]} pair{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} pairs"
    return ", ".join([f"{first} records", *others]) + f" ({pairs} each)"


def _moved_rows(moved: "Moved") -> Iterator[tuple[str, ...]]:
    both = (moved.before, moved.after)
    yield ("verdict", *(VERDICTS[answer.verdict][0].lower() for answer in both))
    for name, words in (("fine_tune", "fine-tuned"), ("scratch", "from scratch")):
        scores = [getattr(answer, name) for answer in both]
        yield (words, *(f"{score.mean:.3f} ({band(score)})" for score in scores))
    gains = [answer.gain for answer in both]
    yield ("gain", *(f"{g.mean:+.3f} ({g.mean_ci_lower:+.3f} to {g.mean_ci_upper:+.3f})" for g in gains))
