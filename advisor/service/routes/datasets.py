"""Datasets: upload an archive or name a folder, read what its check found, delete it with what was made of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from advisor.service.access import Admin, Here, Reader, Runner, Service
from advisor.service.datasets.datasets import CHECKING, LONGEST_NAME, Dataset
from advisor.service.datasets.upload import receive
from advisor.service.problems import Problem, problem_responses

router = APIRouter(prefix="/v1", tags=["datasets"])
_UNNAMED = "records"
_LONGEST_JSON = 64_000  # bytes
_UNPACKED_AT_ONCE = 4
_unpacking: RunVar[CapacityLimiter] = RunVar("unpacking")  # so that readers' threads are not all taken by uploads
_ARCHIVES = (
    "application/zip", "application/x-zip-compressed", "application/x-tar", "application/gzip", "application/x-gzip",
    "application/x-bzip2", "application/x-xz", "application/octet-stream",
)  # fmt: skip
_BINARY = {"type": "string", "format": "binary"}


class FolderRequest(BaseModel):
    """A folder of records below the one that the operator lets be named."""

    model_config = ConfigDict(extra="forbid", strict=True)

    folder: str = Field(min_length=1, max_length=1000, description="Relative to --records-root.")
    name: str | None = Field(None, max_length=LONGEST_NAME)


class DatasetSummary(BaseModel):
    """A dataset. What the check counts is null until it has ended; ``problem`` says why a dataset was refused."""

    id: str
    name: str
    state: str = Field(description="checking, ready or refused")
    records: int | None
    unusable: int | None
    patients: int | None
    task: str | None
    classes: dict[str, int] | None
    unlabelled: int | None = Field(description="Usable records that have none of the labels.")
    created: str
    by: str
    bytes: int | None
    sha256: str | None = Field(description="Of the archive; null for a folder.")
    uploaded: bool = Field(description="Whether the service has the records; a folder of the operator's is only read.")
    folder: str | None = Field(description="The folder's name, for one of the operator's.")
    problem: str | None


class RecordProblem(BaseModel):
    """What is wrong with a record, or odd where it is usable all the same."""

    record: str
    problem: str
    usable: bool


class DatasetDetail(DatasetSummary):
    """A dataset with every problem of every record, and the groups of records with equal signals."""

    problems: list[RecordProblem]
    duplicates: list[list[str]]


class DatasetList(BaseModel):
    """All datasets, the newest first."""

    datasets: list[DatasetSummary]


class DeletedDataset(BaseModel):
    """What was deleted; ``records`` is false for a folder of the operator's, which stays as it is."""

    id: str
    name: str
    records: bool
    jobs: list[str]
    models: list[str]
    pilots: list[str]
    prepared: list[str]


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": _BINARY} for kind in _ARCHIVES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"archive": _BINARY, "name": {"type": "string", "maxLength": LONGEST_NAME}},
                    "required": ["archive"],
                }
            },
            "application/json": {"schema": FolderRequest.model_json_schema()},
        },
    }
}
_ERRORS = problem_responses(400, 409, 413, 415, 422, 429, 503, 507)
Name = Annotated[str | None, Query(max_length=LONGEST_NAME, description="What the dataset is called.")]


@router.post(
    "/datasets",
    status_code=202,
    responses={200: {"model": DatasetDetail, "description": "The same records are there already."}, **_ERRORS},
    openapi_extra=_BODY,
)
async def add_dataset(
    request: Request, response: Response, service: Here, caller: Runner, name: Name = None
) -> DatasetDetail:
    """Upload an archive (zip or tar) of records and their table, or name a folder; then a job checks every record."""
    dataset = await take(request, service, caller.name, name)
    response.status_code = 202 if dataset.state == CHECKING else 200
    response.headers["location"] = f"/v1/datasets/{dataset.id}"
    return detail(dataset)


@router.get("/datasets", responses=problem_responses())
def list_datasets(service: Here, _caller: Reader) -> DatasetList:
    """List the datasets, without the problems of single records."""
    return DatasetList(datasets=[summary(dataset) for dataset in service.datasets.list()])


@router.get("/datasets/{dataset}", responses=problem_responses(404))
def show_dataset(dataset: str, service: Here, _caller: Reader) -> DatasetDetail:
    """Return a dataset with all that its check found."""
    return detail(service.datasets.get(dataset))


@router.delete("/datasets/{dataset}", responses=problem_responses(404, 409, 503))
def delete_dataset(dataset: str, service: Here, _caller: Admin) -> DeletedDataset:
    """Delete a dataset with the jobs, pilots, prepared records and models that were made of it, and name them."""
    gone = service.datasets.delete(dataset)
    return DeletedDataset(
        id=gone.id, name=gone.name, records=gone.records, jobs=list(gone.jobs), models=list(gone.models),
        pilots=list(gone.pilots), prepared=list(gone.prepared),
    )  # fmt: skip


async def take(request: Request, service: Service, by: str, name: str | None = None) -> Dataset:
    """Take what a request brings, an archive or a folder's name, and have it checked. Raises Problem and UserError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        asked = await _read_folder(request)
        named = name or asked.name or asked.folder.strip("/").rpartition("/")[2] or _UNNAMED
        return await in_thread(partial(take_folder, service, asked.folder, named[:LONGEST_NAME], by))
    if kind not in (*_ARCHIVES, "multipart/form-data"):
        raise Problem(
            415, f"send an archive as one of {', '.join(_ARCHIVES)} or multipart/form-data, or a folder as JSON"
        )
    upload = await receive(request, service.store, service.settings)
    try:
        named = upload.name or name or _UNNAMED
        return await in_thread(partial(take_archive, service, upload.archive, named, by))
    finally:
        upload.archive.unlink(missing_ok=True)


def summary(dataset: Dataset) -> DatasetSummary:
    """Return what lists show of a dataset."""
    return DatasetSummary(**_plain(dataset))


def detail(dataset: Dataset) -> DatasetDetail:
    """Return all that is known of a dataset."""
    found = dataset.report
    noted = () if found is None else found.problems
    problems = [RecordProblem(record=one.record, problem=one.problem, usable=one.usable) for one in noted]
    duplicates = [] if found is None else [list(group) for group in found.duplicates]
    return DatasetDetail(**_plain(dataset), problems=problems, duplicates=duplicates)


def _plain(dataset: Dataset) -> dict[str, Any]:
    names = ("id", "name", "state", "created", "by", "bytes", "sha256", "uploaded", "problem")
    counted = ("records", "unusable", "patients", "task", "classes", "unlabelled")
    return {
        **{name: getattr(dataset, name) for name in names},
        **{name: getattr(dataset.report, name, None) for name in counted},
        "folder": dataset.source,
    }


async def _read_folder(request: Request) -> FolderRequest:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LONGEST_JSON:
                raise Problem(413, f"a folder's name is no longer than {_LONGEST_JSON:,} bytes")
        return FolderRequest.model_validate_json(bytes(body))
    except ClientDisconnect:
        raise Problem(400, "the request ended before it was complete") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise Problem(422, f"{where}: {first['msg']}") from None


def take_archive(service: Service, archive: Path, name: str, by: str) -> Dataset:
    """Take an archive that was received, and have it checked. Raises Problem and UserError."""
    return _checked(service, service.datasets.take_archive(archive, name, by), by)


def take_folder(service: Service, folder: str, name: str, by: str) -> Dataset:
    """Take a folder of the operator's, and have it checked. Raises Problem and UserError."""
    return _checked(service, service.datasets.take_folder(folder, name, by), by)


def _checked(service: Service, dataset: Dataset, by: str) -> Dataset:
    """Have a new dataset checked; where no job is taken, it is not either."""
    from advisor.service.jobs.kinds import CheckJob

    if dataset.state == CHECKING:
        try:
            service.jobs.submit(CheckJob(kind="check", dataset=dataset.id), by)
        except BaseException:
            service.datasets.give_back(dataset)
            raise
    return dataset


async def in_thread(do: Callable[[], Dataset]) -> Dataset:
    """Do what unpacks an archive or reads a folder where no reader waits for it."""
    try:
        limiter = _unpacking.get()
    except LookupError:
        limiter = CapacityLimiter(_UNPACKED_AT_ONCE)
        _unpacking.set(limiter)
    return await run_sync(do, limiter=limiter)
