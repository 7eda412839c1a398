"""Where in the user's code something happens, and the error that says so."""

from __future__ import annotations

import os.path
import sys
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase

from unspool._reason import Reason
from unspool.program.code import owner


class TraceError(Exception):
    """A cell's step cannot be read as a program; the message names the operation and the user's line.

    `unspool.program` raises it. A run does not: there it is the native backend's reason, the reference backend runs
    the cell, and `unspool.explain` says so.

    Attributes
    ----------
    reason : Reason
        The message, with what to change.
    """

    def __init__(self, text: str, remedy: str = "", where: str = "") -> None:
        super().__init__(text)
        self.reason = Reason.of(text, remedy, where)


IN_STATE = "keep what changes from step to step in the cell's state"
STATISTICS = "normalise with the running statistics (model.eval()), or take LayerNorm or GroupNorm"
DRAWS = Reason("draws random numbers inside of the step", "draw once per sequence, in the cell's row_inputs")

_UNSPOOL = Path(__file__).parents[1]
_CELLS = str(_UNSPOOL / "cells")
_CONTRACT = (str(_UNSPOOL / "cells" / "_contract.py"), str(_UNSPOOL / "cells" / "_step.py"))
_RECORDING = str(Path(__file__).with_name("recording.py"))
_OURS = (str(_UNSPOOL), str(Path(torch.__file__).parent))
_MODULES = str(Path(torch.__file__).parent / "nn" / "modules")
_INSTALLED = ("site-packages", "dist-packages")


def source_line(frame: FrameType | None = None, of_module: bool = True) -> str:
    """Return file, line and function of the user's code that is at work, and which of `torch.nn`'s modules it calls.

    It is looked for from a frame outwards, by default from where this is called.

    That is the innermost function within the step that is neither PyTorch's nor unspool's, save for unspool's own
    cells; what was installed beside them (a package of tensor operations, say) counts where there is nothing else.
    After the step it is where the cell's `forward` begins.
    """
    return _place(sys._getframe(1) if frame is None else frame, of_module)[0]


def here(subject: str, text: str, remedy: str = "", frame: FrameType | None = None) -> Reason:
    """Return a reason about what the user's code calls, with its line.

    Nobody is to change a line of this library: where that is one of a cell of unspool's, the cell has its own remedy.
    What a norm of `torch.nn` does in training, it does not do in evaluation.

    Parameters
    ----------
    subject : str
        What is called.
    text, remedy : str
        See `Reason`; the text may be one.
    frame : frame, optional
        See `source_line`.
    """
    where, cell, module = _place(sys._getframe(1) if frame is None else frame)
    found = Reason.of(text, remedy).about(subject, where)
    if isinstance(module, _NormBase):
        found = Reason(found, STATISTICS, where)
    return found if cell is None else Reason(found, getattr(cell, "_remedy", found.remedy))


def _place(frame: FrameType | None, of_module: bool = True) -> tuple[str, Any, Any]:
    """Return a line as `source_line` does, unspool's own cell that it is in, if any, and the module of `torch.nn`."""
    installed, module = "", None
    while frame is not None:
        code = frame.f_code
        whose = _whose(code.co_filename)
        if _is_start(code):
            return installed or _beginning(frame.f_locals.get("cell")), None, module
        if whose == "module" and of_module and module is None and code.co_name == "forward":
            module = frame.f_locals.get("self")
        if whose in ("cell", "user", "installed"):
            where = line_of(frame) + ("" if module is None else f", {type(module).__name__}")
            if whose == "cell":
                return where, frame.f_locals.get("self", code), module
            if whose == "user":
                return where, None, module
            installed = installed or where
        frame = frame.f_back
    return installed, None, module


def line_of(frame: FrameType) -> str:
    """Return file, line and function of a frame."""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"  # noqa: PTH119


@lru_cache(maxsize=4096)
def _whose(filename: str) -> str:
    """Return what a file holds: `"cell"` of unspool's, `"module"` of `torch.nn`, `"ours"`, `"installed"`, `"user"`."""
    if filename.startswith(_CELLS) and filename not in _CONTRACT:
        return "cell"
    if filename.startswith(_OURS):
        return "module" if filename.startswith(_MODULES) else "ours"
    return "installed" if owner(filename) == "python" or any(part in filename for part in _INSTALLED) else "user"


def _is_start(code: CodeType) -> bool:
    """Tell whether this is the function that runs the step to read it."""
    return code.co_name == "record" and code.co_filename == _RECORDING


def _beginning(cell: Any) -> str:
    code = getattr(getattr(type(cell), "forward", None), "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno} in {code.co_name}" if code is not None else ""
