"""A trained network on disk: ``weights.safetensors`` next to ``checkpoint.json``, never a pickle.

``checkpoint.json`` carries the SHA-256 of the weights and, since schema 2, one of everything else in it. They find
damage and edits by hand; they are not a signature. Schema 1, of the first studies, is still read.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.checkpoints.fields import SCHEMA_VERSION, UNSET, FieldError, checked_fields
from engine.evaluation.calibration import DEFAULT_THRESHOLD
from engine.files import written_whole
from engine.records.contract import SignalContract
from models.errors import ExitCode, UserError, decoding_fault
from models.registry import create_network
from models.scaling import Scaling

WEIGHTS, DOCUMENT, SPLIT = "weights.safetensors", "checkpoint.json", "split.csv"


class CheckpointError(UserError, ValueError):
    """A checkpoint that is missing, altered or not for this network; one sentence says which."""

    exit_code = ExitCode.DATA


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

    @classmethod
    def alike(cls, signals: NDArray[np.float32]) -> "Standardisation":
        """Measure (records, leads, samples) with one mean and deviation for all leads."""
        mean, std = float(signals.mean(dtype=np.float64)), float(signals.std(dtype=np.float64))
        n_leads = signals.shape[1]
        return cls((mean,) * n_leads, (std if std > 0 else 1.0,) * n_leads)

    def apply(self, signals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a standardised copy of (records, leads, samples)."""
        mean, std = (np.asarray(value, np.float32)[:, None] for value in (self.mean, self.std))
        return np.asarray((signals - mean) / std, np.float32)


@dataclass(frozen=True)
class CheckpointFacts:
    """What the weights are: network, classes, signal contract, how they came to be, and how well they do.

    A network in use reports ``sigmoid(logit / temperature)`` and decides by ``class_thresholds``.
    """

    arch: str
    task: str
    classes: tuple[str, ...]
    leads: tuple[str, ...]
    fs: float
    n_samples: int
    standardisation: Standardisation
    recipe: Mapping[str, Any]
    data_hash: str
    metrics: Mapping[str, float]  # NaN where the test records do not allow one
    strategy: str = "scratch"
    upstream: str | None = None
    thresholds: tuple[float, ...] = ()  # of probabilities, one a class; empty: 0.5 each
    temperature: float = 1.0
    n_records: int | None = None  # labelled records, training and validation together
    source: Mapping[str, str] = field(default_factory=dict)  # name, version, licence, url, citation of the records
    codes: Mapping[str, str] = field(default_factory=dict)  # class -> SNOMED or SCP codes, where known
    evaluation: Mapping[str, Any] = field(default_factory=dict)  # Evaluation.as_dict without the bootstrap
    subgroups: Mapping[str, Any] = field(default_factory=dict)  # engine.evaluation.subgroups.subgroups
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)  # free facts of the training
    crop: int | None = None  # samples, of a network that reads records in crops
    scaling: Scaling = "set"  # set: by ``standardisation`` alone; record, lead: each crop or record by itself, too

    @property
    def contract(self) -> SignalContract:
        """What the network takes, and how it reads it."""
        return SignalContract(self.leads, self.fs, self.n_samples, self.crop, self.scaling)

    @property
    def class_thresholds(self) -> tuple[float, ...]:
        """The threshold of every class."""
        return self.thresholds or (DEFAULT_THRESHOLD,) * len(self.classes)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked: passed on in place of its ``folder``, so that this happens once."""

    folder: Path
    facts: CheckpointFacts
    weights: Mapping[str, Tensor] = field(repr=False, compare=False)

    def network(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode.

        Torch's random numbers stay where they were. Raises CheckpointError when the weights do not fit the network.
        """
        facts = self.facts
        with torch.random.fork_rng(devices=[]):
            network = create_network(
                facts.arch, n_leads=len(facts.leads), n_classes=len(facts.classes), n_samples=facts.n_samples,
                crop=facts.crop, scaling=facts.scaling,
            )  # fmt: skip
        load_weights(network, self, self.weights)
        return network.eval()


def load_weights(network: nn.Module, checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> None:
    """Put weights of a checkpoint, or in place of some of them others, into a network of its kind.

    Raises CheckpointError when they do not fit.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        arch = checkpoint.facts.arch
        raise CheckpointError(f"the weights of {checkpoint.folder} do not fit {arch} as it is defined here") from None


def save_checkpoint(
    network: nn.Module, facts: CheckpointFacts, target: Path, split: str | None = None,
    beside: Callable[[Path], None] = lambda _folder: None,
) -> None:  # fmt: skip
    """Write a checkpoint directory, complete or not at all; one that is there already is replaced.

    ``split`` is a CSV table of who trained, validated and tested; its SHA-256 is in the record. ``beside`` is given the
    directory before it takes its name, to write what else is to be in it.
    Raises CheckpointError for facts that ``load_checkpoint`` would refuse, TypeError for such as JSON cannot hold, and
    OSError when it cannot be written.
    """
    from safetensors.torch import save

    if split is not None:
        facts = replace(facts, record={**facts.record, "split_sha256": _sha256(split.encode())})
    metrics = {name: value if math.isfinite(value) else None for name, value in facts.metrics.items()}
    values = {name: value for name, value in asdict(facts).items() if name not in UNSET or value != UNSET[name]}
    document = json.loads(json.dumps({**values, "metrics": metrics}))
    try:
        checked_fields(document)
    except FieldError as error:
        raise CheckpointError(f"cannot save {target}: its {DOCUMENT} {error}") from None
    with written_whole(target) as folder:
        weights = folder / WEIGHTS
        content = save({name: value.contiguous() for name, value in network.state_dict().items()})
        weights.write_bytes(content)  # save_file would end a full disk in an error of its own, without errno
        document = {"schema_version": SCHEMA_VERSION, "sha256": _sha256(content), **document}
        document["document_hash"] = _document_hash(document)
        (folder / DOCUMENT).write_text(json.dumps(document, indent=1), encoding="utf-8")
        if split is not None:
            (folder / SPLIT).write_bytes(split.encode())
        beside(folder)


def load_checkpoint(root: Path) -> Checkpoint:
    """Read a checkpoint directory and check its hashes. Raises CheckpointError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    content, document = _read_files(root)
    schema = _check_schema(root, document)
    envelope = ("schema_version", "sha256", "document_hash")[: schema + 1]
    try:
        fields = checked_fields({name: value for name, value in document.items() if name not in envelope}, schema)
    except FieldError as error:  # before the hashes: it says better what is wrong
        raise CheckpointError(f"{root / DOCUMENT} {error}") from None
    if document.get("sha256") != _sha256(content):
        raise CheckpointError(f"{root / WEIGHTS} was altered after training: its SHA-256 differs")
    if schema > 1 and document.get("document_hash") != _document_hash(document):
        raise CheckpointError(f"{root / DOCUMENT} was altered after it was written: its hash differs")
    facts = CheckpointFacts(**{**fields, "standardisation": Standardisation(**fields["standardisation"])})
    try:
        return Checkpoint(root, facts, load(content))
    except SafetensorError as error:
        raise CheckpointError(f"{root / WEIGHTS} is not a safetensors file: {error}") from None


def load_network(root: Path) -> tuple[nn.Module, CheckpointFacts]:
    """Return the network of a checkpoint, as ``Checkpoint.network`` gives it, and its facts. Raises CheckpointError."""
    checkpoint = load_checkpoint(root)
    return checkpoint.network(), checkpoint.facts


def _read_files(root: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        document: Any = json.loads((root / DOCUMENT).read_text(encoding="utf-8"))
        content = (root / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{root} is not a checkpoint: it has no {Path(error.filename).name}") from None
    except NotADirectoryError:
        raise CheckpointError(f"{root} is a file: give the checkpoint's folder") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{root / DOCUMENT} is damaged: {decoding_fault(error)}") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{root / DOCUMENT} is damaged: it is not a JSON object")
    return content, document


def _check_schema(root: Path, document: dict[str, Any]) -> int:
    schema = document.get("schema_version")
    if type(schema) is not int or not 1 <= schema <= SCHEMA_VERSION:
        newer = type(schema) is int and schema > SCHEMA_VERSION
        raise CheckpointError(
            f"{root / DOCUMENT} has schema {schema}, and this ecgadvise reads 1 to {SCHEMA_VERSION}"
            + ("; a newer ecgadvise wrote it" if newer else "")
        )
    return schema


def _document_hash(document: dict[str, Any]) -> str:
    """Return a hash of everything in the document but itself, whatever the order and layout in the file."""
    rest = {name: value for name, value in document.items() if name != "document_hash"}
    return _sha256(json.dumps(rest, sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
