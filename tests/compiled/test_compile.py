"""Compiled models: one operator per run in the graph, the numbers of the uncompiled model, errors that say why."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.fx.node import map_arg
from torch.nn.utils import parametrizations
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import unspool as us
from tests.conformance.cases import KINDS, WAYS, Case
from tests.conformance.oracle import Problem, Run, assert_close, map_leaves, measure, with_gradient
from tests.conformance.runs import about_steps, batch_first
from tests.conformance.user_cells import SumCell, TokenCell
from unspool.compiled import _operator

pytestmark = [
    # Importing inductor defines scripted classes, which PyTorch itself has deprecated.
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
    # Dynamo looks at this attribute of everything that enters a graph.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

BACKENDS = ["eager", "aot_eager"]


@pytest.fixture(scope="module", autouse=True)
def compiler_files(tmp_path_factory) -> Iterator[None]:
    """Keep the files of compilers among those of the tests; those of one test serve the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Recorder:
    """A backend that runs a graph as it is and notes how many runs stand in it."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        found = [n for n in graph.graph.nodes if str(n.target) == "unspool.run"]
        self.runs.append(len(found))
        given = dict(zip(graph.graph.find_nodes(op="placeholder"), inputs, strict=True))
        taken = {n for run in found for n in run.all_input_nodes}
        if taken <= given.keys():
            self.calls += [map_arg(n.args, lambda a: given[a]) for n in found]
        return graph.forward


def compiled(function: Any, backend: Any = "eager", **options: Any) -> Any:
    if backend == "inductor":
        options["options"] = {"cpp.vec_isa_ok": False}  # what is vectorised takes seconds more to compile
    return torch.compile(function, backend=backend, fullgraph=True, **options)


def kept_graphs() -> int:
    """How many graphs wait for a backward pass."""
    return len(_operator._tickets)


def batch(dtype: torch.dtype = torch.float32, rows: int = 4, steps: int = 6) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([6, 1, 0, 4, 2, 5, 3])[:rows].clamp(max=steps)
    return torch.randn(rows, steps, 3, dtype=dtype, requires_grad=True), lengths


def assert_same(function: Any, fast: Any, sources: list[Tensor], *args: Any, seed: int = 0, **kwargs: Any) -> None:
    """Compare values and gradients of two functions that return tensors in nestings."""

    def measured(f: Any) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        values = [v for v in tree_leaves(f(*args, **kwargs)) if isinstance(v, Tensor)]
        weights = torch.Generator().manual_seed(1)
        loss = sum((v * torch.randn(v.shape, generator=weights, dtype=v.dtype)).sum() for v in values)
        grads = torch.autograd.grad(loss, sources, allow_unused=True)  # type: ignore[arg-type]
        grads = [torch.zeros_like(s) if g is None else g for s, g in zip(sources, grads, strict=True)]
        return {f"{k}": v.detach() for k, v in enumerate([*values, *grads])}

    assert_close(measured(fast), measured(function), sources[0].dtype)


def run_case(case: Case, problem: Problem, compiler: Callable[[Any], Any]) -> Run:
    """Run a case with everything that varies given as tensors."""
    cell = problem.cell
    fixed: dict[str, Any] = {"reverse": case.reverse, "pad_output": case.pad_output}
    execution, _, variant = case.execution.partition(" ")
    major = variant == "time-major"
    layer = us.RNN(cell, batch_first=variant == "batch-first", unroll=variant == "unrolled", **fixed)

    def run(inputs: Any, state: Any, lengths: Any, mask: Any, resets: Any, constants: Any) -> Any:
        options = {"mask": mask, "resets": resets, "constants": constants}
        if execution == "RNN":
            return layer(inputs, state, lengths=lengths, **options)
        options |= fixed
        if execution == "static_rnn":
            return us.static_rnn(cell, inputs, lengths, state, **options)
        every = variant == "all states"
        return us.dynamic_rnn(cell, inputs, lengths, state, major, return_all_states=every, **options)

    inputs = problem.inputs
    if major or (execution == "RNN" and variant != "batch-first"):
        inputs = batch_first(inputs)
    elif execution == "static_rnn":
        inputs = [map_leaves(lambda leaf, t=t: leaf[:, t], inputs) for t in range(case.sizes[1])]
    varying = [case.lengths_list(), *about_steps(case).values()]
    torch.manual_seed(case.seed)
    tensors = [None if v is None else torch.tensor(v) for v in varying]
    return Run(*compiler(run)(inputs, problem.initial_state, *tensors, problem.constants))


# An operator knows of a cell its tensors and the forms of what goes in and out.
TURNS = [Case(row, "auto", **WAYS[(7 * k) % len(WAYS)]) for k, row in enumerate(KINDS)]


@pytest.mark.parametrize("case", TURNS, ids=str)
def test_every_cell_is_one_operator_with_the_numbers_of_the_uncompiled_run(case):
    problem = case.problem()
    problem = problem._replace(inputs=with_gradient(problem.inputs))
    recorder = Recorder()
    expected = measure(lambda: run_case(case, problem, lambda run: run), problem)
    actual = measure(lambda: run_case(case, problem, lambda run: compiled(run, recorder)), problem)
    assert_close(actual, expected, case.dtype)
    assert recorder.runs == [1]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: us.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "LSTM with projection": lambda: us.LSTM(3, 4, proj_size=2, batch_first=True, return_sequences=False),
    "GRU": lambda: us.GRU(3, 4, batch_first=True, go_backwards=True),
    "GRU on the reference": lambda: us.GRU(3, 4, batch_first=True, backend="reference"),
    "SimpleRNN": lambda: us.SimpleRNN(3, 4, batch_first=True, unroll=True, return_state=False),
    "dropout": lambda: us.LSTM(
        3, 4, 2, dropout=0.3, input_dropout=0.2, recurrent_dropout=0.5, batch_first=True, pad_output="repeat"
    ),
    "RNN": lambda: us.RNN(us.ZoneoutCell(us.GRUCell(3, 4), 0.3), batch_first=True, reverse=True),
    "Bidirectional": lambda: us.Bidirectional(
        us.LSTM(3, 4, batch_first=True, return_sequences=False), merge_mode="sum"
    ),
}


@pytest.mark.parametrize(
    ("name", "training"), [*((name, True) for name in LAYERS), ("LSTM", False), ("dropout", False)]
)
def test_every_layer_is_one_operator_with_the_numbers_of_the_uncompiled_layer(name, training):
    layer = LAYERS[name]().double().train(training)
    x, lengths = batch(torch.float64)
    recorder = Recorder()
    fast = compiled(layer, recorder)
    for n in (lengths, lengths.flip(0)):  # other lengths, the same code; the same seed gives the same masks
        assert_same(layer, fast, [x, *layer.parameters()], x, lengths=n)
    assert recorder.runs == [2 if name == "Bidirectional" else 1]
    assert kept_graphs() == 0


class Model(nn.Module):
    """Several layers and operations between them, which compilers may fuse, reorder and write over."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = us.LSTM(3, 4, batch_first=True)
        self.gru = us.RNN(us.GRUCell(4, 5), batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, state = self.lstm(x, lengths=lengths)
        y, last = self.gru(y.square(), lengths=lengths)
        again, _ = self.gru(y[..., :4], last, lengths=lengths)
        return again.square() + state.c.sum()


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_a_model_of_several_layers(backend):
    model = Model()
    fast = compiled(model, backend, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows, steps in ((4, 6), (7, 3)):
            x, lengths = batch(rows=rows, steps=steps)
            assert_same(model, fast, [x, *model.parameters()], x, lengths)
            assert kept_graphs() == 0
    with torch.no_grad():
        fast = compiled(model.lstm, backend)
        assert torch.allclose(fast(x, lengths=lengths)[0], model.lstm(x, lengths=lengths)[0], atol=1e-6)
        assert kept_graphs() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_numbers_of_rows_and_steps_with_one_compilation(backend):
    layer = us.GRU(3, 4, batch_first=True)
    fast = compiled(layer, backend, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows, steps in ((4, 6), (7, 3), (3, 21)):
            x, lengths = batch(rows=rows, steps=steps)
            assert_same(layer, fast, [x, *layer.parameters()], x, lengths=lengths)


def test_marked_axes_stay_dynamic():
    layer, recorder = us.LSTM(3, 4, batch_first=True), Recorder()
    fast = compiled(layer, recorder)
    for rows, steps in ((4, 6), (7, 3)):
        x, lengths = batch(rows=rows, steps=steps)
        for tensor, axes in ((x, (0, 1)), (lengths, (0,))):
            torch._dynamo.mark_dynamic(tensor, axes)
        assert_same(layer, fast, [x], x, lengths=lengths)
    assert recorder.runs == [1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_runs_alike_draw_different_masks(backend):
    layer = us.LSTM(3, 4, recurrent_dropout=0.5, batch_first=True)
    x, _ = batch()
    first, second = compiled(lambda: (layer(x)[0], layer(x)[0]), backend)()
    assert not torch.equal(first, second)


def test_layers_of_one_class_do_not_share_code():
    cells = [us.LSTMCell(3, 4, cell_clip=clip) for clip in (0.01, None)]
    cells[1].load_state_dict(cells[0].state_dict())
    fast = compiled(lambda cell, x: us.dynamic_rnn(cell, x)[0])
    x, _ = batch()
    for cell in (*cells, *cells):
        assert torch.equal(fast(cell, x), us.dynamic_rnn(cell, x)[0])


def test_parametrized_weights_and_frozen_ones():
    layer = parametrizations.weight_norm(us.LSTM(3, 4, batch_first=True), "weight_hh_l0")
    layer.weight_ih_l0.requires_grad_(False)
    x, _ = batch()
    trained = [p for p in layer.parameters() if p.requires_grad]
    assert_same(layer, compiled(layer, "aot_eager"), [x, *trained], x)


def test_a_module_with_other_parameters_put_in_place():
    layer = us.RNN(us.GRUCell(3, 4), batch_first=True)
    x, _ = batch()
    others = {name: torch.randn_like(p) for name, p in layer.named_parameters()}

    def run(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, values, (x,))[0]

    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    assert torch.allclose(compiled(run)(others), run(others))
    assert all(torch.equal(p, before[name]) and isinstance(p, nn.Parameter) for name, p in layer.named_parameters())


def test_sequences_without_a_batch():
    layer = us.LSTM(3, 4)
    x = torch.randn(6, 3, requires_grad=True)
    fast = compiled(layer, "aot_eager", dynamic=True)
    assert_same(layer, fast, [x], x)
    assert_same(layer, fast, [x], x, us.LSTMState(torch.randn(1, 4), torch.randn(1, 4)), lengths=torch.tensor([3]))


def test_lists_of_lengths():
    layer = us.LSTM(3, 4, batch_first=True)
    x, lengths = batch()
    assert_same(layer, compiled(layer), [x], x, lengths=lengths.tolist())


def test_options_that_change_are_seen():
    layer = us.LSTM(3, 4, batch_first=True, return_state=False)
    x, lengths = batch()
    fast = compiled(layer)
    for layer.return_sequences, layer.pad_output in ((True, "zero"), (True, "repeat"), (False, "zero")):
        assert torch.equal(fast(x, lengths=lengths), layer(x, lengths=lengths))
    layer.train(False)
    assert torch.equal(fast(x, lengths=lengths), layer(x, lengths=lengths))


def test_inference_mode_and_autocast():
    layer = us.LSTM(3, 4, batch_first=True)
    x, lengths = batch()
    fast = compiled(layer, "aot_eager")
    with torch.inference_mode():
        assert torch.equal(fast(x, lengths=lengths)[0], layer(x, lengths=lengths)[0])
    with torch.autocast("cpu", torch.bfloat16):
        cast = layer(x)[0]
        assert torch.equal(fast(x)[0], cast)
    assert not torch.equal(fast(x)[0], cast)


def test_packed_sequences_run_outside_of_the_graph():
    layer = us.LSTM(3, 4)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(6, 3, 3), torch.tensor([2, 6, 3]), enforce_sorted=False)
    assert torch.equal(torch.compile(layer, backend="eager")(packed)[0].data, layer(packed)[0].data)
    torch._dynamo.reset()
    with pytest.raises(Unsupported, match="a PackedSequence or a RaggedBatch has shapes that depend on its data"):
        compiled(layer)(packed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_recomputing_runs(backend):
    layer = us.LSTM(3, 4, batch_first=True, recurrent_dropout=0.5)
    # With backend="eager", PyTorch's checkpoints forget the random state, for its own dropout too.
    layer.train(backend != "eager")

    def inner(x: Tensor) -> Tensor:
        return layer(x)[0].square()

    def model(x: Tensor) -> Any:
        return checkpoint(inner, x, use_reentrant=False)

    x, _ = batch()
    fast = compiled(model, backend)
    fast(x)
    gc.collect()
    assert kept_graphs() == 0  # nothing waits: the backward pass runs the layer again
    assert_same(inner, fast, [x, *layer.parameters()], x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_graphs_live_as_long_as_a_backward_pass_may_come(backend):
    layer = us.LSTM(3, 4, batch_first=True)
    x, _ = batch()
    fast = compiled(layer, backend)
    output, _ = fast(x)
    assert kept_graphs() == 1
    once = torch.autograd.grad(output.sum(), x, retain_graph=True)
    twice = torch.autograd.grad(output.sum(), x)
    assert torch.equal(once[0], twice[0])
    assert kept_graphs() == 0
    output, _ = fast(x)
    del output, _
    assert kept_graphs() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_tensors_that_are_copied_are_refused(backend):
    x, _ = batch()
    fast = compiled(us.LSTM(3, 4, batch_first=True), backend)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        output, _ = fast(x)
    with pytest.raises(RuntimeError, match=r"has been copied or moved .*hooks on saved tensors"):
        output.sum().backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivatives_of_derivatives_are_refused(backend):
    x, _ = batch()
    output, _ = compiled(us.LSTM(3, 4, batch_first=True), backend)(x)
    with pytest.raises(RuntimeError, match=r"derivatives of derivatives|does not currently support double backward"):
        torch.autograd.grad(torch.autograd.grad(output.square().sum(), x, create_graph=True)[0].sum(), x)


class Wrong(NamedTuple):
    kind: type[Exception]
    message: str
    args: tuple[Any, ...] = ()
    lengths: Any = None


WRONG = [
    Wrong(ValueError, r"lengths\[0\] is 9; expected integers of shape \[4\]", lengths=torch.tensor([9, 1, 1, 1])),
    Wrong(ValueError, r"lengths has shape \[2\]; expected", lengths=torch.tensor([1, 1])),
    Wrong(TypeError, "lengths has dtype torch.float32", lengths=torch.ones(4)),
    Wrong(ValueError, "hx has the structure", args=(torch.ones(2, 2),)),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: w.message[:30])
def test_errors_are_those_of_the_uncompiled_layer(wrong):
    layer = us.LSTM(3, 4, batch_first=True)
    x, _ = batch()
    with pytest.raises(wrong.kind, match=wrong.message):
        torch.compile(layer, backend="eager")(x, *wrong.args, lengths=wrong.lengths)
    # What is wrong whatever the data is refused by the compiler, where it may not leave the graph.
    with pytest.raises((wrong.kind, Unsupported), match=wrong.message):
        compiled(layer)(x, *wrong.args, lengths=wrong.lengths)


def test_a_backend_that_refuses():
    x, _ = batch()
    layer = us.LSTM(
        3, 4, batch_first=True, backend="native", activation=lambda t: t.sin() + float(t.detach().sum() > 0)
    )
    with pytest.raises(us.BackendError, match="cannot run LSTMCell"):
        torch.compile(layer, backend="eager")(x)


class LooseTensor(SumCell):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.loose = [torch.ones(3, requires_grad=True)]

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        state = self.loose[0] * state + x
        return state, state


class WritesBuffer(SumCell):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        self.seen += 1.0
        return state + x, state + x


def test_a_tensor_whose_gradient_would_be_lost():
    with pytest.raises(Unsupported, match=r"uses a tensor \[3\] that requires gradients"):
        compiled(us.RNN(LooseTensor()))(torch.randn(5, 2, 3))


def test_a_step_that_writes_into_a_buffer():
    cell = WritesBuffer()
    x, _ = batch()
    fast = compiled(lambda x: us.dynamic_rnn(cell, x)[0])
    with pytest.raises(RuntimeError, match="WritesBuffer writes into its parameters, buffers or inputs"):
        fast(x)


def test_a_layer_that_was_refused_is_not_kept():
    layer = us.LSTM(3, 4)
    with pytest.raises(ValueError, match="expected"):
        torch.compile(layer, backend="eager")(torch.randn(5, 2, 7))
    kept = weakref.ref(layer)
    del layer
    torch._dynamo.reset()
    gc.collect()
    assert kept() is None


def test_code_outlives_no_cell():
    recorder = Recorder()
    layer = us.LSTM(3, 4)
    compiled(layer, recorder)(torch.randn(5, 2, 3))
    (call,) = recorder.calls
    plans = set(vars(_operator.PLANS))
    del layer
    torch._dynamo.reset()
    gc.collect()
    assert len(plans - set(vars(_operator.PLANS))) >= 1
    with pytest.raises(RuntimeError, match=r"there is no run named 'LSTM_.*is gone"):
        torch.ops.unspool.run(*call)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (us.LSTM(3, 4, batch_first=True), torch.randn(4, 6, 3)),
        (us.RNN(TokenCell(3, 4), batch_first=True), torch.randint(11, (4, 6))),
    ],
    ids=["LSTM", "tokens"],
)
@pytest.mark.parametrize("training", [True, False])
def test_the_operators_are_as_pytorch_wants_them(layer, x, training):
    recorder = Recorder()
    with torch.set_grad_enabled(training):
        compiled(layer, recorder)(x, lengths=torch.tensor([6, 1, 0, 4]))
    ((first, others, *rest),) = recorder.calls
    torch.library.opcheck(torch.ops.unspool.run.default, (first, others, *rest))
    if not training:
        return
    *results, ticket = torch.ops.unspool.run(first, others, *rest)
    wanted = [[first, *others][i] for i in rest[-1]]
    sizes = [size for t in wanted for size in t.shape]
    # The other checks copy their arguments, and a ticket cannot be; those of the forward operator run backward too.
    torch.library.opcheck(
        torch.ops.unspool.run_backward.default,
        (ticket.detach(), [torch.ones_like(r) for r in results], sizes, *rest),
        test_utils="test_autograd_registration",
    )


@pytest.mark.parametrize("make", [lambda: us.LSTM(3, 4), lambda: us.RNN(us.GRUCell(3, 4))], ids=["LSTM", "RNN"])
def test_who_runs_a_layer_does_not_depend_on_whether_its_first_run_is_compiled(make):
    x = torch.randn(5, 2, 3)
    (want,) = us.explain(make(), x).decisions
    layer = make()
    (compiled,) = us.explain(torch.compile(layer, backend="eager"), x).decisions
    (after,) = us.explain(layer, x).decisions
    assert compiled == after == want
