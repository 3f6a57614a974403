"""Recurrent networks: one layer over the 1000 time steps, as in Nguyen and Do, PLOS ONE 20(5): e0316043 (2025).

The published head reads the flattened (time x hidden) sequence, so transfer throws away more than 90 % of the
network's weights with it. Here the sequence is pooled, mean and maximum over time, and only a small head is replaced.
The networks named ``*-flatten`` have the published head; they take records of one length only. The paper's code asks
for dropout of 0.3 between recurrent layers; with one layer there is nothing between, so there is none here.
"""

import torch
from torch import Tensor, nn

from models.registry import register


class PooledRecurrent(nn.Module):
    """A recurrent layer, mean and maximum over time, ``head``: (batch, n_leads, n_samples) to (batch, n_classes)."""

    def __init__(self, recurrent: nn.RNNBase, n_classes: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(2 * _n_features(recurrent), n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        sequence, _ = self.recurrent(x.transpose(1, 2))  # (batch, n_samples, features)
        pooled = torch.cat([sequence.mean(dim=1), sequence.amax(dim=1)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


class FlattenedRecurrent(nn.Module):
    """A recurrent layer and a ``head`` that reads every time step, as published: n_samples is fixed."""

    def __init__(self, recurrent: nn.RNNBase, n_samples: int, n_classes: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(n_samples * _n_features(recurrent), n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        sequence, _ = self.recurrent(x.transpose(1, 2))  # (batch, n_samples, features)
        logits: Tensor = self.head(sequence.flatten(start_dim=1))
        return logits


def _n_features(recurrent: nn.RNNBase) -> int:
    return recurrent.hidden_size * (2 if recurrent.bidirectional else 1)


def _gru(n_leads: int, width: int) -> nn.GRU:
    return nn.GRU(n_leads, width, batch_first=True)


def _lstm(n_leads: int, width: int, *, bidirectional: bool = False) -> nn.LSTM:
    return nn.LSTM(n_leads, width, batch_first=True, bidirectional=bidirectional)


@register("gru", family="rnn", width=100)
def gru(n_leads: int, n_classes: int, n_samples: int, width: int) -> PooledRecurrent:  # noqa: ARG001 any length fits
    """Make a gated recurrent unit network with ``width`` hidden units (Cho et al., EMNLP 2014)."""
    return PooledRecurrent(_gru(n_leads, width), n_classes)


@register("lstm", family="rnn", width=100)
def lstm(n_leads: int, n_classes: int, n_samples: int, width: int) -> PooledRecurrent:  # noqa: ARG001 any length fits
    """Make a long short-term memory network with ``width`` hidden units (Hochreiter and Schmidhuber, 1997)."""
    return PooledRecurrent(_lstm(n_leads, width), n_classes)


@register("bilstm", family="rnn", width=100)
def bilstm(n_leads: int, n_classes: int, n_samples: int, width: int) -> PooledRecurrent:  # noqa: ARG001 any length fits
    """Make a long short-term memory network that reads both ways, ``width`` hidden units each."""
    return PooledRecurrent(_lstm(n_leads, width, bidirectional=True), n_classes)


@register("gru-flatten", family="rnn", width=100)
def gru_flatten(n_leads: int, n_classes: int, n_samples: int, width: int) -> FlattenedRecurrent:
    """Make the gated recurrent unit network with the published head."""
    return FlattenedRecurrent(_gru(n_leads, width), n_samples, n_classes)


@register("lstm-flatten", family="rnn", width=100)
def lstm_flatten(n_leads: int, n_classes: int, n_samples: int, width: int) -> FlattenedRecurrent:
    """Make the long short-term memory network with the published head."""
    return FlattenedRecurrent(_lstm(n_leads, width), n_samples, n_classes)


@register("bilstm-flatten", family="rnn", width=100)
def bilstm_flatten(n_leads: int, n_classes: int, n_samples: int, width: int) -> FlattenedRecurrent:
    """Make the two-way long short-term memory network with the published head."""
    return FlattenedRecurrent(_lstm(n_leads, width, bidirectional=True), n_samples, n_classes)
