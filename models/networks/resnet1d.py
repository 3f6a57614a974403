"""One-dimensional residual networks as in Nguyen and Do, PLOS ONE 20(5): e0316043 (2025).

He et al., "Deep residual learning" (CVPR 2016), with kernels of length 3 along time: a stem of 12 -> 64 channels,
kernel 7, stride 2; four stages of 64, 128, 256 and 512 channels, four times as many behind the bottleneck blocks of the
50- and 101-layer networks; average over time; ``fc1`` of 512 units; ``head``, which the paper calls fc2. ``width``
scales every one of these numbers: the first stage has ``width`` channels.

The paper's code (github.com/cuongvng/transfer-learning-ecg-diagnosis) draws the weights of convolutions from the normal
distribution of He et al. (ICCV 2015) by fan-out. The 50- and 101-layer networks do the same here; ``resnet1d18`` keeps
PyTorch's own initialisation, with which its stored runs were made. The paper computes in float64, this in float32.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register


class BasicBlock(nn.Module):
    """Two convolutions of length 3 and a shortcut, (batch, n_in, time) to (batch, n_out, time / stride)."""

    expansion = 1

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(n_out)
        self.shortcut = _shortcut(n_in, n_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, time / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """Convolutions of length 1, 3 and 1 through a quarter of the channels, and a shortcut.

    The convolution of length 3 has the stride, as in the paper's code (and torchvision), not the first one.
    """

    expansion = 4

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        n_inner = n_out // self.expansion
        self.conv1 = nn.Conv1d(n_in, n_inner, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(n_inner)
        self.conv2 = nn.Conv1d(n_inner, n_inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(n_inner)
        self.conv3 = nn.Conv1d(n_inner, n_out, 1, bias=False)
        self.bn3 = nn.BatchNorm1d(n_out)
        self.shortcut = _shortcut(n_in, n_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, time / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def _shortcut(n_in: int, n_out: int, stride: int) -> nn.Module:
    if stride == 1 and n_in == n_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv1d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm1d(n_out))


class ResNet1d(nn.Module):
    """A residual network over time, (batch, n_leads, n_samples) to logits (batch, n_classes)."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        *,
        n_leads: int,
        n_classes: int,
        width: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(n_leads, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.MaxPool1d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = []
        n_in = width
        for stage, n_blocks in enumerate(blocks):
            n_out = width * 2**stage * block.expansion
            for position in range(n_blocks):
                stages.append(block(n_in, n_out, stride=2 if stage and not position else 1))
                n_in = n_out
        self.stages = nn.Sequential(*stages)
        self.fc1 = nn.Linear(n_in, 8 * width)
        self.head = nn.Linear(8 * width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        features = self.stages(self.stem(x)).mean(dim=2)  # (batch, 8 * width * expansion)
        logits: Tensor = self.head(F.relu(self.fc1(features)))
        return logits


def _draw_by_fan_out(network: ResNet1d) -> ResNet1d:
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network


@register("resnet1d18", family="cnn", width=64)
def resnet1d18(n_leads: int, n_classes: int, n_samples: int, width: int) -> ResNet1d:  # noqa: ARG001 any length fits
    """Make the 18-layer network: two basic blocks a stage."""
    return ResNet1d(BasicBlock, (2, 2, 2, 2), n_leads=n_leads, n_classes=n_classes, width=width)


@register("resnet1d50", family="cnn", width=64)
def resnet1d50(n_leads: int, n_classes: int, n_samples: int, width: int) -> ResNet1d:  # noqa: ARG001 any length fits
    """Make the 50-layer network: 3, 4, 6 and 3 bottleneck blocks."""
    network = ResNet1d(Bottleneck, (3, 4, 6, 3), n_leads=n_leads, n_classes=n_classes, width=width)
    return _draw_by_fan_out(network)


@register("resnet1d101", family="cnn", width=64)
def resnet1d101(n_leads: int, n_classes: int, n_samples: int, width: int) -> ResNet1d:  # noqa: ARG001 any length fits
    """Make the 101-layer network: 3, 4, 23 and 3 bottleneck blocks."""
    network = ResNet1d(Bottleneck, (3, 4, 23, 3), n_leads=n_leads, n_classes=n_classes, width=width)
    return _draw_by_fan_out(network)
