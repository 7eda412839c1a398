"""Cells as modules: copied, saved, moved, compiled, re-parametrised, in low precision and at large inputs.

Letters: B batch, H input and hidden size.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from unspool import (
    DropoutCell,
    GRUCell,
    HighwayCell,
    LSTMCell,
    ResidualCell,
    SimpleRNNCell,
    StackedRNNCells,
    ZoneoutCell,
    dynamic_rnn,
)
from unspool._nest import leaves_of
from unspool.cells import ACTIVATIONS, step

B, H = 3, 4

CELLS: dict[str, Callable[..., Any]] = {
    "simple": lambda **options: SimpleRNNCell(H, H, dropout=0.5, **options),
    "lstm": lambda **options: LSTMCell(H, H, peephole=True, proj_size=2, recurrent_dropout=0.5, **options),
    "gru": lambda **options: GRUCell(H, H, reset_after=False, **options),
    "stack": lambda **options: StackedRNNCells(
        [nn.LSTMCell(H, H, **options), StackedRNNCells([GRUCell(H, H, dropout=0.5, **options)])]
    ),
    "wrappers": lambda **options: ResidualCell(
        ZoneoutCell(DropoutCell(HighwayCell(LSTMCell(H, H, **options)), output=0.5, state=0.5), 0.5)
    ),
}


@pytest.fixture(params=CELLS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def run(cell: Any, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, Any]:
    """Run one step on ones, with whatever the cell draws."""
    return step(cell, torch.ones(B, H, dtype=dtype, device=device), cell.initial_state(B), cell.row_inputs(B))


def saved(cell: Any) -> Any:
    file = io.BytesIO()
    torch.save(cell.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_copies_compute_the_same(name):
    cell = CELLS[name]().eval()
    expected, _ = run(cell)
    loaded = CELLS[name]().eval()
    loaded.load_state_dict(saved(cell))
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell)), loaded):
        assert torch.equal(run(other)[0], expected)
        assert repr(other) == repr(cell)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_cells_with_named_activations_are_pickled(activation):
    cell = LSTMCell(H, H, activation=activation, recurrent_activation=activation)
    assert torch.equal(run(pickle.loads(pickle.dumps(cell)))[0], run(cell)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_cells_compute_in_the_dtype_that_they_are_moved_to(name, dtype):
    output, state = run(CELLS[name]().to(dtype), dtype)
    assert {leaf.dtype for leaf in leaves_of((output, state))} == {dtype}


def test_cells_run_on_meta_tensors(name):
    output, _ = run(CELLS[name](device="meta"), device="meta")
    assert output.is_meta
    assert output.shape[0] == B
    outputs, _ = dynamic_rnn(CELLS[name]().to("meta"), torch.ones(B, 5, H, device="meta"))
    assert outputs.is_meta
    assert outputs.shape[:2] == (B, 5)


def test_a_loop_by_hand_runs_under_autocast(name):
    cell = CELLS[name]()
    state, rows = cell.initial_state(B), cell.row_inputs(B)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = step(cell, torch.ones(B, H), state, rows)
        output, _ = step(cell, torch.ones(B, H), state, rows)
    output.float().sum().backward()
    assert all(parameter.grad is not None for parameter in cell.parameters())


def test_functional_call_takes_the_parameters_that_it_is_given(name):
    cell = CELLS[name]().eval()
    other = copy.deepcopy(cell)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    output, _ = torch.func.functional_call(
        cell, dict(other.named_parameters()), (torch.ones(B, H), cell.initial_state(B))
    )
    assert torch.equal(output, run(other)[0])


def test_a_step_compiles_to_one_graph(name):
    cell = CELLS[name]().eval()
    compiled = torch.compile(cell, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(torch.ones(B, H), cell.initial_state(B))[0], run(cell)[0])
    torch.compiler.reset()


@pytest.mark.parametrize("parametrize", [parametrizations.weight_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("kind", [SimpleRNNCell, LSTMCell, GRUCell, nn.LSTMCell])
def test_parametrised_weights_are_used_and_trained(kind, parametrize):
    cell = parametrize(kind(H, H), "weight_hh").eval()
    plain = kind(H, H).eval()
    plain.load_state_dict({key: getattr(cell, key) for key in plain.state_dict()})
    x = torch.randn(B, 5, H)
    output, _ = dynamic_rnn(cell, x)
    torch.testing.assert_close(output, dynamic_rnn(plain, x)[0])
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in cell.parameters())


@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", [SimpleRNNCell, LSTMCell, GRUCell])
def test_large_inputs_give_finite_outputs_and_gradients(kind, activation, value):
    cell = kind(H, H, activation=activation)
    x = torch.full((B, H), value, requires_grad=True)
    output, _ = cell(x, cell.initial_state(B))
    output.sum().backward()
    assert math.isfinite(output.abs().max().item())
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in [x, *cell.parameters()])
