"""InceptionTime: Ismail Fawaz et al., Data Mining and Knowledge Discovery 34: 1936 (2020).

Six blocks of ``width`` filters of each of three lengths and of a pooled path, hence 4 ``width`` channels, a residual
connection after every third block, mean over time, ``head``. The published lengths of 10, 20 and 40 are 9, 19 and 39
here, as of most later implementations: an odd one needs no uneven padding. One network is trained, not the paper's
ensemble of five.

``inceptiontime-stem`` reads records of a higher rate behind two convolutions of stride 2, and has GELU throughout. It
is the network with which team Ahus AIM (Akershus University Hospital) entered the George B. Moody PhysioNet Challenge
2025, and its parameters have the names of the team's weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register

KERNELS = (9, 19, 39)
N_BLOCKS, RESIDUAL_EVERY = 6, 3
_STEM_KERNEL, _STEM_STRIDE = 5, 2

Activation = Callable[[Tensor], Tensor]


class InceptionBlock(nn.Module):
    """Convolutions of three lengths behind a bottleneck, and a pooled path, (batch, n_in, time) to 4 width channels."""

    def __init__(self, n_in: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(n_in, width, 1, bias=False)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in KERNELS)
        self.pool_conv = nn.Sequential(nn.MaxPool1d(3, stride=1, padding=1), nn.Conv1d(n_in, width, 1, bias=False))
        self.batch_norm = nn.BatchNorm1d(_n_out(width))
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, 4 width, time)."""
        narrow = self.bottleneck(x)
        paths = [*(conv(narrow) for conv in self.convs), self.pool_conv(x)]
        return self._activation(self.batch_norm(torch.cat(paths, dim=1)))


class Shortcut(nn.Module):
    """What a residual connection adds, (batch, n_in, time) to (batch, n_out, time)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, 1, bias=False)
        self.batch_norm = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, time)."""
        shortcut: Tensor = self.batch_norm(self.conv(x))
        return shortcut


class InceptionNetwork(nn.Module):
    """Two groups of three blocks with a shortcut each, mean over time: (batch, n_in, time) to (batch, 4 width)."""

    def __init__(self, n_in: int, width: int, activation: Activation) -> None:
        super().__init__()
        entering = [n_in, *[_n_out(width)] * (N_BLOCKS - 1)]  # channels
        self.blocks = nn.ModuleList(InceptionBlock(n, width, activation) for n in entering)
        self.shortcuts = nn.ModuleList(Shortcut(n, _n_out(width)) for n in entering[::RESIDUAL_EVERY])
        self._activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, 4 width)."""
        for k, shortcut in enumerate(self.shortcuts):
            before = x
            for block in self.blocks[k * RESIDUAL_EVERY : (k + 1) * RESIDUAL_EVERY]:
                x = block(x)
            x = self._activation(x + shortcut(before))
        return x.mean(dim=2)


class InceptionTime(nn.Module):
    """An InceptionTime network, (batch, n_leads, n_samples) to logits (batch, n_classes).

    ``has_stem`` puts two convolutions of stride 2 in front and takes GELU for ReLU.
    """

    def __init__(self, *, n_leads: int, n_classes: int, width: int, has_stem: bool) -> None:
        super().__init__()
        self.down_layers = _stem(n_leads, width) if has_stem else nn.Sequential()
        self.inception_network = InceptionNetwork(width if has_stem else n_leads, width, F.gelu if has_stem else F.relu)
        self.head = nn.Linear(_n_out(width), n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        logits: Tensor = self.head(self.inception_network(self.down_layers(x)))
        return logits


def _n_out(width: int) -> int:
    return width * (len(KERNELS) + 1)


def _stem(n_leads: int, width: int) -> nn.Sequential:
    """Return two convolutions without padding: 800 samples become 398, then 197."""
    return nn.Sequential(
        *(nn.Conv1d(n_leads, width, _STEM_KERNEL, _STEM_STRIDE), nn.BatchNorm1d(width), nn.GELU()),
        *(nn.Conv1d(width, width, _STEM_KERNEL, _STEM_STRIDE), nn.BatchNorm1d(width), nn.GELU()),
    )


@register("inceptiontime", family="cnn", width=32)
def inceptiontime(n_leads: int, n_classes: int, n_samples: int, width: int) -> InceptionTime:  # noqa: ARG001 any length fits
    """Make the network as it was published, for records of 100 Hz."""
    return InceptionTime(n_leads=n_leads, n_classes=n_classes, width=width, has_stem=False)


@register("inceptiontime-stem", family="cnn", width=32, published={"inception_network.fc.": "head."})
def inceptiontime_stem(n_leads: int, n_classes: int, n_samples: int, width: int) -> InceptionTime:  # noqa: ARG001 any length fits
    """Make the network behind the down-sampling stem, for records of 400 Hz."""
    return InceptionTime(n_leads=n_leads, n_classes=n_classes, width=width, has_stem=True)
