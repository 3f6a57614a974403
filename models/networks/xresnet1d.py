"""XResNet over time: the residual networks of Strodthoff et al., IEEE J-BHI 25(5): 1519 (2021), for PTB-XL.

He et al., "Bag of tricks for image classification" (CVPR 2019), along time with kernels of length 5: a stem of three
convolutions (32, 32, 64 channels, the first with stride 2) and a maximum pool; four stages whose blocks reduce time in
the middle convolution and, on the shortcut, by averaging pairs before a convolution of length 1. Unlike He et al., all
four stages have the same 64 channels (256 behind bottleneck blocks): that is how the benchmark's code defines them
(github.com/helme/ecg_ptbxl_benchmarking). Maximum and mean over time, a layer of 128 units between batch normalisation
and dropout of 0.25 and 0.5, ``head``. ``width`` is those 64 channels and scales every other number with it.

Weights are drawn from the normal distribution of He et al. (ICCV 2015) by fan-in, biases are 0, and the last
normalisation of every block starts with scale 0, so that a block starts as its shortcut (a trick of the bag). The
benchmark's definition does that too, but its training script sets the scales back to 1. Its published scores combine
predictions for windows of 2.5 s; this network reads the whole record at once.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register

KERNEL = 5


class XResBlock(nn.Module):
    """Convolutions and a shortcut that averages, (batch, n_in, time) to (batch, n_out, ceil(time / stride)).

    Two convolutions of length 5, or with ``n_inner`` < ``n_out`` a bottleneck of lengths 1, 5 and 1.
    """

    def __init__(self, n_in: int, n_inner: int, n_out: int, stride: int) -> None:
        super().__init__()
        if n_inner < n_out:
            first, last = [*_conv(n_in, n_inner, 1), nn.ReLU()], _conv(n_inner, n_out, 1)
            middle = [*_conv(n_inner, n_inner, KERNEL, stride), nn.ReLU()]
        else:
            first, last = [*_conv(n_in, n_inner, KERNEL, stride), nn.ReLU()], _conv(n_inner, n_out, KERNEL)
            middle = []
        self.convolutions = nn.Sequential(*first, *middle, *last)
        average = [nn.AvgPool1d(2, ceil_mode=True)] if stride == 2 else []
        self.shortcut = nn.Sequential(*average, *(_conv(n_in, n_out, 1) if n_in != n_out else []))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, ceil(time / stride))."""
        return F.relu(self.convolutions(x) + self.shortcut(x))


class FeatureNorm(nn.BatchNorm1d):
    """Batch normalisation of (batch, features) that takes its running statistics when the batch is one record.

    One record has no spread, and a last batch of one must not end a training.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, features) to the same shape."""
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class XResNet1d(nn.Module):
    """An XResNet over time, (batch, n_leads, n_samples) to logits (batch, n_classes)."""

    def __init__(self, blocks: tuple[int, ...], expansion: int, *, n_leads: int, n_classes: int, width: int) -> None:
        super().__init__()
        n_stem = max(1, width // 2)
        self.stem = nn.Sequential(
            *(*_conv(n_leads, n_stem, KERNEL, stride=2), nn.ReLU()),
            *(*_conv(n_stem, n_stem, KERNEL), nn.ReLU()),
            *(*_conv(n_stem, width, KERNEL), nn.ReLU()),
            nn.MaxPool1d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = []
        n_in, n_out = width, width * expansion
        for stage, n_blocks in enumerate(blocks):
            for position in range(n_blocks):
                stages.append(XResBlock(n_in, width, n_out, stride=2 if stage and not position else 1))
                n_in = n_out
        self.stages = nn.Sequential(*stages)
        self.hidden = nn.Sequential(
            *(FeatureNorm(2 * n_out), nn.Dropout(0.25), nn.Linear(2 * n_out, 2 * width), nn.ReLU()),
            *(FeatureNorm(2 * width), nn.Dropout(0.5)),
        )
        self.head = nn.Linear(2 * width, n_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        sequence = self.stages(self.stem(x))  # (batch, width * expansion, time / 32)
        pooled = torch.cat([sequence.amax(dim=2), sequence.mean(dim=2)], dim=1)
        logits: Tensor = self.head(self.hidden(pooled))
        return logits


def _conv(n_in: int, n_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv1d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm1d(n_out)]


def _initialise(network: XResNet1d) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
        if isinstance(layer, XResBlock):
            last = layer.convolutions[-1]
            assert isinstance(last, nn.BatchNorm1d), "a block's convolutions end in a normalisation"
            nn.init.zeros_(last.weight)


@register("xresnet1d18", family="cnn", width=64)
def xresnet1d18(n_leads: int, n_classes: int, n_samples: int, width: int) -> XResNet1d:  # noqa: ARG001 any length fits
    """Make the 18-layer network: two blocks of two convolutions a stage."""
    return XResNet1d((2, 2, 2, 2), 1, n_leads=n_leads, n_classes=n_classes, width=width)


@register("xresnet1d50", family="cnn", width=64)
def xresnet1d50(n_leads: int, n_classes: int, n_samples: int, width: int) -> XResNet1d:  # noqa: ARG001 any length fits
    """Make the 50-layer network: 3, 4, 6 and 3 bottleneck blocks."""
    return XResNet1d((3, 4, 6, 3), 4, n_leads=n_leads, n_classes=n_classes, width=width)


@register("xresnet1d101", family="cnn", width=64)
def xresnet1d101(n_leads: int, n_classes: int, n_samples: int, width: int) -> XResNet1d:  # noqa: ARG001 any length fits
    """Make the 101-layer network: 3, 4, 23 and 3 bottleneck blocks."""
    return XResNet1d((3, 4, 23, 3), 4, n_leads=n_leads, n_classes=n_classes, width=width)
