"""What an operator decides about the service. ``ecgadvise serve`` has an option and an environment name for each."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Sizes are in megabytes (1e6 bytes), times in minutes or hours as named.

    ``store`` is the folder that keeps all the service knows. ``tokens`` is a file (see ``tokens.py``), ``token`` one
    that may do everything. ``allow_hosts`` are names under which browsers may reach the service next to those of this
    machine, ``records_root`` is the folder below which datasets may be named, ``models`` one with further ONNX files.
    """

    store: Path
    host: str = "127.0.0.1"
    port: int = 8712
    token: str | None = field(default=None, repr=False)
    tokens: Path | None = None
    allow_hosts: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    curves: Path | None = None
    records_root: Path | None = None
    models: Path | None = None
    scheduler: str | None = None
    jobs_at_once: int = 1
    max_jobs_waiting: int = 100
    max_job_minutes: float = 1440.0
    max_upload_mb: float = 2000.0
    max_unpacked_mb: float = 8000.0
    max_files: int = 200_000
    max_prediction_mb: float = 50.0
    min_free_mb: float = 1000.0
    session_hours: float = 12.0
    audit_mb: float = 10.0
    audit_files: int = 10

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach the service."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def has_tls(self) -> bool:
        """Whether the service itself speaks TLS."""
        return self.tls_certificate is not None
