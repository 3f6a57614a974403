"""One run of a study: what is trained on what, and the key by which it is known."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from typing import Any

from engine.recipes import Recipe, Strategy, find_recipe
from engine.records.contract import Reading
from engine.seeds import stable_seed

STARTING_FROM_UPSTREAM = ("fine-tune", "linear-probe", "frozen")
FROZEN = ("frozen", "random-frozen")


@dataclass(frozen=True)
class RunSpec:
    """One training: ``n_records`` labelled records for training and validation, out of ``pool_folds``.

    ``upstream`` names the task on whose ``upstream_folds`` the network was pre-trained, None for a network that starts
    from random weights; that pre-training is tested on ``upstream_test_folds``, where they are not ``test_folds``.
    ``upstream_replicate`` is its replicate: another one has another seed. ``upstream_recipe`` is its recipe, where that
    is not the run's own. ``reading`` (``engine.records.contract.Reading``) says how the network reads the records where
    that is not as the task's corpus has them; records, folds and seed are the same ones.
    Validation records are a share of n, or those of its records that lie in ``validation_folds``, where such are set.
    """

    task: str
    arch: str
    strategy: Strategy
    upstream: str | None
    n_records: int
    replicate: int
    recipe: str
    pool_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    upstream_folds: tuple[int, ...] = ()
    upstream_records: int = 0
    learning_rate: float | None = None
    validation_folds: tuple[int, ...] = ()
    upstream_test_folds: tuple[int, ...] = ()
    upstream_replicate: int = 0
    upstream_recipe: str = ""
    reading: str = ""

    @property
    def read_task(self) -> str:
        """The task by the name of the corpus that the network reads: that of its rate, with its leads."""
        if not self.reading:
            return self.task
        from studies.runs.task_names import read_as  # here: it imports numpy, which reading a store does not need

        return read_as(self.task, Reading.parse(self.reading))

    @property
    def seed(self) -> int:
        """The seed of subset, split, weights and order: the same for every arm, network and learning rate."""
        return stable_seed(self.task, self.n_records, self.replicate)

    def resolve_recipe(self) -> Recipe:
        """Return the recipe's numbers for this network and strategy."""
        return _resolve(self.recipe, self.arch, self.strategy, self.learning_rate)

    def pretraining(self) -> "RunSpec | None":
        """Return the run that makes the network which this one starts from, None from random weights."""
        if self.upstream is None:
            return None
        return replace(
            self,
            task=self.upstream,
            strategy="scratch",
            upstream=None,
            n_records=self.upstream_records,
            replicate=self.upstream_replicate,
            recipe=self.upstream_recipe or self.recipe,
            pool_folds=self.upstream_folds,
            test_folds=self.upstream_test_folds or self.test_folds,
            upstream_folds=(),
            upstream_test_folds=(),
            upstream_records=0,
            upstream_replicate=0,
            upstream_recipe="",
            validation_folds=(),
            learning_rate=None,
            reading="",
        )

    def canonical(self) -> dict[str, Any]:
        """Return the fields as JSON values, optional ones only where set: a new one leaves the old keys alone."""
        values = {name: getattr(self, name) for name in _REQUIRED}
        values |= {name: value for name, unset in _OPTIONAL.items() if (value := getattr(self, name)) != unset}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def key(self, data_hashes: Mapping[str, str]) -> str:
        """Return the run's identity: a hash of spec, recipe content, data, and the pre-training it starts from.

        ``data_hashes`` maps a task, by the name of the corpus that is read, to the hash of its data
        (``Corpus.task_hash``).
        """
        upstream = self.pretraining()
        return self._key(data_hashes, upstream.key(data_hashes) if upstream else None)

    def _key(self, data_hashes: Mapping[str, str], pretraining: str | None) -> str:
        identity = {
            "spec": self.canonical(),
            "recipe": self.resolve_recipe().digest(),
            "data": data_hashes[self.read_task],
            "pretraining": pretraining,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def read_spec(values: Mapping[str, Any]) -> RunSpec:
    """Return the run whose ``canonical`` values these are."""
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return RunSpec(**read)


def find_keys(specs: Iterable[RunSpec], data_hashes: Mapping[str, str]) -> dict[RunSpec, str]:
    """Return the key of every run, and of every pre-training that one of them starts from."""
    keys: dict[RunSpec, str] = {}
    for spec in specs:
        upstream = spec.pretraining()
        if upstream is not None and upstream not in keys:
            keys[upstream] = upstream.key(data_hashes)
        if spec not in keys:
            keys[spec] = spec._key(data_hashes, keys[upstream] if upstream else None)
    return keys


@lru_cache(maxsize=4096)
def _resolve(recipe: str, arch: str, strategy: Strategy, learning_rate: float | None) -> Recipe:
    from models.registry import find_network  # here: it imports torch, which reading a store does not need

    network = find_network(arch)
    return find_recipe(recipe, network.family, strategy, learning_rate, network.width)


_REQUIRED = tuple(field.name for field in fields(RunSpec) if field.default is MISSING)
_OPTIONAL = {field.name: field.default for field in fields(RunSpec) if field.default is not MISSING}
