"""The page that answers: the question as a form, and below it what a report says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from markupsafe import Markup
from pydantic import ValidationError
from starlette.responses import HTMLResponse, Response

from advisor.answer.question import NOTHING_PRETRAINED
from advisor.answer.words import METRICS
from advisor.report.pieces import Pieces, take_apart
from advisor.service.access import Here, Reader, Service
from advisor.service.pages.rendering import render
from advisor.service.problems import Problem
from advisor.service.questions import Asked
from advisor.service.routes.answers import page_of
from models.errors import UserError
from studies.files.curves import CurvesFile
from studies.files.falling import falls

if TYPE_CHECKING:
    from advisor.service.datasets.datasets import Dataset

router = APIRouter(include_in_schema=False)
_DEFAULTS = {"n_records": "5000", "arch": "cnn"}
_SHOWN = (
    "pilot", "gain", "scores", "cost", "changes", "curves", "networks", "your-records", "warnings", "limits"
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A line of the form; ``kind`` is number, text or select."""

    name: str
    label: str
    kind: str
    hint: str = ""
    placeholder: str = ""


_MAIN = (
    Field("data", "Your records", "select"),
    Field("n_records", "Labelled records", "number", "for training and validation together"),
    Field("arch", "Network", "select"),
    Field("upstream", "Pre-trained on", "select"),
    Field("margin", "Difference that matters", "number", "of the score", "0.01"),
)
_GROUPS = {
    "Target and prices": (
        Field("target", "Score to reach", "number", "how many records does it take?"),
        Field("label_cost", "Price of a labelled record", "number"),
        Field("gpu_cost", "Price of a machine hour", "number"),
        Field("currency", "Currency of the prices", "text", "as EUR"),
        Field("uses", "Trainings that share a pre-training", "number", "where you have to pay for it"),
        Field("device_speed", "Records a second on your device", "number", "ecgadvise doctor measures it"),
    ),
    "Labels and score": (
        Field("labels", "Labels with their shares", "text", "as AF:0.04,LBBB:0.02; of your records some names"),
        Field("events", "Records with each label", "text", "where its name says nothing: 40,12"),
        Field("task_like", "A task with labels like yours", "select"),
        Field("task", "Answer from this task alone", "select"),
        Field("metric", "Score", "select"),
        Field("from", "A pre-trained network for your records", "text", "by its name"),
    ),
}
_LABELS = {field.name: field.label for fields in (_MAIN, *_GROUPS.values()) for field in fields}
_NUMBERS = {"int_parsing": "give a whole number", "int_from_float": "give a whole number",
            "float_parsing": "give a number, with a point before its decimals"}  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A question without an answer: the sentence, the field it is about, and rows of what is published instead."""

    status: int
    sentence: str
    field: str | None = None
    published: Sequence[Mapping[str, Any]] = ()
    add: str | None = None
    pilot: str | None = None


@router.get("/", response_class=HTMLResponse)
def ask(request: Request, service: Here, _caller: Reader) -> Response:
    """Show a question and its answer; without one the commonest."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    given = given if request.query_params else dict(_DEFAULTS)
    answer: dict[str, Any] | Refused
    try:
        asked = Asked.model_validate(given)
        answer = _found(service, asked, given)
    except ValidationError as error:
        answer = _invalid(error)
    except (Problem, UserError) as error:
        answer = _refused(error if isinstance(error, Problem) else Problem.of(error))
    refused = answer if isinstance(answer, Refused) else None
    return render(
        request, "ask.html", 200 if refused is None else refused.status, given=given, fields=_MAIN, groups=_GROUPS,
        choices=_choices(service, given), refused=refused, found=None if refused else answer, metrics=METRICS,
    )  # fmt: skip


def _found(service: Service, asked: Asked, given: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template shows of an answer. Raises Problem and UserError."""
    pieces: Pieces = take_apart(page_of(service, asked))
    query = urlencode(given)
    return {
        "said": pieces.title,
        "question": Markup(pieces.question),
        "verdicts": Markup(pieces.verdicts),
        "rows": Markup(pieces.rows),
        "sections": [Markup(pieces.sections[name]) for name in _SHOWN if name in pieces.sections],
        "command": _command(service, asked),
        "report": f"/v1/report?{query}",
        "json": f"/v1/recommendation?{query}",
    }


def _command(service: Service, asked: Asked) -> str:
    command = service.answers.command(asked)
    return command if asked.data is None else f"{command} --data=DIR"


def _invalid(error: ValidationError) -> Refused:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    said = _NUMBERS.get(first["type"], first["msg"].lower())
    return Refused(422, f"“{_LABELS.get(name, name)}”: {said}", name if name in _LABELS else None)


def _refused(problem: Problem) -> Refused:
    """Name the field as the form does where the sentence begins with it, as the command line does with its option."""
    start, _, rest = problem.detail.partition(" ")
    name = start.rstrip(":")
    known = name if name in _LABELS else None
    sentence = problem.detail if known is None else f"“{_LABELS[name]}”{start[len(name) :]} {rest}"
    told = problem.members.get("published") or {}
    nothing = told.get("no_evidence", {})
    return Refused(
        problem.status, sentence, known, nothing.get("published", ()), nothing.get("add"), nothing.get("pilot")
    )


def _choices(service: Service, given: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Return the values that each select offers, with their words; one that was asked for is among them."""
    curves = service.answers.curves
    ready = [dataset for dataset in service.datasets.list() if dataset.state == "ready"]
    known = {
        "data": list(_datasets(ready)),
        "arch": list(_networks(curves)),
        "upstream": list(_upstreams(curves)),
        "metric": list(_metrics(curves)),
        "task": [("", "all that were measured"), *((task, task) for task in _tasks(curves))],
        "task_like": [("", "not said"), *((task, task) for task in _tasks(curves, with_labels=True))],
    }  # fmt: skip
    for name, offered in known.items():
        if (asked := given.get(name)) is not None and asked not in dict(offered):
            offered.append((asked, asked))
    return known


def _datasets(ready: "Sequence[Dataset]") -> Iterator[tuple[str, str]]:
    yield "", "none: a number alone"
    yield from ((dataset.id, dataset.name) for dataset in ready)


def _networks(curves: CurvesFile) -> Iterator[tuple[str, str]]:
    yield "", "the best that was measured"
    for family, arch in curves.family_default.items():
        yield family, f"{family} ({arch})"
    for arch, network in curves.networks.items():
        size = "" if network.parameters is None else f", {network.parameters:,} parameters"
        yield arch, f"{arch} ({network.family}{size})"


def _upstreams(curves: CurvesFile) -> Iterator[tuple[str, str]]:
    yield "", "as between two hospitals"
    yield NOTHING_PRETRAINED, "nothing yet"
    yield from ((name, name) for name in sorted({curve.upstream for curve in curves.curves}))


def _metrics(curves: CurvesFile) -> Iterator[tuple[str, str]]:
    """Return the default first, as what is not said: so no address and no command has it."""
    default = Asked.model_fields["metric"].default
    names = {one.metric for one in curves.curves if not falls(one.metric)} - {default}
    yield "", METRICS.get(default, default)
    yield from ((name, METRICS.get(name, name)) for name in sorted(names))


def _tasks(curves: CurvesFile, *, with_labels: bool = False) -> list[str]:
    return sorted({curve.task for curve in curves.measured if curve.prevalence or not with_labels})
