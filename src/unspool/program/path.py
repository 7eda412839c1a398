"""Whether the code of a step takes the same way again, instruction by instruction."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

from unspool.program.code import owner_of
from unspool.program.observe import Stopped
from unspool.program.source import line_of

T = TypeVar("T")


class Path:
    """The way that the user's code has taken in one call of a function, and is to take in others.

    What libraries do inside of their functions does not count: they may go another way to the same values.

    Attributes
    ----------
    left_at : str
        Where the latest call has left the path, or "".
    """

    def __init__(self) -> None:
        self._taken: list[tuple[CodeType, int]] = []
        self.left_at = ""

    def record(self, function: Callable[[], T]) -> T:
        """Call a function and remember its path."""
        return self._traced(function, lambda frame: self._taken.append((frame.f_code, frame.f_lasti)))

    def follow(self, function: Callable[[], T]) -> T | None:
        """Call a function. Where its path is another one it is stopped, before anything has come of it: None."""
        ahead = iter(self._taken)
        self.left_at = ""

        def compare(frame: FrameType) -> None:
            if next(ahead, None) != (frame.f_code, frame.f_lasti):
                self.left_at = line_of(frame)
                raise Stopped(self.left_at)

        try:
            return self._traced(function, compare)
        except Stopped:
            return None

    @staticmethod
    def _traced(function: Callable[[], T], see: Callable[[FrameType], None]) -> T:
        def inside(frame: FrameType, event: str, _: Any) -> Any:
            if event == "opcode":
                see(frame)
            return inside

        def enter(frame: FrameType, _event: str, _: Any) -> Any:
            if owner_of(frame.f_code, frame.f_globals) != "user":
                return None
            frame.f_trace_opcodes = True
            return inside

        before, collecting = sys.gettrace(), gc.isenabled()
        gc.disable()  # what a collection calls is not the step's
        sys.settrace(enter)
        try:
            return function()
        finally:
            sys.settrace(before)
            if collecting:
                gc.enable()
