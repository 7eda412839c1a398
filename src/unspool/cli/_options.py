"""The options that several commands share, with their help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_OWN = "the recipe's"
_WHAT, _HOW, _FILES, _MACHINE = "What to train", "How", "Files", "Machine"

Model = Annotated[
    Literal["lstm", "gru", "simple_rnn"], typer.Option(help="The recurrent layer.", rich_help_panel=_WHAT)
]
Execution = Annotated[
    Literal["dynamic", "static"],
    typer.Option(help="Loop over the steps there are, or unroll a fixed number.", rich_help_panel=_WHAT),
]
_BATCHING = "Rows drawn at random, without padding or padded; rows of similar length, of one length, or one by one."
Batching = Annotated[
    Literal["ragged", "padded", "bucketed", "same-length", "single"],
    typer.Option(help=_BATCHING, rich_help_panel=_WHAT),
]
RecipesBatching = Annotated[
    Literal["ragged", "padded", "bucketed", "same-length", "single"] | None,
    typer.Option(help=_BATCHING, show_default=_OWN, rich_help_panel=_WHAT),
]
StepBatching = Annotated[
    Literal["bucketed", "padded", "same-length", "single"] | None,
    typer.Option(
        help="Rows drawn at random and padded; rows of similar length, of one length, or one by one.",
        show_default=_OWN,
        rich_help_panel=_WHAT,
    ),
]
Features = Annotated[
    Literal["log_mel", "frames"],
    typer.Option(help="What a step is: 40 mel bands, or 200 samples.", rich_help_panel=_WHAT),
]
Fold = Annotated[int, typer.Option(min=0, help="Which part of the rows is tested on, from 0.", rich_help_panel=_WHAT)]
Folds = Annotated[int, typer.Option(min=2, help="Into how many parts the rows are divided.", rich_help_panel=_WHAT)]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="Characters of a window, at whose start gradients end.", show_default=_OWN, rich_help_panel=_HOW
    ),
]
Variant = Annotated[
    Literal["published", "improved"],
    typer.Option(help="The published training, or a better one.", rich_help_panel=_WHAT),
]
TextFile = Annotated[
    Path,
    typer.Option(
        "--data",
        help="The texts and their labels: .csv, .tsv or .jsonl, also with .gz or .xz.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
TextColumn = Annotated[str, typer.Option(help="The column of the texts.", rich_help_panel=_WHAT)]
LabelColumn = Annotated[str, typer.Option(help="The column of the labels.", rich_help_panel=_WHAT)]
TestFile = Annotated[
    Path | None,
    typer.Option(
        "--test", help="Another file, to test on.", show_default="a tenth of the texts", rich_help_panel=_WHAT
    ),
]
Encoding = Annotated[str, typer.Option(help="How the files' characters are written.", rich_help_panel=_WHAT)]
Tokenizer = Annotated[
    Literal["word", "bpe"],
    typer.Option(help="Divide texts into words, or into pieces of words.", rich_help_panel=_WHAT),
]
NumWords = Annotated[
    int, typer.Option(min=5, help="Know so many words, or pieces; the most frequent ones.", rich_help_panel=_WHAT)
]
MaxLength = Annotated[
    int, typer.Option(min=1, help="Read so many words, or pieces, from the end of a text.", rich_help_panel=_WHAT)
]
HiddenSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Units of the recurrent layer, in each direction.", show_default=_OWN, rich_help_panel=_WHAT
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the training data.", show_default=_OWN, rich_help_panel=_HOW),
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Sequences, or streams of a text, per step.", show_default=_OWN, rich_help_panel=_HOW),
]
LearningRate = Annotated[
    float | None, typer.Option(min=0.0, help="Adam's learning rate.", show_default=_OWN, rich_help_panel=_HOW)
]
LimitTrain = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train on so many sequences, or characters of a text, only.",
        show_default="all",
        rich_help_panel=_HOW,
    ),
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
        help="Where data sets lie, each in a folder of its name. Without it they are looked for in the cache, and "
        "downloaded into it where there is an address.",
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
