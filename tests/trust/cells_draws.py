"""Steps with random numbers, drawn once per sequence or at every step, and other things that differ by themselves."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from tests.trust.worlds import FEATURES, H, Made, Small, World, case


class Drawn(Small):
    """Computes with a weight `w` that is made of a parameter before each sequence."""

    w: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(H, FEATURES + H) / 3)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(torch.cat([x, h], 1) @ self.w.t())
        return h, h


@case()
def drops_weights_once_per_sequence() -> Made:  # ON-LSTM, AWD-LSTM
    cell = Drawn()

    def draw(rows: int) -> None:
        cell.w = cell.weight.masked_fill(torch.rand_like(cell.weight) < 0.3, 0.0)

    return World(cell, start=draw)


@case()
def draws_weights_by_bayes() -> Made:
    class Bayes(Drawn):
        def __init__(self) -> None:
            super().__init__()
            self.rho = nn.Parameter(torch.full_like(self.weight, -3.0))

    cell = Bayes()

    def draw(rows: int) -> None:
        cell.w = cell.weight + F.softplus(cell.rho) * torch.randn_like(cell.weight)

    return World(cell, start=draw, penalty=lambda: cell.w.square().sum() / 10)


@case()
def draws_weights_inside_of_a_linear_module() -> Made:
    class Dropped(nn.Module):  # the parameter becomes `raw`, and the weight an attribute
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(FEATURES + H, H)
            raw = self.inner.weight
            del self.inner._parameters["weight"]
            self.raw = raw

        def draw(self, rows: int) -> None:
            self.inner.weight = F.dropout(self.raw, 0.4)  # type: ignore[assignment]

        def forward(self, a: Tensor) -> Tensor:
            return self.inner(a)

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.dropped = Dropped()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.dropped(torch.cat([x, h], 1)))
            return h, h

    cell = Cell()
    return World(cell, start=cell.dropped.draw)


@case()
def normalises_its_weight_once_per_sequence() -> Made:
    cell = Drawn()
    return World(cell, start=lambda rows: setattr(cell, "w", cell.weight / cell.weight.norm()))


@case()
def holds_a_mask_over_the_sequence_in_an_attribute() -> Made:
    class Cell(Small):
        noise: Tensor | None = None

        def begin(self, rows: int) -> None:
            self.noise = None

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            if self.noise is None:
                self.noise = torch.bernoulli(torch.full((1, H), 0.7)) / 0.7
            h = self.mix(x, h * self.noise)
            return h, h

    cell = Cell()
    return World(cell, start=cell.begin)


@case(native=True)
def takes_its_mask_as_a_row_input() -> Made:
    class Cell(Small):
        def row_inputs(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
            return torch.bernoulli(torch.full((batch_size, H), 0.7, dtype=dtype, device=device)) / 0.7

        def forward(self, x: Tensor, h: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            h = self.mix(x, h * mask)
            return h, h

    return Cell()


@case(native=True)
def is_conditioned_on_a_row_input_with_a_graph() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2, H)
            self.memory = torch.zeros(0)

        def row_inputs(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
            return self.embed(self.memory)

        def forward(self, x: Tensor, h: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            h = self.mix(x, h) + context
            return h, h

    cell = Cell()
    return World(cell, start=lambda rows: setattr(cell, "memory", torch.randn(rows, 2)))


@case()
def draws_by_python() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * random.uniform(0.5, 1.5)
            return h, h

    return Cell()


@case()
def branches_now_and_then() -> Made:  # scheduled sampling
    class Cell(Small):
        chance = 0.1

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(0.0 * x if random.random() < self.chance else x, h)
            return h, h

    cell = Cell()
    return cell, lambda: setattr(cell, "chance", 0.0), lambda: setattr(cell, "chance", 1.0)


@case()
def draws_by_numpy() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * float(np.random.rand())  # noqa: NPY002
            return h, h

    return Cell()


@case()
def draws_by_torch() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            return h + torch.randn_like(h), h * torch.rand(()).item()

    return Cell()


@case()
def draws_from_sources_of_its_own() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.python, self.numpy = random.Random(1), np.random.default_rng(2)
            self.torch = torch.Generator().manual_seed(3)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            factor = self.python.random() + self.numpy.random() + torch.rand((), generator=self.torch).item()
            h = self.mix(x, h) * factor
            return h, h

    cell = Cell()
    return cell, lambda: cell.torch.manual_seed(3), lambda: cell.python.seed(1)


@case()
def seeds_everybody() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            torch.manual_seed(7)
            random.seed(7)
            return super().forward(x, h)

    return Cell()


@case()
def drops_out_at_every_step() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.4)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, self.dropout(h))
            return F.dropout(h, 0.2, self.training), h

    cell = Cell()
    return cell, cell.eval, lambda: setattr(cell.dropout, "training", True), cell.train


@case()
def turns_its_dropout_off_and_on() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = nn.Dropout(0.0)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.dropout(self.mix(x, h))
            return h, h

    cell = Cell()
    return cell, lambda: setattr(cell.dropout, "p", 0.5), lambda: setattr(cell.dropout, "p", 0.0)


@case()
def samples_by_distributions() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            noise = torch.distributions.Normal(h, 0.1, validate_args=False).rsample()
            return F.gumbel_softmax(h, tau=0.5), noise

    return Cell()


@case()
def has_noise_in_a_parametrization() -> Made:
    class Noise(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight + 0.1 * torch.randn_like(weight) if self.training else weight

    cell = Small()
    parametrize.register_parametrization(cell.lin, "weight", Noise())
    return cell, cell.eval, cell.train


@case()
def asks_the_clock() -> Made:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            self.now += 0.25
            return self.now

    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.clock = Clock()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) / self.clock()
            return h, h

    cell = Cell()
    return cell, lambda: setattr(cell.clock, "now", 0.0)


@case()
def reads_the_environment() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * float(os.environ.get("TRUST_GAIN", "1"))
            return h, h

    return World(
        Cell(),
        [lambda: os.environ.update(TRUST_GAIN="3")],
        restore=lambda: os.environ.pop("TRUST_GAIN", None),
    )


@case()
def reads_a_file() -> Made:
    path = Path(tempfile.mkstemp()[1])
    path.write_text("1")

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * float(path.read_text(encoding="utf-8"))
            return h, h

    return World(Cell(), [lambda: path.write_text("3")], restore=path.unlink)
