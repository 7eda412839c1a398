"""What runs a case in this process: layers with the same weights, without inputs yet.

Everything is time-major: inputs `[T, B, I]`, outputs `[T, B, H]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.configurations import Case


@dataclass(frozen=True)
class Layer:
    """A layer that takes part, and how it is called.

    Attributes
    ----------
    role : str
    module : Module
    forward : callable (module, x, lengths) -> Tensor
        Returns the outputs; lengths are None where all rows have T steps.
    against, slow
        See `contenders.Contender`.
    """

    role: str
    module: nn.Module
    forward: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
    against: str = "ours"
    slow: bool = False


def layers(case: Case) -> Iterator[Layer]:
    """Yield the layers of a case, ours first, all with the same weights.

    Parameters
    ----------
    case : Case
    """
    shape, kind = case.shape, case.kind
    ours = kind.ours(shape.inputs, shape.hidden)
    yield Layer("ours", ours, run_ours, against="")
    if kind.torch_layer is not None:
        torchs = kind.torch_layer(shape.inputs, shape.hidden)
        torchs.load_state_dict(ours.state_dict())
        yield Layer("padded", torchs, lambda m, x, _: m(x)[0], against="ours" if case.lengths == "full" else "")
        if case.lengths == "full":
            yield Layer("static", same_weights(ours, case, unroll=True), run_ours)
        else:
            yield Layer("packed", torchs, _run_packed)
    else:
        yield Layer("eager", same_weights(ours, case, backend="reference"), run_ours, slow=True)
    if kind.builtin is not None:
        yield Layer("builtin", kind.builtin(shape.inputs, shape.hidden), run_ours, against="")


def same_weights(layer: nn.Module, case: Case, **options: Any) -> nn.Module:
    """Return our layer of a case with other options and the weights of another.

    Parameters
    ----------
    layer : Module
    case : Case
    **options
        Of the new layer.
    """
    other = case.kind.ours(case.shape.inputs, case.shape.hidden, **options)
    other.load_state_dict(layer.state_dict())
    return other


def run_ours(layer: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Run one of our layers, return its outputs.

    Parameters
    ----------
    layer : Module
    x : Tensor of shape (T, B, I)
    lengths : Tensor of shape (B,), optional
    """
    return (layer(x) if lengths is None else layer(x, lengths=lengths))[0]


def _run_packed(layer: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Pack, run and unpack, so that the same outputs come out as from the others."""
    assert lengths is not None
    outputs, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(outputs, total_length=x.shape[0])[0]
