"""Predictions for what a request brings: the document of ``ecgadvise predict --json``, counted and nothing kept."""

import sqlite3
from dataclasses import dataclass

from advisor.service.problems import Problem
from advisor.service.served_models import intake
from advisor.service.served_models.library import Opened
from advisor.service.served_models.uploads import Records
from advisor.service.store import ServiceStore
from advisor.terminal.predictions import to_json
from engine.deploy.inference import Prediction, predict_records

_NAMED = 1000  # failed records in a problem document


@dataclass(frozen=True)
class Predicted:
    """What came of an upload: the document, as the command line prints it, and how many records it is of."""

    document: bytes
    records: int
    failed: int


def predict(opened: Opened, records: Records, store: ServiceStore) -> Predicted:
    """Predict every record, and count what came in.

    Raises Problem 422 where none could be predicted, 503 where the counts cannot be kept.
    """
    seen = intake.Seen()
    predictions = [*predict_records(opened.model, seen.watch(records.listed)), *records.unlisted]
    named = [records.named(one) for one in predictions]
    try:
        intake.add(store, opened.intake, intake.count(opened.facts, predictions, seen))
    except sqlite3.Error as error:
        raise Problem(503, f"what came in cannot be counted, and so is not predicted: {error}") from None
    failed = [one for one in named if one.problem is not None]
    if len(failed) == len(named):
        raise _nothing_predicted(failed)
    document = f"{to_json(opened.served.file, opened.facts, named)}\n".encode()
    return Predicted(document, len(named) - len(failed), len(failed))


def _nothing_predicted(failed: list[Prediction]) -> Problem:
    listed = [{"record": one.record, "problem": one.problem} for one in failed[:_NAMED]]
    first = f"{failed[0].record}: {failed[0].problem}" if failed else "there is no record in it"
    said = first if len(failed) < 2 else f"none of the {len(failed):,} records could be predicted; {first}"
    return Problem(422, said, "data", failed=listed)
