"""Samples of synthetic ECGs: five waves of a beat as Gaussian bumps, seen through the leads as a moving dipole.

A simplified form of ECGSYN (McSharry et al., IEEE Trans Biomed Eng 50:289, 2003): its bumps P, Q, R, S, T, here in time
around each beat and, after Sameni et al. (EURASIP J Adv Signal Process 2007:043407), each along a direction in space.
Leads I, II and V1 to V6 follow by Dower's coefficients (Dower et al., J Electrocardiol 13:81, 1980), the other limb
leads by Einthoven's and Goldberger's equations, exactly. Every function works on many records at a time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FS, N_SAMPLES = 100.0, 1000
_BEATS = 48  # enough for 200 a minute from 1 s before the record to 3 s after it
# Left, down and back (the axes of the Frank leads), to I, II, V1 ... V6.
_DOWER = np.array([
    [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
])  # fmt: skip
WAVES = ("P", "Q", "R", "S", "ST", "T", "ectopic QRS", "ectopic T", "fibrillation")
_DIRECTIONS = np.array([
    [0.06, 0.10, 0.02], [-0.12, -0.03, -0.25], [0.95, 0.85, 0.35], [-0.25, -0.15, 0.60], [0.0, 0.0, 0.0],
    [0.22, 0.20, -0.12], [-0.6, 1.2, -1.0], [0.25, -0.5, 0.4], [0.0, 0.0, 0.0],
])  # fmt: skip
_OFFSETS = np.array([-0.16, -0.026, 0.0, 0.028, 0.11, 0.30, 0.03, 0.33])  # seconds from the R peak
_WIDTHS = np.array([0.022, 0.009, 0.012, 0.011, 0.035, 0.050, 0.040, 0.070])  # standard deviations, seconds
_P, _Q, _R, _S, _ST, _T, _ECTOPIC, _ECTOPIC_T, _FIBRILLATION = range(len(WAVES))
_QRS = [_Q, _R, _S]


@dataclass(frozen=True)
class Hearts:
    """What is drawn for each of n records.

    ``gain`` and ``widths`` (n, waves) vary by wave, ``turns`` (n, 2) are the heart's rotations in the frontal and the
    horizontal plane in radians, ``leads`` (n, 8) how well each lead is placed. ``rate`` is in beats a minute. The rest
    are severities (n,) from 0 (absent) to 1.
    """

    gain: Floats
    widths: Floats
    turns: Floats
    leads: Floats
    rate: Floats
    irregular: Floats
    wide: Floats
    tall: Floats
    inferior: Floats
    premature: Floats
    inverted: Floats
    low: Floats
    delayed: Floats


def draw_signals(hearts: Hearts, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (n, 12, 1000) in millivolt at 100 Hz, whole microvolts in I, II and V1 to V6."""
    n = len(hearts.rate)
    peaks, intervals, ectopic = _beats(hearts, rng)
    waves = _bumps(hearts, peaks, intervals, ectopic, rng)
    projection = np.einsum("lx,nwx->nlw", _DOWER, _dipoles(hearts)) * hearts.leads[:, :, None]
    measured = projection @ waves + _wander(n, rng)
    measured += rng.uniform(0.01, 0.04, (n, 1, 1)) * rng.standard_normal(measured.shape, np.float32)
    return _twelve_leads(measured)


def _beats(hearts: Hearts, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return (n, beats): the R peaks in seconds, the intervals that follow them, and 1 where a beat is ectopic."""
    n = len(hearts.rate)
    mean = 60 / hearts.rate[:, None]
    breathing = 0.03 * np.sin(2 * np.pi * (0.25 * mean * np.arange(_BEATS) + rng.random((n, 1))))
    scatter = np.where(hearts.irregular > 0, 0.06 + 0.16 * hearts.irregular, 0.015)[:, None]
    intervals = np.maximum(mean * (1 + breathing + scatter * rng.standard_normal((n, _BEATS))), 0.3)
    peaks = np.cumsum(intervals, axis=1) - intervals - 1 - mean * rng.random((n, 1))
    often = (rng.random((n, _BEATS)) < 0.05 + 0.15 * hearts.premature[:, None]) & (np.arange(_BEATS) % 2 == 0)
    once = np.arange(_BEATS) == np.argmin(np.abs(peaks - rng.uniform(2, 8, (n, 1))), axis=1)[:, None]
    ectopic = (often | once) & (hearts.premature[:, None] > 0)
    early = np.roll(intervals, 1, axis=1) * rng.uniform(0.25, 0.4, (n, 1))  # the next beat comes when it would have
    return peaks - ectopic * early, intervals, ectopic.astype(np.float64)


def _bumps(
    hearts: Hearts, peaks: Floats, intervals: Floats, ectopic: Floats, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return each wave's course (n, waves, samples), 1 at the top of its bumps."""
    n, time = len(peaks), np.arange(N_SAMPLES) / FS
    courses = np.empty((n, len(WAVES), N_SAMPLES), np.float32)
    for wave, (offset, width) in enumerate(zip(_OFFSETS, _WIDTHS, strict=True)):
        shift = np.full_like(peaks, offset)
        if wave == _P:
            shift -= 0.13 * hearts.delayed[:, None]
        if wave in (_T, _ECTOPIC_T):
            shift *= np.sqrt(np.clip(intervals, 0.4, 1.3))  # as QT follows the rate (Bazett 1920)
        widened = width * hearts.widths[:, wave]
        if wave in (*_QRS, _ST):
            widened *= 1 + 1.8 * hearts.wide
            shift *= 1 + 0.8 * hearts.wide[:, None]
        strength = ectopic if wave in (_ECTOPIC, _ECTOPIC_T) else 1 - ectopic
        if wave == _P:
            strength = strength * (hearts.irregular == 0)[:, None]
        nearest, distance = _nearest(peaks + shift, time)
        courses[:, wave] = np.take_along_axis(strength, nearest, 1) * np.exp(-0.5 * (distance / widened[:, None]) ** 2)
    frequency, phase = rng.uniform(4, 8, (n, 1)), 2 * np.pi * rng.random((n, 2))
    courses[:, _FIBRILLATION] = np.sin(
        2 * np.pi * frequency * time + phase[:, :1] + 2 * np.sin(2 * time + phase[:, 1:])
    )
    return courses


def _nearest(centres: Floats, time: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return (n, samples): which of a record's ascending ``centres`` (n, beats) is nearest, and how far it is."""
    n, span = len(centres), 1000.0  # seconds between one record and the next on one long axis
    rows = span * np.arange(n)[:, None]
    between = (centres[:, 1:] + centres[:, :-1]) / 2 + rows
    position = np.searchsorted(between.ravel(), (time + rows).ravel()).reshape(n, -1)
    nearest = np.clip(position - np.arange(n)[:, None] * between.shape[1], 0, _BEATS - 1)
    return nearest, time - np.take_along_axis(centres, nearest, 1)


def _dipoles(hearts: Hearts) -> Floats:
    """Return (n, waves, 3) in millivolt: every wave's direction, as the severities bend it and the heart lies."""
    dipoles = _DIRECTIONS * np.ones((len(hearts.rate), 1, 1))
    left, down, back = range(3)
    wide, tall, inferior = hearts.wide, hearts.tall, hearts.inferior
    dipoles[:, _Q] *= (1 - wide)[:, None]
    dipoles[:, _R, back] += 0.5 * wide + 0.3 * tall
    dipoles[:, _R, left] += 0.2 * wide
    dipoles[:, _QRS] *= (1 + 0.9 * tall)[:, None, None]
    dipoles[:, _T] *= ((1 - 1.7 * wide) * (1 - 0.7 * tall) * (1 - 1.5 * hearts.inverted))[:, None]
    dipoles[:, _Q, down] -= 0.55 * inferior
    dipoles[:, _R, down] -= 0.45 * inferior
    dipoles[:, _T, down] -= 0.30 * inferior
    dipoles[:, _ST, down] += 0.12 * inferior
    dipoles[:, _ST, left] -= 0.08 * tall + 0.10 * wide
    fibrillation = np.where(hearts.irregular > 0, 0.03 + 0.06 * hearts.irregular, 0)
    dipoles[:, _FIBRILLATION] = fibrillation[:, None] * [0.3, 0.8, -0.8]
    dipoles *= (hearts.gain * (1 - 0.6 * hearts.low)[:, None])[:, :, None]
    return _turned(dipoles, hearts.turns)


def _turned(dipoles: Floats, turns: Floats) -> Floats:
    """Turn (n, waves, 3) by the first angle in the frontal plane, then by the second in the horizontal one."""
    for angle, (one, other) in zip(turns.T[:, :, None], ((0, 1), (0, 2)), strict=True):
        a, b = dipoles[..., one], dipoles[..., other]
        turned = np.cos(angle) * a - np.sin(angle) * b, np.sin(angle) * a + np.cos(angle) * b
        dipoles = dipoles.copy()
        dipoles[..., one], dipoles[..., other] = turned
    return dipoles


def _wander(n: int, rng: np.random.Generator) -> Floats:
    """Return (n, 8, samples): the baseline of each lead, two slow waves of at most 0.2 mV."""
    time = np.arange(N_SAMPLES) / FS
    frequency, phase = rng.uniform(0.05, 0.5, (2, n, 1, 1)), 2 * np.pi * rng.random((2, n, 8, 1))
    height = rng.uniform(0, 0.1, (2, n, 8, 1))
    return np.asarray((height * np.sin(2 * np.pi * frequency * time + phase)).sum(axis=0))


def _twelve_leads(measured: Floats) -> NDArray[np.float32]:
    """Return (n, 12, samples) in the contract's order from I, II, V1 ... V6, rounded to microvolts as if digitised.

    Rounding also makes records the same to the bit on processors whose exponentials differ in the last digit.
    """
    units = np.rint(1000 * measured)
    one, two = units[:, 0], units[:, 1]
    limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.concatenate([np.stack(limbs, axis=1), units[:, 2:]], axis=1).astype(np.float32) / np.float32(1000)
