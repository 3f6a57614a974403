"""Net1D pads, shortens and adds as its authors' code does."""

import pytest
import torch
from torch.nn import functional as F

from models.networks.net1d import Block, SamePadding
from models.registry import create_network


@pytest.mark.parametrize(
    ("kernel", "stride", "expected"),
    [
        (2, 1, [3.0, 5.0, 7.0, 9.0, 5.0]),  # one zero is missing: it is added at the end
        (2, 2, [3.0, 7.0, 5.0]),
        (4, 2, [6.0, 14.0, 9.0]),  # (0 1 2 3), (2 3 4 5), (4 5 0 0)
        (16, 2, [15.0, 15.0, 15.0]),
    ],
)
def test_a_convolution_gives_a_sample_for_every_stride_begun(kernel, stride, expected):
    layer = SamePadding(1, 1, kernel, stride)
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
        layer.conv.bias.zero_()
        assert layer(torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])).flatten().tolist() == expected


def silent(block: Block) -> Block:
    """Let a block's convolutions give nothing but the shortcut."""
    with torch.no_grad():
        block.conv3.conv.weight.zero_()
        block.conv3.conv.bias.zero_()
    return block


def test_a_shortcut_pools_pairs_the_last_with_zero_and_puts_new_channels_on_both_sides():
    block = silent(Block(16, 19, 2, is_first=False))
    x = torch.stack([torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([4.0, 5.0, 6.0])]).repeat(8, 1)[None]
    y = block(x)
    assert y.shape == (1, 19, 2)
    assert y[0, :, 0].tolist() == [0.0, *[-1.0, 5.0] * 8, 0.0, 0.0]
    assert y[0, :, 1].tolist() == [0.0, *[0.0, 6.0] * 8, 0.0, 0.0]
    assert torch.equal(silent(Block(16, 16, 1, is_first=False))(x), x)


def test_what_is_added_to_the_shortcut_is_scaled_by_its_own_mean():
    block = silent(Block(16, 16, 1, is_first=False))
    with torch.no_grad():
        block.conv3.conv.bias.fill_(2.0)  # so that every channel is 2 at all times
        for layer in (block.se_fc1, block.se_fc2):
            layer.weight.fill_(0.1)
            layer.bias.zero_()
        squeezed = F.silu(torch.tensor(16 * 0.1 * 2.0))
        scale = torch.sigmoid(8 * 0.1 * squeezed)
        torch.testing.assert_close(block(torch.zeros(1, 16, 5)), (2 * scale).expand(1, 16, 5))


@pytest.mark.parametrize("is_first", [True, False])
def test_an_activation_comes_before_the_first_convolution_but_in_the_first_block(is_first):
    block, seen = Block(16, 16, 1, is_first=is_first), []
    block.conv1.conv.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 16, 9)
    block(x)
    torch.testing.assert_close(seen[0], x if is_first else F.silu(x))
    network = create_network("net1d-w16", n_classes=2)
    blocks = [block for stage in network.stage_list for block in stage.block_list]
    assert [block.is_first for block in blocks] == [True] + [False] * 19


def test_a_narrow_network_keeps_whole_groups_of_sixteen_channels():
    def channels(name: str) -> list[tuple[int, int]]:
        with torch.device("meta"):
            network = create_network(name, n_classes=2)
        convs = [stage.block_list[-1].conv2.conv for stage in network.stage_list]
        return [(conv.out_channels, conv.groups) for conv in convs]

    published = (64, 160, 160, 400, 400, 1024, 1024)
    assert channels("net1d") == [(n, n // 16) for n in published]
    assert channels("net1d-w16") == [(n, n // 16) for n in (16, 48, 48, 112, 112, 256, 256)]
    assert channels("net1d-w128") == [(2 * n, n // 8) for n in published]


def test_every_stage_halves_the_record_rounding_up():
    network, lengths = create_network("net1d-w4", n_classes=2, n_samples=1001), []
    for stage in network.stage_list:
        stage.register_forward_hook(lambda _stage, _inputs, output: lengths.append(output.shape[2]))
    network(torch.randn(1, 12, 1001))
    assert lengths == [251, 126, 63, 32, 16, 8, 4]
