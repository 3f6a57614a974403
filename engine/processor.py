"""Training on the processor: plain eager steps, with layers and memory arranged as a processor is fast with them."""

import torch
from torch import nn

from engine.channels_last import fast_twin, is_recurrent
from engine.devices import keep_freed_memory
from engine.recipes import Recipe
from engine.stepping import PlainRun

_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch does not annotate it


def open_run(network: nn.Module, recipe: Recipe, steps: int) -> PlainRun:
    """Return a run of so many steps; convolutional networks train as a twin of the caller's (``Run.network``).

    What either arrangement gives, and to which networks, is measured in tests/benchmarks/RESULTS.md.
    """
    if is_recurrent(network):
        keep_freed_memory()
    elif _HAS_ONEDNN and any(isinstance(layer, nn.Conv1d) for layer in network.modules()):
        network = fast_twin(network)
    return PlainRun(network, recipe, steps)
