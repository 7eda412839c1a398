"""What PyTorch's functions mean in terms of a program: one rule per function name.

A rule takes the recorder, the result that PyTorch gave, and the call's arguments; it returns the value of the result, a
list of values where there are several results, or None where the call is beyond it. The same rule serves
`torch.f`, `torch.nn.functional.f` and `Tensor.f`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unspool.program.ir import LEAVES, Value

if TYPE_CHECKING:
    from unspool.program.trace import Recorder

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}

_PASSIVE = (
    "shape dtype device ndim requires_grad is_leaf layout is_sparse is_nested is_quantized names grad_fn _version"
)
PASSIVE = {
    *(getattr(torch.Tensor, name).__get__ for name in _PASSIVE.split() if hasattr(torch.Tensor, name)),
    *(
        getattr(torch.Tensor, name)
        for name in "size dim is_floating_point is_complex numel nelement element_size stride is_contiguous __len__ "
        "untyped_storage data_ptr get_device is_signed ndimension __hash__ __repr__".split()
    ),
    torch.is_floating_point, torch.is_complex, torch.is_tensor, torch.numel, torch.get_device,
}  # fmt: skip
"""Functions that look at a tensor's form and not at what is in it."""

RANDOM = set(
    "dropout dropout_ feature_dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d native_dropout "
    "bernoulli bernoulli_ rand rand_like randn randn_like randint randint_like normal normal_ uniform_ multinomial "
    "gumbel_softmax rrelu rrelu_ exponential_ random_ poisson".split()
)
BATCHWISE = set("batch_norm instance_norm sync_batch_norm flip roll sort argsort cumsum cumprod".split())
DATA_DEPENDENT = set("item tolist __bool__ __int__ __float__ __index__ nonzero unique masked_select numpy".split())
EMPTY = set("empty_like new_empty".split())
"""What makes tensors that hold nothing yet: they are known once something is written into them."""

IN_PLACE = set("__iadd__ __isub__ __imul__ __itruediv__ __ipow__".split())


def draws_nothing(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a dropout is off."""
    if "dropout" not in name or name.endswith("_"):
        return False
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))
    return not training or p == 0.0


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule under names."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


# ---------------------------------------------------------------------------------------------- values in one shape


def add(rec: Recorder, op: str, args: list[Value], shape: tuple[int, ...], **attrs: Any) -> Value:
    """Append an operation, with the user's line."""
    from unspool.program.trace import source_line

    return rec.program.add(op, args, shape, source=source_line(), **attrs)


def fitted(rec: Recorder, value: Value, shape: tuple[int, ...]) -> Value:
    """Return a value that can stand beside others of this feature shape: equal, one per row, or one for all rows."""
    if value.level == "param":
        own = value.shape
        while len(own) > len(shape) and own[:1] == (1,):
            own = own[1:]
        if value.width == 1 or own == shape:
            return (
                value if value.shape in ((), shape) else add(rec, "reshape", [value], () if value.width == 1 else shape)
            )
        return add(rec, "expand", [value], shape)
    if value.shape == shape:
        return value
    if value.width == 1 and len(value.shape) == len(shape):
        return value
    return add(rec, "expand", [value], shape)


def pointwise(rec: Recorder, op: str, args: list[Any], result: Tensor, **attrs: Any) -> Value | None:
    """Append a function of values of one shape."""
    values = [rec.value(a) for a in args]
    ranks = {len(v.shape) for v in values if v.level != "param"}
    shape = tuple(result.shape[1:])
    if ranks != {len(shape)}:
        return None  # PyTorch has lined up the batch of one with features of another
    return add(rec, op, [fitted(rec, v, shape) for v in values], shape, **attrs)


def unary(rec: Recorder, op: str, x: Any, *imm: float) -> Value:
    """Append a function of one value."""
    value = x if isinstance(x, Value) else rec.value(x)
    return add(rec, op, [value], value.shape, **({"imm": list(imm)} if imm else {}))


def both(rec: Recorder, op: str, a: Value, b: Value) -> Value:
    """Append a function of two values of one shape, either of which may be one per row or a parameter."""
    shape = a.shape if a.level != "param" and a.width >= b.width else b.shape
    return add(rec, op, [fitted(rec, a, shape), fitted(rec, b, shape)], shape)


def number(rec: Recorder, value: float) -> Value:
    """Return a constant."""
    return rec.value(float(value))


# ------------------------------------------------------------------------------------------------ pointwise


def _simple_unary(op: str) -> Rule:
    def apply(rec: Recorder, result: Tensor, x: Tensor, **kwargs: Any) -> Value | None:
        kwargs.pop("inplace", None)
        return None if kwargs else unary(rec, op, x)

    return apply


for _op, _names in {
    "neg": "neg negative __neg__", "reciprocal": "reciprocal", "exp": "exp", "log": "log", "log1p": "log1p",
    "expm1": "expm1", "sqrt": "sqrt", "rsqrt": "rsqrt", "square": "square", "abs": "abs absolute __abs__",
    "sign": "sign sgn",
    "sigmoid": "sigmoid expit", "tanh": "tanh", "softsign": "softsign", "hard_sigmoid": "hardsigmoid",
    "silu": "silu", "erf": "erf", "sin": "sin", "cos": "cos", "relu": "relu",
}.items():  # fmt: skip
    rule(*_names.split())(_simple_unary(_op))


def _reversed(function: Rule) -> Rule:
    return lambda rec, result, a, b, **kwargs: function(rec, result, b, a, **kwargs)


def _simple_binary(op: str) -> Rule:
    def apply(rec: Recorder, result: Tensor, a: Any, b: Any, *, alpha: float = 1, **kwargs: Any) -> Value | None:
        if alpha != 1 or any(value is not None for value in kwargs.values()):
            return None
        return pointwise(rec, op, [a, b], result)

    return apply


for _op, _names in {
    "add": "add __add__ __radd__", "sub": "sub subtract __sub__", "mul": "mul multiply __mul__ __rmul__",
    "div": "div divide true_divide __truediv__", "minimum": "minimum", "maximum": "maximum",
    "eq": "eq __eq__", "ne": "ne __ne__", "lt": "lt less __lt__", "le": "le less_equal __le__",
    "gt": "gt greater __gt__", "ge": "ge greater_equal __ge__",
}.items():  # fmt: skip
    rule(*_names.split())(_simple_binary(_op))
rule("rsub", "__rsub__")(_reversed(_simple_binary("sub")))
rule("__rtruediv__", "__rdiv__")(_reversed(_simple_binary("div")))
rule("logical_and", "__and__")(_simple_binary("mul"))
rule("logical_or", "__or__")(_simple_binary("maximum"))


@rule("logical_not", "bitwise_not", "__invert__")
def _not(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    return both(rec, "sub", number(rec, 1.0), rec.value(x))


@rule("pow", "__pow__")
def _pow(rec: Recorder, result: Tensor, x: Any, exponent: Any) -> Value | None:
    if isinstance(exponent, int | float) and exponent == 2:
        return unary(rec, "square", x)
    return pointwise(rec, "pow", [x, exponent], result)


@rule("__rpow__")
def _rpow(rec: Recorder, result: Tensor, exponent: Any, x: Any) -> Value | None:
    return pointwise(rec, "pow", [x, exponent], result)


@rule("where")
def _where(rec: Recorder, result: Tensor, condition: Tensor, a: Any, b: Any) -> Value | None:
    return pointwise(rec, "where", [condition, a, b], result)


@rule("masked_fill")
def _masked_fill(rec: Recorder, result: Tensor, x: Tensor, mask: Tensor, value: Any) -> Value | None:
    return pointwise(rec, "where", [mask, value, x], result)


@rule("lerp")
def _lerp(rec: Recorder, result: Tensor, a: Tensor, b: Tensor, weight: Any) -> Value | None:
    start, end, w = rec.value(a), rec.value(b), rec.value(weight)
    if start.shape != end.shape:
        return None
    return both(rec, "add", start, both(rec, "mul", w, both(rec, "sub", end, start)))


@rule("addcmul")
def _addcmul(rec: Recorder, result: Tensor, x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Value | None:
    product = both(rec, "mul", rec.value(a), rec.value(b))
    return both(rec, "add", rec.value(x), product if value == 1 else both(rec, "mul", product, number(rec, value)))


@rule("clamp", "clip")
def _clamp(rec: Recorder, result: Tensor, x: Tensor, min: Any = None, max: Any = None) -> Value | None:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return None
    return unary(rec, "clamp", x, float("-inf") if min is None else min, float("inf") if max is None else max)


@rule("hardtanh")
def _hardtanh(
    rec: Recorder, result: Tensor, x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value:
    return unary(rec, "hard_tanh", x, min_val, max_val)


@rule("clamp_min")
def _clamp_min(rec: Recorder, result: Tensor, x: Tensor, min: Any) -> Value | None:
    return None if isinstance(min, Tensor) else unary(rec, "clamp", x, min, float("inf"))


@rule("clamp_max")
def _clamp_max(rec: Recorder, result: Tensor, x: Tensor, max: Any) -> Value | None:
    return None if isinstance(max, Tensor) else unary(rec, "clamp", x, float("-inf"), max)


@rule("relu6")
def _relu6(rec: Recorder, result: Tensor, x: Tensor, inplace: bool = False) -> Value:
    return unary(rec, "clamp", x, 0.0, 6.0)


@rule("leaky_relu")
def _leaky_relu(rec: Recorder, result: Tensor, x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return unary(rec, "leaky_relu", x, negative_slope)


@rule("elu")
def _elu(rec: Recorder, result: Tensor, x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Value:
    return unary(rec, "elu", x, alpha)


@rule("gelu")
def _gelu(rec: Recorder, result: Tensor, x: Tensor, *, approximate: str = "none") -> Value:
    return unary(rec, "gelu" if approximate == "none" else "gelu_tanh", x)


@rule("softplus")
def _softplus(rec: Recorder, result: Tensor, x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return unary(rec, "softplus", x, beta, threshold)


@rule("logsigmoid", "log_sigmoid")
def _logsigmoid(rec: Recorder, result: Tensor, x: Tensor) -> Value:
    return unary(rec, "neg", unary(rec, "softplus", unary(rec, "neg", x), 1.0, 20.0))


@rule("dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone")
def _identity(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value:
    return rec.value(x)


@rule("to", "type", "type_as", "float", "double")
def _to(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    value = rec.value(x)
    compared = x.dtype == torch.bool and value.op not in LEAVES and value.op != "call"  # 0 and 1 in a program
    return value if x.dtype == result.dtype or (compared and result.is_floating_point()) else None


@rule("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def _filled(rec: Recorder, result: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    return rec.uniform(result)


# ------------------------------------------------------------------------------------------------ reductions


def _last_axis(value: Value, dim: Any) -> bool:
    """Tell whether `dim` names the last feature axis of a value with a batch."""
    rank = len(value.shape) + 1
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    return rank > 1 and len(dims) == 1 and dims[0] in (-1, rank - 1)


def reduced(rec: Recorder, op: str, value: Value) -> Value:
    """Append a reduction over the last feature axis, which stays with size 1."""
    return add(rec, op, [value], (*value.shape[:-1], 1))


def _reduction(op: str) -> Rule:
    def apply(
        rec: Recorder, result: Any, x: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any
    ) -> Value | None:
        value = rec.value(x)
        if not _last_axis(value, kwargs.pop("axis", dim)) or any(v is not None for v in kwargs.values()):
            return None
        kept = reduced(rec, op, value)
        return kept if keepdim else add(rec, "reshape", [kept], value.shape[:-1])

    return apply


for _op in ("sum", "mean"):
    rule(_op)(_reduction(_op))
rule("amax")(_reduction("max"))


@rule("max")
def _max(rec: Recorder, result: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    if isinstance(result, Tensor) and len(args) == 1 and isinstance(args[0], Tensor):
        return pointwise(rec, "maximum", [x, args[0]], result)
    return None


@rule("min")
def _min(rec: Recorder, result: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    if isinstance(result, Tensor) and len(args) == 1 and isinstance(args[0], Tensor):
        return pointwise(rec, "minimum", [x, args[0]], result)
    return None


@rule("softmax")
def _softmax(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> Value | None:
    value = rec.value(x)
    if not _last_axis(value, dim) or kwargs.get("dtype") is not None:
        return None
    e = unary(rec, "exp", both(rec, "sub", value, reduced(rec, "max", value)))
    return both(rec, "div", e, reduced(rec, "sum", e))


@rule("log_softmax")
def _log_softmax(rec: Recorder, result: Tensor, x: Tensor, dim: Any = None, *args: Any, **kwargs: Any) -> Value | None:
    value = rec.value(x)
    if not _last_axis(value, dim) or kwargs.get("dtype") is not None:
        return None
    shifted = both(rec, "sub", value, reduced(rec, "max", value))
    return both(rec, "sub", shifted, unary(rec, "log", reduced(rec, "sum", unary(rec, "exp", shifted))))


@rule("layer_norm")
def _layer_norm(
    rec: Recorder, result: Tensor, x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *args: Any,
) -> Value | None:  # fmt: skip
    value = rec.value(x)
    if len(normalized_shape) != 1 or not value.shape:
        return None
    centred = both(rec, "sub", value, reduced(rec, "mean", value))
    variance = reduced(rec, "mean", unary(rec, "square", centred))
    out = both(rec, "mul", centred, unary(rec, "rsqrt", both(rec, "add", variance, number(rec, eps))))
    out = out if weight is None else both(rec, "mul", out, rec.value(weight))
    return out if bias is None else both(rec, "add", out, rec.value(bias))


@rule("rms_norm")
def _rms_norm(
    rec: Recorder, result: Tensor, x: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Value | None:
    value = rec.value(x)
    if len(normalized_shape) != 1 or not value.shape:
        return None
    eps = torch.finfo(result.dtype).eps if eps is None else eps
    mean = reduced(rec, "mean", unary(rec, "square", value))
    out = both(rec, "mul", value, unary(rec, "rsqrt", both(rec, "add", mean, number(rec, eps))))
    return out if weight is None else both(rec, "mul", out, rec.value(weight))


# ------------------------------------------------------------------------------------------------ products


def product(rec: Recorder, x: Value, weight: Value, bias: Value | None) -> Value | None:
    """Append x W^T + b for a weight [out, in]."""
    if weight.level != "param" or len(weight.shape) != 2 or len(x.shape) != 1 or x.level == "param":
        return None
    out = add(rec, "product", [x, weight], (weight.shape[0],))
    return out if bias is None else both(rec, "add", out, bias)


def transposed(rec: Recorder, weight: Value) -> Value:
    """Return the transpose of a parameter."""
    return add(rec, "transpose", [weight], weight.shape[::-1])


@rule("linear")
def _linear(rec: Recorder, result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value | None:
    return product(rec, rec.value(x), rec.value(weight), None if bias is None else rec.value(bias))


@rule("matmul", "mm", "spmm", "__matmul__")
def _matmul(rec: Recorder, result: Tensor, x: Tensor, weight: Tensor) -> Value | None:
    w = rec.value(weight)
    return product(rec, rec.value(x), transposed(rec, w), None) if w.level == "param" and len(w.shape) == 2 else None


@rule("addmm")
def _addmm(
    rec: Recorder, result: Tensor, bias: Tensor, x: Tensor, weight: Tensor, *, beta: float = 1, alpha: float = 1
) -> Value | None:
    if (beta, alpha) != (1, 1):
        return None
    out = _matmul(rec, result, x, weight)
    return None if out is None else both(rec, "add", out, rec.value(bias))


# ------------------------------------------------------------------------------------------------ moves


def flat_slice(rec: Recorder, value: Value, start: int, stop: int, shape: tuple[int, ...]) -> Value:
    """Append a slice of a value's features in their order in memory."""
    return add(rec, "slice", [value], shape, start=start, stop=stop)


def _pieces(rec: Recorder, value: Value, dim: int, sizes: list[int], keep: bool = True) -> list[Value] | None:
    """Cut a value along a feature axis; only the first axis that is not 1 lies in memory in one piece."""
    rank = len(value.shape) + 1
    axis = dim + rank if dim < 0 else dim
    if axis < 1 or any(n != 1 for n in value.shape[: axis - 1]):
        return None
    inner = 1
    for n in value.shape[axis:]:
        inner *= n
    out, start = [], 0
    for size in sizes:
        shape = (*value.shape[: axis - 1], *([size] if keep else []), *value.shape[axis:])
        out.append(flat_slice(rec, value, start * inner, (start + size) * inner, shape))
        start += size
    return out


@rule("chunk", "split", "tensor_split", "split_with_sizes", "unsafe_chunk", "unsafe_split")
def _split(rec: Recorder, result: Any, x: Tensor, *args: Any, **kwargs: Any) -> list[Value] | None:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    axis = dim + x.dim() if dim < 0 else dim
    return _pieces(rec, rec.value(x), axis, [part.shape[axis] for part in result])


@rule("unbind")
def _unbind(rec: Recorder, result: Any, x: Tensor, dim: int = 0) -> list[Value] | None:
    return _pieces(rec, rec.value(x), dim, [1] * len(result), keep=False)


@rule("narrow")
def _narrow(rec: Recorder, result: Tensor, x: Tensor, dim: int, start: int, length: int) -> Value | None:
    axis = dim + x.dim() if dim < 0 else dim
    pieces = _pieces(rec, rec.value(x), axis, [start, length])
    return None if pieces is None else pieces[1]


@rule("select")
def _select(rec: Recorder, result: Tensor, x: Tensor, dim: int, index: int) -> Value | None:
    axis = dim + x.dim() if dim < 0 else dim
    if axis < 1:
        return None
    index += x.shape[axis] if index < 0 else 0
    pieces = _pieces(rec, rec.value(x), axis, [1] * x.shape[axis], keep=False)
    return None if pieces is None else pieces[index]


@rule("__getitem__")
def _getitem(rec: Recorder, result: Tensor, x: Tensor, index: Any) -> Value | None:
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [i for i in index if not isinstance(i, Tensor)]:
        at = [i is Ellipsis for i in index].index(True)
        given = sum(i is not None for i in index) - 1
        index = (*index[:at], *[slice(None)] * (x.dim() - given), *index[at + 1 :])
    value, axis = rec.value(x), 0
    for item in index:
        rank = len(value.shape) + 1
        if item is None:
            if axis == 0:
                return None
            value = add(rec, "reshape", [value], (*value.shape[: axis - 1], 1, *value.shape[axis - 1 :]))
            axis += 1
        elif isinstance(item, slice):
            size = rec.batch if axis == 0 else value.shape[axis - 1]
            start, stop, stride = item.indices(size)
            if (start, stop, stride) != (0, size, 1):
                if stride != 1 or axis == 0:
                    return None
                pieces = _pieces(rec, value, axis, [start, max(stop - start, 0)])
                if pieces is None:
                    return None
                value = pieces[1]
            axis += 1
        elif isinstance(item, int) and not isinstance(item, bool) and axis > 0:
            size = value.shape[axis - 1]
            pieces = _pieces(rec, value, axis, [1] * size, keep=False)
            if pieces is None or axis > rank:
                return None
            value = pieces[item]
        else:
            return None
    return value


@rule("hstack")
def _hstack(rec: Recorder, result: Tensor, tensors: Any) -> Value | None:
    return _cat(rec, result, tensors, 1) if result.dim() > 1 else None


@rule("cat", "concat", "concatenate")
def _cat(rec: Recorder, result: Tensor, tensors: Any, dim: int | None = None, **kwargs: Any) -> Value | None:
    values = [rec.value(t) for t in tensors]
    where: int = kwargs.get("axis", dim) or 0
    axis = where + result.dim() if where < 0 else where
    if axis < 1 or any(any(n != 1 for n in v.shape[: axis - 1]) for v in values):
        return None
    if any(v.level == "param" and v.shape != tuple(t.shape[1:]) for v, t in zip(values, tensors, strict=True)):
        return None
    return add(rec, "concat", values, tuple(result.shape[1:]))


@rule("stack")
def _stack(rec: Recorder, result: Tensor, tensors: Any, dim: int = 0) -> Value | None:
    values = [rec.value(t) for t in tensors]
    axis = dim + result.dim() if dim < 0 else dim
    if axis < 1 or any(v.level == "param" or any(n != 1 for n in v.shape[: axis - 1]) for v in values):
        return None
    return add(rec, "concat", values, tuple(result.shape[1:]))


@rule("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as")
def _reshape(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    if result.dim() < 1 or result.shape[0] != rec.batch or not result.dtype.is_floating_point:
        return None
    return add(rec, "reshape", [rec.value(x)], tuple(result.shape[1:]))


@rule("expand", "expand_as", "broadcast_to")
def _expand(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    value = rec.value(x)
    if len(value.shape) + 1 != result.dim() or result.shape[0] != rec.batch:
        return None
    shape = tuple(result.shape[1:])
    return value if value.shape == shape else add(rec, "expand", [value], shape)


def _broadcast(rec: Recorder, result: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Value | None:
    """Let a parameter that is repeated for every row stay what it is: one row for all."""
    if result.dim() < 2 or result.shape[0] != rec.batch:
        return None
    value, shape = rec.value(x), tuple(result.shape[1:])
    own = value.shape[1:] if len(value.shape) > len(shape) else value.shape
    if value.width != x.numel() or (len(value.shape) > len(shape) and value.shape[0] != 1):
        return None
    value = value if value.shape == own else add(rec, "reshape", [value], own)
    return value if own == shape else add(rec, "expand", [value], shape)


BROADCASTS: dict[str, Rule] = dict.fromkeys(("expand", "expand_as", "broadcast_to"), _broadcast)
"""Rules for parameters alone."""


# ------------------------------------------------------------------------------------------------ torch.nn's cells


@rule("lstm_cell")
def _lstm_cell(rec: Recorder, result: Any, x: Tensor, hx: Any, *params: Tensor) -> list[Value] | None:
    w_ih, w_hh, b_ih, b_hh = (*params, None, None)[:4]
    left, right = _linear(rec, result[0], x, w_ih, b_ih), _linear(rec, result[0], hx[0], w_hh, b_hh)
    if left is None or right is None:
        return None
    gates, size = both(rec, "add", left, right), result[0].shape[1]
    i, f, g, o = (flat_slice(rec, gates, k * size, (k + 1) * size, (size,)) for k in range(4))
    i, f, o = (unary(rec, "sigmoid", gate) for gate in (i, f, o))
    c = both(rec, "add", both(rec, "mul", f, rec.value(hx[1])), both(rec, "mul", i, unary(rec, "tanh", g)))
    return [both(rec, "mul", o, unary(rec, "tanh", c)), c]


@rule("gru_cell")
def _gru_cell(rec: Recorder, result: Tensor, x: Tensor, hx: Tensor, *params: Tensor) -> Value | None:
    w_ih, w_hh, b_ih, b_hh = (*params, None, None)[:4]
    left, right = _linear(rec, result, x, w_ih, b_ih), _linear(rec, result, hx, w_hh, b_hh)
    if left is None or right is None:
        return None
    size, h = result.shape[1], rec.value(hx)
    x_r, x_z, x_n = (flat_slice(rec, left, k * size, (k + 1) * size, (size,)) for k in range(3))
    h_r, h_z, h_n = (flat_slice(rec, right, k * size, (k + 1) * size, (size,)) for k in range(3))
    r, z = (unary(rec, "sigmoid", both(rec, "add", a, b)) for a, b in ((x_r, h_r), (x_z, h_z)))
    n = unary(rec, "tanh", both(rec, "add", x_n, both(rec, "mul", r, h_n)))
    return both(rec, "add", n, both(rec, "mul", z, both(rec, "sub", h, n)))


def _rnn_cell(activation: str) -> Rule:
    def apply(rec: Recorder, result: Tensor, x: Tensor, hx: Tensor, *params: Tensor) -> Value | None:
        w_ih, w_hh, b_ih, b_hh = (*params, None, None)[:4]
        left, right = _linear(rec, result, x, w_ih, b_ih), _linear(rec, result, hx, w_hh, b_hh)
        return None if left is None or right is None else unary(rec, activation, both(rec, "add", left, right))

    return apply


rule("rnn_tanh_cell")(_rnn_cell("tanh"))
rule("rnn_relu_cell")(_rnn_cell("relu"))
