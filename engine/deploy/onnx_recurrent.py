"""Recurrent layers as ONNX's own LSTM and GRU nodes, their weights laid out as ONNX wants them.

``torch.export`` unrolls a recurrent layer over its time steps: with 1000 of them that takes minutes and gives tens of
thousands of nodes. So a copy of the network is exported in which every recurrent layer is one call of an
operator that exists for the export alone; the exporter writes one ONNX node for it and the rest of the network, pooling
and head, as it stands. Which networks take this way is told by their layers, not by their names.

Layouts (https://onnx.ai/onnx/operators, LSTM and GRU): torch stacks the gates of an LSTM as input, forget, cell, output
and ONNX as input, output, forget, cell; those of a GRU as reset, update, new and as update, reset, hidden. ONNX has one
bias vector, that of the input and that of the recurrence one after the other, and torch's GRU applies the reset gate
after the recurrent product (``linear_before_reset=1``).
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_GATES: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}  # ONNX's k-th gate in torch's order
_ARGUMENTS = "(Tensor x, Tensor w, Tensor r, Tensor b, int hidden_size, str direction)"

torch.library.define("ecgadvise::lstm", f"{_ARGUMENTS} -> (Tensor, Tensor, Tensor)")
torch.library.define("ecgadvise::gru", f"{_ARGUMENTS} -> (Tensor, Tensor)")


class UnsupportedLayerError(ValueError):
    """A recurrent layer that has no ONNX form here; one sentence says which."""


def _lstm_shapes(x: Tensor, w: Tensor, r: Tensor, b: Tensor, hidden_size: int, direction: str) -> tuple[Tensor, ...]:
    sequence, state = _gru_shapes(x, w, r, b, hidden_size, direction)
    return sequence, state, torch.empty_like(state)


def _gru_shapes(x: Tensor, w: Tensor, r: Tensor, b: Tensor, hidden_size: int, direction: str) -> tuple[Tensor, Tensor]:  # noqa: ARG001 the operator's signature
    n_samples, batch, _ = x.shape
    directions = w.shape[0]
    return x.new_empty(n_samples, directions, batch, hidden_size), x.new_empty(directions, batch, hidden_size)


torch.library.register_fake("ecgadvise::lstm", _lstm_shapes)
torch.library.register_fake("ecgadvise::gru", _gru_shapes)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return how ``torch.onnx.export`` writes the operators: its ``custom_translation_table``."""
    from onnxscript import opset18 as op

    def lstm(x: Any, w: Any, r: Any, b: Any, hidden_size: int, direction: str) -> Any:
        return op.LSTM(x, w, r, b, hidden_size=hidden_size, direction=direction)

    def gru(x: Any, w: Any, r: Any, b: Any, hidden_size: int, direction: str) -> Any:
        return op.GRU(x, w, r, b, hidden_size=hidden_size, direction=direction, linear_before_reset=1)

    return {torch.ops.ecgadvise.lstm.default: lstm, torch.ops.ecgadvise.gru.default: gru}


def with_onnx_recurrence(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose recurrent layers export to ONNX nodes; the network itself where it has none.

    The copy can be exported, not run. Raises UnsupportedLayerError.
    """
    if not any(isinstance(module, nn.RNNBase) for module in network.modules()):
        return network
    if isinstance(network, nn.RNNBase):
        return OnnxRecurrent(network)
    changed = copy.deepcopy(network)
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.RNNBase):
                setattr(parent, name, OnnxRecurrent(child))
    return changed


class OnnxRecurrent(nn.Module):
    """Stands for an ``nn.LSTM`` or ``nn.GRU`` in an export: the same inputs and outputs, zero initial state."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        if layer.mode not in _GATES or layer.proj_size:
            kind = "an LSTM with projections" if layer.proj_size else f"a recurrent layer of kind {layer.mode}"
            raise UnsupportedLayerError(f"{kind} cannot be written as an ONNX node; LSTM and GRU can")
        self.mode, self.hidden_size, self.batch_first = layer.mode, layer.hidden_size, layer.batch_first
        self.direction = "bidirectional" if layer.bidirectional else "forward"
        self.num_layers = layer.num_layers
        for depth in range(layer.num_layers):
            for name, value in zip(("w", "r", "b"), _onnx_weights(layer, depth), strict=True):
                self.register_buffer(f"{name}{depth}", value)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
        """Map (batch, time, features) to (batch, time, directions * hidden) and the last states, as torch's layer."""
        x = x.transpose(0, 1) if self.batch_first else x
        operator = getattr(torch.ops.ecgadvise, self.mode.lower())
        last: list[list[Tensor]] = []
        for depth in range(self.num_layers):
            w, r, b = (getattr(self, f"{name}{depth}") for name in ("w", "r", "b"))
            sequence, *states = operator(x, w, r, b, self.hidden_size, self.direction)
            x = sequence.transpose(1, 2).flatten(2)  # (time, batch, directions * hidden)
            last.append(states)
        final = [torch.cat(states) for states in zip(*last, strict=True)]
        return x.transpose(0, 1) if self.batch_first else x, final[0] if len(final) == 1 else (final[0], final[1])


def _onnx_weights(layer: nn.RNNBase, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a layer's input weights, recurrent weights and biases, each (directions, gates * hidden, ...)."""
    ends = [f"_l{depth}"] + [f"_l{depth}_reverse"] * layer.bidirectional
    order = _GATES[layer.mode]

    def gates(name: str, end: str) -> Tensor:
        parameter: Tensor = getattr(layer, name + end)
        parts = parameter.detach().chunk(len(order))
        return torch.cat([parts[k] for k in order])

    w, r = (torch.stack([gates(name, end) for end in ends]) for name in ("weight_ih", "weight_hh"))
    if not layer.bias:
        return w, r, torch.zeros(len(ends), 2 * w.shape[1])
    both = [torch.cat([gates("bias_ih", end), gates("bias_hh", end)]) for end in ends]
    return w, r, torch.stack(both)
