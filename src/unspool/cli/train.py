"""``unspool train``: a command for each recipe."""

import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from unspool.cli._errors import user_errors
from unspool.cli._options import (
    Accelerator,
    Batching,
    BatchSize,
    CheckpointEvery,
    DataDir,
    Devices,
    Encoding,
    Epochs,
    Execution,
    Features,
    Fold,
    Folds,
    HiddenSize,
    LabelColumn,
    LearningRate,
    LimitTrain,
    MaxLength,
    Model,
    NumWords,
    OutputDir,
    Overwrite,
    Precision,
    RecipesBatching,
    Resume,
    Seed,
    StepBatching,
    Steps,
    TestFile,
    TextColumn,
    TextFile,
    Tokenizer,
    Variant,
)

if TYPE_CHECKING:
    from unspool.training import Recipe

train_app = typer.Typer(
    no_args_is_help=True,
    help="Train a recipe; the log and the checkpoints go to a directory under runs/.",
)


def _run(
    recipe: "Recipe",
    data_dir: DataDir = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
) -> None:
    from unspool.training import fit, is_main_process
    from unspool.training.tables import print_result

    result = fit(
        recipe,
        output_dir or Path("runs") / recipe.name,
        resume=resume,
        overwrite=overwrite,
        data_dir=data_dir,
        accelerator=accelerator,
        devices=devices,
        command=shlex.join(["unspool", *sys.argv[1:]]),
        report=typer.echo,
    )
    if is_main_process():
        print_result(Console(), result)


def _changes(
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    limit_train: LimitTrain = None,
    seed: Seed = 0,
    checkpoint_every: CheckpointEvery = None,
    precision: Precision = "32-true",
) -> None:
    """Declare the options that are fields of every recipe."""


def recipe_command(*, needs_data: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a declaration: its options, and those that all recipes share, go to the recipe of its name.

    Parameters
    ----------
    needs_data : bool
        Whether the user can name the directory of the data.
    """

    def decorate(declared: Callable[..., None]) -> Callable[..., None]:
        name = declared.__name__
        own = list(inspect.signature(declared).parameters.values())
        shared = list(inspect.signature(_changes).parameters.values())
        running = list(inspect.signature(_run).parameters.values())[1:]
        if not needs_data:
            running = [parameter for parameter in running if parameter.name != "data_dir"]
        for_recipe = {parameter.name for parameter in [*own, *shared]}

        def command(**given: Any) -> None:
            with user_errors():
                from unspool import training

                make = getattr(training, f"{name}_recipe")
                recipe = make(**{key: value for key, value in given.items() if key in for_recipe})
                _run(recipe, **{key: value for key, value in given.items() if key not in for_recipe})

        command.__name__, command.__doc__, command.__annotations__ = name, declared.__doc__, {}
        command.__signature__ = inspect.Signature([*own, *shared, *running])  # pyright: ignore[reportAttributeAccessIssue]
        return train_app.command(name)(command)

    return decorate


@recipe_command(needs_data=False)
def vowels(model: Model = "lstm", execution: Execution = "dynamic", hidden_size: HiddenSize = None) -> None:
    """Classify nine speakers by two spoken vowels: Japanese Vowels, included in the package.

    This takes less than a minute. The test results are on 370 utterances that took no part in training.
    """


@recipe_command()
def mnist(model: Model = "lstm", execution: Execution = "dynamic") -> None:
    """Classify handwritten digits row by row: MNIST as 28 steps of 28 pixels.

    The models have 206,858 (simple_rnn), 819,722 (lstm) and 369,162 (gru) parameters; on a CPU an epoch takes
    some 10 to 40 seconds. The test results are on the 10,000 test images.
    """


@recipe_command()
def imdb(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    variant: Variant = "published",
) -> None:
    """Classify film reviews as positive or negative: IMDB, 25,000 reviews for training and as many for testing.

    The published models have 1,411,713 (lstm), 1,379,201 (gru) and 1,313,025 (simple_rnn) parameters and are trained
    for two epochs; `--variant improved` reads whole reviews.
    """


@recipe_command(needs_data=False)
def text(
    data: TextFile,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    test: TestFile = None,
    encoding: Encoding = "utf-8",
    tokenizer: Tokenizer = "word",
    num_words: NumWords = 10_000,
    max_length: MaxLength = 400,
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: Batching = "ragged",
) -> None:
    """Classify your own texts: a file with a text and its label in every row.

    Without `--test`, a tenth of the texts is kept for testing, and a tenth of the others is held out to choose the best
    epoch. The checkpoint contains the vocabulary, for `unspool predict --text`.
    """


@recipe_command()
def digits(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    features: Features = "log_mel",
    hidden_size: HiddenSize = None,
) -> None:
    """Classify spoken digits: 3,000 recordings of six speakers, as mel bands or as samples.

    The test results are on 300 recordings of the same speakers that took no part in training.
    """


@recipe_command()
def names(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Classify the language of a surname by its characters: 20,050 surnames of 18 languages.

    The test results are on 3,998 surnames, none of which was trained on.
    """


@recipe_command()
def splice(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Find where exons begin and end in DNA: 3,190 stretches of 60 bases, three classes.

    The test results are on 635 stretches, none of which was trained on.
    """


@recipe_command()
def promoters(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: RecipesBatching = None,
    fold: Fold = 0,
    folds: Folds = 10,
    hidden_size: HiddenSize = None,
) -> None:
    """Classify DNA as promoters or not: 106 stretches of 57 bases, tested by cross-validation.

    A run tests one of the folds; compare the result over all of them.
    """


@recipe_command()
def chorales(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: StepBatching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Predict the next chord of Bach's chorales: 382 pieces as sets of piano keys.

    The loss is the negative log-likelihood of a chord, in nats; the accuracy is that of music transcription.
    """


@recipe_command()
def shakespeare(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    steps: Steps = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Predict the next character of Shakespeare's plays, with truncated backpropagation through time.

    The loss is in nats per character. `unspool generate` continues a text with the model.
    """
