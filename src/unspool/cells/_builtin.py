"""What SimpleRNNCell, LSTMCell and GRUCell share: parameters with PyTorch's names, dropout masks, checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from unspool._modes import autocast_dtype
from unspool._nest import Nest, describe
from unspool.cells._contract import Cell
from unspool.cells._initializers import Initializer, initialize
from unspool.cells._masks import check_probability, dropout_mask


def check_size(size: int, name: str, least: int = 1, hint: str = "") -> None:
    """Refuse a size that is not an int, or too small; `hint` explains the minimum."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name} is {size!r}; expected an int.")
    if size < least:
        raise ValueError(f"{name} is {size}; expected at least {least}{hint}.")


def _advice(x: Nest) -> str:
    """Return advice about an input that is not a batch of features."""
    if not isinstance(x, Tensor):
        return "Convert arrays with torch.as_tensor."
    if x.dim() == 1:
        return "A single row has a batch axis too: x[None]."
    if x.dim() > 2:
        return "A cell computes one step; unspool.dynamic_rnn runs it over sequences."
    return "Build the cell with the size of your features."


class BuiltinCell(Cell):
    """A cell with one product of its input and one of its hidden state, each of which gives all gates.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H.
    gates : int
        Number of gates G; `weight_ih` is `[G H, I]`.
    state_size : nesting of int
        See `Cell`.
    output_size : int
        Features of the output, which the recurrent product takes: `weight_hh` is `[G H, output_size]`.
    bias, recurrent_bias, dropout, recurrent_dropout, shared_over_batch, init, device, dtype
        See `LSTMCell`.

    Raises
    ------
    TypeError
        If a size is not an int.
    ValueError
        If a size, a probability or `init` is out of range.
    """

    GATES: ClassVar[str]
    """A letter for each gate, in the order in which they stand in the parameters."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    forget_gate: slice | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        gates: int,
        state_size: Nest,
        output_size: int,
        bias: bool,
        recurrent_bias: bool,
        dropout: float,
        recurrent_dropout: float,
        shared_over_batch: bool,
        init: Initializer,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(state_size)
        check_size(input_size, "input_size")
        check_size(hidden_size, "hidden_size")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = output_size
        self.bias = bias
        self.recurrent_bias = bias and recurrent_bias
        self.dropout = check_probability(dropout, "dropout")
        self.recurrent_dropout = check_probability(recurrent_dropout, "recurrent_dropout")
        self.shared_over_batch = shared_over_batch
        self.init = init
        self._new = {"device": device, "dtype": dtype}
        self._add("weight_ih", gates * hidden_size, input_size)
        self._add("weight_hh", gates * hidden_size, output_size)
        self._add("bias_ih", *([gates * hidden_size] if self.bias else []))
        self._add("bias_hh", *([gates * hidden_size] if self.recurrent_bias else []))

    def _add(self, name: str, *shape: int) -> None:
        """Register a parameter, or None without a shape, as `torch.nn` does for a bias that is off."""
        self.register_parameter(name, nn.Parameter(torch.empty(*shape, **self._new)) if shape else None)

    def reset_parameters(self) -> None:
        """Reinitialise the parameters according to `init`.

        Raises
        ------
        ValueError
            If `init` is an unknown name.
        """
        initialize(self, self.init, self.hidden_size, self.forget_gate)

    def bind(self, parameters: Mapping[str, Tensor | None], training: bool) -> Self:
        """Return a view of this cell that computes with other parameters.

        Layers keep the parameters themselves, under `torch.nn`'s names, so replacing or re-parametrising them there
        takes effect at the next call.

        Parameters
        ----------
        parameters : mapping of str to Tensor or None
            All parameters, by the cell's names.
        training : bool
            Whether the view is in training.

        Returns
        -------
        BuiltinCell
            A shallow copy; this cell is unchanged.
        """
        view = object.__new__(type(self))  # `copy.copy` asks how the cell is pickled, and takes as long as a step
        own = vars(self)
        # Whoever keeps something per cell keeps it for the cell, not for its short-lived views.
        vars(view).update(own, _parameters=dict(parameters), training=training, bound_from=own.get("bound_from", self))
        return view

    def row_inputs(
        self, batch_size: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> dict[str, Tensor] | None:
        """Draw the dropout masks of one sequence (Gal and Ghahramani, 2016).

        Returns
        -------
        dict of Tensor, or None
            In training: `"input"` of shape (B, I) if `dropout` is set, `"hidden"` of shape (B, output_size) if
            `recurrent_dropout` is set. None in evaluation, or if neither is set.
        """
        if not self.training:
            return None
        sizes = {
            "input": (self.dropout, self.input_size),
            "hidden": (self.recurrent_dropout, self.output_size),
        }
        masks = {
            name: dropout_mask(
                probability,
                (batch_size, size),
                shared_over_batch=self.shared_over_batch,
                dtype=dtype or self.weight_ih.dtype,
                device=device or self.weight_ih.device,
            )
            for name, (probability, size) in sizes.items()
            if probability > 0.0
        }
        return masks or None

    row_inputs.draws_nothing = lambda cell: not (cell.training and (cell.dropout or cell.recurrent_dropout))  # type: ignore[attr-defined]

    def _inputs_of_products(
        self, x: Tensor, state: dict[str, Tensor], rows: dict[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Check the inputs of a step; return the operands of its two products, x and h, masked if masks are given."""
        self._check(x, state)
        h = state["h"]
        if rows is None:
            if self.training and (self.dropout or self.recurrent_dropout):
                raise ValueError(
                    f"{type(self).__name__} is in training with dropout, and was called without its masks, which are "
                    "held over a whole sequence. Draw them once with rows = cell.row_inputs(batch_size) and call "
                    "cell(x, state, rows), or run the cell with unspool.dynamic_rnn, or call cell.eval()."
                )
            return x, h
        return x * rows["input"] if "input" in rows else x, h * rows["hidden"] if "hidden" in rows else h

    def _check(self, x: Tensor, state: dict[str, Tensor]) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != self.input_size:
            raise ValueError(
                f"{name} received an input of shape {describe(x)}; expected a tensor [B, {self.input_size}] "
                f"(batch, input_size). {_advice(x)}"
            )
        weight = self.weight_ih
        self._check_like(weight, x, "an input")
        for leaf, value in state.items():
            size = self.output_size if leaf == "h" else self.hidden_size
            if not isinstance(value, Tensor) or value.shape != (x.shape[0], size):
                raise ValueError(
                    f"{name} received a state {leaf} of shape {describe(value)}; expected [{x.shape[0]}, {size}] "
                    "(batch, size). Start from cell.initial_state(batch_size)."
                )
            self._check_like(weight, value, f"a state {leaf}")

    def _check_like(self, weight: Tensor, value: Tensor, what: str) -> None:
        """Refuse a tensor on another device than the parameters, or of another dtype."""
        name = type(self).__name__
        if value.device != weight.device:
            raise ValueError(
                f"{name} received {what} on {value.device}; expected {weight.device}, as its parameters. "
                f"Move one of them: .to({str(weight.device)!r}), or cell.to({str(value.device)!r})."
            )
        if value.dtype != weight.dtype and autocast_dtype(value.device.type) is None:
            other = f", or the cell with cell.to({value.dtype})" if value.is_floating_point() else ""
            raise TypeError(
                f"{name} received {what} of dtype {value.dtype}; expected {weight.dtype}, as its parameters. "
                f"Convert it with .to({weight.dtype}){other}."
            )

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [] if self.bias else ["bias=False"]
        parts += ["recurrent_bias=False"] if self.bias and not self.recurrent_bias else []
        parts += [f"{k}={v}" for k in ("dropout", "recurrent_dropout", "shared_over_batch") if (v := getattr(self, k))]
        return ", ".join(parts)
