"""Recurrent networks: one layer over the 1000 time steps, as in Nguyen and Do, PLOS ONE 20(5): e0316043 (2025).

The published head reads the flattened (time x hidden) sequence, so transfer throws away more than 90 % of the
network's weights with it. Here the sequence is pooled, mean and maximum over time, and only a small head is replaced.
"""

import torch
from torch import Tensor, nn

from models.registry import register


class PooledRecurrent(nn.Module):
    """A recurrent layer, mean and maximum over time, ``head``: (batch, n_leads, n_samples) to (batch, n_classes)."""

    def __init__(self, recurrent: nn.RNNBase, n_classes: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(2 * recurrent.hidden_size, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        sequence, _ = self.recurrent(x.transpose(1, 2))  # (batch, n_samples, hidden)
        pooled = torch.cat([sequence.mean(dim=1), sequence.amax(dim=1)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


@register("gru", family="rnn", width=100)
def gru(n_leads: int, n_classes: int, n_samples: int, width: int) -> PooledRecurrent:  # noqa: ARG001 any length fits
    """Make a gated recurrent unit network with ``width`` hidden units (Cho et al., EMNLP 2014)."""
    return PooledRecurrent(nn.GRU(n_leads, width, batch_first=True), n_classes)
