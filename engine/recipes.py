"""How a network is trained, as data: a recipe is a set of numbers, hashed into the key of every run that uses it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from models.errors import ExitCode, UserError

Strategy = Literal["scratch", "fine-tune", "linear-probe", "random-convolutions", "frozen", "random-frozen"]
PROBES: tuple[Strategy, ...] = ("linear-probe", "random-convolutions")  # regressions: no epochs, no learning rate
Schedule = Literal["one-cycle", "constant"]
Selection = Literal["validation", "last"]
Spacing = Literal["log", "even"]


# A field that came after the first runs were stored: its default is what those runs did, and is not hashed.
_LATER = {"later": True}


@dataclass(frozen=True)
class Augmentation:
    """How strongly training records are changed at random (``engine.training.augmentation``).

    ``shift`` is the largest move in time as a share of the record, ``scale`` the standard deviation of the logarithm
    of the amplitude, ``lead_dropout`` the probability that a lead is zero, ``noise`` the standard deviation of white
    noise in that of the signals.
    """

    shift: float
    scale: float
    lead_dropout: float
    noise: float


@dataclass(frozen=True)
class Recipe:
    """AdamW, the epoch chosen on validation records or the last (``selection``); without weight decay that is Adam.

    A run trains for ``record_passes / n`` epochs, at least ``min_epochs`` and at most ``max_epochs``, and validates at
    ``validations`` epochs, log-spaced or evenly spaced. ``patience`` ends it after that many validations in a row that
    brought no better one. ``standardise`` says whether a new network's signals are standardised with the training
    records' statistics; a pre-trained one keeps its scaling. ``head`` is what a pre-trained network's new head starts
    as: random weights, or a linear probe of its features (LP-FT: Kumar et al., "Fine-tuning can distort pretrained
    features and underperform out-of-distribution", ICLR 2022), which is validated before the
    first epoch. ``normalisation`` says by what batch normalisation normalises in
    training: a batch's statistics, or the running ones of the pre-training, which few records would blur. A training
    that never validates above chance is begun again from another seed, up to ``restarts`` times.
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
    schedule: Schedule = field(default="one-cycle", metadata=_LATER)
    clip_norm: float | None = field(default=1.0, metadata=_LATER)  # the gradient's largest norm
    standardise: bool = field(default=True, metadata=_LATER)
    selection: Selection = field(default="validation", metadata=_LATER)
    spacing: Spacing = field(default="log", metadata=_LATER)
    patience: int | None = field(default=None, metadata=_LATER)
    head: Literal["new", "probe"] = field(default="new", metadata=_LATER)
    augmentation: Augmentation | None = field(default=None, metadata=_LATER)
    restarts: int = field(default=0, metadata=_LATER)
    normalisation: Literal["batch", "running"] = field(default="batch", metadata=_LATER)

    def epochs(self, n_training: int) -> int:
        """Return the number of epochs for that many training records."""
        return min(max(self.record_passes // n_training, self.min_epochs), self.max_epochs)

    def digest(self) -> str:
        """Return a hash of the content; a later field counts only where it differs from its default."""
        unset = {field.name: field.default for field in fields(self) if field.metadata.get("later")}
        content = {name: value for name, value in asdict(self).items() if name not in unset or value != unset[name]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe whose fields, as JSON values, these are; one that came later has its default."""
    augmentation = values.get("augmentation")
    return Recipe(**{**values, "augmentation": augmentation and Augmentation(**augmentation)})


# Learning rates: the best of studies/designs/ptbxl-cpu-tuning.toml on validation records, see studies/LOG.md.
_CNN = Recipe(
    "tuned", learning_rate=1e-2, weight_decay=0.2, batch_size=32, record_passes=20_000, min_epochs=12, max_epochs=60
)
_RNN = Recipe(
    "tuned", learning_rate=1e-2, weight_decay=0.01, batch_size=64, record_passes=40_000, min_epochs=15, max_epochs=100
)
# Tuned with 32 hidden units; with 100 the rate 0.01 loses in mid-training what was learnt (studies/LOG.md).
_NARROW, _WIDE_RNN_RATE = 64, 3e-3
_STRONG = Augmentation(shift=0.1, scale=0.1, lead_dropout=0.1, noise=0.05)
# Tuned for both arms alike, on several tasks and sites (tests/benchmarks/tuning.py, studies/LOG.md). Restarts were not
# tuned; recurrent networks were not looked at, and have the numbers of ``tuned``.
_CNN_2 = replace(
    _CNN, name="tuned-2", learning_rate=3e-3, max_epochs=200, augmentation=_STRONG, restarts=2, selection="last"
)
_RNN_2 = replace(_RNN, name="tuned-2")
_LP_FT = replace(
    _CNN_2, record_passes=8_000, min_epochs=8, max_epochs=40, head="probe", normalisation="running", restarts=0
)
_TUNED: dict[tuple[str, str, Strategy], Recipe] = {
    ("tuned", "cnn", "scratch"): _CNN,
    ("tuned", "cnn", "fine-tune"): replace(_CNN, learning_rate=1e-3),
    ("tuned", "cnn", "frozen"): _CNN,
    ("tuned", "cnn", "random-frozen"): _CNN,
    ("tuned", "rnn", "scratch"): _RNN,
    ("tuned", "rnn", "fine-tune"): _RNN,
    ("tuned", "rnn", "frozen"): _RNN,
    ("tuned", "rnn", "random-frozen"): _RNN,
    ("tuned-2", "cnn", "scratch"): _CNN_2,
    ("tuned-2", "cnn", "fine-tune"): _LP_FT,
    ("tuned-2", "rnn", "scratch"): _RNN_2,
    ("tuned-2", "rnn", "fine-tune"): _RNN_2,
}
# State space models and transformers take the recipes of convolutional networks at these rates, or lower ones where
# those have them. Little was tried (studies/LOG.md): no more than rates, of narrow networks from scratch.
_RATES = {"ssm": 3e-3, "transformer": 1e-3}
_TUNED |= {
    (name, family, strategy): replace(recipe, learning_rate=min(rate, recipe.learning_rate))
    for (name, like, strategy), recipe in _TUNED.items()
    for family, rate in _RATES.items()
    if like == "cnn"
}
# Nguyen and Do, PLOS ONE 20(5): e0316043 (2025): Adam at 0.01 for every network and both arms, 100 epochs of batches of
# 256, no schedule, no clipping, no early stopping. They report the best epoch on the test set; here it is chosen on
# validation records, and ``engine.training.loop.train(monitor=...)`` tells what the test set's own best would have
# been. Their scaling of each record to -1..1 is a preparation (``engine.records.signal``), so nothing is standardised.
_PAPER = Recipe(
    "paper", learning_rate=1e-2, weight_decay=0.0, batch_size=256, record_passes=0, min_epochs=100, max_epochs=100,
    validations=100, schedule="constant", clip_norm=None, standardise=False, spacing="even",
)  # fmt: skip
# A regression on all records at once; none is kept back to choose by. Whatever recipe is named, it is this one.
_PROBE = Recipe(
    "probe", learning_rate=0.0, weight_decay=0.0, batch_size=0, record_passes=0, min_epochs=1, max_epochs=1,
    validations=1, validation_fraction=0.0,
)  # fmt: skip
NAMES = ("paper", "tuned", "tuned-2")
DEFAULT_RECIPE = "tuned-2"  # what is trained by where nobody names one


class UnknownRecipeError(UserError, LookupError):
    """No recipe has that name."""

    exit_code = ExitCode.USAGE


def find_recipe(
    name: str, family: str, strategy: Strategy, learning_rate: float | None = None, width: int | None = None
) -> Recipe:
    """Return the named recipe for a family and strategy, its learning rate replaced where one is given.

    ``width`` is the network's (``models.registry``): a wide recurrent one is trained at a lower rate. The arms in
    ``PROBES`` have one recipe under all names, and no learning rate; the controls ``frozen`` and ``random-frozen`` have
    none of their own in ``tuned-2``, and that of ``tuned`` there. Raises UnknownRecipeError.
    """
    if name not in NAMES:
        raise UnknownRecipeError(f"no recipe is named {name!r}; there are: {', '.join(NAMES)}")
    if strategy in PROBES:
        return _PROBE
    recipe = _PAPER if name == "paper" else _TUNED.get((name, family, strategy)) or _TUNED["tuned", family, strategy]
    if recipe in (_RNN, _RNN_2) and width is not None and width > _NARROW:
        recipe = replace(recipe, learning_rate=_WIDE_RNN_RATE)
    return recipe if learning_rate is None else replace(recipe, learning_rate=learning_rate)
