"""Convert from Keras 3's recurrent layers and cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from unspool.cells import StackedRNNCells
from unspool.interop._conventions import CELLS, as_tensor, to_ours, with_parameters
from unspool.layers import GRU, LSTM, RNN, Bidirectional, RecurrentLayer, SimpleRNN

NAMES = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
"""Keras's layers; the cells have the same names with "Cell" behind."""
KINDS = {name: kind for kind, name in NAMES.items()} | {f"{name}Cell": kind for kind, name in NAMES.items()}
LAYERS: dict[str, Any] = {"rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}
ACTIVATIONS = (
    *("tanh", "sigmoid", "relu", "elu", "gelu", "silu"),
    *("softplus", "softsign", "hard_sigmoid", "hard_tanh", "linear"),
)
"""Activations whose name means the same here and in Keras 3. `leaky_relu` has another slope: 0.2 there, 0.01 here."""

Activations = Mapping[str, Callable[[Tensor], Tensor]]
Config = Mapping[str, Any]


def from_keras(
    layer: Any, weights: Sequence[Any] | None = None, *, activations: Activations | None = None
) -> nn.Module:
    """Convert a recurrent layer or cell of Keras 3.

    | Keras | here |
    | --- | --- |
    | `SimpleRNN`, `LSTM`, `GRU`; `SimpleRNNCell`, ... | the layer or cell of that name |
    | `RNN` of a cell, or of `StackedRNNCells` | `RNN` of a cell, or of `StackedRNNCells` |
    | `Bidirectional` | `Bidirectional`; the backward layer has `reverse=True` |
    | kernels [I, G H], [H, G H], gates i, f, c, o or z, r, h | `weight_ih`, `weight_hh`, gates i, f, g, o or r, z, n |
    | bias [G H]; with `reset_after` [2, 3H] | `bias_ih`; with `reset_after` `bias_hh` too |
    | `dropout` | `input_dropout` of a layer, `dropout` of a cell |
    | `recurrent_dropout` | the same; there is one mask for all gates, where Keras's LSTM and GRU have one for each |
    | `go_backwards`, `return_sequences`, `return_state`, `unroll`, `stateful` | the same options |
    | `zero_output_for_mask` | `pad_output="zero"`, else `"repeat"` |

    Converted layers have `batch_first=True`. Pass a mask that `Masking` or `Embedding` would propagate as `mask` or
    `lengths`. Final states are `torch.nn`'s: (h, c) of shape (1, B, H). Initialisers, regularizers, constraints and
    seeds are left out; `reset_parameters` draws as Keras does by default.

    Parameters
    ----------
    layer : Keras layer or cell, or mapping
        A built one, or its serialised form: `{"class_name": "LSTM", "config": {"units": 5, ...}}`.
    weights : sequence of array, optional
        In the order of `layer.get_weights()`; read from the layer by default, needed with a mapping.
    activations : mapping of str to callable, optional
        A function of a tensor for each activation that has no name here, by Keras's name for it:
        `{"leaky_relu": partial(F.leaky_relu, negative_slope=0.2)}`.

    Returns
    -------
    Module

    Raises
    ------
    ValueError
        If the layer is not built, is of another kind, from Keras 2, or has an option without a counterpart
        here, or if the weights do not fit.
    TypeError
        If an array does not hold floating-point numbers.

    Examples
    --------
    >>> from unspool.interop import from_keras, to_keras
    >>> config, weights = to_keras(LSTM(3, 5, recurrent_bias=False))
    >>> [array.shape for array in weights]
    [(3, 20), (5, 20), (20,)]
    >>> layer = from_keras(config, weights)
    """
    if not isinstance(layer, Mapping):
        weights = layer.get_weights() if weights is None else weights
        layer = {"class_name": type(layer).__name__, "config": layer.get_config()}
    tensors = [as_tensor(array, f"weights[{index}]") for index, array in enumerate(weights or ())]
    reader = _Reader(iter(tensors), activations or {})
    module = reader.build(layer)
    left = len(list(reader.weights))
    if left:
        raise ValueError(
            f"received {len(tensors)} weights for a {layer['class_name']}; expected {len(tensors) - left}. "
            "Pass those of this layer alone, in the order of layer.get_weights()."
        )
    return module


def parameters_of(kind: str, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """Return a cell's weights as our parameters; gradients convert the same way."""
    parameters = {
        "weight_ih": to_ours("keras", kind, kernel),
        "weight_hh": to_ours("keras", kind, recurrent_kernel),
    }
    rows = () if bias is None else bias.reshape(-1, bias.shape[-1])  # two rows of a GRU with reset_after
    return parameters | {
        name: to_ours("keras", kind, row) for name, row in zip(("bias_ih", "bias_hh"), rows, strict=False)
    }


class _Reader:
    """Build modules from serialised layers, consuming the weights in order."""

    def __init__(self, weights: Iterator[Tensor], activations: Activations) -> None:
        self.weights = weights
        self.activations = activations

    def build(self, layer: Config) -> nn.Module:
        name, config = layer["class_name"], layer["config"]
        if name == "Bidirectional":
            return self._bidirectional(config)
        if name == "StackedRNNCells":
            return StackedRNNCells([self.build(cell) for cell in config["cells"]])
        if name in KINDS and name.endswith("Cell"):
            return self._built_in(KINDS[name], config)
        if name in KINDS or name == "RNN":
            return self._layer(name, config, _options(config))
        raise ValueError(
            f"received a {name}; expected {', '.join(KINDS)}, RNN, StackedRNNCells or Bidirectional of Keras 3."
        )

    def _layer(self, name: str, config: Config, options: dict[str, Any]) -> RecurrentLayer:
        if name == "RNN":
            return RNN(self.build(config["cell"]), **options)
        if name not in NAMES.values():
            raise ValueError(f"received Bidirectional of a {name}; expected RNN, SimpleRNN, LSTM or GRU.")
        return self._built_in(KINDS[name], config, options)

    def _bidirectional(self, config: Config) -> Bidirectional:
        forward = config["layer"]
        mirrored = {**forward, "config": {**forward["config"], "go_backwards": True}}
        backward = config.get("backward_layer") or mirrored
        if forward["config"].get("go_backwards") or not backward["config"].get("go_backwards"):
            raise ValueError(
                "received a Bidirectional whose forward layer has go_backwards=True; expected the backward layer "
                "alone to have it. Swap the layers in Keras."
            )
        layers = []
        for direction, layer in enumerate((forward, backward)):
            options = _options({**layer["config"], "go_backwards": False, "zero_output_for_mask": False})
            # Keras zeroes the outputs of masked steps here, whatever the layers say.
            options |= {"reverse": bool(direction), "pad_output": "zero"}
            layers.append(self._layer(layer["class_name"], layer["config"], options))
        return Bidirectional(*layers, merge_mode=config.get("merge_mode", "concat"))

    def _built_in(self, kind: str, config: Config, options: dict[str, Any] | None = None) -> Any:
        """Build a cell, or with options a layer."""
        if "implementation" in config:
            raise ValueError(
                "received a configuration of Keras 2 (it has 'implementation'); expected one of Keras 3. Build the "
                "layer in Keras 3 and give it the weights; hard_sigmoid is another function there."
            )
        bias = config.get("use_bias", True)
        after = config.get("reset_after", True) if kind == "gru" else False
        keywords: dict[str, Any] = {
            "bias": bias,
            "recurrent_bias": after,
            "activation": self._activation(config.get("activation", "tanh")),
            "dropout" if options is None else "input_dropout": config.get("dropout", 0.0),
            "recurrent_dropout": config.get("recurrent_dropout", 0.0),
            "init": "keras",
        }
        if kind != "rnn":
            keywords["recurrent_activation"] = self._activation(config.get("recurrent_activation", "sigmoid"))
        if kind == "gru":
            keywords["reset_after"] = after
        wanted = ["kernel", "recurrent_kernel", "bias"][: 3 if bias else 2]
        weights = dict(zip(wanted, self.weights, strict=False))
        if len(weights) < len(wanted):
            raise ValueError(
                f"the weights end before the {', '.join(wanted[len(weights) :])} of a {NAMES[kind]}. Pass all of "
                "layer.get_weights(), of a layer that has been built."
            )
        parameters = parameters_of(kind, weights["kernel"], weights["recurrent_kernel"], weights.get("bias"))
        sizes = (weights["kernel"].shape[0], config["units"])
        if options is None:
            return with_parameters(lambda: CELLS[kind](*sizes, **keywords), parameters)
        named = {f"{name}_l0": value for name, value in parameters.items()}
        return with_parameters(lambda: LAYERS[kind](*sizes, **keywords, **options), named)

    def _activation(self, spec: Any) -> str | Callable[[Tensor], Tensor]:
        """Return the activation of a name or a serialised function; None is linear."""
        name = "linear" if spec is None else spec
        if isinstance(name, Mapping):
            name = name["config"] if isinstance(name.get("config"), str) else name.get("class_name", "lambda")
        if name in self.activations:
            return self.activations[name]
        if name in ACTIVATIONS:
            return name
        raise ValueError(
            f"the activation is Keras's {name!r}; expected one of {', '.join(ACTIVATIONS)}. Say what it is: "
            f"activations={{{name!r}: a function of a tensor}}."
        )


def _options(config: Config) -> dict[str, Any]:
    """Return the options of a layer here, and refuse those without a counterpart."""
    sequences, zero = config.get("return_sequences", False), config.get("zero_output_for_mask", False)
    if zero and not sequences:
        raise ValueError(
            "received zero_output_for_mask=True with return_sequences=False, for which Keras returns zeros where the "
            "last step is masked; expected False, which returns the last real output. Without masks they are the same."
        )
    same = {name: config.get(name, False) for name in ("go_backwards", "return_state", "unroll", "stateful")}
    return {**same, "batch_first": True, "return_sequences": sequences, "pad_output": "zero" if zero else "repeat"}
