"""MNIST read row by row: the published models."""

from typing import Any

from ._recipe import Execution, LayerSpec, ModelName, Recipe, check_choice


def mnist_recipe(model: ModelName = "lstm", execution: Execution = "dynamic", **changes: Any) -> Recipe:
    """Return the recipe for MNIST read row by row: 28 steps of 28 pixels, ten digits.

    The models are the published ones, with their numbers of parameters: SimpleRNN 206,858, LSTM 819,722 and GRU
    369,162. SimpleRNN and LSTM have one bias per gate, as in Keras; GRU has both.

    Parameters
    ----------
    model : {"simple_rnn", "lstm", "gru"}
        Which of the three.
    execution : {"dynamic", "static"}
        Whether the time loop is looped or unrolled over 28 steps.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If the model or the execution is not known.
    """
    check_choice("model", model, ModelName)
    check_choice("execution", execution, Execution)
    keras = {"kind": model, "init": "keras", "recurrent_bias": model == "gru"}
    layers = {
        "simple_rnn": (LayerSpec(**keras, hidden_size=256), LayerSpec(**keras, hidden_size=256)),
        "lstm": (
            LayerSpec(**keras, hidden_size=256, activation="relu", dropout_after=0.2),
            LayerSpec(**keras, hidden_size=256, dropout_after=0.2),
        ),
        "gru": (
            LayerSpec(**keras, hidden_size=256, activation="relu", dropout_after=0.3),
            LayerSpec(**keras, hidden_size=128),
        ),
    }
    recipe = Recipe(
        dataset="mnist",
        model=model,
        execution=execution,
        layers=layers[model],
        pooling="last",
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
    return recipe.replace(**changes)
