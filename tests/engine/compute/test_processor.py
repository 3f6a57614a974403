"""What a processor's run arranges: which network it trains, and that this changes nothing but the time."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from engine.compute import steps as processor
from engine.compute.recurrence import ProcessorGRU
from engine.compute.steps import PlainRun
from engine.recipes import find_recipe
from engine.training.course import Examples
from engine.training.loop import train
from engine.training.starting_point import new_network
from models.registry import create_network

STEPS = 20


def batches(n_records: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(n_records, 3, 96, generator=generator),
         (torch.rand(n_records, 2, generator=generator) < 0.4).float())
        for _ in range(STEPS)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["tuned", "paper"])
@pytest.mark.parametrize(
    ("arch", "dtype"),
    [("resnet1d18-w32", torch.float64), ("resnet1d50-w8", torch.float64), ("xresnet1d18-w64", torch.float64),
     ("xresnet1d18-w64", torch.float32), ("gru-w8", torch.float64), ("gru-flatten-w8", torch.float64),
     ("gru-w8", torch.float32)],
)  # fmt: skip
def test_twenty_steps_have_the_losses_of_a_plain_loop(arch: str, dtype: torch.dtype, name: str):
    """In float64, because a residual network in float32 leaves that by as much as any two orders of sums differ.

    In float32 such differences grow from step to step, by how much depends on the processor: the first half of the
    steps is compared closely, the second only to see that both go the same way.
    """
    recipe = replace(find_recipe(name, "cnn", "fine-tune"), learning_rate=3e-4, batch_size=8)
    networks = [new_network(arch, 3, 96, 2, seed=5).to(dtype) for _ in range(2)]
    for layer in (layer for network in networks for layer in network.modules() if isinstance(layer, nn.Dropout)):
        layer.p = 0.0
    runs = PlainRun(networks[0], recipe, STEPS), processor.open_run(networks[1], recipe, STEPS)
    expected, losses = (
        [float(run.train_epoch(x.to(dtype), y.to(dtype), torch.arange(8))) for x, y in batches()] for run in runs
    )
    if dtype == torch.float64:
        assert losses == pytest.approx(expected, rel=1e-8)
    else:
        assert losses[: STEPS // 2] == pytest.approx(expected[: STEPS // 2], rel=1e-4)
        assert losses == pytest.approx(expected, rel=1e-2)
    assert abs(losses[0] - losses[-1]) > 0.01, "the steps have an effect"


def test_the_caller_s_network_ends_with_the_best_weights_of_its_twin():
    network = new_network("resnet1d18-w32", 3, 96, 2, seed=5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kept: list[dict[str, torch.Tensor]] = []
    recipe = replace(find_recipe("tuned", "cnn", "scratch"), record_passes=0, min_epochs=3, max_epochs=3)
    training, validation = (Examples(*batches(24)[k]) for k in range(2))
    train(
        network, training, validation, recipe, 0,
        on_best=lambda now, _: kept.append({name: value.clone() for name, value in now.state_dict().items()}),
    )  # fmt: skip
    assert type(network.stem[0]) is nn.Conv1d
    assert all(value.is_contiguous() for value in network.state_dict().values())
    assert all(torch.equal(value, kept[-1][name]) for name, value in network.state_dict().items())
    assert not torch.equal(network.stem[0].weight, before["stem.0.weight"])


@pytest.mark.parametrize("arch", ["lstm-w4", "bilstm-flatten-w4"])
def test_an_lstm_is_trained_itself(arch: str):
    network = create_network(arch, n_classes=2)
    assert processor.open_run(network, find_recipe("tuned", "rnn", "scratch"), 1).network is network


def test_a_gru_is_trained_as_a_twin_that_predicts_as_torch_does():
    network = create_network("gru-w4", n_classes=2)
    twin = processor.open_run(network, find_recipe("tuned", "rnn", "scratch"), 1).network
    assert (type(network.recurrent), type(twin.recurrent)) == (nn.GRU, ProcessorGRU)
    signals = torch.randn(3, 12, 50)
    with torch.inference_mode():
        assert torch.equal(twin.eval()(signals), network.eval()(signals))


def test_a_network_that_reads_a_grus_last_state_trains_as_it_does_on_torchs():
    """Another package's network may do with the layer what none of ours does."""
    theirs = nn.GRU(3, 4, batch_first=True)
    ours = processor.open_run(nn.Sequential(theirs), find_recipe("tuned", "rnn", "scratch"), 1).network[0]
    assert type(ours) is ProcessorGRU
    packed = nn.utils.rnn.pack_sequence([torch.randn(7, 3), torch.randn(5, 3)])
    for inputs in (
        (torch.randn(2, 9, 3),),
        (torch.randn(2, 9, 3), torch.ones(1, 2, 4)),
        (torch.randn(9, 3),),
        (packed,),
    ):
        (states, last), (expected, expected_last) = ours(*inputs), theirs(*inputs)
        if inputs[0] is packed:
            states, expected = states.data, expected.data
        torch.testing.assert_close(states, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(last, expected_last, rtol=1e-5, atol=1e-6)
        gradients = [
            torch.autograd.grad(end.square().sum(), layer.weight_hh_l0)[0]
            for end, layer in ((last, ours), (expected_last, theirs))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [nn.GRU(3, 2, num_layers=2, batch_first=True), nn.GRU(3, 2, batch_first=True, bidirectional=True),
     nn.GRU(3, 2), nn.GRU(3, 2, bias=False, batch_first=True), nn.LSTM(3, 2, batch_first=True)],
    ids=["two layers", "both ways", "time first", "no bias", "LSTM"],
)  # fmt: skip
def test_a_recurrent_layer_of_another_kind_is_left_as_it_is(layer: nn.RNNBase):
    network = nn.Sequential(layer)
    assert processor.open_run(network, find_recipe("tuned", "rnn", "scratch"), 1).network is network


def test_without_onednn_a_network_is_trained_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processor, "_HAS_ONEDNN", False)
    network = create_network("resnet1d18-w4", n_classes=2)
    assert processor.open_run(network, find_recipe("tuned", "cnn", "scratch"), 1).network is network


@pytest.mark.parametrize(("instructions", "has_twin"), [("AVX2", True), ("AVX512", True), ("SVE256", False)])
def test_a_processor_of_a_kind_that_was_not_measured_trains_the_network_itself(
    instructions: str, has_twin: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processor, "_HAS_ONEDNN", True)
    monkeypatch.setattr(processor, "instructions", lambda: instructions)
    network = create_network("resnet1d18-w4", n_classes=2)
    run = processor.open_run(network, find_recipe("tuned", "cnn", "scratch"), 1)
    assert (run.network is not network) is has_twin


@pytest.mark.parametrize(("arch", "kept"), [("lstm-w4", True), ("gru-w4", True), ("resnet1d18-w4", False)])
def test_memory_is_kept_where_a_network_gains_by_it(arch: str, kept: bool, monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(processor, "keep_freed_memory", lambda: called.append(True))
    processor.open_run(create_network(arch, n_classes=2), find_recipe("tuned", "rnn", "scratch"), 1)
    assert bool(called) is kept
