# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Keras's LSTM on its TensorFlow backend, inside of a `tf.function`, with a mask; unrolled or looped.

The looped one is traced with a number of steps that is not known, so that one trace serves all. An unrolled layer needs
the number, so the function is traced anew for another one.

Letters: B rows, T steps, I input features, H hidden features.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from measure import Contender, columns, main, rows

ORDER = (0, 1, 2, 3)  # i, f, c, o


class KerasLayer(Contender):
    """Variants: unrolled, looped."""

    def place(self, batch):
        """Return inputs, mask and gradient, batch before time."""
        arrays = (batch.inputs, batch.mask, batch.grad)
        return [tf.constant(np.ascontiguousarray(np.swapaxes(array, 0, 1))) for array in arrays]

    def build(self, placed):
        """Construct the layer and trace the training step."""
        task, unroll = self.task, self.task.variant == "unrolled"
        layer = keras.layers.LSTM(task.hidden_size, return_sequences=True, unroll=unroll)
        layer.build((None, None, task.input_size))
        kernels = [columns(task.weights[name], ORDER) for name in ("weight_ih", "weight_hh")]
        layer.set_weights([*kernels, columns(task.bias, ORDER)])

        def train(x, mask, grad):
            self.graphs += 1
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, mask=mask)
            return [outputs, *tape.gradient(outputs, [x, *layer.trainable_variables], output_gradients=grad)]

        size = placed[0].shape[0]
        any_steps = [
            tf.TensorSpec((size, None, task.input_size)),
            tf.TensorSpec((size, None), tf.bool),
            tf.TensorSpec((size, None, task.hidden_size)),
        ]
        self.train = tf.function(train) if unroll else tf.function(train, input_signature=any_steps)
        self.graph = self.train.get_concrete_function(*placed).graph

    def run(self, placed):
        """Return outputs and gradients."""
        return [value.numpy() for value in self.train(*placed)]

    def results(self, values):
        """Name them, and bring the gradients into the form of the weights."""
        outputs, inputs = (value.swapaxes(0, 1) for value in values[:2])
        weights = (rows(value, ORDER) for value in values[2:])
        names = ("outputs", "inputs", "weight_ih", "weight_hh", "bias_ih")
        return dict(zip(names, (outputs, inputs, *weights), strict=True))

    def nodes(self):
        """Return the operations of the graph, bodies of loops among them."""
        functions = self.graph.as_graph_def().library.function
        return len(self.graph.get_operations()) + sum(len(function.node_def) for function in functions)


if __name__ == "__main__":
    main(KerasLayer, {"keras": keras.__version__, "tensorflow": tf.__version__})
