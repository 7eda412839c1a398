"""``unspool train sequences``: one's own sequences of numbers."""

from typing import Annotated, Literal

import typer

from unspool.cli._options import Batching, Encoding, Execution, Model
from unspool.cli.train import recipe_command
from unspool.training.recipes.sequences import LEAST_SIZE, MOST_EPOCHS, MOST_STEPS, SEQUENCES

_DATA, _WHAT = "Data", "What to train"


def _option(*names: str, help: str, panel: str = _DATA, **options: object) -> typer.models.OptionInfo:
    return typer.Option(*names, help=help, rich_help_panel=panel, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


@recipe_command(
    SEQUENCES,
    needs_data=False,
    hidden_size=f"{LEAST_SIZE} to {SEQUENCES.layers[0].hidden_size}, by the amount of data",
    epochs=f"up to {MOST_EPOCHS}, by the amount of data",
    batch_size="8 to 256, by the amount of data",
    batching="padded if all lengths are equal, else bucketed",
)
def sequences(
    data: Annotated[
        str,
        _option(
            "--data",
            help="Table (.csv, .tsv, .jsonl, .parquet; also .gz, .xz), .ts, .npz, .npy, or a folder or quoted pattern "
            "of files with one sequence each.",
            show_default=False,
            metavar="SOURCE",
        ),
    ],
    task: Annotated[
        Literal["classify", "regress", "label-steps"],
        _option(help="Predict a class or a number per sequence, or one of these for each step.", panel=_WHAT),
    ] = "classify",
    sequence_column: Annotated[str | None, _option(help="Column that says which sequence a row belongs to.")] = None,
    time_column: Annotated[
        str | None, _option(help="Column of times, numbers or dates, which must ascend within a sequence.")
    ] = None,
    features: Annotated[
        str | None, _option(help="Columns of the features, with commas between.", show_default="all numeric ones")
    ] = None,
    categorical: Annotated[str, _option(help="Features that are categories, though they look like numbers.")] = "",
    target: Annotated[
        str | None, _option(help="Column of what is predicted; several with commas if they are numbers.")
    ] = None,
    labels: Annotated[
        str | None,
        _option(help="Table with a label per sequence; [bold]folder[/bold]: the folder of a file is its class."),
    ] = None,
    group_column: Annotated[
        str | None, _option(help="Column of patients, machines, ...: what belongs to one stays together in a split.")
    ] = None,
    sort: Annotated[bool, _option("--sort", help="Sort the steps of a sequence by time.")] = False,
    wide: Annotated[bool, _option("--wide", help="Each column of the table is a sequence.")] = False,
    test: Annotated[
        str | None, _option(help="Test on this source.", show_default="a tenth of the sequences, of few a fifth")
    ] = None,
    missing: Annotated[
        Literal["mask", "mean", "zero", "forward"],
        _option(help="Replace missing values; [bold]mask[/bold] is the mean beside a feature that says so."),
    ] = "mask",
    encoding: Encoding = "utf-8",
    model: Model = "lstm",
    execution: Execution = "dynamic",
    batching: Batching = None,
    layers: Annotated[int, _option(min=1, max=16, help="Number of recurrent layers.", panel=_WHAT)] = 1,
    hidden_size: Annotated[
        int | None,
        _option("--hidden", min=1, help="Units of a layer, in each direction.", panel=_WHAT),
    ] = None,
    bidirectional: Annotated[
        bool | None,
        _option(
            "--bidirectional/--one-way",
            help="Read sequences in both directions.",
            panel=_WHAT,
            show_default="both, unless a single sequence is divided in time",
        ),
    ] = None,
    cell: Annotated[
        str | None,
        _option(
            metavar="module:Class", help="A cell of your own, made by Class(input_size, hidden_size).", panel=_WHAT
        ),
    ] = None,
    stride: Annotated[
        int | None,
        _option(
            min=1,
            help="Make one step of so many, with their mean and standard deviation.",
            panel=_WHAT,
            show_default=f"so that there are {MOST_STEPS:,} at most",
        ),
    ] = None,
    class_weights: Annotated[
        Literal["none", "balanced"],
        _option(help="Let each error of a rare class count for more.", panel=_WHAT),
    ] = "none",
) -> None:
    """Classify your own sequences of numbers, predict a number for each, or label their steps.

    Sensors, machines, patients, prices: sequences of any lengths, in a table with a row per step, or a file for each.
    Features are scaled and gaps are filled by the training part alone. Without `--test`, some of the sequences are kept
    for testing; of the others some are held out to choose the best epoch. `split.json` says which.
    """
