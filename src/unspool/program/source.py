"""Where in the user's code something happens, and the error that says so."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch


class TraceError(Exception):
    """A cell's step cannot be read as a program; the message names the operation and the user's line.

    `unspool.program` raises it. A run does not: there it is the native backend's reason, the reference backend runs
    the cell, and `unspool.explain` says so.
    """


_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


def source_line() -> str:
    """Return file and line of the innermost frame that is neither PyTorch's nor the recorder's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_HERE, _TORCH)):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
