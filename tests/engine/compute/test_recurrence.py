"""The layers of many networks at once compute what torch's own do, forwards and backwards."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from engine.compute import recurrence
from engine.compute.recurrence import gru, lstm

RUNS, BATCH, INPUTS, UNITS = 3, 2, 2, 4
LAYERS = pytest.mark.parametrize(
    ("recur", "layer", "gates"), [(gru, nn.GRU, 3), (lstm, nn.LSTM, 4)], ids=["gru", "lstm"]
)
Recur = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """So that seven time steps are three chunks of the backward pass, the last one shorter."""
    monkeypatch.setattr(recurrence, "_CHUNK", 3)


def noise(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def arguments_of(gates: int, steps: int = 7) -> list[Tensor]:
    rows = gates * UNITS
    shapes = (steps, RUNS, BATCH, INPUTS), (RUNS, rows, INPUTS), (RUNS, rows, UNITS), (RUNS, rows), (RUNS, rows)
    return [noise(*shape, seed=seed) for seed, shape in enumerate(shapes)]


@LAYERS
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_gradients_are_those_of_small_changes(recur: Recur, layer: type[nn.RNNBase], gates: int, steps: int):
    assert torch.autograd.gradcheck(recur, arguments_of(gates, steps))


@LAYERS
def test_every_layer_computes_what_torchs_own_does_on_its_records(recur: Recur, layer: type[nn.RNNBase], gates: int):
    signals, *parameters = arguments_of(gates)
    states = recur(signals, *parameters)
    weights = noise(*states.shape, seed=9)
    of_signals, *of_parameters = torch.autograd.grad((states * weights).sum(), [signals, *parameters])
    for run in range(RUNS):
        own = layer(INPUTS, UNITS).double()
        for parameter, value in zip(own.parameters(), parameters, strict=True):
            parameter.data = value[run].detach()
        inputs = signals[:, run].detach().requires_grad_()
        expected, _ = own(inputs)
        torch.testing.assert_close(states[:, run], expected)
        gradients = torch.autograd.grad((expected * weights[:, run]).sum(), [inputs, *own.parameters()])
        ours = [of_signals[:, run], *(gradient[run] for gradient in of_parameters)]
        torch.testing.assert_close(tuple(ours), gradients)


@LAYERS
def test_records_that_need_no_gradient_get_none(recur: Recur, layer: type[nn.RNNBase], gates: int):
    signals, *parameters = arguments_of(gates)
    expected = torch.autograd.grad(recur(signals, *parameters).sum(), parameters)
    gradients = torch.autograd.grad(recur(signals.detach(), *parameters).sum(), parameters)
    torch.testing.assert_close(gradients, expected)


@LAYERS
def test_a_layer_of_infinite_weights_leaves_the_others_alone(recur: Recur, layer: type[nn.RNNBase], gates: int):
    signals, *parameters = arguments_of(gates)
    expected = torch.autograd.grad(recur(signals, *parameters).sum(), parameters)
    broken = [parameter.detach().clone() for parameter in parameters]
    for parameter in broken:
        parameter[1] = torch.nan
        parameter.requires_grad_()
    states = recur(signals.detach(), *broken)
    assert states[:, 1].isnan().all()
    for gradient, right in zip(torch.autograd.grad(states.sum(), broken), expected, strict=True):
        torch.testing.assert_close(gradient[[0, 2]], right[[0, 2]])
