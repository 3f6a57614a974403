"""Weights of another's making, put into a registered network: every name, shape and number is checked before."""

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.checkpoints.foreign_weights import ForeignWeights, WeightsError
from models.registry import NetworkEntry, create_network, find_network, list_networks

HEAD, BIAS = "head.weight", "head.bias"
_MOST_OUTPUTS = 10_000
_SHOWN = 3
_COUNTER = "num_batches_tracked"  # of batch normalisation: old versions of torch lack it, and nothing here reads it


@dataclass(frozen=True)
class MatchedWeights:
    """A network that has the weights of a file, in evaluation mode, and what was done to get them there.

    ``renamed`` and ``unused`` count tensors; ``converted`` are the types of numbers that became float32, ``added`` the
    names that the file lacks. Without ``has_head`` the file has no output layer: the network's is one output of zeros.
    """

    network: nn.Module = field(repr=False)
    n_classes: int
    has_head: bool
    renamed: int
    unused: int
    converted: tuple[str, ...]
    added: tuple[str, ...]


def match_weights(
    found: ForeignWeights, arch: str, n_leads: int, n_samples: int, n_classes: int | None = None
) -> MatchedWeights:
    """Put the weights of a file into the network ``arch`` for records of that form.

    The number of classes is that of the output layer, and has to be ``n_classes`` where that is given. Raises
    WeightsError, which names what is missing, too many, of another shape or no number, and UnknownNetworkError.
    """
    entry = find_network(arch)
    if entry.family == "kernel" or "+" in entry.name:
        raise WeightsError(f"{entry.name} has kernels drawn by chance, which are not imported: name another --network")
    tensors = _renamed(found, entry)
    has_head = any(name.startswith("head.") for name in tensors)
    outputs = _count_outputs(found, tensors, n_classes) if has_head else 1
    with torch.random.fork_rng(devices=[]):
        network = create_network(entry.name, n_leads=n_leads, n_classes=outputs, n_samples=n_samples)
    wanted = network.state_dict()
    added = [name for name in wanted if name not in tensors and _may_be_missing(name, has_head)]
    _check_names_and_shapes(found, entry, n_leads, tensors, {n: v for n, v in wanted.items() if n not in added})
    if not has_head and n_classes is not None:
        raise WeightsError(
            f"{found.path} has no output layer ({HEAD}), and the contract names classes: leave them out, and the "
            "network is one to start from"
        )
    weights = {name: torch.zeros_like(wanted[name]) for name in added}
    weights |= {name: _converted(found, name, value, wanted[name].dtype) for name, value in tensors.items()}
    network.load_state_dict(weights)
    kinds = {str(value.dtype).removeprefix("torch.") for name, value in tensors.items()
             if value.dtype != wanted[name].dtype}  # fmt: skip
    return MatchedWeights(
        network.eval(), outputs, has_head,
        renamed=sum(bool(found.prefix) or entry.own_name(name) != name for name in found.tensors),
        unused=len(found.tensors) - len(tensors),
        converted=tuple(sorted(kinds)),
        added=tuple(name for name in added if not name.endswith(_COUNTER)),
    )  # fmt: skip


def _renamed(found: ForeignWeights, entry: NetworkEntry) -> dict[str, Tensor]:
    """Return tensors by the network's own names, without those that compute nothing."""
    tensors: dict[str, Tensor] = {}
    for name, value in found.tensors.items():
        if entry.is_unused(name):
            continue
        own = entry.own_name(name)
        if own in tensors:
            raise WeightsError(f"{found.path} has two tensors that {entry.name} calls {own}")
        _check_kind(found, name, value)
        tensors[own] = value
    return tensors


def _check_kind(found: ForeignWeights, name: str, value: Tensor) -> None:
    """Refuse what is no plain tensor."""
    kind = (
        "quantised" if value.is_quantized else
        "sparse" if value.layout != torch.strided else
        "without numbers" if value.device.type != "cpu" else
        "complex" if value.is_complex() else None
    )  # fmt: skip
    if kind is not None:
        raise WeightsError(f"{found.path} has a tensor that is {kind}, which no network here takes: {name}")


def _count_outputs(found: ForeignWeights, tensors: Mapping[str, Tensor], n_classes: int | None) -> int:
    weight = tensors.get(HEAD)
    if weight is None or weight.dim() != 2 or not 0 < len(weight) <= _MOST_OUTPUTS:
        shape = "missing" if weight is None else tuple(weight.shape)
        raise WeightsError(f"{found.path} has no output layer of outputs x features: {HEAD} is {shape}")
    if n_classes is not None and len(weight) != n_classes:
        raise WeightsError(
            f"{found.path} has an output layer of {len(weight):,} outputs, and the contract names {n_classes:,} classes"
        )
    return len(weight)


def _may_be_missing(name: str, has_head: bool) -> bool:
    return name == BIAS or name.endswith(_COUNTER) or (not has_head and name.startswith("head."))


def _check_names_and_shapes(
    found: ForeignWeights, entry: NetworkEntry, n_leads: int, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> None:
    """Raise WeightsError with all that differs."""
    missing = [name for name in wanted if name not in given]
    strange = [name for name in given if name not in wanted]
    shapes = [
        f"{name} is {tuple(given[name].shape)} and should be {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    problems = [
        f"{said}: {len(names):,} ({_listed(names)})"
        for names, said in ((missing, "names missing"), (strange, "names too many"), (shapes, "other shapes"))
        if names
    ]
    if not problems:
        return
    leads = f"{n_leads} lead{'s' if n_leads > 1 else ''}"
    hint = _nearest(found, set(given), set(wanted)) if missing else ""
    raise WeightsError(f"{found.path} does not fit {entry.name} for {leads}: {', '.join(problems)}{hint}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:120] for name in names[:_SHOWN]) + more


def _nearest(found: ForeignWeights, given: Set[str], wanted: Set[str]) -> str:
    """Name the registered networks whose names are more like those of the file than ``given`` and ``wanted`` are."""
    alike = {}
    for other in map(find_network, list_networks()):
        with suppress(RuntimeError, NotImplementedError), torch.device("meta"):  # a package's that needs numbers
            names = set(create_network(other.name, n_classes=1).state_dict())
            alike[other.name] = _share({other.own_name(name) for name in found.tensors}, names)
    most = max(alike.values(), default=0.0)
    if most <= _share(given, wanted):
        return ""
    return f"; its names are more like those of {' or '.join(name for name, one in alike.items() if one == most)}"


def _share(some: Set[str], others: Set[str]) -> float:
    """Return which share of the names of two is in both."""
    return len(some & others) / len(some | others)


def _converted(found: ForeignWeights, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as the network has it, of the same kind of numbers, all of them finite."""
    if value.is_floating_point() != dtype.is_floating_point:
        kinds = (str(one).removeprefix("torch.") for one in (value.dtype, dtype))
        raise WeightsError(f"{found.path} has {name} in {' where '.join(kinds)} is needed")
    converted = value.detach().to(dtype)
    if not bool(converted.isfinite().all()):
        raise WeightsError(f"{found.path} has {name} with NaN or infinite numbers")
    if name.endswith("running_var") and bool((converted < 0).any()):
        raise WeightsError(f"{found.path} has {name} with negative numbers, which no variance is")
    return converted


def runs(network: nn.Module, n_leads: int, n_samples: Iterable[int]) -> bool:
    """Return whether a network gives finite logits for small records of each length, noise of a fixed seed."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        outputs = [network(torch.randn(2, n_leads, length, generator=noise)) for length in n_samples]
    return all(bool(one.isfinite().all()) for one in outputs)
