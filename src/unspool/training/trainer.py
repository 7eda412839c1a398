"""How the recipes use Lightning's Trainer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from unspool.training.errors import RunError
from unspool.training.recipes import Recipe


def make_trainer(recipe: Recipe, *, accelerator: str, devices: int = 1, **options: Any) -> pl.Trainer:
    """Return a Trainer for a recipe, without Lightning's own loggers.

    Parameters
    ----------
    recipe : Recipe
        Gives the precision.
    accelerator : str
        Lightning's name of the kind of device.
    devices : int
        How many of them.
    **options
        Further arguments of the Trainer.

    Raises
    ------
    RunError
        If Lightning refuses the accelerator, the devices or the precision, or the precision is too low to train in.
    """
    if recipe.precision == "16-true":
        # Adam divides by a root to which it adds 1e-8: nothing, in 16 bits.
        raise RunError("received precision=16-true, in which Adam divides by zero; use 16-mixed or bf16-true")
    try:
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=recipe.precision,  # pyright: ignore[reportArgumentType]
            logger=False,
            **options,
        )
    except (MisconfigurationException, ValueError) as error:
        raise RunError(
            f"Lightning cannot use accelerator={accelerator}, devices={devices}, precision={recipe.precision}: {error}"
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's remarks on what hardware there is; its warnings stay, but for one about its own code."""
    loggers = [logging.getLogger(f"lightning.{part}.utilities.rank_zero") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use so many threads within the block; None leaves their number as it is."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
