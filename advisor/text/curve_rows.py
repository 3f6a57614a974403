"""What curves expect, as rows of a table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from advisor.answer.recommend import summarise_score
from engine.json_values import rounded
from studies.files.curves import CurvesFile


def curve_rows(curves: CurvesFile, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for every curve, arm and number of records; without ``sizes`` for the measured ones."""
    return [
        {
            **{"task": curve.task, "arch": curve.arch, "upstream": curve.upstream, "precision": curve.precision},
            **{"strategy": strategy, "n_records": n},
            **rounded(asdict(summarise_score(curve, strategy, n))),
            "support": curve.support(n),
        }
        for curve in curves.curves
        for strategy in curve.draws
        for n in sizes or curve.sizes
    ]
