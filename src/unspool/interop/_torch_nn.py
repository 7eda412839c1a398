"""Convert from and to `torch.nn`'s modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from unspool.cells import BuiltinCell, GRUCell, LSTMCell, SimpleRNNCell
from unspool.interop._conventions import PLAIN_LSTM, joined_bias, kind_of, require, with_parameters
from unspool.layers import GRU, LSTM, SimpleRNN

OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: SimpleRNN,
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNNCell: SimpleRNNCell,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}


def from_torch(module: nn.Module) -> nn.Module:
    """Convert a recurrent module of `torch.nn`.

    Names, gate order and both biases are PyTorch's here too, so the parameters are copied unchanged. Device, dtype,
    training mode and `requires_grad` are kept. One parameter under two names becomes two.

    Parameters
    ----------
    module : torch.nn.RNN, LSTM, GRU, RNNCell, LSTMCell or GRUCell

    Returns
    -------
    SimpleRNN, LSTM, GRU, SimpleRNNCell, LSTMCell or GRUCell

    Raises
    ------
    TypeError
        If it is another module, or of a derived class, which PyTorch makes for parametrisations: remove those first.
    ValueError
        If it is pruned.

    Examples
    --------
    >>> from unspool.interop import from_torch
    >>> layer = from_torch(nn.LSTM(3, 5, batch_first=True))
    >>> output, (h_n, c_n) = layer(torch.randn(2, 4, 3), lengths=[4, 1])
    """
    if type(module) not in OURS:
        raise TypeError(
            f"received {type(module).__name__}; expected torch.nn's {_names(OURS)}, and no "
            "class derived from them. Remove parametrisations; unspool.decelerate undoes unspool.accelerate."
        )
    names = ["input_size", "hidden_size", "bias", "nonlinearity"]
    if isinstance(module, nn.RNNBase):
        names += ["num_layers", "batch_first", "bidirectional", "proj_size"]
    keywords: dict[str, Any] = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if not isinstance(module, nn.LSTM):
        keywords.pop("proj_size", None)
    if isinstance(module, nn.RNNBase) and module.num_layers > 1:
        keywords["dropout"] = module.dropout
    converted = with_parameters(lambda: OURS[type(module)](**keywords), module.state_dict())
    return _in_the_state_of(module, converted)


def to_torch(module: nn.Module) -> nn.Module:
    """Convert a layer or cell to one of `torch.nn`.

    A missing second bias becomes zeros, and `forget_bias` is added to the forget gate's bias. Device, dtype, training
    mode and `requires_grad` are kept.

    Parameters
    ----------
    module : SimpleRNN, LSTM, GRU, SimpleRNNCell, LSTMCell or GRUCell

    Returns
    -------
    torch.nn.RNN, LSTM, GRU, RNNCell, LSTMCell or GRUCell

    Raises
    ------
    TypeError
        If it is another module.
    ValueError
        If it has an option that `torch.nn` lacks: another activation, a peephole, recurrent dropout, `reverse`, ...
    """
    if type(module) not in THEIRS:
        raise TypeError(f"received {type(module).__name__}; expected unspool's {_names(THEIRS)}.")
    if isinstance(module, BuiltinCell):
        cells, keywords = [("", module)], {}
    else:
        assert isinstance(module, SimpleRNN | LSTM | GRU)
        options = {"return_sequences": True, "return_state": True, "learn_initial_state": False, "stateful": False}
        require(module, "torch.nn", reverse=False, **options)
        suffixes = [suffix for suffix, _ in module._cells]
        cells = list(zip(suffixes, module.bound_cells(), strict=True))
        names = ("num_layers", "batch_first", "dropout", "bidirectional")
        keywords = {name: getattr(module, name) for name in names}
        if isinstance(module, LSTM):
            keywords["proj_size"] = module.proj_size
    cell = cells[0][1]
    if kind_of(cell) == "rnn":
        keywords["nonlinearity"] = cell.activation
    parameters: dict[str, Tensor] = {}
    for suffix, one in cells:
        parameters |= {name + suffix: value for name, value in _parameters(one, layer=bool(suffix)).items()}
    bias = "bias_ih" + cells[0][0] in parameters
    converted = with_parameters(
        lambda: THEIRS[type(module)](cell.input_size, cell.hidden_size, bias=bias, **keywords), parameters
    )
    return _in_the_state_of(module, converted)


def _parameters(cell: BuiltinCell, layer: bool) -> dict[str, Tensor]:
    """Return a cell's parameters in `torch.nn`'s form, with two biases or none."""
    kind = kind_of(cell)
    require(cell, "torch.nn", dropout=0.0, recurrent_dropout=0.0)
    if kind == "rnn" and cell.activation not in ("tanh", "relu"):
        require(cell, "torch.nn", activation="tanh")
    if kind != "rnn":
        require(cell, "torch.nn", activation="tanh", recurrent_activation="sigmoid", reset_after=True)
        # Only the layer has a projection in torch.nn.
        require(cell, "torch.nn", **{**PLAIN_LSTM, "proj_size": getattr(cell, "proj_size", 0) if layer else 0})
        require(cell, "torch.nn", proj_clip=None)
    found: dict[str, Tensor] = {name: value for name, value in cell._parameters.items() if value is not None}
    if isinstance(cell, LSTMCell) and cell.forget_bias:
        joined = joined_bias(cell)
        found |= {"bias_ih": joined, "bias_hh": joined.new_zeros(joined.shape)}
    if "bias_ih" in found and "bias_hh" not in found:
        found["bias_hh"] = found["bias_ih"].new_zeros(found["bias_ih"].shape)
    return found


def _in_the_state_of(source: nn.Module, converted: nn.Module) -> nn.Module:
    """Copy the training mode to the converted module, and `requires_grad` to each parameter."""
    wanted = {name: parameter.requires_grad for name, parameter in source.named_parameters()}
    for name, parameter in converted.named_parameters():
        parameter.requires_grad_(wanted.get(name, True))
    return converted.train(source.training)


def _names(classes: dict[type[nn.Module], type[nn.Module]]) -> str:
    return ", ".join(kind.__name__ for kind in classes)
