"""The pre-trained networks of a study: a folder next to the store, from which they travel to workers elsewhere.

A worker on another machine does not see the folder. It gets a network once, as the bytes of its files with a job, and
keeps it in its user cache under the run's key and the hash of its weights; what a worker trains goes back to the runner
as bytes too. So nothing but the prepared corpora has to be on a worker's disk, and no disk has to be shared.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from engine.checkpoints.checkpoint import Checkpoint, load_checkpoint
from engine.checkpoints.zoo import UnknownCheckpointError, names_in_words, released
from engine.checkpoints.zoo_index import describe_network
from engine.files import written_whole
from models.errors import ExitCode, UserError
from studies.files.curves import RELEASED, is_released
from studies.runs.run_spec import RunSpec
from studies.runs.store_files import without_packing


class MissingCheckpointError(UserError, RuntimeError):
    """The store says that a network was pre-trained, and its checkpoint is gone."""

    exit_code = ExitCode.DATA


def folder_of(store: Path) -> Path:
    """Return where the networks of a store lie."""
    return without_packing(store).with_suffix(".checkpoints")


def released_network(upstream: str) -> Checkpoint:
    """Return the network of ``zoo:NAME``. Raises UnknownCheckpointError and CheckpointError."""
    name = upstream.removeprefix(RELEASED)
    folder = released().get(name)
    if folder is None:
        raise UnknownCheckpointError(f"no pre-trained network is named {name!r} ({names_in_words()})")
    return load_checkpoint(folder)


def hash_released(specs: Iterable[RunSpec]) -> dict[str, str]:
    """Return the hash of every released network that runs start from: it stands for the data of its pre-training."""
    names = {spec.upstream for spec in specs if spec.upstream is not None and is_released(spec.upstream)}
    return {name: digest_of(released_network(name).folder) for name in names}


def bring_released(specs: Sequence[RunSpec], data_hashes: Mapping[str, str], networks: Path) -> None:
    """Copy released networks to where a study looks for those that it has pre-trained. Raises OSError."""
    for spec in {one for spec in specs if (one := spec.pretraining()) is not None and is_released(one.task)}:
        target = networks / spec.key(data_hashes)
        if not target.is_dir():
            write_files(read_files(released_network(spec.task).folder), target)


def read_files(checkpoint: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint by name."""
    return {path.name: path.read_bytes() for path in sorted(checkpoint.iterdir())}


def write_files(files: Mapping[str, bytes], checkpoint: Path) -> None:
    """Write a checkpoint, complete or not at all; one that is there already is replaced."""
    with written_whole(checkpoint) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)


def digest_of(checkpoint: Path) -> str:
    """Return the hash of a checkpoint's weights as it is written down next to them.

    Raises MissingCheckpointError where there is none.
    """
    try:
        return str(json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise MissingCheckpointError(
            f"{checkpoint.parent} lacks the pre-trained network {checkpoint.name}, which the store says was trained "
            f"({type(error).__name__}); put it back, or run the design into a new store"
        ) from None


def receive(folder: Path, key: str, digest: str, sent: Mapping[str, bytes] | None) -> Checkpoint | None:
    """Read the network ``key`` where this machine has it, written down first where it was ``sent``; None without.

    Raises CheckpointError.
    """
    if (folder / key).is_dir():
        return load_checkpoint(folder / key)
    from platformdirs import user_cache_path

    cached = user_cache_path("ecgadvise") / "networks" / f"{key}-{digest[:16]}"
    if not cached.is_dir():
        if sent is None:
            return None
        write_files(sent, cached)
    return load_checkpoint(cached)


def describe_start(spec: RunSpec, start: Checkpoint | None, digest: str) -> dict[str, str]:
    """Return what a run says of the network that was there before it, nothing where it starts from another or none."""
    if start is None or spec.upstream is None or not is_released(spec.upstream):
        return {}
    return {"started_from": describe_network({**asdict(start.facts), "sha256": digest})}


def copy_networks(source: Path, target: Path, keys: Iterable[str]) -> None:
    """Copy those of the networks that one study's folder has and another's lacks."""
    for key in keys:
        if (source / key).is_dir() and not (target / key).is_dir():
            write_files(read_files(source / key), target / key)
