"""The network of a recipe: normalisation or embedding, recurrent layers, pooling, one dense layer.

B sequences, T steps, N steps of all sequences together, I features, K classes, labels or tokens.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from unspool._reading import brief, damage_as
from unspool.cells import require_cell
from unspool.data import RaggedBatch
from unspool.layers import GRU, LSTM, RNN, Bidirectional, SimpleRNN
from unspool.training.characters import CharacterReader
from unspool.training.errors import RunError
from unspool.training.recipes import LayerSpec, Recipe

_LAYERS = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


class NetworkOutput(NamedTuple):
    """Logits, (B, K) or with pooling "none" (B, T, K) or (N, K), and the final state of each recurrent layer."""

    logits: Tensor
    states: tuple[Any, ...]


class SequenceNetwork(nn.Module):
    """Run sequences through the network that a recipe describes.

    Parameters
    ----------
    recipe : Recipe
        The layers and sizes.

    Raises
    ------
    RunError
        If a cell of the user's cannot be imported or made.

    Notes
    -----
    Inputs are raw. Tokens are numbers, which `embedding` turns into vectors. Features are normalised by the buffers
    ``input_mean`` and ``input_scale`` of shape (I,), which `normalise_by` sets.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.pooling = recipe.pooling
        self.num_steps = recipe.num_steps
        self.input_noise = recipe.input_noise
        self.input_offset = recipe.input_offset
        self.binary_head = recipe.binary_head
        self.embedding: nn.Embedding | None = None
        self.characters: CharacterReader | None = None
        width = recipe.input_size
        if recipe.embedding_size is not None:
            width = recipe.embedding_size
            self.embedding = nn.Embedding(recipe.input_size, width)
            self.embedding_dropout = nn.Dropout(recipe.embedding_dropout)
            nn.init.uniform_(self.embedding.weight, -recipe.embedding_range, recipe.embedding_range)
            if recipe.character_size:
                self.characters = CharacterReader(recipe.alphabet_size, recipe.character_size)
                width += 2 * recipe.character_size
        else:
            self.register_buffer("input_mean", torch.zeros(width))
            self.register_buffer("input_scale", torch.ones(width))
        self.input_mean: Tensor
        self.input_scale: Tensor
        self.recurrent = nn.ModuleList()
        self.dropout = nn.ModuleList()
        for index, spec in enumerate(recipe.layers):
            whole_sequence = index + 1 < len(recipe.layers) or recipe.pooling != "last"
            self.recurrent.append(_layer(spec, width, recipe, whole_sequence))
            self.dropout.append(nn.Dropout(spec.dropout_after))
            width = spec.hidden_size * (2 if spec.bidirectional else 1)
        self.head = nn.Linear(width, 1 if recipe.binary_head else recipe.num_classes)

    def normalise_by(self, mean: Tensor, scale: Tensor) -> None:
        """Set what is subtracted from the features and what the difference is divided by.

        Parameters
        ----------
        mean, scale : Tensor of shape (I,)
            In the unit of the inputs.
        """
        self.input_mean.copy_(mean)
        self.input_scale.copy_(scale)

    def forward(self, inputs: Tensor | RaggedBatch, lengths: Tensor | None = None) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        inputs : Tensor of shape (B, T, I), or (B, T) of tokens; or RaggedBatch of values (N, I) or (N,)
            Raw inputs of any numeric type; for words with characters I numbers of these. What lies after a
            sequence's end has no influence.
        lengths : Tensor of shape (B,), int64, optional
            The number of steps of each padded sequence, at least 1; T by default.

        Returns
        -------
        Tensor of shape (B, K), or (B, T, K) with pooling "none"
            The logits of the classes. Where one output stands for two classes, that of the first is 0.
        """
        return self.run(inputs, lengths).logits

    def run(
        self, inputs: Tensor | RaggedBatch, lengths: Tensor | None = None, states: tuple[Any, ...] | None = None
    ) -> NetworkOutput:
        """Return the logits and the final states of the layers.

        Parameters
        ----------
        inputs, lengths
            As in `forward`.
        states : tuple, optional
            One initial state per layer, as an earlier call returned them.
        """
        values: Any
        if isinstance(inputs, RaggedBatch):
            values = inputs._replace(values=self._enter(inputs.values, inputs.lengths))
        else:
            values = self._enter(inputs, None)
        finals = []
        for index, (layer, dropout) in enumerate(zip(self.recurrent, self.dropout, strict=True)):
            values, final = layer(values, None if states is None else states[index], lengths=lengths)
            ragged = isinstance(values, RaggedBatch)
            values = values._replace(values=dropout(values.values)) if ragged else dropout(values)
            finals.append(final)
        logits = self.head(self._pool(values, lengths))
        if self.binary_head:
            logits = torch.cat([torch.zeros_like(logits), logits], -1)
        return NetworkOutput(logits, tuple(finals))

    def _enter(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Return what the first layer sees, (B, T, I), or (N, I) of sequences with so many steps each."""
        if self.embedding is not None and self.characters is not None:
            words = torch.cat([self.embedding(inputs[..., 0]), self.characters(inputs[..., 1:])], -1)
            return self.embedding_dropout(words)
        if self.embedding is not None:
            return self.embedding_dropout(self.embedding(inputs))
        values = (inputs.to(self.input_mean.dtype) - self.input_mean) / self.input_scale
        if self.training and (self.input_noise or self.input_offset):
            values = values + self._noise(values, lengths)
        return values

    def _pool(self, outputs: Tensor | RaggedBatch, lengths: Tensor | None) -> Tensor:
        """Return what the dense layer sees of the last layer's outputs; they are zero after a sequence's end."""
        if isinstance(outputs, Tensor) and self.pooling in ("last", "none"):
            return outputs
        if isinstance(outputs, RaggedBatch):
            if self.pooling == "none":
                return outputs.values
            # Not torch.segment_reduce, whose backward pass takes longer than the layer's.
            pool = torch.mean if self.pooling == "mean" else torch.amax
            return torch.stack([pool(row, 0) for row in outputs.rows()])
        if lengths is None:
            return outputs.mean(1) if self.pooling == "mean" else outputs.amax(1)
        if self.pooling == "mean":
            return outputs.sum(1) / lengths[:, None].to(outputs.dtype)
        past = torch.arange(outputs.shape[1], device=lengths.device) >= lengths[:, None]
        return outputs.masked_fill(past[:, :, None], -torch.inf).amax(1)

    def _noise(self, values: Tensor, lengths: Tensor | None) -> Tensor:
        """Return what is added in training, of the shape of `values`.

        For padded sequences it is drawn for the longest that there can be, so that it does not depend on how far a
        batch is padded.
        """
        if lengths is not None:
            offset = torch.randn(len(lengths), values.shape[-1], dtype=values.dtype, device=values.device)
            offset = offset.repeat_interleave(lengths, 0)
            return self.input_noise * torch.randn_like(values) + self.input_offset * offset
        batch, steps, width = values.shape
        noise = torch.randn(batch, max(steps, self.num_steps), width, dtype=values.dtype, device=values.device)
        offset = torch.randn(batch, 1, width, dtype=values.dtype, device=values.device)
        return self.input_noise * noise[:, :steps] + self.input_offset * offset


def _layer(spec: LayerSpec, input_size: int, recipe: Recipe, whole_sequence: bool) -> nn.Module:
    """Return the recurrent layer of a spec: its outputs (B, T, H), or the last (B, H), and its final state."""
    options: dict[str, Any] = {"batch_first": True, "return_sequences": whole_sequence, "return_state": True}
    if recipe.execution == "static":
        options |= {"unroll": True, "num_steps": recipe.num_steps}
    if spec.cell is not None:
        one_way = [
            RNN(own_cell(spec.cell, input_size, spec.hidden_size), reverse=back, **options)
            for back in ((False, True) if spec.bidirectional else (False,))
        ]
        return Bidirectional(*one_way) if spec.bidirectional else one_way[0]
    if spec.activation is not None:
        options["activation"] = spec.activation
    return cast(
        nn.Module,
        _LAYERS[spec.kind](
            input_size,
            spec.hidden_size,
            bidirectional=spec.bidirectional,
            recurrent_bias=spec.recurrent_bias,
            input_dropout=spec.input_dropout,
            recurrent_dropout=spec.recurrent_dropout,
            init=spec.init,
            **options,
        ),
    )


def own_cell(name: str, input_size: int, hidden_size: int) -> nn.Module:
    """Make a cell of the user's.

    Parameters
    ----------
    name : str
        ``module:Class``; the module is imported as Python would, or from the working directory.
    input_size, hidden_size : int
        What the class gets.

    Raises
    ------
    RunError
        If there is no such class of cells, or it cannot be made of two sizes.
    """
    module, _, attribute = name.partition(":")
    with damage_as(RunError, f"received the cell {name!r}; expected module:Class, a class that can be imported"):
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        found = getattr(import_module(module), attribute)
    # Of a stranger's checkpoint nothing is called but a class of modules.
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise RunError(f"received the cell {name!r}, which is {brief(found)}; expected a class of torch.nn.Module")
    with damage_as(RunError, f"{name} makes no cell when called with ({input_size}, {hidden_size})"):
        cell = found(input_size, hidden_size)
        require_cell(cell)
        return cell


def parameter_count(module: nn.Module) -> int:
    """Return how many trainable numbers a module has.

    Parameters
    ----------
    module : nn.Module
        The model.
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
