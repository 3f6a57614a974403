"""The weight gradient by matrix products is the gradient, and is taken where it is meant to be."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engine.compute import weight_gradient
from engine.compute.channels_last import fast_twin
from engine.compute.weight_gradient import convolve, gains


@pytest.mark.parametrize(("batch", "n_samples", "padding"), [(3, 7, 1), (1, 5, 1), (4, 3, 2), (3, 3, 3), (2, 9, 3)])
def test_it_is_the_gradient_of_the_convolution(batch: int, n_samples: int, padding: int):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 2, 1, n_samples, dtype=torch.float64, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(3, 2, 2 * padding + 1, dtype=torch.float64, generator=generator).requires_grad_()
    torch.testing.assert_close(convolve(x, weight, padding).squeeze(2), F.conv1d(x.squeeze(2), weight, padding=padding))
    assert torch.autograd.gradcheck(lambda x, weight: convolve(x, weight, padding), (x, weight))


def test_a_part_that_does_not_learn_gets_no_gradient():
    x, weight = torch.randn(2, 3, 1, 8), torch.randn(4, 3, 3)
    for of_signals, of_weight in ((True, False), (False, True)):
        one, other = x.clone().requires_grad_(of_signals), weight.clone().requires_grad_(of_weight)
        convolve(one, other, 1).sum().backward()
        assert (one.grad is not None, other.grad is not None) == (of_signals, of_weight)


@pytest.mark.parametrize(
    ("arguments", "used"),
    [({"kernel_size": 3, "padding": 1}, True), ({"kernel_size": 5, "padding": 2}, True), ({"kernel_size": 3}, False),
     ({"kernel_size": 1}, False), ({"kernel_size": 3, "padding": 1, "stride": 2}, False),
     ({"kernel_size": 3, "padding": 2, "dilation": 2}, False), ({"kernel_size": 3, "padding": 1, "groups": 2}, False),
     ({"kernel_size": 3, "padding": 1, "bias": True}, False), ({"kernel_size": 3, "padding": "same"}, False)],
    ids=str,
)  # fmt: skip
def test_a_layer_uses_it_where_it_can_and_gives_the_same_gradients(arguments, used: bool, monkeypatch):
    monkeypatch.setattr(weight_gradient, "instructions", lambda: "AVX2")
    calls = []
    monkeypatch.setattr("engine.compute.channels_last.convolve", lambda *given: calls.append(given) or convolve(*given))
    torch.manual_seed(0)
    plain = nn.Conv1d(32, 48, **{"bias": False, **arguments})
    fast = fast_twin(nn.Sequential(plain))[0]
    x = torch.randn(3, 32, 21)
    for layer in (plain, fast):
        layer(x).square().mean().backward()
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-6)
    assert bool(calls) is used
    calls.clear()
    with torch.no_grad():
        fast(x)
    with torch.autocast("cpu", torch.bfloat16):
        fast(x).float().sum().backward()
    assert not calls


def test_few_channels_one_tap_and_records_shorter_than_the_padding_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(weight_gradient, "instructions", lambda: "AVX2")
    assert gains(torch.empty(32, 32, 3), 250, 1)
    assert not gains(torch.empty(32, 16, 3), 250, 1)
    assert not gains(torch.empty(32, 32, 1), 250, 0)
    assert not gains(torch.empty(32, 32, 7), 2, 3)
    assert not gains(torch.empty(32, 32, 3, device="meta"), 250, 1)


@pytest.mark.parametrize(
    ("instructions", "widths"), [("AVX2", [32, 64, 256, 512]), ("AVX512", [256, 512]), ("SVE256", []), ("DEFAULT", [])]
)
def test_which_layers_gain_depends_on_the_processor_s_instructions(instructions: str, widths: list[int], monkeypatch):
    monkeypatch.setattr(weight_gradient, "instructions", lambda: instructions)
    weights = [torch.empty(1).expand(width, width, 3) for width in (16, 32, 64, 256, 512)]
    assert [len(weight) for weight in weights if gains(weight, 250, 1)] == widths


def test_the_instructions_are_those_that_torch_names():
    assert weight_gradient.instructions() == torch.backends.cpu.get_cpu_capability()
