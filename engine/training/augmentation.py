"""Random changes of the training records, drawn anew for every epoch: a network sees no record twice as it is.

What is changed is what ECG devices and technicians change: when a recording begins, its gain, electrodes that come off,
and noise. Labels stay. Nothing is changed that a diagnosis is read from, such as rates or intervals.
"""

import torch
from torch import Tensor

from engine.recipes import Augmentation

_CHUNK = 1024  # records at a time: what a step needs besides the result stays small


def augment(signals: Tensor, how: Augmentation, generator: torch.Generator, into: Tensor | None = None) -> Tensor:
    """Return changed copies of standardised signals (records, leads, samples), on their device like ``generator``.

    They are written ``into`` a tensor of that shape where one is given.

    Every record is moved in time (zeros, which are the mean, come in), its amplitude scaled and white noise added;
    leads are set to zero one by one, where there are several.
    """
    changed = torch.empty_like(signals) if into is None else into
    for start in range(0, len(signals), _CHUNK):
        part = slice(start, start + _CHUNK)
        changed[part] = _augment(signals[part], how, generator)
    return changed


def _augment(signals: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    n_records, n_leads, n_samples = signals.shape
    device = signals.device
    most = int(how.shift * n_samples)
    moved = torch.randint(-most, most + 1, (n_records, 1), generator=generator, device=device)
    at = torch.arange(n_samples, device=device) + moved  # (records, samples)
    inside = ((at >= 0) & (at < n_samples))[:, None]
    at = at.clamp(0, n_samples - 1)[:, None].expand(signals.shape)
    changed = signals.gather(2, at).mul_(inside)
    changed *= torch.exp(how.scale * torch.randn(n_records, 1, 1, generator=generator, device=device))
    changed += how.noise * torch.randn(signals.shape, generator=generator, device=device)
    if n_leads > 1:
        changed *= torch.rand(n_records, n_leads, 1, generator=generator, device=device) >= how.lead_dropout
    return changed
