# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Golden values of Keras 3's recurrent layers on its TensorFlow backend, outputs and gradients.

Run as `python tests/conformance/generate/keras3.py`; see README.md beside this file.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain kernels: the same rounding on more machines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from golden_writer import Draw, GoldenFiles

VERSIONS = {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}


class Cell(NamedTuple):
    """A cell's kind (the name of Keras's layer), size and Keras keywords."""

    kind: str
    hidden_size: int = 3
    options: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Case:
    """One call of one layer; several cells make StackedRNNCells."""

    name: str
    cells: tuple[Cell, ...]
    mask: str | None = None
    bidirectional: bool = False
    merge_mode: str | None = None
    return_sequences: bool = True
    zero_output_for_mask: bool = False
    go_backwards: bool = False
    unroll: bool = False
    initial_state: bool = True
    steps: int = 7
    batch: int = 5
    input_size: int = 5
    dtype: str = "float64"

    @property
    def meta(self) -> dict[str, Any]:
        """The case as JSON, but for its cells and mask."""
        names = [name for name in self.__dataclass_fields__ if name not in ("name", "cells", "mask")]
        return {**{name: getattr(self, name) for name in names}, "versions": VERSIONS}


def make_layer(case: Case) -> Any:
    """Build the case's layer."""
    options = {
        "return_state": True,
        "dtype": case.dtype,
        **{name: getattr(case, name) for name in ("return_sequences", "zero_output_for_mask")},
        **{name: getattr(case, name) for name in ("go_backwards", "unroll")},
    }
    if len(case.cells) == 1:
        (cell,) = case.cells
        layer = getattr(keras.layers, cell.kind)(cell.hidden_size, **cell.options, **options)
    else:
        cells = [
            getattr(keras.layers, f"{cell.kind}Cell")(cell.hidden_size, dtype=case.dtype, **cell.options)
            for cell in case.cells
        ]
        layer = keras.layers.RNN(keras.layers.StackedRNNCells(cells, dtype=case.dtype), **options)
    if case.bidirectional:
        layer = keras.layers.Bidirectional(layer, merge_mode=case.merge_mode, dtype=case.dtype)
    layer.build((case.batch, case.steps, case.input_size))
    return layer


def directions(case: Case, layer: Any) -> list[tuple[str, Any]]:
    """The layer's one direction, or both of a Bidirectional."""
    if case.bidirectional:
        return [("forward", layer.forward_layer), ("backward", layer.backward_layer)]
    return [("forward", layer)]


def weights_by_cell(case: Case, layer: Any) -> list[tuple[str, Cell, list[Any]]]:
    """Direction, cell and weights of every cell, in the order of their states."""
    found = []
    for direction, one in directions(case, layer):
        made = [one.cell] if len(case.cells) == 1 else one.cell.cells
        found += [(direction, cell, m.trainable_weights) for cell, m in zip(case.cells, made, strict=True)]
    return found


EQUAL = {"full": 63, "ones": 1, "zeros": 0}
"""Masks of rows of one length."""


def draw_mask(kind: str | None, steps: int) -> np.ndarray | None:
    """Masks of five rows, one of them, or with "zeros" all of them, without any real step."""
    if kind is None:
        return None
    lengths = np.array([3, 7, 0, 1, 5] if steps == 7 else [40, 63, 0, 1, 17])[:, None]
    if kind in EQUAL:
        lengths = np.full_like(lengths, min(EQUAL[kind], steps))
    times = np.arange(steps)[None]
    if kind == "right" or kind in EQUAL:
        return times < lengths
    if kind == "left":
        return times >= steps - lengths
    # Padding on both sides and in between, differently in every row.
    gaps = ["1101011", "0110110", "0000000", "0001000", "1000101"]
    return np.array([[step == "1" for step in row] for row in gaps])


def call(case: Case, layer: Any, leaves: Mapping[str, Any], mask: Any) -> tuple[list[Any], list[Any]]:
    """Run the layer; return its outputs (two of a Bidirectional that merges nothing) and its flat states."""
    states = [leaf for path, leaf in leaves.items() if path.startswith("initial_state/")]
    initial_state = pack_states(case, states) if states else None
    result = layer(leaves["inputs"], initial_state=initial_state, mask=mask)
    count = 2 if case.bidirectional and case.merge_mode is None else 1
    return list(result[:count]), tf.nest.flatten(list(result[count:]))


def pack_states(case: Case, states: list[Any]) -> list[Any]:
    """Give Keras the states as it wants them: flat for one cell, one list per cell for a stack."""
    if len(case.cells) == 1:
        return states
    remaining = iter(states)
    cells = case.cells * (2 if case.bidirectional else 1)
    return [[next(remaining) for _ in range(states_of(cell))] for cell in cells]


def states_of(cell: Cell) -> int:
    """How many tensors a cell's state has: h, or h and c."""
    return 2 if cell.kind == "LSTM" else 1


def draw_leaves(case: Case, draw: Draw) -> dict[str, tf.Tensor]:
    """Draw inputs and initial states."""
    leaves = {"inputs": draw.inputs((case.batch, case.steps, case.input_size))}
    if case.initial_state:
        cells = case.cells * (2 if case.bidirectional else 1)
        sizes = [cell.hidden_size for cell in cells for _ in range(states_of(cell))]
        leaves |= {f"initial_state/{k}": draw.state((case.batch, size)) for k, size in enumerate(sizes)}
    return {path: tf.constant(value) for path, value in leaves.items()}


def evaluate(case: Case) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run the case's layer forward and backward, and return its meta and arrays."""
    keras.utils.clear_session()  # weight names start afresh in every case
    layer, draw = make_layer(case), Draw(case.name, case.dtype)
    leaves = draw_leaves(case, draw)
    mask = draw_mask(case.mask, case.steps)
    described, weights = [], {}
    for direction, cell, variables in weights_by_cell(case, layer):
        scope = variables[0].path.removesuffix("/kernel")
        described.append({**cell._asdict(), "direction": direction, "scope": scope})
        for variable in variables:
            variable.assign(draw.weight(tuple(variable.shape), cell.hidden_size))
            weights[f"weight/{variable.path}"] = variable.value
    with tf.GradientTape() as tape:
        tape.watch(list(leaves.values()))
        outputs, states = call(case, layer, leaves, None if mask is None else tf.constant(mask))
        results = {f"outputs/{k}": value for k, value in enumerate(outputs)}
        results |= {f"final_state/{k}": value for k, value in enumerate(states)}
        cotangents = {path: draw.state(tuple(value.shape)) for path, value in results.items()}
        loss = tf.add_n([tf.reduce_sum(results[path] * cotangents[path]) for path in results])
    leaves |= weights
    gradients = tape.gradient(loss, leaves, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    arrays = {path: value.numpy() for path, value in (leaves | results).items()}
    arrays |= {f"gradient/{path}": tf.convert_to_tensor(value).numpy() for path, value in gradients.items()}
    arrays |= {f"cotangent/{path}": value for path, value in cotangents.items()}
    rows = None if mask is None else ["".join("01"[int(real)] for real in row) for row in mask]
    return {**case.meta, "mask": rows, "cells": described}, arrays


KINDS = {
    "simple": Cell("SimpleRNN"),
    "lstm": Cell("LSTM"),
    "gru": Cell("GRU", options={"reset_after": True}),
    "gru_before": Cell("GRU", options={"reset_after": False}),
}
VARIANTS = {
    **KINDS,
    "simple_relu": Cell("SimpleRNN", options={"activation": "relu"}),
    "lstm_relu": Cell("LSTM", options={"activation": "relu"}),
    "lstm_hard_sigmoid": Cell("LSTM", options={"recurrent_activation": "hard_sigmoid"}),
    "lstm_no_bias": Cell("LSTM", options={"use_bias": False}),
    "simple_no_bias": Cell("SimpleRNN", options={"use_bias": False}),
    "gru_no_bias": Cell("GRU", options={"use_bias": False, "reset_after": True}),
    "gru_before_no_bias": Cell("GRU", options={"use_bias": False, "reset_after": False}),
    "gru_relu": Cell("GRU", options={"activation": "relu", "reset_after": True}),
    "gru_before_hard_sigmoid": Cell("GRU", options={"recurrent_activation": "hard_sigmoid", "reset_after": False}),
}
STACK = (Cell("LSTM", 3), Cell("GRU", 17, {"reset_after": True}), Cell("SimpleRNN", 3))
MASKS = ("right", "left", "gaps")


def cell_cases() -> list[Case]:
    """Every cell without a mask, looped and unrolled."""
    cases = [Case(f"cell_{name}", (cell,)) for name, cell in VARIANTS.items()]
    cases.append(Case("cell_stack", STACK))
    unrolled = [replace(case, name=f"{case.name}_unrolled", unroll=True) for case in cases]
    return cases + [replace(case, initial_state=False) for case in unrolled]


def mask_cases() -> list[Case]:
    """Every mask with repeated and with zero outputs; unrolled in turn."""
    kinds = {name: (cell,) for name, cell in KINDS.items()} | {"stack": STACK[:2]}
    return [
        Case(f"mask_{name}_{mask}_{fill}", cells, mask, zero_output_for_mask=fill == "zero", unroll=(k + j) % 2 == 0)
        for k, (name, cells) in enumerate(kinds.items())
        for j, mask in enumerate(MASKS)
        for fill in ("repeat", "zero")
    ] + [
        Case(f"mask_{name}_{mask}", (KINDS[name],), mask, zero_output_for_mask=j == 1, unroll=(k + j) % 2 == 0)
        for k, name in enumerate(KINDS)
        for j, mask in enumerate(EQUAL)
    ]


def last_output_cases() -> list[Case]:
    """return_sequences=False: the last real output of each row."""
    return [
        Case(f"last_{name}_{mask}", (cell,), mask, return_sequences=False, unroll=k % 2 == 0)
        for name, cell in KINDS.items()
        for k, mask in enumerate((None, "right", "gaps"))
    ]


def backwards_cases() -> list[Case]:
    """go_backwards.

    Never unrolled: Keras 3.15 zeroes the outputs of an unrolled reversed loop with the mask in forward order.
    """
    cases = []
    for k, (name, cell) in enumerate(KINDS.items()):
        for j, mask in enumerate((None, "right", "gaps")):
            case = Case(f"backwards_{name}_{mask}", (cell,), mask, go_backwards=True)
            last = replace(case, name=f"{case.name}_last", return_sequences=False)
            cases += [replace(case, zero_output_for_mask=(k + j) % 2 == 0), last]
    return [*cases, Case("backwards_stack_gaps", STACK[::2], "gaps", go_backwards=True)]


def bidirectional_cases() -> list[Case]:
    """Every merge mode, with sequences and with last outputs."""
    kinds = (("simple", None), ("lstm", "right"), ("gru", "gaps"), ("gru_before", "left"))
    cases = []
    for merge_mode in ("concat", "sum", "mul", "ave", None):
        for name, mask in kinds:
            case = Case(
                f"bidirectional_{merge_mode}_{name}", (KINDS[name],), mask, bidirectional=True, merge_mode=merge_mode
            )
            cases.append(case)
            if merge_mode in ("concat", None):
                cases.append(replace(case, name=f"{case.name}_last", return_sequences=False))
    stack = Case("bidirectional_concat_stack", STACK[::2], "gaps", bidirectional=True, merge_mode="concat")
    return [*cases, stack]


def size_cases() -> list[Case]:
    """The other sizes, and single precision."""
    cases = []
    for name, cell in KINDS.items():
        one, odd, large = (cell._replace(hidden_size=size) for size in (1, 17, 64))
        long = Case(f"size_{name}_long", (odd,), "right", steps=63, input_size=3, zero_output_for_mask=True)
        cases += [
            Case(f"size_{name}_single", (one,), steps=1, batch=1, input_size=1),
            long,
            Case(f"size_{name}_wide_float32", (large,), "right", initial_state=False, dtype="float32"),
            Case(f"size_{name}_float32", (cell,), "gaps", dtype="float32"),
        ]
        both = Case(f"size_{name}_bidirectional", (odd,), bidirectional=True, merge_mode="sum", dtype="float32")
        row = replace(both, name=f"{both.name}_row_float32", steps=63, batch=1, input_size=1)
        single = replace(both, name=f"{both.name}_single", cells=(one,), dtype="float64")
        cases += [row, replace(single, steps=1, batch=1, input_size=1)]
    others = {case.name: case for case in (*cell_cases(), *last_output_cases(), *backwards_cases())}
    others |= {case.name: case for case in bidirectional_cases()}
    chosen = ["cell_stack", "backwards_stack_gaps", "bidirectional_concat_stack", "bidirectional_None_gru_last"]
    chosen += [f"last_{name}_gaps" for name in KINDS] + [f"backwards_{name}_right" for name in KINDS]
    return cases + [replace(others[name], name=f"{name}_float32", dtype="float32") for name in chosen]


def main() -> None:
    """Write every golden file of Keras 3."""
    files = GoldenFiles("keras3")
    groups = {
        "cells": cell_cases(),
        "masks": mask_cases(),
        "last": last_output_cases(),
        "backwards": backwards_cases(),
        "bidirectional": bidirectional_cases(),
        "sizes": size_cases(),
    }
    for group, cases in groups.items():
        for case in cases:
            files.add(group, case.name, *evaluate(case))
    files.write()


if __name__ == "__main__":
    main()
