"""Training on CUDA. What needs no device is tested on the CPU: everything but the recording of a step is the same."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from engine.compute import cuda_graphs as cuda
from engine.compute.packing import choose_runs_at_once, stream_executor, ten_steps, together_per_second
from engine.recipes import Recipe, find_recipe
from engine.records.contract import SignalContract
from engine.training import loop
from engine.training.loop import Examples, Training, train
from engine.training.starting_point import new_network, starting_point

RECIPE = Recipe(
    "test", learning_rate=0.005, weight_decay=0.05, batch_size=16, record_passes=0, min_epochs=6, max_epochs=6,
    validations=4,
)  # fmt: skip
SIGNAL = SignalContract(("I", "II"), 100.0, 96)
CPU = torch.device("cpu")
NO_GRAPHS = pytest.warns(RuntimeWarning, match="not run as graph, which failed: RuntimeError: a cpu has no graphs")


def gpu(test: Callable) -> Callable:
    """Mark a test that needs a CUDA device, and skip it where there is none."""
    without = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(without(test))


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Every test begins without sessions and choices, and on the CPU with one thread."""
    monkeypatch.setattr(cuda, "_local", threading.local())
    monkeypatch.setattr(cuda, "_choices", {})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(n_records: int, seed: int, n_samples: int = 96) -> Examples:
    """Noise whose amplitude in one lead tells the class."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n_records, 2)) < 0.5).astype(np.uint8)
    signals = rng.normal(0, 1, (n_records, 2, n_samples)) * (1 + labels)[:, :, None]
    return Examples.of(signals.astype(np.float32), labels)


TRAINING, VALIDATION = records(48, seed=1), records(40, seed=2)


def network_of(arch: str, seed: int = 0) -> nn.Module:
    return new_network(arch, 2, 96, 2, seed)


def as_cuda_does(monkeypatch) -> None:
    """Let the loop train on the CPU through the path of CUDA."""

    def open_run(network, training, recipe, steps, place, mode):
        shape, n_classes = training.signals.shape, training.labels.shape[1]
        return cuda.open_run(network, shape, n_classes, recipe, steps, place, mode)

    monkeypatch.setattr(loop, "_open_run", open_run)


def losses_of(training: Training) -> list[float]:
    return [value for look in training.validations for value in (look.training_loss, look.loss, look.auroc)]


@pytest.mark.parametrize("arch", ["resnet1d18-w4", "gru-w4"])
@pytest.mark.parametrize("n_records", [48, 40, 10], ids=["whole batches", "a half batch last", "less than a batch"])
def test_the_path_of_cuda_trains_to_the_losses_of_the_plain_one(monkeypatch, arch, n_records):
    examples = Examples(TRAINING.signals[:n_records], TRAINING.labels[:n_records])
    plain = train(network_of(arch), examples, VALIDATION, RECIPE, seed=3)
    as_cuda_does(monkeypatch)
    network = network_of(arch)
    static = train(network, examples, VALIDATION, RECIPE, seed=3, mode="eager")
    # A padded batch's running variance counts the copies: a change in the third digit of an AUROC.
    assert losses_of(static) == pytest.approx(losses_of(plain), rel=5e-3 if n_records == 40 else 1e-3)
    assert static.best.epoch == plain.best.epoch
    assert (static.records_seen, static.epochs) == (plain.records_seen, plain.epochs)


def test_the_network_that_was_given_gets_the_best_weights(monkeypatch):
    as_cuda_does(monkeypatch)
    network = network_of("resnet1d18-w4")
    training = train(network, TRAINING, VALIDATION, RECIPE, seed=3, mode="eager")
    assert type(network.stem[0]) is nn.Conv1d
    logits = loop.predict_logits(network, VALIDATION.signals)
    loss = float(nn.functional.binary_cross_entropy_with_logits(logits, VALIDATION.labels))
    assert loss == pytest.approx(training.best.loss, rel=1e-5)


def test_a_stopped_training_goes_on(monkeypatch):
    as_cuda_does(monkeypatch)
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3, mode="eager")
    asked = iter([False, True])
    whole = fit(network_of("gru-w4"))
    stopped = fit(network_of("gru-w4"), should_stop=lambda: next(asked))
    rest = fit(network_of("gru-w4"), resume=stopped.snapshot)
    assert losses_of(rest) == losses_of(whole)


def test_a_step_that_cannot_be_recorded_runs_eagerly_and_says_why(monkeypatch):
    as_cuda_does(monkeypatch)
    with NO_GRAPHS:
        automatic = train(network_of("resnet1d18-w4"), TRAINING, VALIDATION, RECIPE, seed=3)
    eager = train(network_of("resnet1d18-w4"), TRAINING, VALIDATION, RECIPE, seed=3, mode="eager")
    assert losses_of(automatic) == losses_of(eager)


def test_recurrent_steps_are_not_recorded(monkeypatch):
    as_cuda_does(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(network_of("gru-w4"), TRAINING, VALIDATION, RECIPE, seed=3, mode="auto")


def open_eagerly(network: nn.Module, recipe: Recipe = RECIPE, n_records: int = 48, n_classes: int = 2):
    return cuda.open_run(network, (n_records, 2, 96), n_classes, recipe, 9, CPU, "eager")


def test_a_second_run_reuses_the_session_and_gives_what_a_first_one_gives(monkeypatch):
    made = []
    prepare = cuda._prepare
    monkeypatch.setattr(cuda, "_prepare", lambda *arguments: made.append(1) or prepare(*arguments))
    as_cuda_does(monkeypatch)
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3, mode="eager")
    fit(network_of("resnet1d18-w4", seed=1))
    second = fit(network_of("resnet1d18-w4", seed=2))
    assert len(made) == 1
    monkeypatch.setattr(cuda, "_local", threading.local())
    assert losses_of(fit(network_of("resnet1d18-w4", seed=2))) == losses_of(second)
    assert len(made) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"network": network_of("resnet1d18-w8")},
        {"recipe": replace(RECIPE, clip_norm=None)},
        {"recipe": replace(RECIPE, batch_size=8)},
        {"n_records": 12},
        {"network": new_network("resnet1d18-w4", 2, 96, 3, 0), "n_classes": 3},
        {"network": starting_point("random-frozen", "resnet1d18-w4", SIGNAL, 2, 0, None).network},
    ],
    ids=["network", "clipping", "batch", "fewer records than a batch", "classes", "what is trained"],
)
def test_a_session_serves_only_what_it_was_made_for(other):
    network = network_of("resnet1d18-w4")
    with open_eagerly(network) as one, open_eagerly(**{"network": network, **other}) as run:
        assert run.session is not one.session


def test_only_so_many_sessions_are_kept():
    for batch_size in range(1, 8):
        with open_eagerly(network_of("gru-w4"), replace(RECIPE, batch_size=batch_size)) as run:
            newest = run.session
    assert len(cuda._local.sessions) == cuda._SESSIONS_KEPT
    assert newest in cuda._local.sessions.values()


def test_threads_share_a_choice_and_no_session():
    sessions = []

    def work() -> None:
        with open_eagerly(network_of("gru-w4")) as run:
            sessions.append(run.session)

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
    assert sessions[0] is not sessions[1]
    assert sessions[0].choice is sessions[1].choice


def test_probes_of_several_runs_train_together():
    probe = partial(ten_steps, network_of("resnet1d18-w4"), (2, 96), 2, replace(RECIPE, batch_size=4), CPU)
    with NO_GRAPHS as warned:
        assert together_per_second(probe, stream_executor(CPU, 3), 3) > 0
    assert len(warned) == 1, "the choice is made once for all threads"


def test_convolutional_networks_run_in_bf16_on_devices_that_have_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert cuda.precision_of(network_of("resnet1d18-w4"), torch.device("cuda:0")) == "bf16"
    assert cuda.precision_of(network_of("gru-w4"), torch.device("cuda:0")) == "float32"
    assert cuda.precision_of(nn.Linear(4, 2), torch.device("cuda:0")) == "float32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert cuda.precision_of(network_of("resnet1d18-w4"), torch.device("cuda:0")) == "float32"


def test_the_cpus_settings_are_left_alone(monkeypatch):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    with open_eagerly(network_of("gru-w4")):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == before


@gpu
@pytest.mark.parametrize("arch", ["resnet1d18-w8", "xresnet1d18-w8", "gru-w8", "bilstm-flatten-w8"])
def test_on_a_gpu_twenty_steps_have_the_losses_of_the_plain_loop(arch, monkeypatch):
    """In float32, the tensor cores' shortened one included in neither."""
    monkeypatch.setattr(cuda, "precision_of", lambda network, device: "float32")
    monkeypatch.setattr(cuda, "_prefer_speed", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = replace(RECIPE, min_epochs=20, max_epochs=20, batch_size=48, validations=20, spacing="even")
    networks = [network_of(arch) for _ in range(2)]
    for network in networks:
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    plain = train(networks[0], TRAINING, VALIDATION, recipe, seed=3)  # one batch an epoch: the order does not matter
    fast = train(networks[1], TRAINING, VALIDATION, recipe, seed=3, device="cuda")
    assert [look.training_loss for look in fast.validations] == pytest.approx(
        [look.training_loss for look in plain.validations], rel=1e-4
    )


@gpu
def test_on_a_gpu_a_recorded_step_is_chosen_or_named_and_equals_the_eager_one():
    recipe = replace(RECIPE, batch_size=16)
    runs = {}
    for mode in ("eager", "graph"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a recording that fails is a warning
            runs[mode] = train(network_of("resnet1d18-w8"), TRAINING, VALIDATION, recipe, 3, device="cuda", mode=mode)
    assert losses_of(runs["graph"]) == pytest.approx(losses_of(runs["eager"]), rel=0.02)


@gpu
def test_on_a_gpu_bf16_reaches_the_score_of_float32():
    """Within the noise of seeds: the spread of three float32 trainings."""
    recipe = replace(find_recipe("tuned", "cnn", "scratch"), min_epochs=12, max_epochs=12)
    examples, validation = records(400, 5), records(400, 6)
    plain = [train(network_of("resnet1d18-w8", s), examples, validation, recipe, s).best.auroc for s in range(3)]
    fast = [
        train(network_of("resnet1d18-w8", s), examples, validation, recipe, s, device="cuda").best.auroc
        for s in range(3)
    ]
    assert np.mean(fast) == pytest.approx(np.mean(plain), abs=max(0.02, 2 * np.std(plain)))


@gpu
def test_on_a_gpu_several_runs_at_once_give_what_each_gives_alone_and_are_charged_so():
    def run(seed: int) -> Training:
        return train(network_of("resnet1d18-w8", seed), TRAINING, VALIDATION, RECIPE, seed, device="cuda")

    alone = [run(seed) for seed in range(4)]
    with stream_executor(torch.device("cuda", 0), 4) as executor:
        together = list(executor.map(run, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert losses_of(other) == pytest.approx(losses_of(one), rel=0.02)
        assert 0 < other.seconds <= other.wall_seconds


@gpu
def test_on_a_gpu_the_number_of_runs_at_once_is_found():
    found = choose_runs_at_once(network_of("gru-w8"), (256, 2, 96), 2, RECIPE, torch.device("cuda", 0))
    assert found.count in found.records_per_second
