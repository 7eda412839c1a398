"""Tiny Shakespeare: which character comes next?"""

from typing import Any

from unspool.training.recipes._recipe import Execution, LayerSpec, ModelName, Recipe, vary

SHAKESPEARE = Recipe(
    dataset="shakespeare",
    model="lstm",
    execution="dynamic",
    objective="next-token",
    layers=(LayerSpec(kind="lstm", hidden_size=512, dropout_after=0.3),),
    pooling="none",
    input_size=65,
    embedding_size=64,
    embedding_range=1.0,
    num_classes=65,
    num_steps=64,
    epochs=4,
    batch_size=32,
    learning_rate=4e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=0,
    checkpoint_every=50,
    log_every=10,
)


def shakespeare_recipe(
    model: ModelName = "lstm",
    execution: Execution = "dynamic",
    *,
    steps: int | None = None,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for Tiny Shakespeare: a language model of 65 characters.

    The text is read as parallel streams whose states are carried from window to window; gradients end where a window
    begins.

    Parameters
    ----------
    model, execution, **changes
        Fields of `Recipe`; None keeps the recipe's own value.
    steps : int, optional
        Steps of a window; the recipe's own by default.
    hidden_size : int, optional
        Units of the layer; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known.
    """
    recipe = vary(SHAKESPEARE, model, execution, hidden_size=hidden_size)
    return recipe.replace(num_steps=steps).replace(**changes)
