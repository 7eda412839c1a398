# pyright: basic, reportMissingImports=false
"""Plain JAX: `lax.scan` over a step, under `jit`, with a mask on state and outputs; unrolled by 1, by 8 or whole.

The input product stays in the step: taken out of it, the scan was slower on the CPUs that were tried.

Letters: T steps, B rows, I input features, H hidden features.
"""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.nn import sigmoid
from protocol import RESULTS, Peer, main


def lstm(x, state, w, u, bias):
    """One step: state (h, c), gates i, f, g, o."""
    h, cell = state
    i, f, g, o = jnp.split(x @ w.T + h @ u.T + bias, 4, axis=1)
    cell = sigmoid(f) * cell + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(cell), cell


def gru(x, state, w, u, b, c):
    """One step: gates r, z, n, the reset gate after the product."""
    (h,) = state
    x_r, x_z, x_n = jnp.split(x @ w.T + b, 3, axis=1)
    h_r, h_z, h_n = jnp.split(h @ u.T + c, 3, axis=1)
    z = sigmoid(x_z + h_z)
    return ((1 - z) * jnp.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h,)


def simple(x, state, w, u, bias):
    """One step."""
    return (jnp.tanh(x @ w.T + state[0] @ u.T + bias),)


CELLS = {"LSTM": (lstm, 2), "GRU": (gru, 1), "SimpleRNN": (simple, 1)}
"""Steps, and how many states each has."""


class Scan(Peer):
    """Variants: the steps that are unrolled into one, or "all"."""

    def place(self, batch):
        """Return inputs, mask and gradient."""
        mask = jnp.asarray(batch.mask) if self.task.ragged else None
        return jnp.asarray(batch.inputs), mask, jnp.asarray(batch.grad)

    def build(self, placed):
        """Trace; XLA compiles at the first call."""
        task = self.task
        unroll = True if task.variant == "all" else int(task.variant)
        cell, states = CELLS[task.cell]
        given = (task.weights["weight_ih"], task.weights["weight_hh"], *task.biases)
        self.weights = [jnp.asarray(value) for value in given]

        def forward(x, mask, *weights):
            def step(state, at):
                x, real = at
                new = cell(x, state, *weights)
                if real is None:
                    return new, new[0]
                kept = tuple(jnp.where(real[:, None], a, b) for a, b in zip(new, state, strict=True))
                return kept, jnp.where(real[:, None], new[0], 0)

            zeros = jnp.zeros((x.shape[1], task.hidden_size))
            return jax.lax.scan(step, (zeros,) * states, (x, mask), unroll=unroll)[1]

        def do(x, mask, grad, *weights):
            self.graphs += 1
            if not task.training:
                return [forward(x, mask, *weights)]
            outputs, back = jax.vjp(lambda x, *w: forward(x, mask, *w), x, *weights)
            return [outputs, *back(grad)]

        self.do = jax.jit(do)
        self.traced = self.do.trace(*placed, *self.weights)

    def run(self, placed):
        """Return outputs and gradients."""
        return jax.block_until_ready(self.do(*placed, *self.weights))

    def results(self, values):
        """Name them."""
        return {name: np.asarray(value) for name, value in zip(RESULTS, values, strict=False)}

    def nodes(self):
        """Return the operations of the program that XLA is given, those of inner functions among them.

        The equations of the jaxpr would not tell: it has one for the scan, however far that is unrolled.
        """
        return operations(self.traced.lower().compiler_ir("stablehlo").operation)

    def close(self):
        """Empty the caches of compiled programs."""
        jax.clear_caches()


def operations(operation):
    """Count an operation and all that are inside of it."""
    blocks = (block for region in operation.regions for block in region.blocks)
    return 1 + sum(operations(inner.operation) for block in blocks for inner in block.operations)


if __name__ == "__main__":
    main(Scan, {"jax": jax.__version__, "jaxlib": jaxlib.__version__})
