"""Bach's chorales: which chord comes next?"""

from typing import Any, Literal

from ._recipe import Execution, LayerSpec, ModelName, Recipe, check_choice

StepBatching = Literal["bucketed", "padded", "same-length", "single"]


def chorales_recipe(
    model: ModelName = "lstm",
    execution: Execution = "dynamic",
    batching: StepBatching | None = None,
    *,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for the JSB Chorales: 382 pieces of 24 to 159 chords, each to be predicted from those before.

    Parameters
    ----------
    model : {"lstm", "gru", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over the longest chorale.
    batching : {"padded", "bucketed", "same-length", "single"}, optional
        How chorales are put together; "padded" by default.
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
    batching = batching or "padded"
    check_choice("batching", batching, StepBatching)
    layer = LayerSpec(
        kind=model,
        hidden_size=256 if hidden_size is None else hidden_size,
        input_dropout=0.1,
        dropout_after=0.5,
    )
    recipe = Recipe(
        dataset="chorales",
        model=model,
        execution=execution,
        objective="labels-per-step",
        layers=(layer,),
        pooling="none",
        input_size=88,
        num_classes=88,
        num_steps=159,
        epochs=40,
        batch_size=8,
        batching=batching,
        learning_rate=2e-2,
        weight_decay=1e-2,
        schedule="one_cycle",
        gradient_clip=1.0,
        held_out=0,
        tested="best",
        checkpoint_every=50,
        log_every=5,
    )
    return recipe.replace(**changes)
