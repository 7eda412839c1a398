"""The network of a recipe: normalisation, recurrent layers, pooling, one dense layer.

B sequences, T steps, I features, K classes.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from unspool.layers import GRU, LSTM, SimpleRNN

from .recipes import LayerSpec, Recipe

_LAYERS = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


class SequenceClassifier(nn.Module):
    """Classify sequences as a recipe says.

    Parameters
    ----------
    recipe : Recipe
        The layers and sizes.

    Notes
    -----
    Inputs are raw: the normalisation is part of the model, in the buffers ``input_mean`` and ``input_scale`` of shape
    (I,), which `normalise_by` sets.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.pooling = recipe.pooling
        self.num_steps = recipe.num_steps
        self.input_noise = recipe.input_noise
        self.input_offset = recipe.input_offset
        self.recurrent = nn.ModuleList()
        self.dropout = nn.ModuleList()
        width = recipe.input_size
        for index, spec in enumerate(recipe.layers):
            whole_sequence = index + 1 < len(recipe.layers) or recipe.pooling == "mean"
            self.recurrent.append(_layer(spec, width, recipe, whole_sequence))
            self.dropout.append(nn.Dropout(spec.dropout_after))
            width = spec.hidden_size * (2 if spec.bidirectional else 1)
        self.head = nn.Linear(width, recipe.num_classes)
        self.input_mean: Tensor
        self.input_scale: Tensor
        self.register_buffer("input_mean", torch.zeros(recipe.input_size))
        self.register_buffer("input_scale", torch.ones(recipe.input_size))

    def normalise_by(self, mean: Tensor, scale: Tensor) -> None:
        """Set what is subtracted from the inputs and what the difference is divided by.

        Parameters
        ----------
        mean, scale : Tensor of shape (I,)
            In the unit of the inputs.
        """
        self.input_mean.copy_(mean)
        self.input_scale.copy_(scale)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        inputs : Tensor of shape (B, T, I)
            Raw inputs of any numeric type; what lies after a sequence's end has no influence.
        lengths : Tensor of shape (B,), int64
            The number of steps of each sequence, at least 1.

        Returns
        -------
        Tensor of shape (B, K)
            The logits of the classes.
        """
        values = (inputs.to(self.input_mean.dtype) - self.input_mean) / self.input_scale
        if self.training and (self.input_noise or self.input_offset):
            values = values + self._noise(values)
        for layer, dropout in zip(self.recurrent, self.dropout, strict=True):
            values = dropout(layer(values, lengths=lengths))
        if self.pooling == "mean":
            values = values.sum(1) / lengths[:, None].to(values.dtype)
        return self.head(values)

    def _noise(self, values: Tensor) -> Tensor:
        """Return what is added in training, (B, T, I).

        It is drawn for the longest sequence that there can be, so that it does not depend on how far a batch is padded.
        """
        batch, steps, width = values.shape
        noise = torch.randn(batch, max(steps, self.num_steps), width, dtype=values.dtype, device=values.device)
        offset = torch.randn(batch, 1, width, dtype=values.dtype, device=values.device)
        return self.input_noise * noise[:, :steps] + self.input_offset * offset


def _layer(spec: LayerSpec, input_size: int, recipe: Recipe, whole_sequence: bool) -> nn.Module:
    """Return the recurrent layer of a spec: (B, T, I) to (B, T, H), or to (B, H) where the last output is wanted."""
    options: dict[str, Any] = {"activation": spec.activation} if spec.activation is not None else {}
    if recipe.execution == "static":
        options |= {"unroll": True, "num_steps": recipe.num_steps}
    return cast(
        nn.Module,
        _LAYERS[spec.kind](
            input_size,
            spec.hidden_size,
            batch_first=True,
            bidirectional=spec.bidirectional,
            recurrent_bias=spec.recurrent_bias,
            init=spec.init,
            return_sequences=whole_sequence,
            return_state=False,
            **options,
        ),
    )


def parameter_count(module: nn.Module) -> int:
    """Return how many trainable numbers a module has.

    Parameters
    ----------
    module : nn.Module
        The model.
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
