"""The section of the findings on published numbers: side by side where they can be, and where not, why."""

from collections import defaultdict
from collections.abc import Sequence

from engine.model_card import table
from models.registry import is_narrow
from studies.claims import scope_of
from studies.findings_claims import effect
from studies.paired_differences import Pair, gains_by_size
from studies.published import (
    NEAR_SIZE,
    SAME_SIZE,
    PublishedScore,
    held_against,
    interval_by_patient,
    published_gains,
    training_records,
)
from studies.store import RunRecord

_MAIN = "cnn"


def published_lines(scores: Sequence[PublishedScore], records: Sequence[RunRecord], pairs: Sequence[Pair]) -> list[str]:
    """Return published scores beside ours, then published gains beside ours."""
    return [
        "Nguyen and Do's own tables are not at hand: no number of theirs stands here. Others' are in `published.csv`.",
        "",
        f"Scores of the same task, arm and family, trained on the same number of records to {SAME_SIZE - 1:.0%}. "
        "Brackets hold the interval that the paper gives, and ours of 90 % over test patients:",
        "",
        *_scores(scores, records),
        "",
        f"Gains beside ours of {_MAIN} at the nearest size, where that is within a factor of {NEAR_SIZE:g}. The tasks "
        "differ, and so do networks, pre-training and sometimes the score, so that only sign and order of magnitude "
        "can be compared:",
        "",
        *_gains(scores, pairs),
    ]


def _scores(scores: Sequence[PublishedScore], records: Sequence[RunRecord]) -> list[str]:
    rows = []
    others: dict[str, list[str]] = defaultdict(list)
    for score in scores:
        found, reason = held_against(score, records)
        ends = f" ({score.interval[0]:.3f} to {score.interval[1]:.3f})" if score.interval else ""
        if found:
            n = f"{score.n_train:,}"
            ours = "; ".join(_ours(run, score.metric) for run in found)
            rows.append((score.source, score.task, n, score.method, score.metric, f"{score.value:.3f}{ends}", ours))
        else:
            n = "unknown n" if score.n_train is None else f"n = {score.n_train:,}"
            others[f"{score.source}: {score.task}, {reason}"].append(
                f"{score.method} {score.metric} {score.value:.3f}{ends} ({n})"
            )
    heads = ("source", "task", "trained on", "method", "metric", "published", "ours")
    listed = [f"- {where}. {'; '.join(said)}." for where, said in others.items()]
    return [*(table(heads, rows) if rows else ["None."]), "", "Not comparable, and why:", "", *(listed or ["None."])]


def _ours(run: RunRecord, metric: str) -> str:
    value = run.row.get(metric)
    if value is None:
        return f"`{run.row['arch']}` has no {metric}"
    interval = interval_by_patient(run, metric)
    ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    rate = run.details["spec"].get("learning_rate")
    own_rate = f", rate {rate:g}" if rate is not None else ""
    recipe = "" if run.row["recipe"] == "tuned" else f", recipe {run.row['recipe']}"
    width = ", a narrow network," if is_narrow(run.row["arch"]) else ""
    return f"`{run.row['arch']}`{width} {value:.3f}{ends} on {training_records(run):,}{own_rate}{recipe}"


def _gains(scores: Sequence[PublishedScore], pairs: Sequence[Pair]) -> list[str]:
    ours = [gain for gain in gains_by_size(pairs, scope_of) if gain.family == _MAIN]
    rows = [
        (
            one.source, one.task, f"{one.n_train:,}", one.metric, f"{one.gain:+.3f}",
            f"{effect(one.ours.gain)} at {one.ours.n_records:,}" if one.ours else "no size near it",
        )
        for one in published_gains(scores, ours)
    ]  # fmt: skip
    return table(("source", "task", "trained on", "metric", "published gain", "our gain, macro AUROC"), rows)
