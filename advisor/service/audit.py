"""Who did what, when and from where: one JSON line a request, only ever appended to, rotated by size.

It names datasets, jobs and models by their ids. What a request asked, what it sent and what it got are not in it: they
may be about patients.
"""

import json
import logging
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from advisor.service.settings import MEGABYTE
from advisor.service.store import now

_REFUSALS = 100  # requests of strangers that are written down each minute; the next line says how many more there were


class Audit:
    """The log of one server; ``failed`` counts the lines that could not be written, which the operator has to see."""

    def __init__(
        self, path: Path, megabytes: float, files: int, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self.path, self.failed, self._clock = path, 0, clock
        self._refusals, self._left_out = (0, 0), 0
        path.touch(mode=0o600)
        self._handler = _Loud(path, maxBytes=round(megabytes * MEGABYTE), backupCount=files, encoding="utf-8")

    def write(self, name: str, method: str, route: str, status: int, source: str, **ids: str) -> None:
        """Append a line: the token's ``name``, the ``route`` as documented, its ``ids``, and the caller's address."""
        if status in (401, 421) and self._is_flood():  # strangers must not rotate the history away
            return
        line = {"time": now(), "token": name, "method": method, "route": route, "status": status, "from": source, **ids}
        if self._left_out:
            line["left_out"], self._left_out = str(self._left_out), 0
        try:
            self._handler.emit(_record(json.dumps(line)))
        except OSError:  # the request itself is done: it is not undone because the disk is full, but /ready says so
            self.failed += 1

    def _is_flood(self) -> bool:
        """Count a refusal of somebody unknown; from a number a minute on they are counted alone."""
        minute = int(self._clock() // 60)
        self._refusals = (minute, self._refusals[1] + 1 if self._refusals[0] == minute else 1)
        is_flood = self._refusals[1] > _REFUSALS
        self._left_out += is_flood
        return is_flood

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


class _Loud(RotatingFileHandler):
    """One that raises what goes wrong rather than printing it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 logging's own name
        raise


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("audit", logging.INFO, "", 0, text, None, None)


def ids_in(parameters: dict[str, Any]) -> dict[str, str]:
    """Return the ids among a route's path parameters."""
    return {name.removesuffix("_id"): str(value)[:64] for name, value in parameters.items()}
