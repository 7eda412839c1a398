"""What is installed and what the machine offers."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

import numpy
import torch

from unspool._html import html_table
from unspool.backends.dispatch import BACKENDS
from unspool.backends.native import engine, missing


@dataclass(frozen=True)
class Info:
    """Backends, engine, threads and versions; `str()` gives a table.

    Attributes
    ----------
    backends : tuple of str
        In the order of preference.
    engine : str
        The instruction set that the native engine uses, and those that it could; or why there is no engine.
    threads : int
        Those that a run may take on the CPU, as `torch.get_num_threads()` says.
    cuda : str
        Name of the first CUDA device, or `"none"`.
    versions : dict of str to str
        Of unspool, torch, numpy and python.
    """

    backends: tuple[str, ...]
    engine: str
    threads: int
    cuda: str
    versions: dict[str, str]

    def _rows(self) -> dict[str, str]:
        return {
            "unspool": self.versions["unspool"],
            "backends": ", ".join(self.backends),
            "native engine": self.engine,
            "threads": str(self.threads),
            "CUDA device": self.cuda,
            **{name: text for name, text in self.versions.items() if name != "unspool"},
        }

    def __str__(self) -> str:
        rows = self._rows()
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table("backends, threads and versions", self._rows().items())


def info() -> Info:
    """Tell which backends there are, and on what they run.

    Returns
    -------
    Info
        Prints as a table.

    Examples
    --------
    >>> print(info())  # doctest: +ELLIPSIS
    unspool        ...
    backends       cudnn, native, reference, masked
    native engine  ...
    threads        ...
    CUDA device    ...
    torch          ...
    numpy          ...
    python         ...
    """
    return Info(
        backends=tuple(backend.name for backend in BACKENDS),
        engine=missing or f"{engine.active_isa()} (of {', '.join(engine.available_isas())})",
        threads=torch.get_num_threads(),
        cuda=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        versions={
            "unspool": version("unspool"),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
    )
