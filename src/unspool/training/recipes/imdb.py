"""IMDB film reviews: the published models, and a better one."""

from typing import Any, Literal

from ._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice

Variant = Literal["published", "improved"]


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
    model : {"lstm", "gru", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over the longest review.
    batching : {"ragged", "padded", "bucketed", "same-length", "single"}, optional
        How reviews are put together; by default "ragged", and "bucketed" for the improved training.
    variant : {"published", "improved"}
        The published training; or a better one, which reads whole reviews of 20,000 words in both directions, drops
        half of the features before and after the layer, and trains in one cycle of the learning rate.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If a name is not known.
    """
    check_choice("model", model, ModelName)
    check_choice("execution", execution, Execution)
    check_choice("variant", variant, Variant)
    improved = variant == "improved"
    batching = batching or ("bucketed" if improved else "ragged")
    check_choice("batching", batching, Batching)
    layer = LayerSpec(
        kind=model,
        hidden_size=128,
        bidirectional=improved,
        recurrent_bias=model == "gru",
        # Keras's orthogonal recurrent weights keep a tanh network at the edge of chaos: it learns on some seeds only.
        init="torch" if model == "simple_rnn" else "keras",
        input_dropout=0.2,
        recurrent_dropout=0.2,
        dropout_after=0.5 if improved else 0.0,
    )
    recipe = Recipe(
        dataset="imdb",
        model=model,
        execution=execution,
        options={"variant": variant},
        layers=(layer,),
        pooling="last",
        input_size=10_000,
        embedding_size=128,
        num_classes=2,
        num_steps=100 if model == "simple_rnn" else 400,
        binary_head=True,
        epochs=2,
        batch_size=32,
        batching=batching,
        learning_rate=1e-3,
        gradient_clip=1.0,  # without it SimpleRNN forgets within an epoch what it had learned
        held_out=2500,
        checkpoint_every=200,
        log_every=20,
    )
    if improved:
        recipe = recipe.replace(
            input_size=20_000,
            embedding_dropout=0.5,
            num_steps=2500,
            learning_rate=5e-3,
            weight_decay=0.1,
            schedule="one_cycle",
        )
    return recipe.replace(**changes)
