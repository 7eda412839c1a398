# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""TensorFlow 1's `dynamic_rnn` in a graph and a session; ragged batches by their `sequence_length`.

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
from serve import Task, columns, rows, serve

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


def prepare(task: Task):
    """Build the graph; see `serve.Prepare`."""
    cell = MAKERS[task.cell](task.weights["weight_hh"].shape[1])
    wanted, feed = [], {}

    def held(array):
        # A variable: the session neither copies it in at each run, as it would a feed, nor folds it into the graph.
        place = v1.placeholder(array.dtype, array.shape)
        feed[place] = array
        return v1.Variable(place, trainable=False)

    with tf.Graph().as_default() as graph:
        for batch in task.batches:
            x = tf.identity(held(batch.inputs))
            lengths = held(batch.lengths) if task.ragged else None
            outputs, _ = v1.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float32, time_major=True)
            values = [outputs]
            if task.training:
                values += v1.gradients(outputs, [x, *cell.trainable_weights], grad_ys=held(batch.grad))
            wanted.append(values)
        step = [tf.group(*values) for values in wanted]  # everything is computed, nothing is copied out
        start = v1.global_variables_initializer()
        session = v1.Session()
        session.run(start, feed)
        for variable, value in zip(cell.trainable_weights, joined(task), strict=True):
            variable.load(value, session)
    graph.finalize()

    def results():
        return [named(task, values) for values in session.run(wanted)]

    return (lambda: [session.run(one) for one in step]), results


def joined(task: Task):
    """The kernels, which multiply inputs and state joined, and the biases, in the order of the cell's variables."""
    w, u, bias = task.weights["weight_ih"], task.weights["weight_hh"], task.bias
    both = np.concatenate([w, u], axis=1)
    if task.cell != "GRU":
        return columns(both, ORDERS[task.cell]), columns(bias, ORDERS[task.cell])
    gates = 2 * u.shape[1]  # r, u, which is z; the candidate apart
    return (columns(both[:gates], (0,)), bias[:gates], columns(both[gates:], (0,)), bias[gates:])


def named(task: Task, values):
    """Name the results of a batch and bring gradients into the form of the weights."""
    found = {"outputs": values[0]}
    if task.training:
        found["inputs"] = values[1]
        if task.cell == "GRU":
            both, bias = np.concatenate([values[2].T, values[4].T]), np.concatenate([values[3], values[5]])
        else:
            both, bias = (rows(value, ORDERS[task.cell]) for value in values[2:4])
        size = task.weights["weight_ih"].shape[1]
        found |= {"weight_ih": both[:, :size], "weight_hh": both[:, size:], "bias_ih": bias}
    return found


if __name__ == "__main__":
    serve({"tensorflow": tf.__version__, "tf_keras": tf_keras.__version__}, prepare)
