# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Keras's recurrent layers on its TensorFlow backend, inside of a `tf.function`; ragged batches by their mask.

Letters: B rows, T steps, I input features, H hidden features.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from serve import Task, columns, rows, serve

ORDERS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}  # i, f, c, o; z, r, h
TWO_BIASES = ("GRU",)  # with reset_after, its default


def prepare(task: Task):
    """Build the layer and a function that runs it; see `serve.Prepare`."""
    keras.backend.clear_session()
    order = ORDERS[task.cell]
    layer = getattr(keras.layers, task.cell)(task.weights["weight_hh"].shape[1], return_sequences=True)
    layer.build((None, None, task.weights["weight_ih"].shape[1]))
    kernel, recurrent = (columns(task.weights[name], order) for name in ("weight_ih", "weight_hh"))
    if task.cell in TWO_BIASES:
        bias = np.stack([columns(task.weights[name], order) for name in ("bias_ih", "bias_hh")])
    else:
        bias = columns(task.bias, order)
    layer.set_weights([kernel, recurrent, bias])

    @tf.function
    def step(x, mask, grad):
        if not task.training:
            return [layer(x, mask=mask)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, mask=mask)
        return [outputs, *tape.gradient(outputs, [x, *layer.trainable_variables], output_gradients=grad)]

    def batch_major(array):
        return tf.constant(np.ascontiguousarray(np.swapaxes(array, 0, 1)))

    batches = [
        (batch_major(b.inputs), batch_major(b.mask) if task.ragged else None, batch_major(b.grad)) for b in task.batches
    ]

    def run():
        return [step(*batch) for batch in batches]

    def results():
        return [named([value.numpy() for value in values]) for values in run()]

    def named(values):
        found = {"outputs": values[0].swapaxes(0, 1)}
        if task.training:
            found["inputs"] = values[1].swapaxes(0, 1)
            found["weight_ih"], found["weight_hh"] = (rows(value, order) for value in values[2:4])
            biases = values[4] if task.cell in TWO_BIASES else values[4][None]
            for name, value in zip(("bias_ih", "bias_hh"), biases, strict=False):
                found[name] = rows(value, order)
        return found

    return run, results


if __name__ == "__main__":
    serve({"keras": keras.__version__, "tensorflow": tf.__version__}, prepare)
