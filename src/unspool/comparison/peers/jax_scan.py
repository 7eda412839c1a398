# pyright: basic, reportMissingImports=false
"""Plain JAX: `lax.scan` over a step, under `jit`, with a mask on state and outputs; unrolled by 1, by 8 or whole.

Letters: T steps, B rows, I input features, H hidden features.
"""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.nn import sigmoid
from measure import Contender, main

NAMES = ("weight_ih", "weight_hh", "bias_ih")


def lstm(x, state, w, u, bias):
    """One step: state (h, c), gates i, f, g, o."""
    h, cell = state
    i, f, g, o = jnp.split(x @ w.T + h @ u.T + bias, 4, axis=1)
    cell = sigmoid(f) * cell + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(cell), cell


class Scan(Contender):
    """Variants: the steps that are unrolled into one, or "all"."""

    def place(self, batch):
        """Return inputs, mask and gradient."""
        return [jnp.asarray(array) for array in (batch.inputs, batch.mask, batch.grad)]

    def build(self, placed):
        """Trace the training step; XLA compiles it at the first call."""
        unroll = True if self.task.variant == "all" else int(self.task.variant)
        size = self.task.hidden_size
        given = (self.task.weights["weight_ih"], self.task.weights["weight_hh"], self.task.bias)
        self.weights = [jnp.asarray(value) for value in given]

        def forward(x, mask, *weights):
            def step(state, at):
                x, real = at
                new = lstm(x, state, *weights)
                kept = tuple(jnp.where(real[:, None], a, b) for a, b in zip(new, state, strict=True))
                return kept, jnp.where(real[:, None], new[0], 0)

            zeros = jnp.zeros((x.shape[1], size))
            return jax.lax.scan(step, (zeros, zeros), (x, mask), unroll=unroll)[1]

        def train(x, mask, grad, *weights):
            self.graphs += 1
            outputs, back = jax.vjp(lambda x, *w: forward(x, mask, *w), x, *weights)
            return [outputs, *back(grad)]

        self.train = jax.jit(train)
        self.traced = self.train.trace(*placed, *self.weights)

    def run(self, placed):
        """Return outputs and gradients."""
        return jax.block_until_ready(self.train(*placed, *self.weights))

    def results(self, values):
        """Name them."""
        return {name: np.asarray(value) for name, value in zip(("outputs", "inputs", *NAMES), values, strict=True)}

    def nodes(self):
        """Return the operations of the program that XLA is given, those of inner functions among them.

        The equations of the jaxpr would not tell: it has one for the scan, however far that is unrolled.
        """
        return operations(self.traced.lower().compiler_ir("stablehlo").operation)


def operations(operation):
    """Count an operation and all that are inside of it."""
    blocks = (block for region in operation.regions for block in region.blocks)
    return 1 + sum(operations(inner.operation) for block in blocks for inner in block.operations)


if __name__ == "__main__":
    main(Scan, {"jax": jax.__version__, "jaxlib": jaxlib.__version__})
