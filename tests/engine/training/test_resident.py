"""Records picked on a device are those of the memory map, standardised alike, and a corpus is moved there once."""

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.checkpoints.checkpoint import Standardisation
from engine.recipes import find_recipe
from engine.training import resident
from engine.training.resident import examples_on, measure, move, signals_on
from engine.training.starting_point import Start

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
ROWS, LABELS = np.array([7, 2, 2, 19]), np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)
LEADS = [None, (0, 1, 2), (2, 0)]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch) -> SimpleNamespace:
    """Signals as a corpus has them: a read-only memory map."""
    signals = np.random.default_rng(0).normal(0.3, [[0.1], [1.0], [5.0]], (20, 3, 50)).astype(np.float32)
    np.save(tmp_path / "signals.npy", signals)
    monkeypatch.setattr(resident, "_resident", OrderedDict())
    monkeypatch.setattr(resident, "_RECORDS_AT_ONCE", 6)
    return SimpleNamespace(root=tmp_path, signals=np.load(tmp_path / "signals.npy", mmap_mode="r"))


@pytest.fixture
def on_a_device(corpus, monkeypatch):
    """Let what lies on a CUDA device lie in the CPU's memory."""
    monkeypatch.setitem(resident._resident, (str(corpus.root), CUDA), move(corpus.signals, CPU))
    to, tensor = torch.Tensor.to, torch.tensor
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *what: self if what == (CUDA,) else to(self, *what))
    monkeypatch.setattr(torch, "tensor", lambda *values, device=None, **how: tensor(*values, **how))


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("leads", LEADS)
def test_records_picked_on_a_device_are_those_of_the_memory_map(corpus, leads):
    there, here = (signals_on(corpus, ROWS, leads, device) for device in (CUDA, CPU))
    assert isinstance(there, torch.Tensor)
    assert isinstance(here, np.ndarray)
    np.testing.assert_array_equal(there.numpy(), here)
    np.testing.assert_array_equal(here, corpus.signals[ROWS][:, [0, 1, 2] if leads is None else list(leads)])


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("leads", LEADS)
def test_they_are_standardised_alike_and_the_corpus_stays_as_it_is(corpus, leads):
    before = resident._resident[str(corpus.root), CUDA].clone()
    scaling = Start(torch.nn.Identity(), None).scaling(
        find_recipe("tuned", "cnn", "scratch"), signals_on(corpus, ROWS, leads, CUDA)
    )
    there, here = (examples_on(corpus, ROWS, leads, LABELS, scaling, device) for device in (CUDA, CPU))
    torch.testing.assert_close(there.signals, here.signals, rtol=1e-6, atol=1e-6)
    assert torch.equal(there.labels, here.labels)
    assert torch.equal(resident._resident[str(corpus.root), CUDA], before)


def test_statistics_measured_on_a_device_are_the_arrays_ones(corpus):
    signals = np.array(corpus.signals)
    signals[:, 1] = 0.25  # a lead that never changes
    there, here = measure(torch.from_numpy(signals)), Standardisation.of(signals)
    assert there.mean == pytest.approx(here.mean, rel=1e-6)
    assert there.std == pytest.approx(here.std, rel=1e-6)
    assert there.std[1] == 1.0


def test_a_corpus_is_moved_once_a_process_and_only_where_there_is_room_for_it(corpus, monkeypatch):
    moved = []
    monkeypatch.setattr(resident, "move", lambda signals, _device: moved.append(len(signals)) or move(signals, CPU))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (3 * corpus.signals.nbytes, 0))
    assert resident._moved(corpus, CUDA) is resident._moved(corpus, CUDA)
    assert moved == [20]
    resident.free_corpora()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (corpus.signals.nbytes, 0))
    assert resident._moved(corpus, CUDA) is None
    assert isinstance(signals_on(corpus, ROWS, None, CUDA), np.ndarray)
    assert moved == [20]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("leads", LEADS)
def test_on_a_gpu_the_records_are_those_of_the_memory_map(corpus, leads):
    scaling = measure(signals_on(corpus, ROWS, leads, CUDA))
    there, here = (examples_on(corpus, ROWS, leads, LABELS, scaling, device) for device in (CUDA, CPU))
    assert there.signals.device == CUDA
    torch.testing.assert_close(there.signals.cpu(), here.signals, rtol=1e-6, atol=1e-6)
    assert torch.equal(there.labels, here.labels)
