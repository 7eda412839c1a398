"""Bach's chorales: which chord comes next?"""

from typing import Any, Literal

from unspool.training.recipes._recipe import Execution, LayerSpec, ModelName, Recipe, vary

StepBatching = Literal["bucketed", "padded", "same-length", "single"]

CHORALES = Recipe(
    dataset="chorales",
    model="lstm",
    execution="dynamic",
    objective="labels-per-step",
    layers=(LayerSpec(kind="lstm", hidden_size=256, input_dropout=0.1, dropout_after=0.5),),
    pooling="none",
    input_size=88,
    num_classes=88,
    num_steps=159,
    epochs=40,
    batch_size=8,
    learning_rate=2e-2,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=0,
    checkpoint_every=50,
    log_every=5,
)


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
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "padded" by default.
    hidden_size : int, optional
        Units of the layer; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known.
    """
    return vary(CHORALES, model, execution, batching, hidden_size, StepBatching).replace(**changes)
