"""Is the exported model the trained network? Both are run on the same records and their outputs compared.

The reference is the way predictions are made in training: ``Standardisation.apply``, the network in torch, a sigmoid
of logit / temperature, in float32. The model has all of that inside its graph, and is fed millivolt.

A decision (probability >= threshold) may differ only where the reference lies within the tolerance of the threshold:
there the last digits decide, and two runs of torch itself with different batch sizes may differ. Such decisions are
counted, not compared. Nothing else may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.checkpoints.checkpoint import CheckpointFacts
from engine.deploy.inference import open_session
from engine.training.loop import predict_logits

TOLERANCE = 1e-4  # of a probability, and of the largest logit: a probability near 0 or 1 hides its logit
HALF_TOLERANCE = 5e-3  # where weights are stored in 16 bits: their rounding is 5e-4 of their size
BATCHES = (1, 2, 7, 256)


@dataclass(frozen=True)
class Agreement:
    """What the comparison found: the largest differences, and the decisions that differ away from a threshold."""

    records: int
    tolerance: float
    probability_difference: float
    logit_difference: float  # as a share of the largest logit
    decisions: int
    near_threshold: int
    different_decisions: int

    @property
    def holds(self) -> bool:
        """Whether the model may be used in the network's place; a difference that is NaN may not."""
        return (
            self.probability_difference <= self.tolerance
            and self.logit_difference <= self.tolerance
            and self.different_decisions == 0
        )

    def sentence(self) -> str:
        """Say what was compared and found."""
        near = f" ({self.near_threshold:,} within {self.tolerance:g} of a threshold not compared)"
        return (
            f"probabilities of {self.records:,} records differ by at most {self.probability_difference:.2g}, logits by "
            f"{self.logit_difference:.2g} of the largest (allowed: {self.tolerance:g} each), and "
            f"{self.different_decisions:,} of {self.decisions:,} decisions{near if self.near_threshold else ''}"
        )


def compare(
    model: bytes, network: nn.Module, facts: CheckpointFacts, signals: Sequence[NDArray[np.float32]], tolerance: float
) -> Agreement:
    """Run a model and the network that it came from on batches of signals (records, leads, samples) in millivolt.

    Raises what onnxruntime raises for a model that it cannot load or run.
    """
    session = open_session(model)
    thresholds = np.array(facts.class_thresholds)
    found = []
    for batch in signals:
        logits = predict_logits(network, torch.from_numpy(facts.standardisation.apply(batch)))
        expected = torch.sigmoid(logits / facts.temperature).numpy()
        actual_logits, actual = session.run(["logits", "probability"], {"ecg": batch})
        near = np.abs(expected - thresholds) <= tolerance
        differs = ((expected >= thresholds) != (actual >= thresholds)) & ~near
        scale = float(np.abs(logits.numpy()).max()) or 1.0
        found.append((
            np.abs(actual - expected).max(), np.abs(actual_logits - logits.numpy()).max() / scale,
            expected.size, near.sum(), differs.sum(),
        ))  # fmt: skip
    differences, counts = np.array(found)[:, :2].max(axis=0), np.array(found)[:, 2:].sum(axis=0).astype(int)
    n_records = sum(len(batch) for batch in signals)
    return Agreement(n_records, tolerance, *differences.tolist(), *counts.tolist())


def gate_batches(facts: CheckpointFacts, own_records: NDArray[np.float32] | None = None) -> list[NDArray[np.float32]]:
    """Return batches of 1, 2, 7 and 256 synthetic records, and of 256 at most of the caller's own."""
    n_leads, largest = len(facts.leads), BATCHES[-1]
    signals = synthetic_records(sum(BATCHES), n_leads, facts.n_samples, facts.fs)
    batches = np.split(signals, np.cumsum(BATCHES)[:-1])
    own = [] if own_records is None else np.split(own_records, range(largest, len(own_records), largest))
    return [*batches, *own]


def synthetic_records(n_records: int, n_leads: int, n_samples: int, fs: float, seed: int = 0) -> NDArray[np.float32]:
    """Return (records, leads, samples) in millivolt that look like ECGs, the same for the same arguments.

    Every beat is a P wave, a QRS complex of three waves and a T wave, each a Gaussian with an amplitude of its own in
    every lead; the heart beats 40 to 160 times a minute; noise and a wandering baseline are added. The first record is
    flat, the second three times as large as the others: a model is to be the network there too.
    """
    rng = np.random.default_rng(seed)
    seconds = np.arange(n_samples) / fs
    centre, width, typical = np.array(_WAVES).T[..., None]  # each (waves, 1)
    records = np.empty((n_records, n_leads, n_samples), np.float32)
    for record in records:
        period = 60 / rng.uniform(40, 160)
        phase = (seconds + rng.uniform(0, period)) % period - 0.4 * period  # seconds from the R wave
        waves = np.exp(-(((phase - centre) / width) ** 2) / 2)  # (waves, samples)
        amplitudes = typical[:, 0] * rng.normal(1, 0.5, (n_leads, len(_WAVES))) * rng.choice([-1, 1], (n_leads, 1))
        drift = 0.1 * np.sin(2 * np.pi * (0.3 * seconds + rng.uniform(0, 1, (n_leads, 1))))
        record[:] = amplitudes @ waves + drift + rng.normal(0, 0.02, (n_leads, n_samples))
    records[:1] = 0
    records[1:2] *= 3
    return records


_WAVES = ((-0.16, 0.025, 0.15), (-0.03, 0.01, -0.1), (0, 0.012, 1.2), (0.03, 0.01, -0.25), (0.25, 0.05, 0.3))
# P, Q, R, S, T: seconds from the R wave, standard deviation in seconds, millivolt
