"""Rebuild a trained module from its checkpoint, and test it."""

from pathlib import Path
from typing import Literal

from torchmetrics.functional.classification import multiclass_confusion_matrix

from .checkpoint_io import read_checkpoint
from .data_modules import SequenceData
from .errors import RunError
from .models import parameter_count
from .module import SequenceModule
from .results import Evaluation
from .trainer import make_trainer, quiet_lightning


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
        If it is no such file, or made by another version of unspool.
    """
    loaded = read_checkpoint(checkpoint)
    module = SequenceModule(**loaded["hyper_parameters"])
    try:
        module.load_state_dict(loaded["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{checkpoint}: its weights are not those of its recipe's model ({reason})") from error
    return module.eval()


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
        If the file is no checkpoint.
    DataError
        If the data cannot be loaded.
    """
    module = load_module(checkpoint)
    data = SequenceData(module.recipe, data_dir, module.tokenizer)
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
    confusion = multiclass_confusion_matrix(rows.predicted, rows.labels, module.recipe.num_classes)
    return Evaluation(
        recipe=module.recipe,
        parameters=parameter_count(module),
        accuracy=float(trainer.callback_metrics["test_accuracy"]),
        loss=float(trainer.callback_metrics["test_loss"]),
        sequences=len(rows.lengths),
        steps=int(rows.lengths.sum()),
        confusion=confusion.tolist() if len(rows.labels) else None,
        class_names=module.class_names,
    )
