"""A training that was stopped, kept so that it goes on as if nothing had happened: never a pickle.

``resume.safetensors`` holds every tensor (the network's weights, the best ones so far, the optimizer's moments, the
states of the random generators), ``resume.json`` the numbers, what was being trained, and the SHA-256 of the tensors.
They lie in the checkpoint's folder and go when a finished training replaces it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

SCHEMA_VERSION = 1
_TENSORS, _NUMBERS = "resume.safetensors", "resume.json"


class ResumeError(ValueError):
    """There is nothing to resume, or it is not what is asked for; one sentence says which."""


@dataclass(frozen=True)
class Snapshot:
    """A training after ``epoch`` epochs.

    ``numbers`` are JSON values: what the loop reported so far, and the optimizer's settings as the schedule left them.
    """

    epoch: int
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]


def take(
    epoch: int,
    network: nn.Module,
    best_weights: Mapping[str, Tensor],
    optimizer: Optimizer,
    schedule: LRScheduler,
    generator: torch.Generator,
    progress: Mapping[str, Any],
) -> Snapshot:
    """Keep the state of a training; ``progress`` is whatever else the loop needs again, as JSON values."""
    state = optimizer.state_dict()
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best_weights.items()}
    for position, moments in state["state"].items():
        tensors |= {f"optimizer.{position}.{name}": value for name, value in moments.items()}
    tensors |= {"generator": generator.get_state(), "random": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        tensors["random_cuda"] = torch.cuda.get_rng_state()
    groups = [
        {name: value for name, value in group.items() if name != "params"} for group in state["param_groups"]
    ]
    numbers = {"groups": groups, "steps": schedule.last_epoch, "progress": progress}
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    return Snapshot(epoch, copies, json.loads(json.dumps(numbers)))


def restore(
    snapshot: Snapshot, network: nn.Module, optimizer: Optimizer, schedule: LRScheduler, generator: torch.Generator
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Put everything back to where it was; return the best weights so far and the loop's own progress."""
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
    for name, value in snapshot.tensors.items():
        part, _, rest = name.partition(".")
        if rest:
            parts[part][rest] = value
    network.load_state_dict(parts["network"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        position, _, key = name.partition(".")
        moments.setdefault(int(position), {})[key] = value
    groups = [
        {**stored, "params": present["params"]}
        for stored, present in zip(snapshot.numbers["groups"], optimizer.state_dict()["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    rates = [group["lr"] for group in groups]
    schedule.load_state_dict(
        {"last_epoch": snapshot.numbers["steps"], "_step_count": snapshot.numbers["steps"] + 1, "_last_lr": rates}
    )
    generator.set_state(snapshot.tensors["generator"])
    torch.set_rng_state(snapshot.tensors["random"])
    if "random_cuda" in snapshot.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(snapshot.tensors["random_cuda"])
    return parts["best"], snapshot.numbers["progress"]


def save_snapshot(snapshot: Snapshot, what: Mapping[str, Any], folder: Path) -> None:
    """Write a snapshot into a checkpoint's folder; ``what`` identifies the training. Raises OSError."""
    from safetensors.torch import save

    content = save(dict(snapshot.tensors))
    (folder / _TENSORS).write_bytes(content)
    document = {
        "schema_version": SCHEMA_VERSION,
        "sha256": hashlib.sha256(content).hexdigest(),
        "what": what,
        "epoch": snapshot.epoch,
        "numbers": snapshot.numbers,
    }
    document["document_hash"] = _hash_but_its_own(document)
    (folder / _NUMBERS).write_text(json.dumps(document, indent=1), encoding="utf-8")


def load_snapshot(folder: Path, what: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot in a folder. Raises ResumeError when there is none, or it is of another training."""
    from safetensors.torch import load

    try:
        document: Any = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
        content = (folder / _TENSORS).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ResumeError(f"{folder} holds no interrupted training to resume") from None
    except OSError as error:
        raise ResumeError(f"cannot read {error.filename}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ResumeError(f"{folder / _NUMBERS} is damaged: {error}") from None
    if not isinstance(document, dict) or document.get("document_hash") != _hash_but_its_own(document):
        raise ResumeError(f"{folder / _NUMBERS} was altered after the interruption; train again with --force")
    if document["sha256"] != hashlib.sha256(content).hexdigest():
        raise ResumeError(f"{folder / _TENSORS} was altered after the interruption; train again with --force")
    if document["schema_version"] != SCHEMA_VERSION:
        raise ResumeError(f"{folder / _NUMBERS} has schema {document['schema_version']}, not {SCHEMA_VERSION}")
    for name, value in json.loads(json.dumps(what)).items():
        if (begun := document["what"].get(name)) != value:
            raise ResumeError(f"{folder} was begun with {name} {begun}, not {value}: resume it with the same settings")
    return Snapshot(document["epoch"], load(content), document["numbers"])


def _hash_but_its_own(document: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != "document_hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
