"""What is wrong with which records, for a person: a line a kind of problem, its records counted and the first named."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from advisor.terminal.lines import in_one_line
from engine.corpora.reading import kind_of
from engine.sources.own_tables.columns import listed

_LISTED, _NAMED = 20, 5  # kinds, and records of each, that a person reads
_TOLD_APART = 5  # problems that differ in numbers alone: lines of a table, seconds. More are one kind


class RecordProblem(Protocol):
    """What is wrong with one record, or odd where it is usable all the same."""

    @property
    def record(self) -> str:
        """Its name."""

    @property
    def problem(self) -> str:
        """What it is, in words."""

    @property
    def usable(self) -> bool:
        """Whether it is used."""


@dataclass(frozen=True)
class Kind:
    """Records with the same problem; where they are not ``alike``, numbers differ, and ``words`` are of the first."""

    words: str
    usable: bool
    records: tuple[str, ...]
    alike: bool

    def said(self) -> str:
        """Return it as a line."""
        first = "kept" if self.usable else "unusable"
        if len(self.records) == 1:
            return in_one_line(f"{first}: {self.records[0]}: {self.words}")
        such_as = "" if self.alike else " such as"
        return in_one_line(
            f"{first}: {len(self.records):,} records ({listed(self.records, _NAMED)}){such_as}: {self.words}"
        )


def in_kinds(problems: Sequence[RecordProblem]) -> list[Kind]:
    """Return the kinds of problem, in the order of their first records, those that make a record unusable first."""
    alike: dict[tuple[bool, str], dict[str, list[str]]] = {}
    for one in sorted(problems, key=lambda one: one.usable):
        kind = one.usable, kind_of(one.problem, one.record)
        alike.setdefault(kind, {}).setdefault(one.problem, []).append(one.record)
    found = []
    for (usable, _), records in alike.items():
        if len(records) > _TOLD_APART:
            every = dict.fromkeys(record for same in records.values() for record in same)
            found.append(Kind(next(iter(records)), usable, tuple(every), alike=False))
        else:
            found += [Kind(words, usable, tuple(same), alike=True) for words, same in records.items()]
    return found


def problem_lines(problems: Sequence[RecordProblem]) -> list[str]:
    """Return a line for each kind of problem, those that make a record unusable first."""
    kinds = in_kinds(problems)
    lines = [kind.said() for kind in kinds[:_LISTED]]
    if (more := len(kinds) - _LISTED) > 0:
        n = sum(len(kind.records) for kind in kinds[_LISTED:])
        lines.append(f"... and {more:,} more kind{'s' * (more > 1)} of problem, in {n:,} record{'s' * (n > 1)}")
    return lines
