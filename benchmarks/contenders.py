"""Who runs a case: each contender does the same work on the same inputs and weights, and returns what it computed.

Everything is time-major: inputs `[T, B, I]`, outputs `[T, B, H]`. K batches, N real tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import unspool as us
from benchmarks.configurations import Case
from benchmarks.layers import Layer, layers, run_ours, same_weights
from benchmarks.peers import Peer
from unspool.comparison.peers.protocol import timed

Results = dict[str, Tensor]


@dataclass(frozen=True)
class Contender:
    """One of those who run a case.

    Attributes
    ----------
    role : str
    results : callable () -> dict of str to Tensor
        Runs once: outputs; in training the gradients of the inputs and of all parameters too.
    seconds : callable () -> float
        Runs once, tells how long it took.
    against : str
        The role of the contender before whose results these must equal; empty for nobody (torch padded runs through
        the padding).
    slow : bool
        A Python loop: few repetitions are enough in a quick run.
    """

    role: str
    results: Callable[[], Results]
    seconds: Callable[[], float]
    against: str = "ours"
    slow: bool = False


def prepare(case: Case, peers: Sequence[Peer] = ()) -> tuple[list[Contender], str]:
    """Make inputs, weights and contenders of a case.

    Parameters
    ----------
    case : Case
    peers : sequence of Peer
        Those in processes of their own who take part.

    Returns
    -------
    list of Contender
        Ours first.
    str
        The backend that runs ours.
    """
    data, inside = Data(case), list(layers(case))
    ours = inside[0].module
    if case.kind.name == "GRU" and any(peer.role == "tf1" for peer in peers):
        # TensorFlow 1's GRU is another cell: it is held against ours of that form.
        inside.append(Layer("before", same_weights(ours, case, reset_after=False), run_ours, against=""))
    found = [data.contender(layer) for layer in inside]
    weights = {name.removesuffix("_l0"): value.detach() for name, value in ours.named_parameters()}
    for peer in peers:
        against = "before" if peer.role == "tf1" and case.kind.name == "GRU" else "ours"
        found.append(Contender(peer.role, data.given_to(peer, weights), peer.seconds, against))
    with torch.no_grad():
        x, lengths, _ = data.batches[0]
        given = {} if lengths is None else {"lengths": lengths}
        decisions = us.explain(ours, x, **given).decisions
    return found, ", ".join(dict.fromkeys(decision.chosen for decision in decisions))


class Data:
    """Inputs, lengths and gradients of the outputs of a case.

    Parameters
    ----------
    case : Case

    Attributes
    ----------
    batches : list of (Tensor, Tensor or None, Tensor)
        Inputs, lengths and the gradient of the outputs, which is zero for padding.
    """

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.case, shape = case, case.shape
        self.training = case.mode == "train"
        self.lengths = shape.lengths(case.lengths)
        self.inputs = torch.randn(shape.steps, shape.batch, shape.inputs)
        self.grad = torch.randn(shape.steps, shape.batch, shape.hidden)
        self.batches: list[tuple[Tensor, Tensor | None, Tensor]] = []
        for lengths in self.lengths:
            steps = int(lengths.max())
            real = torch.arange(steps)[:, None] < lengths
            x = self.inputs[:steps].clone().requires_grad_(self.training)
            self.batches.append((x, None if case.lengths == "full" else lengths, self.grad[:steps] * real[:, :, None]))

    def runner(self, layer: Layer) -> Callable[[], list[list[Tensor]]]:
        """Return a function that runs a layer once over all batches.

        Parameters
        ----------
        layer : Layer
        """
        module, forward, parameters = layer.module, layer.forward, list(layer.module.parameters())

        def run() -> list[list[Tensor]]:
            if not self.training:
                with torch.no_grad():
                    return [[forward(module, x, lengths)] for x, lengths, _ in self.batches]
            found = []
            for x, lengths, grad in self.batches:
                outputs = forward(module, x, lengths)
                found.append([outputs.detach(), *torch.autograd.grad(outputs, [x, *parameters], grad)])
            return found

        return run

    def contender(self, layer: Layer) -> Contender:
        """Return a contender in this process.

        Parameters
        ----------
        layer : Layer
        """
        run = self.runner(layer)
        names = ["outputs", "inputs", *(name.removesuffix("_l0") for name, _ in layer.module.named_parameters())]

        def results() -> Results:
            batches = enumerate(run())
            return {label(k, n): v for k, values in batches for n, v in zip(names, values, strict=False)}

        return Contender(layer.role, results, lambda: timed(run)[0], layer.against, layer.slow)

    def given_to(self, peer: Peer, weights: Results) -> Callable[[], Results]:
        """Return a function that gives the case to a peer, and returns what the peer computes of real tokens.

        Parameters
        ----------
        peer : Peer
        weights : dict of str to Tensor
        """
        arrays = {"inputs": self.inputs, "grad": self.grad, "lengths": self.lengths, **weights}

        def first() -> Results:
            task = {"cell": self.case.kind.name, "ragged": self.case.lengths != "full", "training": self.training}
            found = {}
            for name, value in peer.first(task, arrays).items():
                k, _, what = name.partition(" ")
                lengths = self.lengths[int(k)]
                real = (torch.arange(int(lengths.max()))[:, None] < lengths)[:, :, None]
                found[label(int(k), what)] = value * real if what == "outputs" else value
                if what == "bias_ih":  # where a peer has one bias for our two, their gradients are the same
                    found.setdefault(label(int(k), "bias_hh"), value)
            return found

        return first


def label(batch: int, name: str) -> str:
    """Return what a result is called.

    Parameters
    ----------
    batch : int
        Its number.
    name : str
        `outputs`, or that of which this is the gradient.
    """
    return f"batch {batch}: {name if name == 'outputs' else f'gradient of {name}'}"
