"""Four short runs side by side: LSTM and GRU, looped and unrolled."""

from collections.abc import Callable, Iterator
from pathlib import Path

from unspool.training.recipes import Execution, ModelName, vowels_recipe
from unspool.training.results import RunResult
from unspool.training.run import fit

RUNS: tuple[tuple[ModelName, Execution], ...] = (
    ("lstm", "dynamic"),
    ("lstm", "static"),
    ("gru", "dynamic"),
    ("gru", "static"),
)


def demo(
    directory: str | Path,
    *,
    epochs: int | None = None,
    seed: int | None = None,
    started: Callable[[str], None] = lambda _name: None,
) -> Iterator[RunResult]:
    """Train the recipe for Japanese Vowels four times and yield the result of each.

    Parameters
    ----------
    directory : str or Path
        Where the runs' directories go; former ones of the demo are replaced.
    epochs, seed : int, optional
        Instead of the recipe's own.
    started : callable
        Gets the name of each run when it starts.

    Raises
    ------
    RunError
        If `epochs` is no number of epochs.
    """
    for model, execution in RUNS:
        name = f"{model}-{execution}"
        started(name)
        recipe = vowels_recipe(model, execution, epochs=epochs, seed=seed)
        yield fit(recipe, Path(directory) / name, overwrite=True, accelerator="cpu", show=False)
