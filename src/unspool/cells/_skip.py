"""Skip connections around a cell: residual and highway."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unspool._nest import Nest, describe, flatten, map_leaves
from unspool.cells._contract import size_of
from unspool.cells._wrappers import WrappedCell


def _require_same_shape(name: str, x: Nest, output: Nest) -> None:
    (inputs, structure), (outputs, own) = flatten(x), flatten(output)
    if own != structure or any(a.shape != b.shape for a, b in zip(inputs, outputs, strict=True)):
        raise ValueError(
            f"{name} received an input {describe(x)} and an output {describe(output)} of the cell inside; expected the "
            "same shapes. Choose a cell whose input_size is its output size."
        )


class ResidualCell(WrappedCell):
    r"""Add the input of a cell to its output (He et al., 2016; in stacks of LSTMs: Wu et al., 2016).

    .. math:: y = x + \mathrm{cell}(x)

    Parameters
    ----------
    cell : cell
        The cell inside, with as many features out as in.

    References
    ----------
    - K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, 2016, arXiv:1512.03385
    - Y. Wu and others, Google's neural machine translation system, 2016, arXiv:1609.08144
    """

    def forward(
        self, x: Nest, state: Nest, rows: dict[str, Nest] | None = None, constants: Nest | None = None
    ) -> tuple[Nest, Nest]:
        """Compute one step and return `output + x`; the state is that of the cell inside.

        Raises
        ------
        ValueError
            If input and output differ in shape.
        """
        output, new_state = self._inner_step(x, state, rows, constants)
        _require_same_shape("ResidualCell", x, output)
        return map_leaves(torch.add, output, x), new_state


class HighwayCell(WrappedCell):
    r"""Mix the input of a cell into its output with a learned gate (Srivastava et al., 2015).

    .. math:: y = t\,x + (1 - t)\,\mathrm{cell}(x) \qquad t = \sigma(W_t x + b_t)

    Parameters
    ----------
    cell : cell
        The cell inside, with as many features out as in, and an attribute `input_size`.
    carry_bias : float
        Initial value of b, which lets most of the input pass at the start.

    Attributes
    ----------
    weight_carry : Parameter of shape (I, I)
    bias_carry : Parameter of shape (I,)

    Raises
    ------
    ValueError
        If the cell has no `input_size`.

    References
    ----------
    - R. Srivastava, K. Greff, J. Schmidhuber, Highway networks, 2015, arXiv:1505.00387, whose transform gate is 1 - t
    """

    def __init__(self, cell: nn.Module, carry_bias: float = 1.0) -> None:
        super().__init__(cell)
        size = size_of(cell, "input_size", "HighwayCell")
        like = next(iter(cell.parameters()), torch.empty(0))
        self.carry_bias = carry_bias
        self.weight_carry = nn.Parameter(torch.empty(size, size, dtype=like.dtype, device=like.device))
        self.bias_carry = nn.Parameter(torch.empty(size, dtype=like.dtype, device=like.device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the carry gate's parameters: Glorot uniform, and `carry_bias`."""
        nn.init.xavier_uniform_(self.weight_carry)
        nn.init.constant_(self.bias_carry, self.carry_bias)

    def forward(
        self, x: Tensor, state: Nest, rows: dict[str, Nest] | None = None, constants: Nest | None = None
    ) -> tuple[Tensor, Nest]:
        """Compute one step and mix input and output; the state is that of the cell inside.

        Raises
        ------
        ValueError
            If input and output differ in shape.
        """
        output, new_state = self._inner_step(x, state, rows, constants)
        _require_same_shape("HighwayCell", x, output)
        carry = torch.sigmoid(F.linear(x, self.weight_carry, self.bias_carry))
        return carry * x + (1.0 - carry) * output, new_state
