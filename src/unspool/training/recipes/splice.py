"""Splice junctions: does an exon end here, or begin?"""

from typing import Any

from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, vary

SPLICE = Recipe(
    dataset="splice",
    model="gru",
    execution="dynamic",
    layers=(LayerSpec(kind="gru", hidden_size=64, bidirectional=True, dropout_after=0.3),),
    pooling="max",
    input_size=9,
    embedding_size=16,
    embedding_dropout=0.1,
    num_classes=3,
    num_steps=60,
    epochs=20,
    batch_size=32,
    learning_rate=5e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=255,
    tested="last",
    checkpoint_every=100,
    log_every=10,
)


def splice_recipe(
    model: ModelName = "gru",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    *,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for splice junctions: 3,190 stretches of 60 bases, three classes.

    The junction, if there is one, lies in the middle. Bases become vectors of 16 numbers; one bidirectional layer and
    the maximum of its outputs.

    Parameters
    ----------
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "padded" by default; all stretches have
        one length.
    hidden_size : int, optional
        Units of the layer in each direction; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known.
    """
    return vary(SPLICE, model, execution, batching, hidden_size).replace(**changes)
