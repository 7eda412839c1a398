"""The simple recurrent cell."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unspool.cells._activations import Activation, activation_name
from unspool.cells._activations import activation as resolve
from unspool.cells._builtin import BuiltinCell
from unspool.cells._initializers import Initializer


class SimpleRNNCell(BuiltinCell):
    r"""Simple recurrent cell (Elman, 1990).

    .. math:: h_t = \phi(W x_t + b_{ih} + U h_{t-1} + b_{hh})

    Parameters
    ----------
    input_size, hidden_size : int
        I features in, H units.
    bias : bool
        Whether the cell has biases.
    nonlinearity : str
        `torch.nn.RNNCell`'s name for the activation.
    device, dtype : optional
        Of the parameters.
    activation : str or callable, optional
        The activation :math:`\phi`, in place of `nonlinearity`.
    recurrent_bias, dropout, recurrent_dropout, shared_over_batch, init
        See `LSTMCell`.

    Attributes
    ----------
    weight_ih : Parameter of shape (H, I)
    weight_hh : Parameter of shape (H, H)
    bias_ih, bias_hh : Parameter of shape (H,), or None

    Raises
    ------
    TypeError
        If a size is not an int.
    ValueError
        If a size, a probability, an activation or `init` is out of range.

    References
    ----------
    - J. Elman, Finding structure in time, 1990, doi:10.1207/s15516709cog1402_1
    """

    GATES = "h"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | Activation | None = None,
        recurrent_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        shared_over_batch: bool = False,
        init: Initializer = "torch",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            gates=1,
            state_size=hidden_size,
            output_size=hidden_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            shared_over_batch=shared_over_batch,
            init=init,
            device=device,
            dtype=dtype,
        )
        self.activation = nonlinearity if activation is None else activation
        resolve(self.activation, "nonlinearity" if activation is None else "activation")  # refused here if not known
        self.reset_parameters()

    def forward(self, x: Tensor, state: Tensor, rows: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Compute one step.

        Parameters
        ----------
        x : Tensor of shape (B, I)
        state : Tensor of shape (B, H)
        rows : dict of Tensor, optional
            Dropout masks: see `row_inputs`.

        Returns
        -------
        output, new_state : Tensor of shape (B, H)
            The same tensor twice.

        Raises
        ------
        ValueError, TypeError
            If shapes or dtypes do not fit, or masks are missing in training.
        """
        x, h = self._inputs_of_products(x, {"h": state}, rows)
        phi = resolve(self.activation)
        h = phi(F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh))
        return h, h

    def extra_repr(self) -> str:
        """Return the sizes and the activation."""
        return f"{super().extra_repr()}, activation={activation_name(self.activation)}"
