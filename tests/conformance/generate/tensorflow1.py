# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
"""Golden values of TensorFlow 1's recurrent functions (`tf.compat.v1.nn`), outputs and gradients.

Run as `python tests/conformance/generate/tensorflow1.py`; see README.md beside this file.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # rnn_cell.* live in tf_keras since TensorFlow 2.16
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain kernels: the same rounding on more machines
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
from golden_writer import Draw, GoldenFiles, check_clipped

v1 = tf.compat.v1
v1.disable_eager_execution()
v1.experimental.output_all_intermediates(True)  # gradients are added after a first run, for the shapes
v1.logging.set_verbosity(v1.logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning)  # every cell warns that it is deprecated

VERSIONS = {"tensorflow": tf.__version__, "tf_keras": tf_keras.__version__, "numpy": np.__version__}
MAKERS = {
    "rnn": v1.nn.rnn_cell.BasicRNNCell,
    "lstm": v1.nn.rnn_cell.LSTMCell,
    "gru": v1.nn.rnn_cell.GRUCell,
}
Results = dict[str, tf.Tensor]


class Cell(NamedTuple):
    """A cell's kind, size and TensorFlow keywords."""

    kind: str
    hidden_size: int = 3
    options: Mapping[str, Any] = {}
    residual: bool = False


@dataclass(frozen=True)
class Case:
    """One call of one function. Several forward cells make a MultiRNNCell, or the layers of a stack."""

    name: str
    function: str
    forward: tuple[Cell, ...]
    backward: tuple[Cell, ...] = ()
    lengths: tuple[int, ...] | None = None
    time_major: bool = False
    initial_state: bool = True
    steps: int = 7
    batch: int = 5
    input_size: int = 5
    dtype: str = "float64"

    @property
    def meta(self) -> dict[str, Any]:
        """The case as JSON, but for its cells."""
        names = [name for name in self.__dataclass_fields__ if name not in ("name", "forward", "backward")]
        return {**{name: getattr(self, name) for name in names}, "versions": VERSIONS}


@dataclass
class Graph:
    """What a case's graph is built from, with the leaves that its parts add and gradients are taken of."""

    case: Case
    draw: Draw
    inputs: tf.Tensor
    lengths: tf.Tensor | None
    initial_state: list[tf.Tensor] = field(default_factory=list)
    loop_weights: dict[str, tf.Tensor] = field(default_factory=dict)
    built: list[tuple[str, Cell, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, case: Case) -> "Graph":
        """Draw the inputs."""
        draw = Draw(case.name, case.dtype)
        leading = (case.steps, case.batch) if case.time_major else (case.batch, case.steps)
        inputs = tf.constant(draw.inputs((*leading, case.input_size)))
        lengths = None if case.lengths is None else tf.constant(case.lengths, tf.int32)
        return cls(case, draw, inputs, lengths)

    def cell(self, cell: Cell, direction: str) -> Any:
        """Make a TensorFlow cell and remember it for its variables."""
        made = MAKERS[cell.kind](cell.hidden_size, **cell.options)
        self.built.append((direction, cell, made))
        return v1.nn.rnn_cell.ResidualWrapper(made) if cell.residual else made

    def joint(self, cells: tuple[Cell, ...], direction: str = "forward") -> Any:
        """One cell, or several as a MultiRNNCell."""
        made = [self.cell(cell, direction) for cell in cells]
        return made[0] if len(made) == 1 else v1.nn.rnn_cell.MultiRNNCell(made)

    def state(self, cell: Any) -> Any:
        """Draw an initial state of the cell, or None where the case gives none."""
        if not self.case.initial_state:
            return None
        sizes = tf.nest.flatten(cell.state_size)
        leaves = [tf.constant(self.draw.state((self.case.batch, size))) for size in sizes]
        self.initial_state.extend(leaves)
        return tf.nest.pack_sequence_as(cell.state_size, leaves)

    def loop_weight(self, name: str, shape: tuple[int, int]) -> tf.Tensor:
        """A matrix that belongs to a raw_rnn's loop function."""
        self.loop_weights[name] = tf.constant(self.draw.weight(shape, max(shape)))
        return self.loop_weights[name]

    def weights(self) -> dict[str, tf.Tensor]:
        """Every cell's variables under TensorFlow's names, and the loop function's matrices."""
        variables = {
            variable.name.removesuffix(":0"): variable
            for _, _, made in self.built
            for variable in made.trainable_weights
        }
        return {**variables, **{f"loop/{name}": matrix for name, matrix in self.loop_weights.items()}}

    def cells(self) -> list[dict[str, Any]]:
        """The cells in the order of their states, with the prefix of their variables' names."""
        described = []
        for direction, cell, made in self.built:
            scope = made.trainable_weights[0].name.removesuffix("/kernel:0").removesuffix("/gates")
            described.append({**cell._asdict(), "direction": direction, "scope": scope})
        return described


def number(prefix: str, structure: Any) -> Results:
    """Name the leaves of a structure prefix/0, prefix/1, ..."""
    return {f"{prefix}/{k}": leaf for k, leaf in enumerate(tf.nest.flatten(structure))}


def dynamic_rnn(graph: Graph) -> Results:
    """tf.nn.dynamic_rnn."""
    cell = graph.joint(graph.case.forward)
    outputs, state = v1.nn.dynamic_rnn(
        cell,
        graph.inputs,
        graph.lengths,
        graph.state(cell),
        dtype=graph.case.dtype,
        time_major=graph.case.time_major,
    )
    return number("outputs", outputs) | number("final_state", state)


def static_rnn(graph: Graph) -> Results:
    """tf.nn.static_rnn, its list of outputs stacked."""
    cell = graph.joint(graph.case.forward)
    inputs = tf.unstack(graph.inputs, axis=0)
    outputs, state = v1.nn.static_rnn(
        cell, inputs, graph.state(cell), dtype=graph.case.dtype, sequence_length=graph.lengths
    )
    return number("outputs", tf.stack(outputs)) | number("final_state", state)


def bidirectional_dynamic_rnn(graph: Graph) -> Results:
    """tf.nn.bidirectional_dynamic_rnn."""
    return bidirectional(graph, graph.inputs, graph.case.forward, graph.case.backward, scope=None)


def bidirectional(graph: Graph, inputs: tf.Tensor, forward: Any, backward: Any, scope: str | None) -> Results:
    """One bidirectional_dynamic_rnn over the given inputs."""
    cells = graph.joint(forward), graph.joint(backward, "backward")
    outputs, state = v1.nn.bidirectional_dynamic_rnn(
        *cells,
        inputs,
        graph.lengths,
        graph.state(cells[0]),
        graph.state(cells[1]),
        dtype=graph.case.dtype,
        time_major=graph.case.time_major,
        scope=scope,
    )
    return number("outputs", outputs) | number("final_state", state)


def stack_bidirectional_dynamic_rnn(graph: Graph) -> Results:
    """What tf.contrib.rnn's function of this name did: a layer reads both outputs of the one below.

    Final states come layer by layer, forward before backward.
    """
    value, states = graph.inputs, []
    for layer, cells in enumerate(zip(graph.case.forward, graph.case.backward, strict=True)):
        results = bidirectional(graph, value, cells[:1], cells[1:], scope=f"layer_{layer}")
        states.extend(tensor for path, tensor in results.items() if path.startswith("final_state/"))
        value = tf.concat([results["outputs/0"], results["outputs/1"]], axis=2)
    return number("outputs", value) | number("final_state", states)


def static_bidirectional_rnn(graph: Graph) -> Results:
    """tf.nn.static_bidirectional_rnn, its list of outputs stacked."""
    cells = graph.joint(graph.case.forward), graph.joint(graph.case.backward, "backward")
    outputs, *states = v1.nn.static_bidirectional_rnn(
        *cells,
        tf.unstack(graph.inputs, axis=0),
        graph.state(cells[0]),
        graph.state(cells[1]),
        dtype=graph.case.dtype,
        sequence_length=graph.lengths,
    )
    return number("outputs", tf.stack(outputs)) | number("final_state", states)


def raw_rnn_as_dynamic(graph: Graph) -> Results:
    """tf.nn.raw_rnn whose loop function does what dynamic_rnn does."""
    cell = graph.joint(graph.case.forward)
    initial_state = graph.state(cell)

    def loop(time: Any, output: Any, state: Any, _: Any) -> tuple[Any, ...]:
        next_input = graph.inputs[tf.minimum(time, graph.case.steps - 1)]
        return time >= graph.lengths, next_input, initial_state if output is None else state, output, None

    emitted, state, _ = v1.nn.raw_rnn(cell, loop)
    return number("outputs", emitted.stack()) | number("final_state", state)


def raw_rnn_feedback(graph: Graph) -> Results:
    """tf.nn.raw_rnn that feeds outputs back, emits a pair, shrinks its state and carries a loop state.

    The loop function keeps the loop state of rows that have finished, as raw_rnn keeps their state.
    """
    return feedback(graph, keep_finished=True)


def raw_rnn_running_loop_state(graph: Graph) -> Results:
    """The same with a loop state that goes on in rows that have finished: TensorFlow runs the cell there too."""
    return feedback(graph, keep_finished=False)


def feedback(graph: Graph, keep_finished: bool) -> Results:
    """The loop of the two functions above."""
    (cell_of_case,) = graph.case.forward
    cell = graph.joint(graph.case.forward)
    initial_state = graph.state(cell)
    feedback = graph.loop_weight("feedback", (cell_of_case.hidden_size, graph.case.input_size))
    readout = graph.loop_weight("readout", (cell_of_case.hidden_size, 2))

    def loop(time: Any, output: Any, state: Any, trace: Any) -> tuple[Any, ...]:
        step_input = graph.inputs[tf.minimum(time, graph.case.steps - 1)]
        finished = time >= graph.lengths
        if output is None:
            # TensorFlow wants the shapes of one row's emit here.
            emit = (tf.zeros([2], graph.case.dtype), tf.zeros([cell_of_case.hidden_size], graph.case.dtype))
            return finished, step_input, initial_state, emit, tf.zeros_like(step_input)
        next_input = step_input + tf.tanh(output @ feedback) + trace
        shrunk = tf.nest.map_structure(lambda leaf: 0.75 * leaf, state)
        next_trace = 0.5 * trace + tf.sin(next_input)
        if keep_finished:
            next_trace = tf.where((time > graph.lengths)[:, None], trace, next_trace)
        return finished, next_input, shrunk, (output @ readout, -output), next_trace

    emitted, state, trace = v1.nn.raw_rnn(cell, loop)
    emitted = [array.stack() for array in emitted]
    return number("outputs", emitted) | number("final_state", state) | number("final_loop_state", trace)


def raw_rnn_kept_loop_state(graph: Graph) -> Results:
    """tf.nn.raw_rnn whose loop function returns no loop state after the first call: the first one stays."""
    cell = graph.joint(graph.case.forward)
    initial_state = graph.state(cell)
    shift = graph.loop_weight("shift", (graph.case.batch, graph.case.input_size))

    def loop(time: Any, output: Any, state: Any, kept: Any) -> tuple[Any, ...]:
        step_input = graph.inputs[tf.minimum(time, graph.case.steps - 1)]
        finished = time >= graph.lengths
        if output is None:
            return finished, step_input, initial_state, None, shift
        return finished, step_input + kept, state, output, None

    emitted, state, kept = v1.nn.raw_rnn(cell, loop)
    return number("outputs", emitted.stack()) | number("final_state", state) | number("final_loop_state", kept)


FUNCTIONS = {
    function.__name__: function
    for function in (
        dynamic_rnn,
        static_rnn,
        bidirectional_dynamic_rnn,
        stack_bidirectional_dynamic_rnn,
        static_bidirectional_rnn,
        raw_rnn_as_dynamic,
        raw_rnn_feedback,
        raw_rnn_running_loop_state,
        raw_rnn_kept_loop_state,
    )
}


def evaluate(case: Case) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Build the case's graph, run it forward and backward, and return its meta and arrays."""
    with tf.Graph().as_default(), v1.Session() as session:
        graph = Graph.of(case)
        results = FUNCTIONS[case.function](graph)
        weights = graph.weights()
        draw_weights(graph, session)
        values = session.run(results)
        cotangents = {path: graph.draw.state(value.shape) for path, value in values.items()}
        loss = tf.add_n([tf.reduce_sum(results[path] * cotangents[path]) for path in results])
        leaves = {"inputs": graph.inputs, **number("initial_state", graph.initial_state)}
        leaves |= {f"weight/{name}": weight for name, weight in weights.items()}
        gradients = tf.gradients(loss, list(leaves.values()), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        arrays = session.run(leaves) | values
        arrays |= {f"gradient/{path}": value for path, value in zip(leaves, session.run(gradients), strict=True)}
    arrays |= {f"cotangent/{path}": value for path, value in cotangents.items()}
    check_clipping(case, values)
    return {**case.meta, "cells": graph.cells()}, arrays


def draw_weights(graph: Graph, session: Any) -> None:
    """Give every variable drawn numbers."""
    for _, cell, made in graph.built:
        for variable in made.trainable_weights:
            variable.load(graph.draw.weight(tuple(variable.shape), cell.hidden_size), session)


def check_clipping(case: Case, values: Mapping[str, np.ndarray]) -> None:
    """The final c and the outputs of a case of one cell show whether its clipping clips."""
    if case.function == "dynamic_rnn" and len(case.forward) == 1:
        options = case.forward[0].options
        check_clipped(case.name, values["final_state/0"], options.get("cell_clip"))
        if "proj_clip" in options:
            check_clipped(case.name, values["outputs/0"], options["proj_clip"])


RNN, LSTM, GRU = Cell("rnn"), Cell("lstm"), Cell("gru")
EVERYTHING: dict[str, Any] = {
    "use_peepholes": True,
    "num_proj": 2,
    "cell_clip": 0.4,
    "proj_clip": 0.15,
    "forget_bias": 1.0,
}
WHOLE_LSTM = LSTM._replace(options=EVERYTHING)
VARIANTS = {
    "rnn": RNN,
    "rnn_relu": RNN._replace(options={"activation": "relu"}),
    "lstm": LSTM,
    "lstm_no_forget_bias": LSTM._replace(options={"forget_bias": 0.0}),
    "lstm_relu": LSTM._replace(options={"activation": "relu"}),
    "lstm_peephole": LSTM._replace(options={"use_peepholes": True}),
    "lstm_projection": LSTM._replace(options={"num_proj": 2}),
    "lstm_cell_clip": LSTM._replace(options={"cell_clip": 0.4}),
    "lstm_projection_clip": LSTM._replace(options={"num_proj": 2, "proj_clip": 0.2}),
    "lstm_everything": WHOLE_LSTM,
    "gru": GRU,
    "gru_relu": GRU._replace(options={"activation": "relu"}),
}
# A MultiRNNCell of two cells, a residual cell (as wide as its inputs), and a residual one within a stack.
STACKS = {
    "multi_lstm_gru": (LSTM, GRU._replace(hidden_size=17)),
    "multi_lstm_everything": (WHOLE_LSTM._replace(hidden_size=5), WHOLE_LSTM),
    "residual_lstm": (Cell("lstm", 5, residual=True),),
    "multi_residual": (Cell("rnn", 4), Cell("gru", 4, residual=True)),
}
MIXED = (3, 7, 0, 1, 5)
SHORT = (3, 5, 0, 1, 2)  # no row reaches the last steps: the loop may end early
LENGTHS = {"none": None, "full": (7,) * 5, "ones": (1,) * 5, "zeros": (0,) * 5, "mixed": MIXED, "short": SHORT}
LONG = (40, 63, 0, 1, 17)


def cell_cases() -> list[Case]:
    """Every cell at small sizes, with mixed lengths and given initial states."""
    cases = [Case(f"dynamic_{name}", "dynamic_rnn", (cell,), lengths=MIXED) for name, cell in VARIANTS.items()]
    return cases + [Case(f"dynamic_{name}", "dynamic_rnn", cells, lengths=MIXED) for name, cells in STACKS.items()]


def length_cases() -> list[Case]:
    """Each kind of lengths, with and without initial states, time-major and batch-major in turn."""
    cases = []
    for k, (name, lengths) in enumerate(LENGTHS.items()):
        for j, cell in enumerate((RNN, LSTM, GRU)):
            options = {
                "lengths": lengths,
                "time_major": (k + j) % 2 == 0,
                "initial_state": name not in ("full", "mixed"),
            }
            cases.append(Case(f"dynamic_{cell.kind}_lengths_{name}", "dynamic_rnn", (cell,), **options))
    return cases


def size_cases() -> list[Case]:
    """The other sizes: single step, row and unit; 17 units over 63 steps; 64 units; and single precision."""
    cases = []
    for kind in MAKERS:
        one, odd, large = (Cell(kind, size) for size in (1, 17, 64))
        cases += [
            Case(f"dynamic_{kind}_single", "dynamic_rnn", (one,), steps=1, batch=1, input_size=1),
            Case(f"dynamic_{kind}_long", "dynamic_rnn", (odd,), lengths=LONG, steps=63, input_size=3),
            Case(f"dynamic_{kind}_wide", "dynamic_rnn", (large,), lengths=MIXED, initial_state=False),
            Case(f"dynamic_{kind}_row", "dynamic_rnn", (odd,), batch=1, steps=63, input_size=1, time_major=True),
        ]
    whole = WHOLE_LSTM._replace(hidden_size=17, options=EVERYTHING | {"num_proj": 7, "proj_clip": 0.1})
    return [
        *cases,
        Case("dynamic_lstm_everything_long", "dynamic_rnn", (whole,), lengths=LONG, steps=63, input_size=3),
    ]


def single_precision_cases() -> list[Case]:
    """Some of the cases of every function in float32."""
    chosen = ("dynamic_rnn", "dynamic_lstm", "dynamic_lstm_everything", "dynamic_gru", "dynamic_multi_lstm_gru")
    chosen += ("dynamic_rnn_long", "dynamic_lstm_long", "dynamic_gru_long")
    chosen += ("static_rnn_mixed", "static_lstm_everything_mixed", "static_gru_mixed", "static_lstm_long")
    # Not that of everything: in single precision one of its values lies one rounding from where it is clipped.
    chosen += tuple(f"bidirectional_{kind}_mixed" for kind in MAKERS)
    chosen += ("static_bidirectional_lstm_mixed", "stack_bidirectional_gru", "raw_rnn_as_dynamic_lstm_mixed")
    chosen += ("raw_rnn_feedback_lstm_mixed", "raw_rnn_feedback_gru_mixed", "raw_rnn_kept_loop_state_gru_mixed")
    cases = {case.name: case for case in all_cases()}
    return [replace(cases[name], name=f"{name}_float32", dtype="float32") for name in chosen]


def static_cases() -> list[Case]:
    """static_rnn."""
    cells: dict[str, tuple[Cell, ...]] = {
        "rnn": (RNN,),
        "lstm_everything": (WHOLE_LSTM,),
        "gru": (GRU,),
        "multi_lstm_gru": STACKS["multi_lstm_gru"],
    }
    cases = [
        Case(f"static_{name}_{kind}", "static_rnn", cell, lengths=LENGTHS[kind], time_major=True)
        for name, cell in cells.items()
        for kind in ("none", "mixed", "short")
    ]
    for kind in MAKERS:
        one, odd = Cell(kind, 1), Cell(kind, 17)
        short = Case(f"static_{kind}_single", "static_rnn", (one,), time_major=True, steps=1, input_size=1)
        long = replace(short, name=f"static_{kind}_long", forward=(odd,), steps=63, lengths=LONG)
        cases += [
            *edge_cases(Case(f"static_{kind}", "static_rnn", (Cell(kind),), time_major=True)),
            replace(short, batch=1),
            replace(long, initial_state=False),
        ]
    return cases


def edge_cases(case: Case) -> list[Case]:
    """A case with all rows full, of one step and of none."""
    lengths = ("full", "ones", "zeros")
    return [replace(case, name=f"{case.name}_lengths_{name}", lengths=LENGTHS[name]) for name in lengths]


def bidirectional_cases() -> list[Case]:
    """Both directions, with cells of two sizes; dynamic, static and stacked."""
    kinds: dict[str, tuple[Cell, Cell]] = {kind: (Cell(kind, 3), Cell(kind, 4)) for kind in MAKERS}
    kinds["everything"] = (WHOLE_LSTM, Cell("gru", 17))
    cases = []
    for k, (name, (forward, backward)) in enumerate(kinds.items()):
        for lengths in ("none", "mixed", "short"):
            options = {"lengths": LENGTHS[lengths], "initial_state": lengths != "none"}
            dynamic = Case("", "bidirectional_dynamic_rnn", (forward,), (backward,), **options)
            static = replace(dynamic, function="static_bidirectional_rnn", time_major=True)
            cases += [
                replace(dynamic, name=f"bidirectional_{name}_{lengths}", time_major=k % 2 == 1),
                replace(static, name=f"static_bidirectional_{name}_{lengths}"),
            ]
        stack = Case(
            f"stack_bidirectional_{name}",
            "stack_bidirectional_dynamic_rnn",
            (forward, backward._replace(hidden_size=4)),
            (backward, forward),
            lengths=MIXED,
            time_major=k % 2 == 0,
        )
        cases.append(stack)
    for kind in MAKERS:
        options = {"function": "static_bidirectional_rnn", "time_major": True}
        both = Case(f"bidirectional_{kind}", "bidirectional_dynamic_rnn", (Cell(kind, 3),), (Cell(kind, 4),))
        one = replace(both, name=f"{both.name}_single", forward=(Cell(kind, 1),), backward=(Cell(kind, 1),))
        row = replace(both, name=f"{both.name}_row", time_major=True, steps=63, batch=1, input_size=1)
        cases += [
            *edge_cases(both),
            *edge_cases(
                replace(both, name=f"static_{both.name}", function="static_bidirectional_rnn", time_major=True)
            ),
            replace(one, steps=1, batch=1, input_size=1),
            replace(row, forward=(Cell(kind, 17),)),
        ]
    return cases


def raw_cases() -> list[Case]:
    """raw_rnn with four loop functions."""
    functions = (raw_rnn_as_dynamic, raw_rnn_feedback, raw_rnn_running_loop_state, raw_rnn_kept_loop_state)
    cases = [
        Case(f"{function.__name__}_{cell.kind}_{name}", function.__name__, (cell,), lengths=lengths, time_major=True)
        for function in functions
        for cell in (LSTM, GRU)
        for name, lengths in (("mixed", MIXED), ("short", SHORT))
    ]
    for kind in MAKERS:
        case = Case(f"raw_rnn_as_dynamic_{kind}", "raw_rnn_as_dynamic", (Cell(kind),), time_major=True)
        row = replace(case, batch=1, input_size=1)
        cases += [
            *edge_cases(case),
            replace(row, name=f"{case.name}_single", forward=(Cell(kind, 1),), steps=1, lengths=(1,)),
            replace(row, name=f"{case.name}_row", forward=(Cell(kind, 17),), steps=63, lengths=(63,)),
        ]
    cases += [
        Case(f"{function.__name__}_rnn_mixed", function.__name__, (RNN,), lengths=MIXED, time_major=True)
        for function in functions
    ]
    whole = Case("raw_rnn_as_dynamic_lstm_everything", "raw_rnn_as_dynamic", (WHOLE_LSTM,), time_major=True)
    whole = replace(whole, lengths=MIXED)
    return [*cases, whole, replace(whole, name="raw_rnn_as_dynamic_multi_lstm_gru", forward=STACKS["multi_lstm_gru"])]


def all_cases() -> list[Case]:
    """Every case in double precision."""
    return [*cell_cases(), *length_cases(), *size_cases(), *static_cases(), *bidirectional_cases(), *raw_cases()]


def main() -> None:
    """Write every golden file of TensorFlow 1."""
    files = GoldenFiles("tensorflow1")
    groups = {
        "cells": cell_cases(),
        "lengths": length_cases(),
        "sizes": size_cases(),
        "float32": single_precision_cases(),
        "static": static_cases(),
        "bidirectional": bidirectional_cases(),
        "raw": raw_cases(),
    }
    for group, cases in groups.items():
        for case in cases:
            files.add(group, case.name, *evaluate(case))
    files.write()


if __name__ == "__main__":
    main()
