"""Many networks of one architecture as one module, for training them in one step: recurrent ones.

A thousand serial steps of a small hidden layer keep neither a GPU nor a processor busy, and calls are most of what they
cost. Here R networks share the calls (``engine.compute.recurrence``): parameters are stacked, R first, and a batch is
the R batches one after the other. Layers with parameters are replaced; all else (pooling over time, flattening) does to
each record what it always does. Dropout draws its masks for the whole group, so a run with dropout would depend on
its companions: no recurrent network here has any.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from engine.compute.recurrence import gru, lstm
from models.networks.rnn import FlattenedRecurrent, PooledRecurrent


class LockstepLinear(nn.Module):
    """R layers ``nn.Linear``: (R * batch, n_in) to (R * batch, n_out). ``weight`` is (R, n_out, n_in)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer k to the k-th part of the records."""
        by_run = x.view(len(self.weight), -1, x.shape[1])
        return torch.baddbmm(self.bias.unsqueeze(1), by_run, self.weight.transpose(1, 2)).flatten(0, 1)


class LockstepRecurrent(nn.Module):
    """R layers ``nn.GRU`` or ``nn.LSTM``, batch first: (R * batch, time, inputs) to (R * batch, time, features).

    Parameters have torch's names, and R in front. A layer that reads both ways is two layers that read one way, on the
    records and on the reversed records, done as 2 R layers at once.
    """

    def __init__(self, layer: nn.RNNBase, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._recur = gru if isinstance(layer, nn.GRU) else lstm
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))
        self._groups = [list(names) for names in layer._all_weights]  # of each direction, in the order of ``gru``
        self.runs = len(next(iter(parameters.values())))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the hidden states of every time step, and None where torch's layers have the last one."""
        signals = x.transpose(0, 1).view(x.shape[1], self.runs, -1, x.shape[2])  # (time, R, batch, inputs)
        if len(self._groups) == 1:
            states = self._recur(signals, *(self.get_parameter(name) for name in self._groups[0]))
            return states.flatten(1, 2).transpose(0, 1), None
        pairs = (tuple(self.get_parameter(name) for name in pair) for pair in zip(*self._groups, strict=True))
        both = self._recur(torch.cat([signals, signals.flip(0)], dim=1), *(torch.cat(pair) for pair in pairs))
        forward, reverse = both.chunk(2, dim=1)
        return torch.cat([forward, reverse.flip(0)], dim=3).flatten(1, 2).transpose(0, 1), None


def can_train_together(network: nn.Module) -> bool:
    """Return whether ``lockstep_twin`` computes what the network does, and all of its weights are trained.

    Another package's network may do with its layers what a twin does not, and trains alone.
    """
    return (
        type(network) in (PooledRecurrent, FlattenedRecurrent)
        and all(_is_known(layer) for _, layer in _layers_with_weights(network))
        and all(parameter.requires_grad for parameter in network.parameters())
    )


def architecture_of(network: nn.Module) -> tuple[object, ...]:
    """Return what networks must share to train in lockstep, hashable: layers and shapes, but not the head's classes."""
    names = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    shapes = ((name, shape[1:] if name.startswith("head.") else shape) for name, shape in names.items())
    kinds = ((name, type(layer).__name__) for name, layer in network.named_modules())
    return (*kinds, *shapes)


def lockstep_twin(networks: Sequence[nn.Module]) -> nn.Module:
    """Return one module that maps (R * batch, leads, samples) to logits (R * batch, most classes of any).

    Logits of classes that a network does not have are 0. Raises ValueError when the networks differ in more than their
    classes, or have layers that are not known here.
    """
    if not all(can_train_together(network) for network in networks) or len({*map(architecture_of, networks)}) != 1:
        raise ValueError("these networks cannot train in lockstep: their layers differ, or have no lockstep form")
    twin = deepcopy(networks[0])
    parameters = stacked_parameters(networks)
    for name, layer in list(_layers_with_weights(twin)):
        own = {key: parameters[f"{name}.{key}"] for key, _ in layer.named_parameters()}
        parent, _, last = name.rpartition(".")
        new = LockstepRecurrent(layer, own) if isinstance(layer, nn.RNNBase) else LockstepLinear(**own)
        setattr(twin.get_submodule(parent), last, new)
    return twin


def stacked_parameters(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return the networks' parameters by name, R first, filled up with zeros to the widest."""
    every = [dict(network.named_parameters()) for network in networks]
    return {
        name: nn.utils.rnn.pad_sequence([own[name].detach() for own in every], batch_first=True) for name in every[0]
    }


def state_of(twin: nn.Module, run: int, network: nn.Module) -> dict[str, Tensor]:
    """Return one run's part of the twin, with the names and shapes of the network's own state; views."""
    states = twin.state_dict()
    return {name: states[name][run, : len(value)] for name, value in network.state_dict().items()}


def _layers_with_weights(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in network.named_modules():
        if any(True for _ in layer.parameters(recurse=False)) or any(True for _ in layer.buffers(recurse=False)):
            yield name, layer


def _is_known(layer: nn.Module) -> bool:
    if type(layer) in (nn.GRU, nn.LSTM):
        assert isinstance(layer, nn.RNNBase)
        return layer.num_layers == 1 and layer.bias and layer.batch_first and not layer.proj_size
    return type(layer) is nn.Linear and layer.bias is not None
