"""A service of each test's own, and clients of it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from advisor.service.access import Service
from advisor.service.app import build_app, close_service, open_service
from advisor.service.settings import Settings

BASE = "http://127.0.0.1:8712"
AS_BROWSER = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def open_client(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Open a service with settings of the test's, and return a client; the service is its ``app.state.service``."""
    opened: list[tuple[TestClient, Service]] = []

    def open_it(**settings: object) -> TestClient:
        folder = tmp_path / f"service-{len(opened)}"
        service = open_service(Settings(folder, **{"min_free_mb": 0.0, **settings}))
        client = TestClient(build_app(service), base_url=BASE, follow_redirects=False)
        client.__enter__()
        opened.append((client, service))
        return client

    yield open_it
    for client, service in opened:
        client.__exit__(None, None, None)
        close_service(service)


@pytest.fixture
def client(open_client: Callable[..., TestClient]) -> TestClient:
    """A client of a service on this machine, which takes no token."""
    return open_client()


@pytest.fixture
def open_pages(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Open a service whose jobs are written down and never begun: nothing changes but what a test does."""
    opened: list[Service] = []

    def open_it(**settings: object) -> TestClient:
        service = open_service(Settings(tmp_path / f"service-{len(opened)}", **{"min_free_mb": 0.0, **settings}))
        opened.append(service)
        return TestClient(build_app(service), base_url=BASE, follow_redirects=False, headers=AS_BROWSER)

    yield open_it
    for service in opened:
        close_service(service)


@pytest.fixture
def pages(open_pages: Callable[..., TestClient]) -> TestClient:
    return open_pages()


@pytest.fixture
def until() -> Callable[..., None]:
    """Do something again and again until a condition holds."""

    def wait(holds: Callable[[], bool], do: Callable[[], object] = lambda: None, seconds: float = 60.0) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, "it never came to that"
            do()
            time.sleep(0.02)

    return wait
