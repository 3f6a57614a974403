"""A network of another's making as a checkpoint: its weights are checked, and what is known of it is kept with it."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from engine.checkpoints.checkpoint import CheckpointFacts, load_checkpoint, save_checkpoint
from engine.checkpoints.foreign_weights import ForeignWeights, WeightsError, read_weights
from engine.checkpoints.import_contract import ImportContract
from engine.checkpoints.matched_weights import MatchedWeights, match_weights, runs
from engine.versions import version_of
from models.registry import find_network

LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
NO_HEAD = "no output layer"  # the one class of a network that has none
_LARGEST_LICENCE = 1_000_000  # bytes


@dataclass(frozen=True)
class Imported:
    """A network that has its weights, in evaluation mode, what is known of it, and its licence's file, if any."""

    network: nn.Module
    facts: CheckpointFacts
    licence_file: Path | None


def import_network(
    path: Path, arch: str, contract: ImportContract, licence: str, source: str, name: str
) -> Imported:  # fmt: skip
    """Read the weights of a file into the network ``arch`` as its contract says, and run it once.

    Raises WeightsError for weights that cannot be read, that are not of this network, or with which it does not give
    finite numbers, and UnknownNetworkError.
    """
    arch, signal = find_network(arch).name, contract.signal
    found = read_weights(path)
    n_classes = None if contract.classes is None else len(contract.classes)
    matched = match_weights(found, arch, len(signal.leads), signal.n_samples, n_classes)
    licence_file = _licence_file(path)
    facts = CheckpointFacts(
        arch=arch,
        task=contract.task or name,
        classes=_classes(contract, matched),
        **asdict(signal),
        standardisation=contract.standardisation,
        recipe={},
        data_hash="",
        metrics={},
        n_records=contract.n_records,
        source={"name": name, "licence": licence, "url": source if source.startswith(("http://", "https://")) else "",
                "citation": contract.citation or source},
        record={
            "imported": _described(found, matched, source, licence_file),
            "upstream_sources": [dict(one) for one in contract.trained_on],
        },
    )  # fmt: skip
    network = _as_read(matched.network, facts)
    lengths = [signal.n_samples] if signal.crop is None else [signal.n_samples, 2 * signal.n_samples + 1]
    try:
        is_finite = runs(network, len(signal.leads), lengths)
    except RuntimeError as error:
        raise WeightsError(f"{arch} does not take {signal.in_words()}: {str(error).splitlines()[0]}") from None
    if not is_finite:
        raise WeightsError(f"{arch} with the weights of {path} gives numbers that are not finite")
    return Imported(network, facts, licence_file)


def write_imported(imported: Imported, folder: Path) -> None:
    """Write a checkpoint and the licence into a folder, and read it again. Raises OSError and CheckpointError."""
    save_checkpoint(imported.network, imported.facts, folder)
    if imported.licence_file is not None:
        (folder / imported.licence_file.name).write_bytes(imported.licence_file.read_bytes())
    load_checkpoint(folder).network()


def _classes(contract: ImportContract, matched: MatchedWeights) -> tuple[str, ...]:
    if not matched.has_head:
        return (NO_HEAD,)
    return contract.classes or tuple(f"output {place}" for place in range(1, matched.n_classes + 1))


def _as_read(network: nn.Module, facts: CheckpointFacts) -> nn.Module:
    """Return the network in what reads records as its contract says."""
    if facts.crop is None and facts.scaling == "set":
        return network
    from models.crops import Crops

    return Crops(network, facts.n_samples, facts.scaling).eval()


def _described(
    found: ForeignWeights, matched: MatchedWeights, source: str, licence_file: Path | None
) -> dict[str, Any]:  # fmt: skip
    return {
        "file": found.path.name,
        "sha256": found.sha256,
        "format": found.format,
        "held_in": found.held_in,
        "prefix": found.prefix,
        "source": source,
        "tensors": len(found.tensors),
        "renamed": matched.renamed,
        "unused": matched.unused,
        "converted": list(matched.converted),
        "added": list(matched.added),
        "output_layer": matched.has_head,
        "licence_file": None if licence_file is None else licence_file.name,
        "imported": datetime.now(UTC).isoformat(timespec="seconds"),
        "ecgadvise": version_of("ecgadvise"),
    }


def _licence_file(path: Path) -> Path | None:
    """Return the licence next to a file of weights, which most licences ask to keep with every copy."""
    there = (path.with_name(name) for name in LICENCES)
    return next((one for one in there if one.is_file() and one.stat().st_size <= _LARGEST_LICENCE), None)


def has_output_layer(facts: CheckpointFacts) -> bool:
    """Return whether a network can be used as it is; one without an output layer can only be started from."""
    return bool(facts.record.get("imported", {}).get("output_layer", True))
