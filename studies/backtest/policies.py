"""What each policy would have trained in a held-out cell, and the measured score that it lost against the better arm.

``advice`` does what the verdict says, and takes the better expected score where the verdict is that there is no
material difference or not enough evidence. ``last_value`` takes the arm that was better at the largest size left in,
for a held-out task the one that was better on average over the other tasks at the nearest size. ``keep_on_validation``
trains every arm once and keeps the run with the best AUROC on its validation records, the fine-tuned one where a run
has none: what many do who ask nobody. It costs all trainings, and is judged as the mean over the replicates.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from studies.backtest.hold_out import HeldOut
from studies.files.arms import ARMS, FINE_TUNE, SCRATCH
from studies.files.draws import Floats
from studies.runs.run_tables import Replicate, RunTable

_BELOW = 5000  # the rule of thumb: fine-tune below that many records
_PAIR = (FINE_TUNE, SCRATCH)


def fine_tunes(cell: HeldOut, verdict: str) -> bool:
    """Say whether the advice is to fine-tune: its verdict, or else the better expected score."""
    return verdict == FINE_TUNE or (verdict != SCRATCH and float(cell.gain_draws.mean()) > 0)


def charge_policies(cell: HeldOut, verdict: str) -> dict[str, float | None]:
    """Return the measured score that each policy loses against the better of the two arms; None where none can."""
    last = cell.forecast.last
    chosen = {
        "advice": fine_tunes(cell, verdict),
        "always_fine_tune": True,
        "always_scratch": False,
        "below_5000": cell.n_records < _BELOW,
        "last_value": last[FINE_TUNE] > last[SCRATCH],
    }
    gain, _ = cell.truth.gain
    lost = {policy: max(gain, 0.0) - gain if tuned else max(gain, 0.0) for policy, tuned in chosen.items()}
    return {**lost, "keep_on_validation": _charge_keeping(cell, _PAIR)}


def charge_arms(cell: HeldOut, named: str) -> dict[str, float | None]:
    """Return what ``named``, every arm and keeping the best on validation lose against the best of all arms."""
    arms = tuple(arm.strategy for arm in ARMS)
    means = dict(zip(arms, cell.truth.among(arms).means.tolist(), strict=True))
    best = max(means.values())
    lost = {f"always_{arm.field}": best - means[arm.strategy] for arm in ARMS}
    return {"advice": best - means[named], **lost, "keep_on_validation": _charge_keeping(cell, arms)}


def _charge_keeping(cell: HeldOut, arms: Sequence[str]) -> float | None:
    kept = keep_on_validation(cell.table, cell.n_records, arms)
    return None if kept is None else float(cell.truth.among(arms).means.max()) - kept


def keep_on_validation(table: RunTable, n_records: float, arms: Sequence[str]) -> float | None:
    """Return the mean test score of the run that is kept of every replicate; None where no validation score is known.

    Of scores that are equal the first of ``arms`` is kept.
    """
    whole = [one for one in table.by_replicate if one.n_records == n_records and set(arms) <= set(one.scores)]
    if not whole or not _is_validated(table.by_replicate, arms):
        return None
    return float(np.mean([one.scores[_kept(one, arms)] for one in whole]))


def _kept(replicate: Replicate, arms: Sequence[str]) -> str:
    known: Mapping[str, float] = replicate.validation
    return max(arms, key=lambda arm: known[arm]) if set(arms) <= set(known) else FINE_TUNE


def _is_validated(replicates: Sequence[Replicate], arms: Sequence[str]) -> bool:
    """Say whether the table has validation scores of every arm: some runs may lack one, at small sizes."""
    return all(any(arm in one.validation for one in replicates) for arm in arms)


def charges_of(charged: Sequence[Mapping[str, float | None]], policies: Sequence[str]) -> dict[str, Floats | None]:
    """Return the charges of each policy, (cells,), None of one that is not known in every cell."""
    found: dict[str, Floats | None] = {}
    for policy in policies:
        values = [one[policy] for one in charged]
        known = [value for value in values if value is not None]
        found[policy] = np.array(known) if len(known) == len(values) else None
    return found
