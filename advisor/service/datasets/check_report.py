"""What ``ecgadvise data check --json`` found in a dataset, as far as the service keeps it."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from advisor.answer.words import count
from models.errors import ExitCode, UserError


class CheckReportError(UserError):
    """What a check printed is no report."""

    exit_code = ExitCode.FAILURE


@dataclass(frozen=True)
class Noted:
    """What is wrong with a record, or odd where it is ``usable`` all the same."""

    record: str
    problem: str
    usable: bool


@dataclass(frozen=True)
class CheckReport:
    """A check's findings; ``labelled`` is whether a usable record has a label. ``duplicates`` have equal signals."""

    source: str
    task: str
    records: int
    unusable: int
    patients: int
    classes: dict[str, int]
    unlabelled: int
    labelled: bool
    problems: tuple[Noted, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()

    def refusal(self) -> str | None:
        """Say why nothing can be learnt from the records, None where something can."""
        if not self.records:
            return "there are no records in it"
        if self.unusable >= self.records:
            why = next((f", as {one.record}: {one.problem}" for one in self.problems if not one.usable), "")
            return f"none of its {count(self.records, 'record')} can be used{why}"
        return None if self.labelled else "no record that can be used has a label"

    def as_json(self) -> str:
        """Return it for ``kept_check_report``."""
        return json.dumps(asdict(self))


def read_check_report(printed: str) -> CheckReport:
    """Return what a check printed. Raises CheckReportError."""
    try:
        found = json.loads(_without_surrogates(printed))
        return CheckReport(
            source=str(found["source"]),
            task=str(found["task"]),
            records=int(found["records"]),
            unusable=int(found["unusable"]),
            patients=int(found["patients"]),
            classes={str(name): int(n) for name, n in found["classes"].items()},
            unlabelled=int(found["unlabelled"]),
            labelled=_has_labelled(found),
            problems=_noted(found["problems"]),
            duplicates=_groups(found["duplicates"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckReportError("the check of the records gave no report") from None


def kept_check_report(kept: str) -> CheckReport:
    """Return what ``as_json`` wrote."""
    found = json.loads(kept)
    noted, groups = _noted(found.get("problems", ())), _groups(found.get("duplicates", ()))
    return CheckReport(**{**found, "problems": noted, "duplicates": groups})


def _noted(found: Any) -> tuple[Noted, ...]:
    return tuple(Noted(str(one["record"]), str(one["problem"]), bool(one["usable"])) for one in found)


def _groups(found: Any) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, group)) for group in found)


def _has_labelled(found: dict[str, Any]) -> bool:
    """Whether a label has more records than those of it that are excluded."""
    excluded = (found.get("excluded") or {}).get("classes", {})
    return any(n > excluded.get(name, {}).get("records", 0) for name, n in found["classes"].items())


def _without_surrogates(printed: str) -> str:
    """Replace what stands for bytes that are no UTF-8 in files' names: no answer could be written with it."""
    text = json.dumps(json.loads(printed), ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()
