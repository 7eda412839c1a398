# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Keras's recurrent layers on its TensorFlow backend, inside of a `tf.function`, with a mask; unrolled or looped.

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
from protocol import RESULTS, Peer, columns, main, rows

ORDERS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}  # i, f, c, o; z, r, h


class KerasLayer(Peer):
    """Variants: unrolled, looped."""

    def place(self, batch):
        """Return inputs, gradient and, of ragged batches, mask, batch before time."""
        arrays = (batch.inputs, batch.grad, *([batch.mask] if self.task.ragged else []))
        return [tf.constant(np.ascontiguousarray(np.swapaxes(array, 0, 1))) for array in arrays]

    def build(self, placed):
        """Construct the layer and trace it."""
        task, order = self.task, ORDERS[self.task.cell]
        unroll = task.variant == "unrolled"
        layer = getattr(keras.layers, task.cell)(task.hidden_size, return_sequences=True, unroll=unroll)
        layer.build((None, None, task.input_size))
        kernels = [columns(task.weights[name], order) for name in ("weight_ih", "weight_hh")]
        biases = [columns(bias, order) for bias in task.biases]
        layer.set_weights([*kernels, np.stack(biases) if len(biases) > 1 else biases[0]])

        def do(x, grad, mask=None):
            self.graphs += 1
            if not task.training:
                return [layer(x, mask=mask)]
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, mask=mask)
            return [outputs, *tape.gradient(outputs, [x, *layer.trainable_variables], output_gradients=grad)]

        any_steps = [tf.TensorSpec((value.shape[0], None, *value.shape[2:]), value.dtype) for value in placed]
        self.do = tf.function(do) if unroll else tf.function(do, input_signature=any_steps)
        self.graph = self.do.get_concrete_function(*placed).graph

    def run(self, placed):
        """Return outputs and gradients."""
        return self.do(*placed)

    def results(self, values):
        """Name them, and bring the gradients into the form of the weights."""
        outputs, *grads = (value.numpy() for value in values)
        found, order = [outputs.swapaxes(0, 1)], ORDERS[self.task.cell]
        if grads:
            inputs, kernel, recurrent, bias = grads
            biases = bias if self.task.cell == "GRU" else [bias]
            found += [inputs.swapaxes(0, 1), *(rows(value, order) for value in (kernel, recurrent, *biases))]
        return dict(zip(RESULTS, found, strict=False))

    def nodes(self):
        """Return the operations of the graph, bodies of loops among them."""
        functions = self.graph.as_graph_def().library.function
        return len(self.graph.get_operations()) + sum(len(function.node_def) for function in functions)

    def close(self):
        """Let Keras forget its layers."""
        keras.backend.clear_session()


if __name__ == "__main__":
    main(KerasLayer, {"keras": keras.__version__, "tensorflow": tf.__version__})
