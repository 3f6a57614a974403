"""Every registered network keeps the promises that training and transfer rely on."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from models import registry
from models.composed import feature_groups
from models.registry import (
    UnknownNetworkError,
    count_parameters,
    create_network,
    find_network,
    is_narrow,
    list_networks,
    register,
)

every_network = pytest.mark.parametrize("name", list_networks())
any_length = pytest.mark.parametrize("name", [name for name in list_networks() if not name.endswith("-flatten")])
SHIPPED = sorted(path.parent for path in (Path(__file__).parents[2] / "models" / "zoo").glob("*/checkpoint.json"))

PARAMETERS = {
    "resnet1d18": 4_114_053,
    "resnet1d50": 17_010_821,
    "resnet1d101": 29_318_277,
    "xresnet1d18": 364_933,
    "xresnet1d50": 953_989,
    "xresnet1d101": 1_872_261,
    "gru": 3 * (100 * 112 + 200) + 200 * 5 + 5,
    "lstm": 4 * (100 * 112 + 200) + 200 * 5 + 5,
    "bilstm": 2 * 4 * (100 * 112 + 200) + 400 * 5 + 5,
    "gru-flatten": 3 * (100 * 112 + 200) + 100_000 * 5 + 5,
    "lstm-flatten": 4 * (100 * 112 + 200) + 100_000 * 5 + 5,
    "bilstm-flatten": 2 * 4 * (100 * 112 + 200) + 200_000 * 5 + 5,
    "random-convolutions": 3 * 6 * 48 * 5 + 5,
    "inceptiontime": (
        6 * 32 * 32 * (9 + 19 + 39)
        + 2 * 32 * (12 + 5 * 128)
        + 6 * 2 * 128  # convolutions, those of length 1, norms
        + 128 * (12 + 2)
        + 128 * (128 + 2)
        + 128 * 5
        + 5  # two shortcuts, head
    ),
    "inceptiontime-stem": (
        6 * 32 * 32 * (9 + 19 + 39)
        + 2 * 32 * (32 + 5 * 128)
        + 6 * 2 * 128
        + 128 * (32 + 2)
        + 128 * (128 + 2)
        + 128 * 5
        + 5
        + 32 * (12 * 5 + 3)
        + 32 * (32 * 5 + 3)
    ),
    "net1d": 30_752_646 - 145 * 1025,  # of ECGFounder's network for 150 classes, five
    "s4d": 512 * 13 + 4 * (512 * (1 + 2 * 4 + 2 * 4 * 2 + 1) + 2 * 512 * 513 + 2 * 512) + 513 * 5,
    "vit1d": 192 * (12 * 25 + 1) + 6 * 192 * (4 * 193 + 4 * 193 + 4 * 192 + 1 + 4) + 2 * 192 + 193 * 5,
}
"""Of the published definitions, twelve leads, 1000 samples, five classes."""


@pytest.fixture(autouse=True)
def _the_same_weights_and_records_every_time():
    torch.manual_seed(0)


def without_weights(name: str, **sizes: int) -> nn.Module:
    with torch.device("meta"):
        return create_network(name, n_classes=sizes.pop("n_classes", 5), **sizes)


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def test_the_default_network_of_each_family_is_registered():
    assert {"resnet1d18", "gru"} <= set(list_networks())
    assert {find_network(name).family for name in list_networks()} == {"cnn", "rnn", "ssm", "transformer", "kernel"}


def test_networks_are_listed_by_shell_pattern_in_alphabetical_order():
    assert list_networks() == sorted(list_networks())
    assert list_networks("resnet1d*") == [name for name in list_networks() if name.startswith("resnet1d")]
    assert list_networks("no-such-*") == []


@every_network
@pytest.mark.parametrize("n_leads", [12, 1])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_maps_records_to_one_logit_a_class(name, n_leads, batch):
    network = create_network(f"{name}-w4", n_leads=n_leads, n_classes=5, n_samples=250)
    with torch.no_grad():
        assert network(torch.randn(batch, n_leads, 250)).shape == (batch, 5)
        assert network.eval()(torch.randn(batch, n_leads, 250)).shape == (batch, 5)


@every_network
@pytest.mark.parametrize("n_samples", [333, 64])
def test_a_network_is_made_for_records_of_any_length(name, n_samples):
    network = create_network(f"{name}-w4", n_classes=3, n_samples=n_samples)
    assert network(torch.randn(2, 12, n_samples)).shape == (2, 3)


@any_length
def test_a_network_without_flattening_takes_records_of_another_length(name):
    network = create_network(f"{name}-w4", n_classes=3, n_samples=1000).eval()
    assert network(torch.randn(2, 12, 250)).shape == (2, 3)


@every_network
def test_in_evaluation_a_network_gives_the_same_bits_twice_and_changes_nothing(name):
    network = create_network(f"{name}-w4", n_classes=3, n_samples=250).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    records = torch.randn(3, 12, 250)
    assert torch.equal(network(records), network(records))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@every_network
def test_weights_put_into_another_network_of_the_name_give_the_same_logits(name):
    first, second = (create_network(f"{name}-w4", n_classes=3, n_samples=250).eval() for _ in range(2))
    records = torch.randn(3, 12, 250)
    assert not torch.equal(first(records), second(records))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(records), second(records))


@every_network
def test_a_batch_of_one_record_trains(name):
    network = create_network(f"{name}-w8", n_classes=3, n_samples=250).train()
    logits = network(torch.randn(1, 12, 250))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert network.head.weight.grad.any()


@every_network
def test_a_record_scores_the_same_alone_and_in_a_batch(name):
    network = create_network(f"{name}-w8", n_classes=5, n_samples=250).eval()
    records = torch.randn(3, 12, 250)
    with torch.no_grad():
        alone = torch.cat([network(record[None]) for record in records])
        torch.testing.assert_close(network(records), alone, rtol=1e-4, atol=1e-5)


@every_network
def test_the_last_layer_is_a_linear_head_with_one_output_a_class(name):
    network = create_network(f"{name}-w4", n_classes=7, n_samples=250).eval()
    assert isinstance(network.head, nn.Linear)
    assert network.head.out_features == 7
    outputs = []
    network.head.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        logits = network(torch.randn(2, 12, 250))
    assert len(outputs) == 1
    assert logits is outputs[0]


@every_network
def test_only_the_head_depends_on_the_number_of_classes(name):
    few, many = (shapes(without_weights(f"{name}-w8", n_classes=n)) for n in (2, 9))
    assert {key for key in few if few[key] != many[key]} == {"head.weight", "head.bias"}
    assert few.keys() == many.keys()


@every_network
def test_gradients_reach_every_parameter_from_the_second_step_on(name):
    network = create_network(f"{name}-w8", n_classes=5, n_samples=128)
    records, labels = torch.randn(3, 12, 128), torch.eye(5)[:3]
    for _ in range(2):  # the first step moves the scales that start at 0, behind which no gradient passes
        network.zero_grad()
        F.binary_cross_entropy_with_logits(network(records), labels).backward()
        torch.optim.SGD(network.parameters(), lr=0.01).step()
    unreached = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


@every_network
def test_a_width_ending_narrows_the_network_and_the_plain_name_is_the_published_width(name):
    published = find_network(name).width
    plain = without_weights(name)
    sizes = [count_parameters(without_weights(f"{name}-w{width}")) for width in (1, 4, 8, published)]
    assert sizes == sorted(set(sizes)), "each wider network has more parameters"
    assert sizes[-1] == count_parameters(plain)
    assert shapes(plain) == shapes(without_weights(f"{name}-w{published}"))


@every_network
def test_an_entry_knows_its_full_name_and_its_width(name):
    narrow = find_network(f"{name}-w4")
    assert (narrow.name, narrow.width, narrow.family) == (f"{name}-w4", 4, find_network(name).family)


@every_network
def test_the_same_torch_seed_gives_the_same_weights_and_another_seed_others(name):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(create_network(f"{name}-w4", n_classes=5).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@every_network
def test_a_network_has_the_parameters_of_its_published_definition(name):
    assert count_parameters(without_weights(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["xresnet1d18", "xresnet1d50"])
def test_blocks_of_an_xresnet_start_as_their_shortcut(name):
    network = create_network(f"{name}-w4", n_classes=5).eval()
    x = torch.randn(2, network.stages[0].convolutions[0].in_channels, 31)
    for block in network.stages:
        torch.testing.assert_close(block(x), F.relu(block.shortcut(x)))
        x = block(x)


@pytest.mark.parametrize("name", ["resnet1d50", "resnet1d101"])
def test_deep_residual_networks_draw_their_convolutions_by_fan_out(name):
    convolution = create_network(f"{name}-w16", n_classes=5).stages[-1].conv2
    assert convolution.weight.std().item() == pytest.approx((2 / (3 * convolution.out_channels)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("folder", SHIPPED, ids=[folder.name for folder in SHIPPED])
def test_a_shipped_checkpoint_still_fits_its_network(folder):
    facts = json.loads((folder / "checkpoint.json").read_text())
    shape = {"n_leads": len(facts["leads"]), "n_samples": facts["n_samples"], "n_classes": len(facts["classes"])}
    create_network(facts["arch"], **shape).load_state_dict(load_file(folder / "weights.safetensors"))


def test_checkpoints_ship():
    assert SHIPPED


def test_parameters_that_are_not_trained_are_not_counted():
    network = nn.Linear(3, 2)
    assert count_parameters(network) == 8
    network.bias.requires_grad_(False)
    assert count_parameters(network) == 6


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("ResNet1D18", "resnet1d18"),
        ("GRU-W32", "gru-w32"),
        ("RESNET1D18-w16+Random-Convolutions", "resnet1d18-w16+random-convolutions"),
    ],
)
def test_names_are_the_same_in_upper_and_lower_case(asked: str, name: str):
    assert find_network(asked).name == name
    assert find_network(asked).width == find_network(name).width


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


def test_a_composed_network_reads_the_features_of_both_under_one_head():
    network = create_network("resnet1d18-w4+random-convolutions-w2", n_leads=3, n_classes=5, n_samples=250).eval()
    taken = []
    network.head.register_forward_pre_hook(lambda _head, inputs: taken.append(inputs[0]))
    records = torch.randn(2, 3, 250)
    with torch.no_grad():
        assert network(records).shape == (2, 5)
    assert network.groups == feature_groups(network) == (32, 36)
    torch.testing.assert_close(taken[0][:, :32], network.network(records))
    torch.testing.assert_close(taken[0][:, 32:], network.kernels(records))
    assert {key.partition(".")[0] for key in network.state_dict()} == {"network", "kernels", "head"}


def test_a_composed_network_is_found_and_not_listed():
    entry = find_network("gru-w8+random-convolutions")
    assert (entry.name, entry.family, entry.width) == ("gru-w8+random-convolutions", "rnn", 8)
    assert not [name for name in list_networks() if "+" in name]
    assert is_narrow("resnet1d18-w16+random-convolutions")
    assert not is_narrow("resnet1d18+random-convolutions")


@pytest.mark.parametrize("name", ["gru+resnet1d18", "random-convolutions+gru", "gru+random-convolutions+gru", "gru+x"])
def test_networks_that_do_not_go_together_raise(name):
    with pytest.raises(UnknownNetworkError):
        find_network(name)


def test_kernels_follow_the_seed_sum_to_zero_and_read_one_to_six_leads():
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return dict(create_network("random-convolutions", n_classes=2).named_buffers())

    one, again, other = drawn(1), drawn(1), drawn(2)
    for name in (name for name in one if name.startswith("kernels")):
        assert torch.equal(one[name], again[name])
        assert not torch.equal(one[name], other[name])
        torch.testing.assert_close(one[name].sum(dim=2), torch.zeros(48, 12), atol=1e-5, rtol=0)
        read = (one[name] != 0).any(dim=2).sum(dim=1)
        assert set(read.tolist()) <= set(range(1, 7))
        assert len(set(read.tolist())) > 3


def test_a_flat_lead_or_a_record_of_nothing_but_zeros_has_finite_features():
    network = create_network("random-convolutions-w4", n_leads=3, n_classes=2, n_samples=250)
    records = torch.randn(20, 3, 250)
    records[:, 1] = 0.7
    network.fit_constants(records)
    records[0] = 0
    with torch.no_grad():
        assert network(records).isfinite().all()


def test_registering_a_name_twice_raises_and_keeps_the_first(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def linear(n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        return nn.Linear(width, n_classes)

    assert register("first-come", family="cnn", width=6)(linear) is linear
    with pytest.raises(ValueError, match="'first-come'"):
        register("first-come", family="rnn", width=9)(linear)
    assert find_network("first-come") == registry.NetworkEntry("first-come", "cnn", 6, linear)
    assert "first-come" in list_networks()
