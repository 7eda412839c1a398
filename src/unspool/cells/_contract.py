"""The cell contract, and the few operations through which the rest of the library uses a cell.

A cell is one time step: any `nn.Module` with

- `forward(x, state) -> (output, new_state)` for `x` of shape `[B, I]`, and
- `initial_state(batch_size, *, dtype=None, device=None)`,

whose sequences do not influence each other. `state` is any nesting of tensors with the batch first. A cell that draws
random masks once per sequence (dropout) also has

- `row_inputs(batch_size, *, dtype=None, device=None)`, a nesting of tensors `[B, ...]` that stay constant over the
  time of one sequence, or None; when it is not None the cell is called as `forward(x, state, rows)`.

Values that stay constant and come from outside (an encoder's outputs, a speaker's embedding) are passed to a run as
`constants`. The cell is then called as `forward(x, state, constants)`, or, if it has its own `row_inputs`, as
`forward(x, state, rows, constants)`, where `rows` is None if it draws none this time.

`torch.nn.LSTMCell`, `GRUCell` and `RNNCell` are accepted unchanged. Cells do not depend on time.

Letters: B batch, I input size, H hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from unspool._modes import autocast_dtype
from unspool._nest import Nest, describe, flatten, map_leaves, same_kind, unflatten


class LSTMState(NamedTuple):
    """State of an LSTM cell, in PyTorch's order.

    Attributes
    ----------
    h : Tensor of shape (B, H), or (B, P) with a projection
        The output of the last step.
    c : Tensor of shape (B, H)
        The memory cell.
    """

    h: Tensor
    c: Tensor


# Exported programs that return such a state are saved under this name.
pytree._register_namedtuple(LSTMState, serialized_type_name="unspool.LSTMState")


class Cell(nn.Module, ABC):
    """Convenience base for cells whose state starts at zero.

    Subclasses write `forward` and pass the sizes of their state. Deriving from this class is not required: see the
    module's docstring for the contract.

    Parameters
    ----------
    state_size : int or nesting of int
        Features of each tensor of the state: `64` for one tensor `[B, 64]`, `(64, 32)` for a pair,
        `LSTMState(64, 64)`, `{"fast": 8, "slow": 64}` and so on.

    Examples
    --------
    >>> class Leaky(Cell):
    ...     def __init__(self, input_size, hidden_size):
    ...         super().__init__(state_size=hidden_size)
    ...         self.project = nn.Linear(input_size, hidden_size)
    ...
    ...     def forward(self, x, state):
    ...         state = 0.9 * state + 0.1 * torch.tanh(self.project(x))
    ...         return state, state
    """

    def __init__(self, state_size: Nest) -> None:
        super().__init__()
        self.state_size = state_size

    @abstractmethod
    def forward(self, x: Nest, state: Nest, /, *args: Any, **kwargs: Any) -> tuple[Nest, Nest]:
        """Compute one time step.

        Parameters
        ----------
        x : Tensor of shape (B, I)
            Input of this step for every sequence of the batch.
        state : nesting of Tensor of shape (B, ...)
            State after the previous step.
        *args, **kwargs
            Per-sequence inputs, constants, or both, if the cell takes them: see the module's docstring. Names are free.

        Returns
        -------
        output : nesting of Tensor of shape (B, ...)
            Output of this step.
        new_state : nesting of Tensor
            State after this step, of the same structure, shapes and dtypes as `state`.
        """

    def initial_state(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Nest:
        """Return the state before the first step: zeros.

        Parameters
        ----------
        batch_size : int
            Number of sequences B.
        dtype, device : optional
            Those of the cell's parameters by default.

        Returns
        -------
        nesting of Tensor of shape (B, size)
            With the sizes of `state_size`.
        """
        if dtype is None or device is None:
            like = next((p for p in self.parameters() if p.is_floating_point()), None)
            if like is not None:
                dtype, device = dtype or like.dtype, device or like.device
        return map_leaves(lambda size: torch.zeros(batch_size, size, dtype=dtype, device=device), self.state_size)

    def zero_state(
        self, batch_size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Nest:
        """Return `initial_state(batch_size)`, under TensorFlow 1's name."""
        return self.initial_state(batch_size, dtype=dtype, device=device)

    def row_inputs(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Nest | None:
        """Return the per-sequence inputs (random masks, for example), or None, the default."""
        del batch_size, dtype, device
        return None

    row_inputs.draws_nothing = lambda _: True  # type: ignore[attr-defined]  # see the function of this name


def tells_its_start(thing: Any) -> bool:
    """Return whether something has a method `initial_state`."""
    return callable(getattr(thing, "initial_state", None))


def is_cell(thing: Any) -> TypeGuard[nn.Module]:
    """Return whether something can run as a cell.

    Parameters
    ----------
    thing : object
        A module with a method `initial_state`, or one of `torch.nn`'s cells, can.
    """
    return isinstance(thing, nn.Module) and (
        isinstance(thing, nn.RNNCellBase) or callable(getattr(thing, "initial_state", None))
    )


_HOW_TO_START = """\
Add the method initial_state, which says how sequences start, for a state of H features

    def initial_state(self, batch_size, *, dtype=None, device=None):
        return torch.zeros(batch_size, H, dtype=dtype, device=device)

or derive from unspool.Cell in place of torch.nn.Module, and call super().__init__(state_size=H)."""


def require_cell(cell: Any, name: str = "cell") -> None:
    """Refuse what is not a cell.

    Parameters
    ----------
    cell : object
    name : str
        The argument's name, for the error.

    Raises
    ------
    TypeError
        If `cell` neither follows the cell contract nor is one of `torch.nn`'s cells.
    """
    if is_cell(cell):
        return
    received, advice = type(cell).__name__, "To write one, derive from unspool.Cell and put the step into its forward."
    if isinstance(cell, type):
        received, advice = f"the class {cell.__name__}", f"Make one of it: {cell.__name__}(...)."
    elif isinstance(cell, nn.Module) and hasattr(cell, "batch_first"):
        advice = "A layer runs over time by itself: call it. Of a cell, unspool.RNN(cell) makes a layer."
    elif isinstance(cell, list | tuple | nn.ModuleList):
        advice = "Make one cell of several with unspool.StackedRNNCells([...])."
    elif isinstance(cell, nn.Module):
        advice = _HOW_TO_START
    raise TypeError(
        f"{name} is {received}; expected a cell: a module with forward(x, state) -> (output, new_state) "
        "and initial_state(batch_size, *, dtype=None, device=None), or torch.nn.LSTMCell, GRUCell or RNNCell. "
        f"{advice}"
    )


def initial_state_of(
    cell: Any, batch_size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Nest:
    """Return the initial state of any cell; `torch.nn`'s cells, which have none, start at zero.

    Parameters
    ----------
    cell : cell
    batch_size : int
        Number of sequences B.
    dtype, device : optional
        The cell's own by default.

    Returns
    -------
    nesting of Tensor of shape (B, ...)
    """
    if tells_its_start(cell):
        return cell.initial_state(batch_size, dtype=dtype, device=device)
    weight = cell.weight_hh
    h = torch.zeros(batch_size, cell.hidden_size, dtype=dtype or weight.dtype, device=device or weight.device)
    return LSTMState(h, torch.zeros_like(h)) if isinstance(cell, nn.LSTMCell) else h


def row_inputs_of(
    cell: Any, batch_size: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Nest | None:
    """Return the per-sequence inputs of any cell, or None if it has none.

    Parameters
    ----------
    cell : cell
    batch_size : int
        Number of sequences B.
    dtype, device : optional
        The cell's own by default.

    Returns
    -------
    nesting of Tensor of shape (B, ...), or None
    """
    draw = getattr(cell, "row_inputs", None)
    return None if draw is None else draw(batch_size, dtype=dtype, device=device)


def draws_nothing(cell: Any) -> bool:
    """Tell whether `row_inputs_of` gives None for a cell, without asking it, which might draw.

    Parameters
    ----------
    cell : cell
    """
    draw = getattr(cell, "row_inputs", None)
    if draw is None:
        return True
    tells = getattr(draw, "draws_nothing", None)  # lost by who overrides the method
    return tells is not None and tells(cell)


def known_size(cell: Any, attribute: str) -> int | None:
    """Return a cell's `input_size` or `output_size`, or None: user cells need not have them."""
    if attribute == "output_size" and isinstance(cell, nn.RNNCellBase):
        return cell.hidden_size
    size = getattr(cell, attribute, None)
    return size if isinstance(size, int) else None


def size_of(cell: Any, attribute: str, needed_by: str) -> int:
    """Return a cell's `input_size` or `output_size`, which is required.

    Parameters
    ----------
    cell : cell
    attribute : {"input_size", "output_size"}
    needed_by : str
        What requires it, for the error.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the cell does not have it.
    """
    size = known_size(cell, attribute)
    if size is None:
        raise ValueError(
            f"{needed_by} must know the {attribute} of {type(cell).__name__}, which does not tell it; "
            f"expected an attribute with an int. Set self.{attribute} in the cell."
        )
    return size


def state_sizes(cell: Any) -> Nest | None:
    """Return the features of each leaf of the state in which a cell starts, where that is known without making it.

    Parameters
    ----------
    cell : cell

    Returns
    -------
    nesting of int, or None
        None for a cell with an `initial_state` of its own.
    """
    if not isinstance(cell, Cell):
        if tells_its_start(cell):
            return None
        size: Any = cell.hidden_size
        return LSTMState(size, size) if isinstance(cell, nn.LSTMCell) else size
    own = type(cell).initial_state is not Cell.initial_state or "initial_state" in vars(cell)
    return None if own else cell.state_size


def in_form(state: Nest, sizes: Nest, *batch: int, dtype: torch.dtype, device: torch.device) -> Nest | None:
    """Do what `match_state` does for a state that is a tensor or a flat tuple of tensors, and fits as it is.

    Parameters
    ----------
    state : nesting of Tensor
    sizes : nesting of int
        Features of each leaf.
    *batch : int
        The axes before the features.
    dtype, device
        Of all leaves.

    Returns
    -------
    nesting of Tensor, or None
        None for all other states, whether they fit or not.
    """
    if type(sizes) is int:
        leaves, wanted = (state,), (sizes,)
    elif isinstance(sizes, tuple) and type(state) in (type(sizes), tuple) and len(state) == len(sizes):
        leaves, wanted = state, sizes
    else:
        return None
    for leaf, size in zip(leaves, wanted, strict=True):
        plain = type(leaf) is Tensor and type(size) is int
        if not plain or leaf.shape != (*batch, size) or leaf.dtype != dtype or leaf.device != device:
            return None
    return state if type(sizes) is int or type(state) is type(sizes) else type(sizes)(*state)


def match_state(state: Nest, like: Nest, name: str) -> Nest:
    """Return `state` in the structure of `like`, and refuse one that differs in structure, shape, dtype or device.

    Plain tuples are accepted for NamedTuples, and dicts in any order. Under `torch.autocast`, where a cell's products
    have a lower precision, floating-point leaves are cast to the dtype of `like`.

    Parameters
    ----------
    state, like : nesting of Tensor of shape (B, ...)
        The state to check, and one of the required form.
    name : str
        The argument's name, for errors.

    Returns
    -------
    nesting of Tensor of shape (B, ...)

    Raises
    ------
    TypeError
        If a leaf is not a tensor, or of another dtype.
    ValueError
        If structure, shape or device differ.
    """
    leaves, spec = flatten(state)
    like_leaves, like_spec = flatten(like)
    if spec != like_spec:
        state = same_kind(state, like)
        leaves, spec = flatten(state)
        if spec != like_spec:
            raise ValueError(
                f"{name} has the structure {describe(state)}; expected {describe(like)}. "
                "Keep one structure from step to step: for a state that of the cell's initial_state."
            )
    casting = False
    for index, (leaf, model) in enumerate(zip(leaves, like_leaves, strict=True)):
        if not isinstance(leaf, Tensor):
            raise TypeError(f"{name} is {describe(state)}; expected tensors only, as in {describe(like)}.")
        if leaf.shape != model.shape:
            raise ValueError(
                f"{name} has the shapes {describe(state)}; expected {describe(like)}. "
                "Every leaf has the batch as its first axis and keeps its shape from step to step; "
                "a scalar (a counter, say) needs a batch axis too."
            )
        if leaf.device != model.device:
            raise ValueError(
                f"{name} is on {leaf.device}; expected {model.device}. Move it with .to({str(model.device)!r})."
            )
        if leaf.dtype != model.dtype:
            if not (leaf.is_floating_point() and autocast_dtype(leaf.device.type) is not None):
                raise TypeError(
                    f"{name} has dtype {leaf.dtype}; expected {model.dtype}. Convert it with .to({model.dtype}), "
                    "or make the cell keep the dtype of its initial_state."
                )
            leaves[index], casting = leaf.to(model.dtype), True
    return unflatten(leaves, spec) if casting else state
