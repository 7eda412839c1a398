"""Layers that run on cuDNN or not at all, by Keras's names."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict, Unpack

import torch

from unspool.cells import Initializer
from unspool.layers._gru import GRU
from unspool.layers._lstm import LSTM


class CuDNNOptions(TypedDict):
    """Keyword arguments of the layers on cuDNN; see `unspool.LSTM`.

    Attributes
    ----------
    batch_first, bidirectional, reverse, go_backwards, return_sequences, return_state, recurrent_bias : bool
    learn_initial_state, stateful : bool
    dropout, input_dropout : float
    device, dtype : optional
    init : {"torch", "keras"} or callable
    pad_output : {"zero", "repeat"}
    """

    batch_first: NotRequired[bool]
    bidirectional: NotRequired[bool]
    dropout: NotRequired[float]
    input_dropout: NotRequired[float]
    recurrent_bias: NotRequired[bool]
    device: NotRequired[torch.device | str | None]
    dtype: NotRequired[torch.dtype | None]
    init: NotRequired[Initializer]
    reverse: NotRequired[bool]
    go_backwards: NotRequired[bool]
    return_sequences: NotRequired[bool]
    return_state: NotRequired[bool]
    pad_output: NotRequired[str]
    learn_initial_state: NotRequired[bool]
    stateful: NotRequired[bool]


class CuDNNLSTM(LSTM):
    """`LSTM` with `backend="cudnn"`, with what cuDNN has: a call that cuDNN cannot run raises `BackendError`.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I features in, H units, L layers.
    proj_size : int
        Features of the projected output; 0 for none.
    **options
        See `CuDNNOptions`.

    Returns
    -------
    output, (h_n, c_n)
        See `LSTM`.

    Raises
    ------
    TypeError
        If there is an option that cuDNN does not have.
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        proj_size: int = 0,
        **options: Unpack[CuDNNOptions],
    ) -> None:
        _check("CuDNNLSTM", options, "LSTM")
        super().__init__(input_size, hidden_size, num_layers, proj_size=proj_size, backend="cudnn", **options)


class CuDNNGRU(GRU):
    """`GRU` with `backend="cudnn"`, with what cuDNN has: a call that cuDNN cannot run raises `BackendError`.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I features in, H units, L layers.
    **options
        See `CuDNNOptions`.

    Returns
    -------
    output, h_n
        See `GRU`.

    Raises
    ------
    TypeError
        If there is an option that cuDNN does not have.
    ValueError
        If an argument is out of range.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, **options: Unpack[CuDNNOptions]) -> None:
        _check("CuDNNGRU", options, "GRU")
        super().__init__(input_size, hidden_size, num_layers, backend="cudnn", **options)


def _check(name: str, options: Any, general: str) -> None:
    unknown = options.keys() - CuDNNOptions.__annotations__.keys()
    if unknown:
        raise TypeError(
            f"{name} received {sorted(unknown)}; expected options among {', '.join(CuDNNOptions.__annotations__)}, "
            f"which cuDNN has. {general} takes the others, and runs on cuDNN where it can."
        )
