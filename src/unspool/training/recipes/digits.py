"""Spoken digits: which one is it?"""

from typing import Any, Literal

from ._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice

Features = Literal["log_mel", "frames"]


def digits_recipe(
    model: ModelName = "gru",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    features: Features = "log_mel",
    *,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for spoken digits: 3,000 recordings of six speakers, 12 to 226 steps of 10 ms.

    One bidirectional layer and the mean of its outputs.

    Parameters
    ----------
    model : {"gru", "lstm", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over the longest recording.
    batching : {"bucketed", "padded", "ragged", "same-length", "single"}, optional
        How recordings are put together; "bucketed" by default.
    features : {"log_mel", "frames"}
        What a step is: 40 mel bands, or the 200 samples of a frame.
    hidden_size : int, optional
        Units of the layer in each direction; the recipe's own by default.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If a name is not known.
    """
    check_choice("model", model, ModelName)
    check_choice("execution", execution, Execution)
    batching = batching or "bucketed"
    check_choice("batching", batching, Batching)
    check_choice("features", features, Features)
    layer = LayerSpec(
        kind=model, hidden_size=64 if hidden_size is None else hidden_size, bidirectional=True, dropout_after=0.3
    )
    recipe = Recipe(
        dataset="digits",
        model=model,
        execution=execution,
        options={"features": features},
        layers=(layer,),
        pooling="mean",
        input_size={"log_mel": 40, "frames": 200}[features],
        num_classes=10,
        num_steps=226,
        input_noise=0.3,
        input_offset=0.3,
        epochs=20,
        batch_size=32,
        batching=batching,
        learning_rate=5e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        gradient_clip=1.0,
        held_out=300,
        tested="last",
        checkpoint_every=100,
        log_every=10,
    )
    return recipe.replace(**changes)
