"""What is said where a model fails on the sample batch."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class SampleError(ValueError):
    """A model cannot be run on the sample batch.

    The message says what the model was called with and the line of its own code that failed; what it raised is the
    cause. Pass a sample that the model's forward takes.
    """

    @classmethod
    def of(cls, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SampleError:
        """Return the error for what a model raised.

        Parameters
        ----------
        error : Exception
        args, kwargs
            What the model was called with.
        """
        received = [_described(value) for value in args]
        received += [f"{name}={_described(value)}" for name, value in kwargs.items()]
        return cls(
            f"the model fails on the sample batch, with {type(error).__name__}: {error}\n"
            f"{_place(error)}It was called with ({', '.join(received)}); expected what its forward takes."
        )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__


def _place(error: Exception) -> str:
    """Return the innermost line of somebody's own code that the error came through, or nothing."""
    libraries = [Path(torch.__file__).parent, Path(__file__).parents[1]]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(folder in Path(frame.filename).parents for folder in libraries):
            return f"  {frame.filename}, line {frame.lineno}: {frame.line}\n"
    return ""
