"""The table of roles: what the arrays are for that pass between a step's plans and the engine's runs.

`step.py` writes plans over roles; `backends/_engine_run.py` finds or makes the array of each role for one run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from unspool.program.ir import Value
from unspool.program.loop import Loop
from unspool.program.tables import Place


@dataclass(frozen=True, eq=False)
class Role:
    """What an array is for; a plan names each of its arrays by a role and a number.

    Attributes
    ----------
    place : Place
        Where the array has its values, and so its shape: `[T, B, ...]`, or `[N, 1, ...]` with ragged sequences, for
        `PADDED`; `[N, features]`, of N valid steps, for `TOKEN`; `[B, features]` for `ROW`, `[1, features]` for
        `VECTOR`, and one row per partial sum for `SLOT`.
    giver : str
        Who gives the array: `run`, the tensors that a run is given; `copy`, a copy of what comes in, which the engine
        writes over; `loss`, gradients from outside; `forward`, the forward pass, for the backward one, too;
        `backward`, that one.
    of : callable
        Returns the values of a loop that the arrays of this role belong to, in order.
    """

    place: Place
    giver: Literal["run", "copy", "loss", "forward", "backward"]
    of: Callable[[Loop], list[Value]]


_inputs, _tokens, _rows, _params, _states = map(attrgetter, ("inputs", "tokens", "rows", "params", "states"))
_outputs = attrgetter("program.outputs")

INPUT = Role(Place.PADDED, "run", _inputs)
TOKEN = Role(Place.TOKEN, "run", _tokens)
ROW = Role(Place.ROW, "run", _rows)
INITIAL = Role(Place.ROW, "run", _states)  # before the first step
VECTOR = Role(Place.VECTOR, "run", _params)  # but for the weights of products, which the engine packs
STATE = Role(Place.ROW, "copy", _states)  # carried from step to step
OUTPUT = Role(Place.PADDED, "forward", _outputs)
STATE_TOKENS = Role(Place.TOKEN, "forward", _states)  # after each step, where no output is the same
SAVED = Role(Place.TOKEN, "forward", attrgetter("body"))  # numbered as in `Backward.saved`

GRAD_OUTPUT = Role(Place.PADDED, "loss", _outputs)
GRAD_STATE = Role(Place.ROW, "copy", _states)  # carried back from step to step
GRAD_INPUT = Role(Place.PADDED, "backward", _inputs)
GRAD_TOKEN = Role(Place.TOKEN, "backward", _tokens)
GRAD_ROW = Role(Place.ROW, "backward", _rows)
GRAD_VECTOR = Role(Place.SLOT, "backward", _params)
GRAD_WEIGHT = Role(Place.SLOT, "backward", _params)  # numbered as in `StepPlan.gradients`

ROLES = [value for value in globals().values() if isinstance(value, Role)]

Key = tuple[Role, int]
"""A role, and a number among the arrays of that role."""
