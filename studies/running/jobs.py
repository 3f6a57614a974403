"""What goes from a study's runner to its workers and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.runs.run import Run
from studies.runs.run_spec import RunSpec, find_keys


@dataclass(frozen=True)
class Job:
    """A run and where it finds its data; small, so that it travels to any worker.

    ``start_from`` is the key of the pre-training run; its network lies in ``checkpoints``, or is ``sent`` along, file
    by file, to a worker that does not see that folder. ``keeps_network``: another run starts from this one.
    """

    spec: RunSpec
    key: str
    role: str
    data_hash: str
    corpora: Path
    checkpoints: Path
    keeps_network: bool = False
    start_from: str | None = None
    start_digest: str = ""
    device: str = "cpu"
    sent: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished run, ready for the store, with its test ``logits`` (records, classes).

    ``network`` holds the files of a checkpoint that others start from.
    """

    run: Run
    logits: NDArray[np.float32]
    network: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class NetworkWanted:
    """The worker does not see the network that the run starts from: the job is to be given again with it."""

    key: str


Result = Outcome | NetworkWanted | Exception  # an exception is what a run raised


def make_jobs(
    specs: Sequence[RunSpec], corpora: Path, data_hashes: Mapping[str, str], checkpoints: Path, device: str
) -> list[Job]:
    """Return the runs in their order, each with its key and what it starts from."""
    keys = find_keys(specs, data_hashes)
    starts = {spec: spec.pretraining() for spec in specs}
    pretrainings = set(starts.values())
    # A run that others start from may also be one of the scratch arm's own: then its task is studied with its folds.
    studied = {(spec.task, spec.pool_folds, spec.test_folds) for spec in starts if spec not in pretrainings}
    return [
        Job(
            spec,
            keys[spec],
            "downstream" if (spec.task, spec.pool_folds, spec.test_folds) in studied else "pretraining",
            data_hashes[spec.read_task],
            corpora.absolute(),  # a worker elsewhere has another folder to start from
            checkpoints.absolute(),
            keeps_network=spec in pretrainings,
            start_from=keys[start] if start else None,
            device=device,
        )
        for spec, start in starts.items()
    ]
