"""A model that runs a step at a time and keeps its state in between.

Letters: B batch, T steps, I input size, O output size, L layers, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from unspool._modes import set_grad
from unspool._nest import Nest, describe, leaves_of, map_leaves, named_leaves, require_tensors
from unspool.cells import match_state
from unspool.streaming._chain import Chain
from unspool.streaming._held import Held
from unspool.streaming._rows import Rows


class Stream:
    """A model with the state of each of its sequences; see `stream`, which makes one.

    Nothing that a stream computes has gradients: to train, call the model on whole sequences.

    Parameters
    ----------
    model, batch_size, dtype, stepwise
        See `stream`.

    Attributes
    ----------
    rows : Rows
        The keys of the sequences, in the order of the batch; `rows.attach()` adds one and `rows.detach(key)` removes
        one.

    Raises
    ------
    TypeError, ValueError
        See `stream`.
    """

    def __init__(
        self, model: Any, batch_size: int = 1, *, dtype: torch.dtype | None = None,
        stepwise: tuple[type[nn.Module], ...] = (),
    ) -> None:  # fmt: skip
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 0:
            raise ValueError(f"batch_size is {batch_size!r}; expected an int of at least 0.")
        self._chain, self._dtype = Chain(model, stepwise), dtype
        self._states = self._start(batch_size)
        self.rows = Rows(batch_size, self._insert, self._remove)
        self._lock = Lock()

    def step(self, x: Nest, *, rows: Any = None, constants: Nest | None = None) -> Nest:
        """Run one step of every sequence.

        Parameters
        ----------
        x : nesting of Tensor of shape (B, I), or (B,) for token ids
            The input of each sequence, in the order of `rows`.
        rows : iterable of keys, or booleans of shape (B,), optional
            The sequences that have an input now; all by default. Others keep their state.
        constants : nesting of Tensor of shape (B, ...), optional
            See `unspool.dynamic_rnn`.

        Returns
        -------
        nesting of Tensor of shape (B, O)
            A tensor of the caller's own.

        Raises
        ------
        TypeError, ValueError, KeyError, BackendError
            If an argument does not fit, or the model has changed so that it cannot stream. The state is then as it was.
        RuntimeError
            If another thread is running this stream.
        """
        return self._run(x, rows, constants, one_step=True)

    def __call__(self, chunk: Nest, *, rows: Any = None, constants: Nest | None = None) -> Nest:
        """Run several steps of every sequence.

        Parameters
        ----------
        chunk : nesting of Tensor of shape (T, B, I), or (B, T, I)
            In the layout that the model takes; `[B, T, I]` for a cell, as in `unspool.dynamic_rnn`.
        rows, constants
            See `step`.

        Returns
        -------
        nesting of Tensor of shape (T, B, O), or (B, T, O)
            Of shape (B, O) where the last layer has `return_sequences=False`.

        Raises
        ------
        TypeError, ValueError, KeyError, BackendError, RuntimeError
            See `step`.
        """
        require_tensors(chunk, "the chunk")
        swap = self._chain.batch_first
        for path, leaf in named_leaves(chunk, "the chunk"):
            if leaf.dim() < 2:
                layout = "[B, T, ...]" if swap else "[T, B, ...]"
                raise ValueError(f"{path} has shape {list(leaf.shape)}; expected {layout}. For one step call step.")
        y = self._run(map_leaves(_swapped, chunk) if swap else chunk, rows, constants, one_step=False)
        return map_leaves(_swapped, y) if swap and self._chain.keeps_time else y

    @property
    def state(self) -> Nest:
        """A copy of the state.

        That of a cell as the cell has it, leaves of shape (B, ...); that of a layer as the layer returns it, leaves of
        shape (L, B, H) for `LSTM`, `GRU`, `SimpleRNN` and `torch.nn`'s. With several recurrent parts a dict of them by
        the part's name in the model ("0", "2", ...). Assign one to go on from there.
        """
        return self._shown([held.copy() for held in self._states])

    @state.setter
    def state(self, state: Nest) -> None:
        with self._alone():
            self._states = self._matched(state, len(self.rows))

    def reset(self, rows: Any = None) -> None:
        """Let sequences start anew.

        Parameters
        ----------
        rows : iterable of keys, or booleans of shape (B,), optional
            All by default.

        Raises
        ------
        TypeError, ValueError, KeyError
            See `step`.
        """
        with self._alone():
            self._chain.check()
            if rows is None:
                self._states = self._start(len(self.rows))
                return
            indices = self.rows.indices(rows)
            if len(indices):
                for held, new in zip(self._states, self._start(len(indices)), strict=True):
                    held.put_rows(indices, new)

    def state_dict(self) -> dict[str, Any]:
        """Return the keys of the sequences and copies of their states, for `load_state_dict`.

        Returns
        -------
        dict of str
            `"rows"`, the list of keys, and each tensor of the state by its path: `"state.h"`, `"state[0]"`, or
            `"0.state.h"` with several recurrent parts. The weights are the model's, and not in it.
        """
        found: dict[str, Any] = {"rows": list(self.rows)}
        for name, held in self._named():
            found |= {path: leaf.clone() for path, leaf in named_leaves(held.nest, name)}
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take keys and states as `state_dict` has returned them.

        Parameters
        ----------
        state_dict : dict of str

        Raises
        ------
        TypeError, ValueError
            If names, shapes or dtypes are not those of this model. The stream is then as it was.
        """
        with self._alone():
            if not isinstance(state_dict, dict) or not isinstance(state_dict.get("rows"), list | tuple):
                raise TypeError("the state dict has no list of 'rows'; expected what Stream.state_dict returned.")
            keys = list(state_dict["rows"])
            states = self._start(len(keys))
            expected = {"rows"}
            for name, held in self._named(states):
                for path, leaf in named_leaves(held.nest, name):
                    expected.add(path)
                    value = state_dict.get(path)
                    if not isinstance(value, Tensor) or value.shape != leaf.shape or value.dtype != leaf.dtype:
                        raise ValueError(f"{path} of the state dict is {describe(value)}; expected {describe(leaf)}.")
                    with torch.no_grad():
                        leaf.copy_(value)
            if unknown := state_dict.keys() - expected:
                raise ValueError(f"the state dict has {sorted(unknown)} too; expected {sorted(expected)} alone.")
            if len(set(keys)) != len(keys):
                raise ValueError(f"the rows of the state dict are {keys}; expected each key once.")
            self._states = states
            self.rows.replace(keys)

    def __repr__(self) -> str:
        return f"Stream({', '.join(map(str, self._chain.parts))}; {len(self.rows)} sequences)"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, which cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def _run(self, x: Nest, rows: Any, constants: Nest | None, one_step: bool) -> Nest:
        """Run over a chunk of shape (T, B, ...), or one step of shape (B, ...)."""
        self._enter()
        recording = torch.is_grad_enabled()
        try:
            chain, states = self._chain, self._states
            chain.check()
            indices = None if rows is None else self.rows.indices(rows)
            batch = len(self.rows) if indices is None else len(indices)
            axis = 0 if one_step else 1
            for leaf in (x,) if type(x) is Tensor else leaves_of(x):
                if (
                    not isinstance(leaf, Tensor)
                    or leaf.shape[axis : axis + 1] != (batch,)
                    or (recording and leaf.requires_grad)
                ):
                    raise _unfit(leaf, axis, batch, "the stream's sequences" if indices is None else "rows")
            set_grad(False)  # what `torch.no_grad` does
            if indices is None:
                return chain.run(x, states, constants, one_step)
            chosen = [held.rows(indices) for held in states]
            y = chain.run(x, chosen, constants, one_step)
            for held, new in zip(states, chosen, strict=True):
                held.put_rows(indices, new)
            return y
        finally:
            set_grad(recording)
            self._lock.release()

    def _enter(self) -> None:
        """Refuse to be entered by two threads, or twice by one."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("the stream is running already, in another thread; expected one stream for each thread.")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._lock.release()

    def _start(self, batch_size: int) -> list[Held]:
        return [part.start(batch_size, self._dtype) for part in self._chain.recurrent]

    def _named(self, states: list[Held] | None = None) -> list[tuple[str, Held]]:
        states = self._states if states is None else states
        parts = self._chain.recurrent
        names = ["state"] if len(parts) == 1 else [f"{part.name}.state" for part in parts]
        return list(zip(names, states, strict=True))

    def _shown(self, states: list[Nest]) -> Nest:
        parts = self._chain.recurrent
        return states[0] if len(parts) == 1 else {p.name: s for p, s in zip(parts, states, strict=True)}

    def _matched(self, state: Nest, batch_size: int) -> list[Held]:
        """Check a state in the form in which users have it, and copy it."""
        models = self._start(batch_size)
        state = match_state(state, self._shown([held.nest for held in models]), "the state")
        parts = self._chain.recurrent
        states = [state] if len(parts) == 1 else [state[part.name] for part in parts]
        return [Held(new, held.axis) for new, held in zip(states, models, strict=True)]

    def _insert(self, state: Nest | None) -> None:
        with self._alone():
            new = self._start(1) if state is None else self._matched(state, 1)
            self._states = [held.joined(one) for held, one in zip(self._states, new, strict=True)]

    def _remove(self, place: int) -> Nest:
        with self._alone():
            others = torch.tensor([k for k in range(len(self.rows)) if k != place], dtype=torch.long)
            gone = [held.rows(torch.tensor([place])) for held in self._states]
            self._states = [held.rows(others) for held in self._states]
            return self._shown([held.nest for held in gone])


def stream(
    model: Any, batch_size: int = 1, *, dtype: torch.dtype | None = None, stepwise: tuple[type[nn.Module], ...] = ()
) -> Stream:
    """Run a model one step at a time, with the numbers of a run over whole sequences.

    Parameters
    ----------
    model : Module, or list of them
        A cell; a layer; one of `torch.nn`'s recurrent modules, accelerated or not, whose output goes on without its
        state; or a `torch.nn.Sequential` or list of these with linear, embedding and normalisation layers, activations
        and, in evaluation, dropout between them. Layers run forward. The model is not copied: a stream computes with
        the weights that it has at each step.
    batch_size : int
        Sequences B at first: see `Stream.rows`.
    dtype : torch.dtype, optional
        Of the state; that of the parameters by default.
    stepwise : tuple of type
        Classes of your own modules that act on each step by itself, and so may be in the model too. They are called
        with `[T, B, ...]`.

    Returns
    -------
    Stream

    Raises
    ------
    TypeError
        If the model has no recurrent part, or a module that is not known to act on each step by itself.
    ValueError
        If a part is bidirectional, runs backward, is in training with dropout, or has hooks that would not be called.

    Examples
    --------
    >>> model = torch.nn.Sequential(LSTM(3, 5, return_state=False), torch.nn.Linear(5, 2))
    >>> frames = torch.randn(7, 1, 3)
    >>> listening = stream(model)
    >>> y = torch.stack([listening.step(frame) for frame in frames])
    >>> torch.allclose(y, model(frames), atol=1e-6)
    True
    """
    return Stream(model, batch_size, dtype=dtype, stepwise=stepwise)


def _unfit(leaf: Any, axis: int, batch: int, expected: str) -> Exception:
    """Return what is wrong with an input."""
    form = f"[{batch}, ...]" if axis == 0 else f"{batch} sequences"
    if not isinstance(leaf, Tensor):
        return TypeError(f"the input is {describe(leaf)}; expected a tensor, {form}. Use torch.as_tensor.")
    if leaf.shape[axis : axis + 1] != (batch,):
        return ValueError(
            f"the input has shape {list(leaf.shape)}; expected {form}, one for each of {expected}. "
            + ("For several steps call the stream itself." if axis == 0 else "For one step call step.")
        )
    return ValueError(
        "the input requires gradients, which a stream does not record; expected x.detach(). To train, call the model "
        "on whole sequences."
    )


def _swapped(leaf: Tensor) -> Tensor:
    return leaf.transpose(0, 1)
