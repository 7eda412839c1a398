"""Splice junctions: does an exon end here, or begin?"""

from typing import Any

from ._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice


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
    model : {"gru", "lstm", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over 60 bases.
    batching : {"padded", "ragged", "bucketed", "same-length", "single"}, optional
        How stretches are put together; "padded" by default. All have one length.
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
    batching = batching or "padded"
    check_choice("batching", batching, Batching)
    layer = LayerSpec(
        kind=model, hidden_size=64 if hidden_size is None else hidden_size, bidirectional=True, dropout_after=0.3
    )
    recipe = Recipe(
        dataset="splice",
        model=model,
        execution=execution,
        layers=(layer,),
        pooling="max",
        input_size=9,
        embedding_size=16,
        embedding_dropout=0.1,
        num_classes=3,
        num_steps=60,
        epochs=20,
        batch_size=32,
        batching=batching,
        learning_rate=5e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        gradient_clip=1.0,
        held_out=255,
        tested="last",
        checkpoint_every=100,
        log_every=10,
    )
    return recipe.replace(**changes)
