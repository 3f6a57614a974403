"""A network that was trained on synthetic records, exported, and a store in which a job has made it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.responses import JSONResponse

from advisor.service.problems import MEDIA_TYPE, Problem
from advisor.service.routes import models
from advisor.service.served_models.library import Library
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from advisor.service.tokens import LOCAL, Caller
from engine.corpora.corpus import prepare
from engine.corpora.partition import divide
from engine.corpora.synthetic import Synthetic
from engine.deploy.export import export_checkpoint
from engine.recipes import find_recipe
from engine.records.record import LEADS
from engine.training.fit import Fit, fit
from models.errors import UserError

MADE, PUT = "m0123456789ab", "ward"  # the ids of a job's model and of the operator's


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model.onnx`` and its card, of a small network that has learnt something."""
    import torch

    folder, before = tmp_path_factory.mktemp("served"), torch.get_num_threads()
    torch.set_num_threads(1)
    corpus = prepare(Synthetic(700), folder / "corpus")[0]
    data = corpus.task("diagnosis")
    recipe = replace(find_recipe("tuned", "cnn", "scratch"), min_epochs=6, max_epochs=6, validations=2)
    fit(Fit(corpus, data, divide(corpus, data, 350, 0, 0.2), "resnet1d18-w4", "scratch", None, recipe, "cpu"),
        folder / "checkpoint")  # fmt: skip
    export_checkpoint(folder / "checkpoint", folder / "model.onnx")
    torch.set_num_threads(before)
    return folder


def draw(n: int, seed: int = 1) -> np.ndarray:
    """Return signals (records, leads, samples) of people whom no network here was trained or tested on."""
    source = Synthetic(n, seed)
    return np.stack([source.read(entry).signals for entry in source.entries()])


def npz(signals: np.ndarray, **changes: Any) -> bytes:
    """Return a file of many recordings that says what they are."""
    from io import BytesIO

    file = BytesIO()
    np.savez(file, **{"signals": signals, "fs": 100.0, "leads": np.array(LEADS), "unit": "mV", **changes})
    return file.getvalue()


@dataclass(frozen=True)
class Served:
    """An application with the routes of models alone, as somebody."""

    client: TestClient
    library: Library
    store: ServiceStore
    app: FastAPI

    def become(self, caller: Caller) -> None:
        self.app.state.caller = caller

    def predict(self, content: bytes, name: str = "records.npz", model: str = MADE) -> Any:
        url = f"/v1/models/{model}/predictions"
        return self.client.post(url, content=content, params={"name": name}, headers={"Content-Type": "application/x"})

    def counts(self) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.store.rows("SELECT * FROM intake")]


def build(store: ServiceStore, settings: Settings) -> Served:
    app, library = FastAPI(), Library(store, settings)
    app.include_router(models.router)
    app.state.service = SimpleNamespace(store=store, settings=settings, library=library)
    app.state.caller = LOCAL

    @app.middleware("http")
    async def somebody(request: Request, go_on):
        request.state.caller = app.state.caller
        return await go_on(request)

    def refused(_request: Request, error: Exception) -> JSONResponse:
        problem = error if isinstance(error, Problem) else Problem.of(error)
        return JSONResponse(problem.document(), problem.status, media_type=MEDIA_TYPE)

    app.add_exception_handler(Problem, refused)
    app.add_exception_handler(UserError, refused)
    return Served(TestClient(app, raise_server_exceptions=True), library, store, app)


@pytest.fixture
def served(trained: Path, tmp_path: Path) -> Iterator[Served]:
    """A service with one model that a job made, and the same file as the operator's."""
    store = ServiceStore(tmp_path / "store").open()
    for folder in (store.models / MADE, tmp_path / "operator"):
        folder.mkdir()
    for name in ("model.onnx", "MODEL_CARD.md"):
        shutil.copy(trained / name, store.models / MADE / name)
    shutil.copy(trained / "model.onnx", tmp_path / "operator" / f"{PUT}.onnx")
    with store.transaction() as db:
        db.execute("INSERT INTO jobs (id, kind, key, model, request, state, created, by) "
                   "VALUES ('j1', 'export', 'k', ?, '{}', 'done', '2026-11-28T00:00:00.000Z', 'somebody')",
                   (MADE,))  # fmt: skip
    yield build(store, Settings(store.root, models=tmp_path / "operator", max_prediction_mb=20.0, min_free_mb=0.0))
    store.close()
