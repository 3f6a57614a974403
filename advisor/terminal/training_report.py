"""What a training came to: a table for people, JSON for programs."""

import json
import shlex
from io import StringIO
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from engine.checkpoints.checkpoint import SPLIT
from engine.evaluation.calibration import describe_rule
from engine.recipes import PROBES
from studies.files.arms import RANDOM_CONVOLUTIONS

if TYPE_CHECKING:
    from advisor.own_records.advice import Advice
    from engine.checkpoints.checkpoint import CheckpointFacts
    from engine.evaluation.evaluation import Evaluation
    from engine.training.fit import Fitted

SCHEMA_VERSION = 1
_WIDTH = 80
_LISTED = 30  # classes that a person reads; --json has all


def next_command(out: Path) -> str:
    """Return the command that makes an ONNX file of the checkpoint."""
    return shlex.join(["ecgadvise", "export", str(out), "--out", "model.onnx"])


def to_json(fitted: "Fitted", advice: "Advice", out: Path) -> str:
    """Return what was trained, how it scored on the test records and where it is, as a JSON document."""
    facts = fitted.facts
    document = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": str(out),
        **{name: getattr(facts, name) for name in ("task", "arch", "strategy", "upstream", "n_records", "classes")},
        "advice": advice.as_dict(),
        "evaluation": facts.evaluation,
        "subgroups": facts.subgroups,
        "thresholds": dict(zip(facts.classes, facts.thresholds, strict=True)),
        "threshold_rule": facts.record["threshold_rule"],
        "temperature": facts.temperature,
        **{name: facts.record[name] for name in ("seconds", "wall_seconds", "epochs", "best_epoch", "device")},
        "records": {name: value for name, value in facts.record.items() if name.endswith(("_records", "_patients"))},
        "held_out": facts.record["held_out"],
        "division": facts.record["division"],
        "excluded": facts.record.get("excluded"),
        "warnings": fitted.warnings,
        "next": next_command(out),
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_table(fitted: "Fitted", evaluation: "Evaluation", advice: "Advice", described: str, out: Path) -> str:
    """Return the same for a reader, 80 columns wide, the score first."""
    facts, record = fitted.facts, fitted.facts.record
    console = Console(file=StringIO(), width=_WIDTH, no_color=True, highlight=False, markup=False, emoji=False)
    console.print(
        f"macro AUROC {_score(evaluation.auroc_macro)} "
        f"(90 %: {_band(evaluation.auroc_macro_ci_lower, evaluation.auroc_macro_ci_upper)}) on "
        f"{evaluation.n_records:,} test records of {evaluation.n_patients:,} patients"
    )
    console.print(advice.choice.why)
    if advice.answer is not None:
        console.print(advice.answer.starts_from)
    console.print(_class_table(evaluation))
    console.print()
    console.print(f"Decisions at the threshold, chosen for {describe_rule(record)}:")
    console.print(_decision_table(evaluation))
    console.print(_prevalence_in_words(evaluation))
    left = len(evaluation.classes) - _LISTED
    if left > 0:
        console.print(f"... and {left} more classes: see --json")
    console.print(_fact_table(facts, record, evaluation, described, out))
    for warning in fitted.warnings:
        console.print(f"! {warning}")
    buffer = console.file
    assert isinstance(buffer, StringIO)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _class_table(evaluation: "Evaluation") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("class", overflow="fold")
    for name in ("AUROC", "90 % interval", "AUPRC", "F1", "threshold", "records"):
        table.add_column(name, no_wrap=True, justify="right" if name == "records" else "left")
    for name, found in list(evaluation.classes.items())[:_LISTED]:
        scores = (_score(found.auprc), _score(found.f1), f"{found.threshold:.3f}", f"{found.positives:,}")
        table.add_row(name, _score(found.auroc), _band(found.auroc_ci_lower, found.auroc_ci_upper), *scores)
    return table


def _decision_table(evaluation: "Evaluation") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class", overflow="fold")
    for name in ("sensitivity (90 %)", "specificity (90 %)", "PPV (90 %)"):
        table.add_column(name, no_wrap=True)
    for name, found in list(evaluation.classes.items())[:_LISTED]:
        table.add_row(
            name,
            _share(found.sensitivity, found.sensitivity_ci_lower, found.sensitivity_ci_upper),
            _share(found.specificity, found.specificity_ci_lower, found.specificity_ci_upper),
            _share(found.ppv, found.ppv_ci_lower, found.ppv_ci_upper),
        )
    return table


def _prevalence_in_words(evaluation: "Evaluation") -> str:
    """Say which share of positives the positive predictive values are for."""
    stated = {name: one.prevalence for name, one in evaluation.classes.items() if one.prevalence_stated}
    others, shares = len(evaluation.classes) - len(stated), sorted(set(stated.values()))
    own = "the test records' own prevalence (--prevalence states yours)"
    if not stated:
        return f"PPV is at {own}."
    one_for_all = len(shares) == 1 and not others
    said = f"{shares[0]:g}" if one_for_all else ", ".join(f"{name} {share:g}" for name, share in stated.items())
    return f"PPV is at the stated prevalence, {said}" + (f"; for the others at {own}." if others else ".")


def _share(value: float, low: float, high: float) -> str:
    return "-" if isnan(value) else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _fact_table(facts: "CheckpointFacts", record: Any, evaluation: "Evaluation", described: str, out: Path) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    start = f"from {facts.upstream}" if facts.upstream else "from scratch"
    strategy = start if facts.strategy == "scratch" else f"{facts.strategy} {start}"
    network = facts.arch if facts.strategy == RANDOM_CONVOLUTIONS else f"{facts.arch}, {strategy}"
    is_probe = facts.strategy in PROBES
    chosen = "epoch, " if facts.recipe["selection"] == "validation" else ""
    choosing = (
        "temperature and thresholds from their cross-validation"
        if is_probe
        else f"{record['validation_records']:,} to choose {chosen}temperature and thresholds"
    )
    took = (
        f"one regression in {record['seconds']:,.1f} s"
        if is_probe
        else f"{record['epochs']} epochs in {record['seconds']:,.0f} s, best at {record['best_epoch']}"
    )
    table.add_row("network", network)
    table.add_row("task", f"{facts.task}: {described}")
    table.add_row(
        "records",
        f"{record['training_records']:,} to train, {choosing}; test: {record['held_out']}",
    )
    table.add_row(
        "calibration",
        f"temperature {facts.temperature:.2f}, expected calibration error {_score(evaluation.ece)} on the test records",
    )
    table.add_row(
        "training",
        f"{took}; {record['device']}",
    )
    table.add_row("checkpoint", f"{out}; who trained and who tested: {SPLIT}")
    table.add_row("next", next_command(out))
    return table


def _score(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _band(low: float, high: float) -> str:
    return "-" if isnan(low) else f"{low:.3f} to {high:.3f}"
