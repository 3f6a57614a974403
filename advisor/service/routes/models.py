"""Models, what they say of records, and whether these are like those that they were tested on."""

import os
import shutil
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, BinaryIO

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from advisor.service.access import Admin, Here, Reader, Runner, Service
from advisor.service.datasets.limits import Limits
from advisor.service.problems import problem_responses
from advisor.service.served_models import intake
from advisor.service.served_models.drift import drift
from advisor.service.served_models.drift_answer import Drift
from advisor.service.served_models.library import Opened, ServedModel
from advisor.service.served_models.predictions import Predicted, predict
from advisor.service.served_models.signals import Signals
from advisor.service.served_models.uploads import FIELD, FORM, JSON, Upload, receive, take
from advisor.service.store import new_id

router = APIRouter(prefix="/v1", tags=["models"])
_AT_ONCE = 4  # predictions that are made at a time; further requests wait, and keep no thread meanwhile
_PART = 1 << 18  # bytes of a file that are sent at a time
_FILE = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": Signals.model_json_schema()},
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: {"type": "array", "items": _FILE}},
                    "required": [FIELD],
                }
            },
            "application/octet-stream": {"schema": _FILE},
        },
    }
}

ModelId = Annotated[str, Path(description="The id of a model, as GET /v1/models lists it.", max_length=300)]


class Models(BaseModel):
    """Every model that predicts here; one with a ``problem`` cannot."""

    models: list[ServedModel]


class PredictedRecord(BaseModel):
    """A record: by class the probability, and whether it reaches the threshold; ``notes`` on its signal."""

    record: str
    probability: dict[str, float]
    decision: dict[str, bool]
    notes: list[str]


class FailedRecord(BaseModel):
    """A record without a prediction, and why."""

    record: str
    problem: str


class Predictions(BaseModel):
    """What ``ecgadvise predict MODEL RECORDS --json`` prints."""

    model_config = ConfigDict(extra="allow")

    schema_version: int
    model: str
    task: str
    thresholds: dict[str, float]
    threshold_rule: dict[str, Any] | None
    operating_points: dict[str, dict[str, Any] | None]
    records: list[PredictedRecord]
    failed: list[FailedRecord]


@router.get("/models", response_model=Models, responses=problem_responses())
def list_models(service: Here, _caller: Reader) -> Models:
    """List the models: those that jobs made, and those that the operator put there."""
    return Models(models=service.library.list())


@router.get("/models/{model}", response_model=ServedModel, responses=problem_responses(404, 422))
def get_model(model: ModelId, service: Here, _caller: Reader) -> ServedModel:
    """Return what is known of a model."""
    return service.library.get(model)


@router.get(
    "/models/{model}/card",
    response_class=Response,
    responses={
        200: {"description": "The card.", "content": {"text/markdown": {"schema": {"type": "string"}}}},
        **problem_responses(404),
    },
)
def get_card(model: ModelId, service: Here, _caller: Reader) -> Response:
    """Return the model card that lies next to the model, in Markdown."""
    return Response(service.library.card(model), media_type="text/markdown")


@router.get(
    "/models/{model}/file",
    response_class=Response,
    responses={
        200: {"description": "The model.", "content": {"application/octet-stream": {"schema": _FILE}}},
        **problem_responses(404, 422),
    },
)
def get_file(model: ModelId, service: Here, _caller: Reader) -> Response:
    """Return the ONNX file, as ``ecgadvise export`` wrote it."""
    file = service.library.content(model)
    size = str(os.fstat(file.fileno()).st_size)
    named = {"Content-Disposition": 'attachment; filename="model.onnx"', "Content-Length": size}
    return StreamingResponse(_parts(file), media_type="application/octet-stream", headers=named)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    """Yield an opened file part by part: many may ask for it at a time, and the memory is for predictions."""
    with file:
        while part := file.read(_PART):
            yield part


@router.delete("/models/{model}", status_code=204, responses=problem_responses(404, 409))
def delete_model(model: ModelId, service: Here, _caller: Admin) -> None:
    """Remove a model that a job made, with its checkpoint and what was counted for it."""
    service.library.delete(model)


@router.post(
    "/models/{model}/predictions",
    response_class=Response,
    openapi_extra=_BODY,
    responses={
        200: {"model": Predictions, "description": "What `ecgadvise predict MODEL RECORDS --json` prints."},
        **problem_responses(400, 404, 413, 422, 503, 507),
    },
)
async def predict_records(
    model: ModelId,
    request: Request,
    service: Here,
    _caller: Runner,
    name: Annotated[str | None, Query(max_length=200, description="Of a file that is the body itself.")] = None,
) -> Response:
    """Estimate for each record the probability of every class, and whether it reaches the class's threshold.

    The body is one record's file, an archive of records (zip, tar), a form with files called `record` (the header and
    the samples of WFDB), or JSON with samples in millivolt. Records that fail are named, and stop nothing.
    """
    opened = await run_in_threadpool(service.library.open, model)
    Limits.of(service.settings, service.store.free_mb).check_disk()
    said = request.headers
    upload = Upload(service.store.incoming / new_id("p"), said.get("content-type", ""), name)
    try:
        await receive(request.stream(), said.get("content-length"), upload, service.settings)
        found = await to_thread.run_sync(_predicted, opened, upload, service, limiter=_limiter(request))
    finally:
        shutil.rmtree(upload.folder, ignore_errors=True)
    return Response(found.document, media_type=JSON)


def _predicted(opened: Opened, upload: Upload, service: Service) -> Predicted:
    return predict(opened, take(upload, service.store, service.settings), service.store)


def _limiter(request: Request) -> CapacityLimiter:
    """Return the limiter of this application, which belongs to the loop that it runs in."""
    state = request.app.state
    if not hasattr(state, "predictions"):
        state.predictions = CapacityLimiter(_AT_ONCE)
    limiter: CapacityLimiter = state.predictions
    return limiter


@router.get("/models/{model}/drift", response_model=Drift, responses=problem_responses(404, 422))
def get_drift(
    model: ModelId,
    service: Here,
    _caller: Reader,
    since: Annotated[date | None, Query(description="The first day (UTC) that counts; without it all do.")] = None,
) -> Drift:
    """Say whether what the model was given since a day is like what it was tested on, and what this cannot know."""
    opened = service.library.open(model)
    return drift(opened.served.id, opened.facts, intake.read(service.store, opened.intake, since), since)
