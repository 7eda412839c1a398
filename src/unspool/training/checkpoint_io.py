"""Reading and writing checkpoints so that a kill at any moment leaves a whole file."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from .errors import RunError
from .recipes import Recipe

# What `zipfile` raises for bytes that are none, or damaged: it does not say so in one kind of error.
_NO_ARCHIVE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints beside their places, flush them to the disk, and move them there in one operation."""

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
        RunError
            If the file cannot be written.
        """
        if storage_options is not None:
            raise TypeError(f"received storage_options={storage_options!r}; expected None")
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)  # not into the file: PyTorch hides the reason where that fails
        write_whole(target, content.getbuffer(), flush=True)


def write_whole(path: Path, content: bytes | memoryview, *, flush: bool = False) -> None:
    """Write a file so that it is there as a whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes or memoryview
        Its content.
    flush : bool
        Whether to wait until the content is on the disk, so that it outlives a loss of power too.

    Raises
    ------
    RunError
        If it cannot be written. The former file, if there is one, is still there then.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, as `write_whole` does.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        Its content.
    """
    write_whole(path, text.encode())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of a recipe, on the CPU and without unpickling code.

    Parameters
    ----------
    path : str or Path
        The file. Its checksums, which PyTorch writes and does not look at, are compared.

    Raises
    ------
    RunError
        If there is no such file, it is damaged, or it is no checkpoint of a recipe of this version.
    """
    path = Path(path)
    if not path.is_file():
        there = " or ".join(str(file) for file in sorted(path.glob("*.ckpt")))
        hint = f"; did you mean {there}? The run's table named the one that it tested" if there else ""
        raise RunError(f"{path}: no such checkpoint{hint}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    except _NO_ARCHIVE as error:
        raise RunError(f"{path}: no checkpoint, or a damaged one ({error})") from error
    if damaged is not None:
        raise RunError(f"{path}: a damaged checkpoint (the checksum of {damaged} in it is wrong)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: no checkpoint of `unspool train`: it holds more than plain values") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("hyper_parameters"), dict):
        raise RunError(f"{path}: no checkpoint of `unspool train`: it carries no recipe")
    missing = {"recipe", "class_names"} - checkpoint["hyper_parameters"].keys()
    missing |= {"state_dict"} - checkpoint.keys()
    if missing:
        raise RunError(f"{path}: no checkpoint of `unspool train`: it carries no {', '.join(sorted(missing))}")
    try:
        Recipe.from_dict(checkpoint["hyper_parameters"]["recipe"])
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    return checkpoint
