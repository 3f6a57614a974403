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
    weight_decay: float = 0.01
    batch_size: int = 32
    record_passes: int = 40_000
    min_epochs: int = 15
    max_epochs: int = 100
    validations: int = 15
    validation_fraction: float = 0.2

    def epochs(self, n_training: int) -> int:
        """Return the number of epochs for so many training records."""
        return min(max(self.record_passes // n_training, self.min_epochs), self.max_epochs)

    def digest(self) -> str:
        """Return a hash of the content."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


# Peak learning rate and batch size by network family and strategy.
_TUNED: dict[tuple[str, Strategy], Recipe] = {
    ("cnn", "scratch"): Recipe("tuned", learning_rate=3e-3),
    ("cnn", "fine-tune"): Recipe("tuned", learning_rate=1e-3),
    ("rnn", "scratch"): Recipe("tuned", learning_rate=1e-2, batch_size=64),
    ("rnn", "fine-tune"): Recipe("tuned", learning_rate=3e-3, batch_size=64),
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
