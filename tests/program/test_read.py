"""A reading sees nothing of its surroundings, and leaves nothing behind, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

import unspool as us
from tests.trust.snapshots import differences, snapshot
from unspool.program.read import Reading, read_step
from unspool.program.turns import turn

H = 4


class Small(us.Cell):
    """Has a parameter, a constant part, and a branch on gradients within PyTorch."""

    def __init__(self, steps: int = 1) -> None:
        super().__init__(H)
        self.lin, self.gain = nn.Linear(3 + H, H), nn.Parameter(torch.rand(H))
        self.steps, self.calls = steps, 0

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(self.steps):
            h = torch.tanh(self.lin(torch.cat([x, h], 1))) * (1 + self.gain) + torch.ones(H)
        return h, h


def text_of(cell: nn.Module) -> str:
    return read_step(cell, torch.ones(1, 3), torch.ones(1, H), None).program.pretty()


class Raising(TorchFunctionMode):
    """A function mode that nothing of a reading may pass through."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.tanh:
            raise AssertionError("seen")
        return func(*args, **(kwargs or {}))


def refuse(tensor: Tensor) -> Tensor:
    raise AssertionError("saved")


CONTEXTS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "a default device": lambda: torch.device("meta"),
    "hooks on saved tensors": lambda: saved_tensors_hooks(refuse, refuse),
    "saving on the CPU": torch.autograd.graph.save_on_cpu,
    "a function mode": Raising,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_surroundings_make_no_difference(name: str) -> None:
    cell = Small()
    want, before = text_of(cell), snapshot(cell)
    x, h = torch.ones(1, 3), torch.ones(1, H)
    with warnings.catch_warnings(), CONTEXTS[name]():
        warnings.simplefilter("ignore")  # of anomaly detection
        found = read_step(cell, x, h, None).program.pretty()
    assert found == want
    assert not differences(snapshot(cell), before)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp"])
def test_transforms_make_no_difference(transform: str) -> None:
    cell = Small()
    want, found = text_of(cell), []

    def within(v: Tensor) -> Tensor:
        found.append(text_of(cell))
        return v.sum()

    v = torch.ones(2, 3)
    if transform == "vmap":
        torch.vmap(within)(v)
    elif transform == "grad":
        torch.func.grad(within)(v)
    else:
        torch.func.jvp(within, (v,), (v,))
    assert found == [want]


class Waiting(Small):
    """Is interrupted, or waits for another, in the midst of its step."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        h, _ = super().forward(x, h)
        self.meanwhile()
        return h, h


class Interrupting(Small):
    """Raises what Control-C raises."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        raise KeyboardInterrupt


def test_an_interrupted_reading_is_put_back_and_can_be_had_again() -> None:
    cell = Interrupting()
    before, collecting = snapshot(cell), gc.isenabled()
    with pytest.raises(KeyboardInterrupt):
        text_of(cell)
    assert not differences(snapshot(cell), before)
    assert gc.isenabled() == collecting
    cell.__class__ = Small  # type: ignore[assignment]
    assert "tanh" in text_of(cell)


def test_an_interruption_of_who_waits_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Small()
    before = snapshot(cell)
    join, joined = threading.Thread.join, []

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        joined.append(self)
        if len(joined) == 1:
            raise KeyboardInterrupt
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        text_of(cell)
    monkeypatch.undo()
    assert not joined[0].is_alive()
    assert not differences(snapshot(cell), before)


def test_cells_are_read_by_many_threads_at_once() -> None:
    cells = [Small(1 + i % 3) for i in range(12)]
    want = [text_of(cell) for cell in cells]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(text_of, cells)) == want
        assert list(pool.map(text_of, [cells[0]] * 12)) == [want[0]] * 12
    assert not is_in_torch_dispatch_mode()


def test_a_step_may_ask_for_another_program() -> None:
    other = Small()
    cell = Waiting(lambda: text_of(other))
    found = Reading(cell).read(torch.ones(1, 3), torch.ones(1, H), None)
    assert found.reason  # and no waiting for oneself
    assert cell.calls == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_is_forked_while_somebody_reads_does_not_wait() -> None:
    with ThreadPoolExecutor(1) as pool:
        entered, leave = threading.Event(), threading.Event()

        def reads() -> None:
            with turn():
                entered.set()
                leave.wait(60)

        reading = pool.submit(reads)
        assert entered.wait(60)
        child = os.fork()
        if child == 0:
            with turn():
                os._exit(0)
        leave.set()
        reading.result(60)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_the_first_run_of_one_cell_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: list[nn.Module] = []
    read = Reading.read

    def counted(self: Reading, *args: Any) -> Any:
        readings.append(self.cell)
        return read(self, *args)

    monkeypatch.setattr(Reading, "read", counted)
    cell, x = Small(), torch.rand(3, 5, 3)
    want = us.dynamic_rnn(cell, x, backend="reference")[0]
    with ThreadPoolExecutor(6) as pool:
        for got, _ in pool.map(lambda _: us.dynamic_rnn(cell, x, backend="native"), range(12)):
            assert torch.allclose(got, want, atol=1e-5)
    assert len(readings) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_too() -> None:
    text_of(Small())
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if "tanh" in text_of(Small()) else 2
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_an_error_of_the_step_is_a_reason() -> None:
    cell = Small()
    cell.lin = nn.Linear(2, 2)
    found = Reading(cell).read(torch.ones(1, 3), torch.ones(1, H), None)
    assert found.recording is None
    assert "cannot be run on sample rows: RuntimeError" in found.reason
    assert found.guard is not None
    assert found.guard(cell) == ()
