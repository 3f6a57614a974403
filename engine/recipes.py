"""How a network is trained, as data: a recipe is a set of numbers, hashed into the key of every run that uses it."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

Strategy = Literal["scratch", "fine-tune"]


@dataclass(frozen=True)
class Recipe:
    """AdamW with a one-cycle schedule, the epoch chosen on validation records.

    A run trains for ``record_passes / n`` epochs, at least ``min_epochs`` and at most ``max_epochs``, and validates at
    ``validations`` log-spaced epochs.
    """

    name: str
    learning_rate: float  # peak of the one-cycle schedule
    weight_decay: float
    batch_size: int
    record_passes: int
    min_epochs: int
    max_epochs: int
    validations: int = 15
    validation_fraction: float = 0.2

    def epochs(self, n_training: int) -> int:
        """Return the number of epochs for so many training records."""
        return min(max(self.record_passes // n_training, self.min_epochs), self.max_epochs)

    def digest(self) -> str:
        """Return a hash of the content."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


# Learning rates: the best of studies/designs/ptbxl-cpu-tuning.toml on validation records, see studies/LOG.md.
_CNN = Recipe(
    "tuned", learning_rate=1e-2, weight_decay=0.2, batch_size=32, record_passes=20_000, min_epochs=12, max_epochs=60
)
_RNN = Recipe(
    "tuned", learning_rate=1e-2, weight_decay=0.01, batch_size=64, record_passes=40_000, min_epochs=15, max_epochs=100
)
_TUNED: dict[tuple[str, Strategy], Recipe] = {
    ("cnn", "scratch"): _CNN,
    ("cnn", "fine-tune"): replace(_CNN, learning_rate=1e-3),
    ("rnn", "scratch"): _RNN,
    ("rnn", "fine-tune"): _RNN,
}


class UnknownRecipeError(LookupError):
    """No recipe has that name."""


def find_recipe(name: str, family: str, strategy: Strategy, learning_rate: float | None = None) -> Recipe:
    """Return the named recipe for a family and strategy, its learning rate replaced where one is given.

    Raises UnknownRecipeError.
    """
    if name != "tuned":
        raise UnknownRecipeError(f"no recipe is named {name!r}; there is: tuned")
    recipe = _TUNED[family, strategy]
    return recipe if learning_rate is None else replace(recipe, learning_rate=learning_rate)
