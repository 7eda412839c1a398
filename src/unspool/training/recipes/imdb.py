"""IMDB film reviews: the published models, and a better one."""

from dataclasses import replace
from typing import Any, Literal

from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice, vary

Variant = Literal["published", "improved"]

_LAYER = LayerSpec(
    kind="lstm", hidden_size=128, recurrent_bias=False, init="keras", input_dropout=0.2, recurrent_dropout=0.2
)
PUBLISHED = Recipe(
    dataset="imdb",
    model="lstm",
    execution="dynamic",
    options={"variant": "published"},
    layers=(_LAYER,),
    input_size=10_000,
    embedding_size=128,
    num_classes=2,
    num_steps=400,
    binary_head=True,
    epochs=2,
    batch_size=32,
    batching="ragged",
    learning_rate=1e-3,
    gradient_clip=1.0,  # without it SimpleRNN forgets within an epoch what it had learned
    held_out=2500,
    checkpoint_every=200,
    log_every=20,
)
IMPROVED = PUBLISHED.replace(
    options={"variant": "improved"},
    layers=(replace(_LAYER, bidirectional=True, dropout_after=0.5),),
    input_size=20_000,
    embedding_dropout=0.5,
    num_steps=2500,
    batching="bucketed",
    learning_rate=5e-3,
    weight_decay=0.1,
    schedule="one_cycle",
)


def imdb_recipe(
    model: ModelName = "lstm",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    variant: Variant = "published",
    **changes: Any,
) -> Recipe:
    """Return the recipe for IMDB: 25,000 film reviews, positive or negative.

    The published models embed the 10,000 most frequent words in 128 numbers, run one layer of 128 units with input and
    recurrent dropout 0.2 over the last 400 words of a review (SimpleRNN: 100), and have one output: 1,280,000
    parameters, 131,584 (LSTM), 99,072 (GRU) or 32,896 (SimpleRNN), and 129. They are trained for two epochs.

    Parameters
    ----------
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "ragged" by default, and "bucketed" for
        the improved training.
    variant : {"published", "improved"}
        The published training; or a better one, which reads whole reviews of 20,000 words in both directions, drops
        half of the features before and after the layer, and trains in one cycle of the learning rate.

    Raises
    ------
    RunError
        If a name is not known.
    """
    recipe = vary(IMPROVED if variant == "improved" else PUBLISHED, model, execution, batching)
    check_choice("variant", variant, Variant)
    if model == "gru":
        recipe = _with_layer(recipe, recurrent_bias=True)
    if model == "simple_rnn":
        # Keras's orthogonal recurrent weights keep a tanh network at the edge of chaos: it learns on some seeds only.
        recipe = _with_layer(recipe, init="torch")
        recipe = recipe.replace(num_steps=100 if variant == "published" else None)
    return recipe.replace(**changes)


def _with_layer(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.replace(layers=tuple(replace(layer, **changes) for layer in recipe.layers))
