"""The inputs with which a model is traced and a file is checked.

Letters: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from unspool.cells import is_cell
from unspool.layers import RecurrentLayer


class Inputs:
    """Draws inputs of a kind.

    Parameters
    ----------
    model : Module
    example : Tensor of shape (B, ...), optional
        The inputs of one step, as those of the model are; by default what the model's first part says that it takes.

    Raises
    ------
    ValueError
        If there is no example and the model does not say what it takes.
    TypeError
        If the example is no tensor.
    """

    def __init__(self, model: nn.Module, example: Tensor | None) -> None:
        self._generator = torch.Generator().manual_seed(0)
        found = next(_inputs_of(model), None) if example is None else example
        if found is None:
            raise ValueError(
                f"{type(model).__name__} does not say what it takes; pass example_step, a tensor with the inputs of "
                "one step: (B, I), or (B,) where they are numbers of tokens."
            )
        if not isinstance(found, Tensor) or found.dim() == 0:
            raise TypeError(f"example_step is {found!r:.80}; expected a tensor of shape (B, ...) with B above 0.")
        self._tail, self._dtype, self._example = found.shape[1:], found.dtype, found.detach().cpu()

    def draw(self, *shape: int) -> Tensor:
        """Return inputs of shape (*shape, ...): normal numbers, or integers within those of the example."""
        shape = (*shape, *self._tail)
        if self._dtype.is_floating_point:
            return torch.randn(shape, generator=self._generator, dtype=self._dtype)
        low, high = int(self._example.min()), int(self._example.max())
        return torch.randint(low, high + 1, shape, generator=self._generator).to(self._dtype)


def _inputs_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield what the modules inside, in their order, say that they take."""
    if isinstance(module, nn.Embedding):
        yield torch.tensor([0, module.num_embeddings - 1])
        return
    size = getattr(module, "input_size", getattr(module, "in_features", None))
    if isinstance(size, int):
        like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
        yield torch.empty(1, size, dtype=like.dtype)
    elif not is_cell(module) or isinstance(module, RecurrentLayer):  # a cell may compute anything of its input first
        for child in module.children():
            yield from _inputs_of(child)
