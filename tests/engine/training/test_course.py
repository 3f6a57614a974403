"""A training can be stopped and resumed to the same bits, watched without being changed, and ended by its recipe."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from engine.checkpoints.snapshot import Snapshot
from engine.evaluation.metrics import auroc_macro
from engine.recipes import Recipe, find_recipe
from engine.training.loop import DivergedError, Examples, Monitored, Optimism, Training, predict_probabilities, train
from engine.training.starting_point import new_network

RECIPE = Recipe(
    "test", learning_rate=0.01, weight_decay=0.01, batch_size=16, record_passes=0, min_epochs=8, max_epochs=8,
    validations=5,
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(n_records: int, seed: int) -> Examples:
    """Noise of two classes, the second of which has the larger amplitude in one lead."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n_records) % 2).astype(np.uint8)
    signals = rng.normal(0, 1, (n_records, 2, 64)) * (1 + 0.5 * labels)[:, None, None]
    return Examples.of(signals.astype(np.float32), np.stack([labels, 1 - labels], axis=1))


TRAINING, VALIDATION = records(40, seed=1), records(30, seed=2)


class Dropping(nn.Module):
    """A network with dropout, which draws on torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(128, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.dropout(self.body(x.flatten(1)), 0.5, self.training))


def network_of(arch: str) -> nn.Module:
    torch.manual_seed(0)
    return Dropping() if arch == "dropping" else new_network(arch, 2, 64, 2, seed=0)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


def untimed(training: Training) -> list[tuple]:
    return [tuple(vars(replace(look, seconds=0)).items()) for look in training.validations]


def stopping_after(epochs: int):
    asked = iter([False] * (epochs - 1) + [True])
    return lambda: next(asked)


@pytest.mark.parametrize(("arch", "epochs"), [("resnet1d18-w2", 3), ("gru-w4", 1), ("dropping", 7)])
def test_a_stopped_training_goes_on_to_the_bits_of_an_unbroken_one(arch, epochs):
    whole, pieces = network_of(arch), network_of(arch)
    unbroken = train(whole, TRAINING, VALIDATION, RECIPE, seed=4)
    first = train(pieces, TRAINING, VALIDATION, RECIPE, seed=4, should_stop=stopping_after(epochs))
    assert (first.stopped, first.epochs, first.records_seen) == (True, epochs, 40 * epochs)
    assert first.snapshot is not None
    resumed = network_of(arch)
    torch.rand(99)  # whatever happened in between
    rest = train(resumed, TRAINING, VALIDATION, RECIPE, seed=4, resume=first.snapshot)
    assert same_weights(whole, resumed)
    assert untimed(rest) == untimed(unbroken)
    assert (rest.stopped, rest.epochs, rest.snapshot) == (False, 8, None)
    assert rest.best.epoch == unbroken.best.epoch
    assert rest.seconds > first.seconds, "what was spent before is charged too"


def test_a_stopped_training_leaves_the_best_weights_so_far():
    network = network_of("resnet1d18-w2")
    stopped = train(network, TRAINING, VALIDATION, RECIPE, seed=4, should_stop=stopping_after(4))
    scores = predict_probabilities(network, VALIDATION.signals)
    assert auroc_macro(VALIDATION.labels.numpy().astype(np.uint8), scores) == stopped.best.auroc
    assert stopped.best == max(stopped.validations, key=lambda look: (look.auroc, -look.loss))


def test_after_the_last_epoch_there_is_nothing_to_stop():
    asked = []
    training = train(network_of("gru-w4"), TRAINING, VALIDATION, RECIPE, 4, should_stop=lambda: bool(asked.append(1)))
    assert len(asked) == 7
    assert not training.stopped


def test_dropout_depends_on_the_seed_alone():
    one, other, third = (network_of("dropping") for _ in range(3))
    for noise, (network, seed) in enumerate([(one, 4), (other, 4), (third, 5)]):
        torch.manual_seed(noise)
        train(network, TRAINING, VALIDATION, RECIPE, seed)
    assert same_weights(one, other)
    assert not same_weights(one, third)


def test_every_best_validation_so_far_is_told_with_the_network_as_it_was():
    seen = []

    def note(network: nn.Module, look) -> None:
        scores = predict_probabilities(network, VALIDATION.signals)
        seen.append((look, auroc_macro(VALIDATION.labels.numpy().astype(np.uint8), scores)))

    watched, alone = network_of("resnet1d18-w2"), network_of("resnet1d18-w2")
    training = train(watched, TRAINING, VALIDATION, RECIPE, 4, on_best=note)
    best, expected = None, []
    for look in training.validations:
        if best is None or (look.auroc, -look.loss) > (best.auroc, -best.loss):
            best = look
            expected.append((look, look.auroc))
    assert seen == expected
    assert untimed(train(alone, TRAINING, VALIDATION, RECIPE, 4)) == untimed(training)


def test_monitored_records_are_scored_at_every_validation_and_change_nothing():
    test = records(30, seed=3)
    recipe = replace(RECIPE, spacing="even", validations=8)
    watched, alone = network_of("dropping"), network_of("dropping")
    with_monitor = train(watched, TRAINING, VALIDATION, recipe, 4, monitor=test)
    without = train(alone, TRAINING, VALIDATION, recipe, 4)
    assert same_weights(watched, alone)
    assert untimed(with_monitor) == untimed(without)
    assert without.monitored == ()
    assert without.optimism is None
    assert [look.epoch for look in with_monitor.monitored] == [1, 2, 3, 4, 5, 6, 7, 8]
    labels, scores = test.labels.numpy().astype(np.uint8), predict_probabilities(watched, test.signals)
    chosen = with_monitor.monitored[with_monitor.best.epoch - 1]
    assert chosen.auroc == auroc_macro(labels, scores)
    assert chosen.f1_weighted == pytest.approx(f1_score(labels, scores >= 0.5, average="weighted", zero_division=0))


def test_optimism_is_the_maximum_beside_the_score_at_the_chosen_epoch():
    looks = tuple(Monitored(*numbers) for numbers in [(1, 0.6, 0.3), (2, 0.7, 0.5), (3, float("nan"), 0.6)])
    assert Optimism.of(looks, chosen_epoch=1) == Optimism(0.7, 0.6, 0.6, 0.3)


def test_patience_ends_a_training_after_so_many_validations_without_a_better_one():
    recipe = replace(RECIPE, min_epochs=40, max_epochs=40, validations=40, spacing="even", patience=3)
    patient = train(network_of("dropping"), TRAINING, VALIDATION, recipe, 4)
    endless = train(network_of("dropping"), TRAINING, VALIDATION, replace(recipe, patience=None), 4)
    assert patient.epochs == patient.best.epoch + 3 < endless.epochs == 40
    assert untimed(patient) == untimed(endless)[: patient.epochs]
    assert not patient.stopped, "it ended as its recipe says"


def test_the_last_epoch_is_kept_where_the_recipe_says_so():
    """Trained on the opposite labels a network can only get worse."""
    opposite = Examples(TRAINING.signals, 1 - TRAINING.labels)
    chosen = train(network_of("resnet1d18-w2"), opposite, VALIDATION, RECIPE, 4)
    assert chosen.best.epoch < 8
    network = network_of("resnet1d18-w2")
    last = train(network, opposite, VALIDATION, replace(RECIPE, selection="last"), 4)
    assert last.best == last.validations[-1]
    scores = predict_probabilities(network, VALIDATION.signals)
    assert auroc_macro(VALIDATION.labels.numpy().astype(np.uint8), scores) == last.best.auroc


def test_paper_validates_every_epoch():
    recipe = replace(find_recipe("paper", "cnn", "scratch"), batch_size=40)
    training = train(network_of("dropping"), TRAINING, VALIDATION, recipe, 4)
    assert [look.epoch for look in training.validations] == list(range(1, 101))


def test_a_frozen_training_that_diverges_says_so():
    network = network_of("dropping").requires_grad_(False)
    network.head.requires_grad_(True)
    with pytest.raises(DivergedError):
        train(network, TRAINING, VALIDATION, replace(RECIPE, learning_rate=1e30), 4)


@pytest.mark.parametrize("arch", ["resnet1d18-w2", "dropping"])
def test_a_snapshot_of_a_gpu_goes_on_on_the_cpu_with_another_order_that_depends_on_the_seed_alone(arch):
    """Its generators' states have other sizes, and its moments no count of steps."""
    begun = train(network_of(arch), TRAINING, VALIDATION, RECIPE, seed=4, should_stop=stopping_after(3)).snapshot
    states = {name: torch.zeros(16, dtype=torch.uint8) for name in ("random.order", "random.cuda")}
    of_a_gpu = Snapshot(begun.epoch, {**begun.tensors, **states}, {**begun.numbers, "device": "cuda"})
    rests = []
    for seed in (4, 4, 5):
        torch.rand(seed)  # whatever happened in between
        rests.append(train(network_of(arch), TRAINING, VALIDATION, RECIPE, seed=seed, resume=of_a_gpu))
    assert [rest.epochs for rest in rests] == [8, 8, 8]
    assert (
        untimed(rests[0])[: len(begun.numbers["validations"])] == untimed(rests[2])[: len(begun.numbers["validations"])]
    )
    assert untimed(rests[0]) == untimed(rests[1])
    assert untimed(rests[0]) != untimed(rests[2])


def test_a_snapshot_from_before_it_named_its_device_and_with_steps_among_its_moments_goes_on():
    whole, resumed = network_of("resnet1d18-w2"), network_of("resnet1d18-w2")
    train(whole, TRAINING, VALIDATION, RECIPE, seed=4)
    begun = train(
        network_of("resnet1d18-w2"), TRAINING, VALIDATION, RECIPE, seed=4, should_stop=stopping_after(3)
    ).snapshot
    steps = {f"moments.{k}.step": torch.tensor(9.0) for k in range(len(list(whole.parameters())))}
    numbers = {name: value for name, value in begun.numbers.items() if name != "device"}
    train(resumed, TRAINING, VALIDATION, RECIPE, seed=4, resume=Snapshot(3, {**begun.tensors, **steps}, numbers))
    assert same_weights(whole, resumed)
