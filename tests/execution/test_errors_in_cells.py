"""What a user's own code raises comes out as it is, and leaves nothing behind.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unspool import Cell, GRUCell, dynamic_rnn, raw_rnn, static_rnn
from unspool.backends.dispatch import is_recording

B, T, I, H = 3, 5, 2, 4  # noqa: E741


class FailingCell(Cell):
    """Raises once, at the call of that number."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__(H)
        self.product = nn.Linear(I + H, H)
        self.error, self.left = error, [at]

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        self.left[0] -= 1
        if self.left[0] == 0:
            raise self.error
        h = torch.tanh(self.product(torch.cat([x, h], 1)))
        return h, h


def circumstances() -> tuple[Any, ...]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device(), is_recording()


RUNS = {
    "dynamic": lambda cell, x, backend: dynamic_rnn(cell, x, [5, 0, 2], backend=backend),
    "static": lambda cell, x, backend: static_rnn(cell, list(x.unbind(1)), [5, 0, 2], backend=backend),
}


class OwnError(Exception):
    """One that the library has never heard of."""


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize(("backend", "error"), [
    ("reference", OwnError()), ("reference", ValueError("mine")), ("reference", StopIteration()),
    ("reference", KeyboardInterrupt()), ("auto", OwnError()), ("auto", KeyboardInterrupt()), ("auto", SystemExit(3)),
], ids=lambda value: value if isinstance(value, str) else type(value).__name__)  # fmt: skip
def test_an_error_of_the_cell_comes_out_as_it_is(backend, error, at, run):
    torch.manual_seed(3)
    cell, x = FailingCell(error, at), torch.randn(B, T, I)
    before, random = circumstances(), torch.get_rng_state()
    with pytest.raises(type(error)) as caught:
        run(cell, x, backend)
    assert caught.value is error
    assert caught.traceback[-1].name == "forward"
    assert circumstances() == before
    assert torch.equal(torch.get_rng_state(), random)
    expected, _ = dynamic_rnn(cell, x, [5, 0, 2], backend="reference")
    torch.testing.assert_close(dynamic_rnn(cell, x, [5, 0, 2])[0], expected)  # an interrupted look decides nothing


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_an_error_of_the_cell_has_a_note_with_the_step_and_its_shapes(backend):
    with pytest.raises(OwnError) as caught:
        dynamic_rnn(FailingCell(OwnError(), 2), torch.randn(B, T, I), [5, 0, 2], backend="reference")
    assert caught.value.__notes__ == [
        "in FailingCell, step 2 of the run: input [2, 2], state [2, 4], of the rows still running"
    ]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        dynamic_rnn(FailingCell(OwnError(), 0), torch.randn(B, T, I + 1), backend=backend)
    assert caught.value.__notes__[-1].startswith("in FailingCell, step 1 of the run: input [3, 3], state [3, 4]")


def test_an_endless_loop_can_be_interrupted():
    cell = GRUCell(I, H)

    def loop(time: int, output: Any, state: Any, loop_state: Any) -> Any:
        if time == 50:
            raise KeyboardInterrupt
        never = torch.zeros(B, dtype=torch.bool)
        return never, torch.zeros(B, I), cell.initial_state(B) if state is None else state, output, None

    with pytest.raises(KeyboardInterrupt):
        raw_rnn(cell, loop)
