"""The sections of the findings on what the repaired protocol changes, and on the control arms."""

from collections.abc import Iterable, Sequence

from engine.model_card import table
from studies.findings_claims import effect
from studies.paired_differences import Pair
from studies.protocol_effects import (
    Effect,
    control_effects,
    head_effects,
    head_share,
    label_effects,
    optimism_effects,
    recipe_effects,
)
from studies.store import RunRecord
from studies.tidy import TidyRun
from studies.upstream_labels import Transfer

NOT_RUN = "Open: not run"
_CLASSES = 5


def protocol_lines(records: Sequence[RunRecord], pairs: Sequence[Pair], sharing: frozenset[Transfer]) -> list[str]:
    """Return what the test maximum, the upstream's labels, a flatten head and patients on two sides are worth."""
    return [
        "### The best epoch on the test set",
        "",
        *_effects(optimism_effects(records), "runs of recipe `paper`, which look at the test set in every epoch"),
        "",
        "### The recipe",
        "",
        *_effects(recipe_effects(records), "runs of both recipes, `tuned` and `paper`, on the same records"),
        "",
        "### The upstream's labels",
        "",
        *_effects(label_effects(pairs, sharing), "pairs from an upstream with the task's own labels and one without"),
        "",
        "### The recurrent head",
        "",
        f"Transfer replaces the head. Its share of the weights for {_CLASSES} classes, in the networks that were run:",
        "",
        *_heads(records),
        "",
        *_effects(head_effects(pairs), "pairs of a recurrent network with either head on the same records"),
        "",
        "### Patients on two sides",
        "",
        f"{NOT_RUN}: every run keeps the records of a patient on one side, so what a split by record would add is not "
        "known from here.",
    ]


def _heads(records: Sequence[RunRecord]) -> list[str]:
    archs = sorted({run.row["arch"] for run in records if run.row["role"] == "downstream"})
    shares = {arch: head_share(arch, _CLASSES) for arch in archs}
    return table(
        ("network", "weights", "in the head"),
        [(f"`{arch}`", f"{weights:,}", f"{share:.1%}") for arch, (weights, share) in shares.items()],
    )


def control_lines(runs: Iterable[TidyRun]) -> list[str]:
    """Return what a linear probe of a pre-trained and of a random network score against the other arms."""
    return _effects(control_effects(list(runs)), "runs with a frozen body (`frozen`, `random-frozen`)")


def _effects(effects: Sequence[Effect], missing: str) -> list[str]:
    if not effects:
        return [f"{NOT_RUN}: it takes two {missing}."]
    rows = [
        (one.name, one.scope, effect(one.found), str(one.found.n_pairs), str(len(one.found.tasks))) for one in effects
    ]
    return table(("difference", "where", "mean (90 %)", "runs", "tasks"), rows)
