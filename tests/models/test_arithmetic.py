"""The count of floating point operations: every product once, recurrent ones too."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import registry
from models.registry import create_network, forward_gflop, list_networks, training_gflop

TRAINING_GFLOP = {
    "resnet1d18": 1.05,
    "resnet1d50": 4.8,
    "resnet1d101": 9.4,
    "gru": 0.20,
    "lstm": 0.27,
}
"""Twelve leads, 1000 samples, five classes, as first counted by hand."""


def without_weights(name: str, **sizes: int) -> nn.Module:
    with torch.device("meta"):
        return create_network(name, n_classes=5, **sizes)


@pytest.mark.parametrize(("name", "gflop"), TRAINING_GFLOP.items())
def test_networks_of_the_published_study_cost_what_was_counted_by_hand(name, gflop):
    assert training_gflop(without_weights(name), 12, 1000) == pytest.approx(gflop, rel=0.015)


@pytest.mark.parametrize(("name", "gflop"), [("resnet1d18-w16", 0.02294144), ("gru-w32", 0.00844864)])
def test_networks_with_stored_runs_cost_what_the_store_says(name, gflop):
    assert forward_gflop(without_weights(name), 12, 1000) == pytest.approx(gflop, rel=1e-9)


@pytest.mark.parametrize(("name", "gates", "ways"), [("gru", 3, 1), ("lstm", 4, 1), ("bilstm", 4, 2)])
@pytest.mark.parametrize(("n_leads", "n_samples"), [(12, 1000), (1, 77), (12, 1)])
def test_every_step_of_a_recurrent_layer_is_counted_once(name, gates, ways, n_leads, n_samples):
    hidden = 9
    layer = 2 * n_samples * ways * gates * hidden * (n_leads + hidden)
    pooled_head, flat_head = 2 * 2 * ways * hidden * 5, 2 * n_samples * ways * hidden * 5
    for ending, head in (("", pooled_head), ("-flatten", flat_head)):
        network = create_network(f"{name}{ending}-w9", n_leads=n_leads, n_classes=5, n_samples=n_samples)
        assert forward_gflop(network, n_leads, n_samples) == pytest.approx((layer + head) / 1e9, rel=1e-12)


@pytest.mark.parametrize(("n_leads", "n_samples"), [(12, 1000), (1, 77)])
def test_the_fourier_transforms_of_a_state_space_are_counted(n_leads, n_samples):
    width = 8
    points = 2 * n_samples
    transforms = 2 * 5 * points * math.log2(points) + 6 * (n_samples + 1)  # of a channel: there, a product, and back
    kernel = 2 * 2 * 4 * n_samples  # of a channel, both directions, by the four states; torch's counter sees it
    gated = 2 * width * 2 * width * n_samples
    layers = 4 * (width * (transforms + kernel) + gated)
    expected = 2 * n_leads * width * n_samples + layers + 2 * width * 5
    network = create_network(f"s4d-w{width}", n_leads=n_leads, n_classes=5, n_samples=n_samples)
    assert forward_gflop(network, n_leads, n_samples) == pytest.approx(expected / 1e9, rel=1e-12)


def test_every_product_of_a_transformer_is_counted():
    width, n_patches = 192, 40
    block = 2 * n_patches * width * 12 * width + 2 * 2 * n_patches**2 * width  # layers; similarities and means
    expected = 2 * 12 * 25 * width * n_patches + 6 * block + 2 * width * 5
    assert forward_gflop(without_weights("vit1d"), 12, 1000) == pytest.approx(expected / 1e9, rel=1e-12)


def test_the_stem_takes_a_quarter_of_the_arithmetic():
    network = create_network("inceptiontime-stem-w4", n_leads=8, n_classes=1, n_samples=800)
    stem = 2 * 8 * 4 * 5 * 398 + 2 * 4 * 4 * 5 * 197
    blocks = 2 * 197 * (6 * 16 * 67 + 2 * 4 * (4 + 5 * 16))
    shortcuts = 2 * 197 * (4 * 16 + 16 * 16)
    assert forward_gflop(network, 8, 800) == pytest.approx((stem + blocks + shortcuts + 2 * 16) / 1e9, rel=1e-12)


class Stacked(nn.Module):
    """Two recurrent layers that read time first and in both directions, then one that starts from their state."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(3, 6, num_layers=2, bidirectional=True, proj_size=2)
        self.second = nn.GRU(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence, (state, _) = self.first(x.permute(2, 0, 1))
        sequence, last = self.second(sequence, state.new_zeros(1, x.shape[0], 5))
        return sequence[-1] + last[-1]


def test_stacked_projected_and_restarted_layers_are_counted_as_torch_counts_their_products():
    network = Stacked()
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        Stacked()(torch.empty(1, 3, 20))
    assert forward_gflop(network, 3, 20) == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-12)


@pytest.mark.parametrize("name", list_networks())
def test_counting_leaves_the_network_as_it_was(name):
    network = create_network(f"{name}-w4", n_classes=3, n_samples=64).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    forward_gflop(network, 12, 64)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network(torch.randn(2, 12, 64)).device.type == "cpu"


def test_training_costs_three_forward_passes_and_twice_the_record_twice_the_products():
    network = without_weights("resnet1d18-w4")
    assert training_gflop(network, 12, 640) == 3 * forward_gflop(network, 12, 640)
    head = 2 * (32 * 32 + 32 * 5) / 1e9
    once, twice = (forward_gflop(network, 12, n) - head for n in (640, 1280))
    assert twice == pytest.approx(2 * once, rel=1e-9)


def test_a_structure_is_counted_once_whatever_its_weights(monkeypatch):
    counted = []
    monkeypatch.setattr(registry, "_gflop_counted", {})
    monkeypatch.setattr(registry, "_count_gflop", lambda _network, n_leads, n_samples: counted.append(n_samples) or 1.0)
    for name, n_samples in [("gru-w4", 64), ("gru-w4", 64), ("gru-w4", 65), ("gru-w5", 64), ("gru-flatten-w4", 64)]:
        forward_gflop(create_network(name, n_classes=3, n_samples=n_samples), 12, n_samples)
    assert counted == [64, 65, 64, 64]
