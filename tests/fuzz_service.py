"""Requests that no client would send, and those that the OpenAPI document allows: none of them may end in a 5xx defect.

python tests/fuzz_service.py [--requests 10000] [--seed 0]

Of each route both what its schema allows and what it forbids is generated (schemathesis, hypothesis), and requests that
are no route's at all. Answers must be below 500, or 503 and 507 with a problem document: those say that something is
not there just now.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from starlette.testclient import TestClient

from advisor.service.access import Service
from advisor.service.app import build_app, close_service, open_service
from advisor.service.jobs.kinds import CheckJob
from advisor.service.problems import MEDIA_TYPE
from advisor.service.settings import Settings

BASE = "http://127.0.0.1:8712"
_SAID = (503, 507)  # with a problem document: what the service needs is not there just now
_PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=60)
_METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
_TYPES = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "x"]


@dataclass
class Seen:
    """What came back: how often each status, by route, and what should not have."""

    statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    def judge(self, what: str, status: int, media_type: str, body: str) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.routes[what.partition("?")[0]] += 1
        if status >= 500 and not (status in _SAID and media_type == MEDIA_TYPE):
            self.defects.append(f"{what}: {status} {body[:300]}")
        if status >= 400 and media_type != MEDIA_TYPE and "html" not in media_type:
            self.defects.append(f"{what}: {status} is not a problem document but {media_type!r}")


def _run(test: Callable[..., None], strategy: Any, n: int, number: int) -> None:
    """Call a test with ``n`` generated values, the same for the same ``number``."""
    chosen = settings(
        max_examples=n, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate], verbosity=Verbosity.quiet,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hypothesis's and schemathesis's own
        seed(number)(chosen(given(strategy)(test)))()


def fuzz(settings_of: Settings, requests: int, number: int) -> Seen:
    """Send about so many requests to a service of these settings."""
    seen, service = Seen(), open_service(settings_of)
    try:
        app = build_app(service)
        with TestClient(app, base_url=BASE, raise_server_exceptions=False, follow_redirects=False) as client:
            schema = schemathesis.openapi.from_dict(app.openapi())
            operations = [one.ok() for one in schema.get_all_operations() if "/events" not in one.ok().path]
            operations.sort(key=lambda one: one.method == "delete")  # last: what is there is needed by the others
            known = _fill(service)
            rounds = [(one, mode, named) for one in operations for mode in schemathesis.GenerationMode
                      for named in _names_in(one.path, known)]  # fmt: skip
            each = max(1, round(0.9 * requests / len(rounds)))
            for operation, mode, named in rounds:
                _fuzz_operation(client, operation, mode, named, each, number, seen)
            while (left := requests - seen.statuses.total()) > 0:
                number += 1
                _fuzz_anything(client, left, number, seen)
    finally:
        close_service(service)
    return seen


def _names_in(path: str, known: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what a path's parameters are to be: anything, and what is there."""
    there = {name: value for name, value in known.items() if f"{{{name}}}" in path}
    return [{}, there] if there else [{}]


def _fill(service: Service) -> dict[str, str]:
    """Put a dataset and its check into the store, and return their ids by the names that paths have for them."""
    made = service.store.incoming / "made"
    made.mkdir()
    (made / "labels.csv").write_text("record,AF\na,1\n", encoding="utf-8")
    dataset = service.datasets.adopt(made, "ward", "fuzz").id
    job, _ = service.jobs.submit(CheckJob(dataset=dataset), "fuzz")
    return {"dataset": dataset, "job": job.id}


def _fuzz_operation(
    client: TestClient, operation: Any, mode: Any, named: dict[str, str], n: int, number: int, seen: Seen
) -> None:
    def send(case: Any) -> None:
        words = case.as_transport_kwargs(base_url=BASE)
        words.pop("cookies", None)
        try:
            request = client.build_request(**words)
            request.read()
        except (UnicodeError, TypeError, ValueError, AttributeError):
            return  # what the client cannot make a request of
        answer = client.send(request)
        seen.judge(
            f"{operation.method.upper()} {operation.path}?", answer.status_code,
            answer.headers.get("content-type", "").partition(";")[0], answer.text,
        )  # fmt: skip

    try:
        _run(send, operation.as_strategy(generation_mode=mode, path_parameters=named or None), n, number)
    except Unsatisfiable:  # a route without parameters has nothing to get wrong
        if mode is schemathesis.GenerationMode.POSITIVE:
            raise RuntimeError(f"no request could be made of {operation.method} {operation.path}") from None


def _fuzz_anything(client: TestClient, n: int, number: int, seen: Seen) -> None:
    def send(method: str, path: str, body: bytes, media_type: str, host: str) -> None:
        try:
            request = client.build_request(
                method, f"{BASE}/{path}", content=body, headers={"content-type": media_type, "host": host}
            )
        except Exception:  # noqa: BLE001 no URL that a client could send
            return
        answer = client.send(request)
        seen.judge(
            f"{method} anything?", answer.status_code, answer.headers.get("content-type", "").partition(";")[0],
            "" if method == "HEAD" else answer.text,
        )  # fmt: skip

    given_all = st.tuples(
        _METHODS, st.one_of(_PATHS, st.sampled_from(["v1/datasets", "v1/jobs", "v1/models/x/predictions", "login"])),
        st.binary(max_size=300), st.sampled_from(_TYPES), st.sampled_from(["127.0.0.1", "localhost", "evil", ""]),
    )  # fmt: skip
    _run(lambda values: send(*values), given_all, max(1, n), number)


def main() -> None:
    """Print how many requests gave which status, and fail where one was a defect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        seen = fuzz(Settings(Path(folder) / "service", min_free_mb=0.0), asked.requests, asked.seed)
    for status, n in sorted(seen.statuses.items()):
        sys.stdout.write(f"{status}: {n:,}\n")
    sys.stdout.write(f"{seen.statuses.total():,} requests to {len(seen.routes)} routes\n")
    for defect in seen.defects[:20]:
        sys.stdout.write(f"{defect}\n")
    sys.exit(bool(seen.defects))


if __name__ == "__main__":
    main()
