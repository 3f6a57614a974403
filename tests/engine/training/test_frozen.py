"""A frozen body: only the head learns, as if the body had been run in every step, and in a fraction of the time."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from engine.recipes import Recipe
from engine.records.contract import SignalContract
from engine.training import loop
from engine.training.loop import Examples, train
from engine.training.starting_point import head_inputs, starting_point, trains_head_alone

RECIPE = Recipe(
    "test", learning_rate=0.02, weight_decay=0.01, batch_size=8, record_passes=0, min_epochs=4, max_epochs=4
)
ARCHS = ["resnet1d18", "xresnet1d18", "gru", "bilstm-flatten", "s4d", "vit1d"]
SIGNAL = SignalContract(("I", "II"), 100.0, 64)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(n_records: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    signals = rng.normal(0, 1, (n_records, 2, 64)).astype(np.float32)
    return Examples.of(signals, (rng.random((n_records, 3)) < 0.4).astype(np.uint8))


TRAINING, VALIDATION = records(30, seed=1), records(20, seed=2)


def random_frozen(arch: str) -> nn.Module:
    return starting_point("random-frozen", arch, SIGNAL, n_classes=3, seed=0, checkpoint=None).network


@pytest.mark.parametrize("arch", ARCHS)
def test_only_the_head_changes_and_it_changes_as_if_the_body_were_run_in_every_step(arch):
    once, every_step = random_frozen(f"{arch}-w4"), random_frozen(f"{arch}-w4")
    before = {name: value.clone() for name, value in once.state_dict().items()}
    result = train(once, TRAINING, VALIDATION, RECIPE, seed=3)
    with patch.object(loop, "trains_head_alone", lambda network: False):
        # Training mode is for the whole network here: batch normalisation and dropout are held in evaluation mode.
        expected = train(in_evaluation_mode(every_step), TRAINING, VALIDATION, RECIPE, seed=3)
    changed = {name for name, value in once.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    for name, value in every_step.state_dict().items():
        torch.testing.assert_close(once.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    losses = [[look.loss for look in training.validations] for training in (result, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def in_evaluation_mode(network: nn.Module) -> nn.Module:
    network.eval()
    network.train = lambda mode=True: network  # type: ignore[method-assign]
    return network


def test_the_body_is_run_once_a_record():
    network, seen = random_frozen("resnet1d18-w4"), []
    network.stem.register_forward_pre_hook(lambda _stem, inputs: seen.append((len(inputs[0]), network.training)))
    train(network, TRAINING, VALIDATION, RECIPE, seed=3)
    assert sum(count for count, _ in seen) == len(TRAINING) + len(VALIDATION)
    assert not any(in_training for _, in_training in seen)


def test_the_same_seed_gives_the_same_bits():
    networks = [random_frozen("resnet1d18-w4") for _ in range(2)]
    for network in networks:
        train(network, TRAINING, VALIDATION, RECIPE, seed=3)
    assert torch.equal(networks[0].head.weight, networks[1].head.weight)


def test_a_stopped_frozen_training_goes_on_to_the_same_bits():
    whole, pieces = random_frozen("resnet1d18-w4"), random_frozen("resnet1d18-w4")
    train(whole, TRAINING, VALIDATION, RECIPE, seed=3)
    stopped = train(pieces, TRAINING, VALIDATION, RECIPE, seed=3, should_stop=lambda: True)
    assert stopped.epochs == 1
    resumed = random_frozen("resnet1d18-w4")
    train(resumed, TRAINING, VALIDATION, RECIPE, seed=3, resume=stopped.snapshot)
    assert torch.equal(whole.head.weight, resumed.head.weight)


def test_the_best_network_is_told_whole():
    told: list[nn.Module] = []
    network = random_frozen("gru-w4")
    train(network, TRAINING, VALIDATION, RECIPE, seed=3, on_best=lambda whole, _look: told.append(whole))
    assert told
    assert all(whole is network for whole in told)


@pytest.mark.parametrize(
    ("trained", "head_alone"),
    [("head", True), ("", False), ("stages", False)],
    ids=["the head alone", "everything", "another part"],
)
def test_a_head_alone_is_told_from_other_choices(trained, head_alone):
    network = random_frozen("resnet1d18-w4").requires_grad_(False)
    network.get_submodule(trained).requires_grad_(True)
    assert trains_head_alone(network) is head_alone


def test_part_of_a_network_can_be_trained_with_the_rest_as_it_was():
    network = random_frozen("resnet1d18-w4").requires_grad_(False)
    network.fc1.requires_grad_(True)
    before = network.stages[0].conv1.weight.clone()
    train(network, TRAINING, VALIDATION, replace(RECIPE, min_epochs=1, max_epochs=1), seed=3)
    assert torch.equal(network.stages[0].conv1.weight, before)


@pytest.mark.parametrize("arch", ARCHS)
def test_the_head_of_its_inputs_is_the_network(arch: str):
    network: nn.Module = random_frozen(f"{arch}-w4")
    network.train()
    features = head_inputs(network, VALIDATION.signals, batch_size=8)
    assert not network.training
    assert not features.requires_grad
    head: Callable[[torch.Tensor], torch.Tensor] = network.get_submodule("head")
    torch.testing.assert_close(head(features), network(VALIDATION.signals))
