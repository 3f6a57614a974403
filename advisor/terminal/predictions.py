"""Predictions for people, for programs and for spreadsheets."""

import csv
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from io import StringIO
from typing import Any

from advisor.terminal.lines import in_one_line
from engine.deploy.inference import Prediction, decisions
from engine.deploy.model_facts import ModelFacts
from engine.evaluation.calibration import describe_rule
from engine.evaluation.operating_point import OperatingPoint

SCHEMA_VERSION = 1
_WIDTH = 100  # a wider table becomes a list of what is present


def to_json(model: str, facts: ModelFacts, predictions: Sequence[Prediction]) -> str:
    """Return the JSON document: classes with thresholds, every record with its probabilities, and what failed."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "task": facts.task,
        "thresholds": dict(zip(facts.classes, facts.thresholds, strict=True)),
        "threshold_rule": facts.record.get("threshold_rule"),
        "operating_points": _operating_points(facts),
        "records": [_entry(one, facts) for one in predictions if one.probabilities is not None],
        "failed": [{"record": one.record, "problem": one.problem} for one in predictions if one.problem is not None],
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _operating_points(facts: ModelFacts) -> dict[str, dict[str, Any] | None]:
    """Return what each class's decisions were worth on the test records, None where it was not recorded."""
    tested = facts.evaluation.get("classes", {})
    names = [field.name for field in fields(OperatingPoint)]
    return {
        name: {key: one[key] for key in names if key in one} if "sensitivity" in (one := tested.get(name, {})) else None
        for name in facts.classes
    }


def _entry(one: Prediction, facts: ModelFacts) -> dict[str, Any]:
    assert one.probabilities is not None
    return {
        "record": one.record,
        "probability": dict(zip(facts.classes, one.probabilities, strict=True)),
        "decision": dict(zip(facts.classes, decisions(one.probabilities, facts), strict=True)),
        "notes": list(one.notes),
    }


def to_csv(facts: ModelFacts, predictions: Sequence[Prediction]) -> str:
    """Return a row a record: probabilities, decisions 0/1, and the problem of one that could not be predicted."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    kinds = ("probability", "decision")
    writer.writerow(["record", *(f"{kind} {name}" for kind in kinds for name in facts.classes), "problem"])
    for one in predictions:
        if one.probabilities is None:
            writer.writerow([one.record, *[""] * (2 * len(facts.classes)), one.problem])
        else:
            present = map(int, decisions(one.probabilities, facts))
            writer.writerow([one.record, *(f"{p:.9g}" for p in one.probabilities), *present, ""])
    return file.getvalue()


def to_table(facts: ModelFacts, predictions: Sequence[Prediction]) -> str:
    """Return the usable records as a table, or, with many classes, as a list of what is present in each."""
    usable = [replace(one, record=in_one_line(one.record)) for one in predictions if one.probabilities is not None]
    if not usable:
        return ""
    rule = describe_rule(facts.record)
    chosen = f", chosen for {rule}" if rule else ""
    widths = [max(5, len(name)) + 1 for name in facts.classes]
    first = max(len("record"), *(len(one.record) for one in usable))
    if first + sum(widths) + len(widths) > _WIDTH:
        rows = [f"{one.record:{first}}  {_present(one, facts)}" for one in usable]
        return "\n".join([*rows, f"named: at or above the class's threshold{chosen}"]) + "\n"
    heads = "".join(f" {name:>{width - 1}} " for name, width in zip(facts.classes, widths, strict=True))
    lines = [f"{'record':{first}} {heads}".rstrip()]
    for one in usable:
        assert one.probabilities is not None
        cells = zip(one.probabilities, decisions(one.probabilities, facts), widths, strict=True)
        row = "".join(f" {p:>{width - 1}.3f}{'*' if present else ' '}" for p, present, width in cells)
        lines.append(f"{one.record:{first}} {row}".rstrip())
    return "\n".join([*lines, f"* present: at or above the class's threshold{chosen}"]) + "\n"


def _present(one: Prediction, facts: ModelFacts) -> str:
    assert one.probabilities is not None
    found = zip(facts.classes, one.probabilities, decisions(one.probabilities, facts), strict=True)
    shown = sorted(((p, name) for name, p, present in found if present), reverse=True)
    return ", ".join(f"{name} {p:.3f}" for p, name in shown) or "none of the classes"
