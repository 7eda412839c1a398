"""The one table of conformance cases: cells x backends x ways of running them.

To add a cell, add a row to `CELLS`; to add a backend, put it into `unspool.backends.dispatch.BACKENDS`. Either gains
every case.

The full product of all ways of running a cell would be some 40,000 cases per cell. The cases are a covering subset of
it, in which any two values of any two factors meet at least once, the cell among the factors, on every backend; cells
that stand for the kinds of states, gates and surroundings meet all pairs of circumstances. `test_cases.py` checks that
this is so.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor, nn

import unspool
from tests.conformance import user_cells
from tests.conformance.oracle import Problem, first_state, map_leaves, with_gradient
from unspool.backends.dispatch import BACKENDS as REGISTERED

# cuDNN runs no CPU tensors, the masked loop no ragged batches: see tests/backends/test_cudnn.py and test_masked.py.
BACKENDS = [backend.name for backend in REGISTERED if backend.name not in ("cudnn", "masked")]

REFUSED = {("native", "user integer state"): "an output or new state is of dtype torch.int64"}
"""Backends and the cells that each is known to refuse, and why; it must run all others, or tests fail."""

Draw = Callable[[int, int, int, torch.Generator], Any]


def vectors(batch: int, steps: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, steps, size, generator=generator, dtype=torch.float64)


def positive(batch: int, steps: int, size: int, generator: torch.Generator) -> Tensor:
    return vectors(batch, steps, size, generator).abs() + 0.5


def tokens(batch: int, steps: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randint(11, (batch, steps), generator=generator)


def vectors_and_images(batch: int, steps: int, size: int, generator: torch.Generator) -> dict[str, Tensor]:
    images = torch.randn(batch, steps, 1, 3, 4, generator=generator, dtype=torch.float64)
    return {"vector": vectors(batch, steps, size, generator), "image": images}


def memory(batch: int, size: int, generator: torch.Generator) -> dict[str, Tensor]:
    slots = torch.randn(batch, 3, size, generator=generator, dtype=torch.float64)
    return {"memory": slots, "real": torch.arange(3) < torch.arange(batch).unsqueeze(1) % 3 + 1}


def vectors_of_rows(batch: int, size: int, generator: torch.Generator) -> tuple[Tensor]:
    return (torch.randn(batch, size, generator=generator, dtype=torch.float64),)


@dataclass(frozen=True)
class CellRow:
    """One row of the table of cells.

    Attributes
    ----------
    name : str
    make : callable
        `make(input_size, hidden_size)` returns the cell.
    training : bool
        Whether it is run in training; its random masks are then held over time.
    draw : callable
        Draws inputs [B, T, ...].
    constants : callable, optional
        `constants(batch, hidden_size, generator)` draws what a run holds constant for the cell, [B, ...].
    square : bool
        Whether it needs as many features in as units.
    nested_output : bool
        Whether its output is more than one tensor [B, F], so that two of them cannot be joined on features.
    """

    name: str
    make: Callable[[int, int], Any]
    training: bool = False
    draw: Draw = vectors
    constants: Callable[[int, int, torch.Generator], Any] | None = None
    square: bool = False
    nested_output: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def backends(self) -> list[str]:
        """The backends that must run it."""
        return [backend for backend in BACKENDS if (backend, self.name) not in REFUSED]

    def cell(self, input_size: int, hidden_size: int, dtype: torch.dtype, seed: int = 0) -> Any:
        """Return the cell with parameters that the seed decides."""
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(seed)
            return self.make(input_size, hidden_size).to(dtype).train(self.training)

    def held(self, batch: int, hidden_size: int, dtype: torch.dtype, generator: torch.Generator) -> Any:
        """Return the constants of a run, or None."""
        if self.constants is None:
            return None
        drawn = self.constants(batch, hidden_size, generator)
        return with_gradient(map_leaves(lambda x: x.to(dtype) if x.is_floating_point() else x, drawn))


def _stack(i: int, h: int, **options: Any) -> unspool.StackedRNNCells:
    return unspool.StackedRNNCells(
        [
            unspool.LSTMCell(i, h, **options),
            unspool.GRUCell(h, h + 2, **options),
            unspool.SimpleRNNCell(h + 2, h, **options),
        ]
    )


def _keras_like(i: int, h: int) -> unspool.LSTMCell:
    return unspool.LSTMCell(i, h, activation="relu", recurrent_activation="hard_sigmoid", recurrent_bias=False)


US = unspool
CELLS = [
    CellRow("SimpleRNN", US.SimpleRNNCell),
    CellRow("SimpleRNN relu", lambda i, h: US.SimpleRNNCell(i, h, nonlinearity="relu")),
    CellRow("SimpleRNN sin, no bias", lambda i, h: US.SimpleRNNCell(i, h, bias=False, activation=torch.sin)),
    CellRow("LSTM", US.LSTMCell),
    CellRow("LSTM relu, one bias", _keras_like),
    CellRow("LSTM peephole", lambda i, h: US.LSTMCell(i, h, peephole=True)),
    CellRow(
        "LSTM projection and clips",
        lambda i, h: US.LSTMCell(i, h, proj_size=(h + 1) // 2, cell_clip=0.25, proj_clip=0.1, peephole=True),
    ),
    CellRow("LSTM coupled", lambda i, h: US.LSTMCell(i, h, coupled=True)),
    CellRow("LSTM coupled, peephole", lambda i, h: US.LSTMCell(i, h, coupled=True, peephole=True, forget_bias=0.5)),
    CellRow("LSTM forget bias, no bias", lambda i, h: US.LSTMCell(i, h, bias=False, forget_bias=1.0)),
    CellRow("GRU", US.GRUCell),
    CellRow("GRU reset before", lambda i, h: US.GRUCell(i, h, reset_after=False)),
    CellRow("GRU reset before, one bias", lambda i, h: US.GRUCell(i, h, reset_after=False, recurrent_bias=False)),
    CellRow("stack", _stack),
    CellRow(
        "stack with torch.nn", lambda i, h: US.StackedRNNCells([nn.LSTMCell(i, h), US.ResidualCell(US.GRUCell(h, h))])
    ),
    CellRow("Dropout", lambda i, h: US.DropoutCell(US.LSTMCell(i, h), input=0.5, output=0.5, state=0.5)),
    CellRow("Zoneout", lambda i, h: US.ZoneoutCell(US.LSTMCell(i, h), US.LSTMState(0.3, 0.6))),  # type: ignore[arg-type]
    CellRow("Residual", lambda i, h: US.ResidualCell(US.LSTMCell(h, h)), square=True),
    CellRow("Highway", lambda i, h: US.HighwayCell(US.GRUCell(h, h)), square=True),
    CellRow("Dropout Residual Zoneout", lambda i, h: _wrapped(h), square=True),
    CellRow(
        "SimpleRNN in training", lambda i, h: US.SimpleRNNCell(i, h, dropout=0.4, recurrent_dropout=0.4), training=True
    ),
    CellRow("LSTM in training", lambda i, h: US.LSTMCell(i, h, dropout=0.4, recurrent_dropout=0.4), training=True),
    CellRow(
        "GRU in training",
        lambda i, h: US.GRUCell(i, h, reset_after=False, recurrent_dropout=0.4, shared_over_batch=True),
        training=True,
    ),
    CellRow("stack in training", lambda i, h: _stack(i, h, recurrent_dropout=0.3), training=True),
    CellRow(
        "Dropout in training",
        lambda i, h: US.DropoutCell(US.LSTMCell(i, h), input=0.4, output=0.4, state=0.4),
        training=True,
    ),
    CellRow(
        "Zoneout in training", lambda i, h: US.ZoneoutCell(US.LSTMCell(i, h), 0.5, variational=True), training=True
    ),
    CellRow("torch.nn.LSTMCell", nn.LSTMCell),
    CellRow("torch.nn.GRUCell", nn.GRUCell),
    CellRow("torch.nn.RNNCell", lambda i, h: nn.RNNCell(i, h, nonlinearity="relu")),
    CellRow("user layer norm", user_cells.LayerNormLSTMCell),
    CellRow("user dict state", user_cells.DictStateCell),
    CellRow("user nested state", user_cells.NestedStateCell),
    CellRow("user softmax", user_cells.SoftmaxCell),
    CellRow("user minimal gated", user_cells.MinimalGatedCell),
    CellRow("user independent", user_cells.IndependentCell),
    CellRow("user log", user_cells.LogCell, draw=positive),
    CellRow("user no parameters", user_cells.SumCell, nested_output=True),
    CellRow("user learned start", user_cells.LearnedStartCell),
    CellRow("user multiplicative", user_cells.MultiplicativeCell),
    CellRow("user integer state", user_cells.CountingStepsCell, nested_output=True),
    CellRow("user tokens", user_cells.TokenCell, draw=tokens),
    CellRow("user nested inputs", user_cells.NestedInputCell, draw=vectors_and_images, nested_output=True),
    CellRow("user row inputs", user_cells.ContextCell),
    CellRow("user heads", user_cells.HeadsCell),
    CellRow("user state only", user_cells.StateOnlyCell),
    CellRow("user constants", user_cells.MemoryCell, constants=memory),
    CellRow("user constants and row inputs", user_cells.SpeakerCell, constants=vectors_of_rows),
    CellRow("stack with constants", lambda i, h: _readers(i, h, variational=False), constants=memory),
    CellRow(
        "stack with constants in training",
        lambda i, h: _readers(i, h, variational=True),
        constants=memory,
        training=True,
    ),
]


def _readers(i: int, h: int, *, variational: bool) -> Any:
    """Make a stack of which some cells take constants, two of them inside of wrappers."""
    inside = US.ResidualCell(US.ZoneoutCell(user_cells.MemoryCell(h, h), 0.3, variational=variational))
    return US.StackedRNNCells(
        [
            US.DropoutCell(user_cells.MemoryCell(i, h), input=0.3, state=0.3, variational=variational),
            US.LSTMCell(h, h),
            inside,
        ]
    )


def _wrapped(h: int) -> Any:
    return US.DropoutCell(US.ResidualCell(US.ZoneoutCell(US.GRUCell(h, h), 0.2)), input=0.5)


LENGTHS: dict[str, Callable[[int, int], list[int] | None]] = {
    "no lengths": lambda b, t: None,
    "full": lambda b, t: [t] * b,
    "mixed": lambda b, t: [min(n, t) for n in (3, 7, 1, 6, 2)][:b],
    "some zero": lambda b, t: [min(n, t) for n in (0, 4, 7, 0, 1)][-b:],
    "all one": lambda b, t: [min(1, t)] * b,
    "all zero": lambda b, t: [0] * b,
}

MASKS: dict[str, Callable[[int, int], bool] | None] = {
    "no mask": None,
    "gaps": lambda b, t: (b + 2 * t + b * t) % 3 != 0,
    "left padding": lambda b, t: t >= (2 * b + 1) % 5,
}

RESETS: dict[str, Callable[[int, int], bool] | None] = {
    "no resets": None,
    "resets": lambda b, t: (2 * b + t) % 4 == 2,
}

EXECUTIONS = [
    "dynamic_rnn",
    "dynamic_rnn time-major",
    "dynamic_rnn all states",
    "static_rnn",
    "RNN",
    "RNN batch-first",
    "RNN unrolled",
]

BIDIRECTIONAL_EXECUTIONS = [
    "bidirectional_dynamic_rnn",
    "bidirectional_dynamic_rnn time-major",
    "static_bidirectional_rnn",
    "Bidirectional",
    "stack_bidirectional_dynamic_rnn",
]

FACTORS: dict[str, list[Any]] = {
    "execution": EXECUTIONS,
    "lengths": list(LENGTHS),
    "mask": list(MASKS),
    "resets": list(RESETS),
    "reverse": [False, True],
    "pad_output": ["zero", "repeat"],
    "dtype": [torch.float64, torch.float32],
    "sizes": [(5, 7, 2, 3), (5, 7, 5, 17), (1, 7, 3, 1), (5, 1, 2, 3), (1, 1, 5, 17)],  # B, T, I, H
    "given_state": [True, False],
}


@dataclass(frozen=True)
class Case:
    """One way of running one cell."""

    row: CellRow
    backend: str
    execution: str
    lengths: str = "no lengths"
    mask: str = "no mask"
    resets: str = "no resets"
    reverse: bool = False
    pad_output: str = "zero"
    dtype: torch.dtype = torch.float64
    sizes: tuple[int, int, int, int] = (5, 7, 2, 3)
    given_state: bool = False
    seed: int = field(default=0)

    def __str__(self) -> str:
        circumstances = [self.lengths, self.mask, self.resets, self.pad_output, str(self.dtype).removeprefix("torch.")]
        sizes = "B{} T{} I{} H{}".format(*self.sizes)
        words = [
            str(self.row),
            self.backend,
            self.execution,
            *(w for w in circumstances if not w.startswith("no ")),
            sizes,
        ]
        return ", ".join(
            [*words, *(["reverse"] if self.reverse else []), *(["given state"] if self.given_state else [])]
        )

    def lengths_list(self) -> list[int] | None:
        return LENGTHS[self.lengths](*self.sizes[:2])

    def mask_list(self) -> list[list[bool]] | None:
        return _table(MASKS[self.mask], self.sizes)

    def resets_list(self) -> list[list[bool]] | None:
        return _table(RESETS[self.resets], self.sizes)

    def own_cell(self) -> Any:
        """Return the cell, made anew; cases of one row, I, H, dtype and seed have the same."""
        input_size, hidden_size = self.sizes[2:]
        return self.row.cell(hidden_size if self.row.square else input_size, hidden_size, self.dtype, self.seed)

    def problem(self, cell: Any = None) -> Problem:
        """Return the cell, clean inputs [B, T, ...], the initial state, if one is given, and constants.

        The cell is made here if none is given.
        """
        batch, steps, input_size, hidden_size = self.sizes
        if self.row.square:
            input_size = hidden_size
        cell = self.own_cell() if cell is None else cell
        generator = torch.Generator().manual_seed(self.seed + 1)
        inputs = self.row.draw(batch, steps, input_size, generator)
        inputs = map_leaves(lambda x: x.to(self.dtype) if x.is_floating_point() else x, inputs)
        state = random_state(cell, batch, self.dtype, generator) if self.given_state else None
        return Problem(cell, inputs, state, self.row.held(batch, hidden_size, self.dtype, generator))


def random_state(cell: Any, batch: int, dtype: torch.dtype, generator: torch.Generator) -> Any:
    """Return a random state in the structure of the cell's own."""

    def draw(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return torch.randint(2, leaf.shape, generator=generator).to(leaf.dtype)
        return torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.dtype)

    return with_gradient(map_leaves(draw, first_state(cell, batch, dtype)))


def _table(rule: Callable[[int, int], bool] | None, sizes: tuple[int, int, int, int]) -> list[list[bool]] | None:
    return None if rule is None else [[rule(b, t) for t in range(sizes[1])] for b in range(sizes[0])]


def pairs_of(way: dict[str, Any]) -> set[tuple[Any, ...]]:
    """Return all pairs of values in one way of running a cell."""
    return {(*a, *b) for a, b in combinations(way.items(), 2)}


def covering(factors: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Choose ways, greedily, until every pair of values of every two factors has been met."""
    missing = {(f, v, g, w) for (f, vs), (g, ws) in combinations(factors.items(), 2) for v, w in product(vs, ws)}
    ways = []
    while missing:
        # Start from a pair that is missing; fill in each other factor with the value that meets most missing pairs.
        f, v, g, w = min(missing, key=repr)
        way = {f: v, g: w}
        for name, values in factors.items():
            if name not in way:
                way[name] = max(values, key=lambda value, n=name: len(missing & _ordered({**way, n: value}, factors)))
        way = {name: way[name] for name in factors}
        missing -= pairs_of(way)
        ways.append(way)
    return ways


def _ordered(way: dict[str, Any], factors: dict[str, list[Any]]) -> set[tuple[Any, ...]]:
    return pairs_of({name: way[name] for name in factors if name in way})


WAYS = covering(FACTORS)


EVERY_WAY = (
    "LSTM projection and clips", "Dropout Residual Zoneout", "stack in training", "user nested state",
    "user constants and row inputs",
)  # fmt: skip
"""Cells that are run in all ways on the engine: one for each kind of state, of gate and of what comes beside."""

KINDS = [row for row in CELLS if row.name in EVERY_WAY or row.draw is not vectors or row.nested_output or row.constants]
"""One cell for each kind of what goes in and comes out: for what knows no more than that of a cell."""

LONG: dict[str, Any] = {"lengths": "mixed", "mask": "left padding", "sizes": (5, 63, 2, 3)}
"""More steps than others have, for the same cells."""

LOST_RESET: dict[str, Any] = {
    "mask": "gaps", "resets": "resets", "reverse": False, "given_state": True, "sizes": (5, 7, 2, 3)
}  # fmt: skip
"""A reset at a step that the mask leaves out: four values that must meet at once."""


def dtype_for(row: CellRow, sizes: tuple[int, int, int, int]) -> torch.dtype:
    """Return the dtype that a cell has at some sizes; it has each at some."""
    return FACTORS["dtype"][(CELLS.index(row) + sizes[3] // 2) % 2]


@cache
def cases() -> list[Case]:
    """Return the cases, on every backend.

    The cell is one more factor: each cell meets any value of any other one. Some meet all pairs on the engine. For the
    others the dtype follows from the sizes, and resets come at one size: each of these is one more step to read.
    """
    by_name = {row.name: row for row in CELLS}
    others = {f: values for f, values in FACTORS.items() if f != "dtype"}
    ways = [{**way, "row": by_name[way["row"]]} for way in covering({"row": list(by_name), **others})]
    for way in ways:
        way["dtype"] = dtype_for(way["row"], way["sizes"])
        if way["sizes"][3] != LOST_RESET["sizes"][3]:
            way["resets"] = "no resets"
    chosen = [
        Case(row, backend, "dynamic_rnn", dtype=dtype_for(row, LOST_RESET["sizes"]), **LOST_RESET)
        for row in CELLS
        for backend in row.backends
    ]
    chosen += [Case(backend=backend, **way) for way in ways for backend in way["row"].backends]
    chosen += [Case(by_name[name], "native", **way) for name in EVERY_WAY for way in WAYS]
    chosen += [Case(by_name[name], "native", "dynamic_rnn", **LONG) for name in EVERY_WAY]
    return list(dict.fromkeys(chosen))


def cases_by_cell() -> dict[str, list[Case]]:
    """Return the cases of each cell, those that differ in the backend one after the other."""
    found: dict[str, dict[Case, list[Case]]] = {}
    for case in cases():
        name = f"{case.row}, I{case.sizes[2]} H{case.sizes[3]}, {str(case.dtype).removeprefix('torch.')}"
        found.setdefault(name, {}).setdefault(replace(case, backend=""), []).append(case)
    return {name: [case for alike in ways.values() for case in alike] for name, ways in found.items()}


def bidirectional_cases() -> list[Case]:
    """Return cells of every kind in both directions on every backend; executions and circumstances take turns."""
    ways = covering(
        {name: FACTORS[name] for name in ("lengths", "mask", "resets", "pad_output", "dtype", "given_state")}
    )
    chosen = []
    for k, row in enumerate(KINDS):
        possible = BIDIRECTIONAL_EXECUTIONS[: 2 if row.nested_output else 5 if row.draw is vectors else 4]
        for n, backend in enumerate(row.backends):
            execution = possible[(k + 2 * n) % len(possible)]
            chosen.append(Case(row, backend, execution, **ways[(2 * k + n) % len(ways)]))
    return chosen
