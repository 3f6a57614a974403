"""``ecgadvise.fit_curves``: learning curves of anybody's runs, a file of them or a table in memory."""

import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from advisor.interface.caller_state import caller_state_kept
from advisor.interface.curves import Curves
from studies.collection.fit_table import fit_columns, fit_file, warnings_of_curves


class Columns(Protocol):
    """Columns by name: a mapping of sequences, or a pandas DataFrame."""

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, name: Any, /) -> Any: ...


def fit_curves(table: str | PathLike[str] | Columns, metric: str = "auroc_macro", study: str = "table") -> Curves:
    """Fit a curve for every task, network and upstream of a table of runs.

    ``table`` is a CSV file, a study store, a pandas DataFrame or a mapping of columns: task, arch, strategy (scratch,
    fine-tune, linear-probe, random-convolutions), upstream, n_records, replicate and ``metric``. ``study`` names what
    comes from no file. Raises RunsFileError for rows that cannot be used, and EvidenceError where they give no curve.
    """
    with caller_state_kept():
        if isinstance(table, str | PathLike):
            document, said = fit_file(Path(table), metric)
        else:
            document, said = fit_columns(_columns(table), metric, study)
    plain = json.loads(json.dumps(document))
    return Curves(plain, (*said, *warnings_of_curves(plain["curves"])))


def _columns(table: Columns) -> dict[str, list[Any]]:
    return {str(name): list(table[name]) for name in table}
