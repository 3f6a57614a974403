"""What the repaired protocol changes: the test set's own best epoch, the recurrent head, and what the controls score.

All of them are differences of two runs on the same records from the same seed, averaged over sizes within a task and
over tasks as in ``studies.runs.pairs``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from engine.deploy.markdown import table
from engine.recipes import NAMES
from models.registry import count_parameters, create_network
from studies.files.arms import FINE_TUNE, SCRATCH
from studies.findings.claims import FLATTEN
from studies.findings.claims_section import effect
from studies.fitting.random_effects import Combined, average_by_task, combine, mean_over_sizes
from studies.runs.pairs import pair_runs
from studies.runs.run import Run, Subset, known
from studies.runs.tidy_runs import comparable_runs

FROZEN, RANDOM_FROZEN = "frozen", "random-frozen"
CONTRASTS = (
    ("frozen minus from scratch", FROZEN, SCRATCH),
    ("frozen minus fine-tuned", FROZEN, FINE_TUNE),
    ("random-frozen minus from scratch", RANDOM_FROZEN, SCRATCH),
    ("frozen minus random-frozen", FROZEN, RANDOM_FROZEN),
)

Curve = tuple[str, ...]  # the task first
Values = Mapping[Curve, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Effect:
    """A difference in words, in what it was measured, and how large it is."""

    name: str
    scope: str
    found: Combined


def over_tasks(values: Values) -> Combined | None:
    """Combine ``(n_records, value)`` of curves; None where no size of any has two values."""
    by_task = average_by_task({curve: mean_over_sizes(found) for curve, found in values.items()})
    return combine(by_task) if by_task else None


def optimism_effects(runs: Sequence[Run]) -> list[Effect]:
    """Say by how much the best epoch on the test set beats the one that validation chose, by network and strategy.

    And what that makes of the gain. Runs that looked at the test set in every epoch are those of recipe ``paper``.
    """
    looked = [run for run in runs if run.test_maximum and run.role == "downstream"]
    effects = []
    for arch, strategy in sorted({(run.arch, run.strategy) for run in looked}):
        of_cell = [run for run in looked if (run.arch, run.strategy) == (arch, strategy)]
        for score, words in (("auroc", "macro AUROC"), ("f1_weighted", "weighted F1")):
            name = f"test maximum minus validation's choice, {words}"
            effects += _effect(name, f"{arch}, {strategy}", _by_curve(of_cell, partial(_optimism, score)))
    return effects + _gain_effects(looked)


def _gain_effects(looked: Sequence[Run]) -> list[Effect]:
    """Compare the gain at each arm's own test maximum with that at the epochs which validation chose."""
    effects = []
    for arch in sorted({run.arch for run in looked}):
        of_arch = [run for run in looked if run.arch == arch]
        scratch = {_cell(run): run for run in of_arch if run.strategy == SCRATCH}
        tuned = [run for run in of_arch if run.strategy == FINE_TUNE and _cell(run) in scratch]
        for kind, words in (("chosen", "at validation's choice"), ("maximum", "at each arm's test maximum")):
            values: dict[Curve, list[tuple[int, float]]] = defaultdict(list)
            for run in tuned:
                arms = (run, scratch[_cell(run)])
                one, other = (known(arm.test_maximum)[f"auroc_{kind}"] for arm in arms)
                if one is not None and other is not None:
                    values[run.task, known(run.upstream)].append((run.n_records, one - other))
            effects += _effect(f"gain in macro AUROC {words}", f"{arch}, recipe {looked[0].recipe}", values)
    return effects


def _cell(run: Run) -> tuple[object, ...]:
    return run.subset, run.recipe, run.reading


def recipe_effects(runs: Sequence[Run]) -> list[Effect]:
    """Compare every recipe with the one before it on the same records, each from the network that it was run from."""
    scores: dict[tuple[str, str], dict[tuple[Subset, str], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in comparable_runs(runs):
        if run.role == "downstream" and run.strategy in (SCRATCH, FINE_TUNE) and run.auroc_macro is not None:
            scores[run.arch, run.strategy][run.subset, run.upstream or ""][known(run.recipe)] = run.auroc_macro
    effects = []
    for older, newer in pairwise(NAMES):
        for (arch, strategy), cells in sorted(scores.items()):
            values: dict[Curve, list[tuple[int, float]]] = defaultdict(list)
            for (subset, upstream), found in sorted(cells.items()):
                if found.keys() >= {older, newer}:
                    values[subset.task, upstream].append((subset.n_records, found[newer] - found[older]))
            effects += _effect(f"macro AUROC, recipe {newer} minus {older}", f"{arch}, {strategy}", values)
    return effects


def _optimism(score: str, run: Run) -> float | None:
    maximum, chosen = (known(run.test_maximum)[f"{score}_{kind}"] for kind in ("maximum", "chosen"))
    return None if maximum is None or chosen is None else maximum - chosen


def _by_curve(runs: Iterable[Run], value: Callable[[Run], float | None]) -> Values:
    values: dict[Curve, list[tuple[int, float]]] = defaultdict(list)
    for run in runs:
        if (measured := value(run)) is not None:
            values[run.task, run.upstream or ""].append((run.n_records, measured))
    return values


def control_effects(runs: Sequence[Run]) -> list[Effect]:
    """Compare the control arms with the others, by network, in the recipe that each control was run in."""
    effects = []
    for arch in sorted({run.arch for run in runs}):
        for name, one, other in CONTRASTS:
            recipes = {run.recipe for run in runs if run.arch == arch and run.strategy == one}
            values = _differences([run for run in runs if run.arch == arch and run.recipe in recipes], one, other)
            if sizes := sorted({n for found in values.values() for n, _ in found}):
                where = " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1])))
                effects += _effect(
                    name, f"{arch}, {where} records, recipe {', '.join(sorted(map(str, recipes)))}", values
                )
    return effects


def _differences(runs: Sequence[Run], one: str, other: str) -> Values:
    """Return the differences of two strategies on the same records, started from the same upstream where both are."""
    others: dict[Subset, list[Run]] = defaultdict(list)
    for run in runs:
        if run.strategy == other:
            others[run.subset].append(run)
    values: dict[Curve, list[tuple[int, float]]] = defaultdict(list)
    for run in runs:
        if run.strategy == one:
            for match in others[run.subset]:
                if None in (run.upstream, match.upstream) or run.upstream == match.upstream:
                    values[run.task, run.upstream or ""].append((run.n_records, run.score - match.score))
    return values


def head_effects(runs: Sequence[Run]) -> list[Effect]:
    """Compare the gain of a recurrent network with a pooled head with that of the same one with a flatten head.

    In every recipe that both were run in.
    """
    gains: dict[str, dict[tuple[str, Subset, str], float]] = defaultdict(dict)
    recurrent = [run for run in comparable_runs(runs) if run.family == "rnn" and run.role == "downstream"]
    for recipe in sorted({run.recipe or "" for run in recurrent}):
        for pair in pair_runs([run for run in recurrent if (run.recipe or "") == recipe and run.has_score]):
            gains[pair.scratch.arch][recipe, pair.scratch.subset, pair.fine_tuned.upstream or ""] = pair.gain
    effects = []
    for flat in sorted(arch for arch in gains if FLATTEN in arch):
        pooled = flat.replace(FLATTEN, "")
        values: dict[Curve, list[tuple[int, float]]] = defaultdict(list)
        for cell in sorted(gains[flat].keys() & gains.get(pooled, {}).keys()):
            _, subset, upstream = cell
            values[subset.task, upstream].append((subset.n_records, gains[pooled][cell] - gains[flat][cell]))
        effects += _effect("gain with a pooled head minus gain with a flatten head", f"{pooled}, {flat}", values)
    return effects


def head_share(arch: str, n_classes: int) -> tuple[int, float]:
    """Return a network's number of weights and the share of them in its head, which transfer replaces."""
    network = create_network(arch, n_classes=n_classes)
    total = count_parameters(network)
    return total, count_parameters(network.get_submodule("head")) / total


def _effect(name: str, scope: str, values: Values) -> list[Effect]:
    found = over_tasks(values)
    return [Effect(name, scope, found)] if found else []


NOT_RUN = "Open: not run"
_CLASSES = 5


def protocol_lines(records: Sequence[Run]) -> list[str]:
    """Return what the test maximum, the recipe, a flatten head and patients on two sides are worth."""
    return [
        "### The best epoch on the test set",
        "",
        *_effects(optimism_effects(records), "runs of recipe `paper`, which look at the test set in every epoch"),
        "",
        "### The recipe",
        "",
        *_effects(recipe_effects(records), "runs of two recipes on the same records"),
        "",
        "### The recurrent head",
        "",
        f"Transfer replaces the head. Its share of the weights for {_CLASSES} classes, in the recurrent networks that "
        "were run:",
        "",
        *_heads(records),
        "",
        *_effects(head_effects(records), "pairs of a recurrent network with either head on the same records"),
        "",
        "### Patients on two sides",
        "",
        f"{NOT_RUN}: every run keeps the records of a patient on one side, so what a split by record would add is not "
        "known from here.",
    ]


def _heads(records: Sequence[Run]) -> list[str]:
    archs = sorted({run.arch for run in records if run.role == "downstream" and run.family == "rnn"})
    shares = {arch: head_share(arch, _CLASSES) for arch in archs}
    return table(
        ("network", "weights", "in the head"),
        [(f"`{arch}`", f"{weights:,}", f"{share:.1%}") for arch, (weights, share) in shares.items()],
    )


def control_lines(runs: Iterable[Run]) -> list[str]:
    """Return what a linear probe of a pre-trained and of a random network score against the other arms."""
    downstream = [run for run in comparable_runs(list(runs)) if run.role == "downstream" and run.has_score]
    return _effects(control_effects(downstream), "runs with a frozen body (`frozen`, `random-frozen`)")


def _effects(effects: Sequence[Effect], missing: str) -> list[str]:
    if not effects:
        return [f"{NOT_RUN}: it takes two {missing}."]
    rows = [
        (one.name, one.scope, effect(one.found), str(one.found.n_pairs), str(len(one.found.tasks))) for one in effects
    ]
    return table(("difference", "where", "mean (90 %)", "runs", "tasks"), rows)
