"""``unspool evaluate``, ``predict``, ``generate``, ``export``, ``demo`` and ``info``."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

import unspool
from unspool._printable import printable
from unspool.cli._app import called
from unspool.cli._errors import user_errors
from unspool.cli._options import Accelerator, Checkpoint, DataDir, Epochs, Seed


def evaluate(
    checkpoint: Checkpoint,
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="Use the test data, or the rows held out in training.")
    ] = "test",
    data_dir: DataDir = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Print the accuracy, the loss and the confusion table of a checkpoint."""
    with user_errors():
        from unspool.training import evaluate as run
        from unspool.training.tables import print_evaluation

        print_evaluation(Console(), run(checkpoint, split=split, data_dir=data_dir, accelerator=accelerator))


def predict(
    checkpoint: Checkpoint,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="FILES", help="More files, as --input.", show_default=False)
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="FILES",
            help="Files of sequences: .ts, .npy, .npz, .csv, .jsonl, or IDX images. For a text model: .txt with one "
            "text per line, or a table: .csv, .tsv, .jsonl. For tags: .txt with one sentence per line, .conllu, or one "
            "word per line.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text to classify; may be repeated.", show_default=False),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of the texts in a table.", show_default="that of the training file")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Character encoding of a file of texts.", show_default="utf-8")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write all probabilities to a .csv, .parquet or .json file.")
    ] = None,
) -> None:
    """Classify new sequences or texts with a checkpoint, or tag their words."""
    with user_errors():
        from unspool.training import predict as run
        from unspool.training.tables import check_output, print_predictions, write_predictions

        if output is not None:
            check_output(output)
        files = [*(source or ()), *(more or ())]
        predictions = run(checkpoint, files, texts=text or None, text_column=text_column, encoding=encoding)
        if output is None:
            print_predictions(Console(), predictions)
        else:
            write_predictions(output, predictions)
            typer.echo(f"wrote {len(predictions):,} predictions to {output}")


def generate(
    checkpoint: Checkpoint,
    prompt: Annotated[str, typer.Option(help="Beginning of the text.", show_default=False)],
    length: Annotated[int, typer.Option(min=1, help="Number of characters to add.")] = 300,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Below 1, likely characters become more likely; 0 takes the most likely.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the characters that are drawn.")] = 0,
) -> None:
    """Continue a text with a character model: see `unspool train lm`."""
    with user_errors():
        from unspool.training import generate as run

        added = run(checkpoint, prompt, length=length, temperature=temperature, seed=seed)
        typer.echo(prompt, nl=False)
        for character in added:
            typer.echo(printable(character, keep="\n\t"), nl=False)
        typer.echo()


def export(
    checkpoint: Checkpoint,
    to: Annotated[Literal["onnx"], typer.Option(help="The format.")] = "onnx",
    streaming: Annotated[
        bool, typer.Option("--streaming", help="One step, with the state as inputs and outputs, not whole sequences.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute with 8-bit integers: a quarter of the size, a little less exact.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="The file to write.", show_default="next to the checkpoint")
    ] = None,
) -> None:
    """Write the model of a checkpoint to a file for ONNX Runtime."""
    with user_errors():
        from unspool.training import export as run
        from unspool.training.tables import print_export

        print_export(Console(), run(checkpoint, output, to=to, streaming=streaming, int8=int8))


def demo(
    output_dir: Annotated[Path, typer.Option(help="Directory for the runs; replaces earlier ones.")] = Path(
        "runs/demo"
    ),
    epochs: Epochs = None,
    seed: Seed = 0,
) -> None:
    """Train LSTM and GRU on Japanese Vowels, looped and unrolled, and print one table."""
    with user_errors():
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
        typer.echo(f"try: {called()} evaluate {shlex.quote(str(results[0].checkpoint))}")


def info() -> None:
    """Print the backends, the threads and the versions."""
    typer.echo(unspool.info())


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to an application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    for command in (evaluate, predict, generate, export, demo, info):
        app.command()(command)
