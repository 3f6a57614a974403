"""Networks that read a record in crops, or scale every record by itself, as many published ones do.

A network of another's making comes with a way of reading records: windows shorter than the record, each brought to
mean 0 and standard deviation 1. ``Crops`` puts both in front of a registered network, so that training, probes, export
and prediction treat it like any other: it maps whole records to logits.
"""

from math import ceil

import torch
from torch import Tensor, nn

from models.scaling import Scaling

# In units of the signals: a lead of a smaller deviation is flat and stays near 0. Far more than what arithmetic leaves
# of a constant, which differs from one runtime to another and would be made as large as a beat.
_FLAT = 1e-3


class Crops(nn.Module):
    """Maps (batch, n_leads, n_samples) to logits (batch, n_classes) through crops of ``crop`` samples of the records.

    In training every record gives one crop, at a place that torch's global generator draws. In evaluation crops cover
    it from its first sample to its last, as few as that takes, and what the head reads is the mean of what the network
    makes of them: logits are those of the crops, averaged. ``network`` has lost its own head.
    """

    def __init__(self, network: nn.Module, crop: int, scaling: Scaling) -> None:
        super().__init__()
        own = network.get_submodule("head")
        assert isinstance(own, nn.Linear), "the registry says so"
        network.add_module("head", nn.Identity())
        self.network, self.crop, self.scaling, self.head = network, crop, scaling, own

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        n_samples = x.shape[2]
        if n_samples == self.crop:
            features = self.network(scaled(x, self.scaling))
        elif self.training:
            features = self.network(scaled(self._drawn(x), self.scaling))
        else:
            starts = crop_starts(n_samples, self.crop)
            crops = torch.cat([scaled(x[:, :, start : start + self.crop], self.scaling) for start in starts])
            features = self.network(crops).unflatten(0, (len(starts), -1)).mean(0)
        logits: Tensor = self.head(features)
        return logits

    def _drawn(self, x: Tensor) -> Tensor:
        """Return one crop of every record."""
        starts = torch.randint(0, x.shape[2] - self.crop + 1, (len(x), 1, 1), device=x.device)
        at = starts + torch.arange(self.crop, device=x.device)
        return x.gather(2, at.expand(-1, x.shape[1], -1))

    def extra_repr(self) -> str:
        """Tell networks of different crops apart."""
        return f"crop={self.crop}, scaling={self.scaling}"


def crop_starts(n_samples: int, crop: int) -> list[int]:
    """Return where crops begin that cover a record, evenly spaced, as few as that takes."""
    n_crops = ceil(n_samples / crop)
    return [round(k * (n_samples - crop) / max(1, n_crops - 1)) for k in range(n_crops)]


def scaled(x: Tensor, scaling: Scaling) -> Tensor:
    """Return (batch, leads, samples) with mean 0 and standard deviation 1: of each record, or of each of its leads."""
    if scaling == "set":
        return x
    over = (1, 2) if scaling == "record" else (2,)
    centred = x - x.mean(over, keepdim=True)
    centred = centred - centred.mean(over, keepdim=True)  # what rounding left of a constant is the same everywhere
    return centred / centred.square().mean(over, keepdim=True).sqrt().clamp_min(_FLAT)
