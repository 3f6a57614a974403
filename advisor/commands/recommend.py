"""``ecgadvise recommend``: the question that the tool exists for."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: ecgadvise recommend --n-records 5000 --arch cnn"


def recommend(
    n_records: Annotated[int, typer.Option(help="Labelled records you have, for training and validation together.")],
    arch: Annotated[str, typer.Option(help="cnn, rnn, or the name of a network.")],
    upstream: Annotated[str | None, typer.Option(help="What the network was pre-trained on.")] = None,
    metric: Annotated[str, typer.Option(help="The score to compare.")] = "auroc_macro",
    margin: Annotated[float, typer.Option(help="The smallest difference of the metric that matters to you.")] = 0.01,
    curves: Annotated[Path | None, typer.Option(help="A curves file; the evidence that ships is the default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say whether to fine-tune or to train from scratch, what each will score and cost, and how sure that is."""
    from advisor.advice import NoEvidenceError, Question, UnknownNameError
    from advisor.advice import recommend as answer
    from advisor.failures import ExitCode, Failure
    from advisor.render import to_json, to_table
    from studies.curves_file import CurvesFileError, read_curves
    from studies.evidence_files import DEFAULT_CURVES

    if n_records < 1:
        raise Failure(f"--n-records is {n_records}: give a positive number of labelled records", ExitCode.USAGE)
    if not 0 < margin < 1:
        raise Failure(f"--margin is {margin:g}: give a difference of the metric between 0 and 1", ExitCode.USAGE)
    try:
        found = answer(Question(n_records, arch, metric, margin, upstream), read_curves(curves or DEFAULT_CURVES))
    except UnknownNameError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    except CurvesFileError as error:
        raise Failure(str(error), ExitCode.DATA) from None
    except NoEvidenceError as error:
        raise Failure(str(error), ExitCode.NO_EVIDENCE) from None
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    typer.echo(to_json(found) if json else to_table(found, color=color), nl=json, color=color)
