"""What a run runs on: which device, what it is called, and what it says when it fails."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

import torch

from models.errors import ExitCode, UserError

DEVICE_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)  # its memory is full; it failed, or was given up


class DeviceError(UserError, RuntimeError):
    """The device that was asked for is not there; one sentence says so."""

    exit_code = ExitCode.USAGE


class DeviceFailureError(UserError, RuntimeError):
    """The device failed, or its memory is full; one sentence says which and what to do."""

    exit_code = ExitCode.FAILURE

    @classmethod
    def of(cls, error: BaseException, device: torch.device) -> "DeviceFailureError":
        """Say in a sentence what one of ``DEVICE_ERRORS`` means."""
        if isinstance(error, torch.OutOfMemoryError):
            return cls(f"the memory of {device} is full; end what else runs there, or use --device cpu")
        return cls(f"{device} failed: {str(error).splitlines()[0]}; start again, or use --device cpu")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``. Raises DeviceError."""
    kind, separator, index = name.partition(":")
    if name not in ("auto", "cpu", "cuda") and not (kind == "cuda" and separator and index.isdecimal()):
        raise DeviceError(f"{name!r} is not a device; give auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if not count:
        raise DeviceError(f"there is no CUDA device for {name}: {_why_no_cuda()}; use --device cpu")
    if index and int(index) >= count:
        raise DeviceError(
            f"there is no {name}: this machine has {count} CUDA device{'s' * (count > 1)}, from cuda:0 on"
        )
    return torch.device("cuda", int(index or 0))


_processes_a_gpu = 1


def share_gpu(processes: int) -> None:
    """Say that so many processes use this one's GPU at the same time: what is charged here is their wall clock."""
    global _processes_a_gpu
    _processes_a_gpu = processes


def describe_device(device: torch.device | str = "cpu") -> str:
    """Return what the device is, in words, and with how many processes this one shares it."""
    device = torch.device(device)
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        shared = f", shared by {_processes_a_gpu} processes" if _processes_a_gpu > 1 else ""
        return f"GPU {facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}{shared}"
    threads = torch.get_num_threads()
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return f"CPU {processor}, {threads} thread{'s' * (threads > 1)} of {os.cpu_count()}"


def _why_no_cuda() -> str:
    return "torch sees none" if torch.version.cuda else "this torch was built without CUDA"


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that a training step frees, for the next one; return whether it will.

    glibc gives large blocks back to the system at once, which then clears every page anew: up to half of the time of an
    LSTM's step. Elsewhere nothing is changed. The names and numbers are those of ``malloc.h``.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 * 2**20))
    return all(mallopt(*setting) == 1 for setting in settings)


def with_device_index(device: torch.device | str) -> torch.device:
    """Return the device with its number: plain ``cuda`` is the one that this thread works on."""
    device = torch.device(device)
    if device == torch.device("cuda"):
        return torch.device("cuda", torch.cuda.current_device())
    return device
