"""The one-page model-facts label next to an exported model.

After Sendak et al., "Presenting machine learning model information to clinical end users with model facts labels", npj
Digital Medicine 3:41 (2020): its sections in its order. What the checkpoint does not know is said to be not recorded.
"""

from engine.deploy.markdown import UNKNOWN, count, counted, figure, interval, table
from engine.deploy.model_card import Exported, averaged, limits, pretraining_data, warnings
from engine.deploy.model_facts import ModelFacts
from engine.evaluation.calibration import describe_rule

_CLASSES_SHOWN = 12  # or the label is longer than a page


def model_facts_label(facts: ModelFacts, exported: Exported) -> str:
    """Return the label in Markdown."""
    trained = facts.created[:10] or UNKNOWN
    sections = {
        "Summary": [
            f"Estimates from a resting ECG of {facts.n_samples / facts.fs:g} s {_whether(len(facts.classes))} "
            f"a reader would report. For research and development; not a medical device."
        ],
        "Mechanism": _mechanism(facts),
        "Validation and performance": _performance(facts),
        "Uses and directions": _uses(facts),
        "Warnings": [f"- {sentence}" for sentence in (*warnings(facts), *limits(facts)[:3])],
        "Other information": _other(facts, exported),
    }
    lines = [f"# Model facts: {facts.arch} for {facts.task}", ""]
    lines += [f"File {exported.file}. Trained {trained}. Locale: the records of {_source(facts)}. Approved: no."]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _whether(findings: int) -> str:
    return "whether there is the one finding that" if findings == 1 else f"which of {findings} findings"


def _leads(facts: ModelFacts) -> str:
    return counted(len(facts.leads), "lead", "leads")


def _source(facts: ModelFacts) -> str:
    return " ".join(facts.source[key] for key in ("name", "version") if facts.source.get(key)) or UNKNOWN


def _mechanism(facts: ModelFacts) -> list[str]:
    shown = ", ".join(facts.classes[:_CLASSES_SHOWN])
    more = f" and {len(facts.classes) - _CLASSES_SHOWN} more" if len(facts.classes) > _CLASSES_SHOWN else ""
    return table(
        ("", ""),
        {
            "outcome": shown + more,
            "output": f"a probability for each (temperature {facts.temperature:.4g}); present where it is at least the "
            f"threshold, chosen for {describe_rule(facts.record) or f'a purpose that was {UNKNOWN}'}",
            "target population": f"patients like those of {_source(facts)}",
            "time of prediction": "after the recording",
            "input": f"{_leads(facts)}, {facts.units} at {facts.fs:g} Hz: {', '.join(facts.leads)}",
            "training data": f"{count(facts.n_records) or UNKNOWN} labelled records of {_source(facts)}",
            "model type": f"{facts.arch}, {facts.strategy}" + (f" from {facts.upstream}" if facts.upstream else ""),
        }.items(),
    )


def _performance(facts: ModelFacts) -> list[str]:
    evaluation = facts.evaluation
    records, patients = (count(evaluation.get(f"n_{what}")) or UNKNOWN for what in ("records", "patients"))
    tested = {"test records, patients": f"{records}, {patients}"}
    if not facts.record.get("patients_told_apart", True):
        tested = {"test records": records}
    rows = {
        **tested,
        "macro AUROC (90 % interval)": interval(evaluation or facts.metrics, "auroc_macro"),
        "macro F1 at the thresholds": figure(evaluation, "f1_macro"),
        "classes in the macro averages": averaged(evaluation),
        "expected calibration error": figure(evaluation, "ece"),
        "on another hospital's records": UNKNOWN,
        "in prospective use": UNKNOWN,
    }
    return [*table(("", ""), rows.items()), *_classes(facts)]


def _classes(facts: ModelFacts) -> list[str]:
    """Return the table of classes, the commonest where there are too many for a page."""
    classes, n_records = facts.evaluation.get("classes", {}), facts.evaluation.get("n_records")
    common = sorted(classes, key=lambda name: -classes[name]["positives"])[:_CLASSES_SHOWN]
    rows = [
        (name, _prevalence(classes[name]["positives"], n_records), interval(classes[name], "auroc"),
         interval(classes[name], "sensitivity"), interval(classes[name], "specificity"), figure(classes[name], "f1"))
        for name in facts.classes if name in common
    ]  # fmt: skip
    if not rows:
        return []
    left = len(classes) - len(rows)
    said = ["", f"The {len(rows)} commonest of {len(classes)}; MODEL_CARD.md has all."] if left else []
    return [
        "",
        *table(("class", "prevalence in the test", "AUROC (90 % interval)", "sensitivity", "specificity", "F1"), rows),
        *said,
    ]


def _prevalence(positives: int, n_records: int | None) -> str | None:
    return f"{100 * positives / n_records:.1f} %" if n_records else None


def _uses(facts: ModelFacts) -> list[str]:
    return [
        "- **Benefits:** not shown. No study of its use is recorded.",
        "- **Use:** compare networks, screen records for a study, rank records for a reader to look at.",
        "- **Before use:** measure it on your own labelled records, by class and by group, and calibrate again.",
        f"- **Do not use:** to diagnose, to rule out, to triage; on records without its {_leads(facts)} or "
        f"shorter than {facts.n_samples / facts.fs:g} s; for findings that are not in its list.",
    ]


def _pretraining(facts: ModelFacts) -> dict[str, str | None]:
    """Return licence and citation of the records that a network was trained on before, in one row."""
    known = pretraining_data(facts)
    said = [known[f"{what} of the pre-training data"] for what in ("licence", "citation")] if known else []
    return {"the same of the pre-training data": ", ".join(filter(None, said)) or None} if known else {}


def _other(facts: ModelFacts, exported: Exported) -> list[str]:
    rows = {
        "licence of the training data": facts.licence,
        "citation of the training data": facts.source.get("citation"),
        **_pretraining(facts),
        "outcome definition": f"the statements that make up each class of {facts.task}",
        "compared with the trained network": exported.agreement,
        "related": "MODEL_CARD.md, next to this file",
    }
    return table(("", ""), rows.items())
