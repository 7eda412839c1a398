"""How much of a batch is padding: counted where lengths are known, guessed from the values where they are not.

Letters: B batch, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._nest import leaves_of
from unspool.backends import Call


@dataclass(frozen=True)
class Padding:
    """The padding that a recurrent module has seen.

    Attributes
    ----------
    steps : int
        Steps of all sequences, padding among them: B T.
    padding : int
        How many of them are padding.
    known : bool
        Whether this was counted (lengths, a mask, a packed or a ragged batch) or guessed: sequences that end in steps
        of zeros, or in the same step again and again, look padded.
    computed : bool
        Whether the padding is computed like real steps.
    """

    steps: int
    padding: int
    known: bool
    computed: bool

    @property
    def share(self) -> float:
        """Padding over all steps, 0 to 1."""
        return self.padding / self.steps if self.steps else 0.0

    def __add__(self, other: Padding) -> Padding:
        return Padding(
            self.steps + other.steps,
            self.padding + other.padding,
            self.known and other.known,
            self.computed or other.computed,
        )

    def __str__(self) -> str:
        if not self.padding:
            return f"none in {self.steps:,} steps" if self.known else f"none to be seen in {self.steps:,} steps"
        share = f"{100 * self.share:.0f} % of {self.steps:,} steps"
        if not self.known:
            return f"looks like padding: {share}, all of it computed (a guess: rows end in zeros or in repeated steps)"
        return f"{share}, {'all' if self.computed else 'none'} of it computed"


def padding_of_call(call: Call) -> Padding:
    """Return the padding in a run of a cell.

    Parameters
    ----------
    call : Call
    """
    schedule = call.schedule
    steps = schedule.steps * schedule.batch
    if schedule.dense and not schedule.ragged:
        found = trailing_padding(leaves_of(call.inputs)[0])
        return Padding(steps, int(found.sum()), known=False, computed=True)
    return Padding(steps, steps - int(schedule.lengths.sum()), known=True, computed=False)


def padding_of_input(x: Tensor | PackedSequence, batch_first: bool) -> Padding:
    """Return the padding in the input of a layer of `torch.nn`.

    Parameters
    ----------
    x : Tensor of shape (T, B, I), or (B, T, I) with `batch_first`, or (T, I); or PackedSequence
    batch_first : bool
    """
    if isinstance(x, PackedSequence):
        sizes = x.batch_sizes
        steps = len(sizes) * int(sizes[0])
        return Padding(steps, steps - int(sizes.sum()), known=True, computed=False)
    found = trailing_padding(time_major(x, batch_first))
    return Padding(x.shape[:-1].numel(), int(found.sum()), known=False, computed=True)


def time_major(x: Tensor, batch_first: bool) -> Tensor:
    """Return the input of a layer of `torch.nn` as (T, B, I).

    Parameters
    ----------
    x : Tensor of shape (T, B, I), or (B, T, I) with `batch_first`, or (T, I)
    batch_first : bool
    """
    if x.dim() == 2:
        return x.unsqueeze(1)
    return x.transpose(0, 1) if batch_first else x


def trailing_padding(x: Tensor) -> Tensor:
    """Return how many steps at the end of each sequence look like padding: one vector, zeros or repeated.

    Parameters
    ----------
    x : Tensor of shape (T, B, ...)

    Returns
    -------
    Tensor of shape (B,), int64
        Zeros where every sequence is constant, since nothing can be told of such a sample.
    """
    none = torch.zeros(x.shape[1], dtype=torch.long, device=x.device)
    if not x.numel():
        return none
    x = x.detach().reshape(*x.shape[:2], -1)
    last = x[-1]
    runs = (x == last).all(-1).flip(0).long().cumprod(0).sum(0)
    if bool((runs == len(x)).all()):
        return none
    zero = (last == 0).all(-1)
    if bool(zero.any()):
        return torch.where(zero, runs, 0)
    longest = int(runs.argmax())
    return torch.where((last == last[longest]).all(-1), runs, 0) if runs[longest] > 1 else none
