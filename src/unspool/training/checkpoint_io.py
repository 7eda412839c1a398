"""Reading and writing checkpoints so that a kill at any moment leaves a whole file."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from unspool._reading import damage_as, open_archive
from unspool._writing import write_whole as write_file
from unspool.training.checkpoint_form import check_checkpoint
from unspool.training.errors import RunError


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
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make {target.parent}: {error.strerror}") from error
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
    try:
        write_file(path, content, flush=flush)
    except OSError as error:
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
    write_whole(path, text.encode(errors="backslashreplace"))  # half of a character, as JSON may hold, has no bytes


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of a recipe, on the CPU and without unpickling code.

    Parameters
    ----------
    path : str or Path
        The file. Its checksums, which PyTorch writes and does not look at, are compared, and all that is in it with
        the recipe's model.

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
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    with damage_as(RunError, f"{path}: no checkpoint, or a damaged one"), open_archive(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename!r} is packed; PyTorch packs nothing")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} in it is wrong")
    with damage_as(RunError, f"{path}: no checkpoint of `unspool train`: it holds more than plain values"):
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    try:
        check_checkpoint(checkpoint)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    return checkpoint
