"""The sections of a report about the asker's own records: what they are, how they differ, what a pilot changed."""

from collections.abc import Iterator

from advisor.own_records.answer import OwnAnswer
from advisor.own_records.records import OwnData
from advisor.report.html import bullets, facts, paragraph, section, table
from advisor.text.own_records_text import measured_rows, moved_columns, moved_rows, pilot_title, record_rows
from engine.corpora.excluded import percent

_LABELS = 20


def sections(found: OwnAnswer) -> Iterator[str]:
    """Return the sections as HTML, the pilot's first: it is why the answer is about these records."""
    if found.moved is not None:
        moved = found.moved
        yield section(
            pilot_title(moved),
            table(moved_columns(moved), moved_rows(moved)),
            facts(measured_rows(moved)),
            name="pilot",
        )
    said = [sentence for sentence in (found.n_given, found.ignored, *found.mismatches) if sentence is not None]
    described = facts(row for row in record_rows(found) if row[0] != "labels")
    start = paragraph(found.starts_from)
    yield section(
        "Your records", start, described, _labels(found.own), bullets(said) if said else "", name="your-records"
    )


def _labels(own: OwnData) -> str:
    rows = [(name, f"{count:,}", percent(own.prevalence[name])) for name, count in own.positives.items()]
    rest = len(rows) - _LABELS
    note = paragraph(f"and {rest} more, in the JSON of this page", "note") if rest > 0 else ""
    return table(("label", "records", "of all"), rows[:_LABELS]) + note
