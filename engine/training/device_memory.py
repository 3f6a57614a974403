"""What a training needs of a device's memory, and how many in lockstep fit: estimated before anything is moved there.

What autograd keeps for the backward pass is counted on the CPU with a few records and scaled up. The fixed share is for
the workspaces of cuDNN and cuBLAS, the margin for what a backward pass holds beside it, and for fragments.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.compute.channels_last import fast_twin
from engine.compute.static_step import StaticStep
from engine.compute.steps import PREDICTION_SIZES, Precision

_FLOAT = 4  # bytes
_WORKSPACES = 512 * 2**20
_MARGIN = 1.5
_FEW, _MORE = 2, 4  # records that are really sent through the network


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on the device: of ``runs`` networks that train in one step, and of the records they read.

    ``state`` is weights, gradients and both moments, and the best weights; ``activations`` what a backward pass needs
    of one batch; ``prediction`` what the largest batch of a prediction needs; ``records`` the signals on the device.
    """

    state: int
    activations: int
    prediction: int
    records: int = 0

    @property
    def total(self) -> int:
        """All of it, with a margin; a captured step keeps its activations while a prediction runs."""
        return _WORKSPACES + self.records + round(_MARGIN * (self.state + self.activations + self.prediction))


def training_memory(
    network: nn.Module, batch: tuple[int, ...], precision: Precision, runs: int = 1, record_bytes: int = 0
) -> TrainingMemory:
    """Estimate what ``runs`` trainings of a network on the CPU take with batches (records, leads, samples) each.

    ``record_bytes``: the signals that lie on the device, those of a resident corpus and of the runs' records.
    """
    few, more = (_forward(network, (n_records, *batch[1:]), precision) for n_records in (_FEW, _MORE))
    a_record = (more.saved - few.saved) / (_MORE - _FEW)
    fixed = few.saved - a_record * _FEW
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    kept = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    n_predicted = PREDICTION_SIZES[-1]
    return TrainingMemory(
        state=runs * (2 * kept + 3 * _FLOAT * trained),
        activations=round(runs * (fixed + batch[0] * a_record)),
        prediction=round(runs * n_predicted * more.largest / _MORE),
        records=record_bytes,
    )


def fit_runs(
    network: nn.Module, batch: tuple[int, ...], precision: Precision, free_bytes: int, record_bytes: int = 0,
    most: int = 64,
) -> int:  # fmt: skip
    """Return how many trainings in lockstep fit into that much free memory, at least 1; ``record_bytes`` a run."""
    alone = training_memory(network, batch, precision, record_bytes=record_bytes).total - _WORKSPACES
    return max(1, min(most, (free_bytes - _WORKSPACES) // alone))


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a CUDA device, those included that torch holds and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@dataclass(frozen=True)
class _Forward:
    """Bytes of one forward pass: saved for the backward pass, and the most that a layer reads and writes at once."""

    saved: int
    largest: int


def _forward(network: nn.Module, batch: tuple[int, ...], precision: Precision) -> _Forward:
    step = StaticStep(fast_twin(network), batch, 1, None, precision)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*step.network.parameters(), *step.network.buffers())}
    saved: dict[int, Tensor] = {}
    largest = [0]

    def save(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            saved[place] = tensor  # kept, so that no other tensor takes its place
        return tensor

    for layer in step.network.modules():
        layer.register_forward_hook(_noting_the_largest(largest))
    step.network.train()
    state = torch.get_rng_state()
    try:
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor), step.autocast():
            step.network(step.signals)
    finally:
        torch.set_rng_state(state)
    return _Forward(sum(tensor.untyped_storage().nbytes() for tensor in saved.values()), largest[0])


def _noting_the_largest(largest: list[int]) -> Callable[..., None]:
    def note(_layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        largest[0] = max(largest[0], sum(one.nbytes for one in (*inputs, *outputs) if isinstance(one, Tensor)))

    return note
