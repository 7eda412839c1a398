"""Recording what a step calls: public PyTorch functions (`linear`, `layer_norm`, `chunk`, `sigmoid`, ...).

Rules, in `rules`, say what each one is in terms of a program. What has no rule is refused with its name and the user's
line where it depends on the state; below that it is kept as a call, since PyTorch itself runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._nest import flatten, leaves_of, map_leaves
from unspool._reason import Reason
from unspool.program import rules
from unspool.program.calls import find_function, function_name, remember
from unspool.program.foreign import Foreign, StandIns, storage_of
from unspool.program.guard_code import Look
from unspool.program.ir import LEVELS, Program, Value
from unspool.program.objects import is_atom
from unspool.program.rules import kinds
from unspool.program.source import DRAWS, IN_STATE, STATISTICS, TraceError, here, source_line
from unspool.program.tape import Tape

_NO_OPERATION = Reason("is not an operation of a program", "use what is read natively (docs/backends.md)")
_MEMORY = Reason("hands out the memory of a tensor", "compute with the tensor itself in place of its memory")
_NEW_TENSOR = "compute a new tensor in place of writing into one"


@dataclass
class Recorder(StandIns):
    """Records what is called with tensors that it knows.

    Attributes
    ----------
    foreign : Foreign
    batch : int
        The number of sequences B of the recording: unlike every other size in sight, so that it can be told from them.
    program : Program
    known : dict
        From the identity of a tensor to its value; the tensor is kept alive beside it.
    parameters, made
        See `Recording`.
    constants : dict of int to Tensor
        Tensors that the step has made of numbers alone.
    fresh : dict of int to Tensor
        Those of them that nobody else has.
    unread : dict of int to (Tensor, str)
        Tensors of which a program knows nothing, and what they are.
    tape : Tape or None
        The calls, in words; None where nobody asks for them.
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
    tape: Tape | None = None

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
            if not ours and id(thing) not in self.constants and storage_of(thing) not in self.foreign.made:
                reason = Reason.ending(
                    "comes from where it cannot be followed",
                    "make it with one of PyTorch's functions (torch.tensor, torch.zeros), or keep it in the cell",
                )
                raise TraceError(here(f"a tensor of shape {list(thing.shape)}", reason))
            uniform = self.uniform(thing)
            if uniform is not None:
                return self.bind(thing, uniform)
            if thing.dim() and thing.shape[0] == self.batch and bool((thing == thing[:1]).all()):
                return self.bind(thing, self.value(thing[0].clone()))  # one sequence, again and again
            if thing.dim() and thing.shape[0] == self.batch:
                what = (
                    f"a tensor of shape {list(thing.shape)} that is made inside of the step and differs from row to row"
                )
                raise TraceError(here(what, Reason(_NO_OPERATION, "make it in the cell's row_inputs")))
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
            return self.foreign.observer.aside(self._record, func, args, kwargs or {})
        except TraceError as error:
            self.foreign.observer.refuse(error.reason)  # no handler of the step's own may go on from here

    def _record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [t for t in leaves_of((args, kwargs) if kwargs else args) if isinstance(t, Tensor)]
        if func in kinds.PASSIVE:
            return self._look(func, tensors, args, kwargs)
        result = self._run(func, tensors, args, kwargs)
        if self.tape is not None:
            self.tape.call(function_name(func), args, kwargs, result)
        return result

    def _run(
        self, func: Callable[..., Any], tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self._given = set(map(id, tensors))
        name = function_name(func)
        short = short_name(name)
        tracked = [self.known[id(t)][1].level if id(t) in self.known else "param" for t in tensors if self._seen(t)]
        level = max(map(LEVELS.index, tracked), default=0)
        objection = self._objection(name, short, level, tensors, args, kwargs)
        if objection:
            raise TraceError(here(name, objection))
        functional = kinds.functional_name(short, kwargs)
        if functional is not None:
            return self._in_place(func, name, functional, args, kwargs, level)
        given = self.foreign.own(args), self.foreign.own(kwargs)
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
        self, func: Callable[..., Any], tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a function that looks at a tensor's form and not at what is in it."""
        short = short_name(function_name(func))
        if short in kinds.MEMORY:
            raise TraceError(here(short, _MEMORY))
        if short in kinds.GRADIENTS:
            observer = self.foreign.observer
            where = source_line()
            observer.asks_for_gradients = observer.asks_for_gradients or Reason(f"{short} ({where})", where=where)
        foreign = [t for t in tensors if t in self.foreign]
        self.foreign.shaped |= {id(t): t for t in foreign}
        if not foreign or short in kinds.FORM:
            return func(*self.foreign.own(args), **self.foreign.own(kwargs))
        answer = func(*args, **kwargs)
        if kwargs or args[0] is not foreign[0] or not is_atom((answer, args[1:])):
            what = f"asks for more than what is in {self.foreign.name(foreign[0])}"
            raise TraceError(here(short, what, _NO_OPERATION.remedy))
        self.foreign.looks.append(Look(foreign[0], func, short, args[1:], answer))
        return answer

    def _meaning(self, name: str, short: str, level: int, result: Any, args: Any, kwargs: Any) -> Any:
        """Return the values of results: by a rule or, below the level of the state, as a call to PyTorch."""
        rule, recorded = (rules.RULES if level > 0 else rules.BROADCASTS).get(short), None
        try:
            recorded = None if rule is None else rules.apply(rule, self, result, args, kwargs)
            if recorded is None and level > 0 and short in kinds.BATCHWISE:
                remedy = "apply it to features (dim=1 or higher) and not to the batch"
                raise TraceError(here(name, "lets the rows of a batch influence each other", remedy))
        except rules.CannotRead as error:
            if level == LEVELS.index("state"):
                raise TraceError(here(name, error.reason)) from None
        return self._call(name, level, result, args, kwargs) if recorded is None else recorded

    def _objection(
        self, name: str, short: str, level: int, tensors: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Reason | None:
        """Return why no program can express a call that has not been run yet, or None."""
        if short in kinds.RANDOM and not kinds.draws_nothing(short, args, kwargs):
            return DRAWS
        if kinds.writes_statistics(short, args, kwargs):
            return Reason(
                "lets the rows of a batch influence each other and writes its running statistics, as norms in training "
                "do; use layer_norm, or cell.eval()",
                STATISTICS,
            )
        if short in kinds.HOOKS:
            return Reason.ending(
                "has a function called in the backward pass, which a program cannot read",
                "clip or change gradients after the backward pass, or write what it does in PyTorch's own functions",
            )
        if short in kinds.BACKWARD or name == "torch.autograd.grad":
            return Reason(
                "asks for gradients inside of the step", "write the gradient out, or take it outside of the step"
            )
        if short in kinds.MEMORY and any(map(self._seen, tensors)):
            return _MEMORY
        if short == "__set__":
            return Reason("writes into an attribute of a tensor", _NEW_TENSOR)
        if name.startswith("aten.") and any(map(self._seen, tensors)):
            return Reason.ending(
                "is called by code that torch.jit has compiled, which cannot be read",
                "call the function or module that it was made from",
            )
        if short in kinds.DATA_DEPENDENT and level > 0:
            return Reason("makes the step depend on the values in it", rules.BRANCH)
        if short in kinds.DATA_DEPENDENT:
            return self._read_values(tensors)
        if kwargs.get("out") is not None:
            return Reason("with out= writes into a tensor in place", _NEW_TENSOR)
        unread = next((self.unread[id(t)][1] for t in tensors if id(t) in self.unread), "")
        remedy = "compare values (h == h.amax(1, keepdim=True)) in place of taking indices"
        return Reason(f"takes {unread}, which no program has", remedy) if unread else None

    def _read_values(self, tensors: list[Tensor]) -> Reason | None:
        """Note the tensors of the cell whose values the step turns into numbers of Python's; object to large ones."""
        waiting = [self.value(t) for t in tensors if self._seen(t)]
        leaves = self.program.leaves("param")
        while waiting:
            value = waiting.pop()
            waiting.extend(value.args)
            if value.op != "param" or self.made[leaves.index(value)]:
                continue
            tensor = self.parameters[leaves.index(value)]
            if tensor.numel() > kinds.FEW_VALUES:
                return Reason(
                    f"makes the step depend on the values of {self.foreign.name(tensor)}, of shape "
                    f"{list(tensor.shape)}; compute with the tensor itself",
                    "compute with the tensor itself, or let it be an attribute that is a number",
                )
            self.foreign.contents[id(tensor)] = tensor
        return None

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
            raise TraceError(here(name, f"writes in place into {into}", IN_STATE))
        if entry is None and not any(self._seen(t) for t in leaves_of((args, kwargs)) if isinstance(t, Tensor)):
            return func(*self.foreign.own(args), **self.foreign.own(kwargs))
        storage = storage_of(target)
        if entry is None and id(target) in self.fresh:
            entry = (target, self.value(target))
        others = [*(t for t, _ in self.known.values()), *self.fresh.values()]
        shared = any(storage_of(t) == storage for t in others if t is not target)
        if entry is None or entry[1].op in ("param", "input", "state", "row") or shared:
            raise TraceError(here(name, "writes in place into a tensor that others see", _NEW_TENSOR))
        before = target.clone()
        self.bind(before, entry[1])
        result = func(*self.foreign.own(args), **self.foreign.own(kwargs))
        kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
        rule = (rules.RULES if level > 0 else rules.BROADCASTS).get(functional)
        try:
            value = None if rule is None else rules.apply(rule, self, target, (before, *args[1:]), kwargs)
        except rules.CannotRead as error:
            raise TraceError(here(name, error.reason)) from None
        if value is None:
            raise TraceError(here(name, _NO_OPERATION))
        self.bind(target, value)
        return result

    def _call(self, name: str, level: int, result: Any, args: Any, kwargs: Any) -> Any:
        """Keep a function without a rule as a call to PyTorch, below the level of the state."""
        where = source_line()
        find_function(name)
        if level == LEVELS.index("state"):
            raise TraceError(here(name, f"{_NO_OPERATION}; docs/backends.md lists what is", _NO_OPERATION.remedy))
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
            what = f"returns {type(result).__name__}, which is not a tensor"
            raise TraceError(here(name, what, _NO_OPERATION.remedy))
        batched = level > 0
        per_row = (rules.is_per_row(self, x, self.value(x)) for x in leaves if isinstance(x, Tensor))
        if not batched and (any(r.dim() and r.shape[0] == self.batch for r in results) or any(per_row)):
            what = "repeats a parameter for every row; let it be broadcast instead"
            raise TraceError(here(name, what, rules.BROADCAST))
        if batched and any(r.dim() == 0 or r.shape[0] != self.batch for r in results):
            what = "does not keep the batch as the first axis"
            raise TraceError(here(name, what, "keep the batch as the first axis"))
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
