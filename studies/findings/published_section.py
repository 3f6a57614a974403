"""The section of the findings on published numbers: scores next to ours, then gains source by source next to ours.

A published score is compared with runs of the same task, arm and family that trained on about as many records.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from math import exp, log

import numpy as np

from engine.deploy.markdown import table
from models.registry import is_narrow
from studies.files.draws import BAND
from studies.findings.claims import scope_of
from studies.findings.claims_section import effect
from studies.findings.published import PublishedGain, PublishedScore, published_gains
from studies.fitting.random_effects import combine
from studies.runs.pairs import Pair, estimate_by_task, gains_by_size, mean_gain
from studies.runs.run import METRIC, Run

SAME_SIZE = 1.1  # the largest ratio of two numbers of records that are called the same
NEAR_SIZE = 2.0  # the largest ratio of two numbers of records at which gains of different tasks stand side by side
_MAIN = "cnn"
_FEW = 4  # sources with fewer tasks share a table


def published_lines(scores: Sequence[PublishedScore], records: Sequence[Run], pairs: Sequence[Pair]) -> list[str]:
    """Return published scores next to ours, then published gains next to ours."""
    return [
        "Nguyen and Do's own tables are not available: no number of theirs is given. Others' are in `published.csv`, "
        f"{len(scores)} scores of {len({score.source for score in scores})} sources.",
        "",
        "### Scores",
        "",
        f"Scores of the same task, arm and family, trained on the same number of records to {SAME_SIZE - 1:.0%}. "
        "Brackets hold the interval that the paper gives, and ours of 90 % over test patients:",
        "",
        *_scores(scores, records),
        "",
        "### Gains",
        "",
        *_gains(published_gains(scores), [pair for pair in pairs if scope_of(pair.scratch) == _MAIN]),
    ]


def _scores(scores: Sequence[PublishedScore], records: Sequence[Run]) -> list[str]:
    rows, others = [], Counter[str]()
    for score in scores:
        found, reason = held_against(score, records)
        if found:
            ours = "; ".join(_ours(run, score.metric) for run in found)
            rows.append((
                score.source, score.task, f"{score.n_train:,}", score.method, score.metric, _with_ends(score), ours
            ))  # fmt: skip
        else:
            others[reason] += 1
    heads = ("source", "task", "trained on", "method", "metric", "published", "ours")
    listed = "; ".join(f"{n}, {reason}" for reason, n in others.most_common())
    return [*(table(heads, rows) if rows else ["None."]), "", f"Not comparable, and why: {listed or 'none'}."]


def held_against(score: PublishedScore, runs: Sequence[Run]) -> tuple[list[Run], str]:
    """Return our runs that a published score can be compared with or, where there are none, the reason."""
    of_task = [run for run in runs if run.task == score.task and run.role == "downstream"]
    if not of_task:
        return [], "no run of their task"
    if score.n_train is None:
        return [], "their number of records is not given"
    of_arm = [run for run in of_task if run.strategy == score.arm and run.family == score.family]
    near = [run for run in of_arm if ratio(run.training_records, score.n_train) <= SAME_SIZE]
    if near or not of_arm:
        return near, "" if near else "no run of their arm and family"
    return [], "ours trained on fewer records"


def interval_by_patient(run: Run, metric: str = METRIC) -> tuple[float, float] | None:
    """Return the 90 % interval of a run's score over resamples of the test patients, where the store keeps them."""
    drawn = run.bootstrap[np.isfinite(run.bootstrap)]
    if metric != METRIC or not len(drawn):
        return None
    low, high = np.quantile(drawn, BAND)
    return float(low), float(high)


def ratio(one: float, other: float) -> float:
    """Return by how many times the larger of two numbers is the larger."""
    return exp(abs(log(one / other)))


def _with_ends(score: PublishedScore) -> str:
    ends = f" ({score.interval[0]:.3f} to {score.interval[1]:.3f})" if score.interval else ""
    return f"{score.value:.3f}{ends}"


def _ours(run: Run, metric: str) -> str:
    value = run.value(metric)
    if value is None:
        return f"`{run.arch}` has no {metric}"
    interval = interval_by_patient(run, metric)
    ends = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    rate = run.spec.learning_rate
    own_rate = f", rate {rate:g}" if rate is not None else ""
    recipe = f", recipe {run.recipe}" if run.recipe else ""
    width = ", a narrow network," if is_narrow(run.arch) else ""
    return f"`{run.arch}`{width} {value:.3f}{ends} on {run.training_records:,}{own_rate}{recipe}"


def _gains(gains: Sequence[PublishedGain], pairs: Sequence[Pair]) -> list[str]:
    """Return a table for every source with several tasks, and one for all others."""
    by_source: dict[str, list[PublishedGain]] = defaultdict(list)
    for gain in gains:
        by_source[gain.source].append(gain)
    lines = [
        "What a pre-trained network scores above training from scratch, next to ours. Theirs is one of the same "
        "network where the paper has such; else the best pre-trained network against the best from scratch, which "
        "flatters pre-training, as the best of many is partly luck. Apart: the two intervals do not meet. Ours, of "
        f"{_MAIN}: on the same task where we ran it, at the nearest number of records or, where theirs is not given, "
        f"at our largest; else over tasks, where a size lies within a factor of {NEAR_SIZE:g}. What differs: their "
        "networks are larger and pre-trained on up to millions of records, mostly without labels; ours on some "
        "thousands with labels; their sets are mostly whole, ours small on purpose. Sign and order of magnitude can be "
        "compared, no more.",
    ]
    few = [gain for found in by_source.values() if len(found) < _FEW for gain in found]
    for source, found in by_source.items():
        if len(found) >= _FEW:
            lines += ["", f"{source}. {_summary(found)}", "", *_table(found, pairs, with_source=False)]
    if few:
        lines += ["", f"Other sources. {_summary(few)}", "", *_table(few, pairs, with_source=True)]
    return lines if gains else ["None."]


def _summary(gains: Sequence[PublishedGain]) -> str:
    """Say in how many tasks pre-training gains and loses, and in how many of them clearly."""
    gained, lost = ([gain for gain in gains if sign * gain.mean > 0] for sign in (1, -1))
    judged = sum(gain.are_apart is not None for gain in gains)
    clearly = [sum(gain.are_apart is True for gain in found) for found in (gained, lost)]
    better, of = (sum(gain.n_networks[k] for gain in gains) for k in (0, 1))
    said = f"Gains in {len(gained)} of {len(gains)} comparisons, loses in {len(lost)}"
    said += f"; of all pre-trained networks {better} of {of} score higher than what they are held against"
    apart = f"; intervals apart in {clearly[0]} and {clearly[1]} of {judged} that have them" if judged else ""
    return f"{said}{apart}."


def _table(gains: Sequence[PublishedGain], pairs: Sequence[Pair], *, with_source: bool) -> list[str]:
    rows = []
    for gain in gains:
        better, of = gain.n_networks
        apart = {None: "", True: ", apart", False: ""}[gain.are_apart]
        cells = (
            gain.task, "not given" if gain.n_train is None else f"{gain.n_train:,}", _arm(gain, 0), _arm(gain, 1),
            f"{gain.mean:+.3f}{apart}", f"{better} of {of}", _our_gain(gain, pairs),
        )  # fmt: skip
        rows.append((gain.source, *cells) if with_source else cells)
    heads = ("task", "trained on", "from scratch", "pre-trained", "gain", "networks that gain", "ours, macro AUROC")
    return table(("source", *heads) if with_source else heads, rows)


def _arm(gain: PublishedGain, side: int) -> str:
    """Return the score of an arm with its network, or its range over networks."""
    scores = [pair[side] for pair in gain.pairs]
    if len(scores) == 1:
        unit = "" if scores[0].metric.startswith("auroc") else f" {scores[0].metric}"
        return f"{scores[0].network} {scores[0].value:.3f}{unit}".strip()
    values = [score.value for score in scores]
    return f"{min(values):.3f} to {max(values):.3f}"


def _our_gain(gain: PublishedGain, pairs: Sequence[Pair]) -> str:
    """Return our gain on the same task or, where we did not run it, over tasks at about as many records."""
    n_train = gain.n_train
    same = [pair for pair in pairs if pair.scratch.task == gain.task]
    if sizes := sorted({pair.scratch.n_records for pair in same}):
        n = sizes[-1] if n_train is None else min(sizes, key=partial(ratio, n_train))
        found = estimate_by_task([pair for pair in same if pair.scratch.n_records == n], mean_gain)
        if found:
            return f"{effect(combine(found))} at {n:,}, same task"
    if n_train is None:
        return "-"
    near = {
        one.n_records: one
        for one in gains_by_size(pairs, scope_of)
        if ratio(one.n_records, n_train) <= NEAR_SIZE and len(one.gain.tasks) > 1
    }
    if not near:
        return "no size near it"
    n = min(near, key=partial(ratio, n_train))
    return f"{effect(near[n].gain)} at {n:,}"
