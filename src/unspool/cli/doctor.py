"""``unspool doctor``."""

import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from unspool.cli._errors import one_message, user_errors
from unspool.cli._options import DataDir
from unspool.cli._targets import TargetError, find, made

_MARGIN = 18
"""Columns before the text: two spaces, the longest label, two spaces."""


def doctor(
    target: Annotated[
        str,
        typer.Argument(
            help="The model: package.module:name or path/to/file.py:name, where name is a module, or a function or "
            "class that makes one without arguments; or the .ckpt file of a training run. The file or package is "
            "imported, which runs its code: name only what you trust.",
            show_default=False,
        ),
    ],
    sample: Annotated[
        str | None,
        typer.Option(
            help="A sample batch: package.module:name or path/to/file.py:name, where name is the model's argument, a "
            "tuple of arguments or (args, kwargs), or a function that returns one of these.",
            show_default="`sample` next to the model; a run's test data",
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time each torch.nn layer by itself, unchanged and changed.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Report what runs each recurrent part of a model, why nothing faster does, and what to change.

    It also shows how much of the input is padding. The model runs once on the sample batch.
    """
    import unspool
    from unspool.doctor import SampleError

    with one_message(TargetError, SampleError):
        model, args, kwargs = _checkpoint(target, data_dir) if target.endswith(".ckpt") else _model(target, sample)
        if sample is not None:
            args, kwargs = _arguments(made(find(sample)[1], sample))
        diagnosis = unspool.doctor(model, *args, measure=measure, **kwargs)
    print_diagnosis(Console(), diagnosis)


def print_diagnosis(console: Console, diagnosis: Any) -> None:
    """Print one block per recurrent part.

    Parameters
    ----------
    console : Console
    diagnosis : unspool.doctor.Diagnosis
    """
    # Text, so that nothing is interpreted as markup.
    for finding in diagnosis.findings:
        console.print(Text(finding.title, style="bold"))
        begun = ""
        for label, text in finding.rows():
            begun = label or begun
            # Code stays on one line, so that it can be copied.
            lines = [text] if begun == "change" else textwrap.wrap(text, max(console.width - _MARGIN, 20))
            for k, line in enumerate(lines):
                margin = f"  {'' if k else label}".ljust(_MARGIN)
                console.print(Text.assemble((margin, "dim"), line), soft_wrap=True)
    for sentence in diagnosis.not_called:
        console.print(Text(sentence))
    console.print(Text(diagnosis.summary, style="bold"))


def _model(target: str, sample: str | None) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the model that a target names, and its arguments from `sample` next to it unless --sample is given."""
    from torch import nn

    module, value = find(target)
    model = made(value, target)
    if not isinstance(model, nn.Module):
        raise TargetError(f"{target} is {type(model).__name__}; expected a torch.nn.Module or a function making one.")
    if sample is not None:
        return model, (), {}
    beside = getattr(module, "sample", None)
    if beside is None:
        raise TargetError(
            f"there is no sample batch; name a function that returns the arguments of {target} with --sample, or write "
            "a function `sample` next to it."
        )
    return model, *_arguments(made(beside, "sample"))


def _arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return args and kwargs from the result of a user's sample function."""
    if type(value) is tuple and len(value) == 2 and isinstance(value[0], tuple) and isinstance(value[1], dict):
        return value
    return (value if type(value) is tuple else (value,)), {}


def _checkpoint(path: str, data_dir: Path | None) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the network of a training run, and the first batch of its test data."""
    with user_errors():
        from unspool.data import RaggedBatch
        from unspool.training import SequenceData, load_module

        module = load_module(path)
        batch: Any = next(iter(SequenceData(module.recipe, data_dir, module.tokenizer).test_dataloader()))
    if isinstance(batch, RaggedBatch):
        return module.model, (batch,), {}
    return module.model, (batch.inputs, getattr(batch, "lengths", None)), {}


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to an application.

    Parameters
    ----------
    app : typer.Typer
        The application.
    """
    app.command()(doctor)
