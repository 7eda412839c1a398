"""The layers against Keras 3's: outputs, final states and every gradient."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import unspool
from tests.conformance.cases import pairs_of
from tests.conformance.convert import keras_keywords, keras_leaves, keras_parameters, keras_states
from tests.conformance.golden_cases import GoldenCase, load_cases
from unspool import LSTMState

GROUPS = {"cells": 28, "masks": 42, "last": 12, "backwards": 25, "bidirectional": 29, "sizes": 36}
CASES = load_cases("keras3", GROUPS)
LAYERS = {"SimpleRNN": unspool.SimpleRNN, "LSTM": unspool.LSTM, "GRU": unspool.GRU}
CELLS = {"SimpleRNN": unspool.SimpleRNNCell, "LSTM": unspool.LSTMCell, "GRU": unspool.GRUCell}


class Built(NamedTuple):
    """A module, where the parameters of each cell of the case are in it, and how it takes and gives states."""

    module: nn.Module
    patterns: list[str]
    pack: Callable[[list[Any]], Any]
    unpack: Callable[[Any], list[Any]]


def options(case: GoldenCase, unroll: bool, batch_first: bool, **more: Any) -> dict[str, Any]:
    """The keywords of every layer that this library shares with Keras.

    Keras's Bidirectional zeroes the outputs of masked steps, whatever the layer inside says.
    """
    zero = case.meta["zero_output_for_mask"] or (case.meta["bidirectional"] and case.meta["return_sequences"])
    same = {name: case.meta[name] for name in ("go_backwards", "return_sequences")}
    return {**same, "pad_output": "zero" if zero else "repeat", "unroll": unroll, "batch_first": batch_first, **more}


def forward_cells(case: GoldenCase) -> list[dict[str, Any]]:
    """The cells of the one direction, or of the forward one."""
    return [cell for cell in case.meta["cells"] if cell["direction"] == "forward"]


def layer_of_torch(case: GoldenCase, **keywords: Any) -> unspool.SimpleRNN | unspool.LSTM | unspool.GRU:
    """SimpleRNN, LSTM or GRU."""
    cell = case.meta["cells"][0]
    make = LAYERS[cell["kind"]]
    return make(case.meta["input_size"], cell["hidden_size"], dtype=case.dtype, **keras_keywords(cell), **keywords)


def stack(states: list[Any]) -> Any:
    """States of several layers and directions as `torch.nn` has them."""
    if isinstance(states[0], LSTMState):
        return LSTMState(*(torch.stack(leaves) for leaves in zip(*states, strict=True)))
    return torch.stack(states)


def unstack(state: Any) -> list[Any]:
    """The opposite of `stack`."""
    if isinstance(state, tuple):
        return [LSTMState(*leaves) for leaves in zip(*state, strict=True)]
    return list(state)


def as_layer(case: GoldenCase, **keywords: Any) -> Built:
    """The layer of Keras's name, in a Bidirectional where Keras has one."""
    layer = layer_of_torch(case, **options(case, **keywords))
    if not case.meta["bidirectional"]:
        return Built(layer, ["{}_l0"], stack, unstack)
    both = unspool.Bidirectional(layer, merge_mode=case.meta["merge_mode"])
    patterns = ["forward_layer.{}_l0", "backward_layer.{}_l0"]
    return Built(
        both,
        patterns,
        pack=lambda states: tuple(stack([state]) for state in states),
        unpack=lambda pair: [state for one in pair for state in unstack(one)],
    )


def as_bidirectional_layer(case: GoldenCase, **keywords: Any) -> Built:
    """The layer with `bidirectional=True`."""
    layer = layer_of_torch(case, **options(case, **keywords, bidirectional=True))
    return Built(layer, ["{}_l0", "{}_l0_reverse"], stack, unstack)


@cache
def cell_of(
    kind: str, input_size: int, hidden_size: int, dtype: torch.dtype, keywords: tuple[Any, ...], place: int
) -> Any:
    """Return one cell for all cases that have the like at the same place, which is read once; each gives it weights."""
    return CELLS[kind](input_size, hidden_size, dtype=dtype, **dict(keywords))


def as_cells(case: GoldenCase, **keywords: Any) -> Built:
    """RNN over the cell, or over the cells stacked; in a Bidirectional where Keras has one."""
    cells, width = [], case.meta["input_size"]
    for k, cell in enumerate(forward_cells(case)):
        cells.append(
            cell_of(cell["kind"], width, cell["hidden_size"], case.dtype, tuple(keras_keywords(cell).items()), k)
        )
        width = cell["hidden_size"]
    stacked = len(cells) > 1
    cell = unspool.StackedRNNCells(cells) if stacked else cells[0]
    layer = unspool.RNN(cell, **options(case, **keywords))
    patterns = [f"cell.cells.{k}.{{}}" for k in range(len(cells))] if stacked else ["cell.{}"]

    def pack(states: list[Any]) -> Any:
        return tuple(states) if stacked else states[0]

    def unpack(state: Any) -> list[Any]:
        return list(state) if stacked else [state]

    if not case.meta["bidirectional"]:
        return Built(layer, patterns, pack, unpack)
    return Built(
        unspool.Bidirectional(layer, merge_mode=case.meta["merge_mode"]),
        [f"{direction}_layer.{pattern}" for direction in ("forward", "backward") for pattern in patterns],
        pack=lambda states: (pack(states[: len(cells)]), pack(states[len(cells) :])),
        unpack=lambda pair: [state for one in pair for state in unpack(one)],
    )


def parameters(case: GoldenCase, patterns: list[str], prefix: str = "") -> dict[str, Tensor]:
    """The weights of the case, or their gradients, under the module's names."""
    named = {}
    for pattern, cell in zip(patterns, case.meta["cells"], strict=True):
        converted = keras_parameters(cell, case.under(f"{prefix}weight/{cell['scope']}/"))
        named |= {pattern.format(name): array for name, array in converted.items()}
    return named


def padding(case: GoldenCase, as_lengths: bool) -> dict[str, Any]:
    """The mask of the case, or the lengths of its rows."""
    rows = case.meta["mask"]
    if rows is None:
        return {}
    if as_lengths:
        return {"lengths": [row.count("1") for row in rows]}
    return {"mask": torch.tensor([[step == "1" for step in row] for row in rows])}


def right_padded(case: GoldenCase) -> bool:
    """Whether the case has a mask that lengths can say too."""
    rows = case.meta["mask"]
    return rows is not None and all("01" not in row for row in rows)


def ways(case: GoldenCase) -> list[str]:
    """The ways in which this library computes what Keras did."""
    meta = case.meta
    every = ["cells", "reference", "time_major", "other_mode"]
    if len(forward_cells(case)) == 1:
        every.append("layer")
        if meta["bidirectional"] and meta["merge_mode"] == "concat":
            every.append("bidirectional")
    if right_padded(case):
        every.append("lengths")
    return every


def build(case: GoldenCase, way: str) -> Built:
    """Build the module that a way stands for, with Keras's weights."""
    keywords = {"unroll": case.meta["unroll"], "batch_first": way != "time_major"}
    if way == "other_mode":
        keywords["unroll"] = not keywords["unroll"]
    if way == "reference":
        keywords["backend"] = "reference"
    if way == "bidirectional":
        built = as_bidirectional_layer(case, **keywords)
    elif way == "layer" or (way != "cells" and "layer" in ways(case)):
        built = as_layer(case, **keywords)
    else:
        built = as_cells(case, **keywords)
    built.module.load_state_dict(parameters(case, built.patterns))
    return built


def every_way() -> list[tuple[str, str]]:
    """Return each case once over its cells, and the other ways until each has met any two circumstances of a case."""
    params: list[tuple[str, str]] = []
    met: dict[str, set[Any]] = {}
    for name, case in CASES.items():
        kind = {key: case.meta[key] for key in ("bidirectional", "merge_mode", "return_sequences", "go_backwards")}
        pairs = pairs_of({**kind, "mask": case.meta["mask"] is None})
        own, *others = ways(case)
        params.append((name, own))
        for way in others:
            if not pairs <= met.setdefault(way, set()):
                params.append((name, way))
                met[way] |= pairs
    return params


@pytest.mark.parametrize(("name", "way"), every_way())
def test_values_and_gradients(name: str, way: str) -> None:
    case = CASES[name]
    built = build(case, way)
    leaves = {path: case.leaf(path) for path in case.arrays if path.startswith(("inputs", "initial_state/"))}
    expected = {path: case.arrays[f"gradient/{path}"] for path in leaves}

    starts = [leaf for path, leaf in leaves.items() if path.startswith("initial_state/")]
    hx = built.pack(keras_states(case.meta["cells"], starts)) if starts else None
    turned = way == "time_major"
    inputs = leaves["inputs"].transpose(0, 1) if turned else leaves["inputs"]
    masked = padding(case, as_lengths=way == "lengths")
    if turned and "mask" in masked:
        masked["mask"] = masked["mask"].T
    output, state = built.module(inputs, hx, **masked)

    outputs = list(output) if isinstance(output, tuple) else [output]
    if turned and case.meta["return_sequences"]:
        outputs = [one.transpose(0, 1) for one in outputs]
    results = {f"outputs/{k}": one for k, one in enumerate(outputs)}
    results |= {f"final_state/{k}": leaf for k, leaf in enumerate(keras_leaves(built.unpack(state)))}
    case.check_results(results)

    leaves |= dict(built.module.named_parameters())
    expected |= parameters(case, built.patterns, "gradient/")
    case.check_gradients(results, leaves, expected)


def test_every_case_is_there() -> None:
    assert len(CASES) == sum(GROUPS.values()) == 172
