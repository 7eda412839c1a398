"""Constants in graphs and transforms: compiled, exported, as ONNX files, gradients per sample.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.func import functional_call, grad, vmap

import unspool as us
from tests.compiled.test_compile import assert_same
from tests.conformance.user_cells import MemoryCell
from tests.execution.exported import assert_equal
from tests.execution.test_constants import LENGTHS, B, H, I, S, T, memory
from tests.execution.test_onnx import converted, loops, session


class Model(nn.Module):
    """Makes the constants of its cell from an argument."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Linear(H, H), us.RNN(MemoryCell(I, H), batch_first=True, **options)

    def forward(self, x: Tensor, lengths: Tensor, slots: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        return self.rnn(x, lengths=lengths, constants={"memory": self.embed(slots), "real": real})


def arguments(rows: int = B, steps: int = T, slots: int = S) -> tuple[Tensor, ...]:
    held = memory(rows, slots)
    return torch.randn(rows, steps, I), torch.arange(rows) * 5 % (steps + 1), held["memory"], held["real"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_model_makes_constants_and_gets_their_gradients():
    model = Model()
    torch._dynamo.reset()
    fast = torch.compile(model, backend="aot_eager", fullgraph=True)
    for sizes in ((4, 6, 3), (4, 6, 3), (3, 6, 5)):  # a memory of another size is compiled anew
        given = arguments(*sizes)
        assert_same(model, fast, [*model.parameters()], *given)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_cell_that_holds_what_was_computed_is_told_of_constants():
    class Holding(us.Cell):
        context: Tensor

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return h + self.context, h + self.context

    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = nn.Linear(H, H), us.RNN(Holding(H), batch_first=True)
            self.rnn.cell.context = torch.randn(H, requires_grad=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    torch._dynamo.reset()
    with pytest.raises(Unsupported, match=r"Register it as a parameter, or, where it belongs to the rows .*constants="):
        torch.compile(Sets(), backend="eager", fullgraph=True)(torch.randn(B, T, H))
    torch._dynamo.reset()


@pytest.mark.parametrize("options", [{}, {"unroll": True}], ids=["dynamic", "static"])
def test_exported_programs_take_constants_of_any_size(options):
    model = Model(**options).eval()
    rows, steps, slots = (torch.export.Dim(name) for name in ("rows", "steps", "slots"))
    of_x = {0: rows} if options else {0: rows, 1: steps}
    shapes = (of_x, {0: rows}, {0: rows, 1: slots}, {0: rows, 1: slots})
    sample = arguments(steps=3) if options else arguments()
    program = torch.export.export(model, sample, dynamic_shapes=shapes).module()
    for sizes in ((4, 3, 3), (7, 3, 2), (2, 3, 9)) if options else ((4, 6, 3), (7, 9, 5), (2, 1, 2)):
        given = arguments(*sizes)
        with torch.no_grad():
            assert_equal(program(*given), model(*given))


def test_onnx_runtime_takes_constants():
    model = Model().eval()
    rows, steps, slots = (torch.export.Dim(name) for name in ("rows", "steps", "slots"))
    shapes = ({0: rows, 1: steps}, {0: rows}, {0: rows, 1: slots}, {0: rows, 1: slots})
    program = converted(model, arguments(), shapes)
    assert loops(program) == ["Scan"]
    run = session(program)
    for sizes in ((4, 6, 3), (7, 9, 5)):
        given = arguments(*sizes)
        with torch.no_grad():
            assert_equal(run(*given), model(*given))


def test_one_tensor_may_be_state_and_constants_of_an_exported_run():
    class Sum(us.Cell):
        def forward(self, x: Tensor, h: Tensor, constants: Any) -> tuple[Tensor, Tensor]:
            h = torch.tanh(x + h + constants[0] - 2 * constants[1] * constants[2])
            return h, h

    class Thrice(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Any:
            return us.dynamic_rnn(Sum(H), x, initial_state=h, constants=(h, h, x[:, 0]))

    x, h = torch.randn(B, T, H), torch.randn(B, H)
    with torch.no_grad():
        assert_equal(torch.export.export(Thrice(), (x, h)).module()(x, h), Thrice()(x, h))


def test_gradients_per_sample_reach_constants():
    cell, x, held = MemoryCell(I, H).double(), torch.randn(B, T, I, dtype=torch.float64), memory(dtype=torch.float64)
    parameters = {name: value.detach() for name, value in cell.named_parameters()}
    layer = us.RNN(cell, batch_first=True)

    def loss(slots: Tensor, parameters: Any, x: Tensor, real: Tensor, length: Tensor) -> Tensor:
        constants = {"memory": slots.unsqueeze(0), "real": real.unsqueeze(0)}
        given = {f"cell.{name}": value for name, value in parameters.items()}
        options = {"lengths": length.unsqueeze(0), "constants": constants}
        return functional_call(layer, given, (x.unsqueeze(0),), options)[0].square().sum()

    samples = vmap(grad(loss), in_dims=(0, None, 0, 0, 0))(held["memory"], parameters, x, held["real"], LENGTHS)
    held["memory"].requires_grad_()
    whole = layer(x, lengths=LENGTHS, constants=held)[0].square().sum()
    torch.testing.assert_close(samples, torch.autograd.grad(whole, held["memory"])[0])
