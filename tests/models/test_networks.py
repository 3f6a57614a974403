"""Every registered network keeps the promises that training and transfer rely on."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import registry
from models.registry import (
    UnknownNetworkError,
    count_parameters,
    create_network,
    find_network,
    list_networks,
    register,
)

every_network = pytest.mark.parametrize("name", list_networks())


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def test_the_default_network_of_each_family_is_registered():
    assert {"resnet1d18", "gru"} <= set(list_networks())
    assert {find_network(name).family for name in list_networks()} == {"cnn", "rnn"}


def test_networks_are_listed_by_shell_pattern_in_alphabetical_order():
    assert list_networks() == sorted(list_networks())
    assert list_networks("resnet1d*") == [name for name in list_networks() if name.startswith("resnet1d")]
    assert list_networks("no-such-*") == []


@every_network
@pytest.mark.parametrize("n_leads", [12, 1])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_maps_records_to_one_logit_a_class(name, n_leads, batch):
    network = create_network(f"{name}-w8", n_leads=n_leads, n_classes=5)
    with torch.no_grad():
        assert network(torch.randn(batch, n_leads, 1000)).shape == (batch, 5)
        assert network.eval()(torch.randn(batch, n_leads, 1000)).shape == (batch, 5)


@every_network
def test_a_record_scores_the_same_alone_and_in_a_batch(name):
    network = create_network(f"{name}-w8", n_classes=5).eval()
    records = torch.randn(3, 12, 250)
    with torch.no_grad():
        alone = torch.cat([network(record[None]) for record in records])
        torch.testing.assert_close(network(records), alone, rtol=1e-4, atol=1e-5)


@every_network
def test_the_last_layer_is_a_linear_head_with_one_output_a_class(name):
    network = create_network(f"{name}-w8", n_classes=7).eval()
    assert isinstance(network.head, nn.Linear)
    assert network.head.out_features == 7
    outputs = []
    network.head.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        logits = network(torch.randn(2, 12, 1000))
    assert len(outputs) == 1
    assert logits is outputs[0]


@every_network
def test_only_the_head_depends_on_the_number_of_classes(name):
    few, many = (shapes(create_network(f"{name}-w8", n_classes=n)) for n in (2, 9))
    assert {key for key in few if few[key] != many[key]} == {"head.weight", "head.bias"}
    assert few.keys() == many.keys()


@every_network
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    network = create_network(name, n_classes=5)
    loss = F.binary_cross_entropy_with_logits(network(torch.randn(3, 12, 250)), torch.eye(5)[:3])
    loss.backward()
    unreached = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


@every_network
def test_a_width_ending_narrows_the_network_and_the_plain_name_is_the_published_width(name):
    published = find_network(name).width
    plain = create_network(name, n_classes=5)
    sizes = [count_parameters(create_network(f"{name}-w{width}", n_classes=5)) for width in (4, 8, published)]
    assert sizes == sorted(set(sizes)), "each wider network has more parameters"
    assert sizes[-1] == count_parameters(plain)
    assert shapes(plain) == shapes(create_network(f"{name}-w{published}", n_classes=5))


@every_network
def test_an_entry_knows_its_full_name_and_its_width(name):
    narrow = find_network(f"{name}-w4")
    assert (narrow.name, narrow.width, narrow.family) == (f"{name}-w4", 4, find_network(name).family)


@every_network
def test_the_same_torch_seed_gives_the_same_weights_and_another_seed_others(name):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(create_network(f"{name}-w8", n_classes=5).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_resnet1d18_has_about_4_1_million_parameters():
    assert 4.0e6 <= count_parameters(create_network("resnet1d18", n_classes=5)) <= 4.2e6


def test_parameters_that_are_not_trained_are_not_counted():
    network = nn.Linear(3, 2)
    assert count_parameters(network) == 8
    network.bias.requires_grad_(False)
    assert count_parameters(network) == 6


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("resnet18", "resnet1d18"), ("resnet1d81", "resnet1d18"), ("grru", "gru"), ("resnet1d-w32", "resnet1d18")],
)
def test_an_unknown_name_raises_and_names_the_nearest(asked, nearest):
    with pytest.raises(UnknownNetworkError, match=f"did you mean .*{nearest}") as failure:
        create_network(asked, n_classes=5)
    assert repr(asked) in str(failure.value)


def test_a_name_that_is_near_nothing_raises_and_lists_what_is_registered():
    with pytest.raises(UnknownNetworkError) as failure:
        find_network("0000")
    assert all(name in str(failure.value) for name in list_networks())


@pytest.mark.parametrize("ending", ["-w0", "-w", "-w-4", "-w04", "-w4.5", "-w8x"])
def test_a_width_that_is_no_positive_whole_number_raises(ending):
    with pytest.raises(UnknownNetworkError, match="resnet1d18"):
        find_network(f"resnet1d18{ending}")


def test_registering_a_name_twice_raises_and_keeps_the_first(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def linear(n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        return nn.Linear(width, n_classes)

    assert register("first-come", family="cnn", width=6)(linear) is linear
    with pytest.raises(ValueError, match="'first-come'"):
        register("first-come", family="rnn", width=9)(linear)
    assert find_network("first-come") == registry.NetworkEntry("first-come", "cnn", 6, linear)
    assert "first-come" in list_networks()
