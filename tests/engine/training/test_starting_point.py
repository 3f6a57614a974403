"""Fine-tuning starts from every weight of the checkpoint but the head, and from the head that scratch starts from."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from engine.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointFacts,
    Standardisation,
    load_checkpoint,
    save_checkpoint,
)
from engine.recipes import Strategy, find_recipe
from engine.records.contract import SignalContract
from engine.records.record import LEADS
from engine.training.starting_point import Start, new_network, starting_point

ARCHS = ["resnet1d18-w4", "gru-w4"]
SCALING = Standardisation(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
SIGNAL = SignalContract(leads=("I", "II", "V1"), fs=100.0, n_samples=250)


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


def begin(
    root: Path | None, arch: str, signal: SignalContract = SIGNAL, n_classes: int = 2, seed: int = 0,
    strategy: Strategy = "fine-tune",
) -> Start:  # fmt: skip
    return starting_point(strategy, arch, signal, n_classes, seed, None if root is None else load_checkpoint(root))


def head_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if name.startswith("head.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_weight_but_the_head_is_the_checkpoints(arch, pretrained):
    network = begin(pretrained, arch).network
    weights = load_checkpoint(pretrained).weights
    state = network.state_dict()
    assert state.keys() == weights.keys()
    assert len(head_of(network)) == 2
    assert {name for name in state if not torch.equal(state[name], weights[name])} == head_of(network).keys()


def test_the_head_equals_that_of_a_new_network_of_the_same_seed_and_no_other(arch, pretrained):
    head = head_of(begin(pretrained, arch, seed=4).network)
    assert same(head, head_of(new_network(arch, 3, 250, 2, seed=4)))
    assert not same(head, head_of(new_network(arch, 3, 250, 2, seed=5)))
    assert head["head.weight"].shape[0] == 2


def test_the_head_is_new_even_where_the_number_of_classes_is_the_same(arch, pretrained):
    head = head_of(begin(pretrained, arch, n_classes=5, seed=4).network)
    assert same(head, head_of(new_network(arch, 3, 250, 5, seed=4)))


def test_the_scaling_is_the_checkpoints(arch, pretrained):
    assert begin(pretrained, arch).standardisation == SCALING


def test_every_weight_of_a_fine_tuned_network_can_be_trained(arch, pretrained):
    network = begin(pretrained, arch).network
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_new_network_depends_on_its_seed_alone(arch):
    torch.manual_seed(1)
    one = new_network(arch, 3, 250, 2, seed=7).state_dict()
    torch.manual_seed(2)
    assert same(one, new_network(arch, 3, 250, 2, seed=7).state_dict())
    assert not same(one, new_network(arch, 3, 250, 2, seed=8).state_dict())


@pytest.mark.parametrize("arch", [*ARCHS, "gru-flatten-w4"])
def test_where_any_length_will_do_only_the_head_depends_on_it(tmp_path: Path, arch: str):
    upstream = load_checkpoint(save_pretrained(arch, tmp_path / "upstream"))
    shorter = replace(SIGNAL, n_samples=175)
    with pytest.raises(CheckpointError, match=r"takes records of 2\.5 s, not of 1\.75 s"):
        starting_point("fine-tune", arch, shorter, 2, 4, upstream)
    network = starting_point("fine-tune", arch, shorter, 2, 4, upstream, any_length=True).network
    assert same(head_of(network), head_of(new_network(arch, 3, 175, 2, seed=4)))
    body = {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}
    assert same(body, {name: value for name, value in upstream.weights.items() if name in body})
    assert network(torch.zeros(2, 3, 175)).shape == (2, 2)
    for other in ({"fs": 50.0}, {"leads": ("I", "II", "V2")}):
        with pytest.raises(CheckpointError, match="takes"):
            starting_point("fine-tune", arch, replace(shorter, **other), 2, 4, upstream, any_length=True)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        pytest.param({"arch": "gru-w4"}, "resnet1d18-w4, not gru-w4", id="another network"),
        pytest.param({"arch": "resnet1d18-w8"}, "resnet1d18-w4, not resnet1d18-w8", id="another width"),
        pytest.param({"leads": LEADS}, "takes 3 leads of 250 samples, not 12 of 250", id="other leads"),
        pytest.param({"n_samples": 1000}, "takes records of 2.5 s, not of 10 s", id="another length"),
        pytest.param({"leads": ("I", "II", "V2")}, "takes the leads I, II, V1, in this order, not I, II, V2", id="V2"),
        pytest.param(
            {"leads": ("II", "I", "V1")}, "takes the leads I, II, V1, in this order, not II, I, V1", id="order"
        ),
        pytest.param({"leads": ("I", "II")}, "takes 3 leads of 250 samples, not 2 of 250", id="fewer leads"),
        pytest.param({"fs": 500.0}, "takes signals at 100 Hz, not at 500 Hz", id="another rate"),
    ],
)
@pytest.mark.parametrize("strategy", ["fine-tune", "linear-probe", "frozen"])
def test_a_checkpoint_of_another_network_or_signal_is_refused_with_the_reason(tmp_path, other, named, strategy):
    root = save_pretrained("resnet1d18-w4", tmp_path / "upstream")
    signal = {name: value for name, value in other.items() if name != "arch"}
    with pytest.raises(CheckpointError) as failure:
        begin(root, other.get("arch", "resnet1d18-w4"), replace(SIGNAL, **signal), strategy=strategy)
    assert str(root) in str(failure.value)
    assert named in str(failure.value)


def test_weights_that_do_not_fit_the_network_they_are_said_to_be_of_are_refused(tmp_path):
    root = save_pretrained("resnet1d18-w4", tmp_path / "upstream")
    facts = load_checkpoint(root).facts
    save_checkpoint(new_network("resnet1d18-w8", 3, 250, 5, seed=0), replace(facts, arch="resnet1d18-w4"), root)
    with pytest.raises(CheckpointError, match="upstream"):
        begin(root, "resnet1d18-w4")


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        begin(tmp_path / "nowhere", "gru-w4")


FLATTEN = ["gru-flatten-w4", "bilstm-flatten-w4"]


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_a_start_has_the_weights_and_the_scaling_of_its_strategy(arch, pretrained, strategy):
    start = begin(pretrained, arch, seed=4, strategy=strategy)
    random = new_network(arch, 3, 250, 2, 4).state_dict()
    from_upstream = strategy in ("fine-tune", "linear-probe", "frozen")
    expected = {**load_checkpoint(pretrained).weights, **head_of(new_network(arch, 3, 250, 2, 4))}
    assert same(start.network.state_dict(), expected if from_upstream else random)
    assert start.standardisation == (SCALING if from_upstream else None)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("arch", [*ARCHS, *FLATTEN])
def test_only_the_head_of_a_frozen_strategy_can_be_trained(arch, tmp_path, strategy):
    upstream = save_pretrained(arch, tmp_path / "upstream")
    network = begin(upstream, arch, seed=4, strategy=strategy).network
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    everything = {name for name, _ in network.named_parameters()}
    assert trained == ({"head.weight", "head.bias"} if "frozen" in strategy else everything)


@pytest.mark.parametrize("arch", FLATTEN)
def test_the_whole_flatten_head_is_replaced(arch, tmp_path):
    upstream = save_pretrained(arch, tmp_path / "upstream")
    network = begin(upstream, arch, seed=4).network
    weights = load_checkpoint(upstream).weights
    kept = {name for name, value in network.state_dict().items() if torch.equal(value, weights[name])}
    assert kept == {name for name in weights if name.startswith("recurrent.")}
    assert head_of(network)["head.weight"].shape == (2, weights["head.weight"].shape[1])


@pytest.mark.parametrize("strategy", ["fine-tune", "linear-probe", "frozen"])
def test_a_pretrained_strategy_without_a_checkpoint_is_refused(strategy):
    with pytest.raises(CheckpointError, match=f"{strategy} starts from a pre-trained network"):
        begin(None, "gru-w4", strategy=strategy)


def test_a_random_start_needs_no_checkpoint_and_looks_at_none(tmp_path):
    begin(None, "gru-w4", strategy="scratch")
    begin(save_pretrained("resnet1d18-w4", tmp_path / "other"), "gru-w4", strategy="random-frozen")


def test_the_scaling_is_the_checkpoints_or_measured_or_none_as_the_recipe_says():
    signals = np.random.default_rng(0).normal(3, 2, (10, 3, 250)).astype(np.float32)
    tuned, paper = (find_recipe(name, "cnn", "scratch") for name in ("tuned", "paper"))
    network = new_network("gru-w4", 3, 250, 2, 0)
    assert Start(network, SCALING).scaling(paper, signals) == SCALING
    assert Start(network, None).scaling(tuned, signals) == Standardisation.of(signals)
    np.testing.assert_array_equal(Start(network, None).scaling(paper, signals).apply(signals), signals)
