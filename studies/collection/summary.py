"""``SUMMARY.md`` next to a runs table: its gains, scores, pre-trained networks and where and how it was run."""

from collections.abc import Sequence
from pathlib import Path

from studies.collection.store_tables import arm_table, gain_tables, measured_lines, store_lines
from studies.runs.pairs import pair_runs
from studies.runs.run import Run
from studies.runs.tidy_runs import tidy_records

SUMMARY = "SUMMARY.md"


def summarise(study: str, runs: Sequence[Run], not_fitted: Sequence[str]) -> str:
    """Return the summary of a study's runs, in Markdown; the same runs give the same text.

    Raises RunsFileError for runs that cannot be told apart.
    """
    tidy = tidy_records(runs, Path(study))
    unfinished = [f"- No curve of {reason}" for reason in not_fitted]
    lines = [
        f"# {study}: summary",
        "",
        f"Written by `ecgadvise study collect` from {len(runs):,} runs. Scores are macro AUROC on test records, gains "
        "fine-tuned minus from scratch on the same records from the same seed; n counts training and validation "
        "records.",
        "",
        "## Gains",
        "",
        *gain_tables(pair_runs(tidy.runs)),
        "## Scores",
        "",
        "Mean ± standard deviation (number of runs):",
        "",
        *arm_table(tidy.runs),
        "",
        "## Runs",
        "",
        *measured_lines(runs),
        "",
        "## Where and how",
        "",
        *store_lines({study: runs}),
        *(["", "## Not fitted", "", *unfinished] if unfinished else []),
    ]
    return "\n".join(lines) + "\n"
