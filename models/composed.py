"""Two networks side by side under one head, such as a pre-trained one and random convolutions."""

import torch
from torch import Tensor, nn


class Composed(nn.Module):
    """``head`` reads what the heads of two networks would: (batch, n_leads, n_samples) to logits (batch, n_classes).

    The features of ``network`` come first, then those of ``kernels``; both have lost their own heads.
    """

    def __init__(self, network: nn.Module, kernels: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.network, self.kernels = network, kernels
        self.groups = _take_head(network), _take_head(kernels)  # how many features each of them gives
        self.head = nn.Linear(sum(self.groups), n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        logits: Tensor = self.head(torch.cat([self.network(x), self.kernels(x)], dim=1))
        return logits


def feature_groups(network: nn.Module) -> tuple[int, ...]:
    """Return how many features ``head`` reads of each of the networks that a network is composed of."""
    if isinstance(network, Composed):
        return network.groups
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear), "the registry says so"
    return (head.in_features,)


def _take_head(network: nn.Module) -> int:
    """Let a network return what its head would read; return how many features that is."""
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear), "the registry says so"
    network.add_module("head", nn.Identity())
    return head.in_features
