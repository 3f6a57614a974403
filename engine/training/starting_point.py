"""What a network starts from: new random weights, or a pre-trained network with a new head.

Strategies: ``scratch`` (random, everything is trained), ``fine-tune`` (pre-trained, everything is trained), ``frozen``
(pre-trained, only ``head`` is trained, by steps) and ``random-frozen`` (random, only ``head`` is trained). Of the two
whose ``head`` is a regression (``engine.training.probe_arms``), ``linear-probe`` starts from a pre-trained network and
``random-convolutions`` from kernels drawn by chance.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoint, CheckpointError, Standardisation, load_weights
from engine.compute.steps import pad_records
from engine.recipes import Recipe, Strategy
from engine.records.contract import SignalContract
from engine.training.resident import measure
from models.registry import create_network
from models.scaling import Scaling


@dataclass(frozen=True)
class Start:
    """A network before training, and the standardisation that its weights expect; None where they expect none yet.

    One that scales every record by itself (``by_itself``) does not see by what its records are standardised: that is
    for the augmentation, whose noise has a size, and for random convolutions next to it.
    """

    network: nn.Module
    standardisation: Standardisation | None
    by_itself: Scaling = "set"

    def scaling(self, recipe: Recipe, signals: NDArray[np.float32] | Tensor) -> Standardisation:
        """Return what to apply to every signal, given the training records (records, leads, samples) in millivolt."""
        if self.by_itself == "record":
            return Standardisation.alike(signals if isinstance(signals, np.ndarray) else signals.cpu().numpy())
        if self.standardisation is not None and self.by_itself == "set":
            return self.standardisation
        if recipe.standardise or self.by_itself == "lead":
            return measure(signals) if isinstance(signals, Tensor) else Standardisation.of(signals)
        n_leads = signals.shape[1]
        return Standardisation((0.0,) * n_leads, (1.0,) * n_leads)


def starting_point(
    strategy: Strategy,
    arch: str,
    signal: SignalContract,
    n_classes: int,
    seed: int,
    checkpoint: Checkpoint | None,
    any_length: bool = False,
) -> Start:
    """Return what the strategy trains: a network whose trainable weights alone have ``requires_grad``.

    Random weights depend on the seed alone; a new head equals that of a new network of the same seed. ``checkpoint`` is
    for ``fine-tune``, ``linear-probe`` and ``frozen``; the others do not look at it. With ``any_length`` it may be of
    records of another length: what a head reads depends on that in some networks, all other weights in none. Raises
    CheckpointError when there is none or it is of another network or signal, with the reason.
    """
    if strategy in ("scratch", "random-convolutions", "random-frozen"):
        start = Start(_new(arch, signal, n_classes, seed), None, signal.scaling)
    elif checkpoint is None:
        raise CheckpointError(f"{strategy} starts from a pre-trained network, and no checkpoint is given")
    else:
        _check_upstream(checkpoint, arch, signal, any_length)
        start = _with_new_head(checkpoint, arch, signal, n_classes, seed)
    if strategy in ("frozen", "random-frozen"):
        start.network.requires_grad_(False)
        start.network.get_submodule("head").requires_grad_(True)
    return start


def new_network(
    arch: str, n_leads: int, n_samples: int, n_classes: int, seed: int, crop: int | None = None,
    scaling: Scaling = "set",
) -> nn.Module:  # fmt: skip
    """Return the named network, which reads records so, with random weights that depend on the seed alone."""
    torch.manual_seed(seed)
    return create_network(arch, n_leads=n_leads, n_classes=n_classes, n_samples=n_samples, crop=crop, scaling=scaling)


def _new(arch: str, signal: SignalContract, n_classes: int, seed: int) -> nn.Module:
    return new_network(arch, len(signal.leads), signal.n_samples, n_classes, seed, signal.crop, signal.scaling)


def _check_upstream(checkpoint: Checkpoint, arch: str, signal: SignalContract, any_length: bool) -> None:
    facts = checkpoint.facts
    if facts.arch != arch:
        raise CheckpointError(f"{checkpoint.folder} holds {facts.arch}, not {arch}")
    any_length = any_length or facts.contract.reads_any_length
    wanted = replace(signal, n_samples=facts.n_samples) if any_length else signal
    if mismatch := facts.contract.mismatch(wanted):
        raise CheckpointError(f"{checkpoint.folder} takes {mismatch}")
    if (facts.crop, facts.scaling) != (signal.crop, signal.scaling):
        raise CheckpointError(f"{checkpoint.folder} takes {facts.contract.in_words()}, not {signal.in_words()}")


def _with_new_head(checkpoint: Checkpoint, arch: str, signal: SignalContract, n_classes: int, seed: int) -> Start:
    """Return the pre-trained network with the head of ``new_network`` and all other weights its own."""
    network = _new(arch, signal, n_classes, seed)
    head = {name: value for name, value in network.state_dict().items() if name.startswith("head.")}
    load_weights(network, checkpoint, {**checkpoint.weights, **head})
    return Start(network, checkpoint.facts.standardisation, signal.scaling)


def trains_head_alone(network: nn.Module) -> bool:
    """Return whether nothing but ``head`` can be trained: what comes before it is the same in every step."""
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    fixed = any(not parameter.requires_grad for parameter in network.parameters())
    return fixed and bool(trained) and all(name.startswith("head.") for name in trained)


def head_inputs(network: nn.Module, signals: Tensor, batch_size: int = 256) -> Tensor:
    """Return what ``head`` is given for standardised signals, the network in evaluation mode and on their device.

    (records, features) float32: a flatten head has 1000 x hidden of them, 0.4 MB a record at 100 hidden units.
    """
    taken: list[Tensor] = []
    handle = network.get_submodule("head").register_forward_pre_hook(lambda _head, inputs: taken.append(inputs[0]))
    network.eval()
    try:
        with torch.no_grad():
            for batch in torch.split(signals, batch_size):
                network(batch if batch.device.type == "cpu" else pad_records(batch))
                taken[-1] = taken[-1][: len(batch)]
    finally:
        handle.remove()
    return torch.cat(taken)
