"""What Prometheus reads: requests by route, their time, jobs by state, the disk, and what could not be written."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from advisor.service.audit import Audit
    from advisor.service.store import ServiceStore

_STATES = ("queued", "running", "done", "failed", "cancelled")
_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """The figures of one server. Labels are routes as documented, never addresses: there are only so many."""

    def __init__(self, store: "ServiceStore", audit: "Audit") -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ecgadvise_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "ecgadvise_request_seconds", "Seconds until the answer began.", ("route",), registry=self._registry,
            buckets=_BUCKETS,
        )  # fmt: skip
        self._registry.register(_State(store, audit))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _State:
    """What is looked up when it is asked for."""

    def __init__(self, store: "ServiceStore", audit: "Audit") -> None:
        self._store, self._audit = store, audit

    def collect(self) -> "Iterator[Metric]":
        found = {
            row["state"]: row["n"] for row in self._store.rows("SELECT state, count(*) n FROM jobs GROUP BY state")
        }
        jobs = GaugeMetricFamily("ecgadvise_jobs", "Jobs by state.", labels=["state"])
        for state in _STATES:
            jobs.add_metric([state], found.get(state, 0))
        yield jobs
        (datasets,) = self._store.rows("SELECT count(*) n FROM datasets")
        yield GaugeMetricFamily("ecgadvise_datasets", "Datasets that are kept.", datasets["n"])
        yield GaugeMetricFamily("ecgadvise_disk_free_bytes", "Free on the store's disk.", self._store.free_mb() * 1e6)
        yield GaugeMetricFamily(
            "ecgadvise_audit_failures", "Audit lines that could not be written since the start.", self._audit.failed
        )
