"""Anybody's runs as tidy rows: a CSV file with a run a line, or a study store.

    task,arch,strategy,upstream,n_records,replicate,auroc_macro
    our-ward,resnet1d18,scratch,,500,0,0.831
    our-ward,resnet1d18,fine-tune,ptb-xl/all,500,0,0.872

A scratch run's ``upstream`` stays empty, and the column may be missing where every run is from scratch. ``family`` is
optional: without it the registry says it, and a network that it does not know is of family "other". Runs of random
convolutions name the network ``random-convolutions`` and count next to every network of their task. ``precision``
(float32 or bf16) keeps runs apart that differ in it; where its cells are numbers it is a score. The columns of
what a run cost (``seconds``, ``records_seen``, ...) are used where they are there and make sense, ``role`` sets
pre-trainings and runs of other comparisons apart, and every other column is ignored.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_args

from engine.recipes import Strategy
from models.errors import ExitCode, UserError, decoding_fault
from models.registry import UnknownNetworkError, find_network
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, RANDOM_CONVOLUTIONS, SCRATCH
from studies.files.curves import UNPRINTABLE
from studies.files.draws import chance_level
from studies.files.falling import SCORES, falls, why_it_falls
from studies.files.precision import PRECISIONS
from studies.fitting.run_warnings import count_falling
from studies.runs.columns import read_number, read_precision, read_upstream, read_whole
from studies.runs.run import COLUMN_KINDS, METRIC, Run, cost_is_known, is_score_column, known, read_row, row_of
from studies.runs.run_spec import STARTING_FROM_UPSTREAM
from studies.runs.store import Store, StoreError
from studies.runs.store_files import is_packed, is_store, without_packing

STRATEGIES: tuple[str, ...] = get_args(Strategy)
REQUIRED = ("task", "arch", "strategy", "n_records", "replicate")
APART = "apart"  # the role, in a runs table, of what ``comparable_runs`` leaves out
_PRECISION = "precision"
_OTHER_COLUMNS = {name for name, kind in COLUMN_KINDS.items() if not kind.is_score}
_SCORES_OF_STORES = ("auroc_macro", "auprc_macro", "f1_macro", "f1_weighted")
_OF_PANDAS = {"nan", "<NA>", "NaT"}  # a value of a DataFrame that is not there
# As pandas, R, SPSS, SAS, Excel and people write a value that is not there; capitals do not matter.
_MISSING = {
    "nan", "<na>", "nat", "na", "n/a", "#n/a", "none", "null", "-", ".", "?", "#null!", "#div/0!", "#num!",
    "undefined", "missing", "",
}  # fmt: skip
_PREFERRED = ("tuned-2", "tuned")  # recipes, the newest first
_NAMED_PROBLEMS = 5  # that many are named in an error, the others are counted


Cells = Mapping[str, str]  # of one row, by column


class RunsFileError(UserError, ValueError):
    """A runs file that cannot be used; the message names the rows and what is wrong in each."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class TidyRuns:
    """The downstream runs of a file, each with a score by ``metric``.

    ``pretrainings`` says how many records the training of each (upstream, arch) network saw, where that is known.
    ``stored`` are all runs of the store that they were read from, none where they are a table's.
    """

    name: str
    metric: str
    runs: tuple[Run, ...]
    pretrainings: Mapping[tuple[str, str], int]
    warnings: tuple[str, ...] = ()
    stored: tuple[Run, ...] = ()


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
        raise RunsFileError(f"{path} is neither a CSV file nor a study store: {decoding_fault(error)}") from None


def read_columns(columns: Mapping[str, Sequence[Any]], metric: str = METRIC, name: str = "table") -> TidyRuns:
    """Read the runs of columns in memory, as those of a CSV file; ``name`` is the study's. Raises RunsFileError."""
    _refuse_falling(metric)
    cells = {column.strip(): [_cell(value) for value in values] for column, values in columns.items()}
    header, path = list(cells), Path(name)
    if len({len(values) for values in cells.values()}) > 1:
        raise RunsFileError(f"the columns of {name} differ in their number of rows")
    rows = [(f"row {number}", row) for number, row in enumerate(zip(*cells.values(), strict=True))]
    metric, said = _choose_metric(path, header, rows, metric)
    return replace(_read_rows(path, metric, said, header, rows), name=name)


def _cell(value: object) -> str:
    """Write a value as a CSV file has it, empty where a DataFrame has none."""
    text = "" if value is None else str(value).strip()
    return "" if text in _OF_PANDAS else text


def _refuse_falling(metric: str) -> None:
    if (why := why_it_falls(metric)) is not None:
        raise RunsFileError(why)


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
        rows = [(f"row {lines.line_num}", line) for line in lines if any(cell.strip() for cell in line)]
    metric, said = _choose_metric(path, header, rows, metric)
    return _read_rows(path, metric, said, header, rows)


def _read_rows(
    path: Path, metric: str, said: Sequence[str], header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]
) -> TidyRuns:
    """Read the cells of rows, each with its name; ``said`` is to be said of them."""
    problems = [
        f"{name} has {len(line)} cells, and the header {len(header)}" for name, line in rows if len(line) != len(header)
    ]
    _refuse(path, problems)
    _refuse(path, _unknown_precisions(header, rows))
    family = lru_cache(maxsize=None)(family_of)
    cells = ((name, dict(zip(header, map(str.strip, line), strict=True))) for name, line in rows)
    tidy = _tidy(path, metric, ((name, row, partial(_run_of, name, row, metric, family)) for name, row in cells))
    return replace(tidy, warnings=(*said, *tidy.warnings))


def _choose_metric(
    path: Path, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], metric: str
) -> tuple[str, list[str]]:
    """Return the metric to read, and what has to be said of it. Raises RunsFileError for columns that are missing."""
    others = [name for name in header if name and (name not in _OTHER_COLUMNS or _is_score(name, header, rows))]
    named = [name for name in others if _is_named_as_score(name)]
    said = []
    if metric == METRIC and metric not in header and len(named) == 1:
        metric, said = named[0], [f"there is no column {METRIC}: the scores are those of the column {named[0]}"]
    _check_header(path, header, metric, others)
    return metric, said


def _is_named_as_score(name: str) -> bool:
    return bool(SCORES & set(re.split(r"\W|_", name.lower()))) and not falls(name)


def _is_score(name: str, header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> bool:
    """Say whether a column named ``precision`` holds the score of that name, not what the runs were trained in."""
    if name != _PRECISION:
        return False
    cells = [line[header.index(name)].strip() for _, line in rows if len(line) == len(header)]
    return any(read_number(cell) is not None for cell in cells)


def _unknown_precisions(header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Name the rows whose runs were trained in what we do not know: they would be taken for runs of one kind."""
    if _PRECISION not in header or _is_score(_PRECISION, header, rows):
        return []
    cells = [(name, line[header.index(_PRECISION)].strip()) for name, line in rows]
    return [
        f"{name}: {_PRECISION} is {cell!r}, not {' or '.join(PRECISIONS)}"
        for name, cell in cells
        if cell and read_precision(cell) is None
    ]


def _check_header(path: Path, header: Sequence[str], metric: str, others: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        found = ", ".join(filter(None, header))[:200] or "none"
        raise RunsFileError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {found}")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise RunsFileError(f"{path} has the column {twice[0]} twice")
    if metric not in header:
        raise RunsFileError(f"{path} has no column {metric}; {_offer(others)}")


def _offer(columns: Sequence[str]) -> str:
    """Say which columns may hold the scores; where only errors or losses are named as such, what to give instead."""
    rising = [name for name in columns if not falls(name)]
    if len(rising) < len(columns) and not any(map(_is_named_as_score, rising)):
        return next(why for name in columns if (why := why_it_falls(name)) is not None)
    return f"choose with --metric one of {', '.join(rising)}" if rising else "it has no column of scores"


def _read_store(path: Path, metric: str) -> TidyRuns:
    try:
        store = Store(path, create=False)
        records = store.runs()
        store.close()
    except StoreError as error:
        said = "" if is_packed(path) else f"{path} is a SQLite file, but not a study store: "
        raise RunsFileError(f"{said}{error}") from None
    return tidy_records(records, path, metric)


def tidy_records(records: Sequence[Run], path: Path, metric: str = METRIC) -> TidyRuns:
    """Check a store's runs and sort them as those of a table; ``path`` names them in messages. Raises RunsFileError."""
    if records and not is_score_column(metric):
        raise RunsFileError(f"{path} has no metric {metric}; it has {', '.join(_SCORES_OF_STORES)}")
    check_averages(records)
    evidence = [replace(run, metric=metric) for run in comparable_runs(records)]
    scored = [run for run in evidence if run.has_score or run.role == "pretraining"]
    tidy = _tidy(path, metric, ((run.name, _cells(run), partial(_itself, run)) for run in scored))
    without = len(evidence) - len(scored)
    said = [f"{without} of {len(evidence)} runs have no {metric} and are left out"] if without else []
    passes = {(run.task, run.arch): known(run.records_seen) for run in pretraining_runs(records) if run.has_cost}
    return replace(
        tidy,
        pretrainings={**passes, **tidy.pretrainings},
        warnings=(*tidy.warnings, *said),
        stored=tuple(records),
    )


def _cells(run: Run) -> dict[str, str]:
    """Return the run as a row of a table."""
    return {name: "" if value is None else str(value) for name, value in row_of(run).items()}


def _itself(run: Run) -> Run:
    return run


def check_averages(runs: Sequence[Run]) -> None:
    """Raise RunsFileError where runs tested on the same records average their scores over different classes.

    Their macro AUROCs are of two quantities: one run may have been stored before rare classes were left out.
    """
    seen: dict[tuple[str, str | None, tuple[int, ...]], set[tuple[str, ...]]] = defaultdict(set)
    for run in runs:
        if run.averaged is not None:
            seen[run.task, run.data_hash, run.spec.test_folds].add(run.averaged)
    for (task, *_), averaged in seen.items():
        if len(averaged) > 1:
            several = " and ".join(str(count) for count in sorted({len(classes) for classes in averaged}))
            raise RunsFileError(
                f"runs of {task} average their scores over different classes ({several} of them): score all runs by "
                "one rule with ecgadvise study rescore"
            )


def pretraining_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that others start from: those made for it, and those of the scratch arm that serve as one too."""
    started = {run.start_from for run in runs} - {None}
    return [run for run in runs if run.role == "pretraining" or run.key in started]


def comparable_runs(runs: Sequence[Run]) -> list[Run]:
    """Leave out what belongs to no comparison of the arms.

    That are runs with a learning rate of their own, which a tuning made, and runs from scratch that validate on a fold
    of their own, as in a published split, where the fine-tuned runs of their task and network do not.
    """
    splits: dict[tuple[str, str], set[tuple[int, ...]]] = defaultdict(set)
    for run in runs:
        if run.strategy != "scratch":
            splits[run.task, run.arch].add(run.spec.validation_folds)
    return [
        run
        for run in runs
        if run.spec.learning_rate is None
        and run.spec.validation_folds in (splits.get((run.task, run.arch)) or {run.spec.validation_folds})
    ]


def _tidy(path: Path, metric: str, rows: Iterable[tuple[str, Cells, Callable[[], Run]]]) -> TidyRuns:
    """Check every row and sort them into downstream runs and pre-trainings. Raises RunsFileError.

    A row is its name, its cells, and what makes the run of it once the cells are found to be in order.
    """
    problems: list[str] = []
    runs: list[Run] = []
    pretrainings: dict[tuple[str, str], int] = {}
    unscored = 0
    for name, cells, make in rows:
        if cells.get("role") == "pretraining":
            network, row = (cells.get("task", ""), cells.get("arch", "")), read_row(cells)
            if cost_is_known(row) and (network not in pretrainings or row["recipe"] == "tuned"):
                pretrainings[network] = row["records_seen"]
        elif cells.get("role") == APART:
            continue
        elif found := _row_problems(cells, metric):
            problems += [f"{name}: {problem}" for problem in found]
        elif _is_missing(cells.get(metric, "")):
            unscored += 1
        else:
            runs.append(make())
    said = [f"{unscored} of {len(runs) + unscored} runs have no {metric} and are left out"] if unscored else []
    runs, left_out = of_one_recipe(runs)
    _refuse(path, problems + _repeated(runs))
    if not runs:
        raise RunsFileError(f"{path} holds no run" + (f" that has a score: all {metric} are empty" if unscored else ""))
    _refuse_falling_scores(path, metric, runs)
    warnings = (*said, *left_out, *_perfect(runs, metric))
    return TidyRuns(without_packing(path).stem, metric, tuple(runs), pretrainings, warnings)


def _refuse_falling_scores(path: Path, metric: str, runs: Sequence[Run]) -> None:
    """Raise RunsFileError where nearly all scores fall with more records, whatever the column is called.

    What a study's own store holds is a score, whichever way it goes.
    """
    if all(run.key for run in runs):
        return
    arms: dict[tuple[object, ...], list[tuple[int, float]]] = defaultdict(list)
    for run in runs:
        arms[run.task, run.network, run.strategy, run.upstream].append((run.n_records, run.score))
    falling, judged = count_falling(list(arms.values()))
    if falling:
        raise RunsFileError(
            f"{path}: {metric} falls with more records in {falling} of {judged} curves, as an error or a loss does: "
            "give a score that rises, such as 1 - an error rate"
        )


def _is_missing(cell: str) -> bool:
    return cell.lower() in _MISSING


def _row_problems(cells: Cells, metric: str) -> list[str]:
    text = defaultdict(str, cells)
    problems = [f"{name} is empty" for name in ("task", "arch", "strategy") if not text[name]]
    problems += [
        f"{name} is {text[name][:40]!r}, with a character that cannot be printed"
        for name in ("task", "arch", "upstream")
        if UNPRINTABLE.search(text[name])
    ]
    strategy, upstream = text["strategy"], read_upstream(text["upstream"])
    if strategy and strategy not in STRATEGIES:
        near = get_close_matches(strategy.lower(), STRATEGIES, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(STRATEGIES)}"
        problems.append(f"unknown strategy {strategy[:40]!r}, {hint}")
    elif strategy == "scratch" and upstream is not None:
        problems.append(f"a run from scratch has the upstream {upstream[:40]!r}; leave it empty")
    elif strategy == RANDOM_CONVOLUTIONS and upstream is not None:
        problems.append(f"a run of random convolutions has the upstream {upstream[:40]!r}; leave it empty")
    elif strategy in STARTING_FROM_UPSTREAM and upstream is None:
        problems.append(f"{strategy} has no upstream: name what the network was pre-trained on")
    problems += [
        f"{name} is {text[name][:40]!r}, not a whole number of at least {least}"
        for name, least in (("n_records", 1), ("replicate", 0))
        if (value := read_whole(text[name])) is None or value < least
    ]
    score = read_number(text[metric])
    if _is_missing(text[metric]):
        return problems
    if score is None:
        problems.append(f"{metric} is {text[metric][:40]!r}, not a number")
    elif not 0 <= score <= 1 or (score == 0 and chance_level(metric) > 0):
        problems.append(f"{metric} is {score:g}, not between 0 and 1")
    return problems


def _run_of(name: str, cells: Cells, metric: str, family: Callable[[str], str]) -> Run:
    """Return the run that a table's row says, once its cells were checked."""
    row = read_row(cells)
    row["family"] = row["family"] or family(row["arch"])
    scores = {} if is_score_column(metric) else {metric: float(cells[metric])}
    return Run(**row, metric=metric, other_scores=scores, place=name)


def of_one_recipe(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keep the runs of one recipe of each network of which several were run, and say how many are left out.

    That is the newest of ``_PREFERRED`` in which both arms were run; where none of them was run, all are kept. A
    further arm is a regression that has no recipe of its own: under whatever name it was run, it counts once.
    """
    trained: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.strategy not in FURTHER_STRATEGIES:
            trained[run.arch].append(run)
    chosen = {arch: _preferred_recipe(of_network) for arch, of_network in trained.items()}
    seen = {_cell_of(run): run.recipe for run in runs if run.recipe == chosen.get(run.arch)}
    kept, left = [], []
    for run in runs:
        is_chosen = run.recipe == chosen.get(run.arch)
        if run.strategy in FURTHER_STRATEGIES:
            if seen.setdefault(_cell_of(run), run.recipe) == run.recipe:  # a repeated one is told as such
                kept.append(run)
        elif is_chosen or chosen[run.arch] is None:
            kept.append(run)
        else:
            left.append(run)
    names = " and ".join(sorted({str(chosen[run.arch]) for run in left}))
    return kept, [f"{len(left)} runs of other recipes than {names} are left out"] if left else []


def _preferred_recipe(runs: Sequence[Run]) -> str | None:
    """Return the recipe whose runs of a network are kept, None where all are: recipes do not mix."""
    arms: dict[str | None, set[str]] = defaultdict(set)
    for run in runs:
        arms[run.recipe].add(run.strategy)
    if len(arms) == 1:
        return next(iter(arms))
    known = [recipe for recipe in _PREFERRED if recipe in arms]
    return next((recipe for recipe in known if arms[recipe] >= {SCRATCH, FINE_TUNE}), known[0] if known else None)


def _cell_of(run: Run) -> tuple[object, ...]:
    network = run.arch if run.strategy in FURTHER_STRATEGIES else run.network  # a regression is one in any precision
    return run.subset, network, run.reading, run.strategy, run.upstream


def _repeated(runs: Sequence[Run]) -> list[str]:
    first: dict[tuple[object, ...], str] = {}
    problems = []
    for run in runs:
        cell = _cell_of(run)
        if cell in first:
            problems.append(
                f"{run.name} repeats {first[cell]} ({run.task} {run.network} {run.strategy}, "
                f"n_records {run.n_records}, replicate {run.replicate})"
            )
        first.setdefault(cell, run.name)
    return problems


def _perfect(runs: Sequence[Run], metric: str) -> list[str]:
    n = sum(run.score == 1 for run in runs)
    return [f"{n} of {len(runs)} runs have {metric} 1: no curve can tell how far above they would lie"] if n else []


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = len(problems) - _NAMED_PROBLEMS
        tail = f"; and {more} more" if more > 0 else ""
        raise RunsFileError(f"{path}: " + "; ".join(problems[:_NAMED_PROBLEMS]) + tail)
