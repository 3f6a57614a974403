"""The card of a pre-trained network, from its checkpoint alone: what it is, what it was trained on, how to use it.

That of a network that was not trained here says what its importer wrote down, and what nobody here knows of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.checkpoints.checkpoint import CheckpointFacts
from engine.deploy.export import OPSETS, model_facts
from engine.deploy.markdown import UNKNOWN, bullets, count, document, figure, table
from engine.deploy.model_card import sections_of
from engine.deploy.model_facts import INTENDED_USE
from models.registry import count_parameters, create_network
from models.scaling import IN_WORDS

CARD = "CARD.md"
_LICENCES = {"CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/"}


def zoo_card(name: str, facts: CheckpointFacts, weights_sha256: str) -> str:
    """Return the card of the network that is known as ``name``, in Markdown."""
    if "imported" in facts.record:
        return _imported_card(name, facts, weights_sha256)
    sections = {
        "Network": _network(facts, weights_sha256),
        "Use": _use(name, facts),
        **({"As a starting point": _starting_point(facts)} if facts.record.get("starting_point") else {}),
        "Licence and attribution": _licence(facts),
        **sections_of(model_facts(facts, OPSETS[0], False, weights_sha256)),
        "Versions": table(("", "trained with"), facts.versions.items()),
    }
    sections["Limits"] = [*sections["Limits"], *bullets(_pretraining_limits(facts))]
    opening = f"{facts.arch}, pre-trained on {facts.task}: a starting point for fine-tuning, with its head."
    return document(name, opening, sections)


def _network(facts: CheckpointFacts, weights_sha256: str) -> list[str]:
    rows = {
        "network": facts.arch,
        "parameters": f"{_count(facts):,}, the head included",
        "input": f"{facts.n_samples} samples at {facts.fs:g} Hz, millivolt, leads {', '.join(facts.leads)}"
        + _read(facts),
        "classes": str(len(facts.classes)),
        "files": "`weights.safetensors` and `checkpoint.json`, with scaling, temperature and thresholds in it",
        "SHA-256 of the weights": f"`{weights_sha256}`",
        "trained": facts.created or UNKNOWN,
    }
    return table(("", ""), rows.items())


def _count(facts: CheckpointFacts) -> int:
    return count_parameters(
        create_network(
            facts.arch, n_leads=len(facts.leads), n_classes=len(facts.classes), n_samples=facts.n_samples,
            crop=facts.crop, scaling=facts.scaling,
        )
    )  # fmt: skip


def _read(facts: CheckpointFacts) -> str:
    crops = f", any {facts.crop / facts.fs:g} s of a record" if facts.crop else ""
    return crops if facts.scaling == "set" else f"{crops}, {IN_WORDS[facts.scaling]}"


def _use(name: str, facts: CheckpointFacts) -> list[str]:
    train = f"ecgadvise train --data DIR --arch {facts.arch} --strategy fine-tune"
    return [
        "`ecgadvise train` starts from it where it suits the records and the network, and says so:",
        "",
        f"    {train} --out my-network",
        f"    {train} --from {name} --out my-network",
    ]


def _starting_point(facts: CheckpointFacts) -> list[str]:
    """Return what a study's runs scored that started from it, with how that was measured."""
    rows: Sequence[Mapping[str, Any]] = facts.record["starting_point"]
    probed = {row["recipe"] for row in rows if row["head"] == "probe"}
    recipes = [f"{name}{' (LP-FT: the head starts as a linear probe)' if name in probed else ''}"
               for name in dict.fromkeys(row["recipe"] for row in rows)]  # fmt: skip
    cells = [
        (row["task"], count(row["n_records"]), count(row["pairs"]), figure(row, "scratch"), figure(row, "fine_tune"),
         figure(row, "linear_probe") or "-", _gain(row))
        for row in rows
    ]  # fmt: skip
    return [
        f"What a study's runs scored that started from exactly these weights (its run `{facts.record.get('run')}`), "
        "next to runs from random weights on the same records from the same seed: macro AUROC on test records that "
        f"were looked at once, mean over the pairs. Fine-tuned by recipe {', '.join(recipes)}. Gain is fine-tuned "
        "minus from scratch, in brackets its standard error over the pairs. Records count training and validation "
        "together; of each task the smallest size, 100 and the largest that have both runs. Written from the study's "
        "store when the network was released.",
        "",
        *table(("task", "records", "pairs", "from scratch", "fine-tuned", "linear probe", "gain"), cells),
    ]


def _gain(row: Mapping[str, Any]) -> str:
    error = figure(row, "gain_se")
    gain = round(row["gain"], 3) + 0.0  # so that no gain is shown as -0.000
    return f"{gain:+.3f}" + (f" ({error})" if error else "")


def _seeds(facts: CheckpointFacts) -> str:
    """Say how many such trainings there are, how this one was chosen, and how much they differ."""
    known = facts.record.get("seeds")
    if not known:
        return "One training from one seed: another would give another network, and how much they differ is not known."
    scores, place = known["auroc_macro"], known["replicate"]
    chosen = "the first, by its number and not by its score" if place == 0 else f"number {place + 1}"
    return (
        f"One of {len(scores)} trainings that differ in their seed alone, {chosen}: their macro AUROC on the test "
        f"records is {min(scores):.4f} to {max(scores):.4f}, this one's {facts.evaluation['auroc_macro']:.4f}."
    )


def _licence(facts: CheckpointFacts) -> list[str]:
    source = facts.source
    licence = source.get("licence", UNKNOWN)
    address = f" ({_LICENCES[licence]})" if licence in _LICENCES else ""
    return [
        f"Trained on {source.get('name', UNKNOWN)} {source.get('version', '')}, {licence}{address}: who passes the "
        f"weights on names it. {source.get('citation', UNKNOWN)}. {source.get('url', '')}",
        "",
        "The weights are given under the same licence as the records; they hold no record. ecgadvise itself is "
        "Apache-2.0.",
    ]


def _pretraining_limits(facts: CheckpointFacts) -> list[str]:
    folds, unused = facts.record.get("folds"), facts.record.get("unused_folds", "none")
    held_out, source = facts.record.get("held_out", UNKNOWN), facts.source.get("name", "the source")
    seen = f"records of folds {folds}" if folds else "records of it"
    rest = "" if unused == "none" else f"; not used: fold{'s' * (',' in unused)} {unused}"
    return [
        f"A task of {source} itself is not a test of transfer: {seen} were seen here with these labels; held out to "
        f"be tested on: {held_out}{rest}.",
        _seeds(facts),
    ]


def _imported_card(name: str, facts: CheckpointFacts, weights_sha256: str) -> str:
    sections = {
        "Network": _imported_network(facts, weights_sha256),
        "Where it comes from": _origin(facts),
        "Use": _imported_use(name, facts),
        "Trained on": _trained_on(facts),
        "What is not known": bullets(_unknown(facts)),
        "Licence and attribution": _imported_licence(facts),
        "Intended use": [INTENDED_USE],
    }
    opening = f"{facts.arch} with weights that were not trained by ecgadvise: a starting point for fine-tuning."
    return document(name, opening, sections)


def _imported_network(facts: CheckpointFacts, weights_sha256: str) -> list[str]:
    scale = facts.standardisation
    scaled = {f"({mean:g}, {std:g})" for mean, std in zip(scale.mean, scale.std, strict=True)}
    rows = {
        "network": facts.arch,
        "parameters": f"{_count(facts):,}, the head included",
        "input": f"{facts.n_samples} samples at {facts.fs:g} Hz, millivolt, leads {', '.join(facts.leads)}"
        + (f", any {facts.crop / facts.fs:g} s of a record" if facts.crop else ""),
        "scaling": IN_WORDS[facts.scaling] if facts.scaling != "set" else
        f"less a mean, divided by a deviation, in millivolt: {', '.join(sorted(scaled))}",
        "outputs": ", ".join(facts.classes),
        "trained to tell": facts.task,
        "SHA-256 of the weights": f"`{weights_sha256}`",
    }  # fmt: skip
    return table(("", ""), rows.items())


def _origin(facts: CheckpointFacts) -> list[str]:
    known: Mapping[str, Any] = facts.record["imported"]
    done = [f"{known['tensors']:,} tensors"]
    done += [f"in {known['held_in']}"] * bool(known["held_in"])
    done += [f"{known['renamed']:,} renamed"] * bool(known["renamed"])
    done += [f"{known['unused']:,} left out, which compute nothing"] * bool(known["unused"])
    done += [f"{', '.join(known['converted'])} made float32"] * bool(known["converted"])
    done += [f"{', '.join(known['added'])} not in it: zeros"] * bool(known["added"])
    rows = {
        "source, as given": known["source"],
        "file": f"{known['file']} ({known['format']})",
        "SHA-256 of the file": f"`{known['sha256']}`",
        "what was taken": ", ".join(done),
        "brought in": f"{known['imported']}, by `ecgadvise zoo add` ({known['ecgadvise']}), by the user of this zoo",
    }
    return table(("", ""), rows.items())


def _imported_use(name: str, facts: CheckpointFacts) -> list[str]:
    lines = ["Named by `--from`, in training, pilots and answers:", "", f"    ecgadvise train --data DIR --from {name}"]
    lines[-1] += " --out my-network"
    if not facts.record["imported"]["output_layer"]:
        lines += ["", "It has no output layer: nothing can be predicted with it before it was trained."]
    return lines


def _trained_on(facts: CheckpointFacts) -> list[str]:
    """Return the sets that the importer named."""
    sets: Sequence[Mapping[str, str]] = facts.record.get("upstream_sources", ())
    records = f"Records in all: {count(facts.n_records) or UNKNOWN}."
    if not sets:
        return [f"On which records: {UNKNOWN}. {records}"]
    keys = ("name", "version", "part", "licence", "url", "citation")
    rows = [[one.get(key) for key in keys] for one in sets]
    return [f"As its importer wrote it down; there may be others. {records}", "", *table(keys, rows)]


def _unknown(facts: CheckpointFacts) -> list[str]:
    sets = ", ".join(one["name"] for one in facts.record.get("upstream_sources", ()))
    return [
        "How it was trained: recipe, epochs, seed, and by what it was chosen.",
        "How well it does: no score of it was measured here, and published ones are of other records.",
        "Of whom its records are: patients, sexes, ages, devices, hospitals, and who labelled them how.",
        "Whether it has seen your records" + (f", where they are not of {sets}." if sets else "."),
        "Whether it computes here what it computes where it was made: names, shapes and numbers of the weights were "
        "checked, and its outputs were not compared with those of its makers' program.",
        "Whether its contract (leads, rate, scaling, names of outputs) is right: it is its importer's word.",
        "Its probabilities: temperature is 1 and every threshold 0.5, chosen by nobody.",
    ]


def _imported_licence(facts: CheckpointFacts) -> list[str]:
    source, file = facts.source, facts.record["imported"]["licence_file"]
    kept = f" Its text, `{file}`, lies next to the weights: keep it with every copy." if file else ""
    cited = f" {source['citation']}." if source.get("citation") else ""
    return [
        f"{source.get('licence', UNKNOWN)}, as given by who brought it in.{cited}{kept}",
        "",
        "Who passes on a network that was trained from it passes on this too, and what the licences of the records "
        "above ask for. ecgadvise itself is Apache-2.0.",
    ]
