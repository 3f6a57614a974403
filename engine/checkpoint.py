"""A trained network on disk: ``weights.safetensors`` beside ``checkpoint.json``, never a pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.directories import written_whole

SCHEMA_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that is missing, altered or not for this network; one sentence says which."""


@dataclass(frozen=True)
class Standardisation:
    """Per-lead mean and standard deviation of the training records, in millivolt: part of the network."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, signals: NDArray[np.float32]) -> "Standardisation":
        """Measure (records, leads, samples). A lead that never changes keeps the divisor 1."""
        mean = signals.mean(axis=(0, 2), dtype=np.float64)
        std = signals.std(axis=(0, 2), dtype=np.float64)
        return cls(tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))

    def apply(self, signals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a standardised copy of (records, leads, samples)."""
        mean, std = (np.asarray(value, np.float32)[:, None] for value in (self.mean, self.std))
        return np.asarray((signals - mean) / std, np.float32)


@dataclass(frozen=True)
class CheckpointFacts:
    """What the weights are: network, classes, signal contract, and where they come from."""

    arch: str
    task: str
    classes: tuple[str, ...]
    leads: tuple[str, ...]
    fs: float
    n_samples: int
    standardisation: Standardisation
    recipe: Mapping[str, Any]
    data_hash: str
    metrics: Mapping[str, float]


def save_checkpoint(network: nn.Module, facts: CheckpointFacts, target: Path) -> None:
    """Write a checkpoint directory, complete or not at all; one that is there already is replaced."""
    from safetensors.torch import save_file

    with written_whole(target) as folder:
        weights = folder / "weights.safetensors"
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
        document = {"schema_version": SCHEMA_VERSION, "sha256": _sha256(weights), **asdict(facts)}
        (folder / "checkpoint.json").write_text(json.dumps(document, indent=1))


def load_checkpoint(root: Path) -> tuple[dict[str, Tensor], CheckpointFacts]:
    """Return the weights and facts of a checkpoint directory. Raises CheckpointError."""
    from safetensors.torch import load_file

    try:
        document: Any = json.loads((root / "checkpoint.json").read_text(encoding="utf-8"))
        actual = _sha256(root / "weights.safetensors")
    except FileNotFoundError as error:
        raise CheckpointError(f"{root} is no checkpoint: it has no {Path(error.filename).name}") from None
    except NotADirectoryError:
        raise CheckpointError(f"{root} is a file: give the checkpoint's folder") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{root / 'checkpoint.json'} is damaged: {error}") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{root / 'checkpoint.json'} is damaged: it is no JSON object")
    if (version := document.pop("schema_version", None)) != SCHEMA_VERSION:
        raise CheckpointError(
            f"{root / 'checkpoint.json'} has schema {version}, and this ecgadvise reads {SCHEMA_VERSION}"
        )
    if document.pop("sha256", None) != actual:
        raise CheckpointError(f"{root / 'weights.safetensors'} was altered after training: its SHA-256 differs")
    try:
        standardisation = Standardisation(**{k: tuple(v) for k, v in document.pop("standardisation").items()})
        document.update({key: tuple(document[key]) for key in ("classes", "leads")})
        facts = CheckpointFacts(standardisation=standardisation, **document)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{root / 'checkpoint.json'} lacks or misnames a field: {error}") from None
    return load_file(root / "weights.safetensors"), facts


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
