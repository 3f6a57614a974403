"""Recurrent networks stacked into one give what each gives, and can be taken apart again."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from engine.compute.lockstep import architecture_of, can_train_together, lockstep_twin, state_of
from engine.training.starting_point import new_network
from models.registry import create_network

N_LEADS, N_SAMPLES, BATCH = 3, 20, 4
CLASSES = (2, 5, 1)
ARCHS = ["gru-w4", "lstm-w4", "bilstm-w4", "gru-flatten-w4", "bilstm-flatten-w4"]


def networks_of(arch: str) -> list[nn.Module]:
    return [new_network(arch, N_LEADS, N_SAMPLES, n_classes, seed) for seed, n_classes in enumerate(CLASSES)]


def records(runs: int = len(CLASSES)) -> Tensor:
    return torch.randn(runs * BATCH, N_LEADS, N_SAMPLES, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("arch", ARCHS)
def test_a_twin_gives_every_networks_logits_on_its_records(arch):
    networks, signals = networks_of(arch), records()
    logits = lockstep_twin(networks)(signals)
    assert logits.shape == (len(CLASSES) * BATCH, max(CLASSES))
    for network, ours, own, n_classes in zip(networks, logits.chunk(3), signals.chunk(3), CLASSES, strict=True):
        torch.testing.assert_close(ours[:, :n_classes], network(own))
        assert not ours[:, n_classes:].any(), "classes that the network does not have"


@pytest.mark.parametrize("arch", ARCHS)
def test_a_twins_gradients_are_every_networks_own(arch):
    networks, signals = networks_of(arch), records()
    twin = lockstep_twin(networks)
    own_part = torch.zeros(len(CLASSES) * BATCH, max(CLASSES))
    for part, n_classes in zip(own_part.chunk(3), CLASSES, strict=True):
        part[:, :n_classes] = 1
    (twin(signals).sigmoid() * own_part).sum().backward()
    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for run, (network, own) in enumerate(zip(networks, signals.chunk(3), strict=True)):
        network(own).sigmoid().sum().backward()
        for name, parameter in network.named_parameters():
            ours = gradients[name]
            assert ours is not None
            torch.testing.assert_close(ours[run, : len(parameter)], parameter.grad, rtol=1e-4, atol=1e-6)
            assert not ours[run, len(parameter) :].any()


@pytest.mark.parametrize("arch", ARCHS)
def test_every_network_comes_back_out_of_the_twin(arch):
    networks = networks_of(arch)
    twin = lockstep_twin(networks)
    for run, network in enumerate(networks):
        other = new_network(arch, N_LEADS, N_SAMPLES, CLASSES[run], 99)
        other.load_state_dict(state_of(twin, run, other))
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_twin_has_weights_of_its_own():
    networks = networks_of("gru-w4")
    before = deepcopy(networks[0].state_dict())
    twin = lockstep_twin(networks)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in networks[0].state_dict().items())


def frozen() -> nn.Module:
    network = new_network("gru-w4", N_LEADS, N_SAMPLES, 2, 0)
    network.get_submodule("recurrent").requires_grad_(False)
    return network


def of_two_layers() -> nn.Module:
    network = new_network("gru-w4", N_LEADS, N_SAMPLES, 2, 0)
    network.add_module("recurrent", nn.GRU(N_LEADS, 4, num_layers=2, batch_first=True))
    return network


def normalised() -> nn.Module:
    network = new_network("lstm-w4", N_LEADS, N_SAMPLES, 2, 0)
    network.add_module("norm", nn.BatchNorm1d(4))
    return network


@pytest.mark.parametrize(
    "network",
    [create_network("resnet1d18-w4", n_leads=3, n_classes=2, n_samples=20), frozen(), of_two_layers(), normalised()],
    ids=["convolutions", "a fixed body", "two recurrent layers", "a layer that has no lockstep form"],
)
def test_what_cannot_be_stacked_is_refused(network):
    assert not can_train_together(network)
    with pytest.raises(ValueError, match="cannot train in lockstep"):
        lockstep_twin([network, network])


@pytest.mark.parametrize("other", ["gru-w8", "lstm-w4", "gru-flatten-w4"])
def test_networks_that_differ_in_more_than_their_classes_are_refused(other):
    pair = [new_network(arch, N_LEADS, N_SAMPLES, 2, 0) for arch in ("gru-w4", other)]
    assert architecture_of(pair[0]) != architecture_of(pair[1])
    with pytest.raises(ValueError, match="cannot train in lockstep"):
        lockstep_twin(pair)
