"""What a network is trained for: how a batch is run, its loss, and what counts as right.

B sequences, T steps, K classes, labels of a step, or tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from unspool.data import RaggedBatch, SequenceBatch, StepBatch, StreamBatch
from unspool.training.models import SequenceNetwork
from unspool.training.recipes import Recipe


class Scored(NamedTuple):
    """A batch that was run.

    ``loss`` is a mean over ``weight`` things, ``accuracy`` the share of right answers among ``answers``. Per sequence,
    of shape (B,): ``lengths``, ``correct`` (its share of right answers), and for classes ``labels`` and ``predicted``,
    which are empty otherwise.
    """

    loss: Tensor
    weight: int
    accuracy: Tensor
    answers: int
    lengths: Tensor
    correct: Tensor
    labels: Tensor
    predicted: Tensor


class Objective(Protocol):
    """What a network is trained for."""

    def score(self, network: SequenceNetwork, batch: Any, carried: Any, /) -> tuple[Scored, Any]:
        """Run a batch, given what the call for the batch before carried on; return what is carried on to the next."""
        ...


class Classes:
    """One class per sequence: cross entropy."""

    def score(self, network: SequenceNetwork, batch: SequenceBatch | RaggedBatch, _carried: Any) -> tuple[Scored, None]:
        """Run a batch and compare with its labels.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : SequenceBatch or RaggedBatch
            Inputs, lengths and labels.
        """
        logits = network(batch) if isinstance(batch, RaggedBatch) else network(batch.inputs, batch.lengths)
        assert batch.labels is not None
        predicted = logits.detach().argmax(-1)
        correct = (predicted == batch.labels).float()
        size = len(batch.labels)
        loss = cross_entropy(logits.float(), batch.labels)
        return Scored(loss, size, correct.mean(), size, batch.lengths, correct, batch.labels, predicted), None


class LabelsPerStep:
    """A set of labels after every step: cross entropy of each label, summed over the labels of a step.

    The accuracy is that of music transcription: right labels over all that are right, missed or wrong (Bay, Ehmann
    and Downie, ISMIR 2009); a label counts as predicted where its probability is above one half.
    """

    def score(self, network: SequenceNetwork, batch: StepBatch, _carried: Any) -> tuple[Scored, None]:
        """Run a batch and compare with the labels of its steps.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : StepBatch
            Inputs (B, T, I), lengths (B,) and targets (B, T, K) of zeros and ones.
        """
        logits = network(batch.inputs, batch.lengths).float()
        real = torch.arange(logits.shape[1], device=logits.device) < batch.lengths[:, None]
        targets = batch.targets.float()
        steps = int(batch.lengths.sum())
        loss = binary_cross_entropy_with_logits(logits, targets, reduction="none")[real].sum() / steps
        found = (logits.detach() > 0) & real[:, :, None]
        wanted = (targets > 0) & real[:, :, None]
        right, either = (found & wanted).sum((1, 2)), (found | wanted).sum((1, 2))
        total = int(either.sum())
        none = torch.empty(0, dtype=torch.int64, device=logits.device)
        return Scored(
            loss, steps, right.sum() / max(total, 1), total, batch.lengths, right / either.clamp(min=1), none, none
        ), None


class ClassPerStep:
    """One class after every step: cross entropy of each step."""

    def score(self, network: SequenceNetwork, batch: StepBatch, _carried: Any) -> tuple[Scored, None]:
        """Run a batch and compare with the classes of its steps.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : StepBatch
            Inputs (B, T, ...), lengths (B,) and targets (B, T, 1) of classes.
        """
        logits = network(batch.inputs, batch.lengths).float()
        real = torch.arange(logits.shape[1], device=logits.device) < batch.lengths[:, None]
        targets = batch.targets.squeeze(-1)
        steps = int(batch.lengths.sum())
        loss = cross_entropy(logits[real], targets[real])
        right = ((logits.detach().argmax(-1) == targets) & real).sum(1)
        none = torch.empty(0, dtype=torch.int64, device=logits.device)
        share = right / batch.lengths.clamp(min=1)
        return Scored(loss, steps, right.sum() / steps, steps, batch.lengths, share, none, none), None


class NextToken:
    """The next token of each of B streams, whose states are carried from batch to batch: cross entropy.

    Gradients end where a batch begins: truncated backpropagation through time (Williams and Peng, 1990).
    """

    def score(self, network: SequenceNetwork, batch: StreamBatch, carried: Any) -> tuple[Scored, Any]:
        """Run a batch from the states in which the one before ended.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : StreamBatch
            Inputs and targets (B, T) of tokens; whether the streams begin with it.
        carried : tuple or None
            What the call for the batch before returned.
        """
        output = network.run(batch.inputs, None, None if batch.first else carried)
        logits = output.logits.float()
        loss = cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        right = (logits.detach().argmax(-1) == batch.targets).float()
        count = batch.targets.numel()
        lengths = torch.full((len(right),), right.shape[1], device=right.device)
        none = torch.empty(0, dtype=torch.int64, device=right.device)
        scored = Scored(loss, count, right.mean(), count, lengths, right.mean(1), none, none)
        return scored, _detached(output.states)


def _detached(state: Any) -> Any:
    """Return a state without its history, NamedTuples as tuples: checkpoints hold plain values."""
    return state.detach() if isinstance(state, Tensor) else tuple(_detached(part) for part in state)


def objective(recipe: Recipe) -> Objective:
    """Return what a recipe trains for.

    Parameters
    ----------
    recipe : Recipe
        Its `objective` is a name.
    """
    objectives: dict[str, Callable[[], Objective]] = {
        "classes": Classes,
        "class-per-step": ClassPerStep,
        "labels-per-step": LabelsPerStep,
        "next-token": NextToken,
    }
    return objectives[recipe.objective]()
