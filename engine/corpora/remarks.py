"""What was odd about the records of a corpus when they were prepared, for whoever trains on it or asks about it.

``data check`` lists records; here every kind of remark is one sentence, with no record's name in it, so that it can be
kept with a network.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.corpora.corpus import Corpus, TaskData
from engine.corpora.excluded import exclusion
from engine.corpora.held_out import equal_groups

_KINDS = 5  # of remarks that are said; the others are counted


EACH_ITS_OWN = "each counted as a patient of its own"  # records of which no two are said to be of one patient


def remarks(corpus: Corpus, test: NDArray[np.int64]) -> tuple[str, ...]:
    """Return a sentence for every kind of remark, and one about equal signals; ``test`` are the test records' rows.

    Empty for a corpus of an older version, which did not keep them.
    """
    kept = corpus.manifest.get("remarks")
    return () if kept is None else (*_kinds(kept, len(corpus)), *equal_signals(corpus, test))


def equal_signals(corpus: Corpus, test: NDArray[np.int64] | None = None) -> tuple[str, ...]:
    """Say how many groups of records have equal signals, where there are such, and how many the test divides."""
    groups = [np.array(group) for group in equal_groups(corpus)]
    if not groups:
        return ()
    of_several = sum(len(np.unique(corpus.patients[group])) > 1 for group in groups)
    said = f"{len(corpus):,} records: {_groups(len(groups))} of equal signals, {of_several:,} of several patients"
    if test is None:
        return (said,)
    inside = [int(np.isin(group, test).sum()) for group in groups]
    divided = sum(0 < n < len(group) for group, n in zip(groups, inside, strict=True))
    where = f"{divided:,} with a copy in the test and one outside it" if divided else "each on one side of the test"
    return (f"{said}, {where}",)


def left_out(corpus: Corpus, data: TaskData) -> tuple[str, ...]:
    """Say how many listed records are not in a corpus, where there are such, and where their labels are others."""
    excluded = exclusion(corpus, data)
    if excluded is not None and (warning := excluded.warning()) is not None:
        return (warning,)
    n = corpus.unusable
    return (f"{n:,} of {len(corpus) + n:,} records cannot be used and were left out",) if n else ()


def _kinds(kept: dict[str, Any], n_records: int) -> Iterator[str]:
    kinds = sorted(kept["kinds"], key=lambda kind: -kind["records"])
    for kind in kinds[:_KINDS]:
        such_as = "" if kind["alike"] else " such as"
        yield f"{kind['records']:,} of {n_records:,} records kept with a remark{such_as}: {kind['words']}"
    if len(kinds) > _KINDS:
        more = sum(kind["records"] for kind in kinds[_KINDS:])
        yield f"{len(kinds) - _KINDS:,} more kinds of remark, on {more:,} records"


def _groups(n: int) -> str:
    return f"{n:,} group{'s' * (n != 1)}"
