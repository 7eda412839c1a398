# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""TensorFlow 1's `static_rnn` and `dynamic_rnn`, in a graph and a session, with `sequence_length`.

Letters: T steps, B rows, I input features, H hidden features.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # rnn_cell.* live in tf_keras since TensorFlow 2.16
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import warnings

import numpy as np
import tensorflow as tf
import tf_keras
from measure import Contender, columns, main, rows

v1 = tf.compat.v1
v1.disable_eager_execution()
v1.logging.set_verbosity(v1.logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning)  # every cell warns that it is deprecated

ORDER = (0, 2, 1, 3)  # i, j, f, o: j is g


class TensorFlow1(Contender):
    """Variants: static, dynamic."""

    def place(self, batch):
        """Return what is fed."""
        return batch

    def build(self, placed):
        """Construct the graph and start a session."""
        task, static = self.task, self.task.variant == "static"
        steps, size = (task.steps if static else None), placed.inputs.shape[1]
        with tf.Graph().as_default() as self.graph:
            self.x = v1.placeholder(tf.float32, (steps, size, task.input_size))
            self.lengths = v1.placeholder(tf.int32, (size,))
            self.grad = v1.placeholder(tf.float32, (steps, size, task.hidden_size))
            cell = v1.nn.rnn_cell.LSTMCell(task.hidden_size, forget_bias=0.0)
            if static:
                outputs, _ = v1.nn.static_rnn(cell, tf.unstack(self.x), dtype=tf.float32, sequence_length=self.lengths)
                outputs = tf.stack(outputs)
            else:
                outputs, _ = v1.nn.dynamic_rnn(cell, self.x, self.lengths, dtype=tf.float32, time_major=True)
            weights = cell.trainable_weights
            self.wanted = [outputs, *v1.gradients(outputs, [self.x, *weights], grad_ys=self.grad)]
            start = v1.global_variables_initializer()
        self.session = v1.Session(graph=self.graph)
        self.session.run(start)
        both = np.concatenate([task.weights["weight_ih"], task.weights["weight_hh"]], axis=1)
        with self.graph.as_default():
            for variable, value in zip(weights, (both, task.bias), strict=True):
                variable.load(columns(value, ORDER), self.session)
        self.graph.finalize()

    def run(self, placed):
        """Return outputs and gradients."""
        feed = {self.x: placed.inputs, self.lengths: placed.lengths, self.grad: placed.grad}
        return self.session.run(self.wanted, feed)

    def results(self, values):
        """Name them, and bring the gradients into the form of the weights."""
        outputs, inputs, kernel, bias = values
        both, size = rows(kernel, ORDER), self.task.input_size
        weights = {"weight_ih": both[:, :size], "weight_hh": both[:, size:], "bias_ih": rows(bias, ORDER)}
        return {"outputs": outputs, "inputs": inputs, **weights}

    def nodes(self):
        """Return the operations of the graph, bodies of loops among them."""
        functions = self.graph.as_graph_def().library.function
        return len(self.graph.get_operations()) + sum(len(function.node_def) for function in functions)


if __name__ == "__main__":
    main(TensorFlow1, {"tensorflow": tf.__version__, "tf_keras": tf_keras.__version__})
