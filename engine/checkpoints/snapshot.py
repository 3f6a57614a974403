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

from torch import Tensor

from models.errors import ExitCode, UserError, decoding_fault

SCHEMA_VERSION = 1
TENSORS, NUMBERS = "resume.safetensors", "resume.json"


class ResumeError(UserError, ValueError):
    """There is nothing to resume, or it is not what is asked for; one sentence says which."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Snapshot:
    """A training after ``epoch`` epochs, on the CPU.

    ``tensors`` are grouped by what stands before the first dot of their names; ``numbers`` are JSON values: what the
    loop reported so far.
    """

    epoch: int
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]

    @classmethod
    def of(cls, epoch: int, groups: Mapping[str, Mapping[str, Tensor]], numbers: Mapping[str, Any]) -> "Snapshot":
        """Copy the groups' tensors."""
        tensors = {
            f"{group}.{name}": value.detach().to("cpu", copy=True).contiguous()
            for group, members in groups.items()
            for name, value in members.items()
        }
        return cls(epoch, tensors, json.loads(json.dumps(numbers)))

    @property
    def device(self) -> str:
        """Kind of the device that it was taken on, ``cpu`` or ``cuda``: the states of random generators are its."""
        return str(self.numbers.get("device", "cuda" if "random.cuda" in self.tensors else "cpu"))

    def group(self, name: str) -> dict[str, Tensor]:
        """Return a group's tensors by their names in it."""
        return {
            key.removeprefix(f"{name}."): value for key, value in self.tensors.items() if key.startswith(f"{name}.")
        }


def save_snapshot(snapshot: Snapshot, what: Mapping[str, Any], folder: Path) -> None:
    """Write a snapshot into a checkpoint's folder; ``what`` identifies the training. Raises OSError."""
    from safetensors.torch import save

    content = save(dict(snapshot.tensors))
    (folder / TENSORS).write_bytes(content)
    document = {
        "schema_version": SCHEMA_VERSION,
        "sha256": hashlib.sha256(content).hexdigest(),
        "what": what,
        "epoch": snapshot.epoch,
        "numbers": snapshot.numbers,
    }
    document["document_hash"] = _hash_but_its_own(document)
    (folder / NUMBERS).write_text(json.dumps(document, indent=1), encoding="utf-8")


def nothing_to_resume(folder: Path) -> ResumeError:
    """Return the error of a folder that has no snapshot, or is not there."""
    return ResumeError(f"{folder} holds no interrupted training to resume")


def begun(folder: Path) -> Mapping[str, Any] | None:
    """Return what the training in a folder was begun as (``what`` of ``save_snapshot``).

    None where there is none to be read: ``load_snapshot`` says why.
    """
    try:
        what: Mapping[str, Any] = _read_files(folder)[0]["what"]
    except ResumeError:
        return None
    return what


def load_snapshot(folder: Path, what: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot in a folder. Raises ResumeError when there is none, or it is of another training."""
    from safetensors.torch import load

    document, content = _read_files(folder)
    if document["sha256"] != hashlib.sha256(content).hexdigest():
        raise ResumeError(f"{folder / TENSORS} was altered after the interruption; train again with --force")
    if document["schema_version"] != SCHEMA_VERSION:
        raise ResumeError(f"{folder / NUMBERS} has schema {document['schema_version']}, not {SCHEMA_VERSION}")
    for name, value in json.loads(json.dumps(what)).items():
        if (begun := document["what"].get(name)) != value:
            raise ResumeError(f"{folder} was begun with {name} {begun}, not {value}: resume it with the same settings")
    return Snapshot(document["epoch"], load(content), document["numbers"])


def _read_files(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return the numbers, which are as they were written, and the tensors. Raises ResumeError."""
    try:
        document: Any = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        content = (folder / TENSORS).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise nothing_to_resume(folder) from None
    except OSError as error:
        raise ResumeError(f"cannot read {error.filename}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ResumeError(f"{folder / NUMBERS} is damaged: {decoding_fault(error)}") from None
    if not isinstance(document, dict) or document.get("document_hash") != _hash_but_its_own(document):
        raise ResumeError(f"{folder / NUMBERS} was altered after the interruption; train again with --force")
    return document, content


def _hash_but_its_own(document: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != "document_hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
