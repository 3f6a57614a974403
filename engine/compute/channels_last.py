"""Layers that compute what torch's one-dimensional ones do, in the layout that cuDNN and oneDNN are fast with.

A convolution over time is done as a two-dimensional one with kernel (1, k) on (batch, channels, 1, time) in
channels-last order, which three-dimensional tensors do not have. Between layers the tensors stay (batch, channels,
time), with the strides of channels last, so that additions, pools and means need no conversion. Parameters, their
names and their shapes are those of the plain layers: weights are loaded, stored and exported as such.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.weight_gradient import convolve, gains


class ChannelsLastConv1d(nn.Conv1d):
    """``nn.Conv1d`` with zero padding."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, time')."""
        high = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        if self._learns_by_products(x):
            return convolve(high, self.weight, int(self.padding[0])).squeeze(2)
        padding = self.padding if isinstance(self.padding, str) else (0, *self.padding)
        y = F.conv2d(
            high, self.weight.unsqueeze(2), self.bias, (1, *self.stride), padding, (1, *self.dilation), self.groups
        )
        return y.squeeze(2)

    def _learns_by_products(self, x: Tensor) -> bool:
        return (
            torch.is_grad_enabled()
            and self.weight.requires_grad
            and self.bias is None
            and not isinstance(self.padding, str)
            and (self.stride, self.dilation, self.groups) == ((1,), (1,), 1)
            and not torch.is_autocast_enabled(x.device.type)
            and gains(self.weight, x.shape[2], int(self.padding[0]))
        )


class ChannelsLastBatchNorm1d(nn.BatchNorm1d):
    """``nn.BatchNorm1d``; statistics and parameters are float32 whatever the input is."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, time) or (batch, channels) to the same shape."""
        return super().forward(x.unsqueeze(2)).squeeze(2) if x.dim() == 3 else super().forward(x)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() not in (2, 4):
            raise ValueError(f"expected 2 or 3 dimensions, got {x.dim()}")


class FullPrecisionLinear(nn.Linear):
    """``nn.Linear`` in its weights' precision under autocast: logits of 8 bits would tie, and ties cost AUROC."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to logits (batch, n_classes)."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def fast_twin(network: nn.Module) -> nn.Module:
    """Return a copy of the network, its weights too, whose convolutions run in channels-last order."""
    twin = deepcopy(network)
    head = getattr(twin, "head", twin)
    for layer in twin.modules():
        if type(layer) is nn.Conv1d and layer.padding_mode == "zeros":
            layer.__class__ = ChannelsLastConv1d
        elif type(layer) is nn.BatchNorm1d:
            layer.__class__ = ChannelsLastBatchNorm1d
        elif layer is head and type(layer) is nn.Linear:
            layer.__class__ = FullPrecisionLinear
        elif isinstance(layer, nn.RNNBase):
            layer.flatten_parameters()  # cuDNN wants them in one piece, and a copy is in many
    return twin


def is_recurrent(network: nn.Module) -> bool:
    """Return whether the network has a recurrent layer: cuDNN runs these in float32."""
    return any(isinstance(layer, nn.RNNBase) for layer in network.modules())
