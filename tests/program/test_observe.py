"""A step is stopped before it does what a program cannot repeat, and nobody else's profiler is lost."""

from __future__ import annotations

import contextlib
import cProfile
import gc
import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unspool as us
from unspool.program.observe import Observer, apart
from unspool.program.read import Reading
from unspool.program.source import TraceError
from unspool.program.untouched import Snapshot

H = 4
COUNTER = itertools.count()
GENERATOR = np.random.default_rng(1)
RANDOM = random.Random(1)


class Doing(us.Cell):
    """A cell that does something beside its step."""

    def __init__(self, action: Callable[[Any], Any]) -> None:
        super().__init__(H)
        self.lin = nn.Linear(3 + H, H)
        self.action = action
        self.numbers, self.place = iter(range(1000)), ""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        self.action(self)
        h = torch.tanh(self.lin(torch.cat([x, h], 1)))
        return h, h


def reason_of(cell: nn.Module) -> str:
    """Return why a cell cannot be read, or ""."""
    return Reading(cell).read(torch.ones(1, 3), torch.ones(1, H), None).reason


def swallows(cell: Any) -> None:
    try:
        random.random()
    except Exception:  # noqa: BLE001
        cell.lin = None


def swallows_everything(cell: Any) -> None:
    with contextlib.suppress(BaseException):
        random.random()


def swallows_a_refusal_of_pytorch(cell: Any) -> None:
    try:
        torch.rand(1)
    except Exception:  # noqa: BLE001
        cell.lin = None


def writes(cell: Any) -> None:
    with open(cell.place, "a") as file:  # noqa: PTH123
        file.write("x")


ACTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "print": (lambda c: print(end=""), "print"),
    "open": (writes, "open"),
    "a path": (lambda c: Path(c.place).read_text(), "fspath"),
    "time": (lambda c: time.time(), "time"),
    "perf_counter": (lambda c: time.perf_counter(), "perf_counter"),
    "urandom": (lambda c: os.urandom(1), "urandom"),
    "random": (lambda c: random.random(), "random"),
    "random.shuffle": (lambda c: random.shuffle([1, 2]), "random"),
    "a random.Random": (lambda c: RANDOM.random(), "random"),
    "numpy.random": (lambda c: np.random.rand(), "random"),  # noqa: NPY002
    "a numpy.random.Generator": (lambda c: GENERATOR.random(), "random"),
    "torch.rand": (lambda c: torch.rand(1), "random"),
    "an iterator": (lambda c: next(COUNTER), "COUNTER"),
    "an iterator of the cell": (lambda c: next(c.numbers), "numbers"),
    "id": (lambda c: id(c), "id"),
    "the number of threads": (lambda c: torch.get_num_threads(), "get_num_threads"),
    "deterministic algorithms": (lambda c: torch.use_deterministic_algorithms(False), "use_deterministic_algorithms"),
    "a setting of a backend": (lambda c: torch.backends.mkldnn.enabled, "setting"),
    "swallowed": (swallows, "random"),
    "swallowed with everything": (swallows_everything, "random"),
    "swallowed of PyTorch": (swallows_a_refusal_of_pytorch, "rand"),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_refused_before_it_happens(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    action, word = ACTIONS[name]
    cell, place = Doing(action), tmp_path / "file"
    cell.place = str(place)
    lin, numbers = cell.lin, repr(COUNTER)
    before = random.getstate(), torch.get_rng_state().tolist(), RANDOM.getstate(), GENERATOR.bit_generator.state
    drawn = np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    assert word in reason_of(cell)
    assert cell.lin is lin
    assert next(cell.numbers) == 0
    assert repr(COUNTER) == numbers
    after = random.getstate(), torch.get_rng_state().tolist(), RANDOM.getstate(), GENERATOR.bit_generator.state
    assert after == before
    assert np.random.get_state(legacy=False)["state"]["pos"] == drawn  # noqa: NPY002
    assert not place.exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "action",
    [
        lambda c: max(len("ab"), abs(-1)), lambda c: list(enumerate(zip([1], [2], strict=True))),
        lambda c: sorted({"b": 1}.items()), lambda c: isinstance(c, nn.Module) and hasattr(c, "lin"),
        lambda c: np.tanh(np.float64(1.0)) + np.where(True, 1, 2), lambda c: next(i for i in range(3)),
        lambda c: "a b".split(), lambda c: torch.is_grad_enabled(), lambda c: torch.get_default_dtype(),
    ],
)  # fmt: skip
def test_what_only_looks_is_let_through(action: Callable[[Any], Any]) -> None:
    cell = Doing(action)
    del cell.numbers  # whoever reads attributes by names that do not stand in the code may read it
    assert reason_of(cell) == ""


@pytest.fixture
def profiled() -> Iterator[list[str]]:
    """Put in a profiler of the user's, which writes down the functions that are entered."""
    calls: list[str] = []
    before = sys.getprofile()

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            calls.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        yield calls
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(before)


def test_a_profiler_of_the_user_goes_on(profiled: list[str]) -> None:
    assert reason_of(Doing(lambda c: None)) == ""
    assert "random" in reason_of(Doing(ACTIONS["random"][0]))
    del profiled[:]
    observer = Observer(Snapshot())
    assert observer.run(lambda: 3) == 3  # in this very thread
    with pytest.raises(TraceError, match="random"):
        observer.run(lambda: random.random())
    reason_of(Doing(lambda c: None))
    assert "reason_of" in profiled


def test_cprofile_goes_on() -> None:
    profile = cProfile.Profile()
    profile.enable()
    try:
        us.dynamic_rnn(Doing(lambda c: None), torch.ones(2, 3, 3))
        reason_of(Doing(lambda c: None))
    finally:
        profile.disable()
    assert any(entry.code is reason_of.__code__ for entry in profile.getstats())


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_collected_as_before(collecting: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        apart(lambda: Observer(Snapshot()).run(gc.isenabled))
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()


def test_errors_of_a_thread_of_its_own_are_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)
