"""The cuDNN backend without a GPU: its reasons, and its packing over PyTorch's CPU kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from tests.backends.cudnn_stand_in import STAND_INS, cudnn_on_cpu, parameters_of
from tests.conformance.cases import FACTORS, Case, CellRow, covering
from tests.conformance.oracle import Problem, Run, assert_close, assert_identical, live_steps, measure
from tests.conformance.runs import posed, run_library
from tests.conformance.test_cases import run_oracle
from tests.conformance.test_ragged import WAYS as RAGGED_WAYS
from tests.conformance.test_ragged import run_padded, run_ragged
from tests.refusal import refused
from unspool import (
    GRU,
    LSTM,
    BackendError,
    CuDNNGRU,
    CuDNNLSTM,
    GRUCell,
    LSTMCell,
    ResidualCell,
    SimpleRNN,
    SimpleRNNCell,
    dynamic_rnn,
    explain,
    static_rnn,
)
from unspool.backends import Schedule, _cudnn_conditions
from unspool.backends._packing import pack
from unspool.backends.cudnn import _run_kernel

__all__ = ["cudnn_on_cpu"]  # a fixture

on_cpu = pytest.mark.usefixtures("cudnn_on_cpu")


class OwnLSTMCell(LSTMCell):
    pass


ROWS = [
    CellRow("SimpleRNN", SimpleRNNCell),
    CellRow("SimpleRNN relu", lambda i, h: SimpleRNNCell(i, h, nonlinearity="relu")),
    CellRow("LSTM", LSTMCell),
    CellRow("LSTM, one bias", lambda i, h: LSTMCell(i, h, recurrent_bias=False)),
    CellRow("LSTM with projection", lambda i, h: LSTMCell(i, h + 1, proj_size=h)),
    CellRow("LSTM, dropped inputs", lambda i, h: LSTMCell(i, h, dropout=0.4), training=True),
    CellRow("GRU", GRUCell),
    CellRow("GRU, functions", lambda i, h: GRUCell(i, h, activation=torch.tanh, recurrent_activation=torch.sigmoid)),
]
RUN = FACTORS | {
    "mask": ["no mask"],
    "resets": ["no resets"],
    "execution": ["dynamic_rnn", "dynamic_rnn time-major", "RNN", "RNN batch-first"],
}


@on_cpu
@pytest.mark.parametrize("way", covering(RUN), ids=lambda way: str(Case(CellRow("", LSTMCell), "cudnn", **way)))
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_rows_in_a_batch_equal_rows_alone(row: CellRow, way: dict[str, Any]):
    case = Case(row, "cudnn", **way)
    problem, live = posed(case)
    received = measure(lambda: run_library(case, problem), problem)
    assert_close(received, measure(lambda: run_oracle(case, problem, live), problem), case.dtype)


@on_cpu
@pytest.mark.parametrize("lengths", ["no lengths", "some zero", "all zero"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("row", [ROWS[0], ROWS[6]], ids=str)
def test_cells_whose_state_is_their_output_give_all_states(row: CellRow, reverse: bool, lengths: str):
    case = Case(row, "cudnn", "dynamic_rnn all states", lengths, reverse=reverse, pad_output="repeat", given_state=True)
    problem, live = posed(case)
    received = measure(lambda: run_library(case, problem), problem)
    assert_close(received, measure(lambda: run_oracle(case, problem, live), problem), case.dtype)


@on_cpu
@pytest.mark.parametrize("way", [w for w, options in RAGGED_WAYS.items() if "resets" not in options])
@pytest.mark.parametrize("row", [ROWS[0], ROWS[6]], ids=str)
def test_a_ragged_batch_gives_what_the_padded_one_does(row: CellRow, way: str):
    case = Case(row, "cudnn", "dynamic_rnn all states", **RAGGED_WAYS[way])
    problem, _ = posed(case)
    lengths = case.lengths_list()
    assert lengths is not None
    real = torch.tensor(live_steps(*case.sizes[:2], lengths))
    expected = measure(lambda: run_padded(case, problem, lengths, real), problem)
    assert_close(measure(lambda: run_ragged(case, problem, lengths, real), problem), expected, case.dtype)


@on_cpu
@pytest.mark.parametrize(("fast", "kind"), [(CuDNNLSTM, LSTM), (CuDNNGRU, GRU)])
def test_layers_learn_their_start_and_keep_their_state(fast: Any, kind: Any):
    options: dict[str, Any] = {"bidirectional": True, "learn_initial_state": True, "stateful": True}
    layer, plain, x = fast(3, 4, 2, **options), kind(3, 4, 2, backend="reference", **options), torch.randn(5, 3, 3)
    with torch.no_grad():
        layer.initial_h.normal_()
    plain.load_state_dict(layer.state_dict())
    for lengths in ([5, 0, 2], [1, 4, 5]):
        received, expected = ((*run(x, lengths=lengths), run.parameters()) for run in (layer, plain))
        torch.testing.assert_close(received[:2], expected[:2])
        grads = [
            torch.autograd.grad(outputs.sum(), list(own), allow_unused=True) for outputs, _, own in (received, expected)
        ]
        torch.testing.assert_close(*grads)


@on_cpu
def test_a_right_padded_mask_equals_lengths():
    cell, x = GRUCell(3, 4), torch.randn(3, 5, 3)
    mask = torch.arange(5) < torch.tensor([[4], [0], [2]])
    for reverse in (False, True):
        fixed: dict[str, Any] = {"reverse": reverse, "backend": "cudnn"}
        by_mask, by_lengths = dynamic_rnn(cell, x, mask=mask, **fixed), dynamic_rnn(cell, x, [4, 0, 2], **fixed)
        assert all(torch.equal(a, b) for a, b in zip(by_mask, by_lengths, strict=True))


@on_cpu
@pytest.mark.parametrize(("batch", "steps"), [(0, 7), (5, 0), (0, 0)])
def test_no_steps_and_no_rows_give_empty_outputs(batch: int, steps: int):
    cell, x = LSTMCell(3, 4), torch.randn(batch, steps, 3, requires_grad=True)
    outputs, (h, c) = dynamic_rnn(cell, x, backend="cudnn")
    assert (outputs.shape, h.shape, c.shape) == ((batch, steps, 4), (batch, 4), (batch, 4))
    outputs.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in cell.parameters())


OPTIONS: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "batch_first": True}
LAYERS = {
    "SimpleRNN": (SimpleRNN(3, 4, **OPTIONS), nn.RNN(3, 4, **OPTIONS)),
    "LSTM": (LSTM(3, 4, proj_size=2, **OPTIONS), nn.LSTM(3, 4, proj_size=2, **OPTIONS)),
    "GRU": (GRU(3, 4, **OPTIONS), nn.GRU(3, 4, **OPTIONS)),
    "CuDNNLSTM": (CuDNNLSTM(3, 4, **OPTIONS), nn.LSTM(3, 4, **OPTIONS)),
    "CuDNNGRU": (CuDNNGRU(3, 4, **OPTIONS), nn.GRU(3, 4, **OPTIONS)),
}


@on_cpu
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_those_of_torch_on_packed_sequences(name: str):
    layer, theirs = (made.double() for made in LAYERS[name])
    layer.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 7, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 7, 1, 6, 2])
    assert {d.chosen for d in explain(layer, x, lengths=lengths).decisions} == {"cudnn"}

    def run(module: nn.Module) -> dict[str, Tensor]:
        def forward() -> Run:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            output, state = module(packed)
            assert torch.equal(output.batch_sizes, packed.batch_sizes)
            return Run(output.data, tuple(state) if isinstance(state, tuple) else state)

        return measure(forward, Problem(module, x, None))

    assert_close(run(layer), run(theirs), torch.float64)


@on_cpu
def test_gradients_do_not_need_training_mode():
    layer = CuDNNLSTM(3, 4).eval()
    output, _ = layer(torch.randn(5, 2, 3))
    output.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@on_cpu
def test_parameters_stay_where_they_are():
    layer = CuDNNGRU(3, 4)
    before = [(p.data_ptr(), p._version) for p in layer.parameters()]
    layer(torch.randn(5, 2, 3))
    assert [(p.data_ptr(), p._version) for p in layer.parameters()] == before


@on_cpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layer", [LSTM(3, 4), GRU(3, 4), SimpleRNN(3, 4)], ids=lambda layer: type(layer).__name__)
def test_autocast_computes_in_its_dtype_and_keeps_that_of_states(layer: nn.Module, dtype: torch.dtype):
    x = torch.randn(5, 3, 3)
    results = {}
    for backend in ("cudnn", "reference"):
        layer.backend = backend  # type: ignore[assignment]
        layer.zero_grad()
        with torch.autocast("cpu", dtype):
            output, state = layer(x, lengths=[5, 0, 2])
        output.sum().backward()
        states = dict(enumerate(state)) if isinstance(state, tuple) else {0: state}
        results[backend] = {"output": output, **states, **{n: p.grad for n, p in layer.named_parameters()}}
    for name, value in results["cudnn"].items():
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, results["reference"][name].float(), atol=0.05, rtol=0.05)
    assert not torch.equal(results["cudnn"]["output"], layer(x, lengths=[5, 0, 2])[0])


@on_cpu
def test_autocast_leaves_float64_alone():
    layer, x = LSTM(3, 4, backend="cudnn").double(), torch.randn(5, 2, 3, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer(x)[0]
    assert torch.equal(inside, layer(x)[0])


X = torch.randn(2, 5, 3)
GAPS = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]]).bool()
LEFT = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "activation": (LSTMCell(3, 4, activation="relu"), {}, "the activation is relu; cuDNN has tanh"),
    "activation of a GRU": (GRUCell(3, 4, activation=torch.sin), {}, "the activation is sin; cuDNN has tanh"),
    "activation of a SimpleRNN": (SimpleRNNCell(3, 4, activation="elu"), {}, "is elu; cuDNN has tanh and relu"),
    "recurrent activation": (GRUCell(3, 4, recurrent_activation="hard_sigmoid"), {}, "recurrent activation is hard_si"),
    "recurrent dropout": (LSTMCell(3, 4, recurrent_dropout=0.2), {}, "recurrent_dropout is 0.2, in training"),
    "no bias": (GRUCell(3, 4, bias=False), {}, "the cell has no bias"),
    "reset before": (GRUCell(3, 4, reset_after=False), {}, "reset_after is False"),
    "peephole": (LSTMCell(3, 4, peephole=True), {}, "peephole is True"),
    "coupled": (LSTMCell(3, 4, coupled=True), {}, "coupled is True"),
    "cell clip": (LSTMCell(3, 4, cell_clip=0.5), {}, "cell_clip is 0.5"),
    "projection clip": (LSTMCell(3, 4, proj_size=2, proj_clip=0.5), {}, "proj_clip is 0.5"),
    "forget bias": (LSTMCell(3, 4, forget_bias=1.0), {}, "forget_bias is 1.0"),
    "wide projection": (LSTMCell(3, 4, proj_size=4), {}, "proj_size is 4; cuDNN projects to less than hidden_size (4)"),
    "gaps": (LSTMCell(3, 4), {"mask": GAPS}, "the mask is not right-padded"),
    "gaps in reverse": (LSTMCell(3, 4), {"mask": GAPS, "reverse": True}, "the mask is not right-padded"),
    "left padding": (LSTMCell(3, 4), {"mask": LEFT}, "the mask is not right-padded"),
    "left padding in reverse": (LSTMCell(3, 4), {"mask": LEFT, "reverse": True}, "the mask is not right-padded"),
    "resets": (LSTMCell(3, 4), {"resets": GAPS}, "there are resets"),
    "all states": (LSTMCell(3, 4), {"return_all_states": True}, "cuDNN gives the last c alone"),
    "subclass": (OwnLSTMCell(3, 4), {}, "the cell is OwnLSTMCell; cuDNN has LSTMCell, GRUCell and SimpleRNNCell"),
    "wrapper": (ResidualCell(GRUCell(3, 3)), {}, "the cell is ResidualCell"),
    "torch's cell": (nn.GRUCell(3, 4), {}, "the cell is GRUCell; cuDNN has"),
    "sizes": (LSTMCell(2, 4), {}, "the input is [5, 2, 3]; expected 2 features"),
    "dtypes": (LSTMCell(3, 4).double(), {}, "inputs, state and parameters have several dtypes"),
}


@on_cpu
@pytest.mark.parametrize("name", REFUSED)
def test_what_cudnn_cannot_run_is_refused_with_the_reason(name: str):
    cell, options, reason = REFUSED[name]
    with refused(BackendError, "backend 'cudnn' cannot run", reason):
        dynamic_rnn(cell, X, backend="cudnn", **options)


@on_cpu
def test_a_reason_stands_alone_where_there_is_one():
    for name, (cell, options, reason) in REFUSED.items():
        if name in ("sizes", "dtypes"):  # which the reference backend refuses too
            continue
        (decision,) = explain(cell, X, **options).decisions
        (found,) = decision.reasons["cudnn"]
        assert reason in found
        assert decision.chosen == "reference"


@on_cpu
def test_dropout_counts_in_training_alone():
    cell = LSTMCell(3, 4, recurrent_dropout=0.2).eval()
    assert explain(cell, X).decisions[0].chosen == "cudnn"


@on_cpu
def test_unrolled_hooked_and_transformed_calls_are_refused():
    cell = LSTMCell(3, 4)
    with refused(BackendError, "the call is unrolled (static)"):
        static_rnn(cell, list(X.unbind(1)), backend="cudnn")
    with refused(BackendError, "a torch.func transform is active"):
        torch.func.vmap(lambda x: dynamic_rnn(cell, x, backend="cudnn")[0])(X.unsqueeze(0))
    with refused(BackendError, "there are tensors of torch.complex64; cuDNN has float16 to float64"):
        dynamic_rnn(LSTMCell(3, 4, dtype=torch.complex64), X.to(torch.complex64), backend="cudnn")
    handle = cell.register_forward_hook(lambda *_: None)
    with refused(BackendError, "the cell (LSTMCell) has"):
        dynamic_rnn(cell, X, backend="cudnn")
    handle.remove()
    dynamic_rnn(cell, X, backend="cudnn")


def test_on_the_cpu_every_reason_is_named():
    (decision,) = explain(GRUCell(3, 4, bias=False), X, mask=GAPS).decisions
    assert "tensors are on cpu, not on a CUDA device" in decision.reasons["cudnn"]
    assert "the cell has no bias; cuDNN has biases" in decision.reasons["cudnn"]
    assert "the mask is not right-padded" in decision.reasons["cudnn"]


def test_cudnn_that_is_absent_or_switched_off_is_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", None)
    assert _cudnn_conditions.missing() == ""
    with torch.backends.cudnn.flags(enabled=False):
        assert "switched off" in _cudnn_conditions.missing()
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert _cudnn_conditions.missing() == "this PyTorch is built without cuDNN"
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", "6.0")
    assert _cudnn_conditions.missing() == "this PyTorch is built without cuDNN"


@pytest.mark.parametrize("name", STAND_INS)
def test_the_stand_ins_are_called_as_torch_declares_the_operators(name: str):
    schema = getattr(torch.ops.aten, name).default._schema
    assert parameters_of(STAND_INS[name]) == [argument.name for argument in schema.arguments]


def test_torch_takes_the_call_of_its_operator(monkeypatch: pytest.MonkeyPatch):
    # On the meta device there are shapes without numbers, for which torch knows the operator; not how it flattens.
    monkeypatch.setattr(torch._VF, "_cudnn_rnn_flatten_weight", lambda weights, *_: weights[0])
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # which does not know the meta device

    def meta(*shape: int) -> Tensor:
        return torch.empty(*shape, device="meta")

    cell = LSTMCell(3, 4, proj_size=2, device="meta", init=lambda *_: None)
    packed = _run_kernel(cell, meta(5, 3), [meta(3, 2), meta(3, 4)], [3, 2])
    assert [t.shape for t in packed] == [(5, 2), (3, 2), (3, 4)]
    dense = _run_kernel(GRUCell(3, 4, device="meta", init=lambda *_: None), meta(5, 2, 3), [meta(2, 4)], [])
    assert [t.shape for t in dense] == [(5, 2, 4), (2, 4)]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packing_is_that_of_torch(reverse: bool):
    lengths = torch.tensor([2, 5, 1, 5, 3])
    places = torch.arange(25).view(5, 5)  # [T, B]
    if reverse:
        flipped = torch.zeros_like(places)
        for row, length in enumerate(lengths.tolist()):
            flipped[:length, row] = places[:length, row].flip(0)
        places = flipped
    theirs = pack_padded_sequence(places, lengths, enforce_sorted=False)
    ours = pack(lengths, torch.arange(5), 5, reverse, torch.device("cpu"))
    assert ours.positions.tolist() == theirs.data.tolist()
    assert ours.batch_sizes == theirs.batch_sizes.tolist()
    assert theirs.sorted_indices is not None
    # Rows of one length may stand in any order.
    assert lengths[ours.rows].tolist() == lengths[theirs.sorted_indices].tolist()
    assert (ours.positions % 5).tolist() == ours.row_of_token.tolist()


def test_rows_without_tokens_are_not_packed():
    found = pack(torch.tensor([0, 2, 0]), torch.arange(3), 3, False, torch.device("cpu"))
    assert (found.rows.tolist(), found.batch_sizes, found.positions.tolist()) == ([1], [1, 1], [1, 4])
    for lengths in (torch.zeros(3, dtype=torch.long), torch.zeros(0, dtype=torch.long)):
        found = pack(lengths, torch.arange(len(lengths)), 3, False, torch.device("cpu"))
        assert (found.rows.tolist(), found.batch_sizes, found.positions.tolist()) == ([], [], [])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_schedule_knows_whether_it_is_right_padded(reverse: bool):
    def right_padded(live: Tensor | None) -> bool:
        found = live if live is None else live.t()
        return Schedule(5, 2, found, None, reverse=reverse, device=torch.device("cpu")).right_padded

    assert right_padded(None)
    assert right_padded(torch.arange(5) < torch.tensor([[3], [0]]))
    assert not right_padded(GAPS)
    assert not right_padded(LEFT)


@pytest.mark.parametrize("layer", [CuDNNLSTM(3, 4), CuDNNGRU(3, 4)], ids=lambda layer: type(layer).__name__)
def test_the_layers_refuse_the_cpu_with_reasons(layer: nn.Module):
    with refused(BackendError, "backend 'cudnn' cannot run", "tensors are on cpu, not on a CUDA device"):
        layer(torch.zeros(5, 2, 3))


def test_the_layers_take_what_cudnn_has():
    with refused(
        TypeError, "CuDNNLSTM received ['activation', 'unroll']", "expected options among batch_first", "LSTM t"
    ):
        CuDNNLSTM(3, 4, activation="relu", unroll=True)  # type: ignore[call-arg]
    with refused(TypeError, "CuDNNGRU received ['backend']", "GRU takes the others"):
        CuDNNGRU(3, 4, backend="auto")  # type: ignore[call-arg]
    assert CuDNNLSTM(3, 4, bidirectional=True, proj_size=2).backend == "cudnn"


@on_cpu
def test_results_are_the_same_at_every_call():
    cell, x = LSTMCell(3, 4), torch.randn(4, 6, 3)
    runs = [measure(lambda: Run(*dynamic_rnn(cell, x, [0, 6, 2, 6])), Problem(cell, x, None)) for _ in range(2)]
    assert_identical(*runs)
