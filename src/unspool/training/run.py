"""Train a recipe. Plain results come back; printing tables is the caller's."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from unspool._machine import describe_machine, versions
from unspool._reading import damage_as, parsed_json, reason_of
from unspool.training.callbacks import BEST, LAST, LOG, RunRecord, StepSeeds
from unspool.training.checkpoint_form import check_progress, not_finite
from unspool.training.checkpoint_io import AtomicCheckpointIO, read_checkpoint, write_text
from unspool.training.data_modules import SequenceData
from unspool.training.errors import RunError
from unspool.training.metrics import metrics_of
from unspool.training.models import parameter_count
from unspool.training.module import SequenceModule
from unspool.training.progress import EpochProgress
from unspool.training.recipes import Recipe
from unspool.training.results import REPORT, RESULT, ROWS, RunResult, write_rows
from unspool.training.run_lock import alone_in
from unspool.training.summary import LayerSummary
from unspool.training.trainer import make_trainer, quiet_lightning, torch_threads

RECIPE, SPLIT = "recipe.json", "split.json"
_OWN_FILES = (RECIPE, LOG, LAST, BEST, ROWS, RESULT)


def fit(
    recipe: Recipe,
    directory: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    data_dir: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    show: bool = True,
    command: str | None = None,
    report: Callable[[str], None] = lambda _message: None,
) -> RunResult:
    """Train a recipe and test the weights of its best or its last epoch, whichever the recipe says.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    directory : str or Path
        Where to write ``recipe.json``, ``metrics.csv``, ``last.ckpt``, ``best.ckpt``, ``test.npz`` and
        ``result.json``.
    resume : bool
        Continue the run in the directory from its last checkpoint; a finished one only returns its result.
    overwrite : bool
        Replace the run in the directory.
    data_dir : str or Path, optional
        Where data sets lie that the package does not ship.
    accelerator : str
        Lightning's name of the kind of device.
    devices : int
        How many of them.
    show : bool
        Whether to show a summary of the model and a progress bar.
    command : str, optional
        The command line that asked for the run, for the record.
    report : callable
        Gets one line of text for each thing worth saying.

    Returns
    -------
    RunResult
        The figures.

    Raises
    ------
    RunError
        If the directory holds a run that is not to be continued or replaced, or one of another recipe, or another
        process trains there; if a file cannot be written; if several devices are to train on streams.
    DataError
        If the data cannot be loaded.
    SystemExit
        As Lightning does it after Ctrl-C (code 130) and after SIGTERM (143).

    Notes
    -----
    It seeds torch's global random numbers. On a CPU, a run that was killed and resumed ends with the same weights,
    bit by bit, as one that was not, on the same machine with the same number of threads.
    """
    directory = Path(directory)
    if devices > 1 and recipe.objective == "next-token":
        # A checkpoint has the state that one device's streams carry.
        raise RunError(f"received devices={devices}; {recipe.dataset} is read as streams, on one device. Use 1")
    if is_main_process():
        done = _inspect(recipe, directory, resume, overwrite, report)
        if done is not None:
            return done
    last = directory / LAST
    checkpoint = last if resume and last.is_file() else None
    tokenizer = None if checkpoint is None else read_checkpoint(checkpoint)["hyper_parameters"].get("tokenizer")
    data = SequenceData(recipe, data_dir, tokenizer)
    data.load()
    normalisation = data.normalisation()
    if is_main_process():
        for note in data.notes():
            report(note)
    torch.manual_seed(recipe.seed)
    module = SequenceModule(recipe.to_dict(), data.class_names, data.tokenizer())
    if normalisation is not None:
        module.model.normalise_by(*normalisation)
    if recipe.precision == "64-true":
        # Lightning converts after it has loaded a checkpoint, which would then lose digits.
        module.double()
    parameters = parameter_count(module)
    record = RunRecord(directory, recipe.checkpoint_every, recipe.log_every, recipe.patience)
    callbacks: list[Callback] = [StepSeeds(recipe.seed), record]
    if show:
        callbacks += [EpochProgress(), LayerSummary()]
    with ExitStack() as stack:
        stack.enter_context(quiet_lightning())
        stack.enter_context(torch_threads(recipe.threads))
        trainer = make_trainer(
            recipe,
            accelerator=accelerator,
            devices=devices,
            max_epochs=recipe.epochs,
            gradient_clip_val=recipe.gradient_clip,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=show,
            enable_model_summary=show,
            default_root_dir=directory,
        )
        if is_main_process():
            stack.enter_context(alone_in(directory, report))
            _start(recipe, directory, resume)
            split = data.split()
            if split is not None:
                write_text(directory / SPLIT, json.dumps(split, indent=1) + "\n")
        try:
            with _continuing(checkpoint, record):
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            tested = record.best if recipe.tested == "best" else record.last
            if tested is None:
                raise RunError(f"no epoch was trained: epochs={recipe.epochs}; choose at least 1")
            trained = read_checkpoint(directory / (BEST if recipe.tested == "best" else LAST))
            wrong = not_finite(trained["state_dict"])
            if wrong:
                report(f"the training diverged: {wrong}. Train again with a smaller --learning-rate")
            module.load_state_dict(trained["state_dict"])
            trainer.test(module, datamodule=data, verbose=False)
        except SystemExit as end:  # how Lightning ends after Ctrl-C and after SIGTERM
            report("interrupted; the same command with --resume continues")
            signal_number = signal.SIGTERM if isinstance(end, SIGTERMException) else signal.SIGINT
            raise SystemExit(128 + signal_number) from None
        rows = module.test_rows()  # all devices, since they exchange theirs
        result = RunResult(
            directory=directory,
            recipe=recipe,
            parameters=parameters,
            epoch=int(tested["epoch"]),
            val_loss=tested["val_loss"],
            val_accuracy=tested["val_accuracy"],
            test_loss=float(trainer.callback_metrics["test_loss"]),
            test_accuracy=float(trainer.callback_metrics["test_accuracy"]),
            seconds_per_epoch=sum(row["seconds"] for row in record.epochs) / len(record.epochs),
            class_names=module.class_names,
            command=command,
            versions=versions("unspool", "torch", "lightning", "numpy"),
            machine=describe_machine(),
            metrics=metrics_of(module, rows),
        )
        if trainer.is_global_zero:
            write_rows(directory, rows)
            result.write()
    return result


@contextmanager
def _continuing(checkpoint: Path | None, record: RunRecord) -> Iterator[None]:
    """Turn what goes wrong while a checkpoint is taken up into one error; nothing of it was trained on then."""
    try:
        yield
    except Exception as error:
        if checkpoint is None or record.started:
            raise
        raise RunError(
            f"{checkpoint}: the run cannot be continued from it ({reason_of(error)}); start again with --overwrite"
        ) from error


def is_main_process() -> bool:
    """Return whether this is the process that the user started, not one that Lightning added for another device."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _inspect(
    recipe: Recipe, directory: Path, resume: bool, overwrite: bool, report: Callable[[str], None]
) -> RunResult | None:
    """Refuse what is not to be done in a directory, or return the result of a run that is finished there."""
    if resume and overwrite:
        raise RunError("received both --resume and --overwrite; a run is either continued or replaced")
    try:
        present = [name for name in _OWN_FILES if (directory / name).exists()]
    except OSError as error:
        raise RunError(f"cannot look into {directory}: {error.strerror}; name another with --output-dir") from error
    if present and not resume and not overwrite:
        raise RunError(
            f"{directory} holds a run already ({', '.join(present)}); continue it with --resume, replace it with "
            "--overwrite, or name another place with --output-dir"
        )
    if resume and present:
        if RECIPE not in present:
            raise RunError(
                f"{directory} has {', '.join(present)} but no {RECIPE}, so it cannot be continued; replace what is "
                "there with --overwrite, or name another place with --output-dir"
            )
        stored = _stored(directory / RECIPE)
        _refuse_changed_files(recipe, stored, directory)
        differences = recipe.differences(stored)
        if differences:
            raise RunError(
                f"the run in {directory} has other settings ({'; '.join(differences)}); resume it with the same "
                "command, or start another run with --output-dir"
            )
        done = RunResult.read(directory)
        if done is not None:
            report(f"the run in {directory} is finished; this is its result")
            return done
        if (directory / LAST).is_file():
            try:
                checkpoint = read_checkpoint(directory / LAST)
                check_progress(checkpoint)
            except RunError as error:
                raise RunError(f"{error}; start again with --overwrite") from error
            report(f"continuing in {directory} after step {checkpoint['global_step']}")
            return None
    if resume:
        report(f"no checkpoint in {directory} yet; starting with the first step")
    return None


def _stored(path: Path) -> Recipe:
    try:
        with damage_as(RunError, "no JSON"):
            fields = parsed_json(path.read_text(encoding="utf-8"))
        return Recipe.from_dict(fields)
    except RunError as error:
        raise RunError(f"{path}: no recipe, or a damaged one ({error}); start again with --overwrite") from error


def _refuse_changed_files(recipe: Recipe, stored: Recipe, directory: Path) -> None:
    for name, checksum in (("data", "sha256"), ("test", "test_sha256")):
        mine, its = recipe.options, stored.options
        if mine.get(name) == its.get(name) and mine.get(checksum) != its.get(checksum):
            raise RunError(
                f"{mine[name]} has changed since the run in {directory} was started (its sha256 was {its[checksum]}, "
                f"and is {mine[checksum]}). Put the former content back, or start another run with --output-dir"
            )


def _start(recipe: Recipe, directory: Path, resume: bool) -> None:
    """Make the directory ready: a run that is not resumed finds it without the files of a former one."""
    if not resume:
        try:
            for name in (*_OWN_FILES, REPORT, SPLIT):
                (directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot replace {error.filename or directory}: {error.strerror}; name another place with --output-dir"
            ) from error
    write_text(directory / RECIPE, json.dumps(recipe.to_dict(), indent=2) + "\n")
