"""The pages of models: all of them, one with its facts and what it was given, and its predictions for an upload."""

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from advisor.service.access import Here, Reader, Runner, Service
from advisor.service.pages.rendering import render
from advisor.service.problems import Problem
from advisor.service.routes.models import predict_records
from advisor.service.served_models import intake
from advisor.service.served_models.drift import drift
from advisor.service.served_models.library import ServedModel
from studies.files.arms import IN_WORDS

router = APIRouter(include_in_schema=False)
_SHOWN = 200  # records
_FACTS = {
    "arch": "network", "task": "task", "strategy": "trained", "upstream": "pre-trained on", "n_records": "records",
    "created": "made", "intended_use": "intended use", "licence": "licence", "file": "file", "sha256": "SHA-256",
}  # fmt: skip


@router.get("/models", response_class=HTMLResponse)
def list_models(request: Request, service: Here, _caller: Reader) -> Response:
    """Show all models."""
    return render(request, "models.html", models=service.library.list(), strategies=IN_WORDS)


@router.get("/models/{model}", response_class=HTMLResponse)
def show(request: Request, service: Here, _caller: Reader, model: str) -> Response:
    """Show a model, with a form for records."""
    return _shown(request, service, model)


@router.post("/models/{model}/predictions", response_class=HTMLResponse)
async def predict(request: Request, service: Here, caller: Runner, model: str) -> Response:
    """Show what a model says of records that a form brings."""
    try:
        answer = await predict_records(model, request, service, caller)
    except Problem as problem:
        found = {"problem": problem.detail, "failed": problem.members.get("failed", ())}
        return await run_in_threadpool(_shown, request, service, model, problem.status, **found)
    document = json.loads(bytes(answer.body))
    return await run_in_threadpool(_shown, request, service, model, predicted=document)


def _shown(
    request: Request, service: Service, model: str, status: int = 200, *, predicted: dict[str, Any] | None = None,
    problem: str | None = None, failed: Any = (),
) -> HTMLResponse:  # fmt: skip
    opened = service.library.open(model)
    served = opened.served
    return render(
        request, "model.html", status, model=served, facts=_facts(served), predicted=predicted, problem=problem,
        failed=(predicted or {}).get("failed", failed)[:_SHOWN], shown=_SHOWN,
        drift=drift(served.id, opened.facts, intake.read(service.store, opened.intake)),
    )  # fmt: skip


def _facts(served: ServedModel) -> list[tuple[str, str]]:
    found = {words: getattr(served, name) for name, words in _FACTS.items()}
    found |= {"trained": IN_WORDS.get(served.strategy or "", served.strategy), "made": (served.created or "")[:10]}
    rows = [(words, f"{value:,}" if isinstance(value, int) else str(value)) for words, value in found.items() if value]
    signal = (
        f"{', '.join(served.leads)}; {served.seconds:g} s at {served.fs:g} Hz" if served.fs and served.seconds else ""
    )
    return [*rows, *([("signal", signal)] if signal else []), *_scores(served)]


def _scores(served: ServedModel) -> list[tuple[str, str]]:
    """Return the scores on the test records, with their intervals where the model has them."""
    score = served.metrics.get("auroc_macro")
    if not isinstance(score, int | float):
        return []
    low, high = (served.metrics.get(f"auroc_macro_ci_{side}") for side in ("lower", "upper"))
    band = f" (90 %: {low:.3f} to {high:.3f})" if isinstance(low, float) and isinstance(high, float) else ""
    return [("macro AUROC on its test records", f"{score:.3f}{band}")]
