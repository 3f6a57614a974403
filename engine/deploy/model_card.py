"""The model card next to an exported model (Mitchell et al., "Model cards for model reporting", FAT* 2019).

Everything in it comes from the checkpoint; what was not recorded is said to be so, and nothing is filled in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.corpora.held_out import PUBLISHED
from engine.deploy.markdown import UNKNOWN, bullets, count, counted, document, figure, interval, number, plain, table
from engine.deploy.model_facts import ModelFacts
from engine.evaluation.calibration import describe_rule
from engine.evaluation.evaluation import describe_averages, floor_of
from engine.evaluation.precision import FEW_PATIENTS, RareLabel
from engine.recipes import PROBES
from models.scaling import IN_WORDS

FEW_POSITIVES = 30  # test records with a class: fewer, and its figures are mostly chance
NOTABLE_ECE = 0.05
_NO_RECORD, _NO_DECISION = "no such test record", "no such decision"
_PARTS, _COUNTED = ("training", "validation", "test"), ("records", "patients")
# Of the checkpoint's free facts, those that are no row of the table of training data.
_SAID_ELSEWHERE = {f"{part}_{kind}" for part in _PARTS for kind in _COUNTED} | {
    "differences", "excluded", "remarks", "upstream_seconds", "upstream_sources", "patients_told_apart", "held_out",
    "seed", "division", "split_sha256", "threshold_rule", "rare_label",
    "seeds", "starting_point", "imported",
    "score_histogram", "signals",  # for programs, in the model file: remarks say the latter in words
}  # fmt: skip
_APART = "Records are split by patient, where the source tells patients apart."
_NOT_APART = (
    "No two records are said to be of one patient, so that every record counts as a patient of its own; where the "
    "source does not tell patients apart, records of one may lie on both sides of a split."
)


@dataclass(frozen=True)
class Exported:
    """The file that a card describes, its size in bytes, and in words how it agrees with the network."""

    file: str
    bytes: int
    agreement: str


def model_card(facts: ModelFacts, exported: Exported) -> str:
    """Return the card in Markdown."""
    sections = {"Model": _model(facts, exported), **sections_of(facts), "Versions": _versions(facts)}
    classes = counted(len(facts.classes), "class", "classes")
    opening = f"{facts.arch} for {facts.task}, {classes}, written by `ecgadvise export`."
    return document(f"Model card of {exported.file}", opening, sections)


def sections_of(facts: ModelFacts) -> dict[str, list[str]]:
    """Return what every card has, of an exported model and of a released network: lines of Markdown by title."""
    return {
        "Intended use": [facts.intended_use],
        "Warnings": bullets(warnings(facts)),
        "Training data": _data(facts),
        "Splits": _splits(facts),
        "Performance": _performance(facts),
        "Decisions": _decisions(facts),
        "Calibration": _calibration(facts),
        "Subgroups": _subgroups(facts),
        "Limits": bullets(limits(facts)),
    }


def warnings(facts: ModelFacts) -> list[str]:
    """Return what a user has to know before the first prediction, as sentences, from the facts alone."""
    evaluation = facts.evaluation
    found = ["Its training was interrupted: these are the best weights until then."] * bool(
        facts.record.get("interrupted")
    )
    found += [f"About its training records: {said}" for said in facts.record.get("differences", ())]
    found += [f"Of the corpus that its records are from: {said}." for said in facts.record.get("remarks", ())]
    found += _rare(facts)
    if not evaluation:
        return [*found, "How well the model does was not recorded: measure it on your own records before you use it."]
    classes = evaluation.get("classes", {})
    if untested := [name for name, one in classes.items() if one.get("auroc") is None]:
        found.append(f"Not tested, since the test records have one outcome only: {', '.join(untested)}.")
    found += describe_averages(evaluation)
    few = [name for name, one in classes.items() if name not in untested and one["positives"] < FEW_POSITIVES]
    if few:
        found.append(f"Fewer than {FEW_POSITIVES} positive test records, so that chance decides: {', '.join(few)}.")
    if (evaluation.get("ece") or 0) > NOTABLE_ECE:
        found.append(f"Probabilities are off by {evaluation['ece']:.2f} on average (expected calibration error).")
    return found + _disparities(facts) or ["None from the figures below; the limits hold all the same."]


def limits(facts: ModelFacts) -> list[str]:
    """Return what holds for every model of this kind."""
    leads = counted(len(facts.leads), "lead", "leads")
    return [
        "Tested on records of the source named above only: another hospital, device or population may score lower.",
        "Probabilities and thresholds fit the training records' prevalence: where yours differs, calibrate again.",
        f"It sees the first {facts.contract.seconds:g} s of {leads}, nothing else of the patient.",
        "A record of something that is none of its classes still gets probabilities.",
        "Labels are what readers wrote, not what a later diagnosis confirmed, unless the source says otherwise.",
    ]


def averaged(evaluation: Mapping[str, Any]) -> str | None:
    """Return how many classes the macro averages take, and by which rule; None where that was not recorded."""
    classes, floor = evaluation.get("classes", {}), floor_of(evaluation)
    if not classes:
        return None
    rule = "both outcomes in the test" if floor == 1 else f"at least {floor} positive and {floor} negative test records"
    return f"{len(classes) - len(evaluation.get('left_out', ()))} of {len(classes)}, those with {rule}"


def _rare(facts: ModelFacts) -> list[str]:
    """Say what few patients know of the rarest label of all records, where these are few."""
    known = facts.record.get("rare_label")
    if not known or known["few"] >= FEW_PATIENTS:
        return []
    rare = RareLabel(**known)
    measured = interval(facts.evaluation.get("classes", {}).get(rare.label, {}), rare.measures)
    rests = f"{rare.tested} of them in the test" if rare.tested else "none of them in the test"
    known_to = f"{measured} (90 %)" if measured else "not known"
    return [f"{rare.counted()}, {rests}: its {rare.measures} is {known_to}."]


def _disparities(facts: ModelFacts) -> list[str]:
    """Name the groups whose interval lies below that of the best group with the same attribute."""
    found = []
    for attribute, groups in facts.subgroups.items():
        scored = {name: one for name, one in groups.items() if number(one, "auroc_macro") is not None}
        if not scored:
            continue
        best = max(scored, key=lambda name: scored[name]["auroc_macro"])
        floor = number(scored[best], "auroc_macro_ci_lower")
        for name, one in scored.items():
            upper = number(one, "auroc_macro_ci_upper")
            if floor is not None and upper is not None and upper < floor:
                values = f"{one['auroc_macro']:.3f} against {scored[best]['auroc_macro']:.3f}"
                found.append(f"Lower macro AUROC by {attribute}: {name}, {values} ({best}).")
    return found


def _model(facts: ModelFacts, exported: Exported) -> list[str]:
    seconds = facts.n_samples / facts.fs
    scaling = ", each lead of each record scaled to -1..1" if facts.preparation["min_max"] else ""
    if facts.crop:
        scaling += f"; inside the model, crops of {facts.crop / facts.fs:g} s, averaged"
    if facts.scaling != "set":
        scaling += f"; {IN_WORDS[facts.scaling]}, inside the model"
    start = f"fine-tuned from {facts.upstream}" if facts.upstream else facts.strategy
    if facts.strategy in PROBES:
        start = "only its last layer fitted, a regression" + f" on features from {facts.upstream}" * bool(
            facts.upstream
        )
    signal = f"`ecg` float32 (batch, {len(facts.leads)}, {facts.n_samples}): {facts.units} at {facts.fs:g} Hz, "
    return table(
        ("", ""),
        {
            "file": f"{exported.file}, {exported.bytes:,} bytes, ONNX opset {facts.opset}"
            + (", weights stored in 16 bits" if facts.half else ""),
            "network": f"{facts.arch}, {start}{_another_length(facts)}",
            "input": f"{signal}{seconds:g} s, leads {', '.join(facts.leads)}{scaling}",
            "outputs": f"`logits`; `probability` = sigmoid(logit / {facts.temperature:.4g}), each class on its own",
            "decision": "present where the probability is at least the class's threshold (see Decisions)",
            "trained": facts.created or UNKNOWN,
            "SHA-256 of the weights": f"`{facts.weights_sha256}`",
            "compared with the trained network": exported.agreement,
        }.items(),
    )


def _another_length(facts: ModelFacts) -> str:
    seconds = facts.record.get("upstream_seconds")
    return "" if seconds is None else f", which was trained on records of {seconds:g} s"


def _data(facts: ModelFacts) -> list[str]:
    source = facts.source
    rows: dict[str, Any] = {
        "source": " ".join(source[key] for key in ("name", "version") if source.get(key)) or None,
        "licence": facts.licence,
        "address": source.get("url"),
        "citation": source.get("citation"),
        "task": facts.task,
        "SHA-256 of the data": f"`{facts.data_hash}`" if facts.data_hash else None,
        "records for training and validation": count(facts.n_records),
        **{key.replace("_", " "): plain(value) for key, value in facts.record.items() if key not in _SAID_ELSEWHERE},
        "recipe": plain(facts.recipe),
        **pretraining_data(facts),
    }
    return table(("", ""), rows.items())


def pretraining_data(facts: ModelFacts) -> dict[str, str | None]:
    """Return whose records a network was trained on before, with their licences; nothing of one that started anew."""
    if facts.upstream is None:
        return {}
    sources: Sequence[Mapping[str, str]] = facts.record.get("upstream_sources", ())

    def each(*keys: str) -> str | None:
        known = (" ".join(source[key] for key in keys if source.get(key)) for source in sources)
        return "; ".join(dict.fromkeys(filter(None, known))) or None

    return {
        "pre-training data": each("name", "version"),
        "licence of the pre-training data": each("licence"),
        "address of the pre-training data": each("url"),
        "citation of the pre-training data": each("citation"),
    }


def _splits(facts: ModelFacts) -> list[str]:
    known = {f"test_{kind}": facts.evaluation.get(f"n_{kind}") for kind in _COUNTED} | dict(facts.record)
    is_apart = known.get("patients_told_apart", True)
    counted = _COUNTED if is_apart else _COUNTED[:1]
    rows = [(part, *(count(known.get(f"{part}_{kind}")) for kind in counted)) for part in _PARTS]
    said = _APART if is_apart else _NOT_APART
    if facts.record.get("division", {}).get("rule", PUBLISHED) != PUBLISHED:
        said += " Equal signals are on one side."
    return [*table(("", *counted), rows), "", *table(("", ""), _division(facts.record).items()), "", said]


def _division(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the rule of a division, its shares and seeds, and the file that names every record's side.

    Of a network that was made before these were kept, which its test records are.
    """
    if "division" not in record:
        return {"test records": record.get("held_out")}
    known = record["division"]
    share, validation, file = known.get("test_share"), known.get("validation_share"), record.get("split_sha256")
    return {
        "test records": record.get("held_out"),
        "rule": known.get("rule"),
        "test share": None if share is None else f"{share:.3f} of the corpus",
        "seed of the test": "none, they are its publisher's" if known.get("seed", "") is None else _text(known, "seed"),
        "validation share": "cross-validation" if validation == 0 else _text(known, "validation_share"),
        "seed of what was drawn": _text(record, "seed"),
        "who is where": None if file is None else f"split.csv next to the checkpoint's weights, SHA-256 `{file}`",
    }


def _text(facts: Mapping[str, Any], name: str) -> str | None:
    return None if facts.get(name) is None else str(facts[name])


def _performance(facts: ModelFacts) -> list[str]:
    evaluation = facts.evaluation
    if not evaluation:
        known = {name: figure(facts.metrics, name) for name in facts.metrics}
        return table(("metric", "value"), known.items()) if known else [UNKNOWN.capitalize() + "."]
    overall = {
        "classes in the macro averages": averaged(evaluation),
        "macro AUROC": interval(evaluation, "auroc_macro"),
        "macro AUPRC": figure(evaluation, "auprc_macro"),
        "macro F1 at the thresholds": figure(evaluation, "f1_macro"),
    }
    classes = evaluation.get("classes", {})
    rows = [
        (
            name, facts.codes.get(name), count(classes.get(name, {}).get("positives")), f"{threshold:.3f}",
            interval(classes.get(name, {}), "auroc"), figure(classes.get(name, {}), "auprc"),
            figure(classes.get(name, {}), "f1"),
        )
        for name, threshold in zip(facts.classes, facts.thresholds, strict=True)
    ]  # fmt: skip
    said = "On test records that training did not see. Intervals are 90 %, patients resampled."
    heads = ("class", "codes", "positive test records", "threshold", "AUROC", "AUPRC", "F1")
    return [said, "", *table(("metric", "value"), overall.items()), "", *table(heads, rows)]


def _decisions(facts: ModelFacts) -> list[str]:
    """Return what the decisions of each class are worth: how many of whom they find, and how often they are right."""
    classes = {name: one for name, one in facts.evaluation.get("classes", {}).items() if "sensitivity" in one}
    rule = describe_rule(facts.record)
    chosen = f"Thresholds were chosen for {rule}." if rule else f"By which rule thresholds were chosen is {UNKNOWN}."
    if not classes:
        return [f"{chosen} Sensitivity and specificity are {UNKNOWN}."]
    rows = [
        (
            name, f"{one['threshold']:.3f}", interval(one, "sensitivity") or _NO_RECORD, _counted(one, "positive"),
            interval(one, "specificity") or _NO_RECORD, _counted(one, "negative"),
            interval(one, "ppv") or _NO_DECISION, interval(one, "npv") or _NO_DECISION,
            f"{one['prevalence']:.4g}, {'stated' if one['prevalence_stated'] else 'of the test'}",
        )
        for name, one in classes.items()
    ]  # fmt: skip
    heads = ("class", "threshold", "sensitivity", "positive records (patients)", "specificity",
             "negative records (patients)", "PPV", "NPV", "at a prevalence")  # fmt: skip
    said = (
        f"{chosen} What they reach is measured on the test records. Sensitivity is the share of positive records that "
        "are decided present, specificity of negative records that are not; intervals are 90 %, exact for as many "
        "records as count where those of a patient go together. PPV and NPV are the shares of decisions for and "
        "against a class that are right, and hold at the prevalence given only: with fewer patients who have it, the "
        "PPV is lower."
    )
    return [said, "", *table(heads, rows)]


def _counted(one: Mapping[str, Any], outcome: str) -> str:
    return f"{one[f'{outcome}s']:,} ({one[f'{outcome}_patients']:,})"


def _calibration(facts: ModelFacts) -> list[str]:
    rows = {
        "temperature": f"{facts.temperature:.4g}",
        "expected calibration error (mean over classes)": figure(facts.evaluation, "ece"),
        "Brier score": figure(facts.evaluation if facts.evaluation else facts.metrics, "brier"),
    }
    return table(("", ""), rows.items())


def _subgroups(facts: ModelFacts) -> list[str]:
    rows = [
        (attribute, name, count(one.get("n")), count(one.get("n_classes")), interval(one, "auroc_macro"))
        for attribute, groups in facts.subgroups.items()
        for name, one in groups.items()
    ]
    if not rows:
        return [UNKNOWN.capitalize() + "."]
    said = "Groups of few records are counted, not scored; groups differ in which classes can be scored."
    return [*table(("attribute", "group", "test records", "classes scored", "macro AUROC"), rows), "", said]


def _versions(facts: ModelFacts) -> list[str]:
    names = dict.fromkeys((*facts.versions, *facts.exported_with))
    rows = [(name, facts.versions.get(name), facts.exported_with.get(name)) for name in names]
    return table(("", "trained with", "exported with"), rows)
