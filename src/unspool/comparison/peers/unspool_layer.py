"""Unspool's own layer. Of the peers it alone imports unspool, so it is no script.

Letters: T steps, B rows, H hidden features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

import unspool as us
from unspool.comparison.peers.protocol import RESULTS, WEIGHTS, Batch, Peer, Task, main
from unspool.program.ir import LEAVES


class UnspoolLayer(Peer):
    """`unspool.LSTM` over ragged batches, in training.

    Variants: dynamic, static, and reference, which all others are checked by.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.layer: us.LSTM | None = None

    @override
    def place(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, lengths and gradient."""
        return (
            torch.from_numpy(batch.inputs).requires_grad_(),
            torch.from_numpy(batch.lengths),
            torch.from_numpy(batch.grad),
        )

    @override
    def build(self, placed: tuple[Tensor, Tensor, Tensor]) -> None:
        """Construct the layer; its step is read and checked at the first call."""
        task = self.task
        if task.variant == "static":
            self.layer = us.LSTM(task.input_size, task.hidden_size, unroll=True, num_steps=task.steps)
        else:
            backend = "reference" if task.variant == "reference" else "auto"
            self.layer = us.LSTM(task.input_size, task.hidden_size, backend=backend)
        self.layer.load_state_dict({f"{name}_l0": torch.from_numpy(task.weights[name]) for name in WEIGHTS})

    @override
    def run(self, placed: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """Return outputs and gradients."""
        assert self.layer is not None, "build comes before run"
        x, lengths, grad = placed
        outputs, _ = self.layer(x, lengths=lengths)
        parameters = [getattr(self.layer, f"{name}_l0") for name in WEIGHTS]
        return [outputs.detach(), *torch.autograd.grad(outputs, [x, *parameters], grad)]

    @override
    def results(self, values: list[Tensor]) -> dict[str, np.ndarray]:
        """Name them."""
        return {name: value.numpy() for name, value in zip(RESULTS, values, strict=True)}

    @override
    def nodes(self) -> int | None:
        """Return the operations of the step's program, which is the same for any number of steps."""
        program: Any = us.program(us.LSTMCell(self.task.input_size, self.task.hidden_size))
        return sum(value.op not in LEAVES for value in program.live())


def start() -> None:
    """Answer requests; see `protocol`."""
    main(UnspoolLayer, {"unspool": us.info().versions["unspool"]})
