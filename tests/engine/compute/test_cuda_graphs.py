"""Training on CUDA. On the CPU the same code runs, but for the capture of a step: that is done with a stand-in."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from engine.compute import cuda_graphs as cuda
from engine.compute.channels_last import fast_twin
from engine.compute.static_step import StaticStep
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
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NO_GRAPHS = partial(
    pytest.warns, RuntimeWarning, match="run eagerly, because their capture failed: RuntimeError: a cpu has no graphs"
)


def gpu(test: Callable) -> Callable:
    """Mark a test that needs a CUDA device, and skip it where there is none."""
    without = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(without(test))


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Every test begins without sessions and failures, and on the CPU with one thread."""
    monkeypatch.setattr(cuda, "_sessions", OrderedDict())
    monkeypatch.setattr(cuda, "_failed", set())
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


def training_losses_of(training: Training) -> list[float]:
    return [look.training_loss for look in training.validations]


def stopping_after(epochs: int) -> Callable[[], bool]:
    asked = iter([False] * (epochs - 1) + [True])
    return lambda: next(asked)


@pytest.mark.parametrize("n_records", [48, 40, 10], ids=["whole batches", "a half batch last", "less than a batch"])
def test_the_path_of_cuda_trains_to_the_losses_of_the_plain_one(monkeypatch, n_records):
    examples = Examples(TRAINING.signals[:n_records], TRAINING.labels[:n_records])
    plain = train(network_of("resnet1d18-w4"), examples, VALIDATION, RECIPE, seed=3)
    as_cuda_does(monkeypatch)
    static = train(network_of("resnet1d18-w4"), examples, VALIDATION, RECIPE, seed=3, mode="eager")
    # A padded batch's running variance counts the copies: a change in the third digit of an AUROC.
    assert losses_of(static) == pytest.approx(losses_of(plain), rel=5e-3 if n_records == 40 else 1e-3)
    assert static.best.epoch == plain.best.epoch
    assert (static.records_seen, static.epochs) == (plain.records_seen, plain.epochs)


def test_recurrent_networks_train_by_plain_steps_and_nothing_is_captured(monkeypatch):
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3)
    plain = fit(network_of("gru-w4"))
    as_cuda_does(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = fit(network_of("gru-w4"), mode="auto")
    assert losses_of(training) == losses_of(plain)
    assert (training.precision, training.way) == ("float32", "eager")


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
    whole = fit(network_of("xresnet1d18-w4"))
    stopped = fit(network_of("xresnet1d18-w4"), should_stop=stopping_after(2))
    rest = fit(network_of("xresnet1d18-w4"), resume=stopped.snapshot)
    assert losses_of(rest) == losses_of(whole)


@pytest.mark.parametrize("begins_plainly", [True, False])
def test_a_training_stopped_on_one_path_goes_on_on_the_other(monkeypatch, begins_plainly):
    """Both have a CPU's generators here, so that the order of the records is that of an unbroken training."""
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3, mode="eager")
    whole = fit(network_of("resnet1d18-w4"))
    with monkeypatch.context() as patched:
        if not begins_plainly:
            as_cuda_does(patched)
        stopped = fit(network_of("resnet1d18-w4"), should_stop=stopping_after(2))
    if begins_plainly:
        as_cuda_does(monkeypatch)
    rest = fit(network_of("resnet1d18-w4"), resume=stopped.snapshot)
    assert losses_of(rest) == pytest.approx(losses_of(whole), rel=1e-3)


def test_a_step_that_cannot_be_captured_runs_eagerly_says_why_once_and_is_not_tried_again(monkeypatch):
    as_cuda_does(monkeypatch)
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3)
    with NO_GRAPHS() as warned:
        automatic = fit(network_of("resnet1d18-w4"))
        cuda.free_kept()
        again = fit(network_of("resnet1d18-w4"))
    assert len(warned) == 1
    assert {automatic.way, again.way} == {"eager"}
    eager = fit(network_of("resnet1d18-w4"), mode="eager")
    assert losses_of(automatic) == losses_of(again) == losses_of(eager)


class Streams:
    """The parts of torch.cuda that a capture touches, which note what was done to them."""

    def __init__(self, monkeypatch, failing: bool) -> None:
        self.current, self.done, self.failing = "main", [], failing
        self.default = Drawing("of the process")
        fakes = {
            "CUDAGraph": lambda: self, "graph_pool_handle": lambda: "pool", "empty_cache": lambda: None,
            "synchronize": lambda _device: None, "current_stream": lambda _device: self, "Stream": lambda _device: self,
            "stream": self.stream, "default_generators": [self.default],
        }  # fmt: skip
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            monkeypatch.setattr(torch._C, name, lambda *_what, name=name: self.done.append(name), raising=False)
        cuda._side_stream.cache_clear()
        monkeypatch.setattr(cuda, "_side_stream", lambda _device: self)

    def wait_stream(self, _other: object) -> None:
        """Nothing runs beside the test."""

    @contextmanager
    def stream(self, _stream: object) -> Iterator[None]:
        before, self.current = self.current, "side"
        try:
            yield
        finally:
            self.current = before

    def capture_begin(self, pool: str, capture_error_mode: str) -> None:
        assert (self.current, pool) == ("side", "pool")
        self.default.state.capturing = True

    def capture_end(self) -> None:
        if self.failing:
            raise RuntimeError("the capture was invalidated")
        self.default.state.capturing = False

    def replay(self) -> None:
        self.done.append("replay")


class Drawing:
    """A generator whose state is shared by reference, as torch's on CUDA."""

    def __init__(self, name: str) -> None:
        self.name, self.capturing, self.state = name, False, self

    def clone_state(self) -> "Drawing":
        return Drawing("of the step")

    def graphsafe_get_state(self) -> "Drawing":
        return self.state

    def graphsafe_set_state(self, state: "Drawing") -> None:
        self.state = state


def step_of(arch: str) -> StaticStep:
    step = StaticStep(fast_twin(network_of(arch)), (8, 2, 96), 2, 1.0, "float32")
    step.network.train()
    return step


def test_a_capture_draws_from_a_generator_of_its_own_and_leaves_stream_and_generator_as_they_were(monkeypatch):
    streams = Streams(monkeypatch, failing=False)
    session = cuda.capture(step_of("resnet1d18-w4"), CUDA)
    assert session.way == "graph"
    assert (session.generator.name, session.generator.capturing) == ("of the step", False)
    assert (streams.current, streams.default.state.name) == ("main", "of the process")
    session.replay()
    assert streams.done == ["replay"]
    with cuda.drawing_from(session.generator, CUDA):
        assert streams.default.state is session.generator
    assert streams.default.state is streams.default


def test_a_capture_that_fails_half_way_leaves_the_process_sound(monkeypatch):
    streams = Streams(monkeypatch, failing=True)
    step = step_of("resnet1d18-w4")

    def fails_when_captured() -> None:
        if streams.default.state.capturing:
            raise RuntimeError("this operation cannot be captured")
        StaticStep.__call__(step)

    with pytest.raises(RuntimeError, match="cannot be captured"):
        cuda.capture(fails_when_captured, CUDA)
    assert (streams.current, streams.default.state.name) == ("main", "of the process")
    assert not streams.default.capturing, "the process draws on"
    assert streams.done == ["_cuda_endAllocateToPool", "_cuda_releasePool"]
    step()


def test_a_capture_that_lacks_memory_is_no_failure_to_remember(monkeypatch):
    step, memory = step_of("resnet1d18-w4"), iter([torch.OutOfMemoryError("CUDA out of memory"), None])

    def capture(step: StaticStep, _device: torch.device) -> cuda.Session:
        if error := next(memory):
            raise error
        return cuda.Session(step, lambda: None)

    monkeypatch.setattr(cuda, "capture", capture)
    with pytest.raises(torch.OutOfMemoryError):
        cuda.prepare(step, CUDA, ("kind",))
    assert cuda.prepare(step, CUDA, ("kind",)).way == "graph"


def open_eagerly(network: nn.Module, recipe: Recipe = RECIPE, n_records: int = 48, n_classes: int = 2):
    return cuda.open_run(network, (n_records, 2, 96), n_classes, recipe, 9, CPU, "eager")


def test_a_second_run_reuses_the_session_and_gives_what_a_first_one_gives(monkeypatch):
    as_cuda_does(monkeypatch)
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3, mode="eager")
    fit(network_of("resnet1d18-w4", seed=1))
    (session,) = cuda._sessions.values()
    second = fit(network_of("resnet1d18-w4", seed=2))
    assert list(cuda._sessions.values()) == [session]
    cuda.free_kept()
    assert losses_of(fit(network_of("resnet1d18-w4", seed=2))) == losses_of(second)
    assert list(cuda._sessions.values()) != [session]


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


def test_networks_that_differ_in_what_no_text_of_theirs_says_share_no_session():
    networks = [network_of("resnet1d18-w4") for _ in range(2)]
    networks[1].drop_path = 0.5  # as another package's network may have it
    with open_eagerly(networks[0]) as one, open_eagerly(networks[1]) as other:
        assert other.session is not one.session


def test_only_so_many_sessions_are_kept():
    for batch_size in range(1, 8):
        with open_eagerly(network_of("resnet1d18-w2"), replace(RECIPE, batch_size=batch_size)) as run:
            newest = run.session
    assert len(cuda._sessions) == cuda._SESSIONS_KEPT
    assert newest in cuda._sessions.values()


def test_convolutional_networks_run_in_bf16_on_devices_that_have_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert cuda.precision_of(network_of("resnet1d18-w4"), torch.device("cuda:0")) == "bf16"
    assert cuda.precision_of(network_of("gru-w4"), torch.device("cuda:0")) == "float32"
    assert cuda.precision_of(nn.Linear(4, 2), torch.device("cuda:0")) == "float32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert cuda.precision_of(network_of("resnet1d18-w4"), torch.device("cuda:0")) == "float32"


def test_the_cpus_settings_are_left_alone(monkeypatch):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    with open_eagerly(network_of("resnet1d18-w4")):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == before


@pytest.fixture
def in_float32(monkeypatch):
    """Neither bf16 nor the tensor cores' shortened float32."""
    monkeypatch.setattr(cuda, "precision_of", lambda network, device: "float32")
    monkeypatch.setattr(cuda, "prefer_speed", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def without_dropout(network: nn.Module) -> nn.Module:
    for layer in network.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout1d):
            layer.p = 0.0
    return network


@gpu
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize(
    "arch",
    [
        "resnet1d18-w8", "xresnet1d18-w8", "gru-w8", "bilstm-flatten-w8", "inceptiontime-w8", "net1d-w8", "s4d-w8",
        "vit1d-w8",
    ],
)  # fmt: skip
def test_on_a_gpu_twenty_steps_have_the_losses_of_the_plain_loop(arch):
    # Slow learning: at a higher rate the rounding of either device grows beyond the bound within these steps.
    recipe = replace(
        RECIPE, learning_rate=1e-4, min_epochs=20, max_epochs=20, batch_size=48, validations=20, spacing="even"
    )
    one, other = (without_dropout(network_of(arch)) for _ in range(2))
    plain = train(one, TRAINING, VALIDATION, recipe, seed=3)  # one batch an epoch: the order does not matter
    fast = train(other, TRAINING, VALIDATION, recipe, seed=3, device="cuda")
    assert training_losses_of(fast) == pytest.approx(training_losses_of(plain), rel=1e-4)
    assert fast.way == ("eager" if arch.startswith(("gru", "bilstm")) else "graph")


@gpu
def test_on_a_gpu_a_captured_step_equals_the_eager_one():
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3, device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a capture that fails is a warning
        runs = {mode: fit(network_of("resnet1d18-w8"), mode=mode) for mode in ("eager", "graph")}
    assert losses_of(runs["graph"]) == pytest.approx(losses_of(runs["eager"]), rel=0.02)
    assert [(run.way, run.precision) for run in runs.values()] == [("eager", "bf16"), ("graph", "bf16")]


@gpu
@pytest.mark.usefixtures("in_float32")
def test_on_a_gpu_a_captured_step_drops_what_an_eager_one_drops_and_something_else_in_every_step():
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, device="cuda")
    eager = fit(network_of("xresnet1d18-w8"), seed=3, mode="eager")
    graph = fit(network_of("xresnet1d18-w8"), seed=3, mode="graph")
    fit(network_of("resnet1d18-w8"), seed=4)  # another kind's capture, in between
    again = fit(network_of("xresnet1d18-w8"), seed=3, mode="graph")
    assert graph.way == again.way == "graph"
    assert training_losses_of(graph) == pytest.approx(training_losses_of(eager), rel=5e-3)
    assert training_losses_of(again) == pytest.approx(training_losses_of(graph), rel=5e-3)
    still = replace(RECIPE, learning_rate=1e-30, weight_decay=0.0, batch_size=48, validations=6, spacing="even")
    frozen = train(network_of("xresnet1d18-w8"), TRAINING, VALIDATION, still, seed=3, device="cuda")
    assert min(np.diff(sorted(training_losses_of(frozen)))) > 1e-5, "the same weights and records, other masks"


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
@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("arch", ["xresnet1d18-w8", "gru-w8"])
def test_on_a_gpu_a_stopped_training_goes_on_there_and_on_the_cpu(arch):
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3)
    whole = fit(network_of(arch), device="cuda")
    stopped = fit(network_of(arch), device="cuda", should_stop=stopping_after(2))
    rest = fit(network_of(arch), device="cuda", resume=stopped.snapshot)
    assert training_losses_of(rest) == pytest.approx(training_losses_of(whole), rel=5e-3)
    elsewhere = fit(network_of(arch), device="cpu", resume=stopped.snapshot)
    assert elsewhere.epochs == whole.epochs
    back = fit(network_of(arch), device="cuda", resume=fit(network_of(arch), should_stop=stopping_after(2)).snapshot)
    assert back.epochs == whole.epochs
    assert all(np.isfinite(losses_of(training)).all() for training in (elsewhere, back))


@gpu
def test_on_a_gpu_a_failed_capture_leaves_the_process_sound(monkeypatch):
    fit = partial(train, training=TRAINING, validation=VALIDATION, recipe=RECIPE, seed=3, device="cuda")
    expected = fit(network_of("xresnet1d18-w8"))
    stream, call = torch.cuda.current_stream(), StaticStep.__call__

    def reading(step: StaticStep) -> None:
        call(step)
        float(step.total)  # waits for the device, which a capture does not allow

    with monkeypatch.context() as patched:
        patched.setattr(StaticStep, "__call__", reading)
        with pytest.warns(RuntimeWarning, match="capture failed") as warned:
            failed = [fit(network_of("xresnet1d18-w4")) for _ in range(2)]
    assert (len(warned), {training.way for training in failed}) == (1, {"eager"})
    assert torch.cuda.current_stream() == stream
    assert torch.randn(8, device="cuda").isfinite().all(), "the default generator draws"
    kept = fit(network_of("xresnet1d18-w8"))  # a session from before the failure
    new = fit(network_of("resnet1d18-w8"))
    assert kept.way == new.way == "graph"
    assert losses_of(kept) == pytest.approx(losses_of(expected), rel=0.02)


@gpu
def test_on_a_gpu_a_run_is_charged_the_wall_clock_without_the_capture():
    training = train(network_of("resnet1d18-w8"), TRAINING, VALIDATION, RECIPE, 3, device="cuda")
    assert 0 < training.seconds <= training.wall_seconds
