"""Reading a cell: its step is run once, on a few rows, under a recorder of the functions that it calls.

The recorder sees public PyTorch functions (`linear`, `layer_norm`, `chunk`, `sigmoid`, ...). Rules, in `rules`, say
what each one is in terms of a program. What has no rule is refused with its name and the user's line where it depends
on the state; below that it is kept as a call, since PyTorch itself runs it.

Letters: B the number of rows of the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unspool._nest import Nest, Spec, flatten, leaves_of, map_leaves
from unspool.cells import match_state, step
from unspool.program import rules
from unspool.program.calls import find_function, function_name, remember
from unspool.program.ir import LEVELS, Program, Value
from unspool.program.rules import kinds
from unspool.program.source import TraceError as TraceError
from unspool.program.source import source_line


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


@dataclass
class Recorder(TorchFunctionMode):
    """Records what is called with tensors that it knows.

    Attributes
    ----------
    batch : int
        The number of rows B of the trace: unlike every other size in sight, so that it can be told from them.
    program : Program
    names : dict
        From the identity of the cell's parameters and buffers to their names.
    known : dict
        From the identity of a tensor to its value; the tensor is kept alive beside it.
    parameters, captured
        See `Trace`.
    stored : set of int
        Where the memory of parameters and buffers is.
    fresh : dict of int to Tensor
        Tensors that the step has made and that nobody else has.
    unread : dict of int to (Tensor, str)
        Tensors of which a program knows nothing, and what they are.
    """

    batch: int
    program: Program
    names: dict[int, str]
    known: dict[int, tuple[Tensor, Value]] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    captured: dict[int, Tensor] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    fresh: dict[int, Tensor] = field(default_factory=dict)
    unread: dict[int, tuple[Tensor, str]] = field(default_factory=dict)

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
        kwargs = kwargs or {}
        if func in kinds.PASSIVE:
            return func(*args, **kwargs)
        name = function_name(func)
        short = name.rsplit(".", 1)[-1]
        tensors = [t for t in leaves_of((args, kwargs)) if isinstance(t, Tensor)]
        tracked = [self.known[id(t)][1].level if id(t) in self.known else "param" for t in tensors if self._seen(t)]
        level = max(map(LEVELS.index, tracked), default=0)
        self._refuse(name, short, level, tensors, args, kwargs)
        functional = kinds.functional_name(short, kwargs)
        if functional is not None:
            return self._in_place(func, name, functional, args, kwargs, level)
        result = func(*args, **kwargs)
        if short in kinds.FRESH:
            self.fresh[id(result)] = result
        if tracked and short not in kinds.EMPTY:
            self._bind_results(name, result, self._meaning(name, short, level, result, args, kwargs))
        return result

    def _meaning(self, name: str, short: str, level: int, result: Any, args: Any, kwargs: Any) -> Any:
        """Return the values of results: by a rule or, below the level of the state, as a call to PyTorch."""
        rule, recorded = (rules.RULES if level > 0 else rules.BROADCASTS).get(short), None
        try:
            recorded = None if rule is None else rules.apply(rule, self, result, args, kwargs)
            if recorded is None and level > 0 and short in kinds.BATCHWISE:
                raise TraceError(f"{name} ({source_line()}) lets the rows of a batch influence each other")
        except rules.TooManyPieces as error:
            if level == LEVELS.index("state"):
                raise TraceError(f"{name} ({source_line()}) {error}") from None
        return self._call(name, level, result, args, kwargs) if recorded is None else recorded

    def _refuse(
        self, name: str, short: str, level: int, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Refuse what no program can express, before it is run."""
        if short in kinds.RANDOM and not kinds.draws_nothing(short, args, kwargs):
            raise TraceError(f"{name} ({source_line()}) draws random numbers inside of the step")
        if level > 0 and short in kinds.DATA_DEPENDENT:
            raise TraceError(f"{name} ({source_line()}) makes the step depend on the values in it")
        if kwargs.get("out") is not None:
            raise TraceError(f"{name} with out= ({source_line()}) writes into a tensor in place")
        for tensor in tensors:
            if id(tensor) in self.unread:
                raise TraceError(f"{name} ({source_line()}) takes {self.unread[id(tensor)][1]}, which no program has")

    def _seen(self, tensor: Tensor) -> bool:
        return id(tensor) in self.known or id(tensor) in self.names

    def _bind_results(self, name: str, result: Any, recorded: Any) -> None:
        if isinstance(result, Tensor):
            self.bind(result, recorded)
        elif isinstance(result, tuple | list):
            for part, value in zip(result, recorded, strict=True):
                if value is None:
                    self.unread[id(part)] = (part, f"indices of {name} ({source_line()})")
                else:
                    self.bind(part, value)

    def _in_place(
        self,
        func: Callable[..., Any],
        name: str,
        functional: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        level: int,
    ) -> Any:
        """Give a tensor that the step itself has made a new value; refuse to write into anything else."""
        target = args[0] if args else next(iter(kwargs.values()))
        entry = self.known.get(id(target))
        storage = target.untyped_storage().data_ptr()
        if storage in self.stored:
            raise TraceError(f"{name} ({source_line()}) writes in place into a parameter or buffer of the cell")
        if entry is None and level == 0:
            return func(*args, **kwargs)
        if entry is None and id(target) in self.fresh:
            entry = (target, self.value(target))
        others = [*(t for t, _ in self.known.values()), *self.fresh.values()]
        shared = any(t.untyped_storage().data_ptr() == storage for t in others if t is not target)
        if entry is None or entry[1].op in ("param", "input", "state", "row") or shared:
            raise TraceError(f"{name} ({source_line()}) writes in place into a tensor that others see")
        before = target.clone()
        self.bind(before, entry[1])
        result = func(*args, **kwargs)
        kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
        rule = rules.RULES.get(functional)
        value = None if rule is None else rules.apply(rule, self, target, (before, *args[1:]), kwargs)
        if value is None:
            raise TraceError(f"{name} ({source_line()}) is not an operation of a program")
        self.bind(target, value)
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
                # A program holds true and false as 1 and 0, which a function may take for something else.
                template.append(["truth" if leaf.dtype == torch.bool else "value", len(values)])
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
                    function=name, template=template, spec=remember(spec),
                    index=None if isinstance(result, Tensor) else index, **_dtype(part),
                )
            )  # fmt: skip
        return out[0] if isinstance(result, Tensor) else out


def _dtype(tensor: Tensor) -> dict[str, str]:
    """Return the attribute of values that are no floating-point numbers, which only PyTorch computes with."""
    return {} if tensor.is_floating_point() else {"dtype": str(tensor.dtype)}


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
