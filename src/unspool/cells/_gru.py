"""The gated recurrent unit, with its reset gate after or before the recurrent product."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unspool.cells._activations import Activation, unusual_activations
from unspool.cells._activations import activation as resolve
from unspool.cells._builtin import BuiltinCell
from unspool.cells._initializers import Initializer


class GRUCell(BuiltinCell):
    r"""Gated recurrent unit (Cho et al., 2014).

    .. math::
        r &= \sigma(W_r x + b_r + U_r h + b'_r) \\
        z &= \sigma(W_z x + b_z + U_z h + b'_z) \\
        n &= \phi(W_n x + b_n + r\,(U_n h + b'_n)) \quad \text{reset\_after=True (cuDNN, PyTorch, Keras 3)} \\
        n &= \phi(W_n x + b_n + U_n (r\,h) + b'_n) \quad \text{reset\_after=False (the paper, TensorFlow 1)} \\
        h' &= (1 - z)\,n + z\,h

    Parameters
    ----------
    input_size, hidden_size : int
        I features in, H units.
    bias : bool
        Whether the cell has biases.
    device, dtype : optional
        Of the parameters.
    reset_after : bool
        Selects one of the two n above. PyTorch's state dicts are for True.
    activation, recurrent_activation : str or callable
        :math:`\phi` and :math:`\sigma`.
    recurrent_bias, dropout, recurrent_dropout, shared_over_batch, init
        See `LSTMCell`. The h that z carries over is never dropped.

    Attributes
    ----------
    weight_ih : Parameter of shape (3H, I)
        Gates in the order r, z, n.
    weight_hh : Parameter of shape (3H, H)
    bias_ih, bias_hh : Parameter of shape (3H,), or None

    Raises
    ------
    TypeError
        If a size is not an int.
    ValueError
        If a size, a probability, an activation or `init` is out of range.

    References
    ----------
    - K. Cho and others, Learning phrase representations using RNN encoder-decoder for statistical machine translation,
      2014, arXiv:1406.1078
    """

    GATES = "rzn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        activation: str | Activation = "tanh",
        recurrent_activation: str | Activation = "sigmoid",
        recurrent_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        shared_over_batch: bool = False,
        init: Initializer = "torch",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            gates=3,
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
        self.reset_after = reset_after
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        resolve(activation)  # what is not known is refused here
        resolve(recurrent_activation, "recurrent_activation")
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
        phi, sigma = resolve(self.activation), resolve(self.recurrent_activation)
        x_r, x_z, x_n = F.linear(x, self.weight_ih, self.bias_ih).chunk(3, 1)
        if self.reset_after:
            h_r, h_z, h_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, 1)
            r, z = sigma(x_r + h_r), sigma(x_z + h_z)
            n = phi(x_n + r * h_n)
        else:
            split = [2 * self.hidden_size, self.hidden_size]
            weight_rz, weight_n = self.weight_hh.split(split)
            bias_rz, bias_n = (None, None) if self.bias_hh is None else self.bias_hh.split(split)
            h_r, h_z = F.linear(h, weight_rz, bias_rz).chunk(2, 1)
            r, z = sigma(x_r + h_r), sigma(x_z + h_z)
            n = phi(x_n + F.linear(r * h, weight_n, bias_n))
        h = (1.0 - z) * n + z * state
        return h, h

    def extra_repr(self) -> str:
        """Return the sizes and the non-default options."""
        parts = [super().extra_repr()]
        parts += [] if self.reset_after else ["reset_after=False"]
        return ", ".join([*parts, *unusual_activations(self)])
