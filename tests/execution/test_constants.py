"""Constants of a run: in every function, layer and transform; beside row inputs; in stacks; wrong ones.

Values and gradients of cells with constants in every execution are among the conformance cases.

Letters: B batch, T steps, S slots of a memory, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unspool as us
from tests.conformance.cases import BACKENDS
from tests.conformance.oracle import assert_close
from tests.conformance.user_cells import MemoryCell
from tests.refusal import refused

B, T, S, I, H = 4, 6, 3, 3, 4  # noqa: E741
LENGTHS = torch.tensor([6, 1, 0, 4])


def memory(rows: int = B, slots: int = S, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    real = torch.arange(slots) < torch.arange(rows).unsqueeze(1) % slots + 1
    return {"memory": torch.randn(rows, slots, H, dtype=dtype), "real": real}


class Adding(us.Cell):
    """Adds one constant and looks another one up, by a number for each row."""

    def __init__(self) -> None:
        super().__init__(H)
        self.product, self.table = nn.Linear(I + H, H), nn.Embedding(5, H)

    def forward(self, x: Tensor, h: Tensor, constants: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        context, ids = constants
        h = torch.tanh(self.product(torch.cat([x, h], 1)) + context + self.table(ids))
        return h, h


# ------------------------------------------------------------------------------------------------ how cells are called


@pytest.mark.parametrize("drawn", [None, "masks"])
def test_constants_follow_row_inputs_drawn_or_not(drawn):
    seen = []

    class Noting(us.Cell):
        def row_inputs(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Any:
            return None if drawn is None else torch.ones(batch_size, 1)

        def forward(self, x: Tensor, h: Tensor, rows: Any, constants: Any) -> tuple[Tensor, Tensor]:
            seen.append((None if rows is None else rows.shape, constants["a"][0].shape))
            return h, h

    held = {"a": (torch.ones(2, 7),)}
    us.dynamic_rnn(Noting(1), torch.ones(2, 3, 1), [3, 1], constants=held, backend="reference")
    shape = None if drawn is None else torch.Size([2, 1])
    assert [row for row, _ in seen] == [shape, *[None if shape is None else torch.Size([1, 1])] * 2]
    assert [constant for _, constant in seen] == [torch.Size([2, 7]), *[torch.Size([1, 7])] * 2]


def test_every_cell_of_a_stack_that_takes_constants_gets_them():
    x, held = torch.randn(B, T, I), memory()
    cells = [nn.GRUCell(I, H), us.DropoutCell(MemoryCell(H, H), state=0.5), us.GRUCell(H, H), MemoryCell(H, H)]
    stack = us.StackedRNNCells(cells).eval()
    outputs, _ = us.dynamic_rnn(stack, x, LENGTHS, constants=held)
    for cell in cells:
        x, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held if cell in (cells[1], cells[3]) else None)
    torch.testing.assert_close(outputs, x)


# ------------------------------------------------------------------------------------------------ forms of a batch


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_packed_and_ragged_batches_get_their_own(backend):
    layer = us.RNN(MemoryCell(I, H), batch_first=True, backend=backend)
    x, n, held = torch.randn(B, T, I), torch.tensor([2, 6, 1, 4]), memory()
    expected, state = layer(x, lengths=n, constants=held)
    packed = pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
    outputs, after = layer(packed, constants=held)
    torch.testing.assert_close(pad_packed_sequence(outputs, batch_first=True)[0], expected)
    torch.testing.assert_close(after, state)
    ragged = us.RaggedBatch(x[torch.arange(T) < n.unsqueeze(1)], n, None, torch.arange(B))
    outputs, after = layer(ragged, constants=held)
    torch.testing.assert_close(outputs.to_padded()[0], expected)
    torch.testing.assert_close(after, state)


def test_the_batch_of_constants_is_first_in_time_major_calls_too():
    cell, x, held = MemoryCell(I, H), torch.randn(B, B, I), memory()  # as many steps as rows
    expected, _ = us.dynamic_rnn(cell, x, constants=held)
    outputs, _ = us.dynamic_rnn(cell, x.transpose(0, 1), time_major=True, constants=held)
    torch.testing.assert_close(outputs.transpose(0, 1), expected)
    outputs, _ = us.RNN(cell)(x.transpose(0, 1), constants=held)
    torch.testing.assert_close(outputs.transpose(0, 1), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_all_rows_share_is_repeated_without_a_copy(backend):
    cell, x, one = MemoryCell(I, H), torch.randn(B, T, I), torch.randn(S, H, requires_grad=True)
    real = torch.ones(B, S).bool()

    def run(slots: Tensor) -> tuple[Tensor, Tensor]:
        held = {"memory": slots, "real": real}
        outputs, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held, backend=backend)
        return outputs, torch.autograd.grad(outputs.square().sum(), one)[0]

    expanded = run(one.expand(B, S, H))
    torch.testing.assert_close(expanded, run(torch.stack([one] * B)))


def test_raw_rnn_gives_the_cell_the_constants_of_the_rows_that_run():
    cell, x, held = MemoryCell(I, H), torch.randn(B, T, I), memory()
    held["memory"].requires_grad_()

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        state = cell.initial_state(B) if output is None else state
        return time >= LENGTHS, x[:, min(time, T - 1)], state, output, None

    emitted, final, _ = us.raw_rnn(cell, loop, constants=held)
    outputs, state = us.dynamic_rnn(cell, x, LENGTHS, constants=held)
    torch.testing.assert_close(emitted.transpose(0, 1), outputs)
    torch.testing.assert_close(final, state)
    grads = [torch.autograd.grad(y.square().sum(), held["memory"])[0] for y in (emitted, outputs)]
    torch.testing.assert_close(*grads)


# ------------------------------------------------------------------------------------------------ the native backend


def test_a_memory_of_another_size_or_form_is_not_run_by_the_program_of_the_last_one():
    cell, x = MemoryCell(I, H).double(), torch.randn(B, T, I, dtype=torch.float64)
    (decision,) = us.explain(cell, x, constants=memory(dtype=torch.float64)).decisions
    for slots in (3, 5, 1, 3):
        held = memory(slots=slots, dtype=torch.float64)
        outputs, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held, backend=decision.chosen)
        expected, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held, backend="reference")
        assert_close({"outputs": outputs.detach()}, {"outputs": expected.detach()}, torch.float64)

    class Either(us.Cell):
        def forward(self, x: Tensor, h: Tensor, constants: Any) -> tuple[Tensor, Tensor]:
            h = torch.tanh(x + h) + (constants["plus"] if "plus" in constants else -constants["minus"])
            return h, h

    other, one = Either(I), torch.ones(B, I, dtype=torch.float64)
    plus, minus = (us.dynamic_rnn(other, 0 * x, constants={name: one})[0][:, 0] for name in ("plus", "minus"))
    assert (plus == 1).all()
    assert (minus == -1).all()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_integers_are_never_taken_for_floats(dtype):
    x, held = torch.randn(B, T, I), (torch.randn(B, H), torch.tensor([4, 0, 3, 3], dtype=dtype))
    cell = Adding()
    outputs, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held)
    expected, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held, backend="reference")
    torch.testing.assert_close(outputs, expected)
    (decision,) = us.explain(cell, x, constants=held).decisions
    assert decision.chosen == "reference"
    if "no engine" not in us.info().engine:
        assert decision.reasons["native"] == [
            "row inputs or constants hold integers, which the engine would take for floating-point numbers"
        ]

    class Bits(us.Cell):  # what is computed with whole numbers: remainders, bits, numbers that no float32 has
        def forward(self, x: Tensor, h: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
            odd, last = (ids & 1).unsqueeze(1), (ids == 2**24 + 1).unsqueeze(1)
            h = h + x * odd + last
            return h, h

    ids = torch.tensor([2, 3, 2**24, 2**24 + 1], dtype=dtype)
    outputs, _ = us.dynamic_rnn(Bits(1), torch.ones(4, 1, 1), constants=ids)
    assert outputs.flatten().tolist() == [0, 1, 0, 2]


class AllHeads(us.Cell):
    """Calls a function of PyTorch's that tells a boolean mask from numbers to be added."""

    def __init__(self, real: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(H)
        self.query, self.product, self.real = nn.Linear(I, H), nn.Linear(H, H), real

    def forward(self, x: Tensor, h: Tensor, constants: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        slots, query = constants["memory"], self.query(x).unsqueeze(1)
        mask = self.real(x, constants["real"]).unsqueeze(1)
        seen = F.scaled_dot_product_attention(query, slots, slots, attn_mask=mask).squeeze(1)
        h = torch.tanh(self.product(h) + seen)
        return h, h


@pytest.mark.parametrize(
    "real",
    [lambda x, real: real, lambda x, real: ~~real, lambda x, real: real | (x > 0.5), lambda x, real: x > -1.5],
    ids=["given", "inverted", "with the input", "of the input"],
)
def test_what_is_true_stays_true_in_functions_that_pytorch_runs(real):
    cell, held = AllHeads(real), memory(slots=I)
    x = torch.randn(B, T, I).clamp(-1.4)
    x[..., 1:] -= torch.rand(B, T, 2)
    outputs, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held)
    expected, _ = us.dynamic_rnn(cell, x, LENGTHS, constants=held, backend="reference")
    torch.testing.assert_close(outputs, expected)
    if "no engine" not in us.info().engine:
        assert us.explain(cell, x, constants=held).decisions[0].chosen == "native"


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_cell_that_writes_into_its_constants_is_refused(backend):
    class Writing(us.Cell):
        def forward(self, x: Tensor, h: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
            constants += 1
            return h + constants, h + constants

    held = torch.zeros(2, 1)
    with refused(ValueError, "Writing wrote into the constants that it received", "expected a new one", "in-place"):
        us.dynamic_rnn(Writing(1), torch.ones(2, 3, 1), constants=held, backend=backend)


# ------------------------------------------------------------------------------------------------ wrong use


@pytest.mark.parametrize(
    ("constants", "error", "parts"),
    [
        ([1.0], TypeError, ("constants[0] is float 1.0", "expected a tensor")),
        ({"memory": None}, TypeError, ("constants['memory'] is NoneType None", "expected a tensor")),
        ({}, ValueError, ("constants is {}", "holds no tensor", "or None")),
        (torch.ones(()), ValueError, ("constants has shape []", "expected tensors [4, ...]", ".expand(4")),
        (
            (torch.ones(4), torch.ones(6, 4)),
            ValueError,
            ("constants[1] has shape [6, 4]", "batch first, with time-major"),
        ),
        (
            {"read": us.RaggedBatch(torch.ones(4, 4), torch.ones(4).long(), None, torch.arange(4))},
            TypeError,
            ("constants hold a RaggedBatch", "expected tensors [B, ...]", "RaggedBatch.to_padded"),
        ),
        (pack_padded_sequence(torch.ones(6, 4, 4), [6, 5, 2, 1]), TypeError, ("hold a PackedSequence", "pad_packed")),
        (torch.ones(4, 4).to_sparse(), TypeError, ("constants is a torch.sparse_coo tensor", "dense")),
        (torch.ones(4, device="meta"), ValueError, ("constants is on meta; expected cpu", ".to('cpu')")),
    ],
    ids=[
        "a number",
        "None inside",
        "nothing",
        "a scalar",
        "time first",
        "ragged",
        "packed",
        "sparse",
        "another device",
    ],
)
def test_wrong_constants_are_refused(constants, error, parts):
    x, cell = torch.randn(B, T, I), Adding()
    with refused(error, *parts):
        us.dynamic_rnn(cell, x, constants=constants)
    with refused(error, *parts):
        us.RNN(cell)(x.transpose(0, 1), constants=constants)
    with refused(error, *parts):
        us.raw_rnn(cell, lambda time, *_: (torch.zeros(B) > 0, x[:, 0], cell.initial_state(B), None, None),
                   constants=constants)  # fmt: skip


@pytest.mark.parametrize(
    "cell",
    [us.LSTMCell(I, H), nn.GRUCell(I, H), us.StackedRNNCells([us.GRUCell(I, H), nn.LSTMCell(H, H)]),
     us.ResidualCell(us.GRUCell(I, I))],
    ids=lambda cell: type(cell).__name__,
)  # fmt: skip
def test_cells_that_take_none_say_so(cell):
    x, held = torch.randn(B, T, I), torch.randn(B, H)
    name = f"constants were given to {type(cell).__name__}, which takes none"
    for run in (us.dynamic_rnn, lambda c, x, constants: us.static_rnn(c, [x[:, 0]], constants=constants)):
        with refused(TypeError, name, "expected a cell with forward(x, state, ", "constants)", "leave them out"):
            run(cell, x, constants=held)
    with refused(TypeError, name):
        us.Bidirectional(us.RNN(cell), us.RNN(cell, reverse=True))(x, constants=held)


@pytest.mark.parametrize("kind", [us.SimpleRNN, us.LSTM, us.GRU])
def test_layers_of_built_in_cells_take_none(kind):
    with refused(TypeError, f"given to {kind.__name__}Cell, which takes none", "a cell of your own"):
        kind(I, H, 2, bidirectional=True)(torch.randn(T, B, I), constants=torch.randn(B, H))


def test_a_cell_that_holds_what_belongs_to_rows_is_told_of_constants():
    class Holding(us.Cell):
        def __init__(self) -> None:
            super().__init__(H)
            self.context = torch.randn(B, H)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return h + self.context, h + self.context

    cell, x = Holding(), torch.randn(B, T, H)
    us.dynamic_rnn(cell, x, backend="reference")  # which is as it is: all rows run at every step
    with pytest.raises(RuntimeError) as caught:
        us.dynamic_rnn(cell, x, [6, 1, 0, 4])
    assert "the cell holds context [4, 4]: what belongs to the rows of a batch, pass" in caught.value.__notes__[-1]
    assert "constants=" in caught.value.__notes__[-1]
    with refused(ValueError, "holds the tensor context", "register_buffer('context'", "constants="):
        torch.export.export(us.RNN(cell, batch_first=True), (x,))
