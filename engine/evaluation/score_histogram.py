"""How the probabilities of a network are distributed over records: what says later whether other records are alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10  # equal ones of probability; the last has 1 in it


def bins_of(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the bin 0 to 9 of each probability, in the shape that they are in."""
    return np.minimum((np.asarray(probabilities, np.float64) * BINS).astype(np.int64), BINS - 1)


def score_histogram(probabilities: NDArray[np.floating], classes: Sequence[str]) -> dict[str, list[int]]:
    """Return for each class how many of the probabilities (records, classes) lie in each of the bins."""
    bins = bins_of(probabilities)
    return {name: np.bincount(bins[:, k], minlength=BINS).tolist() for k, name in enumerate(classes)}


def known_histogram(record: Any, name: str) -> tuple[int, ...] | None:
    """Return the counts of a class in the ``record`` of a model's facts, None where it has none that can be used."""
    known = record.get("score_histogram") if isinstance(record, dict) else None
    counts = known.get(name) if isinstance(known, dict) else None
    usable = isinstance(counts, list) and len(counts) == BINS and all(type(n) is int and n >= 0 for n in counts)
    return tuple(counts) if usable and isinstance(counts, list) and sum(counts) else None
