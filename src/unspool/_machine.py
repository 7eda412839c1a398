"""What a run ran with and on, for the record."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """Return the versions of what a run's numbers and times depend on."""
    packages = ("unspool", "torch", "lightning", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def machine() -> dict[str, str | int]:
    """Return the processor, its cores that this process may use, PyTorch's threads, and the GPU if there is one."""
    found: dict[str, str | int] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
