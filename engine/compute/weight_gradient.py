"""A convolution over time on the processor whose weight gradient is made of matrix products.

On channels-last tensors oneDNN computes outputs and the gradients of inputs at nearly the speed of a matrix product,
but with AVX2 those of weights at little more than half of it. With AVX-512 it does so with many channels alone. The
gradient of tap j is the product of the output's gradient with the input shifted by j: with time and records in one
axis, as channels-last tensors have them, that is one product over all records, less the rows where the shift reached
into another record.

Which way a layer takes depends on its shape and on the processor's instructions, never on a timing: a study gives the
same bits when it is resumed, by two workers, on a busy machine. Weight gradients in GFLOP/s, oneDNN's and products
(batch 32, taps 3, a Xeon with AVX-512, the same one kept to AVX2; tests/benchmarks/RESULTS.md has more shapes):

    channels, samples     32, 250    64, 250   128, 125    256, 63    512, 32
    AVX2                    32 48      35 65      54 63      53 72      42 73
    AVX-512                 85 68     104 88    120 121    123 117     82 112
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# By the instructions that torch uses, the fewest channels with which products are faster: with fewer, or with one tap,
# oneDNN's own gradient is as fast or faster. On other kinds of processors neither way has been measured.
FEWEST_CHANNELS: Mapping[str, int] = {"AVX2": 32, "AVX512": 256}


@cache
def instructions() -> str:
    """Return which vector instructions torch uses on this machine's processor, as it names them."""
    return str(torch.backends.cpu.get_cpu_capability())


def gains(weight: Tensor, n_samples: int, padding: int) -> bool:
    """Return whether ``convolve`` can do it, and is faster than autograd's own way, for this (n_out, n_in, taps)."""
    n_out, n_in, taps = weight.shape
    return (
        weight.device.type == "cpu"
        and taps > 1
        and taps == 2 * padding + 1
        and padding <= n_samples
        and instructions() in FEWEST_CHANNELS
        and min(n_out, n_in) >= FEWEST_CHANNELS[instructions()]
    )


def convolve(signals: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Convolve (batch, n_in, 1, time) in channels-last order with (n_out, n_in, taps) to (batch, n_out, 1, time).

    Stride and dilation are 1, padding is with zeros and keeps the length: taps = 2 padding + 1.
    """
    kernel = weight.unsqueeze(2)
    done: Tensor = _Convolution.apply(signals, kernel, padding)  # type: ignore[no-untyped-call]  # torch does not say
    return done


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signals: Tensor, weight: Tensor, padding: int) -> Tensor:
        weight = weight.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(signals, weight)
        ctx.padding = padding
        return F.conv2d(signals, weight, padding=(0, padding))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        signals, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_signals = None
        if ctx.needs_input_grad[0]:
            of_signals = torch.ops.aten.convolution_backward(
                gradient, signals, weight, None, [1, 1], [0, ctx.padding], [1, 1], False, [0, 0], 1,
                [True, False, False],
            )[0]  # fmt: skip
        of_weight = _weight_gradient(gradient, signals, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_signals, of_weight, None


def _weight_gradient(gradient: Tensor, signals: Tensor, padding: int) -> Tensor:
    """Return (n_out, n_in, 1, taps) from the output's gradient and the input, (batch, channels, 1, time) both."""
    outputs, inputs = (tensor.squeeze(2).transpose(1, 2) for tensor in (gradient, signals))  # (batch, time, channels)
    flat_outputs, flat_inputs = outputs.flatten(0, 1), inputs.flatten(0, 1)
    n_rows, n_samples = len(flat_outputs), outputs.shape[1]
    taps = torch.empty(outputs.shape[2], 2 * padding + 1, inputs.shape[2], dtype=gradient.dtype)
    for position in range(2 * padding + 1):
        shift = position - padding
        late, early = max(shift, 0), max(-shift, 0)  # of the input's rows, of the output's
        product = taps[:, position]
        torch.mm(flat_outputs[early : n_rows - late].t(), flat_inputs[late : n_rows - early], out=product)
        if not shift:
            continue
        if shift > 0:  # an output at the end of a record met the beginning of the next one's input
            ends, beginnings = outputs[:-1, n_samples - shift :], inputs[1:, :shift]
            product.addmm_(ends.flatten(0, 1).t(), beginnings.flatten(0, 1), alpha=-1)
        else:
            beginnings, ends = outputs[1:, :-shift], inputs[:-1, n_samples + shift :]
            product.addmm_(beginnings.flatten(0, 1).t(), ends.flatten(0, 1), alpha=-1)
    return taps.transpose(1, 2).unsqueeze(2)
