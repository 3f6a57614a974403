"""Where a training is: its records, its validations, and the best weights so far."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.checkpoints.snapshot import Snapshot
from engine.compute.steps import Run
from engine.evaluation.metrics import auroc_macro, f1_weighted
from engine.recipes import Recipe
from engine.seeds import stable_seed
from engine.training.augmentation import augment
from models.errors import ExitCode, UserError


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
    """One validation: ``auroc`` is NaN when no class has both outcomes among them."""

    epoch: int
    auroc: float
    loss: float
    training_loss: float
    seconds: float
    records_seen: int


@dataclass(frozen=True)
class Monitored:
    """One scoring of records that decide nothing: macro AUROC, and F1 at 0.5 weighted by prevalence."""

    epoch: int
    auroc: float
    f1_weighted: float


@dataclass(frozen=True)
class Optimism:
    """What choosing the epoch on the monitored records themselves would have reported, next to the honest choice."""

    auroc_maximum: float
    auroc_chosen: float
    f1_weighted_maximum: float
    f1_weighted_chosen: float

    @classmethod
    def of(cls, scored: tuple[Monitored, ...], chosen_epoch: int) -> "Optimism":
        """Compare the scores of every epoch with the one at the epoch that validation chose."""
        chosen = next(one for one in scored if one.epoch == chosen_epoch)
        auroc, f1 = (np.fmax.reduce([getattr(one, name) for one in scored]) for name in ("auroc", "f1_weighted"))
        return cls(float(auroc), chosen.auroc, float(f1), chosen.f1_weighted)


class DivergedError(UserError, RuntimeError):
    """The loss became infinite or NaN."""

    exit_code = ExitCode.FAILURE


class Course:
    """A training in progress: ``epoch`` epochs are done, ``best_weights`` are those of the ``best`` validation."""

    def __init__(self, run: Run, training: Examples, recipe: Recipe, charged: float) -> None:
        self.run, self._training, self.recipe = run, training, recipe
        self._charged = charged  # before the run: moving the records, the features of a frozen body, an earlier part
        self.signals = training.signals  # of the epoch
        self.epoch = 0
        self.best: Validation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.validations: list[Validation] = []
        self.monitored: list[Monitored] = []

    @property
    def records_seen(self) -> int:
        """How often a record was trained on."""
        return self.epoch * len(self._training)

    def seconds(self) -> float:
        """Return what the run is charged so far."""
        return self._charged + self.run.seconds()

    def draw_epoch(self, generator: torch.Generator) -> Tensor:
        """Return a new order of all records, for an epoch, and change its ``signals`` where the recipe says so."""
        signals, augmentation = self._training.signals, self.recipe.augmentation
        order = torch.randperm(len(signals), generator=generator, device=signals.device)
        if augmentation is not None:
            into = None if self.signals is signals else self.signals  # one copy in all, whatever the number of epochs
            self.signals = augment(signals, augmentation, generator, into)
        return order

    def train_in(self, order: Tensor) -> Tensor:
        """Train once over all records in that order; return the mean loss, still on the device."""
        return self.run.train_epoch(self.signals, self._training.labels, order)

    def training_loss(self) -> float:
        """Return the loss on the training records as they are, without learning from them."""
        logits, labels = self.run.predict(self._training.signals), self._training.labels.cpu()
        return float(F.binary_cross_entropy_with_logits(logits, labels))

    def validate(self, validation: Examples, training_loss: float) -> Validation:
        """Score the validation records and keep the weights if they are the best so far. Raises DivergedError."""
        _check_finite(training_loss, "training")
        logits = self.run.predict(validation.signals)
        loss = float(F.binary_cross_entropy_with_logits(logits, validation.labels))
        auroc = auroc_macro(validation.labels.numpy().astype(np.uint8), logits.numpy())
        _check_finite(loss, "validation")
        now = Validation(self.epoch, auroc, loss, training_loss, self.seconds(), self.records_seen)
        self.validations.append(now)
        if self.best is None or self.recipe.selection == "last" or _rank(now) > _rank(self.best):
            self.best = now
            self.best_weights = {name: value.clone() for name, value in self.run.network.state_dict().items()}
        return now

    def monitor(self, examples: Examples) -> None:
        """Score records that decide nothing; the run is not charged for it."""
        with self.not_charged():
            labels, logits = examples.labels.numpy().astype(np.uint8), self.run.predict(examples.signals)
            scores = auroc_macro(labels, logits.numpy()), f1_weighted(labels, torch.sigmoid(logits).numpy())
            self.monitored.append(Monitored(self.epoch, *scores))

    @contextmanager
    def not_charged(self) -> Iterator[None]:
        """Leave what happens in the block out of what the run is charged."""
        before = self.run.seconds()
        yield
        self._charged -= self.run.seconds() - before

    def is_out_of_patience(self) -> bool:
        """Return whether the latest validations, as many as the recipe's patience, brought no better one."""
        patience, since_best = self.recipe.patience, self.validations[::-1].index(self.best) if self.best else 0
        return patience is not None and since_best >= patience

    def snapshot(self, generator: torch.Generator) -> Snapshot:
        """Return everything that is needed to go on."""
        device = generator.device
        random = {"order": generator.get_state(), "cpu": torch.get_rng_state()}
        if device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(device)
        groups = {"network": self.run.network.state_dict(), "best": self.best_weights, "moments": self.run.moments()}
        numbers = {
            "device": device.type,
            "seconds": self.seconds(),
            "best_epoch": self.best.epoch if self.best else None,
            "validations": [asdict(one) for one in self.validations],
            "monitored": [asdict(one) for one in self.monitored],
        }
        return Snapshot.of(self.epoch, {**groups, "random": random}, numbers)

    def restore(self, snapshot: Snapshot, generator: torch.Generator, steps: int) -> None:
        """Put everything back to where a snapshot was taken, ``steps`` steps into the training.

        The states of another kind of device's random generators mean nothing here: the order of the records, and
        dropout, are drawn anew from the seed and the epoch.
        """
        device, random = generator.device, snapshot.group("random")
        self.run.network.load_state_dict(snapshot.group("network"))
        self.run.load_moments(snapshot.group("moments"), steps)
        self.best_weights = {name: value.to(device) for name, value in snapshot.group("best").items()}
        self.epoch = snapshot.epoch
        self.validations = [Validation(**one) for one in snapshot.numbers["validations"]]
        self.monitored = [Monitored(**one) for one in snapshot.numbers["monitored"]]
        self.best = next(one for one in self.validations if one.epoch == snapshot.numbers["best_epoch"])
        self._charged += snapshot.numbers["seconds"]
        if snapshot.device != device.type:
            seed = stable_seed(generator.initial_seed(), snapshot.epoch)
            generator.manual_seed(seed)
            torch.manual_seed(seed)
            return
        generator.set_state(random["order"])
        torch.set_rng_state(random["cpu"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], device)


def _check_finite(loss: float, which: str) -> None:
    if not np.isfinite(loss):
        raise DivergedError(f"the {which} loss became {loss}; a lower learning rate may help")


def _rank(validation: Validation) -> tuple[float, float]:
    """Order by AUROC; where it ties or cannot be computed, by loss."""
    return (validation.auroc if np.isfinite(validation.auroc) else 0.0, -validation.loss)
