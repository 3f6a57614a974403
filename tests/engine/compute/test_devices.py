"""A device is found or refused in one sentence, and a run is charged its own time whatever else the machine does."""

import platform
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from engine.compute.clocks import ProcessorClock, clock_of
from engine.compute.devices import (
    DEVICE_ERRORS,
    DeviceError,
    DeviceFailureError,
    choose_device,
    describe_device,
    keep_freed_memory,
    with_device_index,
)


def pretend(monkeypatch, n_devices: int, cuda: str | None = "13.0") -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)
    monkeypatch.setattr(torch.version, "cuda", cuda)


@pytest.mark.parametrize(
    ("name", "n_devices", "device"),
    [("auto", 0, "cpu"), ("auto", 1, "cuda:0"), ("cpu", 1, "cpu"), ("cuda", 2, "cuda:0"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_is_chosen_by_its_name(monkeypatch, name, n_devices, device):
    pretend(monkeypatch, n_devices)
    assert choose_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "n_devices", "cuda", "said"),
    [
        ("cuda", 0, "13.0", "no CUDA device for cuda: torch sees none"),
        ("cuda:0", 0, None, "no CUDA device for cuda:0: this torch was built without CUDA"),
        ("cuda:3", 2, "13.0", "no cuda:3: this machine has 2 CUDA devices"),
        ("gpu", 1, "13.0", "'gpu' is not a device; give auto, cpu, cuda or cuda:N"),
        ("cuda:", 1, "13.0", "'cuda:' is not a device"),
        ("cuda:-1", 1, "13.0", "'cuda:-1' is not a device"),
        ("cpu:0", 1, "13.0", "'cpu:0' is not a device"),
        ("", 1, "13.0", "'' is not a device"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_sentence(monkeypatch, name, n_devices, cuda, said):
    pretend(monkeypatch, n_devices, cuda)
    with pytest.raises(DeviceError) as failure:
        choose_device(name)
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_processor_is_described_by_its_name_and_threads():
    threads = torch.get_num_threads()
    described = describe_device()
    assert described == describe_device(torch.device("cpu"))
    assert described.startswith("CPU ")
    assert f", {threads} thread" in described


def test_a_gpu_is_described_by_its_name_and_memory(monkeypatch):
    facts = SimpleNamespace(name="NVIDIA H200", total_memory=139 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert describe_device("cuda:0") == "GPU NVIDIA H200, 139 GiB, CUDA 13.0"


class Hand:
    """A clock whose hand the test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_processor_charges_the_time_of_its_thread_and_no_waiting(monkeypatch):
    processor, wall = Hand(), Hand()
    monkeypatch.setattr(time, "thread_time", processor)
    monkeypatch.setattr(time, "perf_counter", wall)
    clock = clock_of(torch.device("cpu"))
    assert isinstance(clock, ProcessorClock)
    wall.at += 50.0
    processor.at += 2.0
    assert clock.seconds() == 2.0


def test_a_gpu_charges_the_wall_clock_when_its_work_is_done(monkeypatch):
    wall, waited = Hand(), []
    monkeypatch.setattr(time, "perf_counter", wall)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    device = torch.device("cuda", 0)
    clock = clock_of(device)
    wall.at += 7.0
    assert clock.seconds() == pytest.approx(7.0)
    wall.at += 2.0
    assert clock.seconds() == pytest.approx(9.0)
    assert waited == [device] * 3


def test_a_device_that_fails_says_so_in_a_sentence():
    full, gone = torch.OutOfMemoryError("CUDA out of memory. Tried ..."), torch.AcceleratorError("CUDA error: 719\nx")
    device = torch.device("cuda", 0)
    assert isinstance(full, DEVICE_ERRORS)
    assert isinstance(gone, DEVICE_ERRORS)
    assert str(DeviceFailureError.of(full, device)).startswith("the memory of cuda:0 is full;")
    assert str(DeviceFailureError.of(gone, device)).startswith("cuda:0 failed: CUDA error: 719;")


def test_plain_cuda_is_the_numbered_device_of_this_thread(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert with_device_index("cuda") == torch.device("cuda", 2)
    assert with_device_index("cuda:1") == torch.device("cuda", 1)
    assert with_device_index("cpu") == torch.device("cpu")


FAULTS = """
import resource, sys, torch
from engine.compute.devices import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert keep_freed_memory()
network, records = torch.nn.LSTM(12, 32, batch_first=True), torch.zeros(64, 1000, 12)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(records)[0].sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back at once")
def test_memory_that_a_step_frees_is_kept_for_the_next():
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)

    assert 4 * faults("kept") < faults("given back")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("the C library was touched"))
    assert keep_freed_memory.__wrapped__() is False
