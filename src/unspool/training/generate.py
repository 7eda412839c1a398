"""Let a language model go on with a text, token by token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspool._reading import brief
from unspool.training.errors import RunError
from unspool.training.evaluate import load_module
from unspool.training.module import SequenceModule


def generate(
    checkpoint: str | Path, prompt: str, *, length: int = 300, temperature: float = 0.8, seed: int = 0
) -> Iterator[str]:
    """Go on with a text, on the CPU. The state is carried from character to character.

    Parameters
    ----------
    checkpoint : str or Path
        A file that `fit` wrote for a recipe that predicts the next token.
    prompt : str
        How the text begins: one character or more, all of them known to the model.
    length : int
        How many characters to add.
    temperature : float
        What the logits are divided by before a character is drawn: below 1 likely ones become likelier; 0 always
        takes the likeliest.
    seed : int
        What the characters are drawn from.

    Returns
    -------
    iterator of str
        The characters that are added, each as soon as it is drawn.

    Raises
    ------
    RunError
        If the checkpoint is none or of another kind of recipe, or an argument is out of range.
    """
    module = load_module(checkpoint)
    recipe = module.recipe
    if recipe.objective != "next-token":
        raise RunError(
            f"{checkpoint}: the model ({recipe.dataset}, {recipe.model}) does not predict the next token; expected a "
            "checkpoint of one that does, such as that of unspool train lm or shakespeare"
        )
    if length < 1 or temperature < 0:
        raise RunError(f"received length={length} and temperature={temperature}; expected at least 1 and 0")
    numbers = {name: number for number, name in enumerate(module.class_names)}
    unknown = sorted(set(prompt) - set(numbers))
    if unknown or not prompt:
        known = "".join(module.class_names)
        raise RunError(f"received the prompt {prompt!r:.80}; expected one character or more of {brief(known)}")
    return _added(module, [numbers[character] for character in prompt], length, temperature, seed)


def _added(module: SequenceModule, prompt: list[int], length: int, temperature: float, seed: int) -> Iterator[str]:
    generator = torch.Generator().manual_seed(seed)
    states, unread = None, torch.tensor(prompt)
    for _ in range(length):
        logits = torch.empty(0)
        for window in unread.split(module.recipe.num_steps):
            logits, states = _read(module, window, states)
        if temperature == 0:
            unread = logits.argmax(keepdim=True)
        else:
            unread = torch.multinomial((logits / temperature).softmax(0), 1, generator=generator)
        yield module.name_of(int(unread))


@torch.inference_mode()
def _read(module: SequenceModule, tokens: Tensor, states: Any) -> tuple[Tensor, Any]:
    """Return the logits (K,) of what follows the tokens (T,), and the states after them."""
    logits, states = module.model.run(tokens[None], None, states)
    return logits[0, -1].float(), states
