"""The pages: complete without a script, where forms post and are sent on; logging in, and what pages load."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from advisor.service.access import Here, Service
from advisor.service.guard import COOKIE
from advisor.service.pages import ask, datasets, jobs, models
from advisor.service.pages.rendering import assets, render
from advisor.service.problems import Problem

router = APIRouter(include_in_schema=False)
for _group in (ask, datasets, jobs, models):
    router.include_router(_group.router)
_FOREVER = "public, max-age=31536000, immutable"


@router.get("/static/{file}")
async def static(request: Request, file: str) -> Response:
    """Return a file that pages load; a browser keeps it where its version was asked for."""
    asset = assets().get(file)
    if asset is None:
        raise Problem(404, "there is nothing at this address")
    is_this = request.query_params.get("v") == asset.version
    headers = {"cache-control": _FOREVER} if is_this else {}
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@router.get("/login", response_class=HTMLResponse)
async def login(request: Request) -> Response:
    """Ask for a token."""
    return render(request, "login.html", problem=None)


@router.post("/login", response_class=HTMLResponse)
def log_in(request: Request, service: Here, token: Annotated[str, Form()] = "") -> Response:
    """Begin a session for whoever gives a token, and forget the token."""
    caller = service.tokens.find(token.strip())
    if caller is None:
        return render(request, "login.html", 401, problem="this token is not known or has expired.")
    request.state.caller = caller  # for the audit log
    held, seconds = service.tokens.begin_session(token.strip())
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE, held, max_age=seconds, path="/", secure=_is_encrypted(request, service), httponly=True,
        samesite="strict",
    )  # fmt: skip
    return answer


@router.post("/logout")
def log_out(request: Request, service: Here) -> Response:
    """End the session."""
    if (held := request.cookies.get(COOKIE)) is not None:
        service.tokens.end_session(held)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _is_encrypted(request: Request, service: Service) -> bool:
    """Whether the browser speaks TLS, with the service or with what stands before it."""
    return (
        service.settings.has_tls or request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    )
