"""Fine-tuning starts from every weight of the checkpoint but the head, and from the head that scratch starts from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.checkpoint import CheckpointError, CheckpointFacts, Standardisation, load_checkpoint, save_checkpoint
from engine.transfer import from_checkpoint, new_network

ARCHS = ["resnet1d18-w4", "gru-w4"]
SCALING = Standardisation(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))


def save_pretrained(arch: str, root: Path) -> Path:
    """Save a network of 3 leads, 250 samples and 5 classes whose every weight and buffer is unlike a new one's."""
    network = new_network(arch, 3, 250, 5, seed=99)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(torch.randint(7, 99, value.shape, generator=generator) / 7)
    facts = CheckpointFacts(
        arch=arch, task="synthetic/all", classes=tuple("abcde"), leads=("I", "II", "V1"), fs=100.0, n_samples=250,
        standardisation=SCALING, recipe={}, data_hash="0123abcd", metrics={},
    )  # fmt: skip
    save_checkpoint(network, facts, root)
    return root


@pytest.fixture(params=ARCHS)
def arch(request) -> str:
    return request.param


@pytest.fixture
def pretrained(arch: str, tmp_path: Path) -> Path:
    return save_pretrained(arch, tmp_path / "upstream")


def head_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if name.startswith("head.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_weight_but_the_head_is_the_checkpoints(arch, pretrained):
    network, _ = from_checkpoint(pretrained, arch, 3, 250, n_classes=2, seed=0)
    weights, _ = load_checkpoint(pretrained)
    state = network.state_dict()
    assert state.keys() == weights.keys()
    assert len(head_of(network)) == 2
    assert {name for name in state if not torch.equal(state[name], weights[name])} == head_of(network).keys()


def test_the_head_equals_that_of_a_new_network_of_the_same_seed_and_no_other(arch, pretrained):
    head = head_of(from_checkpoint(pretrained, arch, 3, 250, n_classes=2, seed=4)[0])
    assert same(head, head_of(new_network(arch, 3, 250, 2, seed=4)))
    assert not same(head, head_of(new_network(arch, 3, 250, 2, seed=5)))
    assert head["head.weight"].shape[0] == 2


def test_the_head_is_new_even_where_the_number_of_classes_is_the_same(arch, pretrained):
    head = head_of(from_checkpoint(pretrained, arch, 3, 250, n_classes=5, seed=4)[0])
    assert same(head, head_of(new_network(arch, 3, 250, 5, seed=4)))


def test_the_scaling_is_the_checkpoints(arch, pretrained):
    assert from_checkpoint(pretrained, arch, 3, 250, n_classes=2, seed=0)[1] == SCALING


def test_every_weight_of_a_fine_tuned_network_can_be_trained(arch, pretrained):
    network, _ = from_checkpoint(pretrained, arch, 3, 250, n_classes=2, seed=0)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_new_network_depends_on_its_seed_alone(arch):
    torch.manual_seed(1)
    one = new_network(arch, 3, 250, 2, seed=7).state_dict()
    torch.manual_seed(2)
    assert same(one, new_network(arch, 3, 250, 2, seed=7).state_dict())
    assert not same(one, new_network(arch, 3, 250, 2, seed=8).state_dict())


@pytest.mark.parametrize(
    ("other", "named"),
    [
        pytest.param({"arch": "gru-w4"}, "resnet1d18-w4, not gru-w4", id="another network"),
        pytest.param({"arch": "resnet1d18-w8"}, "resnet1d18-w4, not resnet1d18-w8", id="another width"),
        pytest.param({"n_leads": 12}, "3 leads of 250 samples, not 12 of 250", id="other leads"),
        pytest.param({"n_samples": 1000}, "3 leads of 250 samples, not 3 of 1000", id="another length"),
    ],
)
def test_a_checkpoint_of_another_network_or_signal_is_refused(tmp_path, other, named):
    root = save_pretrained("resnet1d18-w4", tmp_path / "upstream")
    asked = {"arch": "resnet1d18-w4", "n_leads": 3, "n_samples": 250, **other}
    with pytest.raises(CheckpointError) as failure:
        from_checkpoint(root, **asked, n_classes=2, seed=0)
    assert str(root) in str(failure.value)
    assert named in str(failure.value)


def test_weights_that_do_not_fit_the_network_they_are_said_to_be_of_are_refused(tmp_path):
    root = save_pretrained("resnet1d18-w4", tmp_path / "upstream")
    _, facts = load_checkpoint(root)
    save_checkpoint(new_network("resnet1d18-w8", 3, 250, 5, seed=0), replace(facts, arch="resnet1d18-w4"), root)
    with pytest.raises(CheckpointError, match="upstream"):
        from_checkpoint(root, "resnet1d18-w4", 3, 250, n_classes=2, seed=0)


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        from_checkpoint(tmp_path / "nowhere", "gru-w4", 3, 250, n_classes=2, seed=0)
