"""The table of operations: whatever a program may consist of, one row each.

A row says what an operation is called, how PyTorch computes it, what its gradients are, and which of PyTorch's
functions it is. Its place among the rows of its kind is its number in the engine: `native/operations.def` has the same
names in the same order, which is compared when the engine is loaded. How to add one: `docs/dev/adding-an-operation.md`.

Gradients are formulas, one per argument, in terms of

- `g`, the gradient of the result;
- `a`, `b`, `c`, the arguments, and `y`, the result;
- `imm0`, `imm1`, the operation's constants;
- numbers, and the operations of this table, by name or as `-x`, `+ - * /` and comparisons.

The formula `0` says that no gradient comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes
    ----------
    name : str
    kind : str
        `unary`, `binary` and `ternary` work feature by feature, on one, two and three arguments; `reduce` over the last
        feature axis, which stays as an axis of size 1. A `view` lies in the place of its argument, a `move` puts
        features elsewhere. `weights` are made of parameters, before the engine runs. `product` and `call` stand alone.
    gradients : tuple of str
        A formula per argument. Of `unary`, `binary` and `ternary` operations: those of other kinds depend on shapes,
        and stand in `differentiate.py`.
    compute : callable
        The operation in PyTorch. Of these kinds as well; for the others see `evaluate.py`.
    reads : tuple of str
        PyTorch's functions that are this operation and nothing else, of whatever namespace; the rules in `rules/` make
        it of others.
    constants : mapping of str to float
        The operation's constants, with their names and defaults in PyTorch: `imm0` and `imm1`.
    costly : bool
        Whether the result is rather kept for the backward pass than computed again.
    only : str
        Where the operation comes up, if not in steps: nothing is read as it.
    """

    name: str
    kind: str
    gradients: tuple[str, ...] = ()
    compute: Callable[..., Tensor] | None = None
    reads: tuple[str, ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    costly: bool = False
    only: str = ""


def _row(kind: str) -> Callable[..., Operation]:
    """Make what writes rows of one kind: a name, gradients, what is read as it."""

    def row(name: str, *gradients: str, reads: str = "", compute: Any = None, **more: Any) -> Operation:
        pointwise = kind in ("unary", "binary", "ternary")
        compute = getattr(torch, name) if pointwise and compute is None else compute
        return Operation(name, kind, gradients, compute, tuple(reads.split()), **more)

    return row


def _compared(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a comparison that gives 1 and 0."""
    compare = getattr(torch, name)
    return lambda a, b: compare(a, b).to(max((a, b), key=Tensor.dim).dtype)


_unary, _binary, _ternary, _reduce = map(_row, ("unary", "binary", "ternary", "reduce"))
_view, _move, _weights = map(_row, ("view", "move", "weights"))

_K = math.sqrt(2 / math.pi)
_T = f"tanh(a * (square(a) * 0.044715 + 1) * {_K})"
_GELU_TANH = f"g * (({_T} + 1) * 0.5 + tanh_grad((square(a) * {3 * 0.044715} + 1) * {_K}, {_T}) * a * 0.5)"
_BELL = f"exp(square(a) * -0.5) * {1 / math.sqrt(2 * math.pi)}"
_SIXTH = 0.1666666716337204  # PyTorch's hardsigmoid multiplies its gradient by 1/6 in single precision, in any dtype

TABLE = (
    _unary("copy", "g", compute=lambda x: x, only="plans"),
    _unary("neg", "-g", reads="neg negative __neg__"),
    _unary("reciprocal", "-(g * square(y))", reads="reciprocal"),
    _unary("exp", "g * y", reads="exp", costly=True),
    _unary("log", "g / a", reads="log", costly=True),
    _unary("log1p", "g / (a + 1)", reads="log1p", costly=True),
    _unary("expm1", "g * (y + 1)", reads="expm1", costly=True),
    _unary("sqrt", "g * 0.5 / y", reads="sqrt", costly=True),
    _unary("rsqrt", "g * -0.5 * (y * square(y))", reads="rsqrt", costly=True),
    _unary("square", "g * 2 * a", reads="square"),
    _unary("abs", "g * sign(a)", reads="abs absolute __abs__"),
    _unary("sign", "0", reads="sign sgn"),
    _unary("sigmoid", "sigmoid_grad(g, y)", reads="sigmoid expit", costly=True),
    _unary("tanh", "tanh_grad(g, y)", reads="tanh", costly=True),
    _unary("relu", "where(a > 0, g, 0)", reads="relu"),
    _unary("leaky_relu", "where(a > 0, g, g * imm0)", reads="leaky_relu", compute=F.leaky_relu,
           constants={"negative_slope": 0.01}),
    _unary("elu", "where(a > 0, g, g * (y + imm0))", reads="elu", compute=F.elu, constants={"alpha": 1.0}, costly=True),
    _unary("gelu", f"g * ((erf(a * {math.sqrt(0.5)}) + 1) * 0.5 + {_BELL} * a)", compute=F.gelu, costly=True),
    _unary("gelu_tanh", _GELU_TANH, compute=lambda x: F.gelu(x, approximate="tanh"), costly=True),
    _unary("silu", "g * (sigmoid(a) + a * (sigmoid(a) * (1 - sigmoid(a))))", reads="silu", compute=F.silu, costly=True),
    _unary("softplus", "where(a * imm0 > imm1, g, g * sigmoid(a * imm0))", reads="softplus", compute=F.softplus,
           constants={"beta": 1.0, "threshold": 20.0}, costly=True),
    _unary("softsign", "g / square(abs(a) + 1)", reads="softsign", compute=F.softsign),
    _unary("hard_sigmoid", f"where((a > -3) * (a < 3), g * {_SIXTH}, 0)", reads="hardsigmoid", compute=F.hardsigmoid),
    _unary("hard_tanh", "where((a > imm0) * (a < imm1), g, 0)", reads="hardtanh", compute=F.hardtanh,
           constants={"min_val": -1.0, "max_val": 1.0}),
    _unary("erf", f"g * {2 / math.sqrt(math.pi)} * exp(-square(a))", reads="erf", costly=True),
    _unary("sin", "g * cos(a)", reads="sin", costly=True),
    _unary("cos", "-(g * sin(a))", reads="cos", costly=True),
    _unary("clamp", "where((a >= imm0) * (a <= imm1), g, 0)", constants={"min": -math.inf, "max": math.inf}),
    _unary("floor", "0", reads="floor"),
    _unary("ceil", "0", reads="ceil"),
    _unary("round", "0"),
    _unary("trunc", "0", reads="trunc fix"),
    _unary("asin", "g * rsqrt(1 - square(a))", reads="asin arcsin", costly=True),
    _unary("acos", "-(g * rsqrt(1 - square(a)))", reads="acos arccos", costly=True),
    _unary("atan", "g / (square(a) + 1)", reads="atan arctan", costly=True),
    _unary("sinh", "g * cosh(a)", reads="sinh", costly=True),
    _unary("cosh", "g * sinh(a)", reads="cosh", costly=True),
    _unary("asinh", "g * rsqrt(square(a) + 1)", reads="asinh arcsinh", costly=True),
    _unary("acosh", "g * rsqrt(square(a) - 1)", reads="acosh arccosh", costly=True),
    _unary("atanh", "g / (1 - square(a))", reads="atanh arctanh", costly=True),

    _binary("add", "g", "g", reads="add __add__ __radd__"),
    _binary("sub", "g", "-g", reads="sub subtract __sub__"),
    _binary("mul", "g * b", "g * a", reads="mul multiply __mul__ __rmul__"),
    _binary("div", "g / b", "-(g * y / b)"),
    _binary("minimum", "g * ((a < b) + (a == b) * 0.5)", "g * ((b < a) + (a == b) * 0.5)", reads="minimum"),
    _binary("maximum", "g * ((a > b) + (a == b) * 0.5)", "g * ((b > a) + (a == b) * 0.5)", reads="maximum"),
    _binary("pow", "where(b == 0, 0, g * b * pow(a, b - 1))", "where((a == 0) * (b >= 0), 0, g * y * log(a))",
            costly=True),
    _binary("eq", "0", "0", reads="eq __eq__", compute=_compared("eq")),
    _binary("ne", "0", "0", reads="ne not_equal __ne__", compute=_compared("ne")),
    _binary("lt", "0", "0", reads="lt less __lt__", compute=_compared("lt")),
    _binary("le", "0", "0", reads="le less_equal __le__", compute=_compared("le")),
    _binary("gt", "0", "0", reads="gt greater __gt__", compute=_compared("gt")),
    _binary("ge", "0", "0", reads="ge greater_equal __ge__", compute=_compared("ge")),
    _binary("sigmoid_grad", compute=lambda g, y: g * y * (1 - y), only="backward programs"),
    _binary("tanh_grad", compute=lambda g, y: g * (1 - y * y), only="backward programs"),
    _binary("fmod", "g", "-(g * trunc(a / b))", reads="fmod", costly=True),
    _binary("atan2", "g * b / (square(a) + square(b))", "-(g * a / (square(a) + square(b)))", reads="atan2 arctan2",
            costly=True),

    _ternary("where", "0", "where(a, g, 0)", "where(a, 0, g)", compute=lambda a, b, c: torch.where(a != 0, b, c)),

    _reduce("sum", reads="sum"),
    _reduce("mean", reads="mean"),
    _reduce("max", reads="amax"),

    _view("slice"),  # features `start` to `stop`, in their order in memory
    _view("reshape"),
    _view("expand"),
    _view("detach"),  # its argument, but for the gradient, which ends there
    _move("concat"),
    _move("gather"),  # the features whose places stand in `index`
    _move("scatter"),  # features are added up at the places in `index`
    _weights("transpose"),
    _weights("columns", only="hoisting"),  # `start` to `stop` of [out, in]
    _weights("stack_rows", only="hoisting"),
    Operation("product", "product"),  # x W^T, plus a third argument where there is one: the value it is added to
    Operation("call", "call"),  # any PyTorch function, below level `state`
)  # fmt: skip

OPERATIONS = {operation.name: operation for operation in TABLE}


def of_kind(*kinds: str) -> dict[str, Operation]:
    """Return the operations of some kinds, in order."""
    return {operation.name: operation for operation in TABLE if operation.kind in kinds}


POINTWISE = of_kind("unary", "binary", "ternary")
VIEWS = of_kind("view")
NUMBERED = ("unary", "binary", "ternary", "reduce")
NUMBERS = {name: number for kind in NUMBERED for number, name in enumerate(of_kind(kind))}
"""The numbers by which the engine knows operations, each within its kind."""
