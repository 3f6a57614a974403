"""What another pre-training scores on the same records."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from engine.deploy.markdown import table
from studies.files.arms import IN_WORDS, PRETRAINED_STRATEGIES
from studies.findings.claims_section import effect
from studies.findings.protocol import NOT_RUN
from studies.fitting.random_effects import combine, mean_over_sizes
from studies.runs.pairs import arm_scores
from studies.runs.run import Run, Subset
from studies.runs.upstream_labels import Transfer


def upstream_lines(runs: Sequence[Run], sharing: frozenset[Transfer]) -> list[str]:
    """Return what another pre-training scores on the same records, task by task."""
    scores: dict[tuple[str, str], dict[str, dict[Subset, Mapping[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for cell, by_arm in arm_scores(runs).items():
        if cell.upstream:
            scores[cell.subset.task, cell.network][cell.upstream][cell.subset] = by_arm
    rows = []
    for (task, network), by_upstream in sorted(scores.items()):
        ordered = sorted(by_upstream, key=lambda name: ((task, name) not in sharing, name))
        for one, other in combinations(ordered, 2):
            shared = sorted(by_upstream[one].keys() & by_upstream[other].keys())
            for n in sorted({subset.n_records for subset in shared}):
                here = [
                    (by_upstream[one][subset], by_upstream[other][subset]) for subset in shared if subset.n_records == n
                ]
                marked = f"{one} (own labels)" if (task, one) in sharing else one
                rows.append(
                    (
                        task,
                        network,
                        f"{marked} - {other}",
                        f"{n:,}",
                        *(_mean(here, arm, n) for arm in PRETRAINED_STRATEGIES),
                        str(len(here)),
                    )
                )
    if not rows:
        return [f"{NOT_RUN}: it takes runs from two upstreams on the same records."]
    return [
        "The score from one upstream minus that from another, on the same records of the same task. An upstream with "
        "the task's own labels, on other patients, is marked.",
        "",
        *table(
            ("task", "network", "pre-trained on", "n", *(IN_WORDS[arm] for arm in PRETRAINED_STRATEGIES), "runs"), rows
        ),
    ]


def _mean(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], arm: str, n: int) -> str:
    values = [(n, one[arm] - other[arm]) for one, other in pairs if arm in one and arm in other]
    found = mean_over_sizes(values)
    return effect(combine({"": found})) if found else ""
