"""MNIST read row by row: the published models."""

from typing import Any

from unspool.training.recipes._recipe import Execution, LayerSpec, ModelName, Recipe, vary

_KERAS: dict[str, Any] = {"init": "keras", "recurrent_bias": False}
LAYERS: dict[ModelName, tuple[LayerSpec, ...]] = {
    "simple_rnn": (LayerSpec(kind="simple_rnn", hidden_size=256, **_KERAS),) * 2,
    "lstm": (
        LayerSpec(kind="lstm", hidden_size=256, activation="relu", dropout_after=0.2, **_KERAS),
        LayerSpec(kind="lstm", hidden_size=256, dropout_after=0.2, **_KERAS),
    ),
    "gru": (
        LayerSpec(kind="gru", hidden_size=256, activation="relu", dropout_after=0.3, init="keras"),
        LayerSpec(kind="gru", hidden_size=128, init="keras"),
    ),
}
MNIST = Recipe(
    dataset="mnist",
    model="lstm",
    execution="dynamic",
    layers=LAYERS["lstm"],
    input_size=28,
    num_classes=10,
    num_steps=28,
    epochs=10,
    batch_size=64,
    learning_rate=1e-3,
    held_out=5000,
    checkpoint_every=100,
    log_every=50,
)


def mnist_recipe(model: ModelName = "lstm", execution: Execution = "dynamic", **changes: Any) -> Recipe:
    """Return the recipe for MNIST read row by row: 28 steps of 28 pixels, ten digits.

    The models are the published ones, with their numbers of parameters: SimpleRNN 206,858, LSTM 819,722 and GRU
    369,162. SimpleRNN and LSTM have one bias per gate, as in Keras; GRU has both.

    Parameters
    ----------
    model, execution, **changes
        Fields of `Recipe`; None keeps the recipe's own value.

    Raises
    ------
    RunError
        If the model or the execution is not known.
    """
    return vary(MNIST, model, execution).replace(layers=LAYERS[model]).replace(**changes)
