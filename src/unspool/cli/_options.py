"""The options that several commands share, with their help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_WHAT, _HOW, _FILES, _MACHINE = "What to train", "How", "Files", "Machine"

Model = Annotated[
    Literal["lstm", "gru", "simple_rnn"], typer.Option(help="The recurrent layer.", rich_help_panel=_WHAT)
]
Execution = Annotated[
    Literal["dynamic", "static"],
    typer.Option(help="Loop over the steps of each batch, or unroll a fixed number.", rich_help_panel=_WHAT),
]
_BATCHING = (
    "{}; [bold]bucketed[/bold] are of similar length, [bold]same-length[/bold] of equal length, [bold]single[/bold] "
    "come one by one."
)
_DRAWN = "[bold]ragged[/bold] or [bold]padded[/bold] sequences are drawn at random"
Batching = Annotated[
    Literal["ragged", "padded", "bucketed", "same-length", "single"] | None,
    typer.Option(help=_BATCHING.format(_DRAWN), metavar="<kind>", rich_help_panel=_WHAT),
]
StepBatching = Annotated[
    Literal["bucketed", "padded", "same-length", "single"] | None,
    typer.Option(
        help=_BATCHING.format("[bold]padded[/bold] sequences are drawn at random"),
        metavar="<kind>",
        rich_help_panel=_WHAT,
    ),
]
Features = Annotated[
    Literal["log_mel", "frames"],
    typer.Option(help="Features of a step: 40 mel bands, or 200 raw samples.", rich_help_panel=_WHAT),
]
Fold = Annotated[int, typer.Option(min=0, help="Test on this part of the rows, counted from 0.", rich_help_panel=_WHAT)]
Folds = Annotated[int, typer.Option(min=2, help="Divide the rows into this many parts.", rich_help_panel=_WHAT)]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Characters per window; gradients stop at its start.", rich_help_panel=_HOW),
]
Variant = Annotated[
    Literal["published", "improved"],
    typer.Option(help="Use the published training, or a better one.", rich_help_panel=_WHAT),
]
TextFile = Annotated[
    Path,
    typer.Option(
        "--data",
        help="File of texts and labels: .csv, .tsv or .jsonl, optionally with .gz or .xz.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
TagFile = Annotated[
    Path,
    typer.Option(
        "--data",
        help="File of tagged words: CoNLL-U (.conllu), or a word and its tag per line with an empty line after each "
        "sentence; optionally with .gz or .xz.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
TagColumn = Annotated[
    str, typer.Option(help="Column of the tags in CoNLL-U: upos, xpos, deprel, ...", rich_help_panel=_WHAT)
]
PlainText = Annotated[
    Path,
    typer.Option("--data", help="Text file, optionally with .gz or .xz.", show_default=False, rich_help_panel=_WHAT),
]
TextColumn = Annotated[str, typer.Option(help="Column of the texts.", rich_help_panel=_WHAT)]
LabelColumn = Annotated[str, typer.Option(help="Column of the labels.", rich_help_panel=_WHAT)]
TestFile = Annotated[
    Path | None,
    typer.Option("--test", help="Test on this file.", show_default="a tenth of the data", rich_help_panel=_WHAT),
]
Encoding = Annotated[str, typer.Option(help="Character encoding of the files.", rich_help_panel=_WHAT)]
Tokenizer = Annotated[
    Literal["word", "bpe", "char"],
    typer.Option(
        help="Split texts into words, into pieces of words, or into characters, as for names and DNA.",
        rich_help_panel=_WHAT,
    ),
]
NumWords = Annotated[
    int,
    typer.Option(min=5, help="Keep this many of the most frequent words, pieces or characters.", rich_help_panel=_WHAT),
]
MaxLength = Annotated[
    int,
    typer.Option(
        min=1, help="Read this many words, pieces or characters from the end of a text.", rich_help_panel=_WHAT
    ),
]
HiddenSize = Annotated[
    int | None,
    typer.Option(min=1, help="Units of the recurrent layer, in each direction.", rich_help_panel=_WHAT),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Passes over the training data.", rich_help_panel=_HOW),
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Sequences, or streams of a text, per step.", rich_help_panel=_HOW),
]
LearningRate = Annotated[float | None, typer.Option(min=0.0, help="Adam's learning rate.", rich_help_panel=_HOW)]
LimitTrain = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train on only this many sequences, or characters of a text.",
        show_default="all",
        rich_help_panel=_HOW,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the weights, the order and the noise.", rich_help_panel=_HOW)]
OutputDir = Annotated[Path | None, typer.Option(help="Directory to write to.", rich_help_panel=_FILES)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="UNSPOOL_DATA_DIR",
        help="Directory of the data sets, each in a folder of its name. By default they are looked for in the cache, "
        "and downloaded into it if an address is known.",
        rich_help_panel=_FILES,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue the run in the output directory.", rich_help_panel=_FILES),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the run in the output directory.", rich_help_panel=_FILES),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Steps between checkpoints within an epoch.", rich_help_panel=_HOW),
]
Accelerator = Annotated[
    str, typer.Option(help="auto, cpu, gpu, ... as Lightning names them.", rich_help_panel=_MACHINE)
]
Devices = Annotated[int, typer.Option(min=1, help="Number of devices to train on.", rich_help_panel=_MACHINE)]
Precision = Annotated[
    str, typer.Option(help="32-true, 64-true, bf16-mixed, ... as Lightning names them.", rich_help_panel=_MACHINE)
]
Checkpoint = Annotated[Path, typer.Argument(help="The best.ckpt or last.ckpt of a run.", show_default=False)]
