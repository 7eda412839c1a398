"""The oracle of the tests: each row alone, cut to its own steps, one call of the cell per step, in plain Python.

Nothing of `unspool.execution` or `unspool.backends` is used here, on purpose.

Letters: B batch, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from unspool import Cell, LSTMState

RELATIVE = {torch.float64: 1e-10, torch.float32: 2e-5}
"""Largest difference that is allowed, as a part of the largest absolute value of the compared array."""


class Run(NamedTuple):
    """What one run gives: nestings of Tensor, `[B, T, ...]`, `[B, ...]` and `[B, T, ...]`, the last one or None."""

    outputs: Any
    final_state: Any
    all_states: Any = None


class Problem(NamedTuple):
    """A cell and what it is run over: `inputs` [B, T, ...] and, or None, `initial_state` and `constants` [B, ...]."""

    cell: Any
    inputs: Any
    initial_state: Any
    constants: Any = None


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    return pytree.tree_map(function, tree, *others)


def leaves_of(tree: Any) -> list[Tensor]:
    return pytree.tree_leaves(tree)


def live_steps(
    batch: int, steps: int, lengths: Sequence[int] | None = None, mask: Sequence[Sequence[bool]] | None = None
) -> list[list[bool]]:
    """Tell for each row and step whether it is real."""
    return [
        [(lengths is None or t < lengths[b]) and (mask is None or bool(mask[b][t])) for t in range(steps)]
        for b in range(batch)
    ]


def poison(inputs: Any, live: list[list[bool]]) -> Any:
    """Return inputs [B, T, ...] with NaN, or an impossible number for integers, wherever a step is not real."""
    padding = ~torch.tensor(live, dtype=torch.bool).reshape(leaves_of(inputs)[0].shape[:2])

    def poisoned(leaf: Tensor) -> Tensor:
        leaf = leaf.detach().clone()
        leaf[padding] = float("nan") if leaf.is_floating_point() else 10**9
        return leaf

    return map_leaves(poisoned, inputs)


def call(cell: Any, x: Any, state: Any, rows: Any = None, constants: Any = None) -> tuple[Any, Any]:
    """Compute one step of any cell; constants follow the row inputs of a cell that has such, drawn or not."""
    if isinstance(cell, nn.LSTMCell):
        h, c = cell(x, tuple(state))
        return h, LSTMState(h, c)
    if isinstance(cell, nn.RNNCellBase):
        h = cell(x, state)
        return h, h
    if constants is None:
        return cell(x, state) if rows is None else cell(x, state, rows)
    return cell(x, state, constants) if type(cell).row_inputs is Cell.row_inputs else cell(x, state, rows, constants)


def first_state(cell: Any, batch: int, dtype: torch.dtype) -> Any:
    """Return the state that a cell starts from."""
    if isinstance(cell, nn.RNNCellBase):
        h = torch.zeros(batch, cell.hidden_size, dtype=dtype)
        return LSTMState(h, torch.zeros_like(h)) if isinstance(cell, nn.LSTMCell) else h
    return cell.initial_state(batch, dtype=dtype)


def alone(
    cell: Any,
    inputs: Any,
    live: list[list[bool]],
    *,
    initial_state: Any = None,
    resets: Sequence[Sequence[bool]] | None = None,
    reverse: bool = False,
    pad_output: str = "zero",
    rows: Any = None,
    constants: Any = None,
) -> Run:
    """Run each row alone over its real steps only; a reset returns to the cell's own initial state."""
    batch = len(live)
    dtype = next((leaf.dtype for leaf in leaves_of(inputs) if leaf.is_floating_point()), None)
    dtype = dtype or next((p.dtype for p in cell.parameters()), torch.float32)
    fresh = first_state(cell, batch, dtype)
    initial_state = fresh if initial_state is None else initial_state
    ran = []
    for b in range(batch):
        row_inputs = [map_leaves(lambda leaf, b=b, t=t: leaf[b, t].unsqueeze(0), inputs) for t in range(len(live[b]))]
        start, own = (map_leaves(lambda leaf, b=b: leaf[b : b + 1], state) for state in (initial_state, fresh))
        beside = tuple(
            None if tree is None else map_leaves(lambda leaf, b=b: leaf[b : b + 1], tree) for tree in (rows, constants)
        )
        reset = [False] * len(live[b]) if resets is None else resets[b]
        ran.append(_one_row(cell, row_inputs, live[b], start, own, reset, reverse, pad_output, beside))
    like = next((y for outputs, _, _ in ran for y in outputs if y is not None), None)
    if like is None:
        ones = map_leaves(lambda leaf: torch.ones_like(leaf[0, :1]), inputs)
        like, _ = call(
            cell,
            ones,
            map_leaves(lambda leaf: leaf[:1], initial_state),
            *(None if tree is None else map_leaves(lambda leaf: leaf[:1], tree) for tree in (rows, constants)),
        )
    zero = map_leaves(lambda leaf: torch.zeros_like(leaf[:1]), like)
    return Run(
        _batch([_time([zero if y is None else y for y in outputs]) for outputs, _, _ in ran]),
        map_leaves(lambda *leaves: torch.cat(leaves), *[state for _, state, _ in ran]),
        _batch([_time(states) for _, _, states in ran]),
    )


def _one_row(
    cell: Any,
    inputs: list[Any],
    live: list[bool],
    start: Any,
    own: Any,
    resets: Sequence[bool],
    reverse: bool,
    pad_output: str,
    beside: tuple[Any, ...],
) -> tuple[list[Any], Any, list[Any]]:
    steps = len(live)
    outputs, states = [None] * steps, [None] * steps
    latest, state, pending = None, start, False
    end = max((t + 1 for t in range(steps) if live[t]), default=0)  # what follows is padding
    for t in reversed(range(steps)) if reverse else range(steps):
        pending = pending or (bool(resets[t]) and t < end)
        if live[t]:
            if pending:
                state, pending = own, False
            latest, state = call(cell, inputs[t], state, *beside)
            outputs[t] = latest
        elif pad_output == "repeat":
            outputs[t] = latest
        states[t] = state
    return outputs, state, states


def _time(values: list[Any]) -> Any:
    """Put the values of one row, `[1, ...]` per step, along a time axis: `[T, ...]`."""
    return map_leaves(lambda *leaves: torch.cat(leaves), *values)


def _batch(rows: list[Any]) -> Any:
    return map_leaves(lambda *leaves: torch.stack(leaves), *rows)


def named(name: str, tree: Any) -> dict[str, Tensor]:
    """Return the leaves of a structure by their paths."""
    return {name + pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(tree)[0]}


def with_gradient(tree: Any) -> Any:
    """Return fresh leaf tensors, those of floating point asking for their gradient."""
    return map_leaves(lambda leaf: leaf.detach().clone().requires_grad_(leaf.is_floating_point()), tree)


def measure(run: Callable[[], Run], problem: Problem, cells: Iterable[Any] = ()) -> dict[str, Tensor]:
    """Run once; return all results and all gradients of a random combination of them, by name.

    A gradient that does not exist counts as zero.
    """
    values = values_of(run())
    cells = [problem.cell, *cells]
    wanted = {
        **named("inputs", problem.inputs),
        **({} if problem.initial_state is None else named("initial_state", problem.initial_state)),
        **({} if problem.constants is None else named("constants", problem.constants)),
        **{f"cell {k} {name}": p for k, cell in enumerate(cells) for name, p in cell.named_parameters()},
    }
    wanted = {name: leaf for name, leaf in wanted.items() if leaf.requires_grad}
    return {**{name: leaf.detach() for name, leaf in values.items()}, **gradients(values.values(), wanted)}


def values_of(result: Run) -> dict[str, Tensor]:
    """Return all results by name."""
    values = {
        **named("outputs", result.outputs),
        **named("final_state", result.final_state),
        **({} if result.all_states is None else named("all_states", result.all_states)),
    }
    return dict(sorted(values.items()))  # a random combination of them must not depend on the order of a dict's keys


def gradients(values: Iterable[Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients of a random combination of values, the same one at every call, by name."""
    generator = torch.Generator().manual_seed(20)
    terms = [
        (leaf * torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf)).sum()
        for leaf in values
        if leaf.is_floating_point()
    ]
    loss = torch.stack(terms).sum()
    leaves = list(wanted.values())
    found = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
    return {
        f"gradient of {name}": torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(wanted.items(), found, strict=True)
    }


def assert_close(
    actual: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype, times: float = 1.0
) -> None:
    """Compare what two calls of `measure` have returned; `times` is how much further apart they may be than others."""
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value.shape == expected[name].shape, name
        assert value.dtype == expected[name].dtype, name
        if not value.is_floating_point():
            assert torch.equal(value, expected[name]), name
            continue
        if value.numel() == 0:
            continue
        assert value.isfinite().all(), f"{name} is not finite"
        # Some units of rounding at one: for what is zero but for rounding, such as gradients through a softmax of one.
        allowed = times * RELATIVE[dtype] * expected[name].abs().max() + 100 * torch.finfo(dtype).eps
        difference = (value - expected[name]).abs().max()
        assert difference <= allowed, f"{name} differs by {difference:.3g}, allowed {allowed:.3g}"


def assert_identical(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare bit for bit."""
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert torch.equal(value, expected[name]), name
