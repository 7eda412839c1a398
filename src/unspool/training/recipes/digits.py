"""Spoken digits: which one is it?"""

from typing import Any, Literal

from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice, vary

Features = Literal["log_mel", "frames"]

DIGITS = Recipe(
    dataset="digits",
    model="gru",
    execution="dynamic",
    options={"features": "log_mel"},
    layers=(LayerSpec(kind="gru", hidden_size=64, bidirectional=True, dropout_after=0.3),),
    pooling="mean",
    input_size=40,
    num_classes=10,
    num_steps=226,
    input_noise=0.3,
    input_offset=0.3,
    epochs=20,
    batch_size=32,
    batching="bucketed",
    learning_rate=5e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=300,
    tested="last",
    checkpoint_every=100,
    log_every=10,
)


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
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "bucketed" by default.
    features : {"log_mel", "frames"}
        What a step is: 40 mel bands, or the 200 samples of a frame.
    hidden_size : int, optional
        Units of the layer in each direction; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known.
    """
    recipe = vary(DIGITS, model, execution, batching, hidden_size)
    check_choice("features", features, Features)
    input_size = {"log_mel": 40, "frames": 200}[features]
    return recipe.replace(options={"features": features}, input_size=input_size).replace(**changes)
