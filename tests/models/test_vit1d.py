"""The transformer attends, counts and pads its patches as it says."""

import pytest
import torch

from models.networks.vit1d import Attention, _n_heads, _positions
from models.registry import create_network


@pytest.fixture(autouse=True)
def _the_same_weights_every_time():
    torch.manual_seed(0)


def test_attention_is_the_mean_of_values_by_the_similarity_of_keys_to_queries_head_by_head():
    attention = Attention(128)
    x = torch.randn(2, 7, 128)
    q, k, v = (part.view(2, 7, 2, 64) for part in attention.qkv(x).chunk(3, dim=2))
    similar = torch.einsum("bqhc,bkhc->bhqk", q, k) / 8
    heads = torch.einsum("bhqk,bkhc->bqhc", similar.softmax(dim=3), v)
    torch.testing.assert_close(attention(x), attention.output(heads.reshape(2, 7, 128)), rtol=1e-4, atol=1e-5)


def test_a_record_that_ends_within_a_patch_is_filled_up_with_zeros():
    network = create_network("vit1d-w8", n_leads=2, n_classes=3).eval()
    x = torch.randn(2, 2, 60)
    filled = torch.cat([x, torch.zeros(2, 2, 15)], dim=2)
    with torch.no_grad():
        assert torch.equal(network(x), network(filled))
        assert not torch.equal(network(x), network(filled[..., :50]))


def test_patches_are_told_apart_by_their_positions():
    network = create_network("vit1d-w8", n_leads=2, n_classes=3).eval()
    one, other = torch.randn(2, 1, 2, 25)
    with torch.no_grad():
        swapped = [network(torch.cat(pair, dim=2)) for pair in ((one, other), (other, one))]
    assert not torch.allclose(*swapped)


def test_positions_are_sines_and_cosines_of_ever_longer_waves():
    positions = _positions(3, 4, torch.device("cpu"))
    at = torch.tensor([0.0, 1.0, 2.0])
    expected = torch.stack([at.sin(), at.cos(), (at / 100).sin(), (at / 100).cos()], dim=1)
    torch.testing.assert_close(positions, expected)
    assert _positions(5, 3, torch.device("cpu")).shape == (5, 3)


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (64, 1), (4, 1), (128, 2), (129, 1), (768, 12)])
def test_heads_have_sixty_four_features_where_the_width_can_be_divided_so(width, heads):
    assert _n_heads(width) == heads
