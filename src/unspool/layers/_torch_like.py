"""What SimpleRNN, LSTM and GRU share: `torch.nn`'s arguments, parameter names and stacked states."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from operator import attrgetter
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unspool._nest import Nest, leaves_of, map_leaves, require_tensors
from unspool._ragged import RaggedBatch
from unspool.backends import Schedule
from unspool.cells import BuiltinCell, draws_nothing, in_form, match_state
from unspool.execution import Again, BoolArray, Steps, as_tensor, in_form_of, run_cell
from unspool.layers._base import RUN_OPTIONS, RecurrentLayer, last_or_all, stack_states
from unspool.layers._options import DEFAULTS, CellOptions, LayerOptions, check_flags


class TorchLikeLayer(RecurrentLayer):
    """Several layers of a built-in cell, in one or both directions.

    The parameters belong to the layer, under `torch.nn`'s names (`weight_ih_l0`, `weight_hh_l0_reverse`, ...), so state
    dicts go both ways and parametrisations of these names work. The cells are bound to them at every call.

    Parameters
    ----------
    make_cell : callable
        `make_cell(input_size, hidden_size, bias, **options)` returns a new cell.
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        See `torch.nn.LSTM`.
    **options
        See `CellOptions` and `RunOptions`.
    """

    CELL_OPTIONS: ClassVar[tuple[str, ...]] = tuple(CellOptions.__annotations__)
    _options = attrgetter(*RUN_OPTIONS, "num_layers", "bidirectional", "dropout")
    proj_size: int = 0

    def __init__(
        self,
        make_cell: Callable[..., BuiltinCell],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        **options: Unpack[LayerOptions],
    ) -> None:
        given: dict[str, Any] = dict(options)
        # The layer's own `dropout` is that between layers, so that the cells' has another name.
        of_cell = {n.removeprefix("input_"): given.pop(n) for n in self.CELL_OPTIONS if n in given}
        super().__init__(batch_first, **given)
        check_flags(bias=bias, bidirectional=bidirectional)
        if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
            raise ValueError(f"num_layers is {num_layers!r}; expected an int of at least 1.")
        if isinstance(dropout, bool) or not (isinstance(dropout, Real) and 0.0 <= dropout <= 1.0):
            raise ValueError(f"dropout is {dropout!r}; expected a probability of dropping in [0, 1].")
        if dropout > 0.0 and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts between layers, and there is one layer: it has no effect. "
                "Use input_dropout or recurrent_dropout, or num_layers > 1.",
                stacklevel=3,
            )
        if bidirectional and self.reverse:
            raise ValueError(
                "bidirectional=True runs both ways already; expected no reverse or go_backwards beside it."
            )
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.bias, self.dropout, self.bidirectional = (
            num_layers,
            bias,
            float(dropout),
            bidirectional,
        )
        directions = 2 if bidirectional else 1
        self._cells: list[tuple[str, BuiltinCell]] = []
        width = input_size
        for layer in range(num_layers):
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[:directions]:
                cell = make_cell(width, hidden_size, bias, **of_cell)
                names = list(cell._parameters)
                for name in names:  # None stands for a parameter that there is not, as in the cell
                    self.register_parameter(name + suffix, None)
                for name, parameter in cell.named_parameters():
                    if name not in names:
                        raise TypeError(
                            f"{type(self).__name__} received an activation with parameters ({name}); expected one "
                            f"without, since its own are torch.nn's. Use RNN({type(cell).__name__}(...)) for it."
                        )
                    self.register_parameter(name + suffix, parameter)
                # What is kept is the cell without parameters: the layer's are the only ones.
                self._cells.append((suffix, cell.bind(dict.fromkeys(names), training=True)))
            width = directions * self._cells[0][1].output_size
        if self.learn_initial_state:
            self._learn(self._own_start())

    def _own_start(self) -> Nest:
        weight, sizes = self.all_weights[0][0], self._cells[0][1].state_size
        return map_leaves(lambda size: weight.new_zeros((len(self._cells), 1, size)), sizes)

    @property
    def _directions(self) -> tuple[bool, ...]:
        return (False, True) if self.bidirectional else (self.reverse,)

    @property
    def _state_axes(self) -> str:
        return ".B"

    def _tensors(self) -> dict[str, Tensor]:
        own, found = self._parameters, {}
        names = [name + suffix for suffix, cell in self._cells for name in cell._parameters]
        for name in [*names, *leaves_of(self._learned_names)] if self.learn_initial_state else names:
            # `getattr`, which takes its time, for those that a parametrisation computes.
            value = own[name] if name in own else getattr(self, name, None)
            if value is not None:
                found[name] = value
        return found

    def _without_batch(self, input: Nest) -> bool:
        return isinstance(input, Tensor) and input.dim() == 2

    def bound_cells(self, tensors: dict[str, Tensor] | None = None) -> list[BuiltinCell]:
        """Return the cells with the layer's parameters, or the tensors given, in place, by layer, then direction."""
        own, training = self._tensors() if tensors is None else tensors, self.training
        return [cell.bind({name: own.get(name + suffix) for name in cell._parameters}, training)
                for suffix, cell in self._cells]  # fmt: skip

    def reset_parameters(self) -> None:
        """Fill the parameters anew, as `init` tells."""
        super().reset_parameters()
        for cell in self.bound_cells():
            cell.reset_parameters()

    def flatten_parameters(self) -> None:
        """Do nothing: there is no flat buffer to keep. `torch.nn` has this method, and models call it."""

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters by layer and direction, as in `torch.nn`."""
        return [
            [p for name in cell._parameters if (p := getattr(self, name + suffix, None)) is not None]
            for suffix, cell in self._cells
        ]

    def _run_batch(
        self,
        tensors: dict[str, Tensor] | None,
        input: Nest,
        hx: Nest | None,
        about: Steps,
        constants: Nest | None,
    ) -> tuple[Nest, Nest]:
        """Run the layer; a sequence without a batch axis, `[T, I]`, is taken and given back as such.

        In its layout a mask and resets are `[T]`.
        """
        self._check_features(input)
        if not self._without_batch(input):
            return super()._run_batch(tensors, input, hx, about, constants)
        axis = 0 if self.batch_first else 1
        mask, resets = (
            None if value is None else _with_batch(value, name, axis)
            for name, value in {"mask": about.mask, "resets": about.resets}.items()
        )
        if hx is not None:
            tensors = self._tensors() if tensors is None else tensors  # once: to read one may mean to compute it
            hx = _matched(hx, self.bound_cells(tensors), len(self._cells))
            hx = map_leaves(lambda leaf: leaf.unsqueeze(1), hx)
        states = about.reset_states
        if states is not None:
            require_tensors(states, "reset_states")
            states = map_leaves(lambda leaf: leaf.unsqueeze(min(axis, leaf.dim())), states)
        about = Steps(about.lengths, mask, resets, states)
        output, state = super()._run_batch(tensors, input.unsqueeze(axis), hx, about, constants)
        return output.squeeze(axis if self.return_sequences else 0), map_leaves(lambda leaf: leaf.squeeze(1), state)

    def _check_features(self, input: Nest) -> None:
        """Refuse what is no batch of I features."""
        if isinstance(input, RaggedBatch):
            if isinstance(input.values, Tensor) and input.values.shape[1:] != (self.input_size,):
                raise ValueError(
                    f"{type(self).__name__} received ragged or packed values of shape {list(input.values.shape)}; "
                    f"expected [N, {self.input_size}] (input_size={self.input_size})."
                )
        elif not isinstance(input, Tensor) or input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            received = f"shape {list(input.shape)}" if isinstance(input, Tensor) else f"type {type(input).__name__}"
            layout = "[B, T, {0}]" if self.batch_first else "[T, B, {0}]"
            raise ValueError(
                f"{type(self).__name__} received an input of {received}; expected {layout.format(self.input_size)} or "
                f"[T, {self.input_size}] (batch_first={self.batch_first}, input_size={self.input_size})."
            )

    def advance(
        self, tensors: dict[str, Tensor] | None, x: Nest, hx: Nest, constants: Nest | None = None
    ) -> tuple[Nest, Nest, Again | None]:
        """Run the layer over a part of sequences: see `RecurrentLayer.advance`."""
        if not isinstance(x, Tensor) or x.dim() != 3 or x.shape[-1] != self.input_size:
            received = f"shape {list(x.shape)}" if isinstance(x, Tensor) else f"type {type(x).__name__}"
            raise ValueError(
                f"{type(self).__name__} received steps of {received}; expected [T, B, {self.input_size}] "
                f"(input_size={self.input_size})."
            )
        return super().advance(tensors, x, hx, constants)

    def _all_cells(self) -> list[BuiltinCell]:
        return [cell for _, cell in self._cells]

    @property
    def _starts_at_zero(self) -> bool:
        return not self.learn_initial_state

    def _read_once(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return self._tensors() if tensors is None else tensors

    def _rerun(self, last: Again, tensors: dict[str, Tensor] | None, input: Tensor, hx: Nest | None) -> Any:
        whole = last.start(hx)  # of all cells, each of which changes its part where gradients are off
        states = [[leaf.select(0, k) for leaf in whole] for k in range(len(last.runs))]
        found = self.repeat(
            last, self.bound_cells(tensors), input.transpose(0, 1) if self.batch_first else input, states
        )
        if found is None:
            return None
        output, finals = found
        if self.return_sequences:
            output = in_form_of(input, output, time_major=not self.batch_first)
        if torch.is_grad_enabled():
            return output, stack_states(finals)
        return output, whole[0] if last.kind is Tensor else last.kind(*whole)

    def repeat(
        self, last: Again, cells: Sequence[Any], x: Tensor, states: Sequence[list[Tensor]], one_step: bool = False
    ) -> tuple[Nest, list[Nest]] | None:
        """Run the cells as in an earlier run of this form: see `RecurrentLayer.repeat`."""
        if self.training and self.dropout and self.num_layers > 1:
            return None
        directions = len(last.schedules)
        output: Any = x
        outputs: list[Any] = []
        finals: list[Nest] = []
        for k, (cell, run) in enumerate(zip(cells, last.runs, strict=True)):
            found = run.run(cell, output, states[k], one_step) if draws_nothing(cell) else None
            if found is None:
                return None
            finals.append(found.final_state)
            wanted = one_step or self.return_sequences or k < len(last.runs) - directions
            outputs.append(last_or_all(last.schedules[k % directions], found.outputs, wanted))
            if len(outputs) == directions:
                output, outputs = outputs[0] if directions == 1 else torch.cat(outputs, -1), []
        return output, finals

    def _start(self, tensors: dict[str, Tensor] | None, batch_size: int) -> Nest:
        cells = self.bound_cells(tensors)
        weight = cells[0].weight_ih
        return map_leaves(lambda size: weight.new_zeros((len(cells), batch_size, size)), cells[0].state_size)

    def _run(
        self,
        x: Tensor,
        hx: Nest | None,
        constants: Nest | None,
        schedules: list[Schedule],
        reset_states: Nest | None,
        tensors: dict[str, Tensor] | None,
    ) -> tuple[Nest, Nest]:
        tensors = self._read_once(tensors)
        cells = self.bound_cells(tensors)
        states = _initial_states(cells, hx, schedules[0].batch)
        starts = _of_each(cells, self._learned(tensors))
        if reset_states is not None:
            reset_states = _matched(reset_states, cells, *schedules[0].shape, len(cells), name="reset_states")
        given = _of_each(cells, reset_states, axis=2)
        final_states = []
        output: Any = x
        for layer in range(self.num_layers):
            if layer > 0:
                output = self._drop(output, schedules[0])
            wanted = self.return_sequences or layer < self.num_layers - 1
            outputs = []
            for direction, schedule in enumerate(schedules):
                k = layer * len(schedules) + direction
                values, final, _ = run_cell(
                    cells[k],
                    output,
                    schedule,
                    states[k],
                    start=starts[k],
                    reset_states=given[k],
                    constants=constants,
                    pad_output=self.pad_output,
                    static=self.unroll,
                    backend=self.backend,
                    state_name="hx",
                )
                final_states.append(final)
                outputs.append(last_or_all(schedule, values, wanted))
            output = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        return output, stack_states(final_states)

    def _drop(self, values: Tensor, schedule: Schedule) -> Tensor:
        """Drop elements of `[T, B, F]`, or ragged `[N, 1, F]`, drawing in PyTorch's order: step by step."""
        if not schedule.ragged or not self.training or not self.dropout:
            return F.dropout(values, self.dropout, self.training)
        kept = F.dropout(torch.ones_like(values), self.dropout)
        return values * torch.empty_like(kept).index_copy(0, schedule.positions, kept)

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults: as `torch.nn` prints them, then the others."""
        torchs = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        changed = self._changed({**torchs, "bidirectional": False, **DEFAULTS})
        usual = {
            "activation": "tanh",
            "recurrent_activation": "sigmoid",
            "reset_after": True,
            "recurrent_bias": self.bias,
            "recurrent_dropout": 0.0,
            "init": "torch",
        }
        cell = self._cells[0][1]
        changed += [f"input_dropout={cell.dropout}"] if cell.dropout else []
        of_cell = {name: getattr(cell, name, default) for name, default in usual.items()}
        changed += [f"{k}={getattr(v, '__name__', v)}" for k, v in of_cell.items() if v != usual[k]]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed])


def _with_batch(value: BoolArray, name: str, axis: int) -> Tensor:
    """Add the batch axis to a mask or resets `[T]` of a single sequence."""
    flags = as_tensor(value, name)
    if flags.dim() != 1:
        raise ValueError(
            f"{name} has shape {list(flags.shape)}; expected booleans of shape [T], the layout of an input [T, I] "
            f"without a batch axis. Take {name}.flatten()."
        )
    return flags.unsqueeze(axis)


def _matched(states: Nest, cells: list[BuiltinCell], *axes: int, name: str = "hx") -> Nest:
    """Check states of all cells, with these axes before the features."""
    weight, sizes = cells[0].weight_ih, cells[0].state_size
    found = in_form(states, sizes, *axes, dtype=weight.dtype, device=weight.device)
    if found is not None:
        return found
    return match_state(states, map_leaves(lambda size: weight.new_empty(()).expand(*axes, size), sizes), name)


def _initial_states(cells: list[BuiltinCell], hx: Nest | None, batch: int) -> list[Nest | None]:
    """Cut the initial state `[L D, B, ...]` into one per layer and direction."""
    return _of_each(cells, None if hx is None else _matched(hx, cells, len(cells), batch))


def _of_each(cells: list[BuiltinCell], states: Nest | None, axis: int = 0) -> list[Nest | None]:
    """Cut states that are stacked on an axis, `[L D, ...]`, into one per layer and direction."""
    if states is None:
        return [None] * len(cells)
    return [map_leaves(lambda leaf, k=k: leaf.select(axis, k), states) for k in range(len(cells))]
