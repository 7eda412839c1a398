"""Write the network of a checkpoint to a file for other programs.

B sequences, I features, H units, K classes, labels or tokens.
"""

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unspool import exporting
from unspool.cells import Cell
from unspool.layers import RecurrentLayer
from unspool.training.errors import RunError
from unspool.training.evaluate import load_module
from unspool.training.models import SequenceNetwork
from unspool.training.module import SequenceModule
from unspool.training.sources import source_of


def export(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    to: Literal["onnx"] = "onnx",
    streaming: bool = False,
    int8: bool = False,
) -> exporting.OnnxFile:
    """Write the network of a checkpoint to an ONNX file, from raw inputs to logits: see `unspool.export_onnx`.

    The file says in its metadata what its inputs are and what the classes are called; `tokenizer` and `recipe` are
    those of the training. A model that was trained unrolled takes any number of steps here too.

    Parameters
    ----------
    checkpoint : str or Path
        A file that `fit` wrote.
    output : str or Path, optional
        The file; by default next to the checkpoint: ``best.onnx``, ``best-step.onnx``, ``best-int8.onnx``.
    to : {"onnx"}
        The format.
    streaming : bool
        Whether the file computes one step, from the state to the next: the logits of what has been read so far.
    int8 : bool
        Whether products are computed with 8-bit integers.

    Returns
    -------
    OnnxFile
        Its names and shapes, its size, the difference from the network.

    Raises
    ------
    RunError
        If the checkpoint is none, its layers are bidirectional and `streaming` is asked for, a package is missing, or
        the file cannot be written.
    """
    if to != "onnx":
        raise RunError(f"received to={to!r}; expected 'onnx'")
    module, checkpoint = load_module(checkpoint), Path(checkpoint)
    if output is None:
        output = checkpoint.with_name(f"{checkpoint.stem}{'-step' * streaming}{'-int8' * int8}.onnx")
    if streaming and any(layer.bidirectional for layer in module.recipe.layers):
        raise RunError(
            f"{checkpoint}: its layers are bidirectional ({module.recipe.dataset}), so that an output depends on steps "
            "that a stream does not have yet; export it without --streaming"
        )
    network = copy.deepcopy(module.model)
    for layer in _layers(network):
        layer.unroll, layer.num_steps = False, None
    try:
        return exporting.export_onnx(
            chain(network) if streaming else network,
            output,
            streaming=streaming,
            int8=int8,
            stepwise=(Normalise, WithZero),
            metadata=_metadata(module),
        )
    except (ImportError, OSError, ValueError) as error:
        raise RunError(f"{checkpoint}: {error}") from error


def chain(network: SequenceNetwork) -> nn.Sequential:
    """Return a network as parts that stream: from the inputs of a step to the logits of what has been read so far.

    Parameters
    ----------
    network : SequenceNetwork
        Its layers become parts of the chain, and return every step's output from now on.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if network.embedding is None:
        parts["normalise"] = Normalise(network.input_mean, network.input_scale)
    else:
        parts["embedding"] = network.embedding
    for index, layer in enumerate(_layers(network)):
        layer.return_sequences, layer.return_state = True, False
        parts[f"layer{index}"] = layer
    if network.pooling in _POOLING:
        parts["pooling"] = _POOLING[network.pooling](network.head.in_features)
    parts["head"] = network.head
    if network.binary_head:
        parts["classes"] = WithZero()
    return nn.Sequential(parts)


class Normalise(nn.Module):
    """Subtracts a mean from the features of a step and divides by a scale.

    Parameters
    ----------
    mean, scale : Tensor of shape (I,)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.input_size = len(mean)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the normalised features, (..., I)."""
        return (inputs - self.mean) / self.scale


class WithZero(nn.Module):
    """Puts the logit of the first of two classes, 0, before that of the second."""

    def forward(self, logit: Tensor) -> Tensor:
        """Return logits (..., 2) for logits (..., 1)."""
        return torch.cat([torch.zeros_like(logit), logit], -1)


class RunningMax(Cell):
    """The largest output of each unit so far.

    Parameters
    ----------
    size : int
        H.
    """

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the maximum (B, H) of the input and of all before it, twice."""
        state = torch.maximum(x, state)
        return state, state

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> Tensor:
        """Return the smallest number that there is, (B, H)."""
        start = torch.zeros(batch_size, self.state_size, dtype=dtype, device=device)
        return start + torch.finfo(start.dtype).min


class RunningMean(Cell):
    """The mean output of each unit so far.

    Parameters
    ----------
    size : int
        H.
    """

    def __init__(self, size: int) -> None:
        super().__init__({"sum": size, "steps": 1})

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:  # type: ignore[override]
        """Return the mean (B, H) of the input and of all before it, and the sum and the number of steps."""
        state = {"sum": state["sum"] + x, "steps": state["steps"] + 1}
        return state["sum"] / state["steps"], state


_POOLING: dict[str, type[Cell]] = {"max": RunningMax, "mean": RunningMean}


def _layers(network: SequenceNetwork) -> list[RecurrentLayer]:
    return [layer for layer in network.recurrent if isinstance(layer, RecurrentLayer)]


def _metadata(module: SequenceModule) -> dict[str, Any]:
    """Return what a user of the file has to know of its inputs and outputs."""
    recipe = module.recipe
    facts: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "class_names": list(module.class_names),
        "output": f"logits of {recipe.objective.replace('-', ' ')}",
    }
    if recipe.embedding_size is None:
        return facts | {"input": "raw features, as in training: the file normalises them"}
    facts["input"] = "numbers of tokens"
    if module.tokenizer is not None:
        return facts | {"tokenizer": module.tokenizer}
    source = source_of(recipe)
    if source.encode is not None:
        inside = source.encode([f"A{character}A" for character in source.characters])  # blanks at the ends are dropped
        facts["vocabulary"] = {text: int(number[1]) for text, number in zip(source.characters, inside, strict=True)}
    return facts
