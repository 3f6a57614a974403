"""What a network starts from: new random weights, or a pre-trained network with a new head."""

from pathlib import Path

import torch
from torch import nn

from engine.checkpoint import CheckpointError, Standardisation, load_checkpoint
from models.registry import create_network


def new_network(arch: str, n_leads: int, n_samples: int, n_classes: int, seed: int) -> nn.Module:
    """Return the named network with random weights that depend on the seed alone."""
    torch.manual_seed(seed)
    return create_network(arch, n_leads=n_leads, n_classes=n_classes, n_samples=n_samples)


def from_checkpoint(
    checkpoint: Path, arch: str, n_leads: int, n_samples: int, n_classes: int, seed: int
) -> tuple[nn.Module, Standardisation]:
    """Return the pre-trained network with a new head of ``n_classes``, and the scaling that its weights expect.

    The head's weights depend on the seed alone and equal those of ``new_network``; all other weights are the
    checkpoint's. Raises CheckpointError when the checkpoint is of another network or another signal.
    """
    weights, facts = load_checkpoint(checkpoint)
    if facts.arch != arch:
        raise CheckpointError(f"{checkpoint} holds {facts.arch}, not {arch}")
    if (len(facts.leads), facts.n_samples) != (n_leads, n_samples):
        raise CheckpointError(
            f"{checkpoint} takes {len(facts.leads)} leads of {facts.n_samples} samples, not {n_leads} of {n_samples}"
        )
    network = new_network(arch, n_leads, n_samples, n_classes, seed)
    head = {name: value for name, value in network.state_dict().items() if name.startswith("head.")}
    try:
        network.load_state_dict({**weights, **head})
    except RuntimeError:
        raise CheckpointError(f"the weights of {checkpoint} do not fit {arch} as it is defined here") from None
    return network, facts.standardisation
