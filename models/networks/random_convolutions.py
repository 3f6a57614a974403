"""Random convolutions of ROCKET's kind: a fixed transform whose pooled outputs a linear ``head`` reads.

ROCKET (Dempster, Petitjean and Webb, Data Mining and Knowledge Discovery 34, 2020) convolves a series with kernels of
random weights, each with its mean taken out, at random dilations, each kernel over some of the channels, and pools
every output to its maximum and to the proportion of positive values. From MiniRocket (Dempster, Schmidt and Webb, KDD
2021) come the one length of 9, fixed dilations, and the bias, which is a quantile of the kernel's output on training
records; from MultiRocket (Tan et al., Data Mining and Knowledge Discovery 36, 2022) that there are more ways to pool.
On tuning records of ECGs it scored better than the first two as they were published (``studies/LOG.md``).

The proportion of positive values is that of a ramp instead of a step: a step makes what processors round differently
one sample more or less. Kernels are drawn from torch's global generator and are not trained; thresholds, means and
spreads come from training records (``fit_constants``). All of them are in the state dict.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import register

_LENGTH = 9
_DILATIONS = (1, 2, 4, 8, 16, 32)
_MOST_LEADS = 6  # that one kernel reads
_QUANTILES = 0.1, 0.9  # between which a threshold lies
_RAMP = 0.1  # its length, in units of the kernel's typical output
_FLOOR = 1e-3  # added to a standard deviation before its logarithm is taken, in the same units
_MOST = 20.0  # a maximum, in the same units: beyond are artefacts, which would decide its spread
_CLIP = 8.0  # of standardised features, in standard deviations
_THRESHOLD_RECORDS, _EVERY = 64, 7  # thresholds are quantiles over that many records, one sample in so many
_BATCH = 256
_IN_CACHE = 16  # records: what their kernels give stays in a processor's cache while it is pooled


class RandomConvolutions(nn.Module):
    """Fixed kernels and pooling, then ``head``: (batch, n_leads, n_samples) to logits (batch, n_classes).

    ``width`` kernels at each of six dilations give three features each: the proportion of time above a threshold, the
    logarithm of the standard deviation, and the maximum.
    """

    quantiles: Tensor
    thresholds: Tensor
    scales: Tensor
    means: Tensor
    spreads: Tensor

    def __init__(self, *, n_leads: int, n_classes: int, width: int) -> None:
        super().__init__()
        shape = len(_DILATIONS), width
        n_features = 3 * shape[0] * shape[1]
        for dilation in _DILATIONS:  # a buffer each, as an exported convolution wants its weights
            self.register_buffer(f"kernels_{dilation}", _draw_kernels(width, n_leads))
        self.register_buffer("quantiles", torch.empty(shape).uniform_(*_QUANTILES))
        self.register_buffer("thresholds", torch.zeros(shape))
        self.register_buffer("scales", torch.ones(shape))
        self.register_buffer("means", torch.zeros(n_features))
        self.register_buffer("spreads", torch.ones(n_features))
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        in_parts = x.device.type == "cpu" and not torch.compiler.is_exporting()
        logits: Tensor = self.head(self._standardised(self._in_parts(x, _IN_CACHE) if in_parts else self._pooled(x)))
        return logits

    def fit_constants(self, signals: Tensor) -> Tensor:
        """Take thresholds, and every feature's mean and spread, from training records (records, leads, samples).

        Returns what ``head`` reads of these records (records, features).
        """
        with torch.no_grad():
            self._fit_thresholds(signals[:: -(-len(signals) // _THRESHOLD_RECORDS)])
            pooled = self._in_parts(signals, _IN_CACHE if signals.device.type == "cpu" else _BATCH).double()
            spreads = pooled.std(dim=0, correction=0)
            self.means.copy_(pooled.mean(dim=0))
            self.spreads.copy_(torch.where(spreads > 1e-6, spreads, 1.0))
            return self._standardised(pooled.float())

    def _fit_thresholds(self, signals: Tensor) -> None:
        for k, outputs in enumerate(self._outputs(signals)):
            # The median over records: a few with artefacts of many millivolt do not change what is typical.
            typical = outputs.std(dim=2, correction=0).median(dim=0).values
            self.scales[k] = torch.where(typical > 0, typical, 1.0)
            samples = outputs[:, :, ::_EVERY].transpose(0, 1).flatten(1)
            for kernel, values in enumerate(samples):
                self.thresholds[k, kernel] = torch.quantile(values, self.quantiles[k, kernel])

    def _outputs(self, x: Tensor) -> list[Tensor]:
        """Return what the kernels of each dilation give, (batch, width, n_samples)."""
        centred = x - x[:, :, :1]  # a flat lead is 0 then, whatever rounding makes of a mean
        centred = centred - centred.mean(dim=2, keepdim=True)
        half = _LENGTH // 2
        return [
            F.conv1d(centred, self.get_buffer(f"kernels_{dilation}"), padding=half * dilation, dilation=dilation)
            for dilation in _DILATIONS
        ]

    def _standardised(self, pooled: Tensor) -> Tensor:
        return ((pooled - self.means) / self.spreads).clamp(-_CLIP, _CLIP)

    def _in_parts(self, x: Tensor, at_once: int) -> Tensor:
        return torch.cat([self._pooled(part) for part in torch.split(x, at_once)])

    def _pooled(self, x: Tensor) -> Tensor:
        """Return the features (batch, features) as they are."""
        pooled: list[Tensor] = []
        for k, outputs in enumerate(self._outputs(x)):
            outputs = outputs / self.scales[k, :, None]
            above = (outputs - (self.thresholds / self.scales)[k, :, None]) / _RAMP + 0.5
            pooled.append(above.clamp(0, 1).mean(dim=2))
            deviations = outputs - outputs.mean(dim=2, keepdim=True)
            pooled.append(torch.log(deviations.square().mean(dim=2).sqrt() + _FLOOR))
            pooled.append(outputs.amax(dim=2).clamp(max=_MOST))
        return torch.cat(pooled, dim=1)


def fit_constants(network: nn.Module, signals: Tensor) -> None:
    """Fit the constants of what random convolutions a network has to standardised training records, if any."""
    for module in network.modules():
        if isinstance(module, RandomConvolutions):
            module.fit_constants(signals.to(module.means.device))


def _draw_kernels(n_kernels: int, n_leads: int) -> Tensor:
    """Draw (kernels, leads, 9): normal, the mean over time taken out, 0 but for one to six leads drawn by chance."""
    kernels = torch.randn(n_kernels, n_leads, _LENGTH)
    kernels -= kernels.mean(dim=2, keepdim=True)
    n_read = torch.randint(1, min(_MOST_LEADS, n_leads) + 1, (n_kernels, 1))
    rank = torch.rand(n_kernels, n_leads).argsort(dim=1).argsort(dim=1)
    return kernels * (rank < n_read)[:, :, None]


@register("random-convolutions", family="kernel", width=48)
def random_convolutions(n_leads: int, n_classes: int, n_samples: int, width: int) -> RandomConvolutions:  # noqa: ARG001 any length fits
    """Make the transform of 48 kernels at each of six dilations, 864 features."""
    return RandomConvolutions(n_leads=n_leads, n_classes=n_classes, width=width)
