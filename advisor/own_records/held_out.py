"""How well the asker's own test records will know a network's score, before one is trained."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from advisor.own_records.records import OwnData
from engine.evaluation.precision import Rarest, rarest_label, records_for_half_width

_AUROC = 0.85  # that is taken where the evidence expects no AUROC
_LEAST, _MOST = 0.6, 0.98  # outside them a score is chance, or too good to be planned with
WANTED = 0.05  # half-width that a score is usually asked to be known to


@dataclass(frozen=True)
class HeldOutPrecision:
    """What the test patients will know of the ``rarest`` label's AUROC, if that is ``auroc``: plus or minus
    ``half_width`` (90 %). ``records`` are the labelled records, to learn from and to test on, of which the same share
    kept for the test would know it to ``WANTED``; None where no number would. ``counted`` says what was: records where
    patients are not told apart.
    """

    rarest: Rarest
    auroc: float
    half_width: float
    records: int | None
    counted: str = "patients"

    def in_words(self) -> str:
        """Return it in one sentence."""
        one, patients = self.rarest, self.rarest.positives + self.rarest.negatives
        said = (
            f"{one.positives:,} of {patients:,} test {self.counted} have {one.label}, the rarest: an AUROC of "
            f"{self.auroc:.2f} will be known to +-{self.half_width:.2f} (90 %)"
        )
        if self.half_width <= WANTED:
            return said
        return f"{said}, to +-{WANTED:g} " + (
            "with no number of records" if self.records is None else f"with {_rounded(self.records):,} labelled records"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "label": self.rarest.label,
            "positive_patients": self.rarest.positives,
            "negative_patients": self.rarest.negatives,
            "auroc": round(self.auroc, 4),
            "half_width": round(self.half_width, 4),
            "wanted_half_width": WANTED,
            "records_for_it": self.records,
        }


def held_out_precision(own: OwnData, expected: float | None) -> HeldOutPrecision | None:
    """Return what the test records will know, None where they have no label's both sides.

    ``expected`` is the AUROC that the evidence expects of the network to be trained, None where it speaks of another
    metric.
    """
    rarest = rarest_label(own.data.labels[own.test], own.data.patients[own.test], own.data.classes)
    if rarest is None:
        return None
    auroc = float(np.clip(_AUROC if expected is None else expected, _LEAST, _MOST))
    patients = rarest.positives + rarest.negatives
    needed = records_for_half_width(auroc, rarest.positives / patients, WANTED)
    whole = len(own.pool) + len(own.test)
    return HeldOutPrecision(
        rarest,
        auroc,
        rarest.half_width(auroc),
        None if needed is None else ceil(needed / patients * whole),
        "patients" if own.corpus.tells_patients_apart else "records",
    )


def _rounded(records: int) -> int:
    """Round to two digits, up: the prevalence that it rests on is not known any better."""
    step = int(10 ** max(len(str(records)) - 2, 0))
    return ceil(records / step) * step
