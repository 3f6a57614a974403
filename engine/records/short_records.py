"""A set of which most records are shorter than what is asked of them: how long they are, and what uses them.

Nothing is padded, and no other length is taken by itself: it would change with the next record that is added, and with
it which networks fit and which corpora go together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from engine.records.contract import Sampling

_MOST = 0.9  # of the short records, that are to reach the length that is named


@dataclass(frozen=True)
class ShortRecords:
    """``records`` of ``listed`` are too short, from ``shortest`` to ``longest`` seconds; ``needed`` seconds are asked.

    ``usable`` records have the first ``seconds``, the length to ask for instead; None where they are shorter than any
    length that may be.
    """

    records: int
    listed: int
    shortest: float
    longest: float
    needed: float
    seconds: float | None
    usable: int

    def in_words(self) -> str:
        """Say so in a sentence, with the option that uses them."""
        span = f"{self.longest:g}" if self.shortest == self.longest else f"{self.shortest:g} to {self.longest:g}"
        said = f"{self.records:,} of {self.listed:,} records are {span} s long, and {self.needed:g} s are needed"
        if self.seconds is None:
            return f"{said}: too short for any length that can be asked for"
        of = "all" if self.usable == self.listed else f"{self.usable:,}"
        return f"{said}: --seconds {self.seconds:g} takes the first {self.seconds:g} s of {of}"


def find_short(lengths: Sequence[float], n_usable: int, listed: int, sampling: Sampling) -> ShortRecords | None:
    """Return what there is to say where more records are too short, of ``lengths`` in seconds, than can be used."""
    if len(lengths) <= n_usable:
        return None
    ordered = sorted(lengths)
    reached = ordered[floor((1 - _MOST) * len(ordered))]
    rounded = (floor(reached * steps + 1e-9) / steps for steps in (10, 1))  # tenths where they make whole samples
    seconds = next((one for one in rounded if sampling.fits(one)), None)
    usable = n_usable + sum(length >= seconds for length in lengths) if seconds is not None else 0
    return ShortRecords(len(lengths), listed, ordered[0], ordered[-1], sampling.seconds, seconds, usable)
