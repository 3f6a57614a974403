"""The two arms that take seconds: a regression on a pre-trained network's features, or on random convolutions.

``linear-probe`` takes the random convolutions along, next to the network's own features, unless the training records
say, by patients left out, that these alone are clearly better; the network is then a composed one
(``models.composed``).
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.clocks import clock_of
from engine.compute.devices import with_device_index
from engine.recipes import Strategy
from engine.training.course import Examples, Validation
from engine.training.loop import Training
from engine.training.probe import Probe, fit_probe
from engine.training.starting_point import head_inputs, new_network
from models.composed import Composed
from models.networks.random_convolutions import RandomConvolutions
from models.registry import compose

KERNELS = "random-convolutions"  # the registered network
_MARGIN = 0.03  # of macro AUROC, chosen on tuning records (``studies/LOG.md``)


@dataclass(frozen=True)
class ProbeTraining:
    """What came of a probe: ``network``, named ``arch``, has its weights; ``probes`` are those it was chosen from.

    ``training`` says what it took, as of any training: one epoch, whose validation is that of the logits out of fold.
    """

    network: nn.Module
    arch: str
    probes: dict[str, Probe]
    training: Training

    @property
    def probe(self) -> Probe:
        """The one that was chosen."""
        return self.probes[self.arch]

    def as_dict(self) -> dict[str, Any]:
        """Return which features were used, the penalty, and the AUROC that the choice was made by, as JSON values."""
        auroc = {name: round(one.auroc, 4) if np.isfinite(one.auroc) else None for name, one in self.probes.items()}
        return {"features": self.arch, "penalty": float(f"{self.probe.penalty:.4g}"), "cross_validated_auroc": auroc}


def train_probe(
    strategy: Strategy,
    network: nn.Module,
    arch: str,
    training: Examples,
    patients: NDArray[np.int64],
    seed: int,
    *,
    device: str | torch.device = "cpu",
) -> ProbeTraining:
    """Fit the probe of ``strategy`` to a network as ``starting_point`` gives it, and leave the network on the device.

    ``training`` are all records of the arm, ``patients`` (records,) theirs. ``seed`` draws the kernels that
    ``linear-probe`` may take along: those of ``random-convolutions`` with the same seed.
    """
    place, started = with_device_index(device), time.perf_counter()
    clock = clock_of(place)
    network.to(place)
    signals, labels = training.signals.to(place), training.labels.cpu()
    outcomes, own = labels.numpy().astype(np.uint8), _read(network, signals)
    probes = {arch: fit_probe(own, outcomes, patients)}
    if strategy == "linear-probe" and not isinstance(network, Composed | RandomConvolutions):  # which has them already
        kernels = new_network(KERNELS, signals.shape[1], signals.shape[2], labels.shape[1], seed).to(place)
        groups = own, _read(kernels, signals)
        both, sizes = np.concatenate(groups, axis=1), [group.shape[1] for group in groups]
        probes[compose(arch, KERNELS)] = fit_probe(both, outcomes, patients, sizes)
        if _choose(probes) != arch:
            network = Composed(network, kernels, labels.shape[1]).to(place)
    chosen = _choose(probes)
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear), "the registry says so"
    probes[chosen].put_into(head)
    took = clock.seconds(), time.perf_counter() - started
    return ProbeTraining(network.eval(), chosen, probes, _as_training(probes[chosen], labels, *took))


def _read(network: nn.Module, signals: Tensor) -> NDArray[np.float32]:
    """Return what ``head`` reads (records, features), the constants of random convolutions fitted first."""
    if isinstance(network, RandomConvolutions):
        return np.asarray(network.fit_constants(signals).cpu())
    return np.asarray(head_inputs(network, signals).cpu())


def _choose(probes: dict[str, Probe]) -> str:
    """Return the name of the last, which has most features, unless the first one's AUROC is higher by the margin.

    An AUROC that is not known is no reason.
    """
    first, last = next(iter(probes)), next(reversed(probes))
    return first if probes[first].auroc - probes[last].auroc > _MARGIN else last


def _as_training(probe: Probe, labels: Tensor, seconds: float, wall_seconds: float) -> Training:
    """Say of a probe what is said of any training: its one epoch is validated by the logits out of fold."""
    loss = float(F.binary_cross_entropy_with_logits(torch.from_numpy(probe.out_of_fold), labels))
    only = Validation(1, probe.auroc, loss, probe.training_loss, seconds, len(labels))
    return Training(1, len(labels), seconds, wall_seconds, only, (only,), way="regression")
