"""Tiny Shakespeare: which character comes next?"""

from typing import Any

from ._recipe import Execution, LayerSpec, ModelName, Recipe, check_choice


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
    model : {"lstm", "gru", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over a window.
    steps : int, optional
        Steps of a window; the recipe's own by default.
    hidden_size : int, optional
        Units of the layer; the recipe's own by default.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If a name is not known.
    """
    check_choice("model", model, ModelName)
    check_choice("execution", execution, Execution)
    layer = LayerSpec(kind=model, hidden_size=512 if hidden_size is None else hidden_size, dropout_after=0.3)
    recipe = Recipe(
        dataset="shakespeare",
        model=model,
        execution=execution,
        objective="next-token",
        layers=(layer,),
        pooling="none",
        input_size=65,
        embedding_size=64,
        embedding_range=1.0,
        num_classes=65,
        num_steps=64 if steps is None else steps,
        epochs=4,
        batch_size=32,
        learning_rate=4e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        gradient_clip=1.0,
        held_out=0,
        tested="best",
        checkpoint_every=50,
        log_every=10,
    )
    return recipe.replace(**changes)
