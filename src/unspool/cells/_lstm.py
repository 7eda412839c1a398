"""The long short-term memory cell and its classic variants: the only place that has its equations."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional as F

from unspool._nest import describe
from unspool.cells._activations import Activation, unusual_activations
from unspool.cells._activations import activation as resolve
from unspool.cells._builtin import BuiltinCell, check_size
from unspool.cells._contract import LSTMState
from unspool.cells._initializers import Initializer


class LSTMCell(BuiltinCell):
    r"""Long short-term memory cell (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000).

    .. math::
        i &= \sigma(W_i x + U_i h + b_i + p_i c) \\
        f &= \sigma(W_f x + U_f h + b_f + p_f c + \text{forget\_bias}) \\
        g &= \phi(W_g x + U_g h + b_g) \\
        c' &= \mathrm{clip}(f c + i g) \\
        o &= \sigma(W_o x + U_o h + b_o + p_o c') \\
        h' &= \mathrm{clip}(P\,(o\,\phi(c')))

    The terms in p require `peephole` (Gers and Schmidhuber, 2000), P requires `proj_size` (Sak et al., 2014), and
    `coupled` replaces i by 1 - f (Greff et al., 2017). The output is h'. Gate order and state order are PyTorch's.

    Parameters
    ----------
    input_size, hidden_size : int
        I features in, H units.
    bias : bool
        Whether the cell has biases.
    device, dtype : optional
        Of the parameters.
    activation, recurrent_activation : str or callable
        :math:`\phi` and :math:`\sigma`.
    peephole : bool
        Let the gates see the memory cell; the output gate sees the new one, already clipped (as in TensorFlow 1).
    proj_size : int
        Features P of the projected output; 0 for none.
    cell_clip, proj_clip : float, optional
        Clip c' (before the output sees it) and the projection to +- this value.
    coupled : bool
        Couple the input gate to the forget gate; the gates are then f, g, o.
    forget_bias : float
        Added to the forget gate at run time, on top of the bias parameters (TensorFlow 1 uses 1.0).
    recurrent_bias : bool
        Keep PyTorch's second bias `bias_hh`. False gives Keras's and TensorFlow's parameter count.
    dropout : float
        Probability of dropping an input feature in training, the same for all steps of a sequence.
    recurrent_dropout : float
        Likewise for the state h that the recurrent product takes (Gal and Ghahramani, 2016).
    shared_over_batch : bool
        Draw one mask for the whole batch, as TensorFlow's variational wrapper does.
    init : {"torch", "keras"} or callable
        See `unspool.cells.initialize`.

    Attributes
    ----------
    weight_ih : Parameter of shape (4H, I), or (3H, I) if coupled
        Gates in the order i, f, g, o (coupled: f, g, o).
    weight_hh : Parameter of shape (4H, P or H)
    bias_ih, bias_hh : Parameter of shape (4H,), or None
    peephole_i, peephole_f, peephole_o : Parameter of shape (H,), or None
    weight_hr : Parameter of shape (P, H), or None
        The projection.

    Raises
    ------
    TypeError
        If a size is not an int.
    ValueError
        If a size, a probability, a clip, an activation or `init` is out of range.

    References
    ----------
    - S. Hochreiter, J. Schmidhuber, Long short-term memory, 1997, doi:10.1162/neco.1997.9.8.1735
    - F. Gers, J. Schmidhuber, F. Cummins, Learning to forget, 2000, doi:10.1162/089976600300015015
    - F. Gers, J. Schmidhuber, Recurrent nets that time and count, 2000, doi:10.1109/IJCNN.2000.861302
    - H. Sak, A. Senior, F. Beaufays, Long short-term memory based recurrent neural network architectures for large
      vocabulary speech recognition, 2014, arXiv:1402.1128
    - Y. Gal, Z. Ghahramani, A theoretically grounded application of dropout in recurrent neural networks, 2016,
      arXiv:1512.05287
    - K. Greff and others, LSTM: a search space odyssey, 2017, arXiv:1503.04069
    """

    GATES = "ifgo"  # "fgo" if coupled

    peephole_i: Tensor
    peephole_f: Tensor
    peephole_o: Tensor
    weight_hr: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | Activation = "tanh",
        recurrent_activation: str | Activation = "sigmoid",
        peephole: bool = False,
        proj_size: int = 0,
        cell_clip: float | None = None,
        proj_clip: float | None = None,
        coupled: bool = False,
        forget_bias: float = 0.0,
        recurrent_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        shared_over_batch: bool = False,
        init: Initializer = "torch",
    ) -> None:
        check_size(proj_size, "proj_size", least=0, hint=", which is no projection")
        for name, clip in {"cell_clip": cell_clip, "proj_clip": proj_clip}.items():
            if clip is not None and not (isinstance(clip, Real) and clip > 0):
                raise ValueError(f"{name} is {clip!r}; expected a positive bound, or None.")
        if proj_clip is not None and proj_size == 0:
            raise ValueError("proj_clip is set without a projection; set proj_size too, or use cell_clip.")
        output_size = proj_size or hidden_size
        super().__init__(
            input_size,
            hidden_size,
            gates=3 if coupled else 4,
            state_size=LSTMState(output_size, hidden_size),  # type: ignore[arg-type]
            output_size=output_size,
            bias=bias,
            recurrent_bias=recurrent_bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            shared_over_batch=shared_over_batch,
            init=init,
            device=device,
            dtype=dtype,
        )
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        resolve(activation)  # what is not known is refused here
        resolve(recurrent_activation, "recurrent_activation")
        self.peephole, self.coupled = peephole, coupled
        self.proj_size, self.cell_clip, self.proj_clip = proj_size, cell_clip, proj_clip
        self.forget_bias = forget_bias
        self.forget_gate = slice(0, hidden_size) if coupled else slice(hidden_size, 2 * hidden_size)
        self._add("peephole_i", *([hidden_size] if peephole and not coupled else []))
        self._add("peephole_f", *([hidden_size] if peephole else []))
        self._add("peephole_o", *([hidden_size] if peephole else []))
        self._add("weight_hr", *([proj_size, hidden_size] if proj_size else []))
        self.reset_parameters()

    def forward(self, x: Tensor, state: LSTMState, rows: dict[str, Tensor] | None = None) -> tuple[Tensor, LSTMState]:
        """Compute one step.

        Parameters
        ----------
        x : Tensor of shape (B, I)
        state : LSTMState
            h of shape (B, P or H) and c of shape (B, H).
        rows : dict of Tensor, optional
            Dropout masks: see `row_inputs`.

        Returns
        -------
        output : Tensor of shape (B, P or H)
            The new h.
        new_state : LSTMState

        Raises
        ------
        ValueError, TypeError
            If shapes or dtypes do not fit, or masks are missing in training.
        """
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise ValueError(
                f"LSTMCell received the state {describe(state)}; expected a pair (h, c). "
                "Start from cell.initial_state(batch_size)."
            )
        h, c = state
        x, h = self._inputs_of_products(x, {"h": h, "c": c}, rows)
        phi, sigma = resolve(self.activation), resolve(self.recurrent_activation)
        gates = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        if self.coupled:
            f, g, o = gates.chunk(3, 1)
            i = None
        else:
            i, f, g, o = gates.chunk(4, 1)
        if self.peephole:
            f = f + self.peephole_f * c
            i = None if i is None else i + self.peephole_i * c
        f = sigma(f + self.forget_bias) if self.forget_bias else sigma(f)
        i = 1.0 - f if i is None else sigma(i)
        c = f * c + i * phi(g)
        if self.cell_clip is not None:
            c = c.clamp(-self.cell_clip, self.cell_clip)
        h = sigma(o + self.peephole_o * c if self.peephole else o) * phi(c)
        if self.proj_size:
            h = F.linear(h, self.weight_hr)
            if self.proj_clip is not None:
                h = h.clamp(-self.proj_clip, self.proj_clip)
        return h, LSTMState(h, c)

    def extra_repr(self) -> str:
        """Return the sizes and the non-default options."""
        parts = [super().extra_repr()]
        parts += [f"{name}=True" for name in ("peephole", "coupled") if getattr(self, name)]
        parts += [
            f"{name}={v}"
            for name in ("proj_size", "cell_clip", "proj_clip", "forget_bias")
            if (v := getattr(self, name))
        ]
        return ", ".join([*parts, *unusual_activations(self)])
