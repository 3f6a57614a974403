"""Fitted learning curves: what they expect, as a file, and as what ``ecgadvise.recommend`` answers from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from os import PathLike
from pathlib import Path
from typing import Any

from studies.files.curves import CurvesFile, parse_curves


@dataclass(frozen=True, repr=False)
class Curves:
    """Fitted curves: ``document`` is that of a curves file, ``warnings`` say what to know of the runs and the curves.

    ``recommend(..., curves=...)`` answers from them.
    """

    document: Mapping[str, Any]
    warnings: tuple[str, ...]

    @cached_property
    def file(self) -> CurvesFile:
        """The curves as an opened curves file has them."""
        return parse_curves(self.document)

    def predict(self, n_records: int | Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Return what every curve expects at numbers of records (None: the measured ones).

        A row a curve, arm and number, as in ``ecgadvise curves show --json``: a table for ``pandas.DataFrame``. Raises
        ValueError for a number under 1.
        """
        from advisor.text.curve_rows import curve_rows

        asked = () if n_records is None else (n_records,) if not isinstance(n_records, Iterable) else n_records
        sizes = [index(n) for n in asked]
        if wrong := [n for n in sizes if n < 1]:
            raise ValueError(f"n_records is {wrong[0]}: give positive numbers of labelled records")
        return curve_rows(self.file, sizes)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the curves file, in place of one that is there, and return its path. Raises OSError."""
        from engine.files import write_files

        content = (json.dumps(self.document, separators=(",", ":")) + "\n").encode()
        write_files({Path(path): content})
        return Path(path)

    def __repr__(self) -> str:
        names = [f"{curve['task']} {curve['arch']}" for curve in self.document["curves"]]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"<Curves of {self.document['study']}: {', '.join(names[:3])}{more}>"
