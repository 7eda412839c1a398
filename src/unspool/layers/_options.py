"""How layers run and what they return: the keyword arguments that all of them take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from unspool.backends import check_backend
from unspool.cells import Initializer
from unspool.execution import check_pad_output


class RunOptions(TypedDict):
    """How a layer runs over time and what it returns: keyword arguments of every layer.

    Attributes
    ----------
    reverse : bool
        Run from each sequence's last valid step to its first; outputs stay in the order of the inputs. Default False.
    go_backwards : bool
        Keras's form of `reverse`: the outputs come in the order of computation, the last step first. Default False.
    return_sequences : bool
        Return the output of every step (default), or only that of each sequence's last valid step (with `reverse`, its
        first), zeros for a sequence of length 0.
    return_state : bool
        Return the final state too (default), or the output alone, as `nn.Sequential` wants it.
    pad_output : {"zero", "repeat"}
        See `unspool.dynamic_rnn`. Default "zero".
    unroll : bool
        The static mode: the number of steps is fixed, and longer inputs are refused. Default False.
    num_steps : int, optional
        That number; the first call's by default.
    learn_initial_state : bool
        Start sequences, and start over where they are reset, from parameters of the layer, `initial_h` and so on, in
        place of the cell's own start, which the parameters begin with. Default False.
    stateful : bool
        Start each call from the state that the last one has ended in, without its gradients, until `reset_states` is
        called (Keras's `stateful`). Default False.
    backend : str
        See `unspool.dynamic_rnn`. Default "auto".
    """

    reverse: NotRequired[bool]
    go_backwards: NotRequired[bool]
    return_sequences: NotRequired[bool]
    return_state: NotRequired[bool]
    pad_output: NotRequired[str]
    unroll: NotRequired[bool]
    num_steps: NotRequired[int | None]
    learn_initial_state: NotRequired[bool]
    stateful: NotRequired[bool]
    backend: NotRequired[str]


class CellOptions(TypedDict):
    """What the cells of `SimpleRNN`, `LSTM` and `GRU` have in common: keyword arguments of these layers.

    Attributes
    ----------
    input_dropout, recurrent_dropout : float
        Dropout inside of each layer, on its inputs and on the state that its recurrent product takes, with one mask
        per sequence (Gal and Ghahramani, 2016); Keras's `dropout` and `recurrent_dropout`. Default 0.0.
    recurrent_bias : bool
        False drops the second bias, as Keras and TensorFlow do. Default True.
    init : {"torch", "keras"} or callable
        See `unspool.cells.initialize`. Default "torch".
    """

    input_dropout: NotRequired[float]
    recurrent_dropout: NotRequired[float]
    recurrent_bias: NotRequired[bool]
    init: NotRequired[Initializer]


class LayerOptions(CellOptions, RunOptions):
    """All keyword arguments that `SimpleRNN`, `LSTM` and `GRU` share: `CellOptions` and `RunOptions`."""


DEFAULTS: dict[str, Any] = {
    "reverse": False,
    "go_backwards": False,
    "return_sequences": True,
    "return_state": True,
    "pad_output": "zero",
    "unroll": False,
    "num_steps": None,
    "learn_initial_state": False,
    "stateful": False,
    "backend": "auto",
}
"""Of `RunOptions`, by name."""


def checked_options(kind: type, batch_first: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a layer, with defaults for those that are not given.

    Parameters
    ----------
    kind : type
        The layer's class, for errors.
    batch_first : bool
        The one argument of all layers that is no option.
    options : mapping
        Those that are given.

    Raises
    ------
    ValueError
        If `num_steps` is given without `unroll` or is not positive, or an option has an unknown value.
    TypeError
        If there is an option of another name, or of another type.
    """
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        own = [p.name for p in inspect.signature(kind).parameters.values() if p.kind != p.VAR_KEYWORD]
        known = ", ".join([*own, *getattr(kind, "CELL_OPTIONS", ()), *DEFAULTS])
        raise TypeError(f"{kind.__name__} received {sorted(unknown)}; expected arguments among {known}.")
    given = {**DEFAULTS, **options}
    flags = {name: given[name] for name, default in DEFAULTS.items() if isinstance(default, bool)}
    check_flags(batch_first=batch_first, **flags)
    check_backend(given["backend"])
    check_pad_output(given["pad_output"])
    steps, unroll = given["num_steps"], given["unroll"]
    if isinstance(steps, bool) or not isinstance(steps, int | None):
        raise TypeError(f"num_steps is {steps!r}; expected an int, or None for that of the first call.")
    if steps is not None and not (unroll and steps > 0):
        raise ValueError(
            f"num_steps is {steps} with unroll={unroll}; expected a positive number with unroll=True. "
            "The dynamic mode takes any number of steps."
        )
    return given


def check_flags(**flags: object) -> None:
    """Refuse what is not a bool, such as a number of steps for `unroll`."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}; expected True or False.")
