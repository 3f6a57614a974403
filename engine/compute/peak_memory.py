"""The most memory that a run held."""

import resource
from pathlib import Path

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Forget the largest memory so far, so that a worker's later runs are not charged for an earlier one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the process's peak is reported
        return


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory held since the last reset, on a GPU with kept networks and corpora.

    Runs that train together hold it together.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    status = Path("/proc/self/status")
    if status.exists():
        peak = next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
        if peak is not None:
            return round(int(peak) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
