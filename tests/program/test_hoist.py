"""What leaves the loop, and that the program stays what it was; that of all spellings: `rules/test_rules.py`."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.conformance.cases import CellRow
from tests.program.rules.spellings import posed
from tests.program.steps import TRACED, H, Posed, StepCell, assert_same, operations, posed_cell
from unspool import GRUCell, LSTMCell, SimpleRNNCell
from unspool.program.hoist import hoist
from unspool.program.ir import Program
from unspool.program.loop import extract_loop
from unspool.program.read import read_step


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_a_hoisted_program_gives_the_same_numbers(row):
    posed = posed_cell(row)
    hoisted = hoist(posed.recording.program)
    assert_same(posed.run(hoisted), posed.eager())
    again = hoist(hoisted)
    assert_same(posed.run(again), posed.eager())
    assert len(operations(again, "state")) <= len(operations(hoisted, "state"))


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_a_hoisted_program_is_in_order_and_complete(row):
    posed = posed_cell(row)
    before, after = posed.recording.program, hoist(posed.recording.program)
    for op in ("param", "input", "row", "state"):
        assert [v.shape for v in after.leaves(op)] == [v.shape for v in before.leaves(op)]
    for k, value in enumerate(after.values):
        assert value.id == k
        assert all(after.values[a.id] is a and a.id < k for a in value.args)
    assert [v.shape for v in after.outputs] == [v.shape for v in before.outputs]


def hoisted(function) -> Program:
    cell, (x, h) = StepCell(function), posed()
    return hoist(read_step(cell, x, h, None).program)


def products(program: Program, level: str) -> list[tuple[int, ...]]:
    return [v.args[1].shape for v in program.live() if v.op == "product" and v.level == level]


@pytest.mark.parametrize("order", ["xh", "hx", "xhx"])
def test_a_product_over_a_concatenation_is_split(order):
    size = len(order)
    weight = torch.randn(H, size * H, dtype=torch.float64)

    def step(x, h, m):
        return torch.tanh(F.linear(torch.cat([{"x": x, "h": h}[c] for c in order], 1), weight, m.v))

    program = hoisted(step)
    assert products(program, "state") == [(H, H)]
    assert set(products(program, "token")) <= {(H, H), (H, 2 * H), (2 * H, H)}
    assert products(program, "token")
    assert "concat" not in operations(program, "state")


def test_input_products_leave_the_loop():
    program = hoisted(lambda x, h, m: torch.tanh(F.linear(x, m.w, m.v) + F.linear(h, m.w)))
    assert products(program, "token") == [(H, H)]
    assert products(program, "state") == [(H, H)]


def test_sums_are_regrouped_so_that_the_product_adds_the_rest():
    program = hoisted(lambda x, h, m: torch.tanh(((F.linear(h, m.w) + m.v) + x) + F.linear(x, m.w) + m.positive))
    loop = extract_loop(program)
    assert [v.op for v in loop.body if v.level == "state" and v.op not in ("mul", "expand")] == ["product", "tanh"]
    (product,) = (v for v in loop.body if v.level == "state" and v.op == "product")
    assert len(product.args) == 3
    assert product.args[2].level == "token"


def test_products_of_one_value_become_one():
    program = hoisted(
        lambda x, h, m: torch.sigmoid(F.linear(h, m.w)) * torch.tanh(F.linear(h, m.w.t())) + F.linear(h, m.w * 2)
    )
    assert products(program, "state") == [(3 * H, H)]
    program = hoisted(lambda x, h, m: F.linear(x, m.w) * F.linear(x, m.w.t()) + h)
    assert products(program, "token") == [(2 * H, H)]


def test_products_of_different_values_stay_apart():
    program = hoisted(lambda x, h, m: F.linear(h, m.w) + F.linear(h * 2, m.w))
    assert len(products(program, "state")) == 2


def test_equal_operations_become_one():
    program = hoisted(lambda x, h, m: torch.tanh(h) * torch.tanh(h) + torch.tanh(h))
    assert operations(program, "state").count("tanh") == 1


def test_what_depends_on_parameters_alone_is_computed_once():
    program = hoisted(lambda x, h, m: F.linear(h, torch.linalg.qr(m.w)[0] * 2.0) + m.v.exp())
    assert "call" in operations(program, "param")
    assert set(operations(program, "state")) <= {"product", "add", "mul", "expand"}


def test_norms_of_the_input_leave_the_loop():
    program = hoisted(lambda x, h, m: F.layer_norm(F.linear(x, m.w), (H,)) + h)
    assert "rsqrt" not in operations(program, "state")
    assert "mean" not in operations(program, "state")


@pytest.mark.parametrize(
    ("cell", "in_loop"),
    [(SimpleRNNCell, [(4, 4)]), (LSTMCell, [(16, 4)]), (GRUCell, [(12, 4)]), (torch.nn.LSTMCell, [(16, 4)]),
     (torch.nn.GRUCell, [(12, 4)]), (lambda i, h: GRUCell(i, h, reset_after=False), [(8, 4), (4, 4)])],
)  # fmt: skip
def test_the_usual_cells_have_the_products_that_one_expects(cell, in_loop):
    program = hoist(Posed(CellRow("", cell)).recording.program)
    assert sorted(products(program, "state")) == sorted(in_loop)
    assert len(products(program, "token")) == 1


@pytest.mark.parametrize("row", TRACED, ids=str)
def test_the_loop_takes_only_what_it_needs(row):
    loop = extract_loop(hoist(posed_cell(row).recording.program))
    inside = set(loop.body)
    available = {*loop.inputs, *loop.tokens, *loop.rows, *loop.params, *loop.states}
    for value in loop.body:
        for arg in value.args:
            assert arg in inside or arg in available or arg.level == "param", f"{value} takes {arg} from nowhere"
    assert not inside & available
    assert all(v.level in ("token", "state") or v.op in ("slice", "reshape") for v in loop.body)
    assert not any(v.op == "call" for v in loop.body)
