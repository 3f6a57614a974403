"""The training loop learns, repeats itself bit for bit, keeps its best epoch and says when it diverged."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from engine.compute.steps import begin_training
from engine.recipes import Augmentation, Recipe
from engine.training.loop import (
    DivergedError,
    Examples,
    Training,
    predict_logits,
    predict_probabilities,
    train,
    train_again,
)
from engine.training.probe import start_from_probe
from engine.training.starting_point import new_network

ARCH = "resnet1d18-w4"
N_LEADS, N_SAMPLES = 3, 128
RECIPE = Recipe(
    "test", learning_rate=0.01, weight_decay=0.01, batch_size=16, record_passes=1000, min_epochs=5, max_epochs=50
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_of(epochs: int, **numbers: float) -> Recipe:
    """A recipe of exactly that many epochs."""
    return replace(RECIPE, **{"min_epochs": epochs, "max_epochs": epochs, "validations": 6, **numbers})


def oscillations(n_records: int, seed: int) -> Examples:
    """Oscillations of any phase in noise; the class is the amplitude of the second of three leads, 1 or 2."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n_records) % 2).astype(np.uint8)
    amplitude = np.stack([np.ones(n_records), 1.0 + labels, np.ones(n_records)], axis=1)  # (records, leads)
    phase = rng.uniform(0, 2 * np.pi, (n_records, N_LEADS, 1))
    waves = amplitude[:, :, None] * np.sin(phase + np.linspace(0, 12 * np.pi, N_SAMPLES))
    return Examples.of((waves + rng.normal(0, 0.3, waves.shape)).astype(np.float32), labels[:, None])


def small_network(seed: int = 0) -> nn.Module:
    return new_network(ARCH, N_LEADS, N_SAMPLES, 1, seed)


def auroc_of(network: nn.Module, examples: Examples) -> float:
    return float(roc_auc_score(examples.labels.numpy()[:, 0], predict_logits(network, examples.signals).numpy()[:, 0]))


def loss_of(network: nn.Module, examples: Examples) -> float:
    return float(F.binary_cross_entropy_with_logits(predict_logits(network, examples.signals), examples.labels))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def learned() -> tuple[nn.Module, Training]:
    network = small_network()
    return network, train(network, oscillations(160, seed=1), oscillations(80, seed=2), recipe_of(8), seed=0)


class MeanReader(nn.Module):
    """The least network there is: one weight on the mean of the record. It notes what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)
        self.seen: list[float] = []
        with torch.no_grad():
            self.head.weight.fill_(1.0)
            self.head.bias.fill_(0.0)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2))
        if self.training:
            self.seen += mean.tolist()
        return self.head(mean[:, None])


def constant_records(values: list[float], labels: list[int]) -> Examples:
    """One lead of four samples that all have the given value."""
    return Examples(torch.tensor(values)[:, None, None].expand(-1, 1, 4), torch.tensor(labels).float()[:, None])


def test_training_learns_an_amplitude_in_one_lead(learned):
    network, training = learned
    assert training.best.auroc > 0.95
    assert auroc_of(network, oscillations(80, seed=3)) > 0.95, "on records that it never saw"
    assert training.validations[-1].training_loss < training.validations[0].training_loss / 2


@pytest.mark.parametrize("arch", ["inceptiontime-w4", "inceptiontime-stem-w4", "net1d-w4", "s4d-w8", "vit1d-w16"])
def test_other_networks_learn_it_too_and_the_same_bits_twice(arch):
    networks = [new_network(arch, N_LEADS, N_SAMPLES, 1, seed=0) for _ in range(2)]
    training, validation = oscillations(160, seed=1), oscillations(80, seed=2)
    for network in networks:
        train(network, training, validation, recipe_of(8, learning_rate=3e-3), seed=3)
    assert auroc_of(networks[0], oscillations(80, seed=3)) > 0.95
    assert same_weights(*networks)


def test_the_best_validation_has_the_highest_auroc_and_of_those_the_lowest_loss(learned):
    network, training = learned
    assert training.best == max(training.validations, key=lambda look: (look.auroc, -look.loss))
    assert training.best.epoch > 1
    assert loss_of(network, oscillations(80, seed=2)) == pytest.approx(training.best.loss, rel=1e-6)


def test_a_network_is_left_with_the_weights_of_its_best_epoch_not_of_its_last(learned):
    """A network that knows the task is trained on the opposite labels: it can only get worse."""
    network = deepcopy(learned[0])
    examples, validation = oscillations(160, seed=1), oscillations(80, seed=2)
    opposite = Examples(examples.signals, 1 - examples.labels)
    training = train(network, opposite, validation, recipe_of(8), seed=0)
    assert training.validations[-1].auroc < 0.3
    assert training.best.auroc > 0.9
    assert training.best.epoch < 8
    assert auroc_of(network, validation) == pytest.approx(training.best.auroc, abs=1e-12)
    assert loss_of(network, validation) == pytest.approx(training.best.loss, rel=1e-6), "running statistics too"


def test_without_a_validation_auroc_the_epoch_of_the_lowest_loss_is_kept():
    """Validation records all positive, training records all negative: the loss rises from the first epoch on."""
    network = MeanReader()
    training, validation = (constant_records([0.5, 1.0, 2.0], [label] * 3) for label in (0, 1))
    result = train(network, training, validation, recipe_of(10), seed=0)
    assert np.isnan([look.auroc for look in result.validations]).all()
    assert [look.loss for look in result.validations] == sorted(look.loss for look in result.validations)
    assert result.best == result.validations[0]
    assert loss_of(network, validation) == pytest.approx(result.best.loss)


def test_the_same_seed_gives_bitwise_the_same_weights_and_another_seed_others():
    examples, validation = oscillations(40, seed=1), oscillations(20, seed=2)
    networks, results = [small_network() for _ in range(3)], []
    for noise, (network, seed) in enumerate(zip(networks, [5, 5, 6], strict=True)):
        torch.manual_seed(noise)  # torch's global generator has no say
        results.append(train(network, examples, validation, recipe_of(3), seed))
    assert same_weights(networks[0], networks[1])
    assert not same_weights(networks[0], networks[2])
    scores = [[(look.auroc, look.loss, look.training_loss) for look in result.validations] for result in results]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_every_epoch_trains_on_every_training_record_once_in_another_order():
    network, values = MeanReader(), [0.125 * k for k in range(10)]  # in batches of 4, 4 and 2
    training = constant_records(values, [0, 1] * 5)
    result = train(network, training, constant_records([0.0, 1.0], [0, 1]), recipe_of(6, batch_size=4), seed=0)
    orders = [tuple(network.seen[start : start + 10]) for start in range(0, len(network.seen), 10)]
    assert len(orders) == 6
    assert all(sorted(order) == values for order in orders)
    assert len(set(orders)) == 6
    assert result.records_seen == len(network.seen) == 60


def test_records_seen_are_epochs_times_training_records(learned):
    _, training = learned
    assert (training.epochs, training.records_seen) == (8, 8 * 160)
    assert [look.records_seen for look in training.validations] == [look.epoch * 160 for look in training.validations]


def test_each_validation_is_reported_as_it_happens():
    reported = []
    examples = constant_records([0.0, 1.0], [0, 1])
    result = train(MeanReader(), examples, examples, recipe_of(5), seed=0, report=reported.append)
    assert tuple(reported) == result.validations


def validated_epochs(epochs: int, looks: int) -> list[int]:
    examples = constant_records([0.0, 1.0], [0, 1])
    result = train(MeanReader(), examples, examples, recipe_of(epochs, validations=looks), seed=0)
    return [look.epoch for look in result.validations]


def test_validation_epochs_are_log_spaced():
    # 20 ** (k / 5) for k = 0..5 is 1, 1.82, 3.31, 6.03, 10.99, 20
    assert validated_epochs(20, 6) == [1, 2, 3, 6, 11, 20]
    assert validated_epochs(100, 3) == [1, 10, 100]


@pytest.mark.parametrize(("epochs", "looks"), [(1, 15), (2, 15), (7, 2), (15, 15), (40, 1), (60, 15)])
def test_validation_epochs_start_at_one_end_at_the_last_and_are_no_more_than_asked_for(epochs, looks):
    validated = validated_epochs(epochs, looks)
    assert (validated[0], validated[-1]) == (1, epochs)
    assert validated == sorted(set(validated))
    assert len(validated) <= max(looks, 2)


def test_an_absurd_learning_rate_raises_diverged():
    examples = oscillations(32, seed=1)
    with pytest.raises(DivergedError, match="learning rate"):
        train(small_network(), examples, examples, recipe_of(4, learning_rate=1e20), seed=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_training_record_that_is_not_finite_raises_diverged(value):
    examples = oscillations(32, seed=1)
    examples.signals[5, 1, 7] = value
    with pytest.raises(DivergedError):
        train(small_network(), examples, oscillations(16, seed=2), recipe_of(2), seed=0)


POSITIVES_LAST = torch.arange(16) // 8


def test_weights_that_break_in_the_last_step_raise_diverged():
    """The loss of the only batch is finite, the weights after it are not: NaN scores must not count as an AUROC."""
    examples = replace(oscillations(16, seed=1), labels=POSITIVES_LAST.float()[:, None])
    with pytest.raises(DivergedError):
        train(small_network(), examples, examples, recipe_of(1, learning_rate=1e20), seed=0)


def test_validation_records_that_are_not_finite_raise_diverged():
    examples = replace(oscillations(16, seed=1), labels=POSITIVES_LAST.float()[:, None])
    broken = Examples(torch.full_like(examples.signals, float("nan")), examples.labels)
    with pytest.raises(DivergedError):
        train(small_network(), examples, broken, recipe_of(1), seed=0)


def test_probabilities_are_the_sigmoid_of_the_logits_class_by_class_whatever_the_batches():
    network, signals = new_network(ARCH, N_LEADS, N_SAMPLES, 4, seed=0).train(), oscillations(21, seed=1).signals
    logits = predict_logits(network, signals, batch_size=8)
    assert logits.shape == (21, 4)
    assert not network.training
    torch.testing.assert_close(logits, predict_logits(network, signals))
    probabilities = predict_probabilities(network, signals)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits.numpy().astype(float))), rtol=1e-5)


def test_prediction_changes_no_weight_and_no_running_statistic():
    network = small_network()
    before = deepcopy(network)
    predict_logits(network, oscillations(8, seed=1).signals)
    assert same_weights(network, before)


def test_examples_hold_the_records_as_float32():
    examples = Examples.of(np.ones((4, 2, 8), np.float32), np.eye(4, 3, dtype=np.uint8))
    assert (len(examples), examples.signals.dtype, examples.labels.dtype) == (4, torch.float32, torch.float32)
    assert torch.equal(examples.labels, torch.eye(4, 3))


def test_an_augmented_training_learns_and_a_resumed_one_gives_the_same_bits():
    training, validation = oscillations(64, 0), oscillations(64, 1)
    recipe = recipe_of(12, augmentation=Augmentation(shift=0.05, scale=0.05, lead_dropout=0.0, noise=0.1))
    whole, stopped = small_network(), small_network()
    result = train(whole, training, validation, recipe, 0)
    assert result.best.auroc > 0.9
    plain = small_network()
    train(plain, training, validation, replace(recipe, augmentation=None), 0)
    assert not same_weights(whole, plain)
    epochs = iter(range(100))
    half = train(stopped, training, validation, recipe, 0, should_stop=lambda: next(epochs) == 5)
    assert half.stopped
    train(stopped, training, validation, recipe, 0, resume=half.snapshot)
    assert same_weights(whole, stopped)


def test_a_head_that_starts_as_a_probe_is_kept_where_training_makes_nothing_better():
    training, validation = oscillations(64, 0), oscillations(64, 1)
    good = small_network()
    train(good, training, validation, recipe_of(20), 0)
    probed, kept = deepcopy(good), deepcopy(good)
    start_from_probe(probed, training)
    result = train(kept, training, validation, recipe_of(2, learning_rate=5.0, clip_norm=None, head="probe"), 0)
    assert (result.best.epoch, result.best.records_seen) == (0, 0)
    assert [one.epoch for one in result.validations] == [0, 1, 2]
    assert same_weights(kept, probed)
    assert not same_weights(kept, good)
    assert result.validations[0].training_loss == pytest.approx(loss_of(probed, training))


def test_a_training_that_failed_is_begun_again_from_other_seeds_and_the_best_attempt_is_kept():
    training, validation = oscillations(64, 0), oscillations(64, 1)
    nothing = replace(training, labels=1 - training.labels)  # whoever learns this is below chance
    recipe, network, seeds = recipe_of(12, restarts=3), small_network(), []
    first = train(network, nothing, validation, recipe, 0)
    assert first.has_failed

    def renew(seed: int) -> nn.Module:
        seeds.append(seed)
        return small_network(seed)

    result = train_again(first, network, renew, training, validation, recipe, 0)
    assert (result.restarts, len(set(seeds))) == (1, 1)
    assert result.best.auroc > 0.9
    assert auroc_of(network, validation) == pytest.approx(result.best.auroc)
    assert result.seconds > first.seconds


def test_a_restart_that_is_stopped_goes_on_where_it_was_and_counts_on():
    training, validation = oscillations(64, 0), oscillations(64, 1)
    nothing = replace(training, labels=1 - training.labels)
    recipe, network = recipe_of(6, restarts=2), small_network()
    first = train(network, nothing, validation, recipe, 0)
    epochs = iter(range(100))
    stopped = train_again(
        first, network, small_network, nothing, validation, recipe, 0, should_stop=lambda: next(epochs) == 2
    )
    assert (stopped.stopped, stopped.restarts) == (True, 1)
    resumed = train(network, nothing, validation, recipe, 0, resume=stopped.snapshot, should_stop=lambda: True)
    assert (resumed.stopped, resumed.restarts) == (True, 1)
    assert resumed.seconds > stopped.seconds > first.seconds
    whole = train(network, nothing, validation, recipe, 0, resume=resumed.snapshot)
    assert train_again(whole, network, small_network, nothing, validation, recipe, 0).restarts == 2


def test_a_training_that_always_fails_is_begun_again_as_often_as_the_recipe_says():
    training, validation = oscillations(64, 0), oscillations(64, 1)
    nothing = replace(training, labels=1 - training.labels)
    recipe, network = recipe_of(4, restarts=2), small_network()
    first = train(network, nothing, validation, recipe, 0)
    result = train_again(first, network, small_network, nothing, validation, recipe, 0)
    assert result.restarts == 2
    assert result.best.auroc >= first.best.auroc
    assert auroc_of(network, validation) == pytest.approx(result.best.auroc)
    assert train_again(first, network, small_network, nothing, validation, recipe_of(4), 0) == first


def test_running_statistics_are_what_a_network_is_trained_with_where_the_recipe_says_so():
    training, validation = oscillations(48, 0), oscillations(16, 1)
    network = small_network()
    before = deepcopy(network.state_dict())
    first = network.get_submodule("stem").get_submodule("1")
    outputs: list[Tensor] = []
    train(network, training, validation, recipe_of(3, normalisation="running"), 0)
    after = network.state_dict()
    statistics = [name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var")]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["stem.0.weight"], after["stem.0.weight"])
    begin_training(network)
    first.register_forward_hook(lambda _layer, inputs, output: outputs.extend([inputs[0], output]))
    network(training.signals)
    torch.testing.assert_close(first.eval()(outputs[0]), outputs[1])  # the same as in evaluation
