"""The signals of a corpus where a training reads them: on a CUDA device once for the process, else the memory map.

A run then picks its records on the device, in place of moving them there again.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.checkpoints.checkpoint import Standardisation
from engine.compute.devices import DEVICE_ERRORS
from engine.corpora.corpus import Corpus
from engine.training.course import Examples

_CORPORA_KEPT = 2
_MOST_OF_FREE = 0.5  # of the device's free memory, for a corpus; the rest is for training
_RECORDS_AT_ONCE = 1024  # moved, or turned into float64

_resident: OrderedDict[tuple[str, torch.device], Tensor | None] = OrderedDict()


def signals_on(
    corpus: Corpus, rows: NDArray[np.int64], leads: Sequence[int] | None, device: torch.device
) -> NDArray[np.float32] | Tensor:
    """Return signals float32 (records, leads, samples), in millivolt: on CUDA a tensor there, else an array.

    ``rows`` are positions in the corpus, ``leads`` positions among its leads (None: all).
    """
    resident = _moved(corpus, device)
    everything = leads is None or tuple(leads) == tuple(range(corpus.signals.shape[1]))
    if resident is not None:
        picked = resident.index_select(0, torch.from_numpy(np.asarray(rows, np.int64)).to(device))
        return picked if everything or leads is None else picked.index_select(1, torch.tensor(leads, device=device))
    drawn = corpus.signals[rows]
    return drawn if everything else np.ascontiguousarray(drawn[:, leads])


def examples_on(
    corpus: Corpus, rows: NDArray[np.int64], leads: Sequence[int] | None, labels: NDArray[np.uint8],
    scaling: Standardisation, device: torch.device,
) -> Examples:  # fmt: skip
    """Return the records as a network takes them; their ``labels`` uint8 0/1 (records, classes) stay on the CPU."""
    signals = signals_on(corpus, rows, leads, device)
    if not isinstance(signals, Tensor):
        return Examples.of(scaling.apply(signals), labels)
    mean, std = (
        torch.tensor(value, dtype=torch.float32, device=device)[:, None] for value in (scaling.mean, scaling.std)
    )
    return Examples(signals.sub_(mean).div_(std), torch.from_numpy(labels.astype(np.float32)))


def measure(signals: Tensor) -> Standardisation:
    """Measure signals (records, leads, samples) where they are, in float64, as ``Standardisation.of`` does arrays."""
    n_values = signals.shape[0] * signals.shape[2]
    blocks = torch.split(signals, _RECORDS_AT_ONCE)
    mean = torch.stack([block.double().sum(dim=(0, 2)) for block in blocks]).sum(0) / n_values
    squares = [(block.double() - mean[:, None]).square().sum(dim=(0, 2)) for block in blocks]
    std = (torch.stack(squares).sum(0) / n_values).sqrt()
    return Standardisation(tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1.0).tolist()))


def free_corpora() -> None:
    """Let go of the corpora that lie on devices."""
    _resident.clear()


def _moved(corpus: Corpus, device: torch.device) -> Tensor | None:
    """Return the corpus' signals on a CUDA device, moved there if need be; None where they are too many for it."""
    if device.type != "cuda":
        return None
    key = (str(corpus.root.resolve()), device)
    if key not in _resident:
        while len(_resident) >= _CORPORA_KEPT:
            _resident.popitem(last=False)
        free, _ = torch.cuda.mem_get_info(device)
        _resident[key] = move(corpus.signals, device) if corpus.signals.nbytes < _MOST_OF_FREE * free else None
    _resident.move_to_end(key)
    return _resident[key]


def move(signals: NDArray[np.float32], device: torch.device) -> Tensor | None:
    """Return signals (records, leads, samples) on the device, a block at a time; None where its memory is full."""
    try:
        moved = torch.empty(signals.shape, dtype=torch.float32, device=device)
    except DEVICE_ERRORS:
        return None
    for start in range(0, len(signals), _RECORDS_AT_ONCE):
        block = np.array(signals[start : start + _RECORDS_AT_ONCE], np.float32)  # a copy: the memory map is read-only
        moved[start : start + _RECORDS_AT_ONCE].copy_(torch.from_numpy(block))
    return moved
