"""What all layers share: layouts, packed sequences, lengths, the static mode, and what is returned.

Letters: B batch, T steps, I input size, H hidden size, L layers, D directions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unspool._modes import is_exporting, is_tracing
from unspool._nest import Nest, describe, leaves_of, map_leaves
from unspool._ragged import RaggedBatch
from unspool.backends import Schedule, is_recording
from unspool.compiled import Layout, in_graphs
from unspool.execution import (
    Again,
    BoolArray,
    IntArray,
    Steps,
    again,
    how_to_repeat,
    in_form_of,
    longest,
    make_schedule,
    packed_like,
    ragged_inputs,
    ragged_of_packed,
    ragged_schedule,
    refuse_in_traces,
    remember,
    simplified,
    states_at_resets,
    take_rows_of,
    time_major_inputs,
)
from unspool.layers._options import DEFAULTS, RunOptions, checked_options
from unspool.layers._starts import StartingLayer

RUN_OPTIONS = (
    "batch_first", "reverse", "go_backwards", "return_sequences", "pad_output", "unroll", "backend", "training",
)  # fmt: skip
"""The attributes of a layer that a run depends on."""


class RecurrentLayer(StartingLayer):
    """Base of the layers: everything but the cells.

    Parameters
    ----------
    batch_first : bool
        Whether inputs and outputs have batch before time.
    **options
        See `RunOptions`.

    Raises
    ------
    ValueError
        If `num_steps` is given without `unroll` or is not positive, or an option has an unknown value.
    TypeError
        If there is an option of another name, or of another type.
    """

    _options: ClassVar[attrgetter[Any]] = attrgetter(*RUN_OPTIONS)
    """What a run depends on beside the inputs, the state and the cells."""

    def __init__(self, batch_first: bool = False, **options: Unpack[RunOptions]) -> None:
        given = checked_options(type(self), batch_first, options)
        super().__init__(given["learn_initial_state"], given["stateful"])
        self.batch_first = batch_first
        self.go_backwards: bool = given["go_backwards"]
        self.reverse: bool = given["reverse"] or self.go_backwards
        self.return_sequences: bool = given["return_sequences"]
        self.return_state: bool = given["return_state"]
        self.pad_output: str = given["pad_output"]
        self.unroll: bool = given["unroll"]
        self.num_steps: int | None = given["num_steps"]
        self.backend: str = given["backend"]

    @abstractmethod
    def _run(
        self,
        x: Nest,
        hx: Nest | None,
        constants: Nest | None,
        schedules: list[Schedule],
        reset_states: Nest | None,
        tensors: dict[str, Tensor] | None,
    ) -> tuple[Nest, Nest]:
        """Run the cells over checked inputs `[T, B, ...]`, or ragged `[N, 1, ...]`, with one schedule per direction.

        States at resets have the first axes of the inputs. With `tensors`, these stand for what `_tensors` returns.

        Returns
        -------
        outputs : nesting of Tensor in the form of the inputs, or of shape (B, ...) where only the last is returned
        state : nesting of Tensor
        """

    @property
    def _directions(self) -> tuple[bool, ...]:
        """For each direction that the layer runs in, whether it is the reverse one."""
        return (self.reverse,)

    def forward(
        self,
        input: Nest | PackedSequence,
        hx: Nest | None = None,
        *,
        lengths: IntArray | None = None,
        mask: BoolArray | None = None,
        resets: BoolArray | None = None,
        reset_states: Nest | None = None,
        constants: Nest | None = None,
    ) -> Any:
        """Run the layer over a batch of sequences.

        Parameters
        ----------
        input : Tensor of shape (T, B, I), or (B, T, I) with `batch_first`; or RaggedBatch; or PackedSequence
            Neither of the latter two is padded on the way.
        hx : nesting of Tensor, optional
            Initial state, as the layer returns its final one; by default the cell's own, zeros for most, or the one
            that is learned.
        lengths : integers of shape (B,), optional
            Valid steps of each sequence: any order, any device, 0 allowed.
        mask, resets : booleans of shape (T, B), or (B, T) with `batch_first`, optional
            In the layout of the input: see `unspool.dynamic_rnn`; resets of shape (N,) with a ragged batch.
        reset_states : nesting of Tensor of shape (T, B, ...), or (B, T, ...) with `batch_first`, optional
            The states to which resets return, in place of the initial one: see `unspool.dynamic_rnn`. Where states of
            layers are stacked, of shape (T, B, L D, H): a state of one sequence and step is kept in one piece, as
            TorchRL stores it. With a ragged batch of shape (N, ...).
        constants : nesting of Tensor of shape (B, ...), optional
            What the layer's cell takes beside input and state at every step: see `unspool.dynamic_rnn`.

        Returns
        -------
        output : Tensor of shape (T, B, D H), or (B, T, D H) with `batch_first`; or RaggedBatch; or PackedSequence
            With `return_sequences=False` of shape (B, D H).
        state
            Unless `return_state=False`. See the layer.

        Raises
        ------
        TypeError, ValueError, BackendError
            See `unspool.dynamic_rnn`; also for more steps than the static mode was built for, and for lengths or
            masks beside a ragged batch or a PackedSequence, which have their own lengths.
        """
        hx = self.resumed(input, hx)
        output, state = self.run_with(None, input, hx, Steps(lengths, mask, resets, reset_states), constants)
        self.keep(input, state)
        return (output, state) if self.return_state else output

    def _layout(self, input: Nest | PackedSequence) -> Layout:
        """Describe a run to a trace."""
        return layer_layout(
            self._tensors(),
            self.batch_first,
            self._without_batch(input),
            self._state_axes,
            self.return_sequences,
            settings=(self.reverse, self.go_backwards, self.pad_output, self.unroll, self.backend),
        )

    @in_graphs(_layout)
    def run_with(
        self,
        tensors: dict[str, Tensor] | None,
        input: Nest | PackedSequence,
        hx: Nest | None,
        about: Steps,
        constants: Nest | None,
    ) -> tuple[Nest, Nest]:
        """Run the layer with these tensors in place of its own.

        Parameters
        ----------
        tensors : dict of str to Tensor, or None
            By the names of the layer's parameters; None for its own.
        input, hx, constants
            See `forward`.
        about : Steps
            Lengths, mask, resets and the states at these.

        Returns
        -------
        output, state
            See `forward`.

        Raises
        ------
        TypeError, ValueError, BackendError, RuntimeError
            See `forward` and `unspool.execution.refuse_in_traces`.
        """
        if about.given and not is_tracing() and not self._without_batch(input):
            time_major = not self.batch_first
            about, hx = simplified(input, about, hx, self._starts_at_zero, time_major, "lengths")
        if constants is None and not about.given:
            last = again(self, self._options(self), input, hx)
            if last is not None:
                assert isinstance(input, Tensor)
                tensors = self._read_once(tensors)
                start = hx if hx is not None or not self.learn_initial_state else last.spread(self._learned(tensors))
                if start is not None or not self.learn_initial_state:
                    found = self._rerun(last, tensors, input, start)
                    if found is not None:
                        return found
        refuse_in_traces(input, about)
        if self.go_backwards and isinstance(input, PackedSequence | RaggedBatch):
            raise ValueError(
                f"go_backwards with a {type(input).__name__} would begin with padding; expected reverse=True."
            )
        if isinstance(input, PackedSequence):
            return self._run_packed(tensors, input, hx, about, constants)
        return self._run_batch(tensors, input, hx, about, constants)

    @abstractmethod
    def _rerun(self, last: Again, tensors: dict[str, Tensor] | None, input: Tensor, hx: Nest | None) -> Any:
        """Run the layer as in its last call of this form, or return None where a cell has changed."""

    @abstractmethod
    def bound_cells(self, tensors: dict[str, Tensor] | None) -> list[Any]:
        """Return the cells by layer, then direction, with these tensors in place where they hold none themselves.

        Parameters
        ----------
        tensors
            See `run_with`.
        """

    @abstractmethod
    def repeat(
        self, last: Again, cells: Sequence[Any], x: Tensor, states: Sequence[list[Tensor]], one_step: bool = False
    ) -> tuple[Nest, list[Nest]] | None:
        """Run the cells as in an earlier run of this form.

        Parameters
        ----------
        last : Again
            That of the earlier run.
        cells : sequence of cell
            See `bound_cells`.
        x : Tensor of shape (T, B, I)
        states : sequence of list of Tensor of shape (B, ...)
            For each cell the leaves of its initial state; see `Repeatable.run`.
        one_step : bool
            Whether input and output have no axis of time; see `Repeatable.run`.

        Returns
        -------
        output : nesting of Tensor of shape (T, B, ...), or (B, ...) where only the last is returned
        final_states : list of nesting of Tensor of shape (B, ...)

        None where a cell has changed; without gradients, some of the states may have been stepped by then.
        """

    @abstractmethod
    def _start(self, tensors: dict[str, Tensor] | None, batch_size: int) -> Nest:
        """Return the state in which the cells start so many sequences, in the form in which the layer returns one."""

    def start(self, tensors: dict[str, Tensor] | None, batch_size: int, dtype: torch.dtype | None = None) -> Nest:
        """Return the state in which so many sequences start, in the form in which the layer returns one.

        Parameters
        ----------
        tensors
            See `run_with`.
        batch_size : int
        dtype : torch.dtype, optional
            Of what is of floating point; that of the parameters by default.

        Raises
        ------
        TypeError, ValueError
            If a leaf of a cell's initial state is not a tensor, or has no batch axis.
        """
        axis, learned = self._state_axes.index("B"), self._learned(tensors)
        if learned is None:
            state = self._start(tensors, batch_size)
        else:
            state = map_leaves(
                lambda leaf: leaf.expand(*leaf.shape[:axis], batch_size, *leaf.shape[axis + 1 :]), learned
            )
        if dtype is None:
            return state
        return map_leaves(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, state)

    def advance(
        self, tensors: dict[str, Tensor] | None, x: Nest, hx: Nest, constants: Nest | None = None
    ) -> tuple[Nest, Nest, Again | None]:
        """Run the layer forward over time-major inputs without padding, as one part of a longer run.

        Parameters
        ----------
        tensors, constants
            See `run_with`.
        x : nesting of Tensor of shape (T, B, ...)
        hx : nesting of Tensor
            The initial state.

        Returns
        -------
        output, state
            See `repeat`; the state in the form of `hx`.
        again : Again or None
            For `repeat`, if that can do the same.

        Raises
        ------
        TypeError, ValueError, BackendError
            See `forward`.
        """
        schedule = make_schedule(time_major_inputs(x, time_major=True), Steps(), reverse=False, time_major=True)
        output, state = self._run(x, hx, constants, [schedule], None, tensors)
        last = None if constants is not None else how_to_repeat(x, state, self._all_cells(), [schedule], self.backend)
        return output, state, last

    def read_tensors(self) -> dict[str, Tensor] | None:
        """Return the layer's tensors, read once, for `repeat` and `advance`; None where they are read by themselves."""
        return self._read_once(None)

    def _read_once(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Return the tensors with which to go on where reading one of the layer's own may mean to compute it."""
        return tensors

    @property
    @abstractmethod
    def _starts_at_zero(self) -> bool:
        """Whether the cells are known to start at zero."""

    @abstractmethod
    def _all_cells(self) -> list[Any]:
        """Return the cells by layer, then direction."""

    def _run_packed(
        self,
        tensors: dict[str, Tensor] | None,
        input: PackedSequence,
        hx: Nest | None,
        about: Steps,
        constants: Nest | None,
    ) -> tuple[Nest, Nest]:
        """Run the layer over the ragged batch that is in a packed sequence."""
        if about.given:
            raise ValueError("lengths, mask or resets were given beside a PackedSequence; expected the input alone.")
        batch, places = ragged_of_packed(input)
        axis = self._state_axes.index("B")
        hx = take_rows_of(hx, axis, input.sorted_indices)
        constants = take_rows_of(constants, 0, input.sorted_indices)
        output, state = self._run_batch(tensors, batch, hx, about, constants)
        state = take_rows_of(state, axis, input.unsorted_indices)
        if not self.return_sequences:
            return take_rows_of(output, 0, input.unsorted_indices), state
        if not isinstance(output, RaggedBatch):
            values = map_leaves(lambda leaf: leaf.values, output, stop_at=lambda node: isinstance(node, RaggedBatch))
            raise TypeError(
                f"the output of the cell is {describe(values)} for all steps; expected a tensor, all that a "
                "PackedSequence can hold. Pass padded input and lengths."
            )
        return packed_like(output, input, places), state

    def __prepare_scriptable__(self) -> Any:
        """Refuse `torch.jit.script`, which looks for this method."""
        raise RuntimeError(
            f"torch.jit.script was called on {type(self).__name__}, which is Python that TorchScript cannot read; "
            "expected torch.export.export, or torch.onnx.export with dynamo=True. See docs/export.md."
        )

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """Return all tensors that `_run` reads from the layer, by names of the layer's own."""

    def _run_batch(
        self,
        tensors: dict[str, Tensor] | None,
        input: Nest,
        hx: Nest | None,
        about: Steps,
        constants: Nest | None,
    ) -> tuple[Nest, Nest]:
        if isinstance(input, RaggedBatch):
            x = ragged_inputs(input, about)
            self._check_steps(longest(input))
            # Unrolled, every batch has the plan's number of steps, so that there is one plan.
            schedules = [ragged_schedule(input, about, reverse, self.num_steps) for reverse in self._directions]
        else:
            x = time_major_inputs(input, time_major=not self.batch_first)
            self._check_steps(leaves_of(x)[0].shape[0])
            schedules = [
                make_schedule(x, about, reverse, not self.batch_first, "lengths") for reverse in self._directions
            ]
        reset_states = states_at_resets(about, input, time_major=not self.batch_first)
        output, state = self._run(x, hx, constants, schedules, reset_states, tensors)
        if not (about.given or constants is not None or self.unroll or self.go_backwards):
            remember(self, self._options(self), input, state, self._all_cells(), schedules, self.backend)
        if self.return_sequences:
            output = map_leaves(lambda leaf: leaf.flip(0), output) if self.go_backwards else output
            output = in_form_of(input, output, time_major=not self.batch_first)
        return output, state

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        return ", ".join(self._changed({"batch_first": False, **DEFAULTS}))

    def _changed(self, defaults: dict[str, Any]) -> list[str]:
        """Return how to print the attributes that differ from these."""
        return [f"{k}={getattr(self, k)!r}" for k, default in defaults.items() if getattr(self, k) != default]

    def _check_steps(self, steps: int) -> None:
        if not self.unroll:
            return
        if isinstance(steps, torch.SymInt):
            raise ValueError(
                f"{type(self).__name__} is unrolled, so its number of steps is fixed, and was exported with a dynamic "
                "axis of time; expected a static one. Leave time out of dynamic_shapes, or use unroll=False."
            )
        limit = steps if self.num_steps is None else self.num_steps
        if not (is_recording() or is_exporting()):  # they leave the layer as it is
            self.num_steps = limit
        if steps > limit:
            raise ValueError(
                f"{type(self).__name__} is unrolled for {limit} steps and received {steps}; expected at most {limit}. "
                f"Cut the input, build the layer with num_steps={steps}, or use unroll=False."
            )


def layer_layout(
    tensors: dict[str, Tensor],
    batch_first: bool,
    without_batch: bool,
    state_axes: str = ".B",
    return_sequences: bool = True,
    *,
    settings: tuple[Any, ...],
) -> Layout:
    """Describe the run of a layer to a trace.

    Parameters
    ----------
    tensors, settings
        See `Layout`.
    batch_first, without_batch, return_sequences : bool
        The layout of input and output: whether the input is a single sequence, `[T, I]`.
    state_axes : str
        See `RecurrentLayer`.
    """
    steps, sequences = ("BT" if batch_first else "TB"), "B"
    if without_batch:
        steps, state_axes, sequences = "T", state_axes.replace("B", ""), "."
    outputs = steps if return_sequences else steps.replace("T", "")
    return Layout(tensors, steps, state_axes, (outputs, state_axes), steps, sequences, settings)


def last_or_all(schedule: Schedule, outputs: Nest, return_sequences: bool) -> Nest:
    """Return the outputs of all steps, or that of each sequence's last valid step."""
    return outputs if return_sequences else schedule.at_last(outputs)


def stack_states(states: list[Nest]) -> Nest:
    """Stack the states of L layers and D directions to leaves of shape `[L D, B, ...]`, as `torch.nn` returns them."""
    if len(states) == 1:
        return map_leaves(lambda leaf: leaf.unsqueeze(0), states[0])
    return map_leaves(lambda *leaves: torch.stack(leaves), *states)
