"""Net1D: Hong et al., "HOLMES", KDD 2020, as ECGFounder (Li et al., NEJM AI 2(7), 2025) has it.

A RegNet over time (Radosavovic et al., CVPR 2020) with kernels of length 16: a stem of stride 2 and seven stages of 2,
2, 2, 3, 3, 4 and 4 blocks, each of which halves the time. A block is a bottleneck of ratio 1 whose middle convolution
has groups of 16 channels, each convolution behind its activation (Swish), and squeeze-and-excitation (Hu et al., CVPR
2018). Its shortcut is pooled and filled up with channels of zeros. Mean over time, ``head``.

``width`` is the 64 channels of the stem. The stages' 64, 160, 160, 400, 400, 1024 and 1024 are scaled with it, up to
the next multiple of a group. Like ECGFounder this network neither normalises nor drops out; the code of Hong et al. can
do both.

Parameters have the names of ECGFounder's published weights. Those hold layers of batch normalisation, which are made
and never called.
"""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register

WIDTH, GROUP, KERNEL, STRIDE = 64, 16, 16, 2
STAGES = ((64, 2), (160, 2), (160, 2), (400, 3), (400, 3), (1024, 4), (1024, 4))  # channels, blocks
_SQUEEZE = 2


class SamePadding(nn.Module):
    """A convolution that gives ceil(time / stride) samples: zeros are added at both ends, at the later one no fewer."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, ceil(time / stride))."""
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        n_samples = x.shape[2]
        missing = max(0, (-(-n_samples // stride) - 1) * stride + kernel - n_samples)
        convolved: Tensor = self.conv(F.pad(x, (missing // 2, missing - missing // 2)))
        return convolved


class Block(nn.Module):
    """Three convolutions, squeeze-and-excitation and a shortcut, (batch, n_in, time) to (batch, n_out, time / stride).

    The first block of a network has no activation before its first convolution: the stem has just had one.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, *, is_first: bool) -> None:
        super().__init__()
        self.conv1 = SamePadding(n_in, n_out, 1)
        self.conv2 = SamePadding(n_out, n_out, KERNEL, stride, groups=n_out // GROUP)
        self.conv3 = SamePadding(n_out, n_out, 1)
        self.se_fc1 = nn.Linear(n_out, n_out // _SQUEEZE)
        self.se_fc2 = nn.Linear(n_out // _SQUEEZE, n_out)
        self.stride, self.n_new, self.is_first = stride, n_out - n_in, is_first

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, ceil(time / stride))."""
        y = self.conv1(x if self.is_first else F.silu(x))
        y = self.conv3(F.silu(self.conv2(F.silu(y))))
        scales = self.se_fc2(F.silu(self.se_fc1(y.mean(dim=2)))).sigmoid()  # (batch, n_out)
        added: Tensor = y * scales.unsqueeze(2) + self._shortcut(x)
        return added

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.max_pool1d(F.pad(x, ((self.stride - 1) // 2, self.stride // 2)), self.stride)
        before = self.n_new // 2
        return F.pad(x, (0, 0, before, self.n_new - before)) if self.n_new else x


class Stage(nn.Module):
    """Blocks of which the first halves the time, (batch, n_in, time) to (batch, n_out, ceil(time / 2))."""

    def __init__(self, n_in: int, n_out: int, n_blocks: int, *, is_first: bool) -> None:
        super().__init__()
        first = Block(n_in, n_out, STRIDE, is_first=is_first)
        self.block_list = nn.ModuleList([first, *(Block(n_out, n_out, 1, is_first=False) for _ in range(n_blocks - 1))])

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, ceil(time / 2))."""
        for block in self.block_list:
            x = block(x)
        return x


class Net1d(nn.Module):
    """A Net1D, (batch, n_leads, n_samples) to logits (batch, n_classes)."""

    def __init__(self, *, n_leads: int, n_classes: int, width: int) -> None:
        super().__init__()
        channels = [width, *(_whole_groups(n * width / WIDTH) for n, _ in STAGES)]
        self.first_conv = SamePadding(n_leads, width, KERNEL, STRIDE)
        self.stage_list = nn.ModuleList(
            Stage(n_in, n_out, n_blocks, is_first=k == 0)
            for k, ((n_in, n_out), (_, n_blocks)) in enumerate(zip(pairwise(channels), STAGES, strict=True))
        )
        self.head = nn.Linear(channels[-1], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        x = F.silu(self.first_conv(x))
        for stage in self.stage_list:
            x = stage(x)
        logits: Tensor = self.head(x.mean(dim=2))
        return logits


def _whole_groups(channels: float) -> int:
    """Return the next number of channels that groups of 16 divide."""
    return GROUP * math.ceil(channels / GROUP)


@register(
    "net1d",
    family="cnn",
    width=WIDTH,
    published={"dense.": "head."},
    unused=("first_bn.*", "stage_list.*.block_list.*.bn[123].*"),
)
def net1d(n_leads: int, n_classes: int, n_samples: int, width: int) -> Net1d:  # noqa: ARG001 any length fits
    """Make the network of ECGFounder."""
    return Net1d(n_leads=n_leads, n_classes=n_classes, width=width)
