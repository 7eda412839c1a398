"""What figures were made with and on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of installed packages.

    Parameters
    ----------
    *packages : str
        Their names.
    """
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def describe_machine() -> dict[str, Any]:
    """Return the processor, its cores and those that this process may use, PyTorch's threads, and a GPU if any."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu() -> str:
    """Return the processor's name, with family and model, which tell apart what has one name."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    entries = dict(line.split("\t: ") for line in first.replace("\t\t:", "\t:").splitlines() if "\t: " in line)
    name = entries.get("model name", platform.machine())
    return f"{name} (family {entries.get('cpu family', '?')}, model {entries.get('model', '?')})"
