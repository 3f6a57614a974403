"""One optimiser step after the other: what the training loop asks of a device, and how plain eager torch does it.

The rates of every step are computed here and not by a torch scheduler: a step then costs no Python bookkeeping, and the
CPU's eager steps and CUDA's captured ones (``engine.compute.cuda_graphs``) use the same numbers.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.channels_last import fast_twin, is_recurrent
from engine.compute.clocks import clock_of
from engine.compute.devices import keep_freed_memory
from engine.compute.recurrence import ProcessorGRU
from engine.compute.weight_gradient import FEWEST_CHANNELS, instructions
from engine.recipes import Recipe

BETA2, EPSILON = 0.999, 1e-8
Precision = Literal["float32", "bf16"]
_PREDICTION_BATCH = 256
PREDICTION_SIZES = (64, 128, 256, 512)  # records of a batch on CUDA


class Run(Protocol):
    """A training in progress on one device, in ``precision``, its steps run in a ``way``: ``eager`` or ``graph``."""

    precision: Precision
    way: str

    @property
    def network(self) -> nn.Module:
        """The network whose weights change; where that is faster, a twin of the caller's."""
        ...

    def train_epoch(self, signals: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """Train once over the records in the given order; return the mean loss of the batches, still on the device."""
        ...

    def predict(self, signals: Tensor) -> Tensor:
        """Return the logits of standardised signals on the CPU, the network in evaluation mode."""
        ...

    def seconds(self) -> float:
        """Return what the run is charged so far."""
        ...

    def moments(self) -> dict[str, Tensor]:
        """Return AdamW's moments, ``K.exp_avg`` and ``K.exp_avg_sq`` of the K-th trainable parameter."""
        ...

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """Go on from another run's moments after that many steps."""
        ...


def rates(recipe: Recipe, step: int, steps: int) -> tuple[float, float]:
    """Return learning rate and beta1 of step 0, 1, ... of that many.

    ``one-cycle`` is Smith and Topin 2019 (arXiv 1708.07120) with cosines, with the numbers and to the last bit the
    values of ``torch.optim.lr_scheduler.OneCycleLR``: the rate rises over the first 30 % of the steps from 1/25 of its
    peak and falls to 1/250,000; beta1 goes the other way, from 0.95 to 0.85 and back.
    """
    if recipe.schedule == "constant":
        return recipe.learning_rate, 0.9
    peak = recipe.learning_rate
    first, turn, end = peak / 25.0, float(0.3 * steps) - 1, steps - 1
    if step <= turn:
        at = (step - 0.0) / (turn - 0.0)
        return _cosine(first, peak, at), _cosine(0.95, 0.85, at)
    at = (step - turn) / (end - turn)
    return _cosine(peak, first / 1e4, at), _cosine(0.85, 0.95, at)


def _cosine(start: float, end: float, at: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * at) + 1)


@torch.inference_mode()
def predict_in_batches(network: nn.Module, signals: Tensor, batch_size: int = _PREDICTION_BATCH) -> Tensor:
    """Return the logits (records, classes) on the CPU, the network in evaluation mode and where it is."""
    network.eval()
    device = next(network.parameters()).device

    def logits(batch: Tensor) -> Tensor:
        moved = batch.to(device)
        forwarded: Tensor = network(moved if device.type == "cpu" else pad_records(moved))
        return forwarded[: len(batch)]

    return torch.cat([logits(batch) for batch in torch.split(signals, batch_size)]).cpu()


def fix_statistics(network: nn.Module) -> None:
    """Let layers of batch normalisation keep their running statistics in training, and normalise by them."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.has_fixed_statistics = True  # type: ignore[assignment]  # a plain attribute, which copies take along


def begin_training(network: nn.Module) -> None:
    """Put a network in training mode, except what ``fix_statistics`` was called for."""
    network.train()
    for layer in network.modules():
        if getattr(layer, "has_fixed_statistics", False):
            layer.eval()


def pad_records(batch: Tensor, dim: int = 0) -> Tensor:
    """Fill a batch up with zeros to one of few numbers of records: cuDNN looks for its fastest way once a shape."""
    n_records = batch.shape[dim]
    missing = next((size for size in PREDICTION_SIZES if size >= n_records), n_records) - n_records
    return F.pad(batch, (0, 0) * (batch.dim() - 1 - dim) + (0, missing))


class PlainRun:
    """Eager steps in float32: the reference that every faster path is compared with."""

    precision: Precision = "float32"
    way = "eager"

    def __init__(self, network: nn.Module, recipe: Recipe, steps: int) -> None:
        self.network = network
        self._recipe, self._steps, self._done = recipe, steps, 0
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=recipe.learning_rate, betas=(0.9, BETA2), eps=EPSILON,
            weight_decay=recipe.weight_decay, fused=True,
        )  # fmt: skip
        self._clock = clock_of(self._parameters[0].device)

    def train_epoch(self, signals: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """See ``Run``."""
        begin_training(self.network)
        losses = [
            self._step(signals.index_select(0, rows), labels.index_select(0, rows))
            for rows in torch.split(order, self._recipe.batch_size)
        ]
        return torch.stack(losses).mean()

    def _step(self, signals: Tensor, labels: Tensor) -> Tensor:
        group = self._optimizer.param_groups[0]
        group["lr"], beta1 = rates(self._recipe, self._done, self._steps)
        group["betas"] = (beta1, BETA2)
        self._optimizer.zero_grad(set_to_none=True)
        loss = F.binary_cross_entropy_with_logits(self.network(signals), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        if self._recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip_norm)
        self._optimizer.step()
        self._done += 1
        return loss.detach()

    def predict(self, signals: Tensor) -> Tensor:
        """See ``Run``."""
        return predict_in_batches(self.network, signals)

    def seconds(self) -> float:
        """See ``Run``."""
        return self._clock.seconds()

    def moments(self) -> dict[str, Tensor]:
        """See ``Run``."""
        states = self._optimizer.state_dict()["state"]
        return {f"{k}.{name}": state[name] for k, state in states.items() for name in ("exp_avg", "exp_avg_sq")}

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See ``Run``."""
        self._done = steps
        names = "exp_avg", "exp_avg_sq"
        states = {
            k: {"step": torch.tensor(float(steps)), **{name: moments[f"{k}.{name}"].clone() for name in names}}
            for k in range(len(self._parameters))
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": states})


_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch does not annotate it


def open_run(network: nn.Module, recipe: Recipe, steps: int) -> PlainRun:
    """Return a run of that many steps; GRUs and convolutional networks train as a twin (``Run.network``).

    A processor of a kind with which a convolutional twin has not been measured trains the network itself, as one
    without oneDNN. What either arrangement gives, and to which networks, is measured in tests/benchmarks/RESULTS.md.
    """
    if is_recurrent(network):
        keep_freed_memory()
        network = _recurrent_twin(network)
    elif (
        _HAS_ONEDNN
        and instructions() in FEWEST_CHANNELS
        and any(isinstance(layer, nn.Conv1d) for layer in network.modules())
    ):
        network = fast_twin(network)
    return PlainRun(network, recipe, steps)


def _recurrent_twin(network: nn.Module) -> nn.Module:
    """Return a copy of the network whose GRU layers train faster; the network itself where it has none."""
    if not any(ProcessorGRU.takes(layer) for layer in network.modules()):
        return network
    twin = deepcopy(network)
    for layer in twin.modules():
        if ProcessorGRU.takes(layer):
            layer.__class__ = ProcessorGRU
    return twin
