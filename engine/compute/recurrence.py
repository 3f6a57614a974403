"""Recurrent layers of many networks at once: one product a time step for all of them.

A thousand steps of a hidden layer of 32 or 100 units are a thousand small products and a few thousand small elementwise
operations, and what they cost is mostly the calls. Here R layers share the calls. Arrays are time first, so that what
a step works on lies in one piece: signals (time, R, batch, inputs), states (time, R, batch, units), gates (time, R,
batch, 3 or 4 units).

Hidden state, input and a 1 for the biases lie next to each other, so that one product with the layer's stacked weights
(R, units + inputs + 1, gates) gives the gates before their nonlinearity.

Equations and the order of the parameters are those of ``torch.nn.LSTM`` (Hochreiter and Schmidhuber, Neural Computation
1997, with forget gates) and of ``torch.nn.GRU`` (Cho et al., EMNLP 2014, in cuDNN's variant: the reset gate multiplies
the product with the hidden state, its bias included). The hidden state begins as zero.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

aten = torch.ops.aten

_CHUNK = 25  # steps for which the backward pass does at once what need not wait for the step after


def gru(signals: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Map (time, R, batch, inputs) to the hidden states (time, R, batch, units) of R layers.

    Parameters are those of ``nn.GRU`` (gates r, z, n) with R in front: (R, 3 units, inputs), (R, 3 units, units), and
    (R, 3 units) twice.
    """
    gates = 2 * weight_hh.shape[2]
    # What multiplies r reads no input: a zero in a sum changes nothing.
    inputs = torch.cat([weight_ih[:, :gates], torch.zeros_like(weight_ih[:, gates:])], dim=1)
    biases = torch.cat([bias_ih[:, :gates] + bias_hh[:, :gates], bias_hh[:, gates:]], dim=1)
    stacked = torch.cat([weight_hh, inputs, biases.unsqueeze(2)], dim=2).transpose(1, 2)
    candidate = torch.cat([weight_ih[:, gates:], bias_ih[:, gates:, None]], dim=2).transpose(1, 2)
    states: Tensor = _GRU.apply(signals, stacked, candidate)  # type: ignore[no-untyped-call]  # torch does not say
    return states


def lstm(signals: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Map (time, R, batch, inputs) to the hidden states (time, R, batch, units) of R layers.

    Parameters are those of ``nn.LSTM`` (gates i, f, g, o) with R in front: (R, 4 units, inputs), (R, 4 units, units),
    and (R, 4 units) twice.
    """
    i, f, g, o = torch.cat([weight_hh, weight_ih, (bias_ih + bias_hh).unsqueeze(2)], dim=2).chunk(4, dim=1)
    stacked = torch.cat([o, i, f, g], dim=1).transpose(
        1, 2
    )  # the three sigmoids in one piece, and the three that the cell state reads
    states: Tensor = _LSTM.apply(signals, stacked)  # type: ignore[no-untyped-call]  # torch does not say
    return states


class ProcessorGRU(nn.GRU):
    """``nn.GRU`` of one layer that reads one way, batch first, which on a processor trains as ``gru`` does."""

    # torch declares overloads, one of them for packed sequences, which go to it as they are.
    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map (batch, time, inputs) to the hidden states (batch, time, units) and the last one (1, batch, units)."""
        usual = isinstance(x, Tensor) and x.dim() == 3 and hx is None
        if not (usual and self.training and torch.is_grad_enabled()):
            predicted: tuple[Tensor, Tensor] = nn.GRU.forward(self, x, hx)  # torch predicts with fewer calls
            return predicted
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        parameters = (self.get_parameter(name).unsqueeze(0) for name in names)
        states = gru(x.transpose(0, 1).unsqueeze(1), *parameters)
        return states.squeeze(1).transpose(0, 1), states[-1]

    @classmethod
    def takes(cls, layer: nn.Module) -> bool:
        """Return whether a layer is one that this computes."""
        if type(layer) is not nn.GRU:
            return False
        return layer.num_layers == 1 and layer.bias and layer.batch_first and not layer.bidirectional


class _GRU(torch.autograd.Function):
    """r, z = sigmoid(a_r), sigmoid(a_z); n = tanh(a_n + r m); h' = n + z (h - n), where m = W_hn h + b_hn.

    With e the gradient of h', those of the products are: of a_n, e (1 - z) (1 - n^2); of m, r times that; of a_r,
    m r (1 - r) times that of a_n; of a_z, e (h - n) z (1 - z). Each is e times what the forward pass knows, which is
    computed for many steps at once. That of h is z e and what comes back through the weights.
    """

    @staticmethod
    def forward(ctx: Any, signals: Tensor, stacked: Tensor, candidate: Tensor) -> Tensor:
        (steps, runs, batch, _), units = signals.shape, candidate.shape[2]
        room = _room(signals, units)
        gates, new = (signals.new_empty(steps, runs, batch, count) for count in (3 * units, units))
        for part in _chunks(steps):
            torch.matmul(room[part, ..., units:], candidate, out=new[part])
        read, h = room.unbind(), room[..., :units].unbind()
        gate, sigmoids, n = gates.unbind(), gates[..., : 2 * units].unbind(), new.unbind()
        r, z, m = (one.unbind() for one in gates.chunk(3, dim=3))
        for t in range(steps):
            torch.bmm(read[t], stacked, out=gate[t])
            sigmoids[t].sigmoid_()
            n[t].addcmul_(r[t], m[t]).tanh_()
            torch.lerp(n[t], h[t], z[t], out=h[t + 1])
        ctx.save_for_backward(stacked, candidate, room, gates, new)
        return room[1:, ..., :units]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        stacked, candidate, room, gates, new = ctx.saved_tensors
        steps, runs, batch, units = gradient.shape
        back = stacked[:, :units].transpose(1, 2).contiguous()
        of_stacked, of_candidate = (stacked.new_zeros(one.shape) for one in (stacked, candidate))
        of_signals = room.new_empty(steps, runs, batch, room.shape[3] - units - 1) if ctx.needs_input_grad[0] else None
        of_products = gates.new_empty(min(_CHUNK, steps), runs, batch, 3, units)
        carried = None
        for part in reversed(_chunks(steps)):
            (r, z, m), n, h = gates[part].chunk(3, dim=3), new[part], room[part, ..., :units]
            products = of_products[: len(n)]
            of_r, of_z, of_m = products.unbind(3)
            of_n = aten.tanh_backward(1 - z, n)
            torch.mul(of_n, r, out=of_m)
            aten.sigmoid_backward(of_n * m, r, grad_input=of_r)
            aten.sigmoid_backward(h - n, z, grad_input=of_z)
            arriving = _arriving(gradient[part], carried)
            flat = products.flatten(3)
            _back_through_gru(arriving, products, flat, z, back)
            carried = arriving[0]
            of_n *= arriving[1:]
            now = _by_run(room[part]).transpose(1, 2)  # (R, units + inputs + 1, steps x batch)
            of_stacked.baddbmm_(now, _by_run(flat))
            of_candidate.baddbmm_(now[:, units:], _by_run(of_n))
            if of_signals is not None:
                torch.matmul(flat, stacked[:, units:-1].transpose(1, 2), out=of_signals[part])
                of_signals[part] += torch.matmul(of_n, candidate[:, :-1].transpose(1, 2))
        return of_signals, of_stacked, of_candidate


def _back_through_gru(arriving: Tensor, products: Tensor, flat: Tensor, z: Tensor, back: Tensor) -> None:
    """Turn the factors in ``products`` into gradients, and add to ``arriving`` what each hidden state is owed."""
    owed, shares, rows, kept = arriving.unbind(), products.unbind(), flat.unbind(), z.unbind()
    wide = arriving.unsqueeze(3).unbind()
    for t in range(len(products) - 1, -1, -1):
        shares[t].mul_(wide[t + 1])
        owed[t].addcmul_(kept[t], owed[t + 1]).baddbmm_(rows[t], back)


class _LSTM(torch.autograd.Function):
    """c' = f c + i g and h' = o tanh(c'), where o, i, f are sigmoids and g is a tanh of what the product gives.

    With e the gradient of h' and d that of c', to which e o (1 - tanh^2 c') is added, those of the products are: of o,
    e tanh(c') o (1 - o); of i, d g i (1 - i); of f, d c f (1 - f); of g, d i (1 - g^2). That of c is f d.
    """

    @staticmethod
    def forward(ctx: Any, signals: Tensor, stacked: Tensor) -> Tensor:
        (steps, runs, batch, _), units = signals.shape, stacked.shape[2] // 4
        room = _room(signals, units)
        gates = signals.new_empty(steps, runs, batch, 4 * units)
        cells, squashed = (signals.new_empty(count, runs, batch, units) for count in (steps + 1, steps))
        cells[0] = 0
        read, h = room.unbind(), room[..., :units].unbind()
        gate, sigmoids, c, s = gates.unbind(), gates[..., : 3 * units].unbind(), cells.unbind(), squashed.unbind()
        o, i, f, g = (one.unbind() for one in gates.chunk(4, dim=3))
        for t in range(steps):
            torch.bmm(read[t], stacked, out=gate[t])
            sigmoids[t].sigmoid_()
            torch.mul(i[t], g[t].tanh_(), out=c[t + 1]).addcmul_(f[t], c[t])
            torch.tanh(c[t + 1], out=s[t])
            torch.mul(o[t], s[t], out=h[t + 1])
        ctx.save_for_backward(stacked, room, gates, cells, squashed)
        return room[1:, ..., :units]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        stacked, room, gates, cells, squashed = ctx.saved_tensors
        steps, runs, batch, units = gradient.shape
        back = stacked[:, :units].transpose(1, 2).contiguous()
        of_stacked = stacked.new_zeros(stacked.shape)
        of_signals = room.new_empty(steps, runs, batch, room.shape[3] - units - 1) if ctx.needs_input_grad[0] else None
        of_products = gates.new_empty(min(_CHUNK, steps), runs, batch, 4, units)
        of_cell = gates.new_zeros(runs, batch, units)
        carried = None
        for part in reversed(_chunks(steps)):
            (o, i, f, g), c, s = gates[part].chunk(4, dim=3), cells[part], squashed[part]
            products = of_products[: len(s)]
            of_o, of_i, of_f, of_g = products.unbind(3)
            aten.sigmoid_backward(s, o, grad_input=of_o)
            aten.sigmoid_backward(g, i, grad_input=of_i)
            aten.sigmoid_backward(c, f, grad_input=of_f)
            aten.tanh_backward(i, g, grad_input=of_g)
            arriving = _arriving(gradient[part], carried)
            flat = products.flatten(3)
            _back_through_lstm(arriving, of_cell, products, flat, aten.tanh_backward(o, s), f, back)
            carried = arriving[0]
            of_stacked.baddbmm_(_by_run(room[part]).transpose(1, 2), _by_run(flat))
            if of_signals is not None:
                torch.matmul(flat, stacked[:, units:-1].transpose(1, 2), out=of_signals[part])
        return of_signals, of_stacked


def _back_through_lstm(
    arriving: Tensor, of_cell: Tensor, products: Tensor, flat: Tensor, to_cell: Tensor, f: Tensor, back: Tensor
) -> None:
    """Turn the factors in ``products`` into gradients; ``arriving`` and ``of_cell`` get what states are owed."""
    owed, rows, kept, given = arriving.unbind(), flat.unbind(), f.unbind(), to_cell.unbind()
    outer, inner, wide = products[..., 0, :].unbind(), products[..., 1:, :].unbind(), of_cell.unsqueeze(2)
    for t in range(len(products) - 1, -1, -1):
        of_cell.addcmul_(owed[t + 1], given[t])
        outer[t].mul_(owed[t + 1])
        inner[t].mul_(wide)
        of_cell.mul_(kept[t])
        owed[t].baddbmm_(rows[t], back)


def _room(signals: Tensor, units: int) -> Tensor:
    """Return (time + 1, R, batch, units + inputs + 1): room for the states, the first of them zero; inputs; ones."""
    steps, runs, batch, inputs = signals.shape
    room = signals.new_empty(steps + 1, runs, batch, units + inputs + 1)
    room[0, ..., :units] = 0
    for part in _chunks(steps):
        room[part, ..., units:-1] = signals[part]
    room[-1, ..., units:-1] = 0  # nothing reads there
    room[..., -1] = 1
    return room


def _chunks(steps: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, steps)) for start in range(0, steps, _CHUNK)]


def _arriving(gradient: Tensor, carried: Tensor | None) -> Tensor:
    """Return (steps + 1, R, batch, units): zero, and the gradients of the states after each step."""
    steps, *shape = gradient.shape
    arriving = gradient.new_empty(steps + 1, *shape)
    arriving[0] = 0
    arriving[1:] = gradient
    if carried is not None:
        arriving[-1] += carried
    return arriving


def _by_run(steps: Tensor) -> Tensor:
    """Map (steps, R, batch, units) to (R, steps x batch, units)."""
    return steps.transpose(0, 1).flatten(1, 2)
