"""A network that reads crops gives what it gives on each of them, averaged, and learns one of them at a time."""

import pytest
import torch
from torch import Tensor, nn

from models.composed import Composed
from models.crops import Crops, crop_starts, scaled
from models.registry import create_network, forward_gflop


class Sums(nn.Module):
    """A body whose features can be worked out by hand: the first sample of every lead."""

    def __init__(self, n_leads: int) -> None:
        super().__init__()
        self.head = nn.Linear(n_leads, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(x[:, :, 0])
        return result


@pytest.mark.parametrize(
    ("n_samples", "crop", "starts"),
    [(1000, 200, [0, 200, 400, 600, 800]), (700, 200, [0, 167, 333, 500]), (200, 200, [0]), (201, 200, [0, 1])],
)
def test_crops_cover_a_record_evenly_and_are_as_few_as_that_takes(n_samples: int, crop: int, starts: list[int]):
    assert crop_starts(n_samples, crop) == starts


def test_logits_are_those_of_the_crops_averaged():
    torch.manual_seed(0)
    body = Sums(3)
    head = body.head
    network = Crops(body, 4, "set").eval()
    x = torch.randn(5, 3, 10)
    by_hand = torch.stack([head(x[:, :, start]) for start in (0, 3, 6)]).mean(0)
    torch.testing.assert_close(network(x), by_hand)
    torch.testing.assert_close(network(x[:1]), by_hand[:1])


def test_training_sees_one_crop_of_each_record_anywhere_in_it():
    body = Sums(1)
    with torch.no_grad():
        body.head.weight.fill_(1.0)
        body.head.bias.zero_()
    network = Crops(body, 4, "set").train()
    x = torch.arange(10.0).reshape(1, 1, 10).repeat(400, 1, 1)
    torch.manual_seed(1)
    drawn = network(x)[:, 0]
    assert set(drawn.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0}  # where a crop of four may begin
    torch.manual_seed(1)
    assert torch.equal(network(x)[:, 0], drawn), "the seed decides"


@pytest.mark.parametrize(("scaling", "over"), [("lead", (2,)), ("record", (1, 2))])
def test_records_are_scaled_by_themselves(scaling, over):
    x = torch.randn(3, 2, 500, dtype=torch.float64) * torch.tensor([[[2.0], [0.1]]]) + 5
    found = scaled(x, scaling)
    torch.testing.assert_close(found.mean(over), torch.zeros_like(found.mean(over)), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.std(over, correction=0), torch.ones_like(found.mean(over)), atol=1e-4, rtol=0)
    assert scaled(x, "set") is x


def test_a_flat_lead_stays_flat():
    x = torch.zeros(1, 2, 100)
    x[:, 1] = torch.linspace(-1, 1, 100)
    found = scaled(x, "lead")
    assert torch.equal(found[:, 0], torch.zeros(1, 100))
    assert found.isfinite().all()


@pytest.mark.parametrize("scaling", ["lead", "record"])
def test_what_arithmetic_leaves_of_a_constant_is_not_made_as_large_as_a_beat(scaling):
    """Runtimes add in other orders, so that the mean of a constant differs in its last bit."""
    constant = torch.full((1, 2, 800), -3.7)
    rounded = constant + torch.randn(1, 2, 800) * 3e-7
    for x in (constant, rounded):
        assert scaled(x, scaling).abs().max() < 0.01


def test_gain_and_offset_of_a_lead_change_nothing_where_leads_are_scaled_by_themselves():
    torch.manual_seed(2)
    network = create_network("resnet1d18-w4", n_leads=2, n_classes=2, n_samples=300, crop=100, scaling="lead").eval()
    x = torch.randn(4, 2, 300)
    other = x * torch.tensor([[[3.0], [0.5]]]) + torch.tensor([[[1.0], [-2.0]]])
    torch.testing.assert_close(network(other), network(x), atol=1e-4, rtol=1e-4)


def test_a_registered_network_is_put_behind_crops_and_random_convolutions_are_not():
    network = create_network("resnet1d18-w4", n_leads=2, n_classes=3, n_samples=300, crop=100, scaling="lead")
    assert isinstance(network, Crops)
    assert isinstance(network.head, nn.Linear)
    whole = create_network("resnet1d18-w4", n_leads=2, n_classes=3, n_samples=300, scaling="lead")
    assert isinstance(whole, Crops)
    assert whole.crop == 300
    composed = create_network(
        "resnet1d18-w4+random-convolutions-w2", n_leads=2, n_classes=3, n_samples=300, crop=100, scaling="lead"
    )
    assert isinstance(composed, Composed)
    assert isinstance(composed.network, Crops)
    assert not isinstance(composed.kernels, Crops)
    assert composed(torch.randn(2, 2, 300)).shape == (2, 3)


def test_arithmetic_is_that_of_all_crops_of_a_record_and_of_one_that_is_as_long():
    network = create_network("resnet1d18-w4", n_leads=2, n_classes=3, n_samples=300, crop=100)
    alone = create_network("resnet1d18-w4", n_leads=2, n_classes=3, n_samples=100)
    head = 2 * 3 * network.head.in_features / 1e9  # read once, whatever the number of crops
    assert forward_gflop(network, 2, 100) == pytest.approx(forward_gflop(alone, 2, 100))
    assert forward_gflop(network, 2, 300) == pytest.approx(3 * (forward_gflop(alone, 2, 100) - head) + head)
