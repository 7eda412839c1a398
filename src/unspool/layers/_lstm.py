"""The LSTM layer."""

from __future__ import annotations

from functools import partial
from typing import Unpack

import torch

from unspool.cells import Activation, LSTMCell
from unspool.layers._options import LayerOptions
from unspool.layers._torch_like import TorchLikeLayer


class LSTM(TorchLikeLayer):
    """One or more layers of `LSTMCell`: a drop-in for `torch.nn.LSTM` that takes lengths and masks.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I features in, H units, L layers.
    proj_size : int
        Features of the projected output; 0 for none.
    bias, batch_first, dropout, bidirectional, device, dtype
        As in `torch.nn.LSTM`. `dropout` acts on the outputs of each layer but the last, element by element.
    activation, recurrent_activation : str or callable
        See `LSTMCell`.
    **options
        `input_dropout`, `recurrent_dropout`, `recurrent_bias`, `init`: see `CellOptions`. `reverse`, `go_backwards`,
        `return_sequences`, `return_state`, `pad_output`, `unroll`, `num_steps`, `learn_initial_state`, `stateful`,
        `backend`: see `RunOptions`.

    Returns
    -------
    output : Tensor of shape (T, B, D H)
        See `forward`; D is 2 if bidirectional, else 1; `proj_size` stands for H where it is set.
    (h_n, c_n) : LSTMState of Tensor of shape (L D, B, H)
        The state after each sequence's last valid step.

    Attributes
    ----------
    weight_ih_l[k], weight_hh_l[k], bias_ih_l[k], bias_hh_l[k], weight_hr_l[k] : Parameter
        Of layer k, with the suffix `_reverse` for the backward direction: shapes and gate order as in `torch.nn`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or unknown.

    Examples
    --------
    >>> layer = LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True)
    >>> output, (h_n, c_n) = layer(torch.randn(2, 4, 3), lengths=[4, 1])
    >>> output.shape, h_n.shape
    (torch.Size([2, 4, 10]), torch.Size([4, 2, 5]))
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
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | Activation = "tanh",
        recurrent_activation: str | Activation = "sigmoid",
        **options: Unpack[LayerOptions],
    ) -> None:
        cell = partial(
            LSTMCell,
            device=device,
            dtype=dtype,
            activation=activation,
            recurrent_activation=recurrent_activation,
            proj_size=proj_size,
        )
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )
        self.proj_size = proj_size
