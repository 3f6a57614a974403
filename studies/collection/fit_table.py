"""From a table of anybody's runs, a file or columns in memory, to the document of a curves file."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studies.collection.collect import EvidenceError, make_curves
from studies.collection.curve_documents import NO_TEST_NOISE, fit_runs, time_of
from studies.runs.store_files import without_packing
from studies.runs.tidy_runs import TidyRuns, read_columns, read_runs

Report = Callable[[int, int], None]  # (done, total)


def fit_file(path: Path, metric: str, report: Report = lambda _done, _total: None) -> tuple[dict[str, Any], list[str]]:
    """Return the document of a curves file, and what to know of the runs, of a CSV file or a study store.

    Raises RunsFileError, and EvidenceError where no curve could be fitted.
    """
    runs = read_runs(path, metric)
    if runs.stored:
        document = make_curves(runs.stored, without_packing(path).stem, metric, report)
        return document, [*runs.warnings, *document["not_fitted"]]
    return _fit(runs, str(path), time_of(path), report)


def fit_columns(
    columns: Mapping[str, Sequence[Any]], metric: str, study: str, report: Report = lambda _done, _total: None
) -> tuple[dict[str, Any], list[str]]:
    """Return the same of columns in memory. Raises RunsFileError and EvidenceError."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return _fit(read_columns(columns, metric, study), study, created, report)


def _fit(runs: TidyRuns, named: str, created: str, report: Report) -> tuple[dict[str, Any], list[str]]:
    document = fit_runs(runs, created, report)
    if not document["curves"]:
        raise EvidenceError(f"{named} gives no curve: {'; '.join(document['not_fitted'][:3])}")
    said = [NO_TEST_NOISE, "the runs say nothing of what they cost in a way that can be predicted: costs are null"]
    return document, [*runs.warnings, *document["not_fitted"], *said]


def warnings_of_curves(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is odd about each curve: too little measured, near chance, not monotone."""
    return [
        f"{curve['task']} {curve['arch']}: {warning}"
        for curve in curves
        for warning in curve["warnings"]
        if warning != NO_TEST_NOISE
    ]
