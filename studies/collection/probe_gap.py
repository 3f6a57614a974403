"""The probe gap: what a pre-trained network's features say of labels that random convolutions do not.

Two linear probes on the asker's own labelled records, no training: the macro AUROC of patients left out by the first,
on what the network's head reads, minus that by the second, on random convolutions. Alone, the first says how easy the
labels are. Registered before it was computed (``studies/METHODS.md``, Transferability).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoints.checkpoint import Standardisation, load_network
from engine.evaluation.metrics import auroc_macro
from engine.training.probe import fit_probe
from engine.training.starting_point import head_inputs, new_network
from models.networks.random_convolutions import RandomConvolutions

KERNELS = "random-convolutions-w16"
FEWEST_RECORDS, FEWEST_PATIENTS = 3, 2  # with a class, and as many without it, for the class to count


@dataclass(frozen=True)
class ProbeGap:
    """Macro AUROC of patients left out by a probe of the network's ``features`` and one of ``random_convolutions``."""

    features: float
    random_convolutions: float

    @property
    def value(self) -> float:
        """The gap."""
        return self.features - self.random_convolutions


def measure_gap(
    checkpoint: Path, signals: NDArray[np.float32], labels: NDArray[np.uint8], patients: NDArray[np.int64], seed: int
) -> ProbeGap | None:
    """Measure the gap of a pre-trained network on signals (records, leads, samples) in millivolt; None without one.

    ``labels`` 0/1 are (records, classes), ``patients`` (records,) say whose a record is, ``seed`` draws the kernels.
    There is none without a class that counts (``counted_classes``), or where one of the probes has no finite feature.
    Raises CheckpointError where the checkpoint cannot be read.
    """
    counted = labels[:, counted_classes(labels, patients)]
    if not counted.shape[1]:
        return None
    probed = network_features(checkpoint, signals), kernel_features(signals, seed)
    gap = ProbeGap(*(left_out_auroc(features, counted, patients) for features in probed))
    return gap if np.isfinite(gap.value) else None


def counted_classes(labels: NDArray[np.uint8], patients: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each class whether three records with it and three without it are there, each of two patients."""
    return np.array([_is_counted(column > 0, patients) for column in labels.T], np.bool_)


def _is_counted(positive: NDArray[np.bool_], patients: NDArray[np.int64]) -> bool:
    return all(
        side.sum() >= FEWEST_RECORDS and len(np.unique(patients[side])) >= FEWEST_PATIENTS
        for side in (positive, ~positive)
    )


def left_out_auroc(
    features: NDArray[np.float32], labels: NDArray[np.uint8], patients: NDArray[np.int64]
) -> float:  # fmt: skip
    """Return the macro AUROC of the scores that a probe gives each patient without the patient's records.

    Features (records, features) that are not finite everywhere are left out; NaN where no other is there.
    """
    finite = features[:, np.isfinite(features).all(axis=0)]
    if not finite.shape[1]:
        return float("nan")
    # Of the float32 scores: where features say nothing scores differ by rounding alone, and are ties here.
    return auroc_macro(labels, fit_probe(finite, labels, patients).out_of_fold)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: the last bits depend on it, and where others want the processors more lose much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def network_features(checkpoint: Path, signals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the head of a pre-trained network is given, (records, features). Raises CheckpointError."""
    network, facts = load_network(checkpoint)
    return head_inputs(network, torch.from_numpy(facts.standardisation.apply(signals))).numpy()


@_one_thread()
def kernel_features(signals: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return what random convolutions give of standardised signals, (records, features)."""
    _, n_leads, n_samples = signals.shape
    kernels = new_network(KERNELS, n_leads, n_samples, 1, seed)
    assert isinstance(kernels, RandomConvolutions), "the registry says so"
    return kernels.fit_constants(torch.from_numpy(Standardisation.of(signals).apply(signals))).numpy()
