"""Networks by name.

To add a network, write one file in ``models/networks`` and one ``@register`` line; the parametrised tests pick it up::

    @register("mine", family="cnn", width=32)
    def mine(n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        return Mine(n_leads, n_classes, width)

and give it a row in docs/reference/networks.md (a test compares the two). The module maps float32
(batch, n_leads, n_samples) to logits (batch, n_classes), and its last layer is ``head``, an ``nn.Linear``: transfer
replaces that layer and nothing else. All weights come from torch's global generator. A batch of one record trains.

Where weights are published under other names than the module's, ``published`` gives the other beginnings of names and
ours, and ``unused`` shell patterns of tensors that they hold and the network has no use for::

    @register("mine", family="cnn", width=32, published={"fc.": "head."}, unused=("aux.*",))

Another package registers its networks the same way, in a module that its distribution names as an entry point of the
group ``ecgadvise.networks``; in its ``pyproject.toml``::

    [project.entry-points."ecgadvise.networks"]
    mine = "my_package.networks"

Where that module has ``CHECKPOINTS``, the path of a folder of checkpoint folders, these are its pre-trained networks,
found by the names of the folders wherever one is asked for (``--from``)::

    CHECKPOINTS = Path(__file__).parent / "checkpoints"  # checkpoints/mine-pretrained/checkpoint.json and so on

A name may end in ``-wN``, which narrows or widens the network: N channels in the first stage of a convolutional
network, N hidden units of a recurrent one, N features of each time step of a state space model or a transformer, N
kernels at each dilation of random convolutions. ``resnet1d18`` is ``resnet1d18-w64``.

``NETWORK+random-convolutions`` is composed of two registered networks: its ``head`` reads the features of both. Any
network goes with one of family ``kernel``, so that such names are found and not listed.
"""

import copy
import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.errors import ExitCode, UserError
from models.foundation_models import describe_foundation_model
from models.scaling import Scaling

Family = Literal["cnn", "rnn", "ssm", "transformer", "kernel"]
ENTRY_POINTS = "ecgadvise.networks"  # the group in which other packages name modules that register networks


class Builder(Protocol):
    """Makes a network with new random weights."""

    def __call__(self, n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        """Map (batch, n_leads, n_samples) to logits (batch, n_classes)."""
        ...


@dataclass(frozen=True)
class NetworkEntry:
    """A registered network: its name, its family, and the width that the plain name stands for.

    ``published`` maps how names of published parameters begin to how ours do; ``unused`` are shell patterns of those
    that the network does not have.
    """

    name: str
    family: Family
    width: int
    build: Builder
    published: Mapping[str, str] = field(default_factory=dict, hash=False)
    unused: tuple[str, ...] = ()

    def own_name(self, published_name: str) -> str:
        """Return what a parameter or buffer is called here that is published as ``published_name``."""
        for prefix, own in self.published.items():
            if published_name.startswith(prefix):
                return own + published_name.removeprefix(prefix)
        return published_name

    def is_unused(self, published_name: str) -> bool:
        """Return whether published weights have a tensor of that name which computes nothing."""
        return any(fnmatchcase(published_name, pattern) for pattern in self.unused)


class UnknownNetworkError(UserError, LookupError):
    """No network is registered under that name; the message names the nearest ones."""

    exit_code = ExitCode.USAGE


_entries: dict[str, NetworkEntry] = {}


def register(
    name: str,
    family: Family,
    width: int,
    *,
    published: Mapping[str, str] | None = None,
    unused: tuple[str, ...] = (),
) -> Callable[[Builder], Builder]:
    """Register a builder under ``name``; ``width`` is its published width, the others as in ``NetworkEntry``."""

    def add(build: Builder) -> Builder:
        if name in _entries:
            raise ValueError(f"a network named {name!r} is registered already")
        _entries[name] = NetworkEntry(name, family, width, build, dict(published or {}), unused)
        return build

    return add


def _load_all() -> None:
    from models import networks

    for module in pkgutil.iter_modules(networks.__path__):
        importlib.import_module(f"{networks.__name__}.{module.name}")
    _load_other_packages()


def package_checkpoints() -> tuple[Path, ...]:
    """Return the folders of checkpoint folders that other packages bring with their networks."""
    _load_all()
    folders = (getattr(loaded, "CHECKPOINTS", None) for loaded in _load_other_packages())
    return tuple(Path(folder) for folder in folders if folder is not None)


@cache
def _load_other_packages() -> tuple[object, ...]:
    """Load what other packages name as entry points, once a process: to look for them takes milliseconds."""
    loaded = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded.append(point.load())
        except Exception as error:
            of = f" of the package {point.dist.name}" if point.dist is not None else ""
            error.add_note(f"This was the entry point {point.name} = {point.value}{of}, group {ENTRY_POINTS}.")
            raise
    return tuple(loaded)


def list_networks(pattern: str = "*") -> list[str]:
    """Return the registered names that match a shell pattern, in alphabetical order."""
    _load_all()
    return sorted(name for name in _entries if fnmatchcase(name, pattern))


def find_network(name: str) -> NetworkEntry:
    """Return the entry of a name, its width taken from a ``-wN`` ending where there is one.

    Upper and lower case are the same; the entry has the name as it is registered. Raises UnknownNetworkError.
    """
    _load_all()
    name = _spelled(name)
    if "+" in name and name not in _entries:
        return _find_composed(name)
    base, width = name, None
    if name not in _entries and (match := re.fullmatch(r"(.+)-w([1-9]\d{0,3})", name, re.IGNORECASE)):
        base, width = _spelled(match[1]), int(match[2])
        name = f"{base}-w{width}"
    if base not in _entries:
        if (foundation := describe_foundation_model(name)) is not None:
            raise UnknownNetworkError(foundation)
        near = difflib.get_close_matches(base, _entries, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"registered: {', '.join(sorted(_entries))}"
        raise UnknownNetworkError(f"no network is named {name!r}; {hint}")
    entry = _entries[base]
    return replace(entry, name=name, width=width or entry.width)


def _spelled(name: str) -> str:
    """Return the registered name that is the same but for its case, else the name."""
    if name in _entries:
        return name
    return next((known for known in _entries if known.lower() == name.lower()), name)


def compose(network: str, kernels: str) -> str:
    """Return the name of a network and one of family ``kernel`` side by side."""
    return f"{network}+{kernels}"


def _find_composed(name: str) -> NetworkEntry:
    """Return the entry of two networks side by side, of the first one's family and width."""
    network, kernels = map(find_network, name.split("+", 1))
    name = compose(network.name, kernels.name)
    if network.family == "kernel" or kernels.family != "kernel":
        fitting = ", ".join(entry.name for entry in _entries.values() if entry.family == "kernel")
        raise UnknownNetworkError(f"no network is named {name!r}: after NETWORK+ comes one of {fitting}")

    def build(n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:  # noqa: ARG001  the name has it
        return create_network(name, n_leads=n_leads, n_classes=n_classes, n_samples=n_samples)

    return NetworkEntry(name, network.family, network.width, build)


def is_narrow(name: str) -> bool:
    """Whether a name stands for fewer channels or units than the network was published with."""
    name = name.partition("+")[0]
    return find_network(name).width < find_network(name.rpartition("-w")[0] if "-w" in name else name).width


def create_network(
    name: str, *, n_leads: int = 12, n_classes: int, n_samples: int = 1000, crop: int | None = None,
    scaling: Scaling = "set",
) -> nn.Module:  # fmt: skip
    """Make the named network with new random weights from torch's global generator.

    It maps float32 (batch, n_leads, n_samples) to logits (batch, n_classes). With a ``crop`` in samples, or a
    ``scaling`` of every record by itself, it reads them so (``models.crops``). Raises UnknownNetworkError.
    """
    entry = find_network(name)
    if "+" in entry.name and entry.name not in _entries:
        from models.composed import Composed

        first, kernels = entry.name.split("+", 1)
        return Composed(
            create_network(
                first, n_leads=n_leads, n_classes=n_classes, n_samples=n_samples, crop=crop, scaling=scaling
            ),
            create_network(kernels, n_leads=n_leads, n_classes=n_classes, n_samples=n_samples),
            n_classes,
        )  # fmt: skip
    length = n_samples if crop is None else crop
    network = entry.build(n_leads=n_leads, n_classes=n_classes, n_samples=length, width=entry.width)
    if crop is None and scaling == "set":
        return network
    from models.crops import Crops

    return Crops(network, length, scaling)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


_gflop_counted: dict[tuple[str, int, int], float] = {}  # by the structure that a network's text shows


def forward_gflop(network: nn.Module, n_leads: int, n_samples: int) -> float:
    """Count one record's forward pass, in 1e9 floating point operations; a multiply-add is two.

    Counted are matrix products and convolutions, recurrent ones too; normalisation, activations and pooling are not.
    Where a layer does what torch's counter does not see, as Fourier transforms, its method ``uncounted_flop`` gives the
    operations for an input.
    The count runs on torch's ``meta`` device, which follows shapes and computes nothing: there a recurrent layer is
    plain matrix products, while the processor's and cuDNN's fused LSTM is one operation that the counter takes for 0.
    A network of one structure is counted once a process: the counter watches every operation of every thread.
    """
    key = repr(network), n_leads, n_samples
    if key not in _gflop_counted:
        _gflop_counted[key] = _count_gflop(network, n_leads, n_samples)
    return _gflop_counted[key]


def _count_gflop(network: nn.Module, n_leads: int, n_samples: int) -> float:
    shapes = copy.deepcopy(network).to("meta").eval()
    unseen = [_UnseenSteps(layer) for layer in shapes.modules() if isinstance(layer, nn.RNNBase)]
    uncounted: list[float] = []
    for layer in shapes.modules():
        if hasattr(layer, "uncounted_flop"):
            layer.register_forward_pre_hook(lambda layer, inputs: uncounted.append(layer.uncounted_flop(*inputs)))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, n_leads, n_samples, device="meta"))
    return float(counter.get_total_flops() + sum(layer.flop for layer in unseen) + sum(uncounted)) / 1e9


def training_gflop(network: nn.Module, n_leads: int, n_samples: int) -> float:
    """Count one record's training step as three forward passes: the backward pass costs two (Kaplan et al., 2020)."""
    return 3 * forward_gflop(network, n_leads, n_samples)


class _UnseenSteps:
    """Cuts a recurrent layer's input to its first time step and counts the steps cut off: 1000 are slow to follow.

    Every step multiplies each of the layer's weight matrices by one vector.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        self.flop = 0
        self._time = 1 if layer.batch_first else 0
        self._weights = sum(value.numel() for name, value in layer.named_parameters() if name.startswith("weight"))
        self._steps: list[int] = []
        layer.register_forward_pre_hook(self._shorten)
        layer.register_forward_hook(self._lengthen)

    def _shorten(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        sequence, *state = inputs
        first = sequence.narrow(self._time, 0, 1)
        self._steps.append(sequence.shape[self._time])
        self.flop += 2 * self._weights * (sequence.shape[:-1].numel() - first.shape[:-1].numel())
        return first, *state

    def _lengthen(self, _layer: nn.Module, _inputs: object, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        first, state = output
        return first.repeat_interleave(self._steps.pop(), dim=self._time), state
