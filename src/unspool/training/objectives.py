"""What a network is trained for: how a batch is run, its loss, and what counts as right.

B sequences, T steps, K classes, labels of a step, or tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from unspool.data import RaggedBatch, SequenceBatch, StepBatch, StreamBatch, sequence_mask
from unspool.training.models import SequenceNetwork
from unspool.training.recipes import Recipe

_NONE = torch.empty(0, dtype=torch.int64)


class Scored(NamedTuple):
    """A batch that was run.

    ``loss`` is a mean over ``weight`` things, ``accuracy`` the share of right answers among ``answers``. Per sequence,
    of shape (B,): ``lengths``, ``correct`` (its share of right answers), and for classes ``labels`` and ``predicted``,
    which are empty otherwise. ``expected`` and ``found`` are what was to be predicted and what was, where that is not
    a class per sequence: classes of steps, (N,), or numbers, (N, K).
    """

    loss: Tensor
    weight: int
    accuracy: Tensor
    answers: float | Tensor
    lengths: Tensor
    correct: Tensor
    labels: Tensor = _NONE
    predicted: Tensor = _NONE
    expected: Tensor = _NONE
    found: Tensor = _NONE


class Objective(Protocol):
    """What a network is trained for."""

    def score(self, network: SequenceNetwork, batch: Any, carried: Any, /) -> tuple[Scored, Any]:
        """Run a batch, given what the call for the batch before carried on; return what is carried on to the next."""
        ...


class Classes:
    """One class per sequence: cross entropy.

    Parameters
    ----------
    recipe : Recipe
        Has the weights of the classes.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.weights = _weights(recipe)

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
        loss = cross_entropy(logits.float(), batch.labels, _on(self.weights, logits))
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
        real = sequence_mask(batch.lengths, logits.shape[1])
        targets = batch.targets.float()
        steps = int(batch.lengths.sum())
        loss = binary_cross_entropy_with_logits(logits, targets, reduction="none")[real].sum() / steps
        found = (logits.detach() > 0) & real[:, :, None]
        wanted = (targets > 0) & real[:, :, None]
        right, either = (found & wanted).sum((1, 2)), (found | wanted).sum((1, 2))
        total = int(either.sum())
        share = right / either.clamp(min=1)
        return Scored(loss, steps, right.sum() / max(total, 1), total, batch.lengths, share), None


class ClassPerStep:
    """One class after every step: cross entropy of each step that has a class.

    Parameters
    ----------
    recipe : Recipe
        Has the weights of the classes.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.weights = _weights(recipe)

    def score(self, network: SequenceNetwork, batch: StepBatch, _carried: Any) -> tuple[Scored, None]:
        """Run a batch and compare with the classes of its steps.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : StepBatch
            Inputs (B, T, ...), lengths (B,) and targets (B, T, 1) of classes; -100 at steps that have none.
        """
        logits = network(batch.inputs, batch.lengths).float()
        targets = batch.targets.squeeze(-1)
        real = sequence_mask(batch.lengths, logits.shape[1]) & (targets >= 0)
        steps, known = int(real.sum()), real.sum(1)
        # A batch without a class has a loss of 0, and a gradient.
        loss = cross_entropy(logits[real], targets[real], _on(self.weights, logits)) if steps else logits.sum() * 0
        predicted = logits.detach().argmax(-1)
        right = ((predicted == targets) & real).sum(1)
        return Scored(
            loss,
            steps,
            right.sum() / max(steps, 1),
            steps,
            batch.lengths,
            right / known.clamp(min=1),
            expected=targets[real],
            found=predicted[real],
        ), None


class Numbers:
    """Numbers for each sequence: mean squared error.

    Targets have mean 0 in the training data. The accuracy is the coefficient of determination against that mean: 1
    for no error, 0 for errors as large as those of the mean (Campbell and Thompson, Review of Financial Studies 2008).
    """

    def score(self, network: SequenceNetwork, batch: SequenceBatch | RaggedBatch, _carried: Any) -> tuple[Scored, None]:
        """Run a batch and compare with its numbers.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : SequenceBatch or RaggedBatch
            Inputs, lengths and labels (B, K), numbers.
        """
        found = network(batch) if isinstance(batch, RaggedBatch) else network(batch.inputs, batch.lengths)
        assert batch.labels is not None
        errors = (found.detach() - batch.labels).square().mean(1)
        return _scored_numbers(found, batch.labels, batch.lengths, 1 - errors.clamp(max=1)), None


class NumbersPerStep:
    """Numbers after every step: mean squared error of those that are known; the accuracy is that of `Numbers`."""

    def score(self, network: SequenceNetwork, batch: StepBatch, _carried: Any) -> tuple[Scored, None]:
        """Run a batch and compare with the numbers of its steps.

        Parameters
        ----------
        network : SequenceNetwork
            What to run.
        batch : StepBatch
            Inputs (B, T, I), lengths (B,) and targets (B, T, K); NaN where one is not known.
        """
        found = network(batch.inputs, batch.lengths)
        real = sequence_mask(batch.lengths, found.shape[1]) & batch.targets.isfinite().all(-1)
        errors = torch.where(real, (found.detach() - batch.targets).square().mean(-1), 0).sum(1)
        shares = 1 - (errors / real.sum(1).clamp(min=1)).clamp(max=1)
        return _scored_numbers(found[real], batch.targets[real], batch.lengths, shares), None


def _scored_numbers(found: Tensor, expected: Tensor, lengths: Tensor, correct: Tensor) -> Scored:
    found = found.float()
    loss = mse_loss(found, expected) if len(found) else found.sum()
    spread = expected.square().sum().clamp(min=1e-12)  # whatever is predicted where the mean has no error
    accuracy = 1 - loss.detach() * expected.numel() / spread
    return Scored(loss, len(expected), accuracy, spread, lengths, correct, expected=expected, found=found.detach())


def _weights(recipe: Recipe) -> Tensor | None:
    return torch.tensor(recipe.class_weights) if recipe.class_weights else None


def _on(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(logits.device)


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
        scored = Scored(loss, count, right.mean(), count, lengths, right.mean(1))
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
        "classes": lambda: Classes(recipe),
        "numbers": Numbers,
        "class-per-step": lambda: ClassPerStep(recipe),
        "numbers-per-step": NumbersPerStep,
        "labels-per-step": LabelsPerStep,
        "next-token": NextToken,
    }
    return objectives[recipe.objective]()
