"""Surnames: from which language?"""

from typing import Any

from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, vary

NAMES = Recipe(
    dataset="names",
    model="gru",
    execution="dynamic",
    layers=(LayerSpec(kind="gru", hidden_size=128, bidirectional=True, dropout_after=0.3),),
    input_size=84,
    embedding_size=32,
    embedding_range=1.0,
    embedding_dropout=0.1,
    num_classes=18,
    num_steps=20,
    epochs=8,
    batch_size=64,
    batching="ragged",
    learning_rate=3e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=1600,
    checkpoint_every=200,
    log_every=20,
)


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
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "ragged" by default.
    hidden_size : int, optional
        Units of the layer in each direction; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known.
    """
    return vary(NAMES, model, execution, batching, hidden_size).replace(**changes)
