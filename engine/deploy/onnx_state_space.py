"""State spaces as convolutions with fixed kernels, which every runtime has.

In training a state space makes its kernel from its parameters at every step and convolves by Fourier transform
(``models.networks.s4d``). What is exported has the kernel as weights of a Conv node with a group a channel: as long as
twice the record, and with a height of 1 (``engine.deploy.onnx_convolution``) onnxruntime is fast with it.
"""

import copy
from collections import defaultdict

import torch
from torch import Tensor, nn

from models.networks.s4d import StateSpace


def with_fixed_kernels(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a network whose state spaces are convolutions; the network itself where it has none.

    The copy computes the same for records as long as ``example`` (batch, leads, samples), or shorter.
    """
    if not any(isinstance(module, StateSpace) for module in network.modules()):
        return network
    if isinstance(network, StateSpace):
        return network.as_convolution(example.shape[-1])
    changed = copy.deepcopy(network)
    longest = _longest_inputs(changed, example)
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, StateSpace):
                setattr(parent, name, child.as_convolution(longest[child]))
    return changed


def _longest_inputs(network: nn.Module, example: Tensor) -> dict[StateSpace, int]:
    """Return how many samples each state space is given at most: layers in front of it may shorten a record."""
    found: dict[StateSpace, int] = defaultdict(int)

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, StateSpace), "no other layer is watched"
        found[layer] = max(found[layer], inputs[0].shape[-1])

    watched = [layer for layer in network.modules() if isinstance(layer, StateSpace)]
    handles = [layer.register_forward_pre_hook(note) for layer in watched]
    with torch.no_grad():
        network.eval()(example)
    for handle in handles:
        handle.remove()
    return found
