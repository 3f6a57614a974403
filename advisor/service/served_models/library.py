"""The models that the service has: those that its jobs made, and those that the operator put into a folder.

An id is one of a listing, and never joined to a path. A model that cannot be opened is listed with the reason.
"""

import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from advisor.service.problems import Problem
from advisor.service.served_models.intake import forget
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore, new_id
from engine.deploy.inference import Model, ModelError, open_model
from engine.deploy.model_facts import ModelFacts
from engine.files import file_sha256

MODEL, CARD = "model.onnx", "MODEL_CARD.md"  # as ``ecgadvise export`` names them
_MOST_OPEN = 4  # sessions that are kept
_THREADS = 1  # of one prediction: several go on at a time, next to the answers

Origin = Literal["job", "operator"]


@dataclass(frozen=True)
class ServedModel:
    """What is said of a model; where its file is damaged, ``problem`` is the reason, and what only it knows is null.

    ``origin`` is ``job`` for one that ``job`` made, else ``operator``. ``fs`` is in hertz.
    """

    id: str
    file: str
    origin: Origin
    job: str | None = None
    problem: str | None = None
    name: str | None = None
    arch: str | None = None
    task: str | None = None
    classes: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    strategy: str | None = None
    upstream: str | None = None
    n_records: int | None = None
    created: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None
    intended_use: str | None = None
    leads: tuple[str, ...] = ()
    fs: float | None = None
    seconds: float | None = None
    bytes: int | None = None
    sha256: str | None = None
    has_card: bool = False


@dataclass(frozen=True)
class Opened:
    """A model to predict with. Threads may share it."""

    served: ServedModel
    model: Model

    @property
    def facts(self) -> ModelFacts:
        """What the file says of itself."""
        return self.model.facts

    @property
    def intake(self) -> str:
        """Under which name it is counted what this file was given: another file of the same id has another."""
        return intake_name(self.served)


def intake_name(served: ServedModel) -> str:
    """Return the name under which is counted what a model's file was given."""
    return f"{served.id}/{(served.sha256 or '')[:16]}"


@dataclass(frozen=True)
class _File:
    """A model's file, as it was found: ``state`` changes when it does."""

    id: str
    path: Path
    origin: Origin
    has_card: bool

    @property
    def state(self) -> tuple[str, int, int]:
        found = self.path.stat()
        return str(self.path), found.st_mtime_ns, found.st_size


class Library:
    """The models of a store and of the operator's folder, opened when they are asked for."""

    def __init__(self, store: ServiceStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._opened: OrderedDict[tuple[str, int, int], Model] = OrderedDict()
        self._described: dict[tuple[str, int, int], ServedModel] = {}
        self._kept = threading.Lock()  # over both
        self._opening = threading.Lock()  # so that many requests for a model open it once

    def list(self) -> "list[ServedModel]":
        """Return every model, by id."""
        jobs = self._jobs()
        found = (self._describe(one, jobs) for one in self._files().values())
        return [one for one in found if one is not None]

    def get(self, model: str) -> ServedModel:
        """Return what is said of a model. Raises Problem: 404 where there is none, 422 where it is damaged."""
        described = self._describe(self._file(model), self._jobs())
        if described is None:
            raise _no_model()
        if described.problem is not None:
            raise Problem(422, described.problem, "data")
        return described

    def open(self, model: str) -> Opened:
        """Return a model to predict with. Raises Problem as ``get`` does."""
        served, file = self.get(model), self._file(model)
        try:
            return Opened(served, self._session(file))
        except OSError:
            raise _no_model() from None
        except ModelError as error:  # damaged since it was described
            raise Problem(422, _without_folder(error, file), "data") from None

    def content(self, model: str) -> BinaryIO:
        """Return the ONNX file, opened: it stays whole should the model be replaced or deleted meanwhile.

        Raises Problem as ``get`` does.
        """
        self.get(model)
        try:
            return self._file(model).path.open("rb")
        except OSError:
            raise _no_model() from None

    def card(self, model: str) -> str:
        """Return the model card. Raises Problem 404 where there is none."""
        file = self._file(model)
        if not file.has_card:
            raise Problem(404, "this model has no card: ecgadvise export writes one next to the model")
        try:
            return file.path.with_name(CARD).read_bytes().decode(errors="replace")
        except OSError:
            raise _no_model() from None

    def delete(self, model: str) -> None:
        """Remove a model that a job made, and what was counted for it.

        Raises Problem: 404 where there is none, 409 for the operator's, and while a job works on it.
        """
        if model not in self._made():
            self._file(model)
            raise Problem(409, "the operator put this model there: remove its file from the folder of --models")
        self._let_go(model)
        removed = self._store.incoming / new_id("r")  # at once, and emptied at the next start should this end here
        try:
            self._made()[model].rename(removed)
        except (OSError, KeyError):
            raise _no_model() from None
        with self._store.transaction() as db:
            forget(db, model)
        shutil.rmtree(removed, ignore_errors=True)

    def _let_go(self, model: str) -> None:
        """Have the work that made a model be new work when it is asked for again. Raises Problem while a job works.

        Before the model goes: a server that dies in between leaves a model that is made twice, not one that never is.
        """
        with self._store.transaction() as db:
            working = "SELECT id FROM jobs WHERE model = ? AND state IN ('queued', 'running')"
            if (job := db.execute(working, (model,)).fetchone()) is not None:
                raise Problem(409, f"the job {job['id']} works on this model: cancel it, or wait for its end")
            db.execute("UPDATE jobs SET key = '' WHERE model = ?", (model,))

    def _file(self, model: str) -> _File:
        files = self._files()
        if model not in files:
            raise _no_model()
        return files[model]

    def _files(self) -> dict[str, _File]:
        """Return the file of every model, by id; of two with one id the one that a job made."""
        made = {
            one.name: _File(one.name, one / MODEL, "job", (one / CARD).is_file())
            for one in self._made().values()
            if (one / MODEL).is_file()
        }
        folder = self._settings.models
        put = sorted(folder.glob("*.onnx")) if folder is not None else []
        card = len(put) == 1 and (put[0].with_name(CARD)).is_file()  # of several nobody knows whose it is
        given = {one.stem: _File(one.stem, one, "operator", card) for one in put if one.is_file()}
        return dict(sorted({**given, **made}.items()))

    def _made(self) -> dict[str, Path]:
        """Return the folder of every model that a job made or makes."""
        return {one.name: one for one in self._store.models.iterdir() if one.is_dir() and not one.is_symlink()}

    def _jobs(self) -> dict[str, str]:
        """Return the job that made each model, the last of several."""
        query = "SELECT model, id FROM jobs WHERE model IS NOT NULL AND kind IN ('train', 'export') ORDER BY created"
        return {row["model"]: row["id"] for row in self._store.rows(query)}

    def _describe(self, file: _File, jobs: Mapping[str, str]) -> ServedModel | None:
        """Return what is said of a file, None where it has gone meanwhile."""
        job = jobs.get(file.id) if file.origin == "job" else None
        try:
            state = file.state
            with self._kept:
                known = self._described.get(state)
            if known is None or (known.job, known.has_card) != (job, file.has_card):
                known = self._newly_described(file, job)
        except OSError:
            return None
        if known.problem is None:  # a file that could not be read may be readable the next time
            with self._kept:
                self._described[state] = known
        return known

    def _newly_described(self, file: _File, job: str | None) -> ServedModel:
        try:
            facts = self._session(file).facts
        except ModelError as error:
            return ServedModel(file.id, file.path.name, file.origin, job, _without_folder(error, file))
        same = ("arch", "task", "classes", "thresholds", "strategy", "upstream", "n_records", "created", "metrics",
                "licence", "intended_use", "leads", "fs")  # fmt: skip
        return ServedModel(
            file.id, file.path.name, file.origin, job, name=f"{facts.arch} for {facts.task}",
            seconds=facts.contract.seconds, bytes=file.path.stat().st_size, sha256=file_sha256(file.path),
            has_card=file.has_card, **{name: getattr(facts, name) for name in same},
        )  # fmt: skip

    def _session(self, file: _File) -> Model:
        """Return the opened model of a file; the last few are kept. Raises ModelError and OSError."""
        state = file.state
        if (kept := self._still_open(state)) is not None:
            return kept
        with self._opening:
            if (kept := self._still_open(state)) is not None:
                return kept
            model = open_model(file.path, threads=_THREADS)
            with self._kept:
                self._opened[state] = model
                while len(self._opened) > _MOST_OPEN:
                    self._opened.popitem(last=False)
            return model

    def _still_open(self, state: tuple[str, int, int]) -> Model | None:
        with self._kept:
            if state in self._opened:
                self._opened.move_to_end(state)
            return self._opened.get(state)


def _no_model() -> Problem:
    return Problem(404, "there is no model of that id: GET /v1/models lists them")


def _without_folder(error: ModelError, file: _File) -> str:
    """Return the sentence with the file's name alone: where the operator keeps it is nobody's business."""
    return str(error).replace(str(file.path), file.path.name)
