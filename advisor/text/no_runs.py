"""What is said where no run of the evidence starts from the network asked about: what is published, and a pilot.

Scores of other papers are no prediction for the asker's records, and another network's curve is not this network's.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advisor.answer.question import NoRunsFromError, UnknownNameError, UnknownUpstreamError
from advisor.answer.words import METRICS, count
from engine.checkpoints.zoo_index import find_zoo_document
from models.foundation_models import find_foundation_model
from studies.files.curves import CurvesFile, corpus_of
from studies.findings.published import PublishedScore, published_of, read_published

SCHEMA_VERSION = 1
_SHOWN = 3  # tasks of a source
_MOST_SOURCES = 2

Row = tuple[PublishedScore, PublishedScore | None]


class NothingFromNetworkError(NoRunsFromError):
    """No run starts from the ``network``; ``document`` holds what the sentence says, with every published score."""

    def __init__(self, network: str, message: str, document: dict[str, Any]) -> None:
        super().__init__(network)
        self.args = (message,)
        self.document = document


def with_published(
    error: NoRunsFromError | UnknownUpstreamError, curves: CurvesFile, directory: Path | None = None
) -> NoRunsFromError | UnknownNameError:
    """Return the error with what is published of its network and the pilot that would tell; one of another name stays.

    ``directory`` has the asker's records, None where none were given. Raises PublishedError.
    """
    network = error.upstream if isinstance(error, UnknownUpstreamError) else error.network
    found = find_zoo_document(network)
    if isinstance(error, UnknownUpstreamError) and found is None:
        return error
    start = None if isinstance(error, UnknownUpstreamError) else error.start
    is_there = found is not None or start is not None
    model = find_foundation_model(network)
    rows = [] if model is None else published_of(model, read_published())
    where = "DIR" if directory is None else shlex.quote(str(directory))
    name = _as_zoo_takes(network) if found is None else found[0]
    pilot = f"ecgadvise recommend --data {where} --from {shlex.quote(start or name)} --pilot"
    add = (
        f"ecgadvise zoo add FILE --name {shlex.quote(name)} --network ARCH --contract FILE.toml --licence TEXT "
        "--source TEXT"
    )
    known = sorted({curve.upstream for curve in curves.curves})
    said = [
        f"no run of the evidence starts from {network}, and no curve of another network stands in for it",
        *(_published(rows, curves) if rows else [] if model is None else ["nothing published of it is known here"]),
        *_measured(network, None if found is None else found[1], known),
        f"a pilot on your own records would tell: {pilot}" + ("" if is_there else f", once it is in the zoo: {add}"),
    ]
    document = {
        "schema_version": SCHEMA_VERSION,
        "no_evidence": {
            "network": network,
            "is_there": is_there,
            "upstreams": known,
            "published": [_as_dict(*row) for row in rows],
            "pilot": pilot,
            "add": None if is_there else add,
            "message": "; ".join(said),
        },
    }
    return NothingFromNetworkError(network, "; ".join(said), document)


def _measured(network: str, found: dict[str, Any] | None, known: Sequence[str]) -> list[str]:
    """Say what a network of the zoo was pre-trained on, where other networks of the evidence were so too."""
    task = None if found is None else found.get("task")
    if task not in known:
        return []
    return [f"{network} was pre-trained on {task}, and --upstream {task} answers from networks that were too"]


def _published(rows: Sequence[Row], curves: CurvesFile) -> list[str]:
    """Give some of the published comparisons, those on corpora of the evidence first, and count all."""
    corpora = {corpus_of(task) for curve in curves.curves for task in curve.measured_tasks}
    by_source: dict[str, list[tuple[PublishedScore, PublishedScore]]] = defaultdict(list)
    for score, other in rows:
        if other is not None:
            by_source[score.source].append((score, other))
    said = []
    for source, found in list(by_source.items())[:_MOST_SOURCES]:
        found.sort(key=lambda pair: corpus_of(pair[0].task) not in corpora)  # the order of the table otherwise
        higher = sum(score.value > other.value for score, other in found)
        first = {score.task: (score, other) for score, other in reversed(found)}  # of several sizes of a model, one
        shown = ", ".join(_comparison(*first[task]) for task in list(dict.fromkeys(s.task for s, _ in found))[:_SHOWN])
        metric = METRICS.get(found[0][0].metric, found[0][0].metric)
        more = f"{shown}; higher in {higher} of {count(len(found), 'comparison')} (--json has all)"
        said.append(f"published {metric}, fine-tuned against from scratch ({source}): {more}")
    return said


def _comparison(score: PublishedScore, other: PublishedScore) -> str:
    on = "" if score.n_train is None else f", {score.n_train:,} records"
    return f"{score.value:.3f} against {other.value:.3f} ({other.network}) on {score.task}{on}"


def _as_dict(score: PublishedScore, other: PublishedScore | None) -> dict[str, Any]:
    return {
        "source": score.source,
        "task": score.task,
        "n_train": score.n_train,
        "metric": score.metric,
        "network": score.network,
        "fine_tuned": score.value,
        "fine_tuned_ci": None if score.interval is None else list(score.interval),
        "compared_with": None if other is None else other.method,
        "compared": None if other is None else other.value,
        "compared_ci": None if other is None or other.interval is None else list(other.interval),
        "note": score.note,
    }


def _as_zoo_takes(network: str) -> str:
    """Return a name of small letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", network.lower()).strip("-.") or "NAME"
