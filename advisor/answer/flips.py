"""What would change the answer: the numbers of records at which the verdict becomes another one.

The verdict is on fine-tuning against scratch; where another of the further arms becomes the best is not searched.
"""

from collections.abc import Callable
from dataclasses import dataclass

from advisor.answer.decision import Verdict

_STEPS = 12  # numbers of records looked at on each side, evenly spaced on a log scale

Ask = Callable[[int], Verdict]


@dataclass(frozen=True)
class Flip:
    """The number of records nearest to the asker's that has another verdict, and which."""

    n_records: int
    verdict: Verdict


def find_flips(ask: Ask, n_records: int, verdict: Verdict, low: int, high: int) -> tuple[Flip | None, Flip | None]:
    """Return the nearest flip with fewer records, and with more; None where there is none from ``low`` to ``high``.

    ``ask`` gives the verdict at a number of records. A verdict that comes and goes between two of the numbers looked
    at is not seen.
    """
    return _search(ask, n_records, verdict, low), _search(ask, n_records, verdict, high)


def _search(ask: Ask, n_records: int, verdict: Verdict, end: int) -> Flip | None:
    same = n_records
    for step in range(1, _STEPS + 1):
        n = round(n_records * (end / n_records) ** (step / _STEPS))
        if n != same and (found := ask(n)) != verdict:
            return _narrow(ask, verdict, same, n, found)
        same = n
    return None


def _narrow(ask: Ask, verdict: Verdict, same: int, other: int, found: Verdict) -> Flip:
    """Halve the step from ``same``, which has the verdict, to ``other``, which has not."""
    while abs(other - same) > 1:
        middle = (same + other) // 2
        if (at_middle := ask(middle)) == verdict:
            same = middle
        else:
            other, found = middle, at_middle
    return Flip(other, found)
