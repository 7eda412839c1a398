"""Who runs a case: each contender does the same work on the same inputs and weights, and returns what it computed.

Everything is time-major: inputs `[T, B, I]`, outputs `[T, B, H]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unspool as us
from benchmarks.configurations import Case

Role = Literal["ours", "padded", "packed", "eager", "builtin"]


@dataclass(frozen=True)
class Contender:
    """One of those who run a case.

    Attributes
    ----------
    role : str
    run : callable () -> list of Tensor
        Outputs; in training the gradients of the inputs and of all parameters too.
    comparable : bool
        Whether all it returns must equal what we return (torch padded runs through the padding: it does not there).
    slow : bool
        A Python loop: few repetitions are enough.
    """

    role: Role
    run: Callable[[], list[Tensor]]
    comparable: bool = True
    slow: bool = False


@dataclass(frozen=True)
class Prepared:
    """Contenders of a case, ours first, and the backend that runs ours."""

    contenders: tuple[Contender, ...]
    backend: str


def prepare(case: Case) -> Prepared:
    """Make inputs, weights and contenders of a case."""
    data = _Data(case)
    ours = case.kind.ours(case.shape.inputs, case.shape.hidden, "auto")
    given = {"lengths": data.lengths} if case.lengths == "ragged" else {}
    found = [Contender("ours", data.runner(ours, lambda m, x: m(x, **given)[0]))]
    if case.kind.torch_layer is not None:
        peer = case.kind.torch_layer(case.shape.inputs, case.shape.hidden)
        peer.load_state_dict(ours.state_dict())
        padded = data.runner(peer, lambda m, x: m(x)[0])
        found.append(Contender("padded", padded, comparable=case.lengths == "full"))
        if case.lengths == "ragged":
            found.append(Contender("packed", data.runner(peer, lambda m, x: _packed(m, x, data.lengths))))
    else:
        eager = with_backend(ours, case, "reference")
        found.append(Contender("eager", data.runner(eager, lambda m, x: m(x, **given)[0]), slow=True))
    if case.kind.builtin is not None:
        same = case.kind.builtin(case.shape.inputs, case.shape.hidden, "auto")
        found.append(Contender("builtin", data.runner(same, lambda m, x: m(x, **given)[0]), comparable=False))
    with torch.no_grad():
        backend = backend_of(ours, data.inputs, given)
    return Prepared(tuple(found), backend)


def with_backend(layer: nn.Module, case: Case, backend: str) -> nn.Module:
    """Return a copy of our layer of a case that runs on another backend, with the same weights."""
    other = case.kind.ours(case.shape.inputs, case.shape.hidden, backend)
    other.load_state_dict(layer.state_dict())
    return other


def backend_of(layer: nn.Module, inputs: Tensor, given: dict[str, Any]) -> str:
    """Return the name of the backend that runs a layer on these inputs."""
    return ", ".join(dict.fromkeys(decision.chosen for decision in us.explain(layer, inputs, **given).decisions))


def _packed(layer: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """Pack, run and unpack, so that the same outputs come out as from the others."""
    outputs, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(outputs, total_length=x.shape[0])[0]


class _Data:
    """Inputs, lengths and the gradient of the outputs of a case."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        shape = case.shape
        self.training = case.mode == "train"
        self.lengths = shape.lengths(case.lengths)
        self.inputs = torch.randn(shape.steps, shape.batch, shape.inputs)
        real = torch.arange(shape.steps)[:, None] < self.lengths
        self.grad = torch.randn(shape.steps, shape.batch, shape.hidden) * real[:, :, None]

    def runner(self, layer: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[], list[Tensor]]:
        """Return a function that runs a layer once."""
        x = self.inputs.clone().requires_grad_(self.training)
        wanted = [x, *layer.parameters()]

        def run() -> list[Tensor]:
            if not self.training:
                with torch.no_grad():
                    return [forward(layer, x)]
            outputs = forward(layer, x)
            return [outputs.detach(), *torch.autograd.grad(outputs, wanted, self.grad)]

        return run
