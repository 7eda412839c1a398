"""One's own text: which character comes next?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from unspool.training.errors import RunError
from unspool.training.recipes._recipe import Execution, ModelName, Recipe, vary
from unspool.training.recipes.shakespeare import SHAKESPEARE

LM = SHAKESPEARE.replace(dataset="lm", options={"variant": "FILE"})
"""What does not depend on the text."""
LEAST_SIZE, MOST_EPOCHS = 128, 100
_LEAST_CHARACTERS = 500
_STREAM = 2_000  # characters of a stream, at least: a short text is read as fewer of them
_STEPS = 1_500


def lm_recipe(
    data: str | Path,
    model: ModelName = "lstm",
    execution: Execution = "dynamic",
    *,
    encoding: str = "utf-8",
    steps: int | None = None,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for a language model of the characters of one's own text.

    The file is read, because sizes follow from it: the characters, the hidden size, the streams, and the epochs, of
    which a short text gets more. The first nine tenths of the text are for training, the next twentieth for validation
    and the last for the test; all three are read as parallel streams, as in `shakespeare_recipe`.

    Parameters
    ----------
    data : str or Path
        The file, which `unspool.data.read_character_text` reads.
    model : {"lstm", "gru", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over a window.
    encoding : str
        How the file's characters are written.
    steps : int, optional
        Steps of a window; 64 by default.
    hidden_size : int, optional
        Units of the layer; by default 128 for less than 100,000 characters, 512 from a million on, 256 between.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If a name is not known.
    DataError
        If the file cannot be read, or the text is shorter than 500 characters or has only one.
    """
    # Here, because the command line shows this recipe's values without importing PyTorch.
    from unspool.data import DataError, read_character_text
    from unspool.training.text_parts import sha256

    if steps is not None and steps < 1:
        raise RunError(f"received steps={steps}; expected 1 or more")
    base = vary(LM, model, execution)
    path = Path(data).expanduser().absolute()
    text = read_character_text(path, encoding=encoding)
    length = len(text.tokens)
    if length < _LEAST_CHARACTERS or len(text.characters) < 2:
        raise DataError(
            f"{path}: {length:,} characters, {len(text.characters)} of them different; expected {_LEAST_CHARACTERS} or "
            "more, for training, validation and test, and two different ones"
        )
    size = hidden_size or (LEAST_SIZE if length < 100_000 else 256 if length < 1_000_000 else 512)
    dropout = 0.3 if size > LEAST_SIZE else 0.1
    recipe = base.replace(
        options={
            "variant": path.name.partition(".")[0],
            "data": str(path),
            "sha256": sha256(path),
            "encoding": encoding,
        },
        layers=tuple(replace(layer, hidden_size=size, dropout_after=dropout) for layer in base.layers),
        input_size=len(text.characters),
        num_classes=len(text.characters),
        num_steps=steps,
        batch_size=min(LM.batch_size, max(1, length // _STREAM)),
    ).replace(**changes)
    trained = min(recipe.limit_train or length, length * 9 // 10)
    windows = max(1, trained // (recipe.batch_size * recipe.num_steps))
    return recipe.replace(epochs=changes.get("epochs") or min(max(LM.epochs, -(-_STEPS // windows)), MOST_EPOCHS))
