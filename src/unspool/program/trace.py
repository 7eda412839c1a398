"""Reading a cell: its step is run once, on a few rows, under a recorder of the functions that it calls.

The recorder sees public PyTorch functions (`linear`, `layer_norm`, `chunk`, `sigmoid`, ...). Rules, in `rules`, say
what each one is in terms of a program. What has no rule is refused with its name and the user's line where it depends
on the state; below that it is kept as a call, since PyTorch itself runs it.

Letters: B the number of rows of the trace.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from unspool._nest import Nest, Spec, flatten, leaves_of, map_leaves
from unspool.cells import match_state, step
from unspool.program.ir import LEVELS, Program, Value


class TraceError(Exception):
    """A cell's step cannot be read as a program; the message names the operation and the user's line."""


@dataclass
class Trace:
    """A program together with what connects it to its cell.

    Attributes
    ----------
    program : Program
    parameters : list of str
        For each `param` leaf, in order, the name of the cell's parameter or buffer; `""` for other tensors.
    captured : dict of int to Tensor
        Tensors that are neither parameters nor buffers of the cell, by the place of their `param` leaf.
    output_spec, state_spec : structure
        How the leaves of output and state are nested.
    """

    program: Program
    parameters: list[str]
    captured: dict[int, Tensor]
    output_spec: Spec
    state_spec: Spec


_HERE = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


def source_line() -> str:
    """Return file and line of the innermost frame that is neither PyTorch's nor the recorder's."""
    for frame in reversed(traceback.extract_stack(sys._getframe(1))):
        if not frame.filename.startswith((_HERE, _TORCH)):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return ""


def function_name(func: Callable[..., Any]) -> str:
    """Return a name by which `find_function` finds a function again, if there is one."""
    name = resolve_name(func)
    return name or f"torch.{getattr(func, '__name__', func)}"


@cache
def find_function(name: str) -> Callable[..., Any]:
    """Return the PyTorch function of a name such as `torch.nn.functional.embedding`.

    Raises
    ------
    TraceError
        If there is none.
    """
    found: Any = torch
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    if not name.startswith("torch.") or not callable(found):
        raise TraceError(f"{name} is not a function that can be found by its name")
    return found


@dataclass
class Recorder(TorchFunctionMode):
    """Records what is called with tensors that it knows.

    Attributes
    ----------
    batch : int
        The number of rows B of the trace: unlike every other size in sight, so that it can be told from them.
    program : Program
    known : dict
        From the identity of a tensor to its value; the tensor is kept alive beside it.
    """

    batch: int
    program: Program
    names: dict[int, str]
    known: dict[int, tuple[Tensor, Value]] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    captured: dict[int, Tensor] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def leaf(self, tensor: Tensor, op: str, level: str) -> Value:
        """Make a leaf of a tensor with a batch axis."""
        return self.bind(tensor, self.program.add(op, (), tuple(tensor.shape[1:]), level, **_dtype(tensor)))

    def bind(self, tensor: Tensor, value: Value) -> Value:
        """Let a tensor stand for a value from now on."""
        self.known[id(tensor)] = (tensor, value)
        return value

    def value(self, thing: Any) -> Value:
        """Return the value that a tensor or number stands for, a parameter or constant where it is new."""
        if isinstance(thing, bool | int | float):
            return self.program.add("constant", (), (), "param", value=float(thing))
        if id(thing) in self.known:
            return self.known[id(thing)][1]
        uniform = self.uniform(thing)
        if uniform is not None:
            return self.bind(thing, uniform)
        if thing.dim() and thing.shape[0] == self.batch:
            raise TraceError(
                f"a tensor of shape {list(thing.shape)} that is made inside of the step and differs from row to row "
                f"({source_line()}) is not an operation of a program"
            )
        value = self.program.add("param", (), tuple(thing.shape), "param")
        name = self.names.get(id(thing), "")
        if not name:
            self.captured[len(self.parameters)] = thing
        self.parameters.append(name)
        return self.bind(thing, value)

    def uniform(self, tensor: Tensor) -> Value | None:
        """Return a constant for a tensor of one value throughout that is no parameter (zeros, ones, a scalar)."""
        if id(tensor) in self.names or tensor.requires_grad or tensor.numel() == 0:
            return None
        first = tensor.flatten()[0]
        if tensor.numel() > 1 and not bool((tensor == first).all()):
            return None
        batched = tensor.dim() > 0 and tensor.shape[0] == self.batch
        scalar = self.program.add("constant", (), (), "param", value=float(first))
        shape = tuple(tensor.shape[1:]) if batched else tuple(tensor.shape)
        return scalar if not shape else self.program.add("expand", (scalar,), shape, "param")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function and record what it means."""
        from unspool.program import rules

        kwargs = kwargs or {}
        if func in rules.PASSIVE:
            return func(*args, **kwargs)
        name = function_name(func)
        short = name.rsplit(".", 1)[-1]
        tensors = [t for t in leaves_of((args, kwargs)) if isinstance(t, Tensor)]
        tracked = [self.known[id(t)][1].level if id(t) in self.known else "param" for t in tensors if self._seen(t)]
        level = max(map(LEVELS.index, tracked), default=0)
        if short in rules.RANDOM and not rules.draws_nothing(short, args, kwargs):
            raise TraceError(f"{name} ({source_line()}) draws random numbers inside of the step")
        if short in rules.BATCHWISE and level > 0:
            raise TraceError(f"{name} ({source_line()}) lets the rows of a batch influence each other")
        if level > 0 and short in rules.DATA_DEPENDENT:
            raise TraceError(f"{name} ({source_line()}) makes the step depend on the values in it")
        if "out" in kwargs:
            raise TraceError(f"{name} with out= ({source_line()}) writes into a tensor in place")
        in_place = (short.endswith("_") and not short.endswith("__")) or (
            short.startswith("__i") and short in rules.IN_PLACE
        )
        if in_place:
            return self._in_place(func, name, short, args, kwargs, level)
        result = func(*args, **kwargs)
        if tracked and short not in rules.EMPTY:
            rule = rules.RULES.get(short) if level > 0 else rules.BROADCASTS.get(short)
            recorded = rule(self, result, *args, **kwargs) if rule is not None else None
            self._bind_results(result, self._call(name, level, result, args, kwargs) if recorded is None else recorded)
        return result

    def _seen(self, tensor: Tensor) -> bool:
        return id(tensor) in self.known or id(tensor) in self.names

    def _bind_results(self, result: Any, recorded: Any) -> None:
        if isinstance(result, Tensor):
            self.bind(result, recorded)
        elif isinstance(result, tuple | list):
            for part, value in zip(result, recorded, strict=True):
                self.bind(part, value)

    def _in_place(
        self, func: Callable[..., Any], name: str, short: str, args: tuple[Any, ...], kwargs: dict[str, Any], level: int
    ) -> Any:
        """Give a tensor that the step itself has made a new value; refuse to write into anything else."""
        from unspool.program import rules

        target = args[0]
        entry = self.known.get(id(target))
        storage = target.untyped_storage().data_ptr()
        if storage in self.stored:
            raise TraceError(f"{name} ({source_line()}) writes in place into a parameter or buffer of the cell")
        if entry is None and level == 0:
            return func(*args, **kwargs)
        shared = any(t.untyped_storage().data_ptr() == storage for t, _ in self.known.values() if t is not target)
        if entry is None or entry[1].op in ("param", "input", "state", "row") or shared:
            raise TraceError(f"{name} ({source_line()}) writes in place into a tensor that others see")
        functional = "__" + short[3:] if short.startswith("__i") else short[:-1]
        rule = rules.RULES.get(functional)
        if rule is None:
            raise TraceError(f"{name} ({source_line()}) is not an operation of a program")
        before = target.clone()
        self.bind(before, entry[1])
        result = func(*args, **kwargs)
        value = rule(self, result, before, *args[1:], **kwargs)
        if value is None:
            raise TraceError(f"{name} ({source_line()}) is not an operation of a program")
        self.bind(target, value)
        self.bind(result, value)
        return result

    def _call(self, name: str, level: int, result: Any, args: Any, kwargs: Any) -> Any:
        """Keep a function without a rule as a call to PyTorch, below the level of the state."""
        where = source_line()
        find_function(name)
        if level == LEVELS.index("state"):
            raise TraceError(f"{name} ({where}) is not an operation of a program")
        leaves, spec = flatten((args, kwargs))
        values: list[Value] = []
        template: list[Any] = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                template.append(["value", len(values)])
                values.append(self.value(leaf))
            elif isinstance(leaf, bool) or not isinstance(leaf, int) or leaf != self.batch or level == 0:
                template.append(["plain", leaf])
            else:
                template.append(["batch", None])
        results = [result] if isinstance(result, Tensor) else list(result) if isinstance(result, tuple | list) else None
        if results is None or not all(isinstance(r, Tensor) for r in results):
            raise TraceError(f"{name} ({where}) returns {type(result).__name__}, which is not a tensor")
        batched = level > 0
        if not batched and any(r.dim() and r.shape[0] == self.batch for r in results):
            raise TraceError(f"{name} ({where}) repeats a parameter for every row; let it be broadcast instead")
        if batched and any(r.dim() == 0 or r.shape[0] != self.batch for r in results):
            raise TraceError(f"{name} ({where}) does not keep the batch as the first axis")
        out = []
        for index, part in enumerate(results):
            shape = tuple(part.shape[1:] if batched else part.shape)
            out.append(
                self.program.add(
                    "call", values, shape, LEVELS[level], where,
                    function=name, template=template, spec=_remember(spec),
                    index=None if isinstance(result, Tensor) else index, **_dtype(part),
                )
            )  # fmt: skip
        return out[0] if isinstance(result, Tensor) else out


def _dtype(tensor: Tensor) -> dict[str, str]:
    """Return the attribute of values that are no floating-point numbers, which only PyTorch computes with."""
    return {} if tensor.is_floating_point() else {"dtype": str(tensor.dtype)}


_SPECS: list[Spec] = []


def spec_of(index: int) -> Spec:
    """Return a structure of a call's arguments by its place in the table."""
    return _SPECS[index]


def _remember(spec: Spec) -> int:
    """Keep the structure of a call's arguments in a table, so that programs hold plain numbers only."""
    for index, known in enumerate(_SPECS):
        if known == spec:
            return index
    _SPECS.append(spec)
    return len(_SPECS) - 1


def trace(cell: nn.Module, inputs: Nest, state: Nest, rows: Nest | None) -> Trace:
    """Read a cell's step.

    Parameters
    ----------
    cell : cell
    inputs : nesting of Tensor of shape (..., I)
        Any tensors with the step's features, of which shape after the batch, dtype and device are used: `[B, ...]`.
    state, rows : nesting of Tensor of shape (B, ...)
        Likewise.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        If the step does something that a program cannot express.
    """
    tensors = [*cell.parameters(), *cell.buffers()]
    names = {id(t): name for name, t in [*cell.named_parameters(), *cell.named_buffers()]}
    sizes = {n for t in [*cell.parameters(), *cell.buffers()] for n in t.shape}
    sizes |= {n for t in leaves_of((inputs, state, rows)) if isinstance(t, Tensor) for n in t.shape[1:]}
    batch = next(
        n for n in (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149) if n not in sizes
    )
    recorder = Recorder(batch, Program(), names, stored={t.untyped_storage().data_ptr() for t in tensors if t.numel()})
    generator = torch.Generator().manual_seed(0)

    def sample(leaf: Tensor) -> Tensor:
        shape = (batch, *leaf.shape[1:])
        if not leaf.is_floating_point():
            return torch.zeros(shape, dtype=leaf.dtype, device=leaf.device)
        return torch.rand(shape, generator=generator, dtype=leaf.dtype).to(leaf.device) * 0.5 + 0.1

    inputs, state = map_leaves(sample, inputs), map_leaves(sample, state)
    rows = None if rows is None else map_leaves(sample, rows)
    for op, level, tree in (("input", "token", inputs), ("state", "state", state), ("row", "row", rows)):
        for leaf in leaves_of(tree) if tree is not None else []:
            recorder.leaf(leaf, op, level)
    with torch.no_grad(), recorder:
        output, new_state = step(cell, inputs, state, rows)
        new_state = match_state(new_state, state, "the new state")
        program = recorder.program
        outputs, output_spec = flatten(output)
        new_states, state_spec = flatten(new_state)
        for leaf in (*outputs, *new_states):
            if not isinstance(leaf, Tensor) or leaf.dim() < 1 or leaf.shape[0] != batch:
                raise TraceError("an output or new state is not a tensor with the batch as its first axis")
            if not leaf.is_floating_point():
                raise TraceError(f"an output or new state is of dtype {leaf.dtype}, not a floating-point one")
        program.outputs = [recorder.value(leaf) for leaf in outputs]
        program.new_states = [recorder.value(leaf) for leaf in new_states]
    return Trace(program, recorder.parameters, recorder.captured, output_spec, state_spec)
