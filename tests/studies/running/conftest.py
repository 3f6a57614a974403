"""An outcome without a training, for tests of the order in which runs are given out."""

from collections.abc import Callable

import numpy as np
import pytest

from models.registry import find_network
from studies.running.jobs import Job, Outcome
from studies.runs.run import COLUMNS, Run


@pytest.fixture
def made_up() -> Callable[[Job], Outcome]:
    """The function that makes an outcome up."""
    return _made_up


def _made_up(job: Job) -> Outcome:
    spec = job.spec
    wanted = {name: value for name, value in spec.canonical().items() if name in COLUMNS}
    counts = ("seconds", "seconds_to_best", "epochs", "best_epoch", "records_seen", "records_to_best")
    made = Run(
        **wanted, **dict.fromkeys(counts, 1), key=job.key, role=job.role, device="none",
        family=find_network(spec.arch).family,
        data_hash=job.data_hash, created="now", details={"spec": spec.canonical(), "validations": []},
    )  # fmt: skip
    files = {"checkpoint.json": b'{"sha256": "0"}', "weights.safetensors": b""} if job.keeps_network else None
    return Outcome(made, np.zeros((2, 5), np.float32), files)
