"""The training loop.

Design choices: all records lie in memory as tensors and are shuffled by index; validation happens at log-spaced epochs
because with few records it costs more than training; the epoch with the best macro AUROC on validation records is
kept; the test set is not seen here. One thread, one seed, one processor: the same run gives the same bits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.evaluation import auroc_macro
from engine.recipes import Recipe


@dataclass(frozen=True)
class Examples:
    """Standardised signals float32 (records, leads, samples) and their labels float32 0/1 (records, classes)."""

    signals: Tensor
    labels: Tensor

    @classmethod
    def of(cls, signals: NDArray[np.float32], labels: NDArray[np.uint8]) -> "Examples":
        """Wrap arrays."""
        return cls(torch.from_numpy(signals), torch.from_numpy(labels.astype(np.float32)))

    def __len__(self) -> int:
        return len(self.signals)


@dataclass(frozen=True)
class Validation:
    """One look at the validation records: ``auroc`` is NaN when no class has both outcomes among them."""

    epoch: int
    auroc: float
    loss: float
    training_loss: float
    seconds: float
    records_seen: int


@dataclass(frozen=True)
class Training:
    """What a training did; ``best`` is the validation whose weights the network now holds.

    ``seconds`` is processor time of the training thread: what the clock shows on a machine that does nothing else, and
    not more on one that does. ``wall_seconds`` is what the clock showed.
    """

    epochs: int
    records_seen: int
    seconds: float
    wall_seconds: float
    best: Validation
    validations: tuple[Validation, ...]


class DivergedError(RuntimeError):
    """The loss became infinite or NaN."""


def train(
    network: nn.Module,
    training: Examples,
    validation: Examples,
    recipe: Recipe,
    seed: int,
    report: Callable[[Validation], None] = lambda _validation: None,
) -> Training:
    """Train the network in place and leave it with the weights of its best validation epoch.

    ``seed`` fixes the order of the records. Raises DivergedError.
    """
    started, wall_started = time.thread_time(), time.perf_counter()
    epochs = recipe.epochs(len(training))
    optimizer, schedule = _optimizer(network, recipe, epochs * -(-len(training) // recipe.batch_size))
    generator = torch.Generator().manual_seed(seed)
    looks = _validation_epochs(epochs, recipe.validations)
    validations: list[Validation] = []
    best: Validation | None = None
    best_weights: dict[str, Tensor] = {}
    for epoch in range(1, epochs + 1):
        loss = _train_epoch(network, training, optimizer, schedule, recipe.batch_size, generator)
        if epoch not in looks:
            continue
        auroc, validation_loss = _validate(network, validation)
        _check_finite(validation_loss, "validation")
        seconds = time.thread_time() - started
        now = Validation(epoch, auroc, validation_loss, loss, seconds, epoch * len(training))
        validations.append(now)
        report(now)
        if best is None or _rank(now) > _rank(best):
            best = now
            best_weights = {name: value.clone() for name, value in network.state_dict().items()}
    assert best is not None, "the last epoch is always validated"
    network.load_state_dict(best_weights)
    return Training(
        epochs=epochs,
        records_seen=epochs * len(training),
        seconds=time.thread_time() - started,
        wall_seconds=time.perf_counter() - wall_started,
        best=best,
        validations=tuple(validations),
    )


@torch.inference_mode()
def predict_logits(network: nn.Module, signals: Tensor, batch_size: int = 256) -> Tensor:
    """Return logits float32 (records, classes) of standardised signals, the network in evaluation mode."""
    network.eval()
    return torch.cat([network(batch) for batch in torch.split(signals, batch_size)])


def predict_probabilities(network: nn.Module, signals: Tensor) -> NDArray[np.float32]:
    """Return probabilities float32 (records, classes), each class on its own (multi-label)."""
    probabilities: NDArray[np.float32] = torch.sigmoid(predict_logits(network, signals)).numpy()
    return probabilities


def _optimizer(
    network: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=steps)
    return optimizer, schedule


def _train_epoch(
    network: nn.Module,
    examples: Examples,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """Train once over all records and return the mean loss. Raises DivergedError."""
    network.train()
    losses = []
    for rows in torch.split(torch.randperm(len(examples), generator=generator), batch_size):
        optimizer.zero_grad(set_to_none=True)
        loss = F.binary_cross_entropy_with_logits(network(examples.signals[rows]), examples.labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    mean = float(torch.stack(losses).mean())
    _check_finite(mean, "training")
    return mean


def _check_finite(loss: float, which: str) -> None:
    if not np.isfinite(loss):
        raise DivergedError(f"the {which} loss became {loss}; a lower learning rate may help")


def _validate(network: nn.Module, validation: Examples) -> tuple[float, float]:
    logits = predict_logits(network, validation.signals)
    loss = float(F.binary_cross_entropy_with_logits(logits, validation.labels))
    return auroc_macro(validation.labels.numpy().astype(np.uint8), logits.numpy()), loss


def _validation_epochs(epochs: int, looks: int) -> set[int]:
    return {*np.geomspace(1, epochs, looks).round().astype(int).tolist(), epochs}


def _rank(validation: Validation) -> tuple[float, float]:
    """Order by AUROC; where it ties or cannot be computed, by loss."""
    return (validation.auroc if np.isfinite(validation.auroc) else 0.0, -validation.loss)
