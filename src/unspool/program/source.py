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


def source_line(frame: FrameType | None = None) -> str:
    """Return file and line of the innermost frame, from this one outwards, that is neither PyTorch's nor the reader's."""
    frame = sys._getframe(1) if frame is None else frame
    while frame is not None:
        if not frame.f_code.co_filename.startswith((_HERE, _TORCH)):
            return line_of(frame)
        frame = frame.f_back
    return ""


def line_of(frame: FrameType) -> str:
    """Return file and line of a frame."""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
