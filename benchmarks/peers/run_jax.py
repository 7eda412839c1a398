# pyright: basic, reportMissingImports=false
"""Plain JAX: `lax.scan` over a step, under `jit`; ragged batches by a mask on state and outputs.

The input product stays in the step: taken out of it, the scan was slower on the CPUs that were tried.

Letters: T steps, B rows, I input features, H hidden features.
"""

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from serve import Task, serve


def lstm(x, state, w, u, b, c):
    """One step: state (h, c), gates i, f, g, o."""
    h, cell = state
    i, f, g, o = jnp.split(x @ w.T + h @ u.T + (b + c), 4, axis=1)
    cell = sigmoid(f) * cell + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(cell)
    return h, (h, cell)


def gru(x, state, w, u, b, c):
    """One step: gates r, z, n, the reset gate after the product."""
    (h,) = state
    x_r, x_z, x_n = jnp.split(x @ w.T + b, 3, axis=1)
    h_r, h_z, h_n = jnp.split(h @ u.T + c, 3, axis=1)
    z = sigmoid(x_z + h_z)
    h = (1 - z) * jnp.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h
    return h, (h,)


def simple(x, state, w, u, b, c):
    """One step."""
    h = jnp.tanh(x @ w.T + state[0] @ u.T + (b + c))
    return h, (h,)


CELLS = {"LSTM": (lstm, 2), "GRU": (gru, 1), "SimpleRNN": (simple, 1)}


def prepare(task: Task):
    """Compile the scan; see `serve.Prepare`."""
    jax.clear_caches()
    cell, states = CELLS[task.cell]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [jnp.asarray(task.weights[name]) for name in names]
    size = weights[1].shape[1]

    def forward(x, mask, *weights):
        def step(state, at):
            x, real = at
            output, new = cell(x, state, *weights)
            if real is None:
                return new, output
            new = tuple(jnp.where(real[:, None], a, b) for a, b in zip(new, state, strict=True))
            return new, jnp.where(real[:, None], output, 0)

        zeros = jnp.zeros((x.shape[1], size))
        return jax.lax.scan(step, (zeros,) * states, (x, mask))[1]

    @jax.jit
    def do(x, mask, grad, *weights):
        if not task.training:
            return [forward(x, mask, *weights)]
        outputs, back = jax.vjp(lambda x, *w: forward(x, mask, *w), x, *weights)
        return [outputs, *back(grad)]

    batches = [
        (jnp.asarray(b.inputs), jnp.asarray(b.mask) if task.ragged else None, jnp.asarray(b.grad)) for b in task.batches
    ]

    def run():
        return jax.block_until_ready([do(*batch, *weights) for batch in batches])

    return run, lambda: [dict(zip(("outputs", "inputs", *names), values, strict=False)) for values in run()]


if __name__ == "__main__":
    serve({"jax": jax.__version__}, prepare)
