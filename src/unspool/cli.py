"""The command line: arguments in, a recipe called, a table or a file out.

``unspool --help`` says what there is. It needs the extra: ``pip install 'unspool[train]'``. What takes long to import
is imported by the commands that need it, so that help comes at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:
    raise SystemExit(
        f"unspool's command line needs {error.name}, which is not installed.\n"
        "Install it with: pip install 'unspool[train]'"
    ) from None

import unspool

if TYPE_CHECKING:
    from unspool.training import Recipe

app = typer.Typer(
    name="unspool",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recurrent networks over sequences of any length: train a recipe, test it, classify new sequences.",
    epilog="Start with: unspool train vowels",
)
train_app = typer.Typer(
    no_args_is_help=True,
    help="Train a recipe. It writes its log and its checkpoints to a directory under runs/.",
)
app.add_typer(train_app, name="train")

_OWN = "the recipe's"
_WHAT, _HOW, _FILES, _MACHINE = "What to train", "How", "Files", "Machine"

Model = Annotated[
    Literal["lstm", "gru", "simple_rnn"], typer.Option(help="The recurrent layer.", rich_help_panel=_WHAT)
]
Execution = Annotated[
    Literal["dynamic", "static"],
    typer.Option(help="Loop over the steps there are, or unroll a fixed number.", rich_help_panel=_WHAT),
]
HiddenSize = Annotated[
    int | None,
    typer.Option(min=1, help="Units of the recurrent layer.", show_default=_OWN, rich_help_panel=_WHAT),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the training data.", show_default=_OWN, rich_help_panel=_HOW),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Sequences per step.", show_default=_OWN, rich_help_panel=_HOW)
]
LearningRate = Annotated[
    float | None, typer.Option(min=0.0, help="Adam's learning rate.", show_default=_OWN, rich_help_panel=_HOW)
]
LimitTrain = Annotated[
    int | None, typer.Option(min=1, help="Train on so many sequences only.", show_default="all", rich_help_panel=_HOW)
]
Seed = Annotated[int, typer.Option(min=0, help="Decides the weights, the order and the noise.", rich_help_panel=_HOW)]
OutputDir = Annotated[
    Path | None,
    typer.Option(help="Where to write.", show_default="runs/RECIPE-MODEL-EXECUTION-seedN", rich_help_panel=_FILES),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="UNSPOOL_DATA_DIR",
        help="A directory with MNIST's four .gz files, or with a folder mnist that has them. Without it they are "
        "looked for in the cache, and downloaded into it.",
        rich_help_panel=_FILES,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue the run that is in the output directory.", rich_help_panel=_FILES),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the run that is in the output directory.", rich_help_panel=_FILES),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Steps between checkpoints within an epoch.", show_default=_OWN, rich_help_panel=_FILES),
]
Accelerator = Annotated[
    str, typer.Option(help="auto, cpu, gpu, ... as Lightning names them.", rich_help_panel=_MACHINE)
]
Devices = Annotated[int, typer.Option(min=1, help="How many of them train together.", rich_help_panel=_MACHINE)]
Precision = Annotated[
    str, typer.Option(help="32-true, 64-true, bf16-mixed, ... as Lightning names them.", rich_help_panel=_MACHINE)
]
Checkpoint = Annotated[Path, typer.Argument(help="The best.ckpt or last.ckpt of a run.", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unspool {version('unspool')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@train_app.command("vowels")
def train_vowels(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    hidden_size: HiddenSize = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    limit_train: LimitTrain = None,
    seed: Seed = 0,
    output_dir: OutputDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    checkpoint_every: CheckpointEvery = None,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    precision: Precision = "32-true",
) -> None:
    """Tell nine speakers apart by two spoken vowels: Japanese Vowels, which comes with the package.

    It takes less than a minute. The test figures are those of 370 utterances that took no part in training.
    """
    with _user_errors():
        from unspool.training import vowels_recipe

        recipe = vowels_recipe(
            model,
            execution,
            hidden_size=hidden_size,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            limit_train=limit_train,
            seed=seed,
            checkpoint_every=checkpoint_every,
            precision=precision,
        )
        _train(recipe, output_dir, None, resume, overwrite, accelerator, devices)


@train_app.command("mnist")
def train_mnist(
    model: Model = "lstm",
    execution: Execution = "dynamic",
    data_dir: DataDir = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    limit_train: LimitTrain = None,
    seed: Seed = 0,
    output_dir: OutputDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    checkpoint_every: CheckpointEvery = None,
    accelerator: Accelerator = "auto",
    devices: Devices = 1,
    precision: Precision = "32-true",
) -> None:
    """Read handwritten digits row by row: MNIST as 28 steps of 28 pixels.

    The models have 206,858 (simple_rnn), 819,722 (lstm) and 369,162 (gru) parameters; on a CPU an epoch takes
    minutes. The test figures are those of the 10,000 test images.
    """
    with _user_errors():
        from unspool.training import mnist_recipe

        recipe = mnist_recipe(
            model,
            execution,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            limit_train=limit_train,
            seed=seed,
            checkpoint_every=checkpoint_every,
            precision=precision,
        )
        _train(recipe, output_dir, data_dir, resume, overwrite, accelerator, devices)


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="The test data, or what training held out.")
    ] = "test",
    data_dir: DataDir = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Print the accuracy, the loss and the confusion table of a checkpoint."""
    with _user_errors():
        from unspool.training import evaluate as run
        from unspool.training.tables import print_evaluation

        print_evaluation(Console(), run(checkpoint, split=split, data_dir=data_dir, accelerator=accelerator))


@app.command()
def predict(
    checkpoint: Checkpoint,
    source: Annotated[
        Path,
        typer.Option("--input", help="Sequences: .ts, .npy, .npz, .csv, .jsonl, or IDX images.", show_default=False),
    ],
    output: Annotated[Path | None, typer.Option(help="Write a .csv or .json file instead of printing a table.")] = None,
) -> None:
    """Classify new sequences with a checkpoint."""
    with _user_errors():
        from unspool.training import predict as run
        from unspool.training.tables import check_output, print_predictions, write_predictions

        if output is not None:
            check_output(output)
        predictions = run(checkpoint, source)
        if output is None:
            print_predictions(Console(), predictions)
        else:
            write_predictions(output, predictions)
            _say(f"wrote {len(predictions):,} predictions to {output}")


@app.command()
def demo(
    output_dir: Annotated[Path, typer.Option(help="Where the runs go; former ones are replaced.")] = Path("runs/demo"),
    epochs: Epochs = None,
    seed: Seed = 0,
) -> None:
    """Train LSTM and GRU on Japanese Vowels, looped and unrolled, and print one table."""
    with _user_errors():
        from unspool.training.demo import RUNS
        from unspool.training.demo import demo as run
        from unspool.training.tables import print_demo

        console = Console()
        with console.status("starting") as status:
            results = []
            for result in run(output_dir, epochs=epochs, seed=seed, started=status.update):
                results.append(result)
                recipe = result.recipe
                console.print(
                    f"{len(results)} of {len(RUNS)}: {recipe.model}, {recipe.execution}: "
                    f"test accuracy {result.test_accuracy:.4f}",
                    highlight=False,
                )
        print_demo(console, results)
        _say(f"try: unspool evaluate {results[0].checkpoint}")


@app.command()
def info() -> None:
    """Print the backends, the threads and the versions."""
    typer.echo(unspool.info())


def _train(
    recipe: Recipe,
    output_dir: Path | None,
    data_dir: Path | None,
    resume: bool,
    overwrite: bool,
    accelerator: str,
    devices: int,
) -> None:
    from unspool.training import fit, is_main_process
    from unspool.training.tables import print_result

    name = f"{recipe.dataset}-{recipe.model}-{recipe.execution}-seed{recipe.seed}"
    result = fit(
        recipe,
        output_dir or Path("runs") / name,
        resume=resume,
        overwrite=overwrite,
        data_dir=data_dir,
        accelerator=accelerator,
        devices=devices,
        report=_say,
    )
    if is_main_process():
        print_result(Console(), result)


def _say(message: str) -> None:
    typer.echo(message)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what a user can mend into one message and exit code 2; all else keeps its traceback."""
    try:
        from unspool.training import RunError
    except ModuleNotFoundError as error:
        typer.echo(f"error: this needs {error.name}; install it with: pip install 'unspool[train]'", err=True)
        raise typer.Exit(2) from None
    from unspool.data import DataError

    try:
        yield
    except (DataError, RunError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def main() -> None:
    """Run the command line."""
    app()
