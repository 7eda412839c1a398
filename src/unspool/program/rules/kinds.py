"""PyTorch's functions that are more, or less, than a computation on values."""

from __future__ import annotations

from typing import Any

import torch

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

FORM = set(
    "shape dtype device ndim size dim is_floating_point is_complex numel nelement element_size __len__ get_device "
    "is_signed ndimension is_tensor __hash__".split()
)
"""What follows from shape, dtype and device, or from which tensor it is."""

GRADIENTS = set("requires_grad is_leaf grad_fn _version".split())
"""What asks whether gradients are wanted, or what has happened before."""

MEMORY = set("untyped_storage data_ptr numpy __array__ __dlpack__ storage _typed_storage".split())
"""What lets somebody else write into a tensor."""

HOOKS = set("register_hook register_post_accumulate_grad_hook retain_grad".split())
BACKWARD = set("backward grad".split())
FEW_VALUES = 1024
"""Of smaller tensors a step may read the values: they are compared before every run."""

RANDOM = set(
    "dropout dropout_ feature_dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d native_dropout "
    "bernoulli bernoulli_ rand rand_like randn randn_like randint randint_like normal normal_ uniform_ multinomial "
    "gumbel_softmax rrelu rrelu_ exponential_ random_ poisson".split()
)
BATCHWISE = set("batch_norm instance_norm sync_batch_norm flip roll sort argsort cumsum cumprod".split())
"""Functions that may let the sequences of a batch influence each other: only what has a rule is known not to."""

DATA_DEPENDENT = set("item tolist __bool__ __int__ __float__ __index__ nonzero unique masked_select numpy".split())
EMPTY = set("empty_like new_empty".split())
"""What makes tensors that hold nothing yet: they are known once something is written into them."""

FRESH = set("zeros ones full".split())
"""What makes tensors that nobody else has."""

_IN_PLACE = set(
    "__iadd__ __isub__ __imul__ __itruediv__ __ifloordiv__ __imod__ __ipow__ __iand__ __ior__ __ixor__ "
    "__setitem__".split()
)


def functional_name(name: str, kwargs: dict[str, Any]) -> str | None:
    """Return the name of the function that gives what a function writes into its first argument, if it does so."""
    if name == "__setitem__" or (kwargs.get("inplace") and not name.endswith("_")):
        return name
    if name in _IN_PLACE:
        return "__" + name[3:]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else None


def writes_statistics(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a norm writes its running statistics."""
    flags = {"batch_norm": ("training", False), "instance_norm": ("use_input_stats", True)}
    if name not in flags:
        return False
    flag, default = flags[name]
    statistics = kwargs.get("running_mean", args[1] if len(args) > 1 else None)
    return statistics is not None and bool(kwargs.get(flag, args[5] if len(args) > 5 else default))


def draws_nothing(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a dropout is off."""
    if "dropout" not in name or name.endswith("_"):
        return False
    p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True))
    return not training or p == 0.0
