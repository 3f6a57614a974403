"""Anybody's runs as tidy rows: a CSV file with a run a line, or a study store.

    task,arch,strategy,upstream,n_records,replicate,auroc_macro
    our-ward,resnet1d18,scratch,,500,0,0.831
    our-ward,resnet1d18,fine-tune,ptb-xl/all,500,0,0.872

A scratch run's ``upstream`` stays empty, and the column may be missing where every run is from scratch. ``family`` is
optional: without it the registry says it, and a network that it does not know is of family "other". The columns of
what a run cost (``seconds``, ``records_seen``, ...) are used where they are there and make sense, ``role`` sets
pre-trainings and runs of other comparisons apart, and every other column is ignored.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from engine.recipes import Strategy
from models.errors import ExitCode, UserError
from models.registry import UnknownNetworkError, find_network
from studies.files.curves import UNPRINTABLE
from studies.files.draws import chance_level
from studies.runs.store import RunRecord, Store, StoreError

STRATEGIES: tuple[str, ...] = tuple(dict.fromkeys((*get_args(Strategy), "frozen", "random-frozen")))
REQUIRED = ("task", "arch", "strategy", "n_records", "replicate")
METRIC = "auroc_macro"
APART = "apart"  # the role, in a runs table, of what ``comparable_runs`` leaves out
LOWER_IS_BETTER = ("brier", "ece")
_SCORES = {"auroc", "auc", "auprc", "accuracy", "acc", "f1", "score", "precision", "recall", "kappa", "mcc"}
_OTHER_COLUMNS = {
    *REQUIRED, "upstream", "family", "recipe", "role", "key", "seconds", "seconds_to_best", "epochs", "best_epoch",
    "records_seen", "records_to_best", "gflop", "peak_memory_mb", "device", "data_hash", "created", "attempts",
}  # fmt: skip
_NO_UPSTREAM = {"", "-", "none", "null", "na", "nan"}
_MISSING = {"nan", "<NA>", "NaT"}  # as pandas writes a value that is not there
_SQLITE = b"SQLite format 3\0"
_NAMED_PROBLEMS = 5  # so many are named in an error, the others are counted


class RunsFileError(UserError, ValueError):
    """A runs file that cannot be used; the message names the rows and what is wrong in each."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class RunCost:
    """What a run cost on its device: ``best_epoch`` is where validation was best, ``*_to_best`` what led there."""

    device: str
    seconds: float
    records_seen: int
    records_to_best: int
    seconds_to_best: float
    epochs: int
    best_epoch: int

    @property
    def censored(self) -> bool:
        """Whether the last epoch was the best, so that the true best may lie beyond the end of the training."""
        return self.best_epoch >= self.epochs


@dataclass(frozen=True)
class TidyRun:
    """One downstream run. ``name`` says where it stands; ``trajectory`` has (records seen, validation AUROC)."""

    task: str
    arch: str
    family: str
    strategy: str
    upstream: str | None
    n_records: int
    replicate: int
    score: float
    name: str
    recipe: str = ""
    cost: RunCost | None = None
    trajectory: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TidyRuns:
    """The runs of a file, their metric, and ``pretrainings``: what making each (upstream, arch) network cost."""

    name: str
    metric: str
    runs: tuple[TidyRun, ...]
    pretrainings: Mapping[tuple[str, str], RunCost]
    warnings: tuple[str, ...] = ()


def read_runs(path: Path, metric: str = METRIC) -> TidyRuns:
    """Read the runs of a CSV file or of a study store, told apart by their content.

    Where a file has no column METRIC, and that is what is asked for, its only column that is named as a score is read,
    and a warning says which. Raises RunsFileError with every problem by row.
    """
    _refuse_falling(metric)
    try:
        return _read_store(path, metric) if is_store(path) else _read_csv(path, metric)
    except FileNotFoundError:
        raise RunsFileError(f"no runs file at {path}") from None
    except OSError as error:
        raise RunsFileError(f"cannot read the runs file {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunsFileError(f"{path} is neither a CSV file in UTF-8 nor a study store: {error}") from None


def read_columns(columns: Mapping[str, Sequence[Any]], metric: str = METRIC, name: str = "table") -> TidyRuns:
    """Read the runs of columns in memory, as those of a CSV file; ``name`` is the study's. Raises RunsFileError."""
    _refuse_falling(metric)
    cells = {column.strip(): [_cell(value) for value in values] for column, values in columns.items()}
    header, path = list(cells), Path(name)
    metric, said = _choose_metric(header, metric)
    _check_header(path, header, metric)
    if len({len(values) for values in cells.values()}) > 1:
        raise RunsFileError(f"the columns of {name} differ in their number of rows")
    rows = [(f"row {number}", row) for number, row in enumerate(zip(*cells.values(), strict=True))]
    return replace(_read_rows(path, metric, said, header, rows), name=name)


def _cell(value: object) -> str:
    """Write a value as a CSV file has it, empty where a DataFrame has none."""
    text = "" if value is None else str(value).strip()
    return "" if text in _MISSING else text


def _refuse_falling(metric: str) -> None:
    if metric in LOWER_IS_BETTER:
        raise RunsFileError(f"{metric} falls with more records; give a score that rises, such as auroc_macro")


def is_store(path: Path) -> bool:
    """Say whether a file is a SQLite file, as study stores are. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def family_of(arch: str) -> str:
    """Return the family of a registered network, "other" for one that is not."""
    try:
        return find_network(arch).family
    except UnknownNetworkError:
        return "other"


def _read_csv(path: Path, metric: str) -> TidyRuns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, strict=True)
        header = [name.strip() for name in next(lines, [])]
        metric, said = _choose_metric(header, metric)
        _check_header(path, header, metric)
        rows = [(f"row {lines.line_num}", line) for line in lines if any(cell.strip() for cell in line)]
    return _read_rows(path, metric, said, header, rows)


def _read_rows(
    path: Path, metric: str, said: Sequence[str], header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]
) -> TidyRuns:
    """Read the cells of rows, each with its name; ``said`` is to be said of them."""
    problems = [
        f"{name} has {len(line)} cells, and the header {len(header)}" for name, line in rows if len(line) != len(header)
    ]
    _refuse(path, problems)
    named = ((name, dict(zip(header, map(str.strip, line), strict=True))) for name, line in rows)
    tidy = _tidy(path, metric, named)
    return replace(tidy, warnings=(*said, *tidy.warnings))


def _choose_metric(header: Sequence[str], metric: str) -> tuple[str, list[str]]:
    """Return the metric to read, and what has to be said of it."""
    named = [name for name in header if name not in _OTHER_COLUMNS and _SCORES & set(re.split(r"\W|_", name.lower()))]
    if metric == METRIC and metric not in header and len(named) == 1:
        return named[0], [f"there is no column {METRIC}: the scores are those of the column {named[0]}"]
    return metric, []


def _check_header(path: Path, header: Sequence[str], metric: str) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        found = ", ".join(filter(None, header))[:200] or "none"
        raise RunsFileError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {found}")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise RunsFileError(f"{path} has the column {twice[0]} twice")
    if metric not in header:
        others = [name for name in header if name and name not in _OTHER_COLUMNS]
        offered = f"choose with --metric one of {', '.join(others)}" if others else "it has no column of scores"
        raise RunsFileError(f"{path} has no column {metric}; {offered}")


def _read_store(path: Path, metric: str) -> TidyRuns:
    try:
        store = Store(path, create=False)
        records = store.runs()
        store.close()
    except StoreError as error:
        raise RunsFileError(f"{path} is a SQLite file, but no study store: {error}") from None
    return tidy_records(records, path, metric)


def tidy_records(records: Sequence[RunRecord], path: Path, metric: str = METRIC) -> TidyRuns:
    """Return a store's runs as tidy ones; ``path`` names them in messages. Raises RunsFileError."""
    if records and metric not in records[0].row:
        scores = ("auroc_macro", "auprc_macro", "f1_macro", "f1_weighted")
        has = ", ".join(name for name in scores if name in records[0].row)
        raise RunsFileError(f"{path} has no metric {metric}; it has {has}")
    evidence = comparable_runs(records)
    scored = [run for run in evidence if run.row[metric] is not None or run.row["role"] == "pretraining"]
    tidy = _tidy(path, metric, ((f"run {run.key}", dict(run.row)) for run in scored))
    trajectories = {f"run {run.key}": _trajectory(run) for run in scored}
    without = len(evidence) - len(scored)
    said = [f"{without} of {len(evidence)} runs have no {metric} and are left out"] if without else []
    return replace(
        tidy,
        runs=tuple(replace(run, trajectory=trajectories[run.name]) for run in tidy.runs),
        pretrainings={**_costs(pretraining_runs(records)), **tidy.pretrainings},
        warnings=(*tidy.warnings, *said),
    )


def pretraining_runs(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs that others start from: those made for it, and those of the scratch arm that serve as one too."""
    started = {run.details.get("start_from") for run in records}
    return [run for run in records if run.row["role"] == "pretraining" or run.key in started]


def comparable_runs(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Leave out what belongs to no comparison of the arms.

    That are runs with a learning rate of their own, which a tuning made, and runs from scratch that validate on a fold
    of their own, as in a published split, where the fine-tuned runs of their task and network do not.
    """
    splits: dict[tuple[str, str], set[tuple[int, ...]]] = defaultdict(set)
    for run in records:
        if run.row["strategy"] != "scratch":
            splits[run.row["task"], run.row["arch"]].add(_validation_folds(run))
    return [
        run
        for run in records
        if "learning_rate" not in run.details["spec"]
        and _validation_folds(run) in (splits.get((run.row["task"], run.row["arch"])) or {_validation_folds(run)})
    ]


def _costs(pretrainings: Sequence[RunRecord]) -> dict[tuple[str, str], RunCost]:
    found = {(run.row["task"], run.row["arch"]): _cost(dict(run.row)) for run in pretrainings}
    return {network: cost for network, cost in found.items() if cost is not None}


def _validation_folds(run: RunRecord) -> tuple[int, ...]:
    return tuple(run.details["spec"].get("validation_folds", ()))


def _trajectory(run: RunRecord) -> tuple[tuple[int, float], ...]:
    looks = run.details.get("validations", ())
    return tuple((int(look["records_seen"]), float(look["auroc"])) for look in looks if look["auroc"] is not None)


def _tidy(path: Path, metric: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> TidyRuns:
    """Check every row and sort them into downstream runs and pre-trainings. Raises RunsFileError."""
    problems: list[str] = []
    runs: list[TidyRun] = []
    pretrainings: dict[tuple[str, str], RunCost] = {}
    family = lru_cache(maxsize=None)(family_of)
    for name, row in rows:
        if _text(row, "role") == "pretraining":
            network = _text(row, "task"), _text(row, "arch")
            if (cost := _cost(row)) and (network not in pretrainings or _text(row, "recipe") == "tuned"):
                pretrainings[network] = cost
        elif _text(row, "role") == APART:
            continue
        elif found := _row_problems(row, metric):
            problems += [f"{name}: {problem}" for problem in found]
        else:
            runs.append(_run(name, row, metric, family))
    runs, left_out = _one_recipe(runs)
    _refuse(path, problems + _repeated(runs))
    if not runs:
        raise RunsFileError(f"{path} holds no run")
    return TidyRuns(path.stem, metric, tuple(runs), pretrainings, tuple(left_out + _perfect(runs, metric)))


def _row_problems(row: Mapping[str, Any], metric: str) -> list[str]:
    problems = [f"{name} is empty" for name in ("task", "arch", "strategy") if not _text(row, name)]
    problems += [
        f"{name} is {text[:40]!r}, with a character that cannot be printed"
        for name in ("task", "arch", "upstream")
        if UNPRINTABLE.search(text := _text(row, name))
    ]
    strategy, upstream = _text(row, "strategy"), _upstream(row)
    if strategy and strategy not in STRATEGIES:
        near = get_close_matches(strategy.lower(), STRATEGIES, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(STRATEGIES)}"
        problems.append(f"unknown strategy {strategy[:40]!r}, {hint}")
    elif strategy == "scratch" and upstream is not None:
        problems.append(f"a run from scratch has the upstream {upstream[:40]!r}; leave it empty")
    elif strategy in ("fine-tune", "frozen") and upstream is None:
        problems.append(f"{strategy} has no upstream: name what the network was pre-trained on")
    problems += [
        f"{name} is {_text(row, name)[:40]!r}, not a whole number of at least {least}"
        for name, least in (("n_records", 1), ("replicate", 0))
        if (value := _whole(row, name)) is None or value < least
    ]
    score = _number(row, metric)
    if score is None:
        problems.append(f"{metric} is {_text(row, metric)[:40]!r}, not a number")
    elif not 0 <= score <= 1 or (score == 0 and chance_level(metric) > 0):
        problems.append(f"{metric} is {score:g}, not between 0 and 1")
    return problems


def _run(name: str, row: Mapping[str, Any], metric: str, family: Callable[[str], str]) -> TidyRun:
    n_records, replicate, score = _whole(row, "n_records"), _whole(row, "replicate"), _number(row, metric)
    assert n_records is not None and replicate is not None and score is not None, "the row was checked"
    return TidyRun(
        task=_text(row, "task"), arch=_text(row, "arch"), family=_text(row, "family") or family(_text(row, "arch")),
        strategy=_text(row, "strategy"), upstream=_upstream(row), n_records=n_records, replicate=replicate,
        score=score, name=name, recipe=_text(row, "recipe"), cost=_cost(row),
    )  # fmt: skip


def preferred_recipe(recipes: Collection[str]) -> str | None:
    """Return the recipe whose runs are kept where several were run, None where all are: recipes do not mix."""
    return "tuned" if len(recipes) > 1 and "tuned" in recipes else None


def _one_recipe(runs: Sequence[TidyRun]) -> tuple[list[TidyRun], list[str]]:
    chosen = preferred_recipe({run.recipe for run in runs})
    kept = [run for run in runs if chosen in (None, run.recipe)]
    left = len(runs) - len(kept)
    return kept, [f"{left} runs of other recipes than {chosen} are left out"] if left else []


def _repeated(runs: Sequence[TidyRun]) -> list[str]:
    first: dict[tuple[object, ...], str] = {}
    problems = []
    for run in runs:
        cell = (run.task, run.arch, run.strategy, run.upstream, run.n_records, run.replicate)
        if cell in first:
            problems.append(
                f"{run.name} repeats {first[cell]} ({run.task} {run.arch} {run.strategy}, n_records {run.n_records}, "
                f"replicate {run.replicate})"
            )
        first.setdefault(cell, run.name)
    return problems


def _perfect(runs: Sequence[TidyRun], metric: str) -> list[str]:
    n = sum(run.score == 1 for run in runs)
    return [f"{n} of {len(runs)} runs have {metric} 1: no curve can tell how far above they would lie"] if n else []


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = len(problems) - _NAMED_PROBLEMS
        tail = f"; and {more} more" if more > 0 else ""
        raise RunsFileError(f"{path}: " + "; ".join(problems[:_NAMED_PROBLEMS]) + tail)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)


def _upstream(row: Mapping[str, Any]) -> str | None:
    upstream = _text(row, "upstream")
    return None if upstream.lower() in _NO_UPSTREAM else upstream


def _number(row: Mapping[str, Any], name: str) -> float | None:
    try:
        value = float(_text(row, name))
    except ValueError:
        return None
    return value if isfinite(value) else None


def _whole(row: Mapping[str, Any], name: str) -> int | None:
    value = _number(row, name)
    return int(value) if value is not None and value == int(value) and value < 10**15 else None


def _cost(row: Mapping[str, Any]) -> RunCost | None:
    """Return what a run cost, None where a column is missing or makes no sense."""
    seconds, to_best = _number(row, "seconds"), _number(row, "seconds_to_best")
    seen, best_seen = _whole(row, "records_seen"), _whole(row, "records_to_best")
    epochs, best = _whole(row, "epochs"), _whole(row, "best_epoch")
    if seconds is None or to_best is None or seen is None or best_seen is None or epochs is None or best is None:
        return None
    if not (0 < to_best <= seconds and 0 < best_seen <= seen and 0 < best <= epochs and _text(row, "device")):
        return None
    return RunCost(_text(row, "device"), seconds, seen, best_seen, to_best, epochs, best)
