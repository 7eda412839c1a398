"""Reading and writing checkpoints so that a kill at any moment leaves a whole file."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from .errors import RunError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, flush it to the disk, and move it there in one operation."""

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            What to save.
        path : path
            The file; its former content stays until the new one is complete.
        storage_options : None
            Not used.

        Raises
        ------
        TypeError
            If storage options are given.
        """
        if storage_options is not None:
            raise TypeError(f"received storage_options={storage_options!r}; expected None")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there as a whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        Its content.
    """
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="")
    part.replace(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of a recipe, on the CPU and without unpickling code.

    Parameters
    ----------
    path : str or Path
        The file.

    Raises
    ------
    RunError
        If there is no such file, or it is no checkpoint of a recipe.
    """
    path = Path(path)
    if not path.is_file():
        hint = f"; did you mean {path / 'best.ckpt'}?" if (path / "best.ckpt").is_file() else ""
        raise RunError(f"{path}: no such checkpoint{hint}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or "it ends early"
        raise RunError(f"{path}: no checkpoint, or a damaged one ({reason})") from error
    if not isinstance(checkpoint, dict) or "recipe" not in checkpoint.get("hyper_parameters", {}):
        raise RunError(f"{path}: no checkpoint of `unspool train`: it carries no recipe")
    return checkpoint
