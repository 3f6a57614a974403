"""``ecgadvise export``: a checkpoint as one ONNX file, proven equal to the network, with its card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLE = "Example: ecgadvise export checkpoint --out model/model.onnx"


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The folder that training wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The ONNX file; the model card goes next to it.")],
    opset: Annotated[int, typer.Option(min=18, max=23, help="Version of the ONNX operator set.")] = 18,
    fp16: Annotated[bool, typer.Option("--fp16", help="Store weights in 16 bits: half the file.")] = False,
    records: Annotated[
        Path | None, typer.Option("--records", help="A recording, or a folder of them, to compare on as well.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files that are there.")] = False,
) -> None:
    """Write a trained network as one ONNX file, if onnxruntime gives what torch gives; else nothing.

    Scaling, classes, thresholds and facts are in the file. MODEL_CARD.md and MODEL_FACTS.md go next to it.
    """
    from advisor.terminal.progress.bar import at_work
    from engine.deploy.export import export_checkpoint

    own = None if records is None else _read(checkpoint, records)
    with at_work("exporting, and comparing with torch"):
        report = export_checkpoint(checkpoint, out, opset=opset, half=fp16, own_records=own, force=force)
    share = report.bytes / report.weight_bytes
    typer.echo(f"{report.model}: {report.bytes:,} bytes ({share:.2f} of the 32-bit weights), opset {report.opset}")
    typer.echo(f"{report.card}, {report.label.name}")
    typer.echo(f"compared with torch: {report.agreement.sentence()}")


def _read(checkpoint: Path, records: Path) -> "NDArray[np.float32]":
    """Return the prepared records (records, leads, samples) in millivolt; raise Failure where one is not usable."""
    import numpy as np

    from advisor.terminal.failures import Failure
    from engine.checkpoints.checkpoint import load_checkpoint
    from engine.deploy.export import preparation_of
    from engine.deploy.inference import list_records, prepare
    from engine.records.record import RecordError
    from models.errors import ExitCode

    facts = load_checkpoint(checkpoint).facts
    name, signals = records.as_posix(), []
    try:
        for listed in list_records(records):
            name = listed.record
            record = prepare(listed.read(), facts.contract, preparation_of(facts))
            signals.append(record.signals)
    except RecordError as error:  # it does not know the record's name
        raise Failure(f"{name} cannot be compared on: {error}", ExitCode.DATA) from None
    return np.stack(signals)
