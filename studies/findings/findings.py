"""``FINDINGS.md``: what the evidence says of the four claims, of the protocol and of published numbers.

Everything in it is computed from stores of runs, the backtest next to them and ``published.csv``; the same files give
the same bytes. A section without runs says so in one line.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.errors import ExitCode, UserError, decoding_fault
from studies.collection.store_tables import source_table, store_lines, upstream_table
from studies.files.backtest import check_backtest
from studies.files.precision import in_words
from studies.files.shipped import EVIDENCE
from studies.findings.arms_section import arm_lines
from studies.findings.backtest_section import backtest_lines
from studies.findings.claims_section import claim_lines, gain_lines
from studies.findings.missing_runs import missing_lines
from studies.findings.pretraining.other_teams import split_other_teams
from studies.findings.pretraining.section import pretraining_lines
from studies.findings.protocol import control_lines, protocol_lines
from studies.findings.published import PUBLISHED, read_published
from studies.findings.published_section import published_lines
from studies.findings.sources_section import source_lines, spread_lines
from studies.runs.pairs import Pair, of_one_precision, pair_runs
from studies.runs.run import Run, known
from studies.runs.store import Store, StoreError
from studies.runs.store_files import distinct_runs, name_stores, store_in
from studies.runs.task_names import parse_task
from studies.runs.tidy_runs import RunsFileError, TidyRuns, tidy_records
from studies.runs.upstream_labels import Transfer, main_arm, sharing_labels

MARGIN = 0.01
FIGURES = "findings"  # the folder of the figures, next to the text
OPEN = "Open: not run."
_STORES = EVIDENCE.parent / "stores"


class FindingsError(UserError, ValueError):
    """Stores from which no findings can be made; one sentence says why."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Findings:
    """The text in Markdown, and the figures that it names: their SVG by file name."""

    text: str
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Material:
    """What findings are made of: ``records`` are the runs of all stores, ``runs`` those that arms are compared in.

    Each network's are of one precision; ``other_precision`` says what was left out of another, ``measured`` has it too.
    ``theirs`` are of networks that another team pre-trained, and in no ``runs``. ``main`` are the ``runs`` without
    upstreams that have the task's own labels (``sharing``), as far as others were run: what the claims are about.
    ``pairs`` are of all ``runs``.
    """

    stores: Mapping[str, Sequence[Run]]
    measured: Sequence[Run]
    other_precision: Sequence[str]
    records: Sequence[Run]
    runs: TidyRuns
    theirs: Sequence[Run]
    main: TidyRuns
    sharing: frozenset[Transfer]
    pairs: Sequence[Pair]
    backtests: Mapping[str, Mapping[str, Any]]


def shipped_stores() -> list[Path]:
    """Return the stores that come with this version: the evidence, and runs that no answer rests on.

    None does with the installed package: they lie in the repository.
    """
    folders = sorted([*EVIDENCE.glob("*/"), *_STORES.glob("*/")])
    return [store for folder in folders if (store := store_in(folder)) is not None]


def read_material(paths: Sequence[Path]) -> Material:
    """Read stores; a run that several of them hold counts once. Raises FindingsError."""
    if not paths:
        raise FindingsError(
            "no study store ships with the installed package: name one with --store, or run this in the repository"
        )
    named = name_stores(paths)
    try:
        stores = {path: _read_runs(path) for path in named.values()}
        measured = [run for _, run in distinct_runs(stores)]
        if not measured:
            raise FindingsError(f"{paths[0]} holds no run yet")
        measured.sort(key=lambda run: (run.task, run.arch, run.strategy, known(run.key)))
        records, other_precision = of_one_precision(measured)
        table = tidy_records(records, paths[0])
    except (StoreError, RunsFileError) as error:
        raise FindingsError(str(error)) from None
    files = {name: path.with_name("backtest.json") for name, path in named.items()}
    backtests = {name: _read_backtest(path) for name, path in files.items() if path.exists()}
    by_name = {name: stores[path] for name, path in named.items()}
    sharing = sharing_labels(records)
    own, theirs = split_other_teams(table.runs)
    runs, main = (replace(table, runs=tuple(kept)) for kept in (own, main_arm(own, sharing)))
    pairs = pair_runs(own)
    return Material(by_name, measured, other_precision, records, runs, theirs, main, sharing, pairs, backtests)


def _read_runs(path: Path) -> list[Run]:
    store = Store(path, create=False)
    runs = store.runs()
    store.close()
    return runs


def _read_backtest(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FindingsError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise FindingsError(f"{path} cannot be read: {decoding_fault(error)}") from None
    try:
        return check_backtest(document)
    except ValueError as error:
        raise FindingsError(f"{path} is not a document of ecgadvise backtest --json: {error}") from None


def make_findings(paths: Sequence[Path], published: Path = PUBLISHED, margin: float = MARGIN) -> Findings:
    """Make the findings from the stores at ``paths``. Raises FindingsError."""
    found = read_material(paths)
    pairs = pair_runs(found.main.runs)
    gains, figures = gain_lines(pairs, margin)
    spread, of_sources = spread_lines(found.main.runs, margin)
    arms, of_arms = arm_lines(found.main.runs, margin)
    stores = list(found.stores.values())
    sections = {
        "The four claims": claim_lines(found.main, margin),
        "The claims source by source": source_lines(pairs, margin),
        "The gain by number of records": gains,
        "How far sources differ": spread,
        "All four arms": arms,
        "The pre-trained network": pretraining_lines(found.runs.runs, found.theirs, stores, found.sharing, margin),
        "What the repaired protocol changes": protocol_lines(found.records),
        "Control arms": control_lines(found.records),
        "Is the advice any good?": backtest_lines(found.backtests),
        "Compared with published numbers": published_lines(read_published(published), found.records, pairs),
        "What was measured": _measured_lines(found),
        "What is missing": missing_lines(found.records, found.pairs, found.sharing),
    }
    lines = ["# Findings", "", *_opening(found, margin)]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *(line.replace("FIGURES/", f"{FIGURES}/") for line in body or [OPEN])]
    return Findings("\n".join(_without_double_blanks(lines)) + "\n", {**figures, **of_sources, **of_arms})


def _measured_lines(found: Material) -> list[str]:
    """Return what was run, on which sources and in which stores."""
    return [
        *source_table([run for run in found.measured if run.role == "downstream"]),
        "",
        "Every task, arm and number of records is in the SUMMARY.md next to a store. Pre-trained networks, tested on "
        "the upstream task's own test records:",
        "",
        *upstream_table(found.measured),
        "",
        *store_lines(found.stores),
    ]


def write_findings(findings: Findings, out: Path) -> list[Path]:
    """Write the text to ``out`` and its figures into the folder next to it; return the paths. Raises OSError."""
    folder = out.parent / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    written = {out: findings.text, **{folder / name: svg for name, svg in findings.figures.items()}}
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return list(written)


def _opening(found: Material, margin: float) -> list[str]:
    runs = [run for pair in found.pairs for run in (pair.scratch, pair.fine_tuned)]
    tasks, archs = ({getattr(run, name) for run in runs} for name in ("task", "arch"))
    sources = sorted({parse_task(task).source for task in tasks})
    recipes = [f"`{recipe}`" for recipe in sorted({str(run.recipe) for run in runs})]
    precisions = sorted({in_words(run.precision) for run in runs})
    newest = max(known(run.created) for run in found.runs.runs)[:10]
    left_out = found.other_precision
    named = f" ({', '.join(sources)})" if sources else ""
    made = f", by recipe {' and '.join(recipes)} in {' and '.join(precisions)}" if runs else ""
    return [
        "The study of C. V. Nguyen and C. D. Do, \"Transfer learning in ECG diagnosis: Is it effective?\" (PLOS ONE "
        "20(5): e0316043, 2025), done again on public records. Written by `ecgadvise study findings` from the stores "
        "named below: no number here was typed.",
        "",
        f"{len(found.pairs)} pairs of runs, one from scratch and one fine-tuned on the same records from the same "
        f"seed, of {_count(len(archs), 'network')} on {_count(len(tasks), 'task')} of {_count(len(sources), 'source')}"
        f"{named}{made}; the last run is of {newest}. A source is a corpus; "
        "two of one publisher count as two. Scores are macro AUROC on test records that were looked at once, gains "
        "fine-tuned minus from scratch, n counts training and validation records together, intervals are 90 %. A "
        f"difference under {margin:g} is taken not to matter.{_own_folds(found.pairs)}{_left_out(found)}",
        *(["", f"Of each network one precision counts: {'; '.join(left_out)}."] if left_out else []),
    ]  # fmt: skip


def _own_folds(pairs: Sequence[Pair]) -> str:
    """Say which sources test replicates on folds of their own."""
    folds: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for pair in pairs:
        folds[pair.scratch.task].add(pair.scratch.subset.test_folds)
    sources = sorted({parse_task(task).source for task, found in folds.items() if len(found) > 1})
    if not sources:
        return ""
    return f" Replicates have test folds of their own in {', '.join(sources)}; the runs of a pair share theirs."


def _left_out(found: Material) -> str:
    """Say which pairs the claims are not about."""
    left_out = len(found.pairs) - len(pair_runs(found.main.runs))
    if not left_out:
        return ""
    transfers = sorted({(pair.scratch.task, pair.fine_tuned.upstream or "") for pair in found.pairs} & found.sharing)
    named = ", ".join(f"{task} from {upstream}" for task, upstream in transfers)
    return (
        f" The claims and the gains by size are about upstreams without the task's own labels: {left_out} pairs from "
        f"others ({named}) stand apart, under what the network was pre-trained on."
    )


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def _without_double_blanks(lines: Sequence[str]) -> list[str]:
    return [lines[0], *(line for before, line in pairwise(lines) if line or before)]
