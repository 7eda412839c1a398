"""Reverse-mode differentiation of a program's loop: one step of the loop, backwards, as a program of its own.

The backward program takes the gradients of the step's outputs and of its new states, and values of the forward program.
It gives the gradients of the old states, of what the step took per token and per row, of vectors of parameters (to be
summed over tokens), and for each weight pairs of values whose outer products, summed over tokens, are its gradient.

Which forward values are kept for it and which are computed again is decided here: kept are states and outputs (which
are there anyway) and what takes a product, a reduction or a costly function of such to compute; computed again is the
rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unspool.program.evaluate import constant
from unspool.program.ir import BINARY, TERNARY, Program, Value
from unspool.program.loop import Loop

COSTLY = set(
    "exp log log1p expm1 sigmoid tanh elu gelu gelu_tanh silu softplus erf sin cos pow sqrt rsqrt "
    "asin acos atan sinh cosh asinh acosh atanh fmod atan2".split()
)


@dataclass
class Backward:
    """The backward program of a loop.

    Attributes
    ----------
    program : Program
        Its leaves `forward` stand for values of the forward program: `forward[leaf]`.
    forward : dict of Value to Value
    saved : list of Value
        Forward values, neither states nor outputs nor from outside, that must be kept for every token.
    states : list of Value or None
        Gradient of each state leaf.
    tokens, rows : dict of Value to Value
        Gradients of what the loop takes from outside.
    vectors : dict of Value to Value
        For each parameter that is added, multiplied and so on: what is summed over tokens.
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
        # What PyTorch computes per token is not among what is there anyway: it may be wider than what is made of it.
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
            cheap = value.op not in COSTLY and value.op != "product"
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
        elif op in BINARY or op in TERNARY:
            for arg, rule in zip(args, RULES[op], strict=True):
                if rule is not None and constant(arg) is None:
                    self.give(arg, rule(self, value, g))
        else:
            (rule,) = RULES[op]
            self.give(args[0], None if rule is None else rule(self, value, g))

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


Rule = Callable[[_Differentiator, Value, Value], Value] | None


def _through(*ops: object) -> Rule:
    """Make a rule from a formula in reverse Polish: names of operations, `g`, `y`, `a`, `b`, `c`, `imm0`, numbers."""

    def rule(d: _Differentiator, value: Value, g: Value) -> Value:
        stack: list[Value] = []
        for item in ops:
            if item == "g":
                stack.append(g)
            elif item == "y":
                stack.append(d.fwd(value))
            elif item in ("a", "b", "c"):
                stack.append(d.fwd(value.args["abc".index(str(item))]))
            elif item in ("imm0", "imm1"):
                stack.append(d.number(value.attrs["imm"][int(str(item)[-1])]))
            elif isinstance(item, int | float):
                stack.append(d.number(float(item)))
            else:
                count = 3 if item in TERNARY else 2 if item in BINARY else 1
                args = [stack.pop() for _ in range(count)][::-1]
                stack.append(d.emit(str(item), *args, shape=g.shape))
        return stack[0]

    return rule


def _gate(*condition: object) -> Rule:
    """G where a condition holds, else 0."""
    return _through(*condition, "g", 0, "where")


_SIGMOID_OF_A = ("a", "sigmoid")
_SIXTH = 0.1666666716337204  # PyTorch's hardsigmoid multiplies its gradient by 1/6 in single precision, in any dtype
RULES: dict[str, tuple[Rule, ...]] = {
    "neg": (_through("g", "neg"),),
    "reciprocal": (_through("g", "y", "square", "mul", "neg"),),
    "exp": (_through("g", "y", "mul"),),
    "log": (_through("g", "a", "div"),),
    "log1p": (_through("g", "a", 1, "add", "div"),),
    "expm1": (_through("g", "y", 1, "add", "mul"),),
    "sqrt": (_through("g", 0.5, "mul", "y", "div"),),
    "rsqrt": (_through("g", -0.5, "mul", "y", "y", "square", "mul", "mul"),),
    "square": (_through("g", 2, "mul", "a", "mul"),),
    "abs": (_through("g", "a", "sign", "mul"),),
    "sign": (None,),
    "sigmoid": (_through("g", "y", "sigmoid_grad"),),
    "tanh": (_through("g", "y", "tanh_grad"),),
    "relu": (_gate("a", 0, "gt"),),
    "leaky_relu": (_through("a", 0, "gt", "g", "g", "imm0", "mul", "where"),),
    "elu": (_through("a", 0, "gt", "g", "g", "y", "imm0", "add", "mul", "where"),),
    "gelu": (
        _through(
            "g", "a", math.sqrt(0.5), "mul", "erf", 1, "add", 0.5, "mul",
            "a", "square", -0.5, "mul", "exp", 1 / math.sqrt(2 * math.pi), "mul", "a", "mul", "add", "mul",
        ),
    ),
    "gelu_tanh": (lambda d, value, g: _gelu_tanh(d, value, g),),
    "silu": (_through("g", *_SIGMOID_OF_A, "a", *_SIGMOID_OF_A, 1, *_SIGMOID_OF_A, "sub", "mul", "mul", "add", "mul"),),
    "softplus": (_through("a", "imm0", "mul", "imm1", "gt", "g", "g", "a", "imm0", "mul", "sigmoid", "mul", "where"),),
    "softsign": (_through("g", "a", "abs", 1, "add", "square", "div"),),
    "hard_sigmoid": (_through("a", -3, "gt", "a", 3, "lt", "mul", "g", _SIXTH, "mul", 0, "where"),),
    "hard_tanh": (_gate("a", "imm0", "gt", "a", "imm1", "lt", "mul"),),
    "clamp": (_gate("a", "imm0", "ge", "a", "imm1", "le", "mul"),),
    "erf": (_through("g", 2 / math.sqrt(math.pi), "mul", "a", "square", "neg", "exp", "mul"),),
    **dict.fromkeys(("floor", "ceil", "round", "trunc"), (None,)),
    "asin": (_through("g", 1, "a", "square", "sub", "rsqrt", "mul"),),
    "acos": (_through("g", 1, "a", "square", "sub", "rsqrt", "mul", "neg"),),
    "atan": (_through("g", "a", "square", 1, "add", "div"),),
    "sinh": (_through("g", "a", "cosh", "mul"),),
    "cosh": (_through("g", "a", "sinh", "mul"),),
    "asinh": (_through("g", "a", "square", 1, "add", "rsqrt", "mul"),),
    "acosh": (_through("g", "a", "square", 1, "sub", "rsqrt", "mul"),),
    "atanh": (_through("g", 1, "a", "square", "sub", "div"),),
    "sin": (_through("g", "a", "cos", "mul"),),
    "cos": (_through("g", "a", "sin", "mul", "neg"),),
    "add": (_through("g"), _through("g")),
    "sub": (_through("g"), _through("g", "neg")),
    "mul": (_through("g", "b", "mul"), _through("g", "a", "mul")),
    "div": (_through("g", "b", "div"), _through("g", "y", "mul", "b", "div", "neg")),
    "minimum": (
        _through("g", "a", "b", "lt", "a", "b", "eq", 0.5, "mul", "add", "mul"),
        _through("g", "b", "a", "lt", "a", "b", "eq", 0.5, "mul", "add", "mul"),
    ),
    "maximum": (
        _through("g", "a", "b", "gt", "a", "b", "eq", 0.5, "mul", "add", "mul"),
        _through("g", "b", "a", "gt", "a", "b", "eq", 0.5, "mul", "add", "mul"),
    ),
    "pow": (
        _through("b", 0, "eq", 0, "g", "b", "mul", "a", "b", 1, "sub", "pow", "mul", "where"),
        _through("a", 0, "eq", "b", 0, "ge", "mul", 0, "g", "y", "mul", "a", "log", "mul", "where"),
    ),
    "fmod": (_through("g"), _through("g", "a", "b", "div", "trunc", "mul", "neg")),
    "atan2": (
        _through("g", "b", "mul", "a", "square", "b", "square", "add", "div"),
        _through("g", "a", "mul", "a", "square", "b", "square", "add", "div", "neg"),
    ),
    "where": (None, _through("a", "g", 0, "where"), _through("a", 0, "g", "where")),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), (None, None)),
}  # fmt: skip
"""For each pointwise operation, the gradient of each argument, given that of the result."""


def _gelu_tanh(d: _Differentiator, value: Value, g: Value) -> Value:
    """The derivative of x/2 (1 + tanh(k (x + 0.044715 x^3)))."""
    k = math.sqrt(2 / math.pi)
    t = ("a", "a", "square", 0.044715, "mul", 1, "add", "mul", k, "mul", "tanh")
    slope = ("a", "square", 3 * 0.044715, "mul", 1, "add", k, "mul")
    formula = _through(
        "g", *t, 1, "add", 0.5, "mul", *slope, *t, "tanh_grad", "a", "mul", 0.5, "mul", "add", "mul"
    )  # fmt: skip
    assert formula is not None
    return formula(d, value, g)
