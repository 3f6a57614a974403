"""``ecgadvise predict``: probabilities of an exported model for recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.terminal.lines import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.deploy.inference import Listed, Model, Prediction

EXAMPLE = "Example: ecgadvise predict model.onnx records/ --csv predictions.csv"
_LISTED = 20  # remarks and failures that a person reads; --json has all


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX file that ecgadvise export wrote.")],
    records: Annotated[list[Path], typer.Argument(metavar="RECORD_OR_DIR...", help="Recordings, or folders of them.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a CSV file in place of the table.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Records at a time.")] = 64,
) -> None:
    """Estimate for each record the probability of every class, and whether it reaches the class's threshold.

    Records of any sampling rate and lead order are prepared as in training; a bad one is named and stops nothing.
    """
    from advisor.terminal.predictions import to_json, to_table
    from engine.deploy.inference import open_model

    opened = open_model(model)
    if csv is not None:
        _check_csv(csv)
    predictions = _predict(opened, records, batch_size)
    if csv is not None:
        _write_csv(csv, opened, predictions)
    if json:
        typer.echo(to_json(model.name, opened.facts, predictions))
    elif csv is None:
        typer.echo(to_table(opened.facts, predictions), nl=False)
    _report(predictions)


def _predict(model: "Model", paths: "Sequence[Path]", batch_size: int) -> "list[Prediction]":
    """Return a prediction for every record, with what could not be listed among them."""
    from advisor.terminal.progress.bar import progress_bar
    from engine.deploy.inference import Prediction, list_records, predict_records
    from engine.records.record import RecordError

    listed: dict[str, Listed] = {}  # by name: a shell's * gives a record's header and its samples
    unlisted = []
    for path in paths:
        try:
            listed |= {one.record: one for one in list_records(path)}
        except RecordError as error:
            unlisted.append(Prediction(path.as_posix(), None, str(error)))
    predictions = []
    with progress_bar("records") as report:
        for done, one in enumerate(predict_records(model, list(listed.values()), batch_size), start=1):
            predictions.append(one)
            report(done, len(listed))
    return predictions + unlisted


def _check_csv(target: Path) -> None:
    """Raise Failure before any record is read where the file cannot be written."""
    from advisor.terminal.failures import Failure
    from engine.files import check_files
    from models.errors import ExitCode

    try:
        check_files([target])
    except OSError as error:
        raise Failure(f"cannot write {target}: {error.strerror}", ExitCode.FAILURE) from None


def _write_csv(target: Path, model: "Model", predictions: "Sequence[Prediction]") -> None:
    from advisor.terminal.failures import Failure
    from advisor.terminal.predictions import to_csv
    from engine.files import write_files
    from models.errors import ExitCode

    try:
        write_files({target: to_csv(model.facts, predictions).encode(errors="backslashreplace")})
    except OSError as error:
        raise Failure(f"cannot write {target}: {error.strerror}", ExitCode.FAILURE) from None
    usable = sum(one.problem is None for one in predictions)
    say(f"{usable:,} of {len(predictions):,} records: {target}")


def _report(predictions: "Sequence[Prediction]") -> None:
    """Name what is odd about records and raise Failure where one could not be predicted."""
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    remarks = _remarks(predictions)
    failed = [f"{one.record}: {one.problem}" for one in predictions if one.problem is not None]
    if len(predictions) == len(failed) == 1:
        raise Failure(failed[0], ExitCode.DATA)
    for lines in (remarks, failed):
        for line in lines[:_LISTED]:
            say(line)
        if len(lines) > _LISTED:
            say(f"... and {len(lines) - _LISTED:,} more; --json has all")
    if failed:
        raise Failure(f"{len(failed):,} of {len(predictions):,} records could not be predicted", ExitCode.DATA)


def _remarks(predictions: "Sequence[Prediction]") -> list[str]:
    """Return a line for every note, with the record's name where it is one record's, else with their number."""
    from collections import defaultdict

    with_note: dict[str, list[str]] = defaultdict(list)
    for one in predictions:
        for note in one.notes if one.problem is None else ():
            with_note[note].append(one.record)
    return [
        f"{names[0] if len(names) == 1 else f'{len(names):,} records'}: {note}" for note, names in with_note.items()
    ]
