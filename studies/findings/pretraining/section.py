"""The section of the findings on the pre-trained network: its luck, its width, what and by whom it was pre-trained."""

from collections.abc import Sequence

from studies.findings.pretraining.luck import luck_lines
from studies.findings.pretraining.other_teams import other_team_lines
from studies.findings.pretraining.upstreams import upstream_lines
from studies.findings.pretraining.width import width_lines
from studies.runs.run import Run
from studies.runs.upstream_labels import Transfer


def pretraining_lines(
    runs: Sequence[Run], theirs: Sequence[Run], stores: Sequence[Sequence[Run]], sharing: frozenset[Transfer],
    margin: float,
) -> list[str]:  # fmt: skip
    """Return what the pre-trained network's seed, width and upstream make of the gain, and another team's network."""
    return [
        "### The luck of one network",
        "",
        *luck_lines(stores),
        "",
        "### Its width",
        "",
        *width_lines(runs, margin),
        "",
        "### What it was pre-trained on",
        "",
        *upstream_lines(runs, sharing),
        "",
        "### Another team's network",
        "",
        *other_team_lines(runs, theirs),
    ]
