"""Rebuild a trained module from its checkpoint, and test it."""

from pathlib import Path
from typing import Literal

from unspool._reading import damage_as
from unspool.data import WORD_LENGTH, DataError, WordEncoder
from unspool.training.checkpoint_form import not_finite
from unspool.training.checkpoint_io import read_checkpoint
from unspool.training.data_modules import SequenceData
from unspool.training.errors import RunError
from unspool.training.metrics import confusion_of, metrics_of
from unspool.training.models import parameter_count
from unspool.training.module import SequenceModule
from unspool.training.results import Evaluation
from unspool.training.sequence_parts import SequenceEncoder
from unspool.training.sources import Rows, source_of
from unspool.training.trainer import make_trainer, quiet_lightning


def load_module(checkpoint: str | Path) -> SequenceModule:
    """Rebuild the module of a checkpoint, ready to classify, on the CPU.

    Parameters
    ----------
    checkpoint : str or Path
        A file that `fit` wrote.

    Returns
    -------
    SequenceModule
        In evaluation mode.

    Raises
    ------
    RunError
        If it is no such file, made by another version of unspool, or its weights are not finite.
    """
    loaded = read_checkpoint(checkpoint)
    wrong = not_finite(loaded["state_dict"])
    if wrong:
        raise RunError(
            f"{checkpoint}: its weights are no numbers to compute with ({wrong}): the training diverged. Train again "
            "with a smaller --learning-rate"
        )
    with damage_as(RunError, f"{checkpoint}: its weights are not those of its recipe's model"):
        module = SequenceModule(**loaded["hyper_parameters"])
        module.load_state_dict(loaded["state_dict"])
    _check_tokenizer(module, checkpoint)
    return module.eval()


def _check_tokenizer(module: SequenceModule, checkpoint: str | Path) -> None:
    if module.tokenizer is None:
        return
    try:
        tokenizer = source_of(module.recipe).read_tokenizer(module.tokenizer)
    except DataError as error:
        raise RunError(f"{checkpoint}: {error}") from error
    recipe = module.recipe
    if isinstance(tokenizer, SequenceEncoder):
        if tokenizer.input_size != recipe.input_size:
            raise RunError(
                f"{checkpoint}: its encoder makes {tokenizer.input_size} features; expected those of a model of "
                f"{recipe.input_size}"
            )
        return
    size = tokenizer.vocabulary_size
    characters = tokenizer.alphabet_size if isinstance(tokenizer, WordEncoder) else 0
    if recipe.embedding_size is None or size > recipe.input_size or characters > recipe.alphabet_size:
        raise RunError(
            f"{checkpoint}: its tokenizer has {size} numbers; expected one for a model of {recipe.input_size}"
        )


def _check_data(rows: Rows, module: SequenceModule, checkpoint: str | Path) -> None:
    """Refuse to test a model on rows of another form than those that it was trained on."""
    recipe = module.recipe
    if tuple(rows.class_names) != module.class_names:
        raise RunError(f"{checkpoint}: its class_names are not those of {recipe.dataset}")
    first = rows[0] if recipe.objective == "next-token" else rows[0][0]
    features = first.shape[-1] if recipe.objective != "next-token" and first.dim() == 2 else None
    expected = recipe.input_size if recipe.embedding_size is None else None
    if features != (1 + WORD_LENGTH if recipe.character_size else expected):
        raise RunError(
            f"{checkpoint}: its model has input_size={recipe.input_size} and embedding_size={recipe.embedding_size}; a "
            f"step of {recipe.dataset} is {'a token' if features is None else f'{features} numbers'}"
        )


def evaluate(
    checkpoint: str | Path,
    *,
    split: Literal["test", "validation"] = "test",
    data_dir: str | Path | None = None,
    accelerator: str = "auto",
) -> Evaluation:
    """Test a checkpoint on its recipe's data.

    Parameters
    ----------
    checkpoint : str or Path
        A file that `fit` wrote; the recipe is in it.
    split : {"test", "validation"}
        The test rows, or the rows that were held out in training.
    data_dir : str or Path, optional
        Where data sets lie that the package does not ship.
    accelerator : str
        Lightning's name of the kind of device.

    Raises
    ------
    RunError
        If the file is no checkpoint, or one of another form of the data.
    DataError
        If the data cannot be loaded.
    """
    module = load_module(checkpoint)
    data = SequenceData(module.recipe, data_dir, module.tokenizer)
    _check_data(data.test if split == "test" else data.validation, module, checkpoint)
    with quiet_lightning():
        trainer = make_trainer(
            module.recipe,
            accelerator=accelerator,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        trainer.test(module, dataloaders=loader, verbose=False)
    rows = module.test_rows()
    return Evaluation(
        recipe=module.recipe,
        parameters=parameter_count(module),
        accuracy=float(trainer.callback_metrics["test_accuracy"]),
        loss=float(trainer.callback_metrics["test_loss"]),
        sequences=len(rows.lengths),
        steps=int(rows.lengths.sum()),
        confusion=confusion_of(module, rows),
        class_names=module.class_names,
        metrics=metrics_of(module, rows),
    )
