"""``ecgadvise serve``: the analysis service, on this machine or for those who have a token."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.terminal.lines import say

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from advisor.service.access import Service
    from advisor.service.settings import Settings

EXAMPLE = "Example: ecgadvise serve --demo"
_CONNECTIONS = 2000  # more are answered that it is too busy
_STOPS_IN = 5  # seconds for requests in flight, when the server is asked to end


class Role(StrEnum):
    """What a token's owner may do."""

    READER = "reader"
    RUNNER = "runner"
    ADMIN = "admin"


def serve(
    host: Annotated[str, typer.Option(envvar="ECGADVISE_HOST", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="ECGADVISE_PORT", help="Port to listen at; 0 takes a free one.")
    ] = 8712,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="ECGADVISE_SERVICE", help="Folder that keeps all. [default: user data]"),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="ECGADVISE_TOKENS", help="File of tokens, each with its role."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", envvar="ECGADVISE_ALLOW_HOST", help="Name that browsers know this service by."),
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", envvar="ECGADVISE_TLS_CERTIFICATE", help="Certificate, to speak TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", envvar="ECGADVISE_TLS_KEY", help="The certificate's key.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(metavar="FILE", envvar="ECGADVISE_CURVES", help="Curves file. [default: what ships]")
    ] = None,
    records_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="ECGADVISE_RECORDS_ROOT", help="Folder below which datasets may be named."),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar="ECGADVISE_MODELS", help="Folder of further ONNX models.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="ECGADVISE_SCHEDULER", help="Dask scheduler for pilots and studies."),
    ] = None,
    jobs_at_once: Annotated[
        int, typer.Option(min=1, max=100, envvar="ECGADVISE_JOBS_AT_ONCE", help="Jobs that run side by side.")
    ] = 1,
    max_jobs_waiting: Annotated[
        int, typer.Option(min=1, max=100_000, envvar="ECGADVISE_MAX_JOBS_WAITING", help="Jobs that may wait.")
    ] = 100,
    max_job_minutes: Annotated[
        float, typer.Option(min=0.1, max=1e6, envvar="ECGADVISE_MAX_JOB_MINUTES", help="How long a job may run.")
    ] = 1440.0,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.1, max=1e7, envvar="ECGADVISE_MAX_UPLOAD_MB", help="Megabytes of an upload.")
    ] = 2000.0,
    max_unpacked_mb: Annotated[
        float, typer.Option(min=0.1, max=1e7, envvar="ECGADVISE_MAX_UNPACKED_MB", help="Megabytes of it unpacked.")
    ] = 8000.0,
    max_files: Annotated[
        int, typer.Option(min=1, max=10**8, envvar="ECGADVISE_MAX_FILES", help="Files in an upload.")
    ] = 200_000,
    max_prediction_mb: Annotated[
        float, typer.Option(min=0.1, max=1e6, envvar="ECGADVISE_MAX_PREDICTION_MB", help="Megabytes to predict for.")
    ] = 50.0,
    min_free_mb: Annotated[
        float, typer.Option(min=0, max=1e9, envvar="ECGADVISE_MIN_FREE_MB", help="Megabytes of disk kept free.")
    ] = 1000.0,
    session_hours: Annotated[
        float, typer.Option(min=0.01, max=1e4, envvar="ECGADVISE_SESSION_HOURS", help="How long a login holds.")
    ] = 12.0,
    audit_mb: Annotated[
        float, typer.Option(min=0.01, max=1e5, envvar="ECGADVISE_AUDIT_MB", help="Megabytes of an audit log file.")
    ] = 10.0,
    audit_files: Annotated[
        int,
        typer.Option(min=1, max=10_000, envvar="ECGADVISE_AUDIT_FILES", help="Audit log files that are kept."),
    ] = 10,
    demo: Annotated[
        bool, typer.Option("--demo", help="Add synthetic records, and start a pilot of a minute on them.")
    ] = False,
    new_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a token for the file of --tokens, and end.")
    ] = None,
    role: Annotated[Role, typer.Option(help="What the new token is for.")] = Role.READER,
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The new token's last day. [default: never]")
    ] = None,
) -> None:
    """Serve answers, pilots, trainings and predictions over HTTP, with a page: on this machine, or to whom has a token.

    ECGADVISE_TOKEN is a token that may do everything; it has no option, because others see a command's words.
    """
    _check_runnable()
    from advisor.service.settings import Settings

    if new_token is not None:
        _print_token(new_token, role, expires)
        return
    settings = Settings(
        store or _default_store(), host, port, os.environ.get("ECGADVISE_TOKEN") or None, tokens,
        tuple(allow_host or ()), tls_certificate, tls_key, curves, records_root, models, scheduler, jobs_at_once,
        max_jobs_waiting, max_job_minutes, max_upload_mb, max_unpacked_mb, max_files, max_prediction_mb, min_free_mb,
        session_hours, audit_mb, audit_files,
    )  # fmt: skip
    _serve(settings, demo)


def _default_store() -> Path:
    from platformdirs import user_data_path

    return user_data_path("ecgadvise") / "service"


def _check_runnable() -> None:
    """Raise Failure where the service cannot run: on Windows, and without its packages."""
    from importlib.util import find_spec

    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    if sys.platform == "win32":
        raise Failure(
            "the service does not run on Windows, which lacks the locks and signals that jobs need: use WSL",
            ExitCode.FAILURE,
        )
    needed = {"fastapi": "fastapi", "uvicorn": "uvicorn", "jinja2": "jinja2", "prometheus_client": "prometheus-client",
              "python_multipart": "python-multipart"}  # fmt: skip
    if missing := [package for module, package in needed.items() if find_spec(module) is None]:
        raise Failure(f"the service needs {', '.join(missing)}: pip install 'ecgadvise[service]'", ExitCode.FAILURE)


def _print_token(name: str, role: Role, expires: datetime | None) -> None:
    from advisor.service import tokens

    token, table = tokens.new_token(name, tokens.Role[role.name], None if expires is None else expires.date())
    typer.echo(f"the token, which is shown this once: {token}", err=True)  # no remark: it is what was asked for
    typer.echo(table)


def _serve(settings: "Settings", demo: bool) -> None:
    from advisor.service.app import build_app, close_service, open_service
    from advisor.terminal.failures import Interrupted

    _check_tls(settings)
    _allow_files()
    with _for_the_owner_alone(), _listen(settings) as listening:
        service = open_service(settings)
        try:
            if demo:
                from advisor.service.demo import add_demo
                from advisor.terminal.progress.bar import at_work

                with at_work("writing synthetic records"):
                    added = add_demo(service)
                say(added)
            _say_where(service, listening)
            _run(build_app(service), settings, listening)
        except KeyboardInterrupt:
            raise Interrupted("jobs go on when the same command is given again") from None
        finally:
            close_service(service)


@contextmanager
def _for_the_owner_alone() -> Iterator[None]:
    """Let nobody else read what this process and its jobs write: it is of patients."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _allow_files() -> None:
    """Let this process open as many files as it may: a connection is one."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(settings: "Settings") -> "socket.socket":
    """Return the socket to listen at, before anything is opened. Raises Failure."""
    import socket

    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        # Not create_server, whose sockets say no protocol: asyncio then leaves Nagle's algorithm on, which holds back
        # every answer on a connection that is kept for 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((settings.host, settings.port))
            listening.listen(1024)
        except BaseException:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise Failure(
            f"cannot listen at {settings.host}, port {settings.port} (--host, --port): {error.strerror}",
            ExitCode.FAILURE,
        ) from None


def _say_where(service: "Service", listening: "socket.socket") -> None:
    """Say where the service is, and what the operator should know of it."""
    settings = service.settings
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"ecgadvise serves http{'s' * settings.has_tls}://{host}:{listening.getsockname()[1]} (Ctrl-C ends it)")
    say(f"it keeps everything in {service.store.root}")
    if not settings.is_local and not settings.has_tls:
        say("without --tls-certificate, tokens and records cross the network as they are: put a TLS proxy before it")


def _run(app: "FastAPI", settings: "Settings", listening: "socket.socket") -> None:
    """Serve until Ctrl-C, which is raised as KeyboardInterrupt, or SIGTERM. Raises Failure."""
    import signal
    from types import FrameType

    import uvicorn

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)  # not the end at once that would leave nothing tidied

    signal.signal(signal.SIGTERM, end)
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, proxy_headers=False, ws="none",
        timeout_graceful_shutdown=_STOPS_IN, limit_concurrency=_CONNECTIONS, ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def _check_tls(settings: "Settings") -> None:
    """Raise Failure for a certificate and key that do not work, before anything is begun."""
    import ssl

    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise Failure("--tls-certificate and --tls-key go together", ExitCode.USAGE)
    for file in (certificate, key):
        if not file.is_file():
            raise Failure(f"cannot use {file} for TLS: there is no such file", ExitCode.USAGE)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        named = f"{certificate} and {key}"
        raise Failure(f"cannot use {named} for TLS: {error.strerror or error}", ExitCode.USAGE) from None
