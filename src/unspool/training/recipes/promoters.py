"""Promoters: does the transcription of a gene begin here?"""

from typing import Any

from unspool.training.errors import RunError
from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, vary

PROMOTERS = Recipe(
    dataset="promoters",
    model="gru",
    execution="dynamic",
    options={"fold": 0, "folds": 10},
    layers=(LayerSpec(kind="gru", hidden_size=32, bidirectional=True, dropout_after=0.3),),
    pooling="max",
    input_size=9,
    embedding_size=16,
    embedding_range=1.0,
    embedding_dropout=0.1,
    num_classes=2,
    num_steps=57,
    epochs=40,
    batch_size=8,
    learning_rate=5e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=9,
    tested="last",
    checkpoint_every=100,
    log_every=5,
    threads=1,  # the products of a step are too small to divide
)


def promoters_recipe(
    model: ModelName = "gru",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    fold: int = 0,
    folds: int = 10,
    *,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for promoters: 106 stretches of 57 bases, half of them promoters.

    A run tests one fold and trains on the others; the figure of the recipe is that over all folds.

    Parameters
    ----------
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "padded" by default; all stretches have
        one length.
    fold, folds : int
        Which part is tested on, from 0, and of how many; 106 leaves one row out at a time.
    hidden_size : int, optional
        Units of the layer in each direction; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known, or there is no such fold.
    """
    recipe = vary(PROMOTERS, model, execution, batching, hidden_size)
    if not 0 <= fold < folds or folds > 106:
        raise RunError(f"received fold {fold} of {folds}; expected 0 to {folds - 1} of at most 106")
    return recipe.replace(options={"fold": fold, "folds": folds}).replace(**changes)
