"""Surnames: from which language?"""

from typing import Any

from ._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice


def names_recipe(
    model: ModelName = "gru",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    *,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for surnames: 20,050 of 18 languages, 2 to 20 characters.

    Characters become vectors of 32 numbers; one bidirectional layer reads them from both ends.

    Parameters
    ----------
    model : {"gru", "lstm", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over 20 characters.
    batching : {"ragged", "padded", "bucketed", "same-length", "single"}, optional
        How surnames are put together; "ragged" by default.
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
    batching = batching or "ragged"
    check_choice("batching", batching, Batching)
    layer = LayerSpec(
        kind=model, hidden_size=128 if hidden_size is None else hidden_size, bidirectional=True, dropout_after=0.3
    )
    recipe = Recipe(
        dataset="names",
        model=model,
        execution=execution,
        layers=(layer,),
        pooling="last",
        input_size=84,
        embedding_size=32,
        embedding_range=1.0,
        embedding_dropout=0.1,
        num_classes=18,
        num_steps=20,
        epochs=8,
        batch_size=64,
        batching=batching,
        learning_rate=3e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        gradient_clip=1.0,
        held_out=1600,
        tested="best",
        checkpoint_every=200,
        log_every=20,
    )
    return recipe.replace(**changes)
