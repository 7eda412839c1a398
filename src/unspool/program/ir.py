"""A cell's step as data: a short list of operations over sequences.

Every value has a *level*, which says what it depends on, and so where it is computed:

- `param`: on parameters alone: once per call, in PyTorch, under autograd;
- `row`: also on row inputs: once per call and sequence, in PyTorch, under autograd;
- `token`: also on the step's inputs: by the engine, for a chunk of steps at once; what the engine does not have, once
  per call over all valid steps, in PyTorch, under autograd;
- `state`: on the state: by the engine, step by step. Only these must be among the engine's operations.

Values of the levels from `row` on have the batch as an axis that is not written: `shape` holds the features.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from unspool._html import html_table
from unspool.program.operations import OPERATIONS

LEVELS = ("param", "row", "token", "state")

LEAVES = ("param", "row", "input", "state", "constant", "forward", "grad_output", "grad_state")
"""The last three are leaves of backward programs: values of the forward program, and gradients that come in."""


@dataclass(frozen=True, eq=False)
class Value:
    """One value of a program: where it comes from, and what it looks like.

    Attributes
    ----------
    id : int
        Its place in the program.
    op : str
        One of `LEAVES` or `OPERATIONS`.
    args : tuple of Value
    attrs : dict
        What the operation takes beside its arguments: its constants as `imm`, the places of features.
    shape : tuple of int
        Features, without the batch; for level `param` the whole shape.
    level : str
        One of `LEVELS`.
    source : str
        File and line of the user's code that it stands for.
    """

    id: int
    op: str
    args: tuple[Value, ...]
    attrs: dict[str, Any]
    shape: tuple[int, ...]
    level: str
    source: str = ""

    @property
    def width(self) -> int:
        """Number of features."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"%{self.id}"

    def __repr__(self) -> str:
        """A line: its place, what makes it, the level and the features."""
        attrs = f" {reprlib.repr(self.attrs)}" if self.attrs else ""
        return f"{self} = {self.op}({', '.join(map(str, self.args))}){attrs}  # {self.level}, {list(self.shape)}"


@dataclass
class Program:
    """A step program.

    Attributes
    ----------
    values : list of Value
        In an order in which they can be computed.
    outputs, new_states : list of Value
        The leaves of the cell's output and of its new state.
    """

    values: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    new_states: list[Value] = field(default_factory=list)

    def __repr__(self) -> str:
        """A line; `str()` gives one for each value."""
        counts = {"value": len(self.values), "output": len(self.outputs), "new state": len(self.new_states)}
        words = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
        return f"<Program: {words}>"

    def __str__(self) -> str:
        ends = [f"{name} {', '.join(map(str, values))}" for name, values in self._ends().items()]
        return "\n".join([*map(repr, self.values), *ends])

    def _repr_html_(self) -> str:
        rows = [
            (value, f"{value.op}({', '.join(map(str, value.args))})", value.level, list(value.shape), value.source)
            for value in self.values
        ]
        ends = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in self._ends().items())
        return html_table(f"{self!r}; {ends}", rows, ("", "operation", "level", "features", "source"))

    def _ends(self) -> dict[str, list[Value]]:
        return {"outputs": self.outputs, "new states": self.new_states}

    def add(
        self,
        op: str,
        args: Iterable[Value] = (),
        shape: tuple[int, ...] = (),
        level: str | None = None,
        source: str = "",
        **attrs: Any,
    ) -> Value:
        """Append a value and return it. Its level is the highest of its arguments' where none is given."""
        args = tuple(args)
        if level is None:
            level = LEVELS[max((LEVELS.index(a.level) for a in args), default=0)]
        value = Value(len(self.values), op, args, attrs, tuple(shape), level, source)
        self.values.append(value)
        return value

    def leaves(self, op: str) -> list[Value]:
        """Return the leaves of one kind, in order."""
        return [value for value in self.values if value.op == op]

    def live(self) -> list[Value]:
        """Return the values that the outputs and new states need, in order; all leaves but constants among them."""
        needed = {value for value in self.values if value.op in LEAVES and value.op != "constant"}
        stack = [*self.outputs, *self.new_states]
        while stack:
            value = stack.pop()
            if value not in needed or value.op in LEAVES:
                needed.add(value)
                stack.extend(a for a in value.args if a not in needed)
        return [value for value in self.values if value in needed]

    def pretty(self) -> str:
        """Return a readable dump: one line per value, by level."""
        lines = []
        for level in LEVELS:
            members = [v for v in self.live() if v.level == level]
            if members:
                lines.append(f"{level}:")
                lines += [f"  {_line(v)}" for v in members]
        lines.append(f"output: {', '.join(map(str, self.outputs))}")
        lines.append(f"new state: {', '.join(map(str, self.new_states))}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the program as JSON text."""
        values = [
            {
                "op": v.op,
                "args": [a.id for a in v.args],
                "attrs": v.attrs,
                "shape": list(v.shape),
                "level": v.level,
                "source": v.source,
            }
            for v in self.values
        ]
        return json.dumps(
            {"values": values, "outputs": [v.id for v in self.outputs], "new_states": [v.id for v in self.new_states]}
        )

    @staticmethod
    def from_json(text: str) -> Program:
        """Return the program that `to_json` has written.

        Raises
        ------
        ValueError
            If the text is not such a program.
        """
        try:
            data = json.loads(text)
            program = Program()
            for entry in data["values"]:
                if entry["op"] not in {*LEAVES, *OPERATIONS} or entry["level"] not in LEVELS:
                    raise ValueError(f"unknown operation {entry['op']!r} or level {entry['level']!r}")
                args = [program.values[_earlier(i, program)] for i in entry["args"]]
                program.add(entry["op"], args, tuple(entry["shape"]), entry["level"], entry["source"], **entry["attrs"])
            program.outputs = [program.values[_earlier(i, program)] for i in data["outputs"]]
            program.new_states = [program.values[_earlier(i, program)] for i in data["new_states"]]
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a step program: {error!r}; expected text from Program.to_json.") from error
        return program


def _earlier(index: Any, program: Program) -> int:
    if not isinstance(index, int) or not 0 <= index < len(program.values):
        raise ValueError(f"not a step program: value {index!r} is used before it is defined.")
    return index


def _line(value: Value) -> str:
    args = ", ".join(map(str, value.args))
    attrs = ", ".join(f"{k}={_short(v)}" for k, v in value.attrs.items())
    inside = ", ".join(part for part in (args, attrs) if part)
    shape = "x".join(map(str, value.shape)) or "1"
    source = f"  # {value.source}" if value.source else ""
    return f"{value!s:<5} = {value.op}({inside}) : {shape}{source}"


def _short(attribute: Any) -> str:
    """Return an attribute as text; of a long table of indices its first ones."""
    text = str(attribute)
    long = isinstance(attribute, list) and len(text) > 60 and all(isinstance(item, int) for item in attribute)
    return f"[{', '.join(map(str, attribute[:8]))}, ... {len(attribute)} in all]" if long else text
