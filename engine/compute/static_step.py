"""A training step on tensors that never move and never change shape, so that CUDA can capture it once and replay it.

The last batch of an epoch is shorter. It is filled up by repeating its records in turn, and every copy of a record
weighs its share of that record's loss. Loss and gradient are then those of the short batch; batch normalisation sees
some records once more than others when the batch is not a multiple of the short one, which changes its statistics,
those of the one last batch, by a few per cent of their sampling error. (Statistics that leave the copies out would need
slower layers in every step; other records in their place would train twice.) A last batch of one record has no spread
after a layer that pools over time, and normalises to zero there.

Parameters, gradients and moments are one flat tensor each, (runs, n_parameters): a step of the optimiser is then a few
kernels however many layers there are. The network's parameters are views into it. AdamW is written out because torch's
fused one takes beta1 as a Python number, which a captured step would keep for ever.

Several networks of one architecture can train in one step (``engine.compute.lockstep``): each has its own batch, rates,
clipping and loss.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.steps import BETA2, EPSILON, PREDICTION_SIZES, Precision, pad_records, rates
from engine.recipes import Recipe

IDLE_FACTORS = (1.0, 0.1, 0.0, 1.0)  # of a step that changes no weight


def pad_batch(rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Repeat rows in turn up to ``size`` and return them with the weights of their losses, which add up to 1."""
    n_rows = len(rows)
    positions = torch.arange(size, device=rows.device) % n_rows
    copies = size // n_rows + (positions < size % n_rows)
    return rows[positions], 1 / (copies * n_rows).float()


def weighted_losses(logits: Tensor, labels: Tensor, weights: Tensor, class_weights: Tensor) -> Tensor:
    """Return the binary cross-entropy of every run (runs,), a weighted sum over its records and classes.

    ``logits`` and ``labels`` are (runs * records, classes), ``weights`` (runs, records), ``class_weights``
    (runs, classes); the weights of a run's records add up to 1, and so do those of its classes.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
    # Products one by one: as a matrix product it would be shortened to TF32.
    return (losses.view(*weights.shape, -1) * weights.unsqueeze(2) * class_weights.unsqueeze(1)).sum(dim=(1, 2))


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

    ``batch`` is (records of one run, leads, samples). The tensors that a caller fills: ``signals``
    (runs * records, leads, samples) and ``labels`` (runs * records, classes), one run after the other; ``weights``
    (runs, records) and ``class_weights`` (runs, classes), which add up to 1 in every run (a run with fewer classes than
    the widest has zeros); ``factors`` (runs, 4), see ``adamw_factors``. ``total`` (runs,) adds up the losses.

    With several runs every parameter of ``network`` has a leading axis of runs. Weights (``flat``) and moments
    (``first``, ``second``), each (runs, n_parameters), change in place, and are set anew in place by ``load``: a
    captured step stays right for the next run.
    """

    def __init__(
        self, network: nn.Module, batch: tuple[int, ...], n_classes: int, clip_norm: float | None, precision: Precision,
        runs: int = 1,
    ) -> None:  # fmt: skip
        self.network, self.runs = network, runs
        self.parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
        device, shape = self.parameters[0].device, (runs, batch[0])
        self.signals = torch.zeros(runs * batch[0], *batch[1:], device=device)
        self.labels = torch.zeros(runs * batch[0], n_classes, device=device)
        self.weights = torch.full(shape, 1 / batch[0], device=device)
        self.class_weights = torch.full((runs, n_classes), 1 / n_classes, device=device)
        self.factors = torch.tensor(IDLE_FACTORS, device=device).repeat(runs, 1)
        self.total = torch.zeros(runs, device=device)
        self._clip_norm = clip_norm
        self.precision = precision
        self._epsilon = torch.tensor(EPSILON, device=device)
        self._kernels = {id(layer.weight) for layer in network.modules() if isinstance(layer, nn.Conv1d)}
        self.flat = torch.cat(self._rows(self.parameters), dim=1).detach()
        self.first, self.second, self._gradients = (torch.zeros_like(self.flat) for _ in range(3))
        for parameter, view in zip(self.parameters, self.views(self.flat), strict=True):
            parameter.data = view

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return the parts of (runs, n_parameters) in the shapes of the parameters."""
        shapes = [stored.shape for stored in self._stored(self.parameters)]
        parts = torch.split(flat, [shape.numel() // self.runs for shape in shapes], dim=1)
        return self._stored([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])

    def _stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return parameters, or their gradients, in the order of memory, or back in their own.

        Kernels (n_out, n_in, taps) of convolutions lie there with the channels last, as the layers want them and give
        their gradients.
        """
        return [
            tensor.transpose(-1, -2) if id(parameter) in self._kernels else tensor
            for tensor, parameter in zip(tensors, self.parameters, strict=True)
        ]

    def _rows(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [stored.reshape(self.runs, -1) for stored in self._stored(tensors)]

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Begin anew from these weights and buffers."""
        self.network.load_state_dict(weights)
        self.first.zero_()
        self.second.zero_()

    def __call__(self) -> None:
        """Do the step; the network must be in training mode."""
        with self.autocast():
            logits = self.network(self.signals)
        losses = weighted_losses(logits, self.labels, self.weights, self.class_weights)
        gradients = torch.autograd.grad(losses.sum(), self.parameters)
        with torch.no_grad():
            torch.cat(self._rows(gradients), dim=1, out=self._gradients)
            if self._clip_norm is not None:
                norms = torch.linalg.vector_norm(self._gradients, dim=1, keepdim=True)
                self._gradients.mul_((self._clip_norm / (norms + 1e-6)).clamp_(max=1.0))
            self._update()
            self.total += losses

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass in the step's precision."""
        # Nothing is cached: in a replay a cached cast would be one of old weights.
        device = self.total.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)

    def _update(self) -> None:
        decay, new, rate, correction = self.factors.unsqueeze(2).unbind(1)
        self.first.lerp_(self._gradients, new)
        self.second.mul_(BETA2).addcmul_(self._gradients, self._gradients, value=1 - BETA2)
        roots = torch.addcmul(self._epsilon, self.second.sqrt(), correction)
        self.flat.mul_(decay).addcdiv_(self.first * rate, roots, value=-1)

    @torch.inference_mode()
    def predict(self, signals: Tensor) -> Tensor:
        """Return logits (runs * records, classes) on the device of signals (runs * records, leads, samples).

        Batches have few sizes, the last one padded to one of them: cuDNN looks for its fastest way once a shape.
        """
        self.network.eval()
        logits = []
        by_run = signals.reshape(self.runs, -1, *signals.shape[1:])
        for batch in torch.split(by_run, PREDICTION_SIZES[-1], dim=1):
            padded = pad_records(batch, dim=1)
            with self.autocast():
                forwarded: Tensor = self.network(padded.flatten(0, 1)).float()
            logits.append(forwarded.view(*padded.shape[:2], -1)[:, : batch.shape[1]])
        return torch.cat(logits, dim=1).flatten(0, 1)
