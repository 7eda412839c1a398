"""``unspool train``: a command for each recipe."""

import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console

from unspool.cli._app import App, called
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
    PlainText,
    Precision,
    Resume,
    Seed,
    StepBatching,
    Steps,
    TagColumn,
    TagFile,
    TestFile,
    TextColumn,
    TextFile,
    Tokenizer,
    Variant,
)
from unspool.training.recipes import Recipe
from unspool.training.recipes.chorales import CHORALES
from unspool.training.recipes.digits import DIGITS
from unspool.training.recipes.imdb import IMPROVED, PUBLISHED
from unspool.training.recipes.lm import LEAST_SIZE, LM
from unspool.training.recipes.lm import MOST_EPOCHS as MOST_LM_EPOCHS
from unspool.training.recipes.mnist import MNIST
from unspool.training.recipes.names import NAMES
from unspool.training.recipes.promoters import PROMOTERS
from unspool.training.recipes.shakespeare import SHAKESPEARE
from unspool.training.recipes.splice import SPLICE
from unspool.training.recipes.tags import MOST_EPOCHS as MOST_TAGS_EPOCHS
from unspool.training.recipes.tags import TAGS
from unspool.training.recipes.text import MOST_EPOCHS, TEXT
from unspool.training.recipes.vowels import VOWELS

if TYPE_CHECKING:
    from unspool.training import RunResult

train_app = App(
    help="Train a recipe; the log and the checkpoints go to a directory under runs/.",
)


def _run(
    recipe: Recipe,
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
        typer.echo("next:")
        for words in _next_commands(result, data_dir):
            typer.echo(f"  {called()} {shlex.join(words)}")


def _next_commands(result: "RunResult", data_dir: Path | None) -> Iterator[list[str]]:
    """Yield what there is to do with a run that is finished, as the words after `unspool`."""
    from unspool.training.sources import source_of

    source, checkpoint = source_of(result.recipe), str(result.checkpoint)
    if result.recipe.objective == "next-token":
        yield ["generate", checkpoint, "--prompt", "".join(result.class_names[-1:])]
    elif source.encode is not None or (source.tokenize is not None and result.recipe.embedding_size is not None):
        yield ["predict", checkpoint, "--text", "TEXT"]
    elif result.recipe.embedding_size is None and result.recipe.objective != "labels-per-step":
        yield ["predict", checkpoint, "--input", str(result.recipe.options.get("data", "FILE"))]
    yield ["evaluate", checkpoint, *([] if data_dir is None else ["--data-dir", str(data_dir)])]
    yield ["report", str(result.directory)]


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


def recipe_command(
    recipe: Recipe, other: Recipe | None = None, *, needs_data: bool = True, **described: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a declaration: its options, and those that all recipes share, go to the recipe of its name.

    Parameters
    ----------
    recipe : Recipe
        What help shows as the defaults of options that are None unless given.
    other : Recipe, optional
        That of another `--variant`, whose values are shown too where they differ.
    needs_data : bool
        Whether the user can name the directory of the data.
    **described
        Defaults that depend on the data, in words.
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
                made = make(**{key: value for key, value in given.items() if key in for_recipe})
                _run(made, **{key: value for key, value in given.items() if key not in for_recipe})

        command.__name__, command.__doc__, command.__annotations__ = name, declared.__doc__, {}
        command.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
            [_with_default(parameter, recipe, other, described) for parameter in [*own, *shared, *running]]
        )
        return train_app.command(name)(command)

    return decorate


_FIELDS: dict[str, Callable[[Recipe], Any]] = {
    "batching": lambda recipe: recipe.batching,
    "hidden_size": lambda recipe: recipe.layers[0].hidden_size,
    "steps": lambda recipe: recipe.num_steps,
    "epochs": lambda recipe: recipe.epochs,
    "batch_size": lambda recipe: recipe.batch_size,
    "learning_rate": lambda recipe: recipe.learning_rate,
    "checkpoint_every": lambda recipe: recipe.checkpoint_every,
    "output_dir": lambda recipe: f"runs/{recipe.name}",
}
"""What an option is if it is not given."""


def _with_default(
    parameter: inspect.Parameter, recipe: Recipe, other: Recipe | None, described: dict[str, str]
) -> inspect.Parameter:
    """Return a parameter whose help shows the recipe's own value, if it has one."""
    if parameter.name not in _FIELDS or parameter.default is not None:
        return parameter
    of = _FIELDS[parameter.name]
    text = described.get(parameter.name, str(of(recipe)))
    if other is not None and of(other) != of(recipe) and parameter.name != "output_dir":
        text += f"; {of(other)} if {other.options['variant']}"
    kind, option = get_args(parameter.annotation)
    option = copy(option)
    option.show_default = text
    return parameter.replace(annotation=Annotated[kind, option])


@recipe_command(VOWELS, needs_data=False)
def vowels(model: Model = "lstm", execution: Execution = "dynamic", hidden_size: HiddenSize = None) -> None:
    """Classify nine speakers by two spoken vowels: Japanese Vowels, included in the package.

    This takes less than a minute. The test results are on 370 utterances that took no part in training.
    """


@recipe_command(MNIST)
def mnist(model: Model = "lstm", execution: Execution = "dynamic") -> None:
    """Classify handwritten digits row by row: MNIST as 28 steps of 28 pixels.

    The models have 206,858 (simple_rnn), 819,722 (lstm) and 369,162 (gru) parameters; on a CPU an epoch takes
    some 10 to 40 seconds. The test results are on the 10,000 test images.
    """


@recipe_command(PUBLISHED, IMPROVED)
def imdb(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: Batching = None,
    variant: Variant = "published",
) -> None:
    """Classify film reviews as positive or negative: IMDB, 25,000 reviews for training and as many for testing.

    The published models have 1,411,713 (lstm), 1,379,201 (gru) and 1,313,025 (simple_rnn) parameters and are trained
    for two epochs; `--variant improved` reads whole reviews.
    """


@recipe_command(TEXT, needs_data=False, epochs=f"{TEXT.epochs}, or up to {MOST_EPOCHS} for few texts")
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
    batching: Batching = None,
) -> None:
    """Classify your own texts: a file with a text and its label in every row.

    Without `--test`, a tenth of the texts is kept for testing, and a tenth of the others is held out to choose the best
    epoch. The checkpoint contains the vocabulary, for `unspool predict --text`.
    """


@recipe_command(DIGITS)
def digits(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: Batching = None,
    features: Features = "log_mel",
    hidden_size: HiddenSize = None,
) -> None:
    """Classify spoken digits: 3,000 recordings of six speakers, as mel bands or as samples.

    The test results are on 300 recordings of the same speakers that took no part in training.
    """


@recipe_command(NAMES)
def names(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: Batching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Classify the language of a surname by its characters: 20,050 surnames of 18 languages.

    The test results are on 3,998 surnames, none of which was trained on.
    """


@recipe_command(SPLICE)
def splice(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: Batching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Find where exons begin and end in DNA: 3,190 stretches of 60 bases, three classes.

    The test results are on 635 stretches, none of which was trained on.
    """


@recipe_command(PROMOTERS)
def promoters(
    model: Model = "gru",
    execution: Execution = "dynamic",
    batching: Batching = None,
    fold: Fold = 0,
    folds: Folds = 10,
    hidden_size: HiddenSize = None,
) -> None:
    """Classify DNA as promoters or not: 106 stretches of 57 bases, tested by cross-validation.

    A run tests one of the folds; compare the result over all of them.
    """


@recipe_command(CHORALES)
def chorales(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: StepBatching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Predict the next chord of Bach's chorales: 382 pieces as sets of piano keys.

    The loss is the negative log-likelihood of a chord, in nats; the accuracy is that of music transcription.
    """


@recipe_command(SHAKESPEARE)
def shakespeare(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    steps: Steps = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Predict the next character of Shakespeare's plays, with truncated backpropagation through time.

    The loss is in nats per character. `unspool generate` continues a text with the model.
    """


@recipe_command(TAGS, needs_data=False, epochs=f"{TAGS.epochs}, or up to {MOST_TAGS_EPOCHS} for few sentences")
def tags(
    data: TagFile,
    tag_column: TagColumn = "upos",
    test: TestFile = None,
    encoding: Encoding = "utf-8",
    num_words: NumWords = 20_000,
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: StepBatching = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Tag the words of your own sentences: parts of speech, names, or whatever the tags say.

    A word is known by itself and by its characters, so that words that were never seen have tags too. Without `--test`,
    a tenth of the sentences is kept for testing, and a tenth of the others is held out to choose the best epoch.
    """


@recipe_command(
    LM,
    needs_data=False,
    hidden_size=f"{LEAST_SIZE} to {LM.layers[0].hidden_size}, by the length of the text",
    epochs=f"{LM.epochs}, or up to {MOST_LM_EPOCHS} for a short text",
    batch_size=f"{LM.batch_size}, or fewer for a short text",
)
def lm(
    data: PlainText,
    encoding: Encoding = "utf-8",
    model: Model = "lstm",
    execution: Execution = "dynamic",
    steps: Steps = None,
    hidden_size: HiddenSize = None,
) -> None:
    """Predict the next character of your own text, as `unspool train shakespeare` does of the plays.

    The first nine tenths of the text are for training, the next twentieth for choosing the best epoch, the last for the
    test. The loss is in nats per character. `unspool generate` continues a text with the model.
    """
