"""InceptionTime computes what its paper draws, and its names are those of published weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.networks.inceptiontime import InceptionBlock, InceptionNetwork
from models.registry import create_network


def test_a_block_is_three_convolutions_and_a_pooled_path_side_by_side():
    block = InceptionBlock(1, 1, F.relu).eval()
    with torch.no_grad():
        block.bottleneck.weight.fill_(2.0)
        block.pool_conv[1].weight.fill_(3.0)
        for conv, tap in zip(block.convs, (4, 9, 19 + 5), strict=True):
            conv.weight.zero_()[..., tap] = 1.0  # the middle one of the first two, five samples later of the third
        block.batch_norm.running_var.fill_(1 - block.batch_norm.eps)
        x = torch.arange(-10.0, 10.0).view(1, 1, 20)
        narrow = F.relu(2 * x[0, 0])
        later = torch.cat([narrow[5:], torch.zeros(5)])
        pooled = F.relu(3 * torch.cat([x[0, 0, 1:], x[0, 0, -1:]]))  # of a rising line: its next sample
        torch.testing.assert_close(block(x)[0], torch.stack([narrow, narrow, later, pooled]))


def test_every_third_block_is_followed_by_a_shortcut_from_three_blocks_before():
    network = InceptionNetwork(2, 1, F.relu).eval()
    with torch.no_grad():
        for block in network.blocks:
            block.batch_norm.weight.zero_()  # blocks give nothing, so that shortcuts alone are left
        for shortcut in network.shortcuts:
            nn.init.constant_(shortcut.conv.weight, 0.5)
            shortcut.batch_norm.running_var.fill_(1 - shortcut.batch_norm.eps)
        x = torch.tensor([[[1.0, 3.0], [1.0, -5.0]]])  # the sums of its channels are 2 and -2
        # The first shortcut halves the sum and loses what is negative, the second halves that of four such channels.
        torch.testing.assert_close(network(x), torch.full((1, 4), (0.5 * 4 * 0.5 * 2) / 2))


@pytest.mark.parametrize(("n_samples", "stem"), [(800, [398, 197]), (1000, [498, 247]), (64, [30, 13])])
def test_the_stem_takes_a_quarter_of_the_samples_without_padding(n_samples, stem):
    network = create_network("inceptiontime-stem-w4", n_leads=8, n_classes=1, n_samples=n_samples).eval()
    half = network.down_layers[:3](torch.randn(1, 8, n_samples))
    assert [half.shape, network.down_layers[3:](half).shape] == [(1, 4, n) for n in stem]
    assert network.inception_network.blocks[0].bottleneck.weight.shape == (4, 4, 1)


@pytest.mark.parametrize(("name", "n_leads"), [("inceptiontime", 12), ("inceptiontime-stem", 32)])
def test_the_first_bottleneck_reads_the_leads_or_the_stem(name, n_leads):
    with torch.device("meta"):
        network = create_network(name, n_classes=5)
    assert network.inception_network.blocks[0].bottleneck.in_channels == n_leads


def test_with_a_stem_activations_are_gelu_and_without_one_relu():
    torch.manual_seed(0)
    for name, has_negative in (("inceptiontime-w4", False), ("inceptiontime-stem-w4", True)):
        block = create_network(name, n_leads=4, n_classes=2).inception_network.blocks[0].eval()
        assert bool((block(torch.randn(2, 4, 50)) < 0).any()) is has_negative
