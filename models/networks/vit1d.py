"""A small transformer over patches of time, a vision transformer (Dosovitskiy et al., ICLR 2021) of ECG records.

A patch is 25 samples (0.25 s at 100 Hz) of all leads; ST-MEM (Na et al., ICLR 2024) and other pre-trained ECG
transformers have patches of about that length. The blocks are those of DeiT-Ti (Touvron et al., ICML 2021), 192
features and heads of 64, but six of them: 10 s are 40 patches, where an image has 196. As in Beyer et al. (arXiv
2205.01580) positions are sines and cosines that are not trained, so that records of any length fit, and ``head`` reads
the mean over the patches. Normalisation comes first in a block. ``width`` is the number of features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register

PATCH, N_BLOCKS, HEAD_WIDTH = 25, 6, 64
_HIDDEN = 4  # times the width, in a block's perceptron
_DROPOUT = 0.1
_LONGEST = 10_000.0  # wave length of positions, by 2 pi, as Vaswani et al. (NeurIPS 2017) chose it


class Attention(nn.Module):
    """Self-attention over patches, (batch, patches, width) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.n_heads = _n_heads(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, patches, width) to the same shape."""
        batch, n_patches, width = x.shape
        parts = self.qkv(x).view(batch, n_patches, 3, self.n_heads, width // self.n_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, patches, width of a head)
        attended: Tensor = self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation and added: (batch, patches, width) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, _HIDDEN * width), nn.GELU(), nn.Linear(_HIDDEN * width, width))
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, patches, width) to the same shape."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        added: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return added


class Vit1d(nn.Module):
    """A transformer over patches, (batch, n_leads, n_samples) to logits (batch, n_classes)."""

    def __init__(self, *, n_leads: int, n_classes: int, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv1d(n_leads, width, PATCH, stride=PATCH)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(N_BLOCKS)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes); zeros fill up the last patch."""
        x = self.patches(F.pad(x, (0, -x.shape[2] % PATCH))).transpose(1, 2)  # (batch, patches, width)
        x = x + _positions(x.shape[1], x.shape[2], x.device).to(x.dtype)
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(dim=1))
        return logits


def _positions(n_patches: int, width: int, device: torch.device) -> Tensor:
    """Return (patches, width): by turns sine and cosine of each position, at wave lengths up to 10,000 times 2 pi."""
    feature = torch.arange(width, device=device)
    rates = _LONGEST ** (-2 * (feature // 2) / width)
    phases = torch.arange(n_patches, device=device).unsqueeze(1) * rates
    return torch.where(feature % 2 == 0, phases.sin(), phases.cos())


def _n_heads(width: int) -> int:
    """Return the largest number of heads of 64 features or more into which the width can be divided."""
    return next(n for n in range(max(1, width // HEAD_WIDTH), 0, -1) if width % n == 0)


@register("vit1d", family="transformer", width=192)
def vit1d(n_leads: int, n_classes: int, n_samples: int, width: int) -> Vit1d:  # noqa: ARG001 any length fits
    """Make the network of six blocks."""
    return Vit1d(n_leads=n_leads, n_classes=n_classes, width=width)
