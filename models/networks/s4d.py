"""Diagonal state space models, S4D: Gu et al., NeurIPS 2022 (arXiv 2206.11893).

The layout is that with which Mehari and Strodthoff (IEEE J-BHI 27(11): 5326, 2023) read PTB-XL: every sample is mapped
to ``width`` channels (512); four layers of a state space of 8 for each channel in both directions, a gated linear unit
(GLU), dropout of 0.2, residual connection and layer normalisation; mean over time, ``head``. They had S4, whose state
matrices are diagonal plus low rank; the diagonal ones are as good and need no code of their own for speed.

A channel's states follow x' = A x + B u and give y = C x + D u, with B of ones, which the scale of C makes up for, and
u constant over a sample of length dt. A is diagonal; its eight elements are four complex ones and their conjugates,
which are not computed. The outputs of all times are one convolution of the inputs, by Fourier transform, with a kernel
as long as the record.

The state's parameters are distances from S4D-Lin, the initialisation that is linear in frequency: weight decay, which
every parameter has in a recipe, draws them there and not to a system without dynamics. S4's authors train them at a
lower rate and without decay; here all have one rate. Real and imaginary parts are parameters of their own.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register

N_LAYERS, STATE, DROPOUT = 4, 8, 0.2
_STEPS = 1e-3, 1e-1  # dt starts between them, in samples
_REAL = 0.5  # the negative real part of A, in S4D-Lin


class StateSpace(nn.Module):
    """A state space in both directions for each channel, (batch, width, time) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        pairs = STATE // 2  # of conjugate states, of which one is computed
        shortest, longest = map(math.log, _STEPS)
        self.log_dt = nn.Parameter((torch.rand(width) - 0.5) * (longest - shortest))  # less the middle of both
        self.log_real = nn.Parameter(torch.zeros(width, pairs))  # less that of S4D-Lin
        self.frequency = nn.Parameter(torch.zeros(width, pairs))  # less those of S4D-Lin, in radians
        self.c = nn.Parameter(torch.randn(2, width, pairs, 2) / math.sqrt(2))  # (direction, ..., real and imaginary)
        self.d = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width, time) to the same shape, in float32: autocast leaves complex numbers alone."""
        x = x.float()
        n_samples = x.shape[2]
        size = 2 * n_samples  # a circular convolution of that length has no end that meets its beginning
        past, future = self.responses(n_samples)
        kernel = torch.cat([past, future.flip(1)], dim=1)
        spectrum = torch.fft.rfft(x, n=size) * torch.fft.rfft(kernel)
        convolved: Tensor = torch.fft.irfft(spectrum, n=size)[..., :n_samples]
        return convolved + x * self.d.unsqueeze(1)

    def responses(self, n_samples: int) -> tuple[Tensor, Tensor]:
        """Return two of (width, n_samples): what an input gives 0, 1, ... samples later and 1, 2, ... samples earlier.

        Of a system with steps (zero-order hold), y_k = 2 Re(sum of C (exp(dt A) - 1) / A exp(k dt A)).
        """
        pairs = self.frequency.shape[1]
        dt = (self.log_dt + math.log(math.prod(_STEPS)) / 2).exp().unsqueeze(1)
        lin = math.pi * torch.arange(pairs, device=dt.device, dtype=dt.dtype)
        a = torch.complex(-_REAL * self.log_real.exp(), self.frequency + lin)  # (width, pairs)
        weights = torch.view_as_complex(self.c) * ((dt * a).exp() - 1) / a  # (2, width, pairs)
        powers = ((dt * a).unsqueeze(2) * torch.arange(n_samples, device=dt.device)).exp()
        past, future = 2 * torch.einsum("dwp,wpt->dwt", weights, powers).real
        return past, future

    def as_convolution(self, n_samples: int) -> nn.Conv1d:
        """Return the convolution, a group a channel, that does the same to records of up to ``n_samples``."""
        width = len(self.d)
        convolution = nn.Conv1d(width, width, 2 * n_samples - 1, padding=n_samples - 1, groups=width, bias=False)
        with torch.no_grad():
            past, future = self.responses(n_samples)
            past[:, 0] += self.d
            convolution.weight.copy_(torch.cat([past.flip(1), future[:, :-1]], dim=1).unsqueeze(1))
        return convolution

    def uncounted_flop(self, x: Tensor) -> float:
        """Return the operations of an input's two Fourier transforms, 5 N log2 N each, and of the product between.

        The kernel and its transform are made once a batch and not counted here.
        """
        size = 2 * x.shape[2]
        return float(x.shape[:2].numel() * (2 * 5 * size * math.log2(size) + 6 * (size // 2 + 1)))

    def extra_repr(self) -> str:
        """Return the shape of the states: networks whose texts are the same are counted once."""
        return "{}, {} pairs".format(*self.frequency.shape)


class Layer(nn.Module):
    """A state space, GLU, residual connection and layer normalisation, (batch, width, time) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state_space = StateSpace(width)
        self.output = nn.Conv1d(width, 2 * width, 1)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout1d(DROPOUT)  # of a channel at all times

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, width, time) to the same shape."""
        y = self.dropout(F.gelu(self.state_space(x)))
        y = x + self.dropout(F.glu(self.output(y), dim=1))
        normalised: Tensor = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return normalised


class S4D(nn.Module):
    """Four layers of diagonal state spaces, (batch, n_leads, n_samples) to logits (batch, n_classes)."""

    def __init__(self, *, n_leads: int, n_classes: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(n_leads, width, 1)
        self.layers = nn.Sequential(*(Layer(width) for _ in range(N_LAYERS)))
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        logits: Tensor = self.head(self.layers(self.encoder(x)).mean(dim=2))
        return logits


@register("s4d", family="ssm", width=512)
def s4d(n_leads: int, n_classes: int, n_samples: int, width: int) -> S4D:  # noqa: ARG001 any length fits
    """Make the network of four layers."""
    return S4D(n_leads=n_leads, n_classes=n_classes, width=width)
