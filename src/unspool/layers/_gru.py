"""The GRU layer."""

from __future__ import annotations

from functools import partial
from typing import Unpack

import torch

from unspool.cells import Activation, GRUCell
from unspool.layers._options import LayerOptions
from unspool.layers._torch_like import TorchLikeLayer


class GRU(TorchLikeLayer):
    """One or more layers of `GRUCell`: a drop-in for `torch.nn.GRU` that takes lengths and masks.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I features in, H units, L layers.
    bias, batch_first, dropout, bidirectional, device, dtype
        As in `torch.nn.GRU`. `dropout` acts on the outputs of each layer but the last, element by element.
    reset_after, activation, recurrent_activation
        See `GRUCell`.
    **options
        `input_dropout`, `recurrent_dropout`, `recurrent_bias`, `init`: see `CellOptions`. `reverse`, `go_backwards`,
        `return_sequences`, `return_state`, `pad_output`, `unroll`, `num_steps`, `learn_initial_state`, `stateful`,
        `backend`: see `RunOptions`.

    Returns
    -------
    output : Tensor of shape (T, B, D H)
        See `forward`; D is 2 if bidirectional, else 1.
    h_n : Tensor of shape (L D, B, H)
        The state after each sequence's last valid step.

    Attributes
    ----------
    weight_ih_l[k], weight_hh_l[k], bias_ih_l[k], bias_hh_l[k] : Parameter
        Of layer k, with the suffix `_reverse` for the backward direction: shapes and gate order as in `torch.nn`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or unknown.

    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        activation: str | Activation = "tanh",
        recurrent_activation: str | Activation = "sigmoid",
        **options: Unpack[LayerOptions],
    ) -> None:
        cell = partial(
            GRUCell,
            device=device,
            dtype=dtype,
            reset_after=reset_after,
            activation=activation,
            recurrent_activation=recurrent_activation,
        )
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )
        self.reset_after = reset_after
