"""One-dimensional residual networks as in Nguyen and Do, PLOS ONE 20(5): e0316043 (2025).

He et al., "Deep residual learning" (CVPR 2016), with kernels of length 3 along time: a stem of 12 -> 64 channels,
kernel 7, stride 2; four stages of 64, 128, 256 and 512 channels; average over time; ``fc1`` of 512 units; ``head``.
``width`` scales every one of these numbers: the first stage has ``width`` channels.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register


class BasicBlock(nn.Module):
    """Two convolutions of length 3 and a shortcut, (batch, n_in, time) to (batch, n_out, time / stride)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv1d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm1d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, time / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet1d(nn.Module):
    """A residual network over time, (batch, n_leads, n_samples) to logits (batch, n_classes)."""

    def __init__(self, blocks: tuple[int, ...], *, n_leads: int, n_classes: int, width: int) -> None:
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
            n_out = width * 2**stage
            for block in range(n_blocks):
                stages.append(BasicBlock(n_in, n_out, stride=2 if stage and not block else 1))
                n_in = n_out
        self.stages = nn.Sequential(*stages)
        self.fc1 = nn.Linear(n_in, n_in)
        self.head = nn.Linear(n_in, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        features = self.stages(self.stem(x)).mean(dim=2)  # (batch, 8 * width)
        logits: Tensor = self.head(F.relu(self.fc1(features)))
        return logits


@register("resnet1d18", family="cnn", width=64)
def resnet1d18(n_leads: int, n_classes: int, n_samples: int, width: int) -> ResNet1d:  # noqa: ARG001 any length fits
    """Make the 18-layer network: two basic blocks a stage."""
    return ResNet1d((2, 2, 2, 2), n_leads=n_leads, n_classes=n_classes, width=width)
