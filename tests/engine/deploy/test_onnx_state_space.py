"""A state space exports to a convolution that computes what its Fourier transforms do."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from engine.deploy.export import export_checkpoint
from engine.deploy.inference import open_session
from engine.deploy.onnx_state_space import with_fixed_kernels
from models.networks.s4d import StateSpace
from models.registry import create_network


class Crops(nn.Module):
    """The mean over a record's halves of what a network makes of them, and over its whole."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[2] // 2
        return self.network(x[..., :half]) + self.network(x[..., half : 2 * half]) + self.network(x)


def state_spaces(network: nn.Module) -> int:
    return sum(isinstance(layer, StateSpace) for layer in network.modules())


@pytest.mark.parametrize("n_samples", [1000, 333])
def test_a_network_with_fixed_kernels_gives_the_same_logits(n_samples):
    torch.manual_seed(0)
    network = create_network("s4d-w8", n_classes=3, n_samples=n_samples).eval()
    fixed = with_fixed_kernels(network, torch.zeros(2, 12, n_samples))
    assert (state_spaces(network), state_spaces(fixed)) == (4, 0)
    x = torch.randn(3, 12, n_samples)
    with torch.no_grad():
        torch.testing.assert_close(fixed(x), network(x), rtol=1e-4, atol=1e-5)
    assert fixed.layers[0].state_space.weight.shape == (8, 1, 2 * n_samples - 1)


def test_kernels_are_as_long_as_the_longest_that_a_layer_is_given():
    torch.manual_seed(0)
    crops = Crops(create_network("s4d-w8", n_classes=3)).eval()
    fixed = with_fixed_kernels(crops, torch.zeros(2, 12, 200))
    x = torch.randn(3, 12, 200)
    with torch.no_grad():
        torch.testing.assert_close(fixed(x), crops(x), rtol=1e-4, atol=1e-5)


def test_a_network_without_a_state_space_is_left_alone():
    network = create_network("gru-w4", n_classes=3)
    assert with_fixed_kernels(network, torch.zeros(2, 12, 100)) is network


def test_a_state_space_by_itself_becomes_a_convolution():
    layer = StateSpace(4)
    x = torch.randn(2, 4, 30)
    with torch.no_grad():
        torch.testing.assert_close(with_fixed_kernels(layer, x)(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("half", "n_samples"), [(True, 1000), (False, 250)])
def test_a_model_has_convolutions_a_group_a_channel_and_no_fourier_transform(
    half, n_samples, checkpoint_writer, tmp_path: Path
):
    checkpoint = checkpoint_writer(tmp_path / "c", "s4d-w4", n_samples=n_samples)
    report = export_checkpoint(checkpoint, tmp_path / "model.onnx", half=half)
    assert report.agreement.holds
    graph = onnx.load(report.model).graph
    groups = [one.i for node in graph.node if node.op_type == "Conv" for one in node.attribute if one.name == "group"]
    assert sorted(groups) == [1] * 5 + [4] * 4
    assert not {node.op_type for node in graph.node} & {"DFT", "Loop", "Scan"}
    session = open_session(str(report.model))
    (probability,) = session.run(["probability"], {"ecg": np.zeros((1, 12, n_samples), np.float32)})
    assert probability.shape == (1, 3)
