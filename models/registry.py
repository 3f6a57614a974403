"""Networks by name.

A network is added with one file in this folder and one ``@register`` line; the tests pick it up. Every builder takes
``(n_leads, n_classes, n_samples, width)`` and returns a module that maps (batch, n_leads, n_samples) to logits
(batch, n_classes) and whose last layer is ``head``, an ``nn.Linear``: transfer replaces that layer and nothing else.

A name may end in ``-wN``, which narrows or widens the network: N channels in the first stage of a convolutional
network, N hidden units of a recurrent one. ``resnet1d18`` is ``resnet1d18-w64``.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Protocol

from torch import nn

Family = Literal["cnn", "rnn"]


class Builder(Protocol):
    """Makes a network with new random weights."""

    def __call__(self, n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        ...


@dataclass(frozen=True)
class NetworkEntry:
    """A registered network: its name, its family, and the width that the plain name stands for."""

    name: str
    family: Family
    width: int
    build: Builder


class UnknownNetworkError(LookupError):
    """No network is registered under that name; the message names the nearest ones."""


_entries: dict[str, NetworkEntry] = {}


def register(name: str, family: Family, width: int) -> Callable[[Builder], Builder]:
    """Register a builder under ``name``; ``width`` is its published width."""

    def add(build: Builder) -> Builder:
        if name in _entries:
            raise ValueError(f"a network named {name!r} is registered already")
        _entries[name] = NetworkEntry(name, family, width, build)
        return build

    return add


def _load_all() -> None:
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")


def list_networks(pattern: str = "*") -> list[str]:
    """Return the registered names that match a shell pattern, in alphabetical order."""
    _load_all()
    return sorted(name for name in _entries if fnmatchcase(name, pattern))


def find_network(name: str) -> NetworkEntry:
    """Return the entry of a name, its width taken from a ``-wN`` ending where there is one.

    Raises UnknownNetworkError.
    """
    _load_all()
    base, width = name, None
    if name not in _entries and (match := re.fullmatch(r"(.+)-w([1-9]\d{0,3})", name)):
        base, width = match[1], int(match[2])
    if base not in _entries:
        near = difflib.get_close_matches(base, _entries, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"registered: {', '.join(sorted(_entries))}"
        raise UnknownNetworkError(f"no network is named {name!r}; {hint}")
    entry = _entries[base]
    return NetworkEntry(name, entry.family, width or entry.width, entry.build)


def create_network(name: str, *, n_leads: int = 12, n_classes: int, n_samples: int = 1000) -> nn.Module:
    """Make the named network with new random weights from torch's global generator.

    It maps float32 (batch, n_leads, n_samples) to logits (batch, n_classes). Raises UnknownNetworkError.
    """
    entry = find_network(name)
    return entry.build(n_leads=n_leads, n_classes=n_classes, n_samples=n_samples, width=entry.width)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
