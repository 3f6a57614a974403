"""The memory that a training is expected to take: what autograd saves, weights and moments, records, and lockstep."""

from dataclasses import replace

import pytest
import torch

from engine.compute.channels_last import fast_twin
from engine.compute.static_step import StaticStep
from engine.training.device_memory import _WORKSPACES, fit_runs, training_memory
from engine.training.starting_point import new_network

BATCH = (16, 2, 96)


def saved_bytes(arch: str, precision: str) -> int:
    """What autograd really keeps for the backward pass of a whole batch, each block of memory counted once."""
    step = StaticStep(fast_twin(new_network(arch, 2, 96, 3, 0)), BATCH, 3, None, precision)
    step.network.train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (step.flat, *step.network.buffers())}
    saved = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor), step.autocast():
        step.network(step.signals)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in own)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("arch", ["resnet1d18-w8", "xresnet1d18-w8", "resnet1d50-w4"])
def test_the_activations_are_what_autograd_saves(arch, precision):
    memory = training_memory(new_network(arch, 2, 96, 3, 0), BATCH, precision)
    assert memory.activations == pytest.approx(saved_bytes(arch, precision), rel=0.1)


@pytest.mark.parametrize("arch", ["gru-w8", "bilstm-flatten-w4"])
def test_those_of_recurrent_networks_too(arch):
    memory = training_memory(new_network(arch, 2, 96, 3, 0), BATCH, "float32")
    assert memory.activations == pytest.approx(saved_bytes(arch, "float32"), rel=0.25)


def test_weights_gradients_moments_and_the_best_weights_are_counted():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))
    parameters = 193 * 10
    assert training_memory(network, BATCH, "float32").state == 4 * 5 * parameters


def test_runs_multiply_what_is_theirs_and_records_are_added():
    network = new_network("resnet1d18-w4", 2, 96, 3, 0)
    one, four = (training_memory(network, BATCH, "float32", runs, record_bytes=10**6) for runs in (1, 4))
    assert four.state == 4 * one.state
    assert four.activations == pytest.approx(4 * one.activations, abs=4)
    assert one.total - replace(one, records=0).total == 10**6


@pytest.mark.parametrize(("room_for", "expected"), [(0.2, 1), (1, 1), (5.5, 5), (1000, 64)])
def test_as_many_runs_fit_as_there_is_room_for_and_one_is_always_tried(room_for, expected):
    network = new_network("gru-w4", 2, 96, 3, 0)
    alone = training_memory(network, BATCH, "float32", record_bytes=1000).total - _WORKSPACES
    free = _WORKSPACES + round(room_for * alone)
    assert fit_runs(network, BATCH, "float32", free, record_bytes=1000) == expected


def test_an_estimate_leaves_the_network_and_the_random_numbers_alone():
    network = new_network("xresnet1d18-w4", 2, 96, 3, 0).eval()
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    training_memory(network, BATCH, "float32")
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
