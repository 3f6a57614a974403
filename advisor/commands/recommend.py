"""``ecgadvise recommend``: the question that the tool exists for."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.terminal import completion
from advisor.terminal.options import Rate, Seconds, TestFraction, TestSeed

if TYPE_CHECKING:
    from advisor.answer.recommend import Recommendation
    from advisor.own_records.answer import OwnAnswer
    from advisor.text.explanation import Explanation
    from studies.files.curves import CurvesFile

EXAMPLE = "Example: ecgadvise recommend --n-records 5000 --arch cnn"


def recommend(
    n_records: Annotated[
        int | None,
        typer.Option(
            help="Labelled records you have, for training and validation together. [default: those of --data]"
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="cnn, rnn, or the name of a network. [default: the best that was measured]",
            autocompletion=completion.archs,
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="What the network was pre-trained on, or its name; none if you have no pre-trained network.",
            autocompletion=completion.upstreams,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Answer from this task alone. [default: from all, if three or more were measured]",
            autocompletion=completion.tasks,
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="The score to compare.")] = "auroc_macro",
    margin: Annotated[float, typer.Option(help="The smallest difference of the metric that matters to you.")] = 0.01,
    target: Annotated[
        float | None, typer.Option(help="A score: how many records does it take, with probability 0.8?")
    ] = None,
    label_cost: Annotated[float | None, typer.Option(help="Money that a labelled record costs.")] = None,
    gpu_cost: Annotated[float | None, typer.Option(help="Money that an hour of your device costs.")] = None,
    currency: Annotated[
        str | None, typer.Option(metavar="CODE", help="What prices are in, as EUR: sums are written in it.")
    ] = None,
    uses: Annotated[
        int | None, typer.Option(help="Trainings that share a pre-training you have to pay for. [default: 1]")
    ] = None,
    device_speed: Annotated[
        float | None, typer.Option(help="Records a second this network trains with on your device (ecgadvise doctor).")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="A curves file; the evidence that ships is the default.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your own records, labelled, or a prepared corpus.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="What --data is, where its files do not tell.")] = None,
    seconds: Seconds = None,
    fs: Rate = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Your labels with their shares of the records, AF:0.04,LBBB:0.02; of --data a task, or some of its "
            "labels, AF,LBBB. [default: any labels; of --data all of its first task]"
        ),
    ] = None,
    events: Annotated[
        str | None, typer.Option(help="How many of your records have each label, where its name says nothing: 40,12.")
    ] = None,
    task_like: Annotated[
        str | None,
        typer.Option(help="A measured task whose labels are like yours.", autocompletion=completion.tasks),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="A pre-trained network for --data: checkpoint folder or name.",
            autocompletion=completion.networks,
        ),
    ] = None,
    test_fraction: TestFraction = None,
    test_seed: TestSeed = None,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="Train a few small pairs on --data, and answer for these records.")
    ] = False,
    minutes: Annotated[float | None, typer.Option(help="How long the pilot may take. [default: 10]")] = None,
    pilot_store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that keeps the pilot. [default: with the corpora]")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=1_000_000, help="Draws the subsets of --pilot; another adds others. [default: 0]"),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose cluster runs --pilot, as tcp://host:8786.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add all warnings, the evidence, the fit, the backtest and the limits.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the answer as a page that stands alone: .html.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves and your records: .svg, .png or .html.")] = None,
) -> None:
    """Say what to train, fine-tuned, from scratch or otherwise, what each will score and cost, and how sure that is."""
    from advisor.answer.question import Question
    from advisor.answer.recommend import recommend as answer
    from advisor.commands.parts.recommend_own import Own, in_words
    from advisor.terminal.question_options import labels_asked_for, refuse_contradictions, refuse_nonsense
    from studies.files.curves import read_curves
    from studies.files.shipped import DEFAULT_CURVES

    own = Own(
        data, source, labels, from_, pilot, minutes, pilot_store, seconds, fs, test_fraction, test_seed, seed, scheduler
    )  # fmt: skip
    own.check(n_records)
    refuse_contradictions(upstream, from_, uses, task, task_like)
    counted = 1 if n_records is None else n_records  # where none is given, the records of --data are counted
    question = Question(
        counted, arch, metric, margin, upstream, task, target, label_cost, gpu_cost, uses, device_speed,
        labels_asked_for(labels, events, task_like, counted, has_data=data is not None), task_like, None, currency,
    )  # fmt: skip
    refuse_nonsense(question, from_)
    if report or plot:
        from advisor.terminal.answer_files import check_targets

        check_targets(report, plot)
    path = curves or DEFAULT_CURVES
    evidence = read_curves(path)
    if data is not None:
        with told_what_is_published(evidence, json, data):
            for_own = own.answer(question, n_records, evidence, path)
        _write(for_own.with_warnings, path, report, plot, for_own)
        typer.echo(in_words(for_own, path, explain, json, _color()), nl=json, color=_color())
        return
    with told_what_is_published(evidence, json):
        found = answer(question, evidence)
    _write(found, path, report, plot)
    if json:
        from advisor.text.answer_json import to_json

        typer.echo(to_json(found, _explain(found, path).as_dict() if explain else None))
        return
    color = _color()
    typer.echo(_to_text(found, path, color) if explain else _to_table(found, color), nl=False, color=color)


@contextmanager
def told_what_is_published(curves: "CurvesFile", json: bool, data: Path | None = None) -> Iterator[None]:
    """Add to an error about a network from which no run starts what is published of it, with ``json`` on stdout."""
    from advisor.answer.question import NoRunsFromError, UnknownUpstreamError

    try:
        yield
    except (NoRunsFromError, UnknownUpstreamError) as error:
        from advisor.text.no_runs import NothingFromNetworkError, with_published

        told = with_published(error, curves, data)
        if json and isinstance(told, NothingFromNetworkError):
            from json import dumps

            typer.echo(dumps(told.document, indent=2))
        raise told from None


def _color() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _write(
    found: "Recommendation", curves: Path, report: Path | None, plot: Path | None, own: "OwnAnswer | None" = None
) -> None:
    if report or plot:
        from advisor.terminal.answer_files import write_answer

        write_answer(found, curves, report, plot, own)


def _to_table(found: "Recommendation", color: bool) -> str:
    from advisor.text.table import to_table

    return to_table(found, color=color)


def _to_text(found: "Recommendation", path: Path, color: bool) -> str:
    from advisor.text.explanation_text import to_text

    return to_text(found, _explain(found, path), color=color)


def _explain(found: "Recommendation", path: Path) -> "Explanation":
    from advisor.text.explanation import explain

    return explain(found, path)
