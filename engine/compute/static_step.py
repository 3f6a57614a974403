"""A training step on tensors that never move and never change shape, so that CUDA can record it once and replay it.

The last batch of an epoch is shorter. It is filled up by repeating its records in turn, and every copy of a record
weighs its share of that record's loss. Loss and gradient are then those of the short batch; batch normalisation sees
some records once more than others when the batch is not a multiple of the short one, which changes its statistics,
those of the one last batch, by a few per cent of their sampling error. (Statistics that leave the copies out would need
slower layers in every step; other records in their place would train twice.) A last batch of one record has no spread
after a layer that pools over time, and normalises to zero there.

AdamW is written out on whole lists of tensors, because torch's fused one takes beta1 as a Python number, which a
recorded graph would keep for ever.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.steps import BETA2, EPSILON, rates
from engine.recipes import Recipe

Precision = Literal["float32", "bf16"]


def pad_batch(rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Repeat rows in turn up to ``size`` and return them with the weights of their losses, which add up to 1."""
    n_rows = len(rows)
    positions = torch.arange(size, device=rows.device) % n_rows
    copies = size // n_rows + (positions < size % n_rows)
    return rows[positions], 1 / (copies * n_rows).float()


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the binary cross-entropy, mean over classes and weighted sum over records."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
    return (losses.mean(dim=1) * weights).sum()


def adamw_factors(recipe: Recipe, steps: int) -> Tensor:
    """Return float32 (steps, 4): what AdamW (Loshchilov and Hutter, arXiv 1711.05101) multiplies with in every step.

    The columns: weights by 1 - rate x decay; new gradients by 1 - beta1; the update by rate / (1 - beta1^t); the root
    of the second moment by 1 / sqrt(1 - beta2^t).
    """
    rows = []
    for step in range(steps):
        rate, beta1 = rates(recipe, step, steps)
        corrections = rate / (1 - beta1 ** (step + 1)), (1 - BETA2 ** (step + 1)) ** -0.5
        rows.append((1 - rate * recipe.weight_decay, 1 - beta1, *corrections))
    return torch.tensor(rows, dtype=torch.float64).float()


class StaticStep:
    """One step of training ``network`` on whatever lies in ``signals``, ``labels``, ``weights`` and ``factors``.

    ``total`` adds up the losses. The network's weights and the optimiser's moments change in place, and are set anew in
    place by ``load``: what was recorded of a step stays right for the next run.
    """

    def __init__(
        self, network: nn.Module, batch: tuple[int, ...], n_classes: int, clip_norm: float | None, precision: Precision
    ) -> None:
        self.network = network
        self.parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
        device = self.parameters[0].device
        self.signals = torch.zeros(batch, device=device)
        self.labels = torch.zeros(batch[0], n_classes, device=device)
        self.weights = torch.full((batch[0],), 1 / batch[0], device=device)
        self.factors = torch.tensor([1.0, 0.1, 0.0, 1.0], device=device)  # a step that changes nothing
        self.total = torch.zeros((), device=device)
        self._clip_norm = clip_norm
        self._precision = precision
        self.first, self.second = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Begin anew from these weights and buffers."""
        self.network.load_state_dict(weights)
        for moment in (*self.first, *self.second):
            moment.zero_()

    def __call__(self) -> None:
        """Do the step; the network must be in training mode."""
        with self._autocast():
            loss = weighted_loss(self.network(self.signals), self.labels, self.weights)
        gradients = list(torch.autograd.grad(loss, self.parameters))
        with torch.no_grad():
            if self._clip_norm is not None:
                norm = nn.utils.get_total_norm(gradients)
                torch._foreach_mul_(gradients, torch.clamp(self._clip_norm / (norm + 1e-6), max=1.0))
            self._update(gradients)
            self.total += loss

    def _autocast(self) -> torch.autocast:
        # Nothing is cached: in a replay a cached cast would be one of old weights.
        device = self.total.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self._precision == "bf16", cache_enabled=False)

    def _update(self, gradients: list[Tensor]) -> None:
        decay, new, rate, correction = self.factors.unbind()
        torch._foreach_mul_(self.parameters, decay)
        torch._foreach_mul_(self.first, 1 - new)
        torch._foreach_add_(self.first, torch._foreach_mul(gradients, new))
        torch._foreach_mul_(self.second, BETA2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - BETA2)
        roots = torch._foreach_sqrt(self.second)
        torch._foreach_mul_(roots, correction)
        torch._foreach_add_(roots, EPSILON)
        updates = list(torch._foreach_div(self.first, roots))
        torch._foreach_mul_(updates, rate)
        torch._foreach_sub_(self.parameters, updates)

    @torch.inference_mode()
    def predict(self, signals: Tensor, batch_size: int) -> Tensor:
        """Return logits on the device, in batches of one size: cuDNN looks for its fastest way once a shape."""
        self.network.eval()
        logits = []
        for batch in torch.split(signals, batch_size):
            padded = F.pad(batch, (0, 0) * (batch.dim() - 1) + (0, batch_size - len(batch)))
            with self._autocast():
                logits.append(self.network(padded)[: len(batch)].float())
        return torch.cat(logits)
