"""The fast twin of a network is the same function of the same weights, in another memory layout."""

import pytest
import torch
from torch import nn

from engine.compute.channels_last import ChannelsLastConv1d, fast_twin, is_recurrent
from engine.training.starting_point import new_network
from models.registry import find_network, list_networks

CNNS = [name for name in list_networks() if find_network(name).family == "cnn" and not name.endswith("101")]


def layer_pair(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    return layer, fast_twin(nn.Sequential(layer))[0]


@pytest.mark.parametrize(
    "arguments",
    [{"kernel_size": 7, "stride": 2, "padding": 3}, {"kernel_size": 3, "dilation": 2, "bias": False},
     {"kernel_size": 1, "stride": 2}, {"kernel_size": 5, "padding": "same"}, {"kernel_size": 3, "groups": 2}],
    ids=str,
)  # fmt: skip
def test_a_convolution_gives_the_same_output_and_gradients(arguments):
    torch.manual_seed(0)
    plain, fast = layer_pair(nn.Conv1d(4, 6, **arguments))
    assert type(fast) is ChannelsLastConv1d
    one, other = (torch.randn(5, 4, 33, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    torch.testing.assert_close(fast(other), plain(one))
    plain(one).square().sum().backward()
    fast(other).square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


def test_between_layers_a_tensor_keeps_three_dimensions_and_channels_last_strides():
    twin = fast_twin(nn.Sequential(nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2)))
    x = torch.randn(4, 2, 22)
    for layer in twin:
        x = layer(x)
        assert x.shape[:2] == (4, 6)
        assert x.stride() == (6 * x.shape[2], 1, 6), layer


@pytest.mark.parametrize("shape", [(5, 6, 17), (5, 6)])
def test_a_normalisation_gives_the_same_output_and_running_statistics(shape):
    torch.manual_seed(0)
    plain, fast = layer_pair(nn.BatchNorm1d(6))
    x = torch.randn(shape)
    torch.testing.assert_close(fast(x), plain(x))
    torch.testing.assert_close(fast.running_var, plain.running_var)


def test_a_normalisation_refuses_what_the_plain_one_refuses():
    with pytest.raises(ValueError, match="dimension"):
        fast_twin(nn.Sequential(nn.BatchNorm1d(6)))(torch.randn(6))


@pytest.mark.parametrize("arch", CNNS)
def test_a_networks_twin_gives_its_logits_gradients_and_statistics(arch):
    network = new_network(f"{arch}-w2", 3, 80, 4, seed=0)
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    twin = fast_twin(network)
    x = torch.randn(6, 3, 80, generator=torch.Generator().manual_seed(1))
    logits = [net.train()(x) for net in (twin, network)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-3, atol=1e-4)
    for y in logits:
        y.square().sum().backward()
    torch.testing.assert_close(twin.head.weight.grad, network.head.weight.grad, rtol=1e-3, atol=1e-3)
    states = twin.state_dict(), network.state_dict()
    assert {name: value.shape for name, value in states[0].items()} == {n: v.shape for n, v in states[1].items()}
    for name, value in states[1].items():
        torch.testing.assert_close(states[0][name], value, rtol=1e-3, atol=1e-4)


def test_a_twin_is_a_copy_and_the_network_keeps_its_plain_layers():
    network = new_network("resnet1d18-w2", 3, 80, 4, seed=0)
    twin = fast_twin(network)
    assert type(network.stem[0]) is nn.Conv1d
    assert type(twin.stem[0]) is ChannelsLastConv1d
    assert not {value.data_ptr() for value in network.parameters()} & {value.data_ptr() for value in twin.parameters()}


def test_logits_are_float32_under_autocast_and_do_not_tie():
    network = new_network("resnet1d18-w4", 3, 80, 4, seed=0).eval()
    x = torch.randn(64, 3, 80)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert network(x).dtype == torch.bfloat16
        logits = fast_twin(network)(x)
    assert logits.dtype == torch.float32
    assert len(logits[:, 0].unique()) > 60


@pytest.mark.parametrize("arch", list_networks())
def test_recurrent_networks_are_told_from_convolutional_ones(arch):
    assert is_recurrent(new_network(f"{arch}-w2", 3, 80, 4, seed=0)) is (find_network(arch).family == "rnn")
