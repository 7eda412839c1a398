"""Batches of sequences without padding.

Letters: B batch, T steps, N valid steps, all sequences together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._lengths import conjugate, tokens_of


class RaggedBatch(NamedTuple):
    """Sequences of different lengths, one after the other, without padding.

    Layers and `unspool.dynamic_rnn` take it as it is. ``values`` (N, ...) holds the steps of all sequences, N of them
    together, one sequence after the other; ``lengths`` (B,) int64 the number of steps of each; ``labels`` (B, ...) the
    class or the target of each, or None; ``order`` (B,) int64 the place that each had among the samples of the batch;
    ``targets`` (N, ...) a target for every step, or None.
    """

    values: Tensor
    lengths: Tensor
    labels: Tensor | None
    order: Tensor
    targets: Tensor | None = None

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[Tensor], labels: Tensor | None = None, targets: Sequence[Tensor] | None = None
    ) -> "RaggedBatch":
        """Put sequences together: each step is copied once.

        Parameters
        ----------
        sequences : sequence of Tensor of shape (T, ...)
            At least one. T may differ and may be zero; the other sizes and the type may not.
        labels : Tensor of shape (B, ...), optional
            The class or the target of each.
        targets : sequence of Tensor of shape (T, ...), optional
            A target for every step of each.

        Raises
        ------
        ValueError
            If there is no sequence, the sequences differ in more than their number of steps, or labels or targets do
            not fit them.
        """
        lengths = [len(sequence) for sequence in _alike(sequences, "sequence")]
        if labels is not None and len(labels) != len(lengths):
            raise ValueError(f"received {len(labels)} labels; expected {len(lengths)}, one for each sequence")
        if targets is not None and [len(wanted) for wanted in _alike(targets, "targets")] != lengths:
            raise ValueError(
                f"received targets of {[len(wanted) for wanted in targets]} steps; expected {lengths}, as many as the "
                "sequences have"
            )
        return cls(
            torch.cat(list(sequences)),
            torch.tensor(lengths, device=sequences[0].device),
            labels,
            torch.arange(len(lengths), device=sequences[0].device),
            None if targets is None else torch.cat(list(targets)),
        )

    @property
    def offsets(self) -> Tensor:
        """Where each sequence starts in `values`, and where the last one ends: (B + 1,) int64."""
        return torch.nn.functional.pad(self.lengths.cumsum(0), (1, 0))

    def rows(self) -> tuple[Tensor, ...]:
        """Return the sequences, views of `values` of shape (T, ...), in the order of the batch."""
        return self.values.split(self.lengths.tolist())

    def to(self, *arguments: Any, **named: Any) -> "RaggedBatch":
        """Return the batch with its values cast or moved; the other tensors are moved, and keep their types.

        Parameters
        ----------
        *arguments, **named
            As `torch.Tensor.to` takes them.
        """
        values = self.values.to(*arguments, **named)
        others = (None if tensor is None else tensor.to(values.device) for tensor in self[1:])
        return RaggedBatch(values, *others)  # pyright: ignore[reportArgumentType]

    def to_padded(
        self, *, pad_to: int | None = None, padding_value: float = 0.0, time_major: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the sequences padded, and their lengths: ``layer(inputs, lengths=lengths)``.

        Parameters
        ----------
        pad_to : int, optional
            Number of steps of the result; the longest sequence's by default.
        padding_value : float
            What stands after the end of a sequence.
        time_major : bool
            Whether the result is of shape (T, B, ...).

        Returns
        -------
        inputs : Tensor of shape (B, T, ...)
            The padded sequences; gradients flow back to `values`.
        lengths : Tensor of shape (B,), int64
            The number of steps of each.

        Raises
        ------
        ValueError
            If a sequence is longer than `pad_to`.
        """
        longest = int(self.lengths.max())
        steps = longest if pad_to is None else pad_to
        if longest > steps:
            raise ValueError(
                f"received a row of {longest} steps; expected at most {steps} (pad_to). Raise pad_to, or cut the row."
            )
        size = len(self.lengths)
        if int(self.lengths.min()) == steps:
            inputs = self.values.view(size, steps, *self.values.shape[1:])
            return (inputs.transpose(0, 1) if time_major else inputs), self.lengths
        row, step = tokens_of(self.lengths.long())
        shape, place = ((steps, size), (step, row)) if time_major else ((size, steps), (row, step))
        blank = self.values.new_full((*shape, *self.values.shape[1:]), padding_value)
        return blank.index_put(place, self.values), self.lengths

    def to_packed(self) -> PackedSequence:
        """Return the batch as `torch.nn`'s own layers take it, without padding it on the way.

        Returns
        -------
        PackedSequence
            Its sequences unpack in the order of this batch.

        Raises
        ------
        ValueError
            If a sequence has no steps, which a `PackedSequence` cannot hold.
        """
        if int(self.lengths.min()) == 0:
            raise ValueError(
                "received a row of no steps; expected at least one, all that a PackedSequence can hold. Leave the row "
                "out, or pass the batch to a layer of unspool as it is."
            )
        ranks = self.lengths.argsort(descending=True, stable=True)
        sizes = conjugate(self.lengths.long())
        step, rank = tokens_of(sizes)
        data = self.values[self.offsets[ranks[rank]] + step]
        return PackedSequence(data, sizes.cpu(), ranks, ranks.argsort())

    def sort(self) -> "RaggedBatch":
        """Return the batch with its longest sequences first; `order` still names the samples."""
        ranks = self.lengths.argsort(descending=True, stable=True)
        row, step = tokens_of(self.lengths[ranks].long())
        places = self.offsets[ranks[row]] + step
        return RaggedBatch(
            self.values[places],
            self.lengths[ranks],
            None if self.labels is None else self.labels[ranks],
            self.order[ranks],
            None if self.targets is None else self.targets[places],
        )

    def restore(self, results: Tensor) -> Tensor:
        """Return results of this batch's sequences in the order of the samples.

        Parameters
        ----------
        results : Tensor of shape (B, ...)
            One result per sequence, in the order of the batch.
        """
        return results[self.order.argsort()]


def _alike(sequences: Sequence[Tensor], called: str) -> Sequence[Tensor]:
    if not sequences:
        raise ValueError("received no sequences to put into a batch; expected at least one")
    first = sequences[0]
    for index, sequence in enumerate(sequences):
        if sequence.shape[1:] != first.shape[1:] or sequence.dtype != first.dtype:
            raise ValueError(
                f"{called} {index} has shape {tuple(sequence.shape)} and type {sequence.dtype}; expected "
                f"{('steps', *first.shape[1:])} and {first.dtype}, like the first one"
            )
    return sequences
