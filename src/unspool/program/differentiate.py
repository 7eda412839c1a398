"""Reverse-mode differentiation of a program's loop: one step of the loop, backwards, as a program of its own.

The backward program takes the gradients of the step's outputs and of its new states, and values of the forward program.
It gives the gradients of the old states, of what the step took per valid step and per sequence, of vectors of
parameters (to be summed over valid steps), and for each weight pairs of values whose outer products, summed over valid
steps, are its gradient.

Which forward values are kept for it and which are computed again is decided here: kept are states and outputs (which
are there anyway) and what takes a product, a reduction or a costly function of such to compute; computed again is the
rest.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from unspool.program.evaluate import constant
from unspool.program.ir import Program, Value
from unspool.program.loop import Loop
from unspool.program.operations import OPERATIONS


@dataclass
class Backward:
    """The backward program of a loop.

    Attributes
    ----------
    program : Program
        Its leaves `forward` stand for values of the forward program: `forward[leaf]`.
    forward : dict of Value to Value
    saved : list of Value
        Forward values, neither states nor outputs nor from outside, that must be kept for every valid step.
    states : list of Value or None
        Gradient of each state leaf.
    tokens, rows : dict of Value to Value
        Gradients of what the loop takes from outside.
    vectors : dict of Value to Value
        For each parameter that is added, multiplied and so on: what is summed over valid steps.
    weights : dict of Value to list of (Value, Value)
        For each weight of a product: pairs (gradient of the product, what it took), both of the backward program.
    """

    program: Program
    forward: dict[Value, Value] = field(default_factory=dict)
    saved: list[Value] = field(default_factory=list)
    states: list[Value | None] = field(default_factory=list)
    tokens: dict[Value, Value] = field(default_factory=dict)
    rows: dict[Value, Value] = field(default_factory=dict)
    vectors: dict[Value, Value] = field(default_factory=dict)
    weights: dict[Value, list[tuple[Value, Value]]] = field(default_factory=dict)


def differentiate(loop: Loop) -> Backward:
    """Return the backward program of a loop."""
    wanted = _Differentiator(loop, None).run().forward.values()
    return _Differentiator(loop, set(wanted)).run()


class _Differentiator:
    """Builds a backward program: once to see which forward values it wants, and again with the decision made."""

    def __init__(self, loop: Loop, wanted: set[Value] | None) -> None:
        self.loop = loop
        self.out = Backward(Program())
        self.forward_of: dict[Value, Value] = {}  # forward value -> its value in the backward program
        self.grads: dict[Value, Value] = {}
        self.pieces: dict[Value, list[tuple[int, int, Value]]] = {}
        # What PyTorch computes per valid step is not there anyway: it may be wider than what is made of it.
        kept = {*loop.states, *loop.inputs, *loop.rows, *loop.params}
        self.present = kept | {v for v in (*loop.program.outputs, *loop.program.new_states) if v in set(loop.body)}
        self.again: set[Value] = set()
        if wanted is not None:
            self._decide(wanted)

    def _decide(self, wanted: set[Value]) -> None:
        """Choose, in order of computation, what is saved and what is computed again."""
        for value in self.loop.body:
            if value in self.present:
                continue
            given = all(a in self.present or a in self.again or constant(a) is not None for a in value.args)
            cheap = not OPERATIONS[value.op].costly and value.op != "product"
            from_free = given and not any(a in set(self.out.saved) for a in value.args)
            if given and (cheap or (from_free and value.op != "product")):
                self.again.add(value)
            elif value in wanted:
                self.out.saved.append(value)
                self.present.add(value)

    # ------------------------------------------------------------------------------------------ building

    def emit(self, op: str, *args: Value, shape: tuple[int, ...] | None = None, **attrs: Any) -> Value:
        """Append an operation to the backward program."""
        shape = max((a.shape for a in args if a.level != "param"), key=math.prod) if shape is None else shape
        return self.out.program.add(op, args, shape, "state", **attrs)

    def number(self, value: float) -> Value:
        """Return a constant."""
        return self.out.program.add("constant", (), (), "param", value=value)

    def fwd(self, value: Value) -> Value:
        """Return a forward value for use in the backward program."""
        if value not in self.forward_of:
            number = constant(value)
            if number is not None:
                new = self.number(number)
            elif value in self.again:
                args = [self.fwd(a) for a in value.args]
                if value.op == "concat":  # a constant elsewhere fits any number of features, but here it has its own
                    args = [self._as_wide_as(a, old) for a, old in zip(args, value.args, strict=True)]
                new = self.out.program.add(value.op, args, value.shape, "state", value.source, **value.attrs)
            else:
                level = "param" if value.level == "param" else "state"
                new = self.out.program.add("forward", (), value.shape, level, value.source, of=value.id)
                self.out.forward[new] = value
            self.forward_of[value] = new
        return self.forward_of[value]

    def _as_wide_as(self, value: Value, old: Value) -> Value:
        wider = constant(old) is not None and old.width > 1
        return self.out.program.add("expand", [value], (old.width,)) if wider else value

    def give(self, value: Value, gradient: Value | None) -> None:
        """Add to the gradient of a forward value, brought to its shape."""
        if gradient is None or constant(value) is not None:
            return
        if value.width == 1 and gradient.width > 1:
            flat = self.emit("reshape", gradient, shape=(gradient.width,))
            gradient = self.emit("sum", flat, shape=(1,))
        if gradient.shape != value.shape:
            gradient = self.emit("reshape", gradient, shape=value.shape)
        grads = self.out.vectors if value.level == "param" else self.grads
        grads[value] = self.emit("add", grads[value], gradient) if value in grads else gradient

    def gradient(self, value: Value) -> Value | None:
        """Return the whole gradient of a forward value: what was given to it and to its cuts."""
        pieces = sorted(self.pieces.get(value, []), key=lambda piece: piece[0])
        total = self.grads.get(value)
        while pieces:  # usually one round: the cuts of a value seldom overlap
            row, rest, place = [], [], 0
            for start, stop, piece in pieces:
                if start < place:
                    rest.append((start, stop, piece))
                    continue
                row += [self._zeros(start - place)] if start > place else []
                row.append(piece)
                place = stop
            row += [self._zeros(value.width - place)] if place < value.width else []
            joined = row[0] if len(row) == 1 else self.emit("concat", *row, shape=(value.width,))
            joined = joined if joined.shape == value.shape else self.emit("reshape", joined, shape=value.shape)
            total = joined if total is None else self.emit("add", total, joined)
            pieces = rest
        return total

    def _zeros(self, width: int) -> Value:
        return self.emit("expand", self.number(0.0), shape=(width,))

    def run(self) -> Backward:
        """Walk the body backwards."""
        program, out = self.loop.program, self.out
        for op, ends in (("grad_output", program.outputs), ("grad_state", program.new_states)):
            for index, end in enumerate(ends):
                leaf = out.program.add(op, (), end.shape, "state", index=index)
                self.give(end, leaf)
        for value in reversed(self.loop.body):
            g = self.gradient(value)
            if g is not None:
                self._step(value, g)
        out.states = [self.gradient(state) for state in self.loop.states]
        out.tokens = {v: g for v in (*self.loop.inputs, *self.loop.tokens) if (g := self.gradient(v)) is not None}
        out.rows = {v: g for v in self.loop.rows if (g := self.gradient(v)) is not None}
        return out

    def _step(self, value: Value, g: Value) -> None:
        """Hand the gradient of a value on to its arguments."""
        op, args = value.op, value.args
        if op == "slice":
            start, stop = value.attrs["start"], value.attrs["stop"]
            flat = g if g.shape == (g.width,) else self.emit("reshape", g, shape=(g.width,))
            self.pieces.setdefault(args[0], []).append((start, stop, flat))
        elif op == "detach":
            return
        elif op == "gather":
            self._give_gathered(args[0], value.attrs["index"], g)
        elif op == "reshape":
            self.give(args[0], g)
        elif op == "concat":
            start = 0
            for arg in args:
                self.give(arg, self.emit("slice", g, shape=arg.shape, start=start, stop=start + arg.width))
                start += arg.width
        elif op == "product":
            x, weight = args[0], args[1]
            self.out.weights.setdefault(weight, []).append((g, self.fwd(x)))
            back = self.out.program.add("product", [g, self.fwd(weight)], (x.width,), "state", transposed=True)
            self.give(x, back)
            if len(args) == 3:
                self.give(args[2], g)
        elif op in ("sum", "mean"):
            n = args[0].shape[-1]
            spread = self.emit("expand", g, shape=args[0].shape)
            self.give(args[0], spread if op == "sum" else self.emit("mul", spread, self.number(1.0 / n)))
        elif op == "max":
            # As PyTorch's amax: where several features are the largest, they share the gradient.
            at = self.emit("eq", self.fwd(args[0]), self.emit("expand", self.fwd(value), shape=args[0].shape))
            count = self.emit("sum", at, shape=value.shape)
            share = self.emit("expand", self.emit("div", g, count), shape=args[0].shape)
            self.give(args[0], self.emit("mul", at, share))
        elif op == "expand":
            self._give_expanded(args[0], value, g)
        else:
            for arg, formula in zip(args, OPERATIONS[op].gradients, strict=True):
                if formula != "0" and constant(arg) is None:
                    self.give(arg, _Formula(self, value, g).emit(_parsed(formula)))

    def _give_gathered(self, arg: Value, index: list[int], g: Value) -> None:
        """Put gradients back to where the features were taken from."""
        if len(index) == arg.width and len({*index}) == len(index):
            back = [0] * len(index)
            for place, at in enumerate(index):
                back[at] = place
            self.give(arg, self.emit("gather", g, shape=arg.shape, index=back))
        else:
            self.give(arg, self.emit("scatter", g, shape=arg.shape, index=index))

    def _give_expanded(self, arg: Value, value: Value, g: Value) -> None:
        """Sum a gradient over the features along which a value was repeated."""
        if arg.width == 1 or arg.width == value.width:
            self.give(arg, g)
            return
        inner = value.shape[-1]
        if arg.shape[-1:] == (1,) and arg.width * inner == value.width:
            self.give(arg, self.emit("sum", g, shape=(*value.shape[:-1], 1)))
            return
        # The outer axes were repeated: add up the pieces.
        total = None
        for start in range(0, value.width, arg.width):
            piece = self.emit("slice", g, shape=arg.shape, start=start, stop=start + arg.width)
            total = piece if total is None else self.emit("add", total, piece)
        self.give(arg, total)


# ------------------------------------------------------------------------------------------------ formulas


@cache
def _parsed(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


_OPERATORS = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.USub: "neg",
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip


class _Formula:
    """What the formula of a gradient (see `operations.py`) becomes, for one value of the forward program."""

    def __init__(self, differentiator: _Differentiator, value: Value, g: Value) -> None:
        self.differentiator, self.value, self.g = differentiator, value, g

    def emit(self, node: ast.expr) -> Value:
        """Append what a part of the formula says, in the order in which it is written."""
        match node:
            case ast.Constant(value=int() | float() as number):
                return self.differentiator.number(float(number))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return self.differentiator.number(-float(number))
            case ast.Name(id=name):
                return self._named(name)
            case ast.Call(func=ast.Name(id=op), args=parts):
                return self._apply(op, *parts)
            case ast.BinOp(left=left, op=sign, right=right) | ast.Compare(left=left, ops=[sign], comparators=[right]):
                return self._apply(_OPERATORS[type(sign)], left, right)
            case ast.UnaryOp(op=sign, operand=operand):
                return self._apply(_OPERATORS[type(sign)], operand)
        raise ValueError(f"the formula of a gradient of {self.value.op} has {ast.unparse(node)}, which means nothing")

    def _named(self, name: str) -> Value:
        if name == "g":
            return self.g
        if name in ("imm0", "imm1"):
            return self.differentiator.number(self.value.attrs["imm"][int(name[-1])])
        return self.differentiator.fwd(self.value if name == "y" else self.value.args["abc".index(name)])

    def _apply(self, op: str, *parts: ast.expr) -> Value:
        return self.differentiator.emit(op, *map(self.emit, parts), shape=self.g.shape)
