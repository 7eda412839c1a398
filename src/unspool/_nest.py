"""Nested structures of tensors: the few operations that the library needs, with paths for error messages.

Inputs, states and outputs may be tensors or any nesting of tuples, NamedTuples, lists and dicts of tensors.
The traversal itself is PyTorch's own pytree.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Nest: TypeAlias = Any
"""A tensor, or any nesting of tuples, NamedTuples, lists and dicts of tensors."""

Spec = pytree.TreeSpec


def flatten(tree: Nest) -> tuple[list[Any], Spec]:
    """Return the leaves of a structure, in a fixed order, and the structure without its leaves."""
    return pytree.tree_flatten(tree)


def unflatten(leaves: list[Any], spec: Spec) -> Nest:
    """Put leaves back into a structure: the inverse of `flatten`."""
    return pytree.tree_unflatten(leaves, spec)


def builder_of(spec: Spec) -> Callable[[list[Any]], Nest]:
    """Return what puts leaves back into one structure: `unflatten`, sooner.

    Parameters
    ----------
    spec : Spec
    """
    if spec.is_leaf():
        return itemgetter(0)
    example = unflatten([0] * spec.num_leaves, spec)
    if _is_flat(example):
        kind: Any = type(example)
        return kind._make if hasattr(example, "_fields") else kind
    return lambda leaves: unflatten(leaves, spec)


def leaves_of(tree: Nest) -> list[Any]:
    """Return the leaves of a structure in the order of `flatten`."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, tuple) and _is_flat(tree):
        return list(tree)
    found: list[Any] = []
    _gather(tree, found)
    return found


_PLAIN = frozenset({Tensor, nn.Parameter, int})
"""What a flat tuple holds: tensors or sizes, as nearly every state is: pytree takes its time."""

_TENSORS = frozenset({Tensor, nn.Parameter})

_NUMBERS = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device})


def _gather(tree: Nest, found: list[Any]) -> None:
    """Append the leaves of a structure: what most are made of is looked into here, the rest by pytree."""
    kind = type(tree)
    if kind in _NUMBERS or isinstance(tree, Tensor):
        found.append(tree)
    elif kind is tuple or kind is list:
        for item in tree:
            _gather(item, found)
    elif kind is dict:
        for item in tree.values():
            _gather(item, found)
    else:
        found.extend(pytree.tree_leaves(tree))


def _is_flat(tree: Nest) -> bool:
    """Tell whether this is a tuple of tensors or sizes."""
    plain = type(tree) is tuple or (isinstance(tree, tuple) and hasattr(tree, "_fields"))
    return plain and _PLAIN.issuperset(map(type, tree))


def map_leaves(
    function: Callable[..., Any], tree: Nest, *others: Nest, stop_at: Callable[[Nest], bool] | None = None
) -> Nest:
    """Apply a function to the leaves of one structure, or leaf by leaf to several of the same structure.

    What `stop_at` is true for counts as a leaf.
    """
    if stop_at is None and isinstance(tree, Tensor) and (not others or _TENSORS.issuperset(map(type, others))):
        return function(tree, *others)
    if not others and stop_at is None and _is_flat(tree):
        leaves = map(function, tree)
        return type(tree)(*leaves) if hasattr(tree, "_fields") else type(tree)(leaves)
    if not others and stop_at is None:
        return _map(function, tree)
    return pytree.tree_map(function, tree, *others, is_leaf=stop_at)


def _map(function: Callable[[Any], Any], tree: Nest) -> Nest:
    """Apply a function to the leaves, as `_gather` finds them."""
    kind = type(tree)
    if kind in _NUMBERS or isinstance(tree, Tensor):
        return function(tree)
    if kind is tuple or kind is list:
        return kind(_map(function, item) for item in tree)
    if kind is dict:
        return {key: _map(function, item) for key, item in tree.items()}
    return pytree.tree_map(function, tree)


def named_leaves(tree: Nest, name: str) -> list[tuple[str, Any]]:
    """Return `(path, leaf)` pairs, each path written as a user would: `state[0].h`."""
    if isinstance(tree, Tensor):
        return [(name, tree)]
    if isinstance(tree, tuple) and _is_flat(tree):
        keys = [f".{key}" for key in tree._fields] if hasattr(tree, "_fields") else map("[{}]".format, range(len(tree)))  # type: ignore[attr-defined]
        return list(zip([name + key for key in keys], tree, strict=True))
    pairs, _ = pytree.tree_flatten_with_path(tree)
    return [(name + pytree.keystr(path), leaf) for path, leaf in pairs]


def require_tensors(tree: Nest, name: str) -> None:
    """Refuse a structure that is empty of tensors or holds anything else.

    Raises
    ------
    TypeError
        If a leaf is not a tensor, naming the leaf.
    """
    if isinstance(tree, Tensor) or _TENSORS.issuperset(map(type, leaves_of(tree))):
        return
    for path, leaf in named_leaves(tree, name):
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"{path} is {_describe(leaf)}; expected a tensor. "
                f"{name} must be a tensor or a nesting of tuples, NamedTuples, lists and dicts of tensors, or of "
                "dataclasses that torch.export.register_dataclass has been told of."
            )


def describe(tree: Nest) -> str:
    """Write a structure with its shapes, for error messages: `LSTMState(h=[2, 3], c=[2, 3])`."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        fields = ", ".join(f"{key}={describe(value)}" for key, value in zip(tree._fields, tree, strict=True))  # type: ignore[attr-defined]
        return f"{type(tree).__name__}({fields})"
    if isinstance(tree, tuple):
        return "(" + ", ".join(describe(value) for value in tree) + ("," if len(tree) == 1 else "") + ")"
    if isinstance(tree, list):
        return "[" + ", ".join(describe(value) for value in tree) + "]"
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {describe(value)}" for key, value in tree.items()) + "}"
    return _describe(tree)


def same_kind(tree: Nest, like: Nest) -> Nest:
    """Return `tree` with plain tuples and lists turned into the NamedTuples that `like` has in their place.

    So `(h, c)` may be given wherever `LSTMState(h, c)` is expected, and a dict in any order of keys; another NamedTuple
    is taken by its names, as TensorFlow's `LSTMStateTuple(c, h)`. A structure that differs otherwise is returned as it
    is; comparing it with `like` then shows the difference.
    """
    if type(tree) is not type(like) and hasattr(tree, "_fields") and hasattr(like, "_fields"):
        if set(tree._fields) != set(like._fields):
            return tree
        tree = tuple(getattr(tree, name) for name in like._fields)
    if isinstance(like, tuple | list) and isinstance(tree, tuple | list) and len(tree) == len(like):
        items = [same_kind(item, model) for item, model in zip(tree, like, strict=True)]
        return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)
    if isinstance(like, dict) and isinstance(tree, dict) and tree.keys() == like.keys():
        return {key: same_kind(tree[key], like[key]) for key in like}
    return tree


def take_rows(tree: Nest, rows: Tensor | None) -> Nest:
    """Take some sequences of every leaf, in the given order; all of them, as they are, where `rows` is None."""
    return tree if rows is None else map_leaves(lambda leaf: leaf.index_select(0, rows), tree)


def _describe(leaf: Any) -> str:
    if isinstance(leaf, Tensor):
        dtype = "" if leaf.dtype == torch.float32 else f" {str(leaf.dtype).removeprefix('torch.')}"
        return f"{list(leaf.shape)}{dtype}"
    return f"{type(leaf).__name__} {leaf!r}" if leaf is None or isinstance(leaf, int | float) else type(leaf).__name__
