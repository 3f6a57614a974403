"""A study design: a TOML file that stands for an ordered list of runs.

    name = "atlas"
    tasks = ["ptb-xl/superclass"]
    archs = ["resnet1d18-w16"]
    strategies = ["scratch", "fine-tune"]
    upstream = "ptb-xl/non-diagnostic"       # or upstreams = [..]: every arm that starts from one is run with each
    upstream_folds = [1, 2, 3, 4]
    pool_folds = [5, 6, 7, 8, 9]
    test_folds = [10]
    sizes = [100, 250, 500, 1000, 2000]      # or "all"
    replicates = 5
    recipe = "tuned"

Optional: ``upstream_test_folds`` (what a pre-training is tested on, where not ``test_folds``), ``validation_folds`` (a
part of the pool that validates, instead of a share of every subset), ``learning_rates`` (every run once with each),
``first_replicate``, ``upstream_replicate`` (0; another number starts from a network that was pre-trained with another
seed: give such runs replicates of their own), ``upstream_recipe`` (where a pre-training has another than its runs),
``stage`` (1; all runs of a stage come before those of a later one,
replicate by replicate within it). A task that ends in ``@I+II`` uses these leads alone.

``upstream = "zoo:resnet1d18-w16-ptbxl"`` starts from a network that is released with this version, or was added by
``ecgadvise zoo add``, which is not trained again: it needs no ``upstream_folds``, and takes signals like its own and
runs of its own architecture alone. Where the task's records are of the publisher that it was pre-trained on, they have
to be the same ones, with ``test_folds`` among the folds that it has not seen.

Folds are the publisher's. A corpus that has none gets ten, whole patients in each
(``engine.corpora.splits.make_folds``).

Two tables and one list of tables extend it; all keys above but ``name`` may stand in them, and hold for all otherwise:

    [[grid]]                                 # one for tasks that need other upstreams or sizes; any number
    tasks = ["ptb-xl/form"]
    upstreams = ["ptb-xl/diagnostic-only", "ptb-xl/all"]

    [tuning]                                 # the learning-rate budget: runs before the others, on replicates from 100,
    learning_rates = [0.001, 0.01]           # whose subsets and seeds no other run has
    sizes = [500, 2000]
    replicates = 1

    [data]                                   # the directories of corpora that are prepared when they are first needed
    cpsc2018 = "downloads/cpsc2018"

A directory of one's own is such a corpus, under any name. Its task is ``labels``, or some of its labels joined by +:

    tasks = ["mine/labels", "mine/AF+LBBB"]
    [data]
    mine = "records/ward-7"

Both arms, all networks and all learning rates of one (task, size, replicate) share one subset and one seed: the pairing
is in ``RunSpec.seed``, which does not depend on them.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from engine.recipes import Strategy
from models.errors import ExitCode, UserError, decoding_fault
from studies.files.curves import is_released
from studies.runs.run_spec import STARTING_FROM_UPSTREAM
from studies.runs.task_names import parse_task

_FIRST_TUNING_REPLICATE = 100


class DesignError(UserError, ValueError):
    """A design that cannot be run; the message lists every problem."""

    exit_code = ExitCode.USAGE


class MissingDataError(DesignError):
    """A design whose corpora are not all there; the message lists every one that is not."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Grid:
    """Every combination of its tasks, networks, strategies, upstreams, sizes, replicates and learning rates."""

    tasks: tuple[str, ...]
    archs: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    sizes: tuple[int | str, ...]
    replicates: int
    recipe: str
    pool_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    upstreams: tuple[str, ...] = ()
    upstream_folds: tuple[int, ...] = ()
    upstream_test_folds: tuple[int, ...] = ()
    validation_folds: tuple[int, ...] = ()
    learning_rates: tuple[float | None, ...] = (None,)
    first_replicate: int = 0
    upstream_replicate: int = 0
    upstream_recipe: str = ""
    stage: int = 1

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """The upstreams that are tasks to pre-train on: not the released networks."""
        return tuple(name for name in self.upstreams if not is_released(name))

    @property
    def released(self) -> tuple[str, ...]:
        """The upstreams that are released networks."""
        return tuple(name for name in self.upstreams if is_released(name))


@dataclass(frozen=True)
class Design:
    """What a design file says, checked for form; whether the data can give it is checked by ``expansion.expand``.

    ``data`` maps a corpus to the directory that it is prepared from.
    """

    name: str
    grids: tuple[Grid, ...]
    tuning: Grid | None = None
    data: Mapping[str, Path] = field(default_factory=dict)

    @property
    def all_grids(self) -> tuple[Grid, ...]:
        """The tuning first, where there is one, then the grids."""
        return (*([self.tuning] if self.tuning else []), *self.grids)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that is trained on, downstream or upstream."""
        return tuple(dict.fromkeys(task for grid in self.all_grids for task in (*grid.tasks, *grid.pretrained_on)))


_LISTS: Mapping[str, type | tuple[type, ...]] = {
    "tasks": str, "archs": str, "strategies": str, "sizes": (int, str), "pool_folds": int, "test_folds": int,
    "upstreams": str, "upstream_folds": int, "upstream_test_folds": int, "validation_folds": int,
    "learning_rates": (int, float),
}  # fmt: skip
_SCALARS: Mapping[str, type] = {
    "replicates": int, "recipe": str, "upstream": str, "first_replicate": int, "upstream_replicate": int, "stage": int,
    "upstream_recipe": str,
}  # fmt: skip
_OPTIONAL = {
    "upstream", "upstreams", "upstream_folds", "upstream_test_folds", "validation_folds", "learning_rates",
    "first_replicate", "upstream_replicate", "upstream_recipe", "stage",
}  # fmt: skip
_TABLES = ("grid", "tuning", "data")


def read_design(path: Path) -> Design:
    """Read a design file. Raises DesignError with every problem of form."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DesignError(f"no design file at {path}") from None
    except OSError as error:
        raise DesignError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # what is not TOML, no UTF-8, or nested without end
        raise DesignError(f"{path} is not TOML: {decoding_fault(error)}") from None
    problems = _document_problems(document)
    tables = {} if problems else _grid_tables(document)
    for where, table in tables.items():
        problems += [f"{where}{problem}" for problem in _table_problems(table, in_tuning="tuning" in where)]
    if problems:
        raise DesignError(f"{path}: " + "; ".join(dict.fromkeys(problems)))
    grids = {where: _make_grid(table) for where, table in tables.items()}
    tuning = grids.pop("tuning: ", None)
    data = {corpus: Path(directory) for corpus, directory in document.get("data", {}).items()}
    return Design(document["name"], tuple(grids.values()), tuning, data)


def _document_problems(document: Mapping[str, Any]) -> list[str]:
    """Check what is of the file as a whole: its name and that its tables are tables."""
    known = {"name", *_LISTS, *_SCALARS, *_TABLES}
    problems = [f"unknown key {key!r}" for key in document if key not in known]
    name = document.get("name")
    if name is None:
        problems.append("missing key 'name'")
    elif not isinstance(name, str) or not name:
        problems.append(f"name must be text, not {name!r}")
    grids = document.get("grid", [{}])
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, dict) for grid in grids):
        problems.append("grid must be a list of tables, [[grid]]")
    for key in ("tuning", "data"):
        problems += [] if isinstance(document.get(key, {}), dict) else [f"{key} must be a table, [{key}]"]
    data = document.get("data")
    if isinstance(data, dict) and not all(isinstance(value, str) and value for value in data.values()):
        problems.append("data must name a directory for every corpus")
    return problems


def _grid_tables(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each grid's keys, those of the whole file filled in, under the words that name it in a message."""
    shared = {key: value for key, value in document.items() if key not in ("name", *_TABLES)}
    tables: dict[str, dict[str, Any]] = {}
    if "tuning" in document:
        tables["tuning: "] = {"first_replicate": _FIRST_TUNING_REPLICATE, **_over(shared, document["tuning"])}
    if "grid" not in document:
        return {**tables, "": shared}
    return tables | {f"grid {k}: ": _over(shared, grid) for k, grid in enumerate(document["grid"], start=1)}


def _over(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Put a table's own keys over the shared ones; its ``upstream`` replaces shared ``upstreams``, and so on."""
    hidden = {"upstream", "upstreams"} if own.keys() & {"upstream", "upstreams"} else set()
    return {**{key: value for key, value in shared.items() if key not in hidden}, **own}


def _table_problems(table: Mapping[str, Any], *, in_tuning: bool) -> list[str]:
    problems = [f"unknown key {key!r}" for key in table if key not in _LISTS.keys() | _SCALARS.keys()]
    problems += [f"missing key {key!r}" for key in [*_SCALARS, *_LISTS] if key not in _OPTIONAL | table.keys()]
    problems += [problem for key, value in table.items() if (problem := _type_problem(key, value))]
    if in_tuning and "learning_rates" not in table:
        problems.append("missing key 'learning_rates'")
    return problems or _value_problems(table)


def _make_grid(table: Mapping[str, Any]) -> Grid:
    values: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in table.items()}
    if "upstream" in values:
        values["upstreams"] = (values.pop("upstream"),)
    if "learning_rates" in values:
        values["learning_rates"] = tuple(map(float, values["learning_rates"]))
    return Grid(**values)


def _type_problem(key: str, value: object) -> str | None:
    if key in _SCALARS and (not isinstance(value, _SCALARS[key]) or isinstance(value, bool)):
        return f"{key} must be {'a whole number' if _SCALARS[key] is int else 'text'}, not {value!r}"
    if key in _LISTS:
        kind = _LISTS[key]
        if not isinstance(value, list) or not value:
            return f"{key} must be a list with at least one entry"
        if any(not isinstance(item, kind) or isinstance(item, bool) for item in value):
            return f"{key} holds an entry of the wrong kind: {value!r}"
    if isinstance(value, str) and not value:
        return f"{key} must not be empty"
    return None


def _value_problems(table: Mapping[str, Any]) -> list[str]:
    strategies, known = table["strategies"], get_args(Strategy)
    problems = [f"unknown strategy {s!r}; there is: {', '.join(known)}" for s in strategies if s not in known]
    problems += [f"size {s!r} must be at least 2 records or \"all\""
                 for s in table["sizes"] if not (s == "all" or (isinstance(s, int) and s >= 2))]  # fmt: skip
    if table["replicates"] < 1:
        problems.append("replicates must be at least 1")
    problems += [
        f"{key} must be at least {least}"
        for key, least in (("first_replicate", 0), ("upstream_replicate", 0), ("stage", 1))
        if table.get(key, least) < least
    ]
    if {"upstream", "upstreams"} <= table.keys():
        problems.append("give either upstream or upstreams")
    upstreams = (*table.get("upstreams", ()), *filter(None, [table.get("upstream")]))
    has_upstream = bool(upstreams) and ("upstream_folds" in table or all(map(is_released, upstreams)))
    problems += [f"{s} needs upstream and upstream_folds"
                 for s in STARTING_FROM_UPSTREAM if s in strategies and not has_upstream]  # fmt: skip
    problems += [
        f"learning rate {rate} must be positive"
        for rate in table.get("learning_rates", ())
        if not (isfinite(rate) and rate > 0)
    ]
    return problems + _fold_problems(table)


def _fold_problems(table: Mapping[str, Any]) -> list[str]:
    folds = {key: set(value) for key, value in table.items() if key.endswith("_folds")}
    problems = []
    if outside := folds.get("validation_folds", set()) - folds["pool_folds"]:
        problems.append(f"validation_folds must lie in pool_folds, unlike fold {_listed(outside)}")
    elif "validation_folds" in folds and folds["validation_folds"] == folds["pool_folds"]:
        problems.append("validation_folds leaves no fold of pool_folds to train on")
    upstreams = [name for name in (*table.get("upstreams", ()), table.get("upstream", "")) if not is_released(name)]
    if {parse_task(name).source for name in upstreams} & {
        parse_task(name).source for name in table["tasks"]
    }:  # one corpus: its folds must be apart
        sides = [("pool_folds", "test_folds"), ("upstream_folds", "test_folds"), ("upstream_folds", "pool_folds")]
    else:
        sides = [("pool_folds", "test_folds")]
    upstream_test = "upstream_test_folds" if "upstream_test_folds" in folds else "test_folds"
    for one, other in dict.fromkeys([*sides, ("upstream_folds", upstream_test)]):
        if shared := folds.get(one, set()) & folds.get(other, set()):
            problems.append(f"{one} and {other} share fold {_listed(shared)}")
    return problems


def _listed(folds: set[int]) -> str:
    return ", ".join(map(str, sorted(folds)))
