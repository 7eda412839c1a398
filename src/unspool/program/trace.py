"""Reading a cell: its step is run on a few rows, under a recorder of the functions that it calls.

The recorder sees public PyTorch functions (`linear`, `layer_norm`, `chunk`, `sigmoid`, ...). Rules, in `rules`, say
what each one is in terms of a program. What has no rule is refused with its name and the user's line where it depends
on the state; below that it is kept as a call, since PyTorch itself runs it.

The cell's own tensors are never computed with: the recorder puts others over the same memory in their places, which
have no graph, no hooks and no past, and lets nothing write into that memory.

Letters: B the number of rows of the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from unspool._nest import Nest, Spec, flatten, leaves_of, map_leaves
from unspool.cells import match_state, step
from unspool.program import rules
from unspool.program.calls import find_function, function_name, remember
from unspool.program.guard import Look
from unspool.program.ir import LEVELS, Program, Value
from unspool.program.objects import is_atom
from unspool.program.observe import Observer
from unspool.program.rules import kinds
from unspool.program.source import TraceError as TraceError
from unspool.program.source import source_line


@dataclass
class Trace:
    """A program together with what connects it to its cell.

    Attributes
    ----------
    program : Program
    parameters : list of Tensor
        For each `param` leaf, in order, the tensor that the step has read, or made of numbers alone.
    made : list of bool
        Which of these the step has made: they are the same at every run.
    output_spec, state_spec : structure
        How the leaves of output and state are nested.
    """

    program: Program
    parameters: list[Tensor]
    made: list[bool]
    output_spec: Spec
    state_spec: Spec

    def let_go(self) -> None:
        """Keep the cell's tensors alive no longer: who runs the program is told where they are (see `guard`)."""
        pairs = zip(self.parameters, self.made, strict=True)
        self.parameters = [t if made else torch.empty_like(t, device="meta") for t, made in pairs]


class Foreign:
    """The tensors that a step reaches and has not made, and what stands for them while it is read.

    Attributes
    ----------
    shaped, contents : dict of int to Tensor
        Those of which the step has asked the form, and those of which it has read the values.
    looks : list of Look
        What else it has asked of them.
    made : set of int
        Where the memory is that the step has made of no other tensor.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.shaped: dict[int, Tensor] = {}
        self.contents: dict[int, Tensor] = {}
        self.looks: list[Look] = []
        self.made: set[int] = set()
        self._standing: dict[int, tuple[Tensor, Tensor]] = {}
        self._stored: dict[int, str] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self.observer.snapshot.tensors

    def name(self, tensor: Tensor) -> str:
        """Return how the user reaches a tensor."""
        return self.observer.snapshot.tensors[id(tensor)][1]

    def writes_into(self, tensor: Tensor) -> str:
        """Return whose memory a tensor shares, or ""."""
        return self._stored.get(_storage(tensor), "")

    def stand_in(self, tensor: Tensor) -> Tensor:
        """Return what stands for a tensor: the same values in the same memory, without graph and hooks."""
        if id(tensor) not in self._standing:
            if not is_plain(tensor):
                kind = type(tensor).__name__ if tensor.layout == torch.strided else f"a {tensor.layout} tensor"
                self.observer.refuse(
                    f"{self.name(tensor)} is of a kind that the engine does not read: {kind} ({source_line()})"
                )
            other = tensor.clone() if tensor.is_inference() else tensor
            other = other.detach().requires_grad_(tensor.requires_grad)
            self._standing[id(tensor)] = tensor, other
            if tensor.numel():
                self._stored[_storage(tensor)] = self.name(tensor)
                self._stored[_storage(other)] = self.name(tensor)
        return self._standing[id(tensor)][1]

    @property
    def met(self) -> list[Tensor]:
        """The tensors that something has stood for."""
        return [tensor for tensor, _ in self._standing.values()]

    def own(self, tree: Any) -> Any:
        """Return arguments with stand-ins in the places of foreign tensors."""
        return map_leaves(lambda leaf: self.stand_in(leaf) if isinstance(leaf, Tensor) and leaf in self else leaf, tree)


def is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor is nothing but an array: no subclass with operations or memory of its own, not sparse."""
    kind: Any = type(tensor)
    plain: Any = nn.Parameter
    known = (
        kind is Tensor
        or kind is plain
        or (kind.__torch_function__ is plain.__torch_function__ and kind.__torch_dispatch__ is plain.__torch_dispatch__)
    )
    return known and tensor.layout == torch.strided


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


class StandIns(TorchFunctionMode):
    """Computes with stand-ins in the places of foreign tensors."""

    def __init__(self, foreign: Foreign) -> None:
        super().__init__()
        self.foreign = foreign

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function on stand-ins."""
        with self.foreign.observer.paused():
            return func(*self.foreign.own(args), **self.foreign.own(kwargs or {}))


class NothingWritten(TorchDispatchMode):
    """Stops a step before one of PyTorch's operators writes into foreign memory, or draws random numbers."""

    def __init__(self, foreign: Foreign) -> None:
        super().__init__()
        self.foreign = foreign

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator that writes into nobody else's memory."""
        with self.foreign.observer.paused():
            return self._run(func, args, kwargs or {})

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not self._draws_nothing(func, args, kwargs):
            self.foreign.observer.refuse(f"{func} ({source_line()}) draws random numbers inside of the step")
        if func._schema.is_mutable:
            given = [*args, *(kwargs.get(a.name) for a in func._schema.arguments[len(args) :])]
            for argument, value in zip(func._schema.arguments, given, strict=True):
                if argument.alias_info is None or not argument.alias_info.is_write:
                    continue
                for tensor in leaves_of(value):
                    into = self.foreign.writes_into(tensor) if isinstance(tensor, Tensor) else ""
                    if into:
                        self.foreign.observer.refuse(f"{func} ({source_line()}) writes into {into}")
        result = func(*args, **kwargs)
        if not any(isinstance(leaf, Tensor) for leaf in leaves_of((args, kwargs))):
            self.foreign.made |= {_storage(leaf) for leaf in leaves_of(result) if isinstance(leaf, Tensor)}
        return result

    @staticmethod
    def _draws_nothing(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether an operator has dropout, and it is off."""
        names = [argument.name for argument in func._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        return "dropout_p" in names and given.get("dropout_p", 0.0) == 0.0


@dataclass
class Recorder(StandIns):
    """Records what is called with tensors that it knows.

    Attributes
    ----------
    foreign : Foreign
    batch : int
        The number of rows B of the trace: unlike every other size in sight, so that it can be told from them.
    program : Program
    known : dict
        From the identity of a tensor to its value; the tensor is kept alive beside it.
    parameters, made
        See `Trace`.
    constants : dict of int to Tensor
        Tensors that the step has made of numbers alone.
    fresh : dict of int to Tensor
        Those of them that nobody else has.
    unread : dict of int to (Tensor, str)
        Tensors of which a program knows nothing, and what they are.
    """

    foreign: Foreign
    batch: int
    program: Program = field(default_factory=Program)
    known: dict[int, tuple[Tensor, Value]] = field(default_factory=dict)
    parameters: list[Tensor] = field(default_factory=list)
    made: list[bool] = field(default_factory=list)
    constants: dict[int, Tensor] = field(default_factory=dict)
    fresh: dict[int, Tensor] = field(default_factory=dict)
    unread: dict[int, tuple[Tensor, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.foreign)
        self.gradients = torch.is_grad_enabled()
        self._given: set[int] = set()

    def leaf(self, tensor: Tensor, op: str, level: str) -> Value:
        """Make a leaf of a tensor with a batch axis."""
        return self.bind(tensor, self.program.add(op, (), tuple(tensor.shape[1:]), level, **_dtype(tensor)))

    def bind(self, tensor: Tensor, value: Value) -> Value:
        """Let a tensor stand for a value from now on."""
        self.known[id(tensor)] = (tensor, value)
        return value

    def value(self, thing: Any) -> Value:
        """Return the value that a tensor or number stands for, a parameter or constant where it is new."""
        if isinstance(thing, bool | int | float | np.generic):
            return self.program.add("constant", (), (), "param", value=float(thing))
        if id(thing) in self.known:
            return self.known[id(thing)][1]
        if thing not in self.foreign:
            ours = id(thing) not in self._given  # a rule has made it
            if not ours and id(thing) not in self.constants and _storage(thing) not in self.foreign.made:
                raise TraceError(
                    f"a tensor of shape {list(thing.shape)} ({source_line()}) comes from where it cannot be followed; "
                    "make it with one of PyTorch's functions (torch.tensor, torch.zeros), or keep it in the cell"
                )
            uniform = self.uniform(thing)
            if uniform is not None:
                return self.bind(thing, uniform)
            if thing.dim() and thing.shape[0] == self.batch and bool((thing == thing[:1]).all()):
                return self.bind(thing, self.value(thing[0].clone()))  # one row, again and again
            if thing.dim() and thing.shape[0] == self.batch:
                raise TraceError(
                    f"a tensor of shape {list(thing.shape)} that is made inside of the step and differs from row to "
                    f"row ({source_line()}) is not an operation of a program"
                )
        value = self.program.add("param", (), tuple(thing.shape), "param")
        self.made.append(thing not in self.foreign)
        self.parameters.append(thing.detach().clone() if self.made[-1] else thing)
        return self.bind(thing, value)

    def expect(self, *tensors: Tensor) -> None:
        """Take these for what the step gives, and not for what a rule has made."""
        self._given = set(map(id, tensors))

    def uniform(self, tensor: Tensor) -> Value | None:
        """Return a constant for a tensor of one value throughout that the step has made (zeros, ones, a scalar)."""
        if tensor in self.foreign or tensor.requires_grad or tensor.numel() == 0:
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
        try:
            with self.foreign.observer.paused():
                return self._record(func, args, kwargs or {})
        except TraceError as error:
            self.foreign.observer.refuse(str(error))  # no handler of the step's own may go on from here

    def _record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [t for t in leaves_of((args, kwargs)) if isinstance(t, Tensor)]
        self._given = set(map(id, tensors))
        name = function_name(func)
        short = short_name(name)
        if func in kinds.PASSIVE:
            return self._look(func, short, tensors, args, kwargs)
        tracked = [self.known[id(t)][1].level if id(t) in self.known else "param" for t in tensors if self._seen(t)]
        level = max(map(LEVELS.index, tracked), default=0)
        self._refuse(name, short, level, tensors, args, kwargs)
        functional = kinds.functional_name(short, kwargs)
        if functional is not None:
            return self._in_place(func, name, functional, args, kwargs, level)
        given = self.foreign.own((args, kwargs))
        if short in kinds.DATA_DEPENDENT:  # whose values are read has no gradient
            given = map_leaves(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, given)
        result = func(*given[0], **given[1])
        if short in kinds.FRESH:
            self.fresh[id(result)] = result
        if tracked and short in kinds.DATA_DEPENDENT:
            return result
        if not tracked:
            self.constants |= {id(leaf): leaf for leaf in leaves_of(result) if isinstance(leaf, Tensor)}
        elif short not in kinds.EMPTY:
            self._bind_results(name, result, self._meaning(name, short, level, result, args, kwargs))
        else:
            self.constants[id(result)] = result
        return result

    def _look(
        self, func: Callable[..., Any], short: str, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a function that looks at a tensor's form and not at what is in it."""
        if short in kinds.MEMORY:
            raise TraceError(f"{short} ({source_line()}) hands out the memory of a tensor")
        if short in kinds.GRADIENTS:
            observer = self.foreign.observer
            observer.asks_for_gradients = observer.asks_for_gradients or f"{short} ({source_line()})"
        foreign = [t for t in tensors if t in self.foreign]
        self.foreign.shaped |= {id(t): t for t in foreign}
        if not foreign or short in kinds.FORM:
            return func(*self.foreign.own(args), **self.foreign.own(kwargs))
        answer = func(*args, **kwargs)
        if kwargs or args[0] is not foreign[0] or not is_atom((answer, args[1:])):
            raise TraceError(f"{short} ({source_line()}) asks for more than what is in {self.foreign.name(foreign[0])}")
        self.foreign.looks.append(Look(foreign[0], func, short, args[1:], answer))
        return answer

    def _meaning(self, name: str, short: str, level: int, result: Any, args: Any, kwargs: Any) -> Any:
        """Return the values of results: by a rule or, below the level of the state, as a call to PyTorch."""
        rule, recorded = (rules.RULES if level > 0 else rules.BROADCASTS).get(short), None
        try:
            recorded = None if rule is None else rules.apply(rule, self, result, args, kwargs)
            if recorded is None and level > 0 and short in kinds.BATCHWISE:
                raise TraceError(f"{name} ({source_line()}) lets the rows of a batch influence each other")
        except rules.CannotRead as error:
            if level == LEVELS.index("state"):
                raise TraceError(f"{name} ({source_line()}) {error}") from None
        return self._call(name, level, result, args, kwargs) if recorded is None else recorded

    def _refuse(
        self, name: str, short: str, level: int, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Refuse what no program can express, before it is run."""
        where = source_line()
        if short in kinds.RANDOM and not kinds.draws_nothing(short, args, kwargs):
            raise TraceError(f"{name} ({where}) draws random numbers inside of the step")
        if kinds.writes_statistics(short, args, kwargs):
            raise TraceError(
                f"{name} ({where}) lets the rows of a batch influence each other and writes its running statistics, as "
                "norms in training do; use layer_norm, or cell.eval()"
            )
        if short in kinds.HOOKS:
            raise TraceError(
                f"{name} ({where}) has a function called in the backward pass, which a program cannot read; clip or "
                "change gradients after the backward pass, or write what it does in PyTorch's own functions"
            )
        if short in kinds.BACKWARD or name == "torch.autograd.grad":
            raise TraceError(f"{name} ({where}) asks for gradients inside of the step")
        if short in kinds.MEMORY and any(map(self._seen, tensors)):
            raise TraceError(f"{name} ({where}) hands out the memory of a tensor")
        if short == "__set__":
            raise TraceError(f"{name} ({where}) writes into an attribute of a tensor")
        if name.startswith("aten."):
            raise TraceError(
                f"{name} ({where}) is called by code that torch.jit has compiled, which cannot be read; call the "
                "function or module that it was made from"
            )
        if short in kinds.DATA_DEPENDENT:
            if level > 0:
                raise TraceError(f"{name} ({where}) makes the step depend on the values in it")
            self._read_values(name, where, tensors)
        if kwargs.get("out") is not None:
            raise TraceError(f"{name} with out= ({where}) writes into a tensor in place")
        for tensor in tensors:
            if id(tensor) in self.unread:
                raise TraceError(f"{name} ({where}) takes {self.unread[id(tensor)][1]}, which no program has")

    def _read_values(self, name: str, where: str, tensors: list[Tensor]) -> None:
        """Note the tensors of the cell whose values the step has turned into numbers of Python's."""
        waiting = [self.value(t) for t in tensors if self._seen(t)]
        leaves = self.program.leaves("param")
        while waiting:
            value = waiting.pop()
            waiting.extend(value.args)
            if value.op != "param" or self.made[leaves.index(value)]:
                continue
            tensor = self.parameters[leaves.index(value)]
            if tensor.numel() > kinds.FEW_VALUES:
                raise TraceError(
                    f"{name} ({where}) makes the step depend on the values of {self.foreign.name(tensor)}, of shape "
                    f"{list(tensor.shape)}; compute with the tensor itself"
                )
            self.foreign.contents[id(tensor)] = tensor

    def _seen(self, tensor: Tensor) -> bool:
        return id(tensor) in self.known or tensor in self.foreign

    def _bind_results(self, name: str, result: Any, recorded: Any) -> None:
        if isinstance(result, Tensor):
            self.bind(result, self._without_gradient(result, recorded))
        elif isinstance(result, tuple | list):
            for part, value in zip(result, recorded, strict=True):
                if value is None:
                    self.unread[id(part)] = (part, f"indices of {name} ({source_line()})")
                else:
                    self.bind(part, self._without_gradient(part, value))

    def _without_gradient(self, result: Tensor, value: Value) -> Value:
        """Stop the gradient of what is computed where the step has turned gradients off."""
        if torch.is_grad_enabled() or not self.gradients or not result.is_floating_point():
            return value
        return self.program.add("detach", (value,), value.shape, source=source_line())

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
        into = self.foreign.name(target) if target in self.foreign else self.foreign.writes_into(target)
        if into:
            raise TraceError(f"{name} ({source_line()}) writes in place into {into}")
        if entry is None and not any(self._seen(t) for t in leaves_of((args, kwargs)) if isinstance(t, Tensor)):
            return func(*self.foreign.own(args), **self.foreign.own(kwargs))
        storage = _storage(target)
        if entry is None and id(target) in self.fresh:
            entry = (target, self.value(target))
        others = [*(t for t, _ in self.known.values()), *self.fresh.values()]
        shared = any(_storage(t) == storage for t in others if t is not target)
        if entry is None or entry[1].op in ("param", "input", "state", "row") or shared:
            raise TraceError(f"{name} ({source_line()}) writes in place into a tensor that others see")
        before = target.clone()
        self.bind(before, entry[1])
        result = func(*self.foreign.own(args), **self.foreign.own(kwargs))
        kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
        rule = (rules.RULES if level > 0 else rules.BROADCASTS).get(functional)
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
            raise TraceError(f"{name} ({where}) is not an operation of a program; docs/backends.md lists what is")
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
        per_row = (rules.is_per_row(self, x, self.value(x)) for x in leaves if isinstance(x, Tensor))
        if not batched and (any(r.dim() and r.shape[0] == self.batch for r in results) or any(per_row)):
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


def short_name(name: str) -> str:
    """Return the last part of a function's name, or that of the property that it gets."""
    return name.removesuffix(".__get__").rsplit(".", 1)[-1]


def sizes_in(*trees: Any) -> set[int]:
    """Return all sizes of the tensors in structures."""
    return {n for t in leaves_of(trees) if isinstance(t, Tensor) for n in t.shape}


PRIMES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173)


def trace(
    cell: nn.Module, inputs: Nest, state: Nest, rows: Nest | None, foreign: Foreign, batch: int, sample: Sampler
) -> Trace:
    """Read a cell's step.

    Parameters
    ----------
    cell : cell
    inputs, state, rows : nesting of Tensor of shape (..., features)
        Any tensors of the form of the step's, but for the batch.
    foreign : Foreign
    batch : int
        How many rows the step is run on: unlike every other size in sight.
    sample : callable
        Makes a tensor with these many rows like another one.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        If the step does something that a program cannot express.
    """
    inputs, state = (map_leaves(lambda leaf: sample(leaf, batch), tree) for tree in (inputs, state))
    rows = None if rows is None else map_leaves(lambda leaf: sample(leaf, batch), rows)
    recorder = Recorder(foreign, batch)
    for op, level, tree in (("input", "token", inputs), ("state", "state", state), ("row", "row", rows)):
        for leaf in leaves_of(tree) if tree is not None else []:
            recorder.leaf(leaf, op, level)
    with NothingWritten(foreign), recorder:
        output, new_state = foreign.observer.run(lambda: step(cell, inputs, state, rows))
    new_state = match_state(new_state, state, "the new state")
    program = recorder.program
    outputs, output_spec = flatten(output)
    new_states, state_spec = flatten(new_state)
    for leaf in (*outputs, *new_states):
        if not isinstance(leaf, Tensor) or leaf.dim() < 1 or leaf.shape[0] != batch:
            raise TraceError("an output or new state is not a tensor with the batch as its first axis")
        if not leaf.is_floating_point():
            raise TraceError(f"an output or new state is of dtype {leaf.dtype}, not a floating-point one")
    recorder.expect(*outputs, *new_states)
    program.outputs = [recorder.value(leaf) for leaf in outputs]
    program.new_states = [recorder.value(leaf) for leaf in new_states]
    return Trace(program, recorder.parameters, recorder.made, output_spec, state_spec)


Sampler = Callable[[Tensor, int], Tensor]


def difference(one: Trace, other: Trace) -> str:
    """Return the first operation in which two readings of one step differ, or ""."""
    if len(one.program.values) != len(other.program.values):
        pairs = zip(one.program.values, other.program.values, strict=False)
    else:
        pairs = zip(one.program.values, other.program.values, strict=True)
    for a, b in pairs:
        if _form(a) != _form(b):
            return f"{a.op} ({a.source})" if a.source else a.op
    same = len(one.program.values) == len(other.program.values) and _ends(one) == _ends(other)
    same = same and one.made == other.made and all(map(_same_parameter, one.parameters, other.parameters, one.made))
    return "" if same else "what it takes or gives"


def _form(value: Value) -> tuple[Any, ...]:
    return value.op, tuple(a.id for a in value.args), repr(value.attrs), value.shape, value.level


def _ends(traced: Trace) -> list[int]:
    return [v.id for v in (*traced.program.outputs, *traced.program.new_states)]


def _same_parameter(a: Tensor, b: Tensor, made: bool) -> bool:
    return torch.equal(a, b) if made and a.shape == b.shape else a is b
