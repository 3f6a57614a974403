"""From a recording as it was stored to the signal contract: millivolt, leads in order, by default 100 Hz and 10 s.

What was done to a recording, and what is odd about it, is written into its ``notes``; what cannot be used raises
RecordError. Nothing is repaired: a flat lead stays flat, a wrong unit stays wrong, both are named.

The anti-alias filter keeps what is below 40 Hz and removes what is above 50 Hz (60 dB, Kaiser window, linear phase),
for a target of 100 Hz (0.4 and 0.5 of any other); mains hum at 50 or 60 Hz goes with it. The recipe ``paper`` (Nguyen &
Do 2025) takes every k-th sample without a filter and scales each lead of each record to (-1, 1) instead.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from engine.records.record import LEADS, Record, RecordError, order_leads

_LOWEST_FS = 50.0
_MARGIN_SECONDS = 1.0  # read beyond the crop, where there is more, so that the filter sees signal instead of an edge
_ATTENUATION_DB = 60.0
_IMPLAUSIBLE_MILLIVOLT = (0.05, 50.0)  # peak to peak, the largest lead; PTB-XL, LUDB and the Challenge sets lie inside
_DISAGREEMENT, _DISAGREEMENT_MILLIVOLT = 0.5, 0.05  # standard deviation: of the lead's own, and in millivolt
_SAME = 0.1  # of the standard deviation: what is left where two signals are one
DERIVED = {
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}  # from I and II: Einthoven's and Goldberger's equations


@dataclass(frozen=True)
class Preparation:
    """How a recording is brought to the target rate, and whether each lead is scaled to (-1, 1) by itself."""

    anti_alias: bool = True
    min_max: bool = False


class TooShortError(RecordError):
    """A recording that is shorter than what is to be used of it; ``seconds`` is how long it is."""

    def __init__(self, seconds: float, needed: float) -> None:
        super().__init__(f"{seconds:g} s long; {needed:g} s are needed")
        self.seconds = seconds


CONTRACT = Preparation()
PAPER = Preparation(anti_alias=False, min_max=True)
PAPER_PTB = Preparation(anti_alias=False)  # the publication leaves the PTB set unscaled


def paper_preparation(source: str) -> Preparation:
    """Return how the publication prepared the named source's records."""
    return PAPER_PTB if source == "ptb" else PAPER


def conform(
    record: Record,
    leads: tuple[str, ...] = LEADS,
    fs: float = 100.0,
    seconds: float = 10.0,
    preparation: Preparation = CONTRACT,
) -> Record:
    """Return the first ``seconds`` of a recording, float32 (leads, seconds * fs), with its notes.

    Missing limb leads are derived where I and II are there. A recording that already has the target rate, length and
    leads keeps its values to the bit. Raises TooShortError for one that is too short, RecordError for one that
    lacks a lead, has missing samples in what is used, or is flat in every lead.
    """
    if not (np.isfinite(record.fs) and record.fs >= _LOWEST_FS):
        raise RecordError(f"sampled at {record.fs:g} Hz; at least {_LOWEST_FS:g} Hz are needed")
    present = record.leads
    ordered = order_leads(_derive_limb_leads(record, leads), leads)
    cropped = _crop(ordered, seconds)
    signals = _at_rate(cropped, fs, preparation.anti_alias)[:, : round(seconds * fs)]
    if signals.shape[1] < round(seconds * fs):  # of a rate that no ratio of small numbers gives
        raise TooShortError(record.signals.shape[1] / record.fs, seconds)
    result = Record(np.ascontiguousarray(signals, np.float32), fs, leads, cropped.notes)
    result = replace(result, notes=(*result.notes, *_oddities(result, present)))
    if record.fs < fs:
        low = f"sampled at {record.fs:g} Hz: nothing above {record.fs / 2:g} Hz is in it"
        result = replace(result, notes=(*result.notes, low))
    return replace(result, signals=min_max(result.signals)) if preparation.min_max else result


def min_max(signals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each lead of (..., leads, samples) by itself to -1..1; a flat lead becomes 0."""
    low, high = signals.min(axis=-1, keepdims=True), signals.max(axis=-1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return np.where(high > low, 2 * (signals - low) / span - 1, 0).astype(np.float32)


def resample(signals: NDArray[np.floating], fs: float, target: float) -> NDArray[np.float64]:
    """Resample (leads, samples) from ``fs`` to ``target`` hertz; sample k of the result is at k / target seconds."""
    from scipy.signal import resample_poly

    ratio = Fraction(target).limit_denominator(100) / Fraction(fs).limit_denominator(100)
    up, down = ratio.numerator, ratio.denominator
    first, slope = signals[:, :1].astype(np.float64), _slope(signals)  # filtered without them, or the ends would ring
    flat = signals - first - slope * np.arange(signals.shape[1])
    filtered: NDArray[np.float64] = resample_poly(
        flat, up, down, axis=1, window=_low_pass(up, down), padtype="antireflect"
    )
    return filtered + first + slope * (np.arange(filtered.shape[1]) * down / up)


def _slope(signals: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (leads, 1): the rise from one sample to the next of the line from the first to the last."""
    rise: NDArray[np.float64] = (signals[:, -1:].astype(np.float64) - signals[:, :1]) / max(1, signals.shape[1] - 1)
    return rise


@lru_cache(maxsize=32)
def _low_pass(up: int, down: int) -> NDArray[np.float64]:
    """Return the filter at ``up`` times the recording's rate: flat to 0.4 of the lower rate, gone at its half."""
    from scipy.signal import firwin, kaiserord

    lower = min(1.0, up / down) / up  # the lower of both rates, as a fraction of the rate that the filter runs at
    n_taps, beta = kaiserord(_ATTENUATION_DB, 0.2 * lower)
    taps: NDArray[np.float64] = firwin(n_taps | 1, 0.45 * lower, window=("kaiser", beta), fs=1.0)
    return taps


def derivable(leads: tuple[str, ...]) -> tuple[str, ...]:
    """Return the limb leads that are not among ``leads`` but follow from them: from I and II, each there once."""
    both = leads.count("I") == 1 and leads.count("II") == 1
    return tuple(lead for lead in DERIVED if lead not in leads) if both else ()


def _derive_limb_leads(record: Record, leads: tuple[str, ...]) -> Record:
    wanted = [lead for lead in derivable(record.sound_leads) if lead in leads and lead not in record.leads]
    if not wanted:
        return record
    both = record.signals[[record.leads.index("I"), record.leads.index("II")]]
    derived = (np.array([DERIVED[lead] for lead in wanted]) @ both.astype(np.float64)).astype(np.float32)
    note = f"{', '.join(wanted)} derived from I and II"
    signals = np.concatenate([record.signals, derived])
    return replace(record, signals=signals, leads=(*record.leads, *wanted), notes=(*record.notes, note))


def _crop(record: Record, seconds: float) -> Record:
    """Return the first seconds, and up to one more where that has no missing samples."""
    n_samples, needed = record.signals.shape[1], ceil(seconds * record.fs - 1e-6)
    if n_samples < needed:
        raise TooShortError(n_samples / record.fs, seconds)
    signals = record.signals[:, : needed + round(_MARGIN_SECONDS * record.fs)]
    invalid = ~np.isfinite(signals)
    if missing := int(invalid[:, :needed].sum()):
        raise RecordError(f"{missing} samples of the first {seconds:g} s are missing (NaN)")
    if invalid.any():
        signals = signals[:, :needed]
    longer = f"{n_samples / record.fs:g} s long: the first {seconds:g} s are used"
    notes = (*record.notes, longer) if n_samples > needed else record.notes
    return Record(signals, record.fs, record.leads, notes)


def _at_rate(record: Record, fs: float, anti_alias: bool) -> NDArray[np.floating]:
    if record.fs == fs:
        return record.signals
    if anti_alias:
        return resample(record.signals, record.fs, fs)
    step = record.fs / fs
    if step != round(step):
        raise RecordError(f"sampled at {record.fs:g} Hz: no every k-th sample gives {fs:g} Hz")
    return record.signals[:, :: round(step)]


def _oddities(record: Record, present: tuple[str, ...]) -> tuple[str, ...]:
    """Say what looks wrong in a recording of which the leads in ``present`` were measured."""
    spans = np.ptp(record.signals, axis=1)
    flat = [lead for lead, span in zip(record.leads, spans, strict=True) if span == 0]
    if len(flat) == len(record.leads):
        raise RecordError("flat in every lead" if len(flat) > 1 else f"lead {flat[0]} is flat")
    notes = [f"lead {', '.join(flat)} is flat"] if flat else []
    low, high = _IMPLAUSIBLE_MILLIVOLT
    if not low <= spans.max() <= high:
        notes.append(f"spans {spans.max():.3g} mV from peak to peak: the unit or the gain looks wrong")
    if odd := _misnamed(record, present):
        notes.append(f"{', '.join(odd)} contradicts I and II: leads are misnamed, or have different gains")
    return tuple(notes)


def _misnamed(record: Record, present: tuple[str, ...]) -> list[str]:
    """Return the measured limb leads that are not what Einthoven's and Goldberger's equations make of I and II.

    Only where there is an explanation: the lead is another mixture of I and II, or what it should be stands under
    another name. Noise, and leads recorded one after the other, contradict the equations too, with nothing misnamed.
    """
    measured = [lead for lead in record.leads if lead in DERIVED and lead in present]
    if not measured or not {"I", "II"} <= set(record.leads):
        return []
    both = record.signals[[record.leads.index(lead) for lead in ("I", "II")]]
    expected = np.array([DERIVED[lead] for lead in measured], np.float32) @ both
    signals = record.signals[[record.leads.index(lead) for lead in measured]]
    difference, own = (signals - expected).std(axis=1), signals.std(axis=1)
    suspects = np.flatnonzero((difference > _DISAGREEMENT_MILLIVOLT) & (difference > _DISAGREEMENT * own))
    return [measured[k] for k in suspects if _is_mixture(signals[k], both) or _is_among(expected[k], record.signals)]


def _is_mixture(signal: NDArray[np.float32], both: NDArray[np.float32]) -> bool:
    centred, of = signal - signal.mean(), both - both.mean(axis=1, keepdims=True)
    rest = centred - np.linalg.lstsq(of.T, centred, rcond=None)[0] @ of
    return bool(rest.std() < _SAME * centred.std())


def _is_among(signal: NDArray[np.float32], signals: NDArray[np.float32]) -> bool:
    return bool(((signals - signal).std(axis=1) < _SAME * signal.std()).any())
