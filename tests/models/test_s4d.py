"""A state space's convolution is its recurrence, in either form and for every length."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from models.networks.s4d import StateSpace
from models.registry import create_network


@pytest.fixture
def layer() -> StateSpace:
    """A state space whose parameters have all left where they start."""
    torch.manual_seed(0)
    layer = StateSpace(3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


def recur(layer: StateSpace, channel: int, u: np.ndarray) -> np.ndarray:
    """Run x = exp(dt A) x + (exp(dt A) - 1) / A u sample by sample, forwards and backwards, in float64."""
    values = {name: value.detach().double().numpy() for name, value in layer.named_parameters()}
    dt = 0.01 * np.exp(values["log_dt"][channel])
    a = -0.5 * np.exp(values["log_real"][channel]) + 1j * (np.pi * np.arange(4) + values["frequency"][channel])
    c = values["c"][..., 0] + 1j * values["c"][..., 1]
    y = values["d"][channel] * u
    for direction, order in ((0, range(len(u))), (1, range(len(u) - 1, -1, -1))):
        x = np.zeros(4, complex)
        for k in order:
            if direction:  # what lies behind in time, without the sample itself
                y[k] += 2 * (c[1, channel] * x).sum().real
            x = np.exp(dt * a) * x + (np.exp(dt * a) - 1) / a * u[k]
            if not direction:
                y[k] += 2 * (c[0, channel] * x).sum().real
    return y


@pytest.mark.parametrize("n_samples", [1, 2, 50, 97])
def test_a_state_space_is_a_recurrence_in_both_directions(layer, n_samples):
    u = np.random.default_rng(1).normal(size=(2, 3, n_samples))
    expected = np.array([[recur(layer, k, record[k]) for k in range(3)] for record in u])
    with torch.no_grad():
        given = torch.from_numpy(u).float()
        np.testing.assert_allclose(layer(given), expected, atol=1e-5)
        np.testing.assert_allclose(layer.as_convolution(n_samples)(given), expected, atol=1e-5)


def test_a_convolution_for_long_records_does_the_same_to_shorter_ones(layer):
    x = torch.randn(2, 3, 40)
    with torch.no_grad():
        torch.testing.assert_close(layer.as_convolution(100)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_a_longer_record_has_the_same_kernel_and_more_of_it(layer):
    for short, long in zip(layer.responses(30), layer.responses(70), strict=True):
        torch.testing.assert_close(short, long[:, :30])


def test_the_initialisation_is_s4d_lin_with_steps_between_a_thousandth_and_a_tenth():
    torch.manual_seed(0)
    layer = StateSpace(2000)
    with torch.no_grad():
        layer.c.copy_(torch.tensor([1.0, 0.0]).expand_as(layer.c))
        past, future = layer.responses(2)
        assert torch.equal(past, future)
        assert not layer.frequency.any()
        assert not layer.log_real.any()
        dt = layer.log_dt.exp() * 0.01
    assert 1e-3 < dt.min() < 1.1e-3
    assert 0.09 < dt.max() < 0.1
    assert dt.log().median().item() == pytest.approx(math.log(0.01), abs=0.15)
    a = torch.complex(torch.full((4,), -0.5), math.pi * torch.arange(4.0))
    expected = 2 * ((torch.exp(dt[:, None] * a) - 1) / a).sum(dim=1).real  # what a sample gives at once
    torch.testing.assert_close(past[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_no_parameter_is_complex_and_the_state_decays_whatever_they_become():
    network = create_network("s4d-w4", n_classes=2)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    layer = StateSpace(4)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(3 * torch.randn_like(parameter))
        past, _ = layer.responses(20_000)
    assert past.isfinite().all()
    assert past[:, -1].abs().max() < past.abs().max()


def test_both_ends_of_a_record_reach_the_other_and_do_not_meet_around_it():
    layer = StateSpace(1)
    with torch.no_grad():
        layer.log_dt.fill_(-2.0)
        x = torch.zeros(1, 1, 60)
        x[..., -1] = 1.0
        layer.c[1] = 0.0  # of the past alone
        assert layer(x)[..., :-1].abs().max() < 1e-6
        layer.c[1], layer.c[0] = 1.0, 0.0
        assert layer(x)[..., 0].abs() > 1e-3


def test_under_autocast_a_state_space_stays_in_float32(layer):
    x = torch.randn(2, 3, 40)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x.float()))
        assert layer(x.bfloat16()).dtype == torch.float32


def test_a_layer_drops_channels_at_all_times_at_once():
    torch.manual_seed(0)
    layer = create_network("s4d-w64", n_classes=2).layers[0]
    assert isinstance(layer.dropout, nn.Dropout1d)
    dropped = (layer.dropout(torch.ones(20, 64, 5)) == 0).float()
    assert torch.equal(dropped.amin(dim=2), dropped.amax(dim=2))
    assert dropped.mean().item() == pytest.approx(0.2, abs=0.05)
