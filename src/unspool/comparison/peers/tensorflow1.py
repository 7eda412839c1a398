# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""TensorFlow 1's `static_rnn` and `dynamic_rnn`, in a graph and a session, with `sequence_length`.

Its GRU has the reset gate before the recurrent product, so it stands against ours with `reset_after=False`.

Letters: T steps, B rows, I input features, H hidden features.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # rnn_cell.* live in tf_keras since TensorFlow 2.16
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import warnings

import numpy as np
import tensorflow as tf
import tf_keras
from protocol import RESULTS, Peer, columns, main, rows

v1 = tf.compat.v1
v1.disable_eager_execution()
v1.logging.set_verbosity(v1.logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning)  # every cell warns that it is deprecated

MAKERS = {
    "LSTM": lambda size: v1.nn.rnn_cell.LSTMCell(size, forget_bias=0.0),
    "GRU": v1.nn.rnn_cell.GRUCell,
    "SimpleRNN": v1.nn.rnn_cell.BasicRNNCell,
}
ORDERS = {"LSTM": (0, 2, 1, 3), "SimpleRNN": (0,)}  # i, j, f, o: j is g


class TensorFlow1(Peer):
    """Variants: static, dynamic."""

    def place(self, batch):
        """Return what is fed: inputs, gradient and, of ragged batches, lengths."""
        return [aligned(batch.inputs), aligned(batch.grad), *([batch.lengths] if self.task.ragged else [])]

    def build(self, placed):
        """Construct the graph and start a session."""
        task, static = self.task, self.task.variant == "static"
        steps, size = (task.steps if static else None), placed[0].shape[1]
        with tf.Graph().as_default() as self.graph:
            x = v1.placeholder(tf.float32, (steps, size, task.input_size))
            grad = v1.placeholder(tf.float32, (steps, size, task.hidden_size))
            self.fed = [x, grad, *([v1.placeholder(tf.int32, (size,))] if task.ragged else [])]
            lengths = self.fed[2] if task.ragged else None
            cell = MAKERS[task.cell](task.hidden_size)
            if static:
                outputs, _ = v1.nn.static_rnn(cell, tf.unstack(x), dtype=tf.float32, sequence_length=lengths)
                outputs = tf.stack(outputs)
            else:
                outputs, _ = v1.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float32, time_major=True)
            weights = cell.trainable_weights
            self.wanted = [outputs]
            if task.training:
                self.wanted += v1.gradients(outputs, [x, *weights], grad_ys=grad)
            start = v1.global_variables_initializer()
        self.session = v1.Session(graph=self.graph)
        self.session.run(start)
        with self.graph.as_default():
            for variable, value in zip(weights, joined(task), strict=True):
                variable.load(value, self.session)
        self.graph.finalize()

    def run(self, placed):
        """Return outputs and gradients."""
        return self.session.run(self.wanted, dict(zip(self.fed, placed, strict=True)))

    def results(self, values):
        """Name them, and bring the gradients into the form of the weights."""
        outputs, *grads = values
        found = [outputs]
        if grads:
            inputs, *parts = grads
            if self.task.cell == "GRU":
                both, bias = np.concatenate([parts[0].T, parts[2].T]), np.concatenate([parts[1], parts[3]])
            else:
                both, bias = (rows(value, ORDERS[self.task.cell]) for value in parts)
            size = self.task.input_size
            found += [inputs, both[:, :size], both[:, size:], bias]
        return dict(zip(RESULTS, found, strict=False))

    def nodes(self):
        """Return the operations of the graph, bodies of loops among them."""
        functions = self.graph.as_graph_def().library.function
        return len(self.graph.get_operations()) + sum(len(function.node_def) for function in functions)

    def close(self):
        """End the session."""
        self.session.close()


def aligned(array):
    """Return an array whose memory is aligned as TensorFlow's is; a session copies any other at each run."""
    space = np.empty(array.nbytes + 64, np.uint8)
    start = -space.ctypes.data % 64
    found = space[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def joined(task):
    """Return the kernels, which multiply inputs and state joined, and the biases, in the order of the variables."""
    both = np.concatenate([task.weights["weight_ih"], task.weights["weight_hh"]], axis=1)
    if task.cell != "GRU":
        return [columns(value, ORDERS[task.cell]) for value in (both, task.bias)]
    gates = 2 * task.hidden_size  # r, u, which is z; the candidate apart
    return [columns(both[:gates], (0,)), task.bias[:gates], columns(both[gates:], (0,)), task.bias[gates:]]


if __name__ == "__main__":
    main(TensorFlow1, {"tensorflow": tf.__version__, "tf_keras": tf_keras.__version__})
