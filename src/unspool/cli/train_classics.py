"""``unspool train``: the classic data sets for recurrent networks."""

from typing import TYPE_CHECKING, Any

from ._options import (
    Execution,
    Features,
    Fold,
    Folds,
    HiddenSize,
    Model,
    RecipesBatching,
    StepBatching,
    Steps,
)
from .train import recipe_command

if TYPE_CHECKING:
    from unspool.training import Recipe


@recipe_command("digits")
def digits(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    features: Features = "log_mel",
    hidden_size: HiddenSize = None,
    **changes: Any,
) -> "Recipe":
    """Understand spoken digits: 3,000 recordings of six speakers, as mel bands or as samples.

    The test figures are those of 300 recordings of the same speakers that took no part in training.
    """
    from unspool.training import digits_recipe

    return digits_recipe(model, execution, batching, features, hidden_size=hidden_size, **changes)


@recipe_command("names")
def names(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    hidden_size: HiddenSize = None,
    **changes: Any,
) -> "Recipe":
    """Tell the language of a surname by its characters: 20,050 surnames of 18 languages.

    The test figures are those of 3,998 surnames, none of which was trained on.
    """
    from unspool.training import names_recipe

    return names_recipe(model, execution, batching, hidden_size=hidden_size, **changes)


@recipe_command("splice")
def splice(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    hidden_size: HiddenSize = None,
    **changes: Any,
) -> "Recipe":
    """Find where exons begin and end in DNA: 3,190 stretches of 60 bases, three classes.

    The test figures are those of 635 stretches, none of which was trained on.
    """
    from unspool.training import splice_recipe

    return splice_recipe(model, execution, batching, hidden_size=hidden_size, **changes)


@recipe_command("promoters")
def promoters(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    fold: Fold = 0,
    folds: Folds = 10,
    hidden_size: HiddenSize = None,
    **changes: Any,
) -> "Recipe":
    """Tell promoters from other DNA: 106 stretches of 57 bases, tested by cross-validation.

    A run tests one of the folds; the figure to compare is that over all of them.
    """
    from unspool.training import promoters_recipe

    return promoters_recipe(model, execution, batching, fold, folds, hidden_size=hidden_size, **changes)


@recipe_command("chorales")
def chorales(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: StepBatching = None,
    hidden_size: HiddenSize = None,
    **changes: Any,
) -> "Recipe":
    """Guess the next chord of Bach's chorales: 382 pieces as sets of piano keys.

    The loss is the negative log-likelihood of a chord, in nats; the accuracy that of music transcription.
    """
    from unspool.training import chorales_recipe

    return chorales_recipe(model, execution, batching, hidden_size=hidden_size, **changes)


@recipe_command("shakespeare")
def shakespeare(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    steps: Steps = None,
    hidden_size: HiddenSize = None,
    **changes: Any,
) -> "Recipe":
    """Guess the next character of Shakespeare's plays, by truncated backpropagation through time.

    The loss is in nats per character. `unspool generate` lets the model go on with a text.
    """
    from unspool.training import shakespeare_recipe

    return shakespeare_recipe(model, execution, steps=steps, hidden_size=hidden_size, **changes)
