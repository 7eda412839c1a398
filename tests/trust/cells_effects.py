"""Steps that leave something behind: in attributes, containers, buffers, caches, files."""

from __future__ import annotations

import contextvars
import functools
import io
import itertools
import tempfile
import threading
import types
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tests.trust.worlds import FEATURES, H, Made, Small, World, case


@case()
def counts_its_calls() -> Made:
    class Cell(Small):
        calls = 0

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.calls += 1
            return super().forward(x, h)

    return Cell()


@case()
def computes_with_its_count_of_calls() -> Made:
    class Clockwork(Small):
        tick = 0

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.tick += 1
            h = self.mix(x, h) if self.tick % 3 else 0.5 * h
            return h, h

    return Clockwork()


@case()
def counts_in_a_submodule() -> Made:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, h: Tensor) -> Tensor:
            self.calls += 1
            return h / self.calls

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.counting = Counting()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.counting(self.mix(x, h))
            return h, h

    return Cell()


@case()
def counts_in_a_namespace() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.statistics = types.SimpleNamespace(calls=0, rows=0)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.statistics.calls += 1
            self.statistics.rows += len(x)
            return super().forward(x, h)

    return Cell()


@case()
def counts_in_a_class_attribute() -> Made:
    class Cell(Small):
        calls: ClassVar[int] = 0

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            Cell.calls += 1
            return super().forward(x, h)

    return World(Cell(), watch=lambda: Cell)


GLOBAL_CALLS = 0


@case()
def counts_in_a_global() -> Made:
    global GLOBAL_CALLS
    GLOBAL_CALLS = 0

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            global GLOBAL_CALLS
            GLOBAL_CALLS += 1
            h = self.mix(x, h) / GLOBAL_CALLS
            return h, h

    return World(Cell(), watch=lambda: GLOBAL_CALLS)


@case()
def counts_in_a_closure() -> Made:
    calls = 0

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            return super().forward(x, h)

    return World(Cell(), watch=lambda: calls)


@case()
def counts_by_an_iterator() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.numbers = itertools.count(1)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) / next(self.numbers)
            return h, h

    return Cell()


@case()
def takes_its_gates_from_a_generator() -> Made:
    def schedule() -> Any:
        while True:
            yield from (1.0, 0.5, 0.25, 2.0)

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = next(self.schedule) * self.mix(x, h)
            return h, h

    cell = Cell()
    return cell, lambda: next(cell.schedule)


@case()
def projects_the_memory_at_the_first_step() -> Made:
    class Decoder(Small):
        memory: Tensor
        keys: Tensor | None

        def __init__(self) -> None:
            super().__init__()
            self.key, self.query = nn.Linear(2, 6), nn.Linear(H, 6)

        def begin(self, rows: int) -> None:
            self.memory, self.keys = torch.randn(1, 5, 2), None

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            if self.keys is None:
                self.keys = self.key(self.memory)
            score = (self.query(h).unsqueeze(1) + self.keys).tanh().sum(2).softmax(1)
            context = (score.unsqueeze(2) * self.memory).sum((1, 2))
            h = self.mix(x, h + context.unsqueeze(1))
            return h, h

    cell = Decoder()
    return World(cell, start=cell.begin)


@case(raises=True)
def keeps_what_it_made_of_a_parameter_at_the_first_step() -> Made:
    class Cell(Small):  # the plain loop says at the second run that the graph is gone
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            if not hasattr(self, "scale"):
                self.scale = self.lin.weight.norm()
            h = self.mix(x, h) / self.scale
            return h, h

    return Cell()


@case()
def makes_a_module_at_the_first_step() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.gate: nn.Module | None = None

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            if self.gate is None:
                self.gate = nn.Linear(h.shape[1], h.shape[1])
            h = self.mix(x, h) * self.gate(h).sigmoid()
            return h, h

    return Cell()


@case()
def keeps_its_last_state() -> Made:
    class Cell(Small):
        last: Tensor | None = None

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            self.last = h
            return h, h

    return Cell()


@case()
def computes_with_its_last_state() -> Made:
    class Cell(Small):
        before: Tensor | None = None

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            momentum = 0.0 if self.before is None else self.before.mean()
            self.before = h.detach()
            h = self.mix(x, h) + momentum
            return h, h

    return Cell()


@case()
def adds_up_a_penalty() -> Made:
    class Cell(Small):
        penalty: Any = 0.0

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            self.penalty = self.penalty + h.square().sum()
            return h, h

    cell = Cell()
    return World(cell, start=lambda rows: setattr(cell, "penalty", 0.0), penalty=lambda: cell.penalty)


@case()
def logs_into_a_list() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.log: list[Any] = []

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.log.append(tuple(h.shape))
            return super().forward(x, h)

    return Cell()


@case()
def collects_its_attention() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.weights: list[Tensor] = []

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            weights = h.softmax(1)
            self.weights.append(weights.detach())
            h = self.mix(x, weights)
            return h, h

    return Cell()


@case()
def fills_a_dict() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[str, int] = {}

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            key = f"rows {len(x)}"
            self.seen[key] = self.seen.get(key, 0) + 1
            h = self.mix(x, h) / self.seen[key]
            return h, h

    return Cell()


@case()
def remembers_three_states_in_a_deque() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.window: deque[Tensor] = deque(maxlen=3)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.window.append(h.detach().mean())
            h = self.mix(x, h) + torch.stack(list(self.window)).sum()
            return h, h

    return Cell()


@case()
def fills_a_set() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: set[int] = set()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.sizes.add(len(x))
            h = self.mix(x, h) * len(self.sizes)
            return h, h

    return Cell()


@case()
def writes_into_an_array() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.histogram = np.zeros(3)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.histogram[len(x) % 3] += 1
            return super().forward(x, h)

    return Cell()


@case()
def writes_by_vars_and_setattr() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            vars(self)["steps"] = vars(self).get("steps", 0) + 1
            object.__setattr__(self, "rows", len(x))
            setattr(self, f"seen_{len(x)}", True)
            return super().forward(x, h)

    return Cell()


@case()
def updates_a_running_mean_in_place() -> Made:
    class Cell(Small):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(H))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            if self.training:
                self.mean.mul_(0.9).add_(0.1 * h.detach().mean(0))
            return h - self.mean, h

    cell = Cell()
    return cell, cell.eval, cell.train


@case()
def replaces_a_running_mean() -> Made:
    class Cell(Small):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(H))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
            return h - self.mean, h

    return Cell()


@case()
def counts_in_a_buffer() -> Made:
    class Cell(Small):
        steps: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=False)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.steps += 1
            return super().forward(x, h)

    return Cell()


@case()
def normalises_over_the_batch() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(FEATURES)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            if len(x) > 1:
                x = self.norm(x)
            return super().forward(x, h)

    cell = Cell()
    return cell, cell.eval, cell.train


@case()
def clamps_its_weights_at_every_step() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            self.lin.weight.data.clamp_(-0.2, 0.2)
            return super().forward(x, h)

    return Cell()


@case()
def caches_by_lru_cache() -> Made:
    @functools.lru_cache(maxsize=4)
    def factor(rows: int) -> float:
        return 1 / (1 + rows)

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * factor(len(x))
            return h, h

    return World(Cell(), watch=lambda: factor)


@case()
def caches_by_cached_property() -> Made:
    class Cell(Small):
        gain = 2.0

        @functools.cached_property
        def squared(self) -> float:
            return self.gain**2

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * self.squared
            return h, h

    cell = Cell()
    return cell, lambda: setattr(cell, "gain", 3.0), lambda: vars(cell).pop("squared")


@case()
def prints() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.out = io.StringIO()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            print("step", len(x), file=self.out)
            return super().forward(x, h)

    cell = Cell()
    return World(cell, watch=lambda: cell.out.getvalue())


@case()
def writes_a_file() -> Made:
    path = Path(tempfile.mkstemp(suffix=".log")[1])

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{len(x)} rows\n")
            return super().forward(x, h)

    return World(Cell(), watch=path.read_text, restore=path.unlink)


@case()
def counts_in_a_context_variable_and_a_thread_local() -> Made:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("calls", default=0)
    local = threading.local()

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            variable.set(variable.get() + 1)
            local.calls = getattr(local, "calls", 0) + 1
            return super().forward(x, h)

    return World(Cell(), watch=lambda: (variable.get(), getattr(local, "calls", 0)))


@case()
def calls_back() -> Made:
    seen: list[int] = []

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.listeners = [lambda h: seen.append(len(h))]

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            for listen in self.listeners:
                listen(h)
            return h, h

    cell = Cell()
    return World(cell, [lambda: cell.listeners.clear()], watch=lambda: seen)
