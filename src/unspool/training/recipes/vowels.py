"""Japanese Vowels: who speaks?"""

from typing import Any

from unspool.training.recipes._recipe import Execution, LayerSpec, ModelName, Recipe, vary

VOWELS = Recipe(
    dataset="vowels",
    model="lstm",
    execution="dynamic",
    layers=(LayerSpec(kind="lstm", hidden_size=128, dropout_after=0.2),),
    input_size=12,
    num_classes=9,
    num_steps=29,
    input_noise=0.5,
    input_offset=0.3,
    epochs=30,
    batch_size=16,
    learning_rate=5e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=27,
    tested="last",
    checkpoint_every=50,
    log_every=5,
    threads=1,  # the products of a step are too small to divide
)


def vowels_recipe(
    model: ModelName = "lstm", execution: Execution = "dynamic", *, hidden_size: int | None = None, **changes: Any
) -> Recipe:
    """Return the recipe for Japanese Vowels: utterances of 7 to 29 steps of 12 channels, nine speakers.

    Parameters
    ----------
    model, execution, **changes
        Fields of `Recipe`; None keeps the recipe's own value.
    hidden_size : int, optional
        Units of the layer; the recipe's own by default.

    Raises
    ------
    RunError
        If the model or the execution is not known.
    """
    return vary(VOWELS, model, execution, hidden_size=hidden_size).replace(**changes)
