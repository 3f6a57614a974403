"""A study design: a TOML file that expands to an ordered list of runs.

    name = "ptbxl-cpu"
    tasks = ["ptb-xl/superclass"]
    archs = ["resnet1d18-w16"]
    strategies = ["scratch", "fine-tune"]
    upstream = "ptb-xl/non-diagnostic"
    upstream_folds = [1, 2, 3, 4]
    pool_folds = [5, 6, 7, 8, 9]
    test_folds = [10]
    sizes = [100, 250, 500, 1000, 2000]      # or "all"
    replicates = 5
    recipe = "tuned"
    learning_rates = [0.001, 0.01]           # optional: every run once with each, for tuning

Both arms, all networks and all learning rates of one (task, size, replicate) share one subset and one seed: the pairing
is in ``RunSpec.seed``, which does not depend on them.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import combinations, product
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from engine.corpus import Corpus, CorpusError
from engine.recipes import Recipe, Strategy, UnknownRecipeError, find_recipe
from engine.splits import stable_seed
from models.registry import UnknownNetworkError, find_network


class DesignError(ValueError):
    """A design that cannot be run; the message lists every problem."""


@dataclass(frozen=True)
class RunSpec:
    """One training: ``n_records`` labelled records for training and validation, out of ``pool_folds``.

    ``upstream`` names the task on whose ``upstream_folds`` the network was pre-trained, None from scratch.
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

    @property
    def seed(self) -> int:
        """The seed of subset, split, weights and order: the same for every arm, network and learning rate."""
        return stable_seed(self.task, self.n_records, self.replicate)

    def resolve_recipe(self) -> Recipe:
        """Return the recipe's numbers for this network and strategy."""
        return find_recipe(self.recipe, find_network(self.arch).family, self.strategy, self.learning_rate)

    def pretraining(self) -> "RunSpec | None":
        """Return the run that makes the network which this one starts from, None from scratch."""
        if self.upstream is None:
            return None
        return replace(
            self,
            task=self.upstream,
            strategy="scratch",
            upstream=None,
            n_records=self.upstream_records,
            replicate=0,
            pool_folds=self.upstream_folds,
            upstream_folds=(),
            upstream_records=0,
            learning_rate=None,
        )

    def canonical(self) -> dict[str, Any]:
        """Return the fields as JSON values, optional ones only where set: a new one leaves the old keys alone."""
        unset = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        values = json.loads(json.dumps(asdict(self)))
        return {
            name: value for name, value in values.items() if name not in unset or getattr(self, name) != unset[name]
        }

    def key(self, data_hashes: Mapping[str, str]) -> str:
        """Return the run's identity: a hash of spec, recipe content, data, and the pre-training it starts from.

        ``data_hashes`` maps a task to the hash of its data (``Corpus.task_hash``).
        """
        upstream = self.pretraining()
        identity = {
            "spec": self.canonical(),
            "recipe": self.resolve_recipe().digest(),
            "data": data_hashes[self.task],
            "pretraining": upstream.key(data_hashes) if upstream else None,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Design:
    """What a design file says, checked for form; whether the data can give it is checked by ``expand``."""

    name: str
    tasks: tuple[str, ...]
    archs: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    sizes: tuple[int | str, ...]
    replicates: int
    recipe: str
    pool_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    upstream: str | None = None
    upstream_folds: tuple[int, ...] = ()
    learning_rates: tuple[float | None, ...] = (None,)


_LISTS = {
    "tasks": str, "archs": str, "strategies": str, "sizes": (int, str), "pool_folds": int, "test_folds": int,
    "upstream_folds": int, "learning_rates": (int, float),
}  # fmt: skip
_SCALARS = {"name": str, "replicates": int, "recipe": str, "upstream": str}
_OPTIONAL = {"upstream", "upstream_folds", "learning_rates"}


def read_design(path: Path) -> Design:
    """Read a design file. Raises DesignError with every problem of form."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DesignError(f"no design file at {path}") from None
    except OSError as error:
        raise DesignError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # what is no TOML, no UTF-8, or nested without end
        raise DesignError(f"{path} is no TOML: {error}") from None
    problems = [f"unknown key {key!r}" for key in document if key not in _LISTS.keys() | _SCALARS.keys()]
    problems += [f"missing key {key!r}" for key in [*_SCALARS, *_LISTS] if key not in _OPTIONAL | document.keys()]
    problems += [problem for key, value in document.items() if (problem := _type_problem(key, value))]
    if not problems:
        problems = _value_problems(document)
    if problems:
        raise DesignError(f"{path}: " + "; ".join(problems))
    fields_: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in document.items()}
    if "learning_rates" in fields_:
        fields_["learning_rates"] = tuple(map(float, fields_["learning_rates"]))
    return Design(**fields_)


def expand(design: Design, corpora: Mapping[str, Corpus]) -> list[RunSpec]:
    """Return the design's runs, pre-trainings first, then replicate by replicate, so that a stop leaves whole pairs.

    Raises DesignError with everything that the data cannot give: an unknown task, a size beyond the pool, an unknown
    network or recipe.
    """
    problems: list[str] = []
    pools = {task: _pool_size(task, design.pool_folds, corpora, problems) for task in design.tasks}
    upstream_records = _pool_size(design.upstream, design.upstream_folds, corpora, problems) if design.upstream else 0
    for name in design.archs:
        try:
            find_network(name)
        except UnknownNetworkError as error:
            problems.append(str(error))
    try:
        find_recipe(design.recipe, "cnn", "scratch")
    except UnknownRecipeError as error:
        problems.append(str(error))
    problems += [
        f"{task} has {pools[task]} records in folds {list(design.pool_folds)}, fewer than the size {size}"
        for task, size in product(design.tasks, design.sizes)
        if isinstance(size, int) and 0 < pools[task] < size
    ]
    for task in design.tasks:
        _pool_size(task, design.test_folds, corpora, problems)
    problems = list(dict.fromkeys(problems)) or _shared_patients(design, corpora)
    if problems:
        raise DesignError(f"design {design.name}: " + "; ".join(problems))
    cells = product(range(design.replicates), design.tasks, design.archs, design.sizes, design.strategies)
    runs = [
        RunSpec(
            task, arch, strategy, design.upstream if strategy != "scratch" else None,
            pools[task] if size == "all" else int(size), replicate, design.recipe, design.pool_folds,
            design.test_folds, design.upstream_folds if strategy != "scratch" else (),
            upstream_records if strategy != "scratch" else 0, rate,
        )
        for replicate, task, arch, size, strategy in cells
        for rate in design.learning_rates
    ]  # fmt: skip
    pretrainings = dict.fromkeys(spec for run in runs if (spec := run.pretraining()))
    return list(dict.fromkeys([*pretrainings, *runs]))


def hash_tasks(specs: Sequence[RunSpec], corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Return the data hash of every task that the runs use, as ``RunSpec.key`` takes them."""
    parts = {spec.task: spec.task.partition("/") for spec in specs}
    return {task: corpora[source].task_hash(name) for task, (source, _, name) in parts.items()}


def _type_problem(key: str, value: object) -> str | None:
    if key in _SCALARS and (not isinstance(value, _SCALARS[key]) or isinstance(value, bool)):
        return f"{key} must be {'a whole number' if _SCALARS[key] is int else 'text'}, not {value!r}"
    if key in _LISTS:
        kind = _LISTS[key]
        if not isinstance(value, list) or not value:
            return f"{key} must be a list with at least one entry"
        if any(not isinstance(item, kind) or isinstance(item, bool) for item in value):  # type: ignore[arg-type]  # a type or a tuple of types
            return f"{key} holds an entry of the wrong kind: {value!r}"
    if isinstance(value, str) and not value:
        return f"{key} must not be empty"
    return None


def _value_problems(document: dict[str, Any]) -> list[str]:
    problems = [f"unknown strategy {s!r}; there is: {', '.join(get_args(Strategy))}"
                for s in document["strategies"] if s not in get_args(Strategy)]  # fmt: skip
    problems += [f"size {s!r} must be at least 2 records or \"all\""
                 for s in document["sizes"] if not (s == "all" or (isinstance(s, int) and s >= 2))]  # fmt: skip
    if document["replicates"] < 1:
        problems.append("replicates must be at least 1")
    if "fine-tune" in document["strategies"] and not {"upstream", "upstream_folds"} <= document.keys():
        problems.append("fine-tune needs upstream and upstream_folds")
    used = {name: set(document.get(name, ())) for name in ("pool_folds", "test_folds", "upstream_folds")}
    for one, other in (
        ("pool_folds", "test_folds"),
        ("upstream_folds", "test_folds"),
        ("upstream_folds", "pool_folds"),
    ):
        if shared := used[one] & used[other]:
            problems.append(f"{one} and {other} share fold {', '.join(map(str, sorted(shared)))}")
    problems += [
        f"learning rate {rate} must be positive"
        for rate in document.get("learning_rates", ())
        if not (isfinite(rate) and rate > 0)
    ]
    return problems


def _shared_patients(design: Design, corpora: Mapping[str, Corpus]) -> list[str]:
    """Name the sides of a split that share a patient, which no fold number shows."""
    problems = []
    for task in design.tasks:
        sides = {"pool_folds": (task, design.pool_folds), "test_folds": (task, design.test_folds)}
        if design.upstream and design.upstream.partition("/")[0] == task.partition("/")[0]:
            sides["upstream_folds"] = (design.upstream, design.upstream_folds)
        patients = {side: _patients(*where, corpora) for side, where in sides.items()}
        for one, other in combinations(patients, 2):
            if shared := patients[one] & patients[other]:
                problems.append(f"{len(shared)} patients of {task} are in both {one} and {other}")
    return problems


def _patients(task: str, folds: tuple[int, ...], corpora: Mapping[str, Corpus]) -> set[int]:
    source, _, name = task.partition("/")
    data = corpora[source].task(name)
    return set(data.patients[data.in_folds(folds)].tolist())


def _pool_size(task: str, folds: tuple[int, ...], corpora: Mapping[str, Corpus], problems: list[str]) -> int:
    """Return the number of records of a task in the folds; what is missing is added to ``problems``."""
    source, _, name = task.partition("/")
    if source not in corpora:
        problems.append(f"task {task} needs the corpus {source}, which is not prepared")
        return 0
    try:
        n_records = len(corpora[source].task(name).in_folds(folds))
    except CorpusError as error:
        problems.append(str(error))
        return 0
    if not n_records:
        problems.append(f"{task} has no records in folds {list(folds)}")
    return n_records
