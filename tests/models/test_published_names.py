"""Published weights fit: their names become ours and their shapes are those of our tensors. Values are random here."""

import pytest
import torch
from torch import nn

from models import registry
from models.registry import create_network, find_network, list_networks, register

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, n_channels: int) -> Shapes:
    """A layer of batch normalisation."""
    values = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (n_channels,))
    return {f"{name}.{key}": shape for key, shape in {**values, "num_batches_tracked": ()}.items()}


def inceptiontime_stem(n_leads: int = 8, n_classes: int = 1) -> Shapes:
    """Team Ahus AIM's network of the George B. Moody PhysioNet Challenge 2025: 486,090 values."""
    shapes: Shapes = {}
    for at, n_in in ((0, n_leads), (3, 32)):
        shapes |= {f"down_layers.{at}.weight": (32, n_in, 5), f"down_layers.{at}.bias": (32,)}
        shapes |= norm(f"down_layers.{at + 1}", 32)
    for k in range(6):
        block, n_in = f"inception_network.blocks.{k}", 128 if k else 32
        shapes |= {f"{block}.bottleneck.weight": (32, n_in, 1), f"{block}.pool_conv.1.weight": (32, n_in, 1)}
        shapes |= {f"{block}.convs.{j}.weight": (32, 32, length) for j, length in enumerate((9, 19, 39))}
        shapes |= norm(f"{block}.batch_norm", 128)
    for k, n_in in enumerate((32, 128)):
        shapes |= {f"inception_network.shortcuts.{k}.conv.weight": (128, n_in, 1)}
        shapes |= norm(f"inception_network.shortcuts.{k}.batch_norm", 128)
    return {**shapes, "inception_network.fc.weight": (n_classes, 128)}


def ecgfounder(n_leads: int = 12, n_classes: int = 150) -> Shapes:
    """ECGFounder's Net1D, with the layers of batch normalisation that are made and not called."""
    shapes: Shapes = {"first_conv.conv.weight": (64, n_leads, 16), "first_conv.conv.bias": (64,)} | norm("first_bn", 64)
    n_in = 64
    for s, (n_out, n_blocks) in enumerate(((64, 2), (160, 2), (160, 2), (400, 3), (400, 3), (1024, 4), (1024, 4))):
        for b in range(n_blocks):
            block = f"stage_list.{s}.block_list.{b}"
            kernels = {1: (n_out, n_in, 1), 2: (n_out, 16, 16), 3: (n_out, n_out, 1)}
            for k, shape in kernels.items():
                shapes |= {f"{block}.conv{k}.conv.weight": shape, f"{block}.conv{k}.conv.bias": (n_out,)}
                shapes |= norm(f"{block}.bn{k}", n_in if k == 1 else n_out)
            shapes |= {f"{block}.se_fc1.weight": (n_out // 2, n_out), f"{block}.se_fc1.bias": (n_out // 2,)}
            shapes |= {f"{block}.se_fc2.weight": (n_out, n_out // 2), f"{block}.se_fc2.bias": (n_out,)}
            n_in = n_out
    return {**shapes, "dense.weight": (n_classes, 1024), "dense.bias": (n_classes,)}


@pytest.mark.parametrize(
    ("name", "shapes", "sizes", "missing"),
    [
        ("inceptiontime-stem", inceptiontime_stem(), (8, 1, 800), ["head.bias"]),
        ("net1d", ecgfounder(), (12, 150, 5000), []),
    ],
)
def test_published_weights_fill_the_network(name, shapes, sizes, missing):
    n_leads, n_classes, n_samples = sizes
    network = create_network(name, n_leads=n_leads, n_classes=n_classes, n_samples=n_samples).eval()
    entry = find_network(name)
    weights = {key: torch.rand(shape) if shape else torch.tensor(7) for key, shape in shapes.items()}
    own = {entry.own_name(key): value for key, value in weights.items() if not entry.is_unused(key)}
    result = network.load_state_dict(own, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (missing, [])
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in own.items())


def test_the_facts_are_those_of_the_published_files():
    assert sum(torch.Size(shape).numel() for shape in inceptiontime_stem().values()) == 486_090
    trained = {key: shape for key, shape in ecgfounder().items() if ".bn" not in key and not key.startswith("first_bn")}
    assert sum(torch.Size(shape).numel() for shape in trained.values()) == 30_752_646


def test_names_are_changed_by_their_beginning_alone(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @register("theirs", family="cnn", width=4, published={"fc.": "head.", "body.": ""}, unused=("aux.*", "*.bn?.*"))
    def theirs(n_leads: int, n_classes: int, n_samples: int, width: int) -> nn.Module:
        return nn.Linear(width, n_classes)

    entry = find_network("theirs-w2")
    names = ["fc.weight", "body.0.fc.weight", "fcn.weight", "head.bias"]
    assert [entry.own_name(name) for name in names] == ["head.weight", "0.fc.weight", "fcn.weight", "head.bias"]
    named = {
        name: entry.is_unused(name) for name in ("aux.weight", "auxiliary", "a.bn1.bias", "a.bn12.bias", "fc.bias")
    }
    assert [name for name, unused in named.items() if unused] == ["aux.weight", "a.bn1.bias"]


@pytest.mark.parametrize("name", list_networks())
def test_our_own_names_stay_and_none_is_unused(name):
    entry = find_network(f"{name}-w4")
    for key in create_network(entry.name, n_classes=2).state_dict():
        assert entry.own_name(key) == key
        assert not entry.is_unused(key)
