"""Recurrent layers of many networks at once: one product a time step for all of them.

A thousand steps of a hidden layer of 32 or 100 units are a thousand small products and a few thousand small elementwise
operations, and what they cost is mostly the calls. Here R layers share the calls. Arrays are time first, and a layer's
units come before its records, so that what a step works on lies in one piece: signals (time, inputs, R, batch), hidden
states (time, units, R, batch), gates (time, R, 3 or 4 units, batch).

Hidden state, input and a 1 for the biases lie under one another, so that one product with the layer's stacked weights
(R, gates, units + inputs + 1) gives the gates before their nonlinearity.

Equations and the order of the parameters are those of ``torch.nn.LSTM`` (Hochreiter and Schmidhuber, Neural Computation
1997, with forget gates) and of ``torch.nn.GRU`` (Cho et al., EMNLP 2014, in cuDNN's variant: the reset gate multiplies
the product with the hidden state, its bias included). The hidden state begins as zero.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten

_CHUNK = 25  # steps for which the backward pass does at once what need not wait for the step after


def gru(signals: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Map (time, inputs, R, batch) to the hidden states (time, units, R, batch) of R layers.

    Parameters are those of ``nn.GRU`` (gates r, z, n) with R in front: (R, 3 units, inputs), (R, 3 units, units), and
    (R, 3 units) twice.
    """
    gates = 2 * weight_hh.shape[2]
    # What multiplies r reads no input: a zero in a sum changes nothing.
    inputs = torch.cat([weight_ih[:, :gates], torch.zeros_like(weight_ih[:, gates:])], dim=1)
    biases = torch.cat([bias_ih[:, :gates] + bias_hh[:, :gates], bias_hh[:, gates:]], dim=1)
    stacked = torch.cat([weight_hh, inputs, biases.unsqueeze(2)], dim=2)
    candidate = torch.cat([weight_ih[:, gates:], bias_ih[:, gates:, None]], dim=2)
    states: Tensor = _GRU.apply(signals, stacked, candidate)  # type: ignore[no-untyped-call]  # torch does not say
    return states


def lstm(signals: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Map (time, inputs, R, batch) to the hidden states (time, units, R, batch) of R layers.

    Parameters are those of ``nn.LSTM`` (gates i, f, g, o) with R in front: (R, 4 units, inputs), (R, 4 units, units),
    and (R, 4 units) twice.
    """
    i, f, g, o = torch.cat([weight_hh, weight_ih, (bias_ih + bias_hh).unsqueeze(2)], dim=2).chunk(4, dim=1)
    stacked = torch.cat([o, i, f, g], dim=1)  # the three sigmoids in one piece, and the three that the cell state reads
    states: Tensor = _LSTM.apply(signals, stacked)  # type: ignore[no-untyped-call]  # torch does not say
    return states


class _GRU(torch.autograd.Function):
    """r, z = sigmoid(a_r), sigmoid(a_z); n = tanh(a_n + r m); h' = n + z (h - n), where m = W_hn h + b_hn.

    With e the gradient of h', those of the products are: of a_n, e (1 - z) (1 - n^2); of m, r times that; of a_r,
    m r (1 - r) times that of a_n; of a_z, e (h - n) z (1 - z). Each is e times what the forward pass knows, which is
    computed for many steps at once. That of h is z e and what comes back through the weights.
    """

    @staticmethod
    def forward(ctx: Any, signals: Tensor, stacked: Tensor, candidate: Tensor) -> Tensor:
        (steps, _, runs, batch), units = signals.shape, candidate.shape[1]
        room = _room(signals, units)
        gates, new = (signals.new_empty(steps, runs, rows, batch) for rows in (3 * units, units))
        for part in _chunks(steps):
            torch.matmul(candidate, room[part, units:].transpose(1, 2), out=new[part])
        read, h = _by_step(room, slice(None)), _by_step(room, slice(units))
        gate, sigmoids, n = gates.unbind(), gates[:, :, : 2 * units].unbind(), new.unbind()
        r, z, m = (one.unbind() for one in gates.chunk(3, dim=2))
        for t in range(steps):
            torch.bmm(stacked, read[t], out=gate[t])
            sigmoids[t].sigmoid_()
            n[t].addcmul_(r[t], m[t]).tanh_()
            torch.lerp(n[t], h[t], z[t], out=h[t + 1])
        ctx.save_for_backward(stacked, candidate, room, gates, new)
        return room[1:, :units]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        stacked, candidate, room, gates, new = ctx.saved_tensors
        steps, units, runs, batch = gradient.shape
        back = stacked[:, :, :units].transpose(1, 2).contiguous()
        of_stacked, of_candidate = torch.zeros_like(stacked), torch.zeros_like(candidate)
        of_signals = torch.empty_like(room[1:, units:-1]) if ctx.needs_input_grad[0] else None
        of_products = gates.new_empty(min(_CHUNK, steps), runs, 3, units, batch)
        carried = None
        for part in reversed(_chunks(steps)):
            (r, z, m), n, h = gates[part].chunk(3, dim=2), new[part], room[part, :units].transpose(1, 2)
            products = of_products[: len(n)]
            of_r, of_z, of_m = products.unbind(2)
            of_n = aten.tanh_backward(1 - z, n)
            torch.mul(of_n, r, out=of_m)
            aten.sigmoid_backward(of_n * m, r, grad_input=of_r)
            aten.sigmoid_backward(h - n, z, grad_input=of_z)
            arriving = _arriving(gradient[part], carried)
            flat = products.flatten(2, 3)
            _back_through_gru(arriving, products, flat, z, back)
            carried = arriving[0]
            of_n *= arriving[1:]
            now = _in_a_row(room[part].transpose(1, 2)).transpose(1, 2)  # (R, steps x batch, units + inputs + 1)
            of_stacked.baddbmm_(_in_a_row(flat), now)
            of_candidate.baddbmm_(_in_a_row(of_n), now[:, :, units:])
            if of_signals is not None:
                of_inputs = torch.matmul(stacked[:, :, units:-1].transpose(1, 2), flat)
                of_inputs += torch.matmul(candidate[:, :, :-1].transpose(1, 2), of_n)
                of_signals[part] = of_inputs.transpose(1, 2)
        return of_signals, of_stacked, of_candidate


def _back_through_gru(arriving: Tensor, products: Tensor, flat: Tensor, z: Tensor, back: Tensor) -> None:
    """Turn the factors in ``products`` into gradients, and add what each step's hidden state is owed to ``arriving``."""
    owed, shares, rows, kept = arriving.unbind(), products.unbind(), flat.unbind(), z.unbind()
    wide = arriving.unsqueeze(2).unbind()
    for t in range(len(products) - 1, -1, -1):
        shares[t].mul_(wide[t + 1])
        owed[t].addcmul_(kept[t], owed[t + 1]).baddbmm_(back, rows[t])


class _LSTM(torch.autograd.Function):
    """c' = f c + i g and h' = o tanh(c'), where o, i, f are sigmoids and g is a tanh of what the product gives.

    With e the gradient of h' and d that of c', to which e o (1 - tanh^2 c') is added, those of the products are: of o,
    e tanh(c') o (1 - o); of i, d g i (1 - i); of f, d c f (1 - f); of g, d i (1 - g^2). That of c is f d.
    """

    @staticmethod
    def forward(ctx: Any, signals: Tensor, stacked: Tensor) -> Tensor:
        (steps, _, runs, batch), units = signals.shape, stacked.shape[1] // 4
        room = _room(signals, units)
        gates = signals.new_empty(steps, runs, 4 * units, batch)
        cells, squashed = (signals.new_empty(count, runs, units, batch) for count in (steps + 1, steps))
        cells[0] = 0
        read, h = _by_step(room, slice(None)), _by_step(room, slice(units))
        gate, sigmoids, c, s = gates.unbind(), gates[:, :, : 3 * units].unbind(), cells.unbind(), squashed.unbind()
        o, i, f, g = (one.unbind() for one in gates.chunk(4, dim=2))
        for t in range(steps):
            torch.bmm(stacked, read[t], out=gate[t])
            sigmoids[t].sigmoid_()
            torch.mul(i[t], g[t].tanh_(), out=c[t + 1]).addcmul_(f[t], c[t])
            torch.tanh(c[t + 1], out=s[t])
            torch.mul(o[t], s[t], out=h[t + 1])
        ctx.save_for_backward(stacked, room, gates, cells, squashed)
        return room[1:, :units]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        stacked, room, gates, cells, squashed = ctx.saved_tensors
        steps, units, runs, batch = gradient.shape
        back = stacked[:, :, :units].transpose(1, 2).contiguous()
        of_stacked = torch.zeros_like(stacked)
        of_signals = torch.empty_like(room[1:, units:-1]) if ctx.needs_input_grad[0] else None
        of_products = gates.new_empty(min(_CHUNK, steps), runs, 4, units, batch)
        of_cell = gates.new_zeros(runs, units, batch)
        carried = None
        for part in reversed(_chunks(steps)):
            (o, i, f, g), c, s = gates[part].chunk(4, dim=2), cells[part], squashed[part]
            products = of_products[: len(s)]
            of_o, of_i, of_f, of_g = products.unbind(2)
            aten.sigmoid_backward(s, o, grad_input=of_o)
            aten.sigmoid_backward(g, i, grad_input=of_i)
            aten.sigmoid_backward(c, f, grad_input=of_f)
            aten.tanh_backward(i, g, grad_input=of_g)
            arriving = _arriving(gradient[part], carried)
            flat = products.flatten(2, 3)
            _back_through_lstm(arriving, of_cell, products, flat, aten.tanh_backward(o, s), f, back)
            carried = arriving[0]
            now = _in_a_row(room[part].transpose(1, 2)).transpose(1, 2)  # (R, steps x batch, units + inputs + 1)
            of_stacked.baddbmm_(_in_a_row(flat), now)
            if of_signals is not None:
                of_signals[part] = torch.matmul(stacked[:, :, units:-1].transpose(1, 2), flat).transpose(1, 2)
        return of_signals, of_stacked


def _back_through_lstm(
    arriving: Tensor, of_cell: Tensor, products: Tensor, flat: Tensor, to_cell: Tensor, f: Tensor, back: Tensor
) -> None:
    """Turn the factors in ``products`` into gradients; ``arriving`` and ``of_cell`` get what earlier states are owed."""
    owed, rows, kept, given = arriving.unbind(), flat.unbind(), f.unbind(), to_cell.unbind()
    outer, inner, wide = products[:, :, 0].unbind(), products[:, :, 1:].unbind(), of_cell.unsqueeze(1)
    for t in range(len(products) - 1, -1, -1):
        of_cell.addcmul_(owed[t + 1], given[t])
        outer[t].mul_(owed[t + 1])
        inner[t].mul_(wide)
        of_cell.mul_(kept[t])
        owed[t].baddbmm_(back, rows[t])


def _room(signals: Tensor, units: int) -> Tensor:
    """Return (time + 1, units + inputs + 1, R, batch): room for the hidden states, the first of them zero, over inputs and ones."""
    steps, inputs, runs, batch = signals.shape
    room = signals.new_empty(steps + 1, units + inputs + 1, runs, batch)
    room[0, :units] = 0
    room[:-1, units:-1] = signals
    room[-1, units:-1] = 0  # nothing reads there
    room[:, -1] = 1
    return room


def _by_step(room: Tensor, rows: slice) -> tuple[Tensor, ...]:
    """Return (R, rows, batch) of every step."""
    return room[:, rows].transpose(1, 2).unbind()


def _chunks(steps: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, steps)) for start in range(0, steps, _CHUNK)]


def _arriving(gradient: Tensor, carried: Tensor | None) -> Tensor:
    """Return (steps + 1, R, units, batch): zero, and the gradients of the states after each step."""
    steps, units, runs, batch = gradient.shape
    arriving = gradient.new_empty(steps + 1, runs, units, batch)
    arriving[0] = 0
    arriving[1:] = gradient.transpose(1, 2)
    if carried is not None:
        arriving[-1] += carried
    return arriving


def _in_a_row(steps: Tensor) -> Tensor:
    """Map (steps, R, rows, batch) to (R, rows, steps x batch)."""
    return steps.permute(1, 2, 0, 3).flatten(2)
