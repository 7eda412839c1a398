# pyright: basic, reportMissingImports=false
"""PyTorch alone: a Python loop over `nn.LSTMCell`, the same loop unrolled by `torch.compile`, and `nn.LSTM`.

All run through the padding, which nothing that is real depends on.

Letters: T steps, B rows, I input features, H hidden features.
"""

import torch
from protocol import RESULTS, WEIGHTS, Peer, main
from torch import nn


class Loop(nn.Module):
    """A Python loop over `nn.LSTMCell`."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x):
        """Take x `[T, B, I]`, return outputs `[T, B, H]`."""
        h = c = x.new_zeros(x.shape[1], self.cell.hidden_size)
        outputs = []
        for step in x.unbind(0):
            h, c = self.cell(step, (h, c))
            outputs.append(h)
        return torch.stack(outputs)


class Layer(nn.LSTM):
    """`nn.LSTM`, outputs only."""

    def forward(self, x):
        """Take x `[T, B, I]`, return outputs `[T, B, H]`."""
        return super().forward(x)[0]


class TorchLoops(Peer):
    """An LSTM in training. Variants: loop, layer, compiled."""

    traced: int | None = None

    def place(self, batch):
        """Return inputs and gradient."""
        return torch.from_numpy(batch.inputs).requires_grad_(), torch.from_numpy(batch.grad)

    def build(self, placed):
        """Construct the module; `torch.compile` traces and compiles at the first call."""
        kind = Layer if self.task.variant == "layer" else Loop
        module = kind(self.task.input_size, self.task.hidden_size)
        form = "{}_l0" if kind is Layer else "cell.{}"
        module.load_state_dict({form.format(name): torch.from_numpy(self.task.weights[name]) for name in WEIGHTS})
        self.parameters = [module.get_parameter(form.format(name)) for name in WEIGHTS]
        self.forward = module if self.task.variant != "compiled" else self._compiled(module)

    def _compiled(self, module):
        from torch._inductor.compile_fx import compile_fx

        def compiler(graph, examples):
            self.graphs += 1
            self.traced = len(graph.graph.nodes)
            return compile_fx(graph, examples)

        return torch.compile(module, backend=compiler, fullgraph=True)

    def run(self, placed):
        """Return outputs and gradients."""
        x, grad = placed
        outputs = self.forward(x)
        return [outputs.detach(), *torch.autograd.grad(outputs, [x, *self.parameters], grad)]

    def results(self, values):
        """Name them."""
        return {name: value.numpy() for name, value in zip(RESULTS, values, strict=True)}

    def nodes(self):
        """Return the nodes of the graph that was given to the compiler."""
        return self.traced


if __name__ == "__main__":
    main(TorchLoops, {"torch": torch.__version__})
