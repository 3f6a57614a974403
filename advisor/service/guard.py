"""What every request passes before any route sees it: host, origin, size, caller; and what every answer carries.

Another site's page must not act through a visitor's browser: a request that changes something is refused where the
browser says that it comes from elsewhere (``Sec-Fetch-Site``, else ``Origin`` against ``Host``), and names that are not
this machine's are refused (DNS rebinding). Source: OWASP's CSRF prevention, "Fetch Metadata headers".
"""

import json
import re
import socket
import time
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from anyio import fail_after
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from advisor.service.access import Service
from advisor.service.audit import ids_in
from advisor.service.pages.rendering import error_page
from advisor.service.problems import MEDIA_TYPE, Problem
from advisor.service.settings import MEGABYTE
from advisor.service.tokens import LOCAL, Caller, Role
from models.errors import UserError

COOKIE = "ecgadvise_session"
_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/health", "/login")
_QUIET = ("/health", "/ready", "/metrics", "/static/{file}")  # not in the audit log
_NOBODY = "-"
_LENGTH = re.compile(r"[0-9]{1,15}")  # a petabyte is too large for every limit
_MADE = re.compile(r"/(dataset|job|model)s/([djm][0-9a-f]{12})$")  # in an answer's Location
_ABOUT = re.compile(r"(?:^|&)data=(d[0-9a-f]{12})(?:&|$)")
_SECONDS, _STRANGERS_SECONDS = 120.0, 10.0  # that a request's body may stand still; of whom nobody knows
_PLAIN_MB = 1.0  # of a body that is no upload
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._names = {"localhost", socket.gethostname().lower(), socket.getfqdn().lower(),
                       service.settings.host.lower(), *map(str.lower, service.settings.allow_hosts)}  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that it is not allowed."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no others
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):  # those do not end by themselves
            scope = {**scope, "method": "GET"}  # the server leaves the body out: it knows what was asked
        seen = _Seen()

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                seen.note(message["status"], headers.get("location", ""))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        scope.setdefault("state", {})
        try:
            try:
                caller = scope["state"]["caller"] = self._admit(request)
                scope["state"]["is_admitted"] = lambda: self._is_admitted(request, caller)
            except Problem as problem:
                await refusal(request, problem)(scope, receive, answered)
            else:
                await self._app(scope, self._limited(request, receive), answered)
        finally:
            self._note(scope, seen)

    def _admit(self, request: Request) -> Caller:
        self._check_host(request.headers)
        if request.method not in _SAFE:
            _check_origin(request.headers)
        length = request.headers.get("content-length", "0")
        if not _LENGTH.fullmatch(length) or int(length) > self._limit(request) * MEGABYTE:
            raise self._too_large(request)
        try:
            return self._find_caller(request)
        except UserError as error:  # the store cannot be read
            raise Problem.of(error) from None

    def _is_admitted(self, request: Request, caller: Caller) -> bool:
        """Whether whoever was admitted would be still: what goes on for hours ends with its token or session."""
        try:
            return self._find_caller(request) == caller
        except Problem:
            return False

    def _check_host(self, headers: Headers) -> None:
        host = _name_of(headers.get("host", ""))
        if host not in self._names and not _is_address(host):
            raise Problem(
                421, "this name of the service is not known to it: the operator adds names by --allow-host", "forbidden"
            )

    def _find_caller(self, request: Request) -> Caller:
        tokens = self._service.tokens
        if not tokens.are_needed:
            return LOCAL
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            caller = tokens.find(token.strip())
        else:
            held = request.cookies.get(COOKIE)
            caller = None if held is None else tokens.find_session(held)
        if caller is not None:
            return caller
        if request.url.path in _OPEN or request.url.path.startswith("/static/"):
            return Caller(_NOBODY, Role.NOBODY)
        said = "this token is not known or has expired" if scheme else "give a token: Authorization: Bearer TOKEN"
        raise Problem(401, said, headers={"www-authenticate": 'Bearer realm="ecgadvise"'})

    def _limit(self, request: Request) -> float:
        settings, path = self._service.settings, request.url.path
        if path in ("/v1/datasets", "/datasets"):
            return settings.max_upload_mb + _PLAIN_MB  # a form's own lines come on top
        if path.removeprefix("/v1").startswith("/models/") and path.endswith("/predictions"):
            return settings.max_prediction_mb + _PLAIN_MB
        return _PLAIN_MB

    def _too_large(self, request: Request) -> Problem:
        limit, path = self._limit(request), request.url.path
        if path.removeprefix("/v1").startswith("/models/"):
            name = "--max-prediction-mb (ECGADVISE_MAX_PREDICTION_MB)"
        elif "datasets" in path:
            name = "--max-upload-mb (ECGADVISE_MAX_UPLOAD_MB)"
        else:
            return Problem(413, f"the request is larger than the {limit:g} MB that such a one may have")
        return Problem(413, f"the upload is larger than {name} allows, {limit - _PLAIN_MB:g} MB")

    def _limited(self, request: Request, receive: Receive) -> Receive:
        """Count what comes, whatever was announced, and wait for the next piece of it only so long."""
        most, taken, is_whole = self._limit(request) * MEGABYTE, 0, False
        patience = _STRANGERS_SECONDS if request.state.caller.role is Role.NOBODY else _SECONDS

        async def counted() -> Message:
            nonlocal taken, is_whole
            if is_whole:  # what comes now is that the client goes away
                return await receive()
            try:
                with fail_after(patience):
                    message = await receive()
            except TimeoutError:
                raise Problem(408, f"the request stood still for {patience:g} seconds") from None
            is_whole = not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > most:
                raise self._too_large(request)
            return message

        return counted

    def _note(self, scope: Scope, seen: "_Seen") -> None:
        route = _route(scope)
        self._service.metrics.count(_method(scope), route, seen.status, seen.seconds)
        if route in _QUIET:
            return
        caller: Caller | None = scope["state"].get("caller")
        client = scope.get("client")
        name = _NOBODY if caller is None else caller.name
        found = {**ids_in(scope.get("path_params", {})), **_made(seen.location), **_asked_about(scope)}
        self._service.audit.write(name, _method(scope), route, seen.status, client[0] if client else _NOBODY, **found)


class _Seen:
    """What became of a request: its status, when the answer began, and where what it made is."""

    def __init__(self) -> None:
        self.status, self.location = 500, ""
        self._began = time.perf_counter()
        self._answered: float | None = None

    def note(self, status: int, location: str) -> None:
        """Take what the answer begins with."""
        self.status, self.location, self._answered = status, location, time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds until the answer began, or the request ended without one."""
        return (self._answered or time.perf_counter()) - self._began


def _made(location: str) -> dict[str, str]:
    """Return the id of what a request made, by what it is."""
    found = _MADE.search(location)
    return {} if found is None else {found[1]: found[2]}


def _asked_about(scope: Scope) -> dict[str, str]:
    """Return the dataset that a question is about."""
    found = _ABOUT.search(scope.get("query_string", b"").decode("latin-1"))
    return {} if found is None else {"dataset": found[1]}


def refusal(request: Request, problem: Problem) -> Response:
    """Return a problem as the caller reads it: as a page or not; a page's visitor without a token is sent to log in."""
    if not request.url.path.startswith("/v1/") and _wants_page(request.headers):
        if problem.status == 401:
            return RedirectResponse("/login", 303)
        request.scope["state"].setdefault("caller", Caller(_NOBODY, Role.NOBODY))
        return error_page(request, problem)
    return Response(json.dumps(problem.document()), problem.status, problem.headers, MEDIA_TYPE)


def _check_origin(headers: Headers) -> None:
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    elif origin is not None:
        is_ours = origin.partition("://")[2].lower() == headers.get("host", "").lower() != ""
    else:  # no browser: nobody else's cookie is in it
        is_ours = "cookie" not in headers
    if not is_ours:
        raise Problem(403, "this request comes from another site's page: it may change nothing here")


def _wants_page(headers: Mapping[str, str]) -> bool:
    return "text/html" in headers.get("accept", "")


def _name_of(host: str) -> str:
    """Return the name in a Host header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _route(scope: Scope) -> str:
    """Return a request's route as documented, also of one that was refused before its route was looked for.

    Paths that are no route's are one, or they would be without number.
    """
    route = scope.get("route") or next((one for one in _routes(scope) if one.matches(scope)[0] is Match.FULL), None)
    path: Any = getattr(route, "path_format", None) or getattr(route, "path", None)
    return str(path) if path else "unknown"


def _routes(scope: Scope) -> Iterable[BaseRoute]:
    routes: Iterable[BaseRoute] = getattr(scope.get("app"), "routes", ())
    return routes


def _method(scope: Scope) -> str:
    known: Iterable[str] = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
