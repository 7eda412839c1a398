"""doctor: what runs each part of a model, why not something faster, how much is padding, what to change.

Letters: B batch, T steps, F features, H hidden size.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils.rnn import pack_padded_sequence

import unspool
from tests.refusal import refused
from unspool import GRU, LSTM, RNN, Bidirectional, GRUCell, RaggedBatch, accelerate, doctor
from unspool._reason import Reason
from unspool.backends import Decision, Refusal, dispatch, recording
from unspool.backends.reference import ReferenceBackend
from unspool.doctor import Diagnosis, Padding, SampleError
from unspool.doctor._findings import _who
from unspool.doctor._torch_layers import kernel_of

B, T, F, H = 3, 5, 4, 6
LENGTHS = [5, 2, 1]
PADDED = 7  # of B T = 15


def sample() -> torch.Tensor:
    """Return a padded batch [B, T, F], with zeros as padding."""
    x = torch.randn(B, T, F, generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(LENGTHS):
        x[row, length:] = 0
    return x


X = sample()
GUESS = Padding(B * T, PADDED, known=False, computed=True)
KNOWN = Padding(B * T, PADDED, known=True, computed=False)


class Wrap(nn.Module):
    """A model that passes on to a part of it what it is called with."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict(parts)

    def forward(self, x, **kwargs):
        return [part(x, **kwargs) for part in self.encoder.values()]


class Loop(nn.Module):
    """A model with a loop of its own over a cell."""

    def __init__(self, cell: Any, over: Any = None) -> None:
        super().__init__()
        self.cell, self.over = cell, over

    def forward(self, x, **kwargs):
        if self.over is not None:
            return self.over(self.cell, x, **kwargs)
        h = torch.zeros(len(x), H)
        for step in x.unbind(1):
            result = self.cell(step, h)
            h = result[1] if isinstance(result, tuple) else result
        return h


def follow(diagnosis: Diagnosis, model: nn.Module, x: torch.Tensor = X) -> nn.Module:
    """Run every line that is to change something, and return the model that comes of it."""
    names = {"model": model, "x": x, "lengths": LENGTHS, "unspool": unspool}
    assert diagnosis.changes
    for line in diagnosis.changes:
        exec(line.removeprefix("in place of the loop: "), names)
    return names["model"]


def fine(diagnosis: Diagnosis) -> bool:
    return diagnosis.changes == () and all(f.held_up_by == () for f in diagnosis.findings)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_layer_of_torch_nn_is_to_be_accelerated_and_given_lengths(kind):
    model = Wrap(rnn=getattr(nn, kind)(F, H, batch_first=True))
    diagnosis = doctor(model, X)
    (finding,) = diagnosis.findings
    assert (finding.path, finding.kind, finding.calls) == ("encoder.rnn", f"torch.nn.{kind}", 1)
    assert finding.runs_on.startswith("PyTorch's own kernel")
    assert finding.held_up_by[0] == "it is not accelerated"
    assert finding.padding == GUESS
    assert diagnosis.changes == ("model = unspool.accelerate(model)", "model.encoder.rnn(x, lengths=lengths)")
    assert type(model.encoder["rnn"]) is getattr(nn, kind)

    model = follow(diagnosis, model)
    diagnosis = doctor(model, X)
    (finding,) = diagnosis.findings
    assert finding.kind == f"unspool.Accelerated{kind}"
    assert finding.runs_on == "native"
    assert finding.padding == GUESS
    assert diagnosis.changes == ("model.encoder.rnn(x, lengths=lengths)",)
    follow(diagnosis, model)
    diagnosis = doctor(model, X, lengths=LENGTHS)
    assert diagnosis.findings[0].padding == KNOWN
    assert fine(diagnosis)


def test_a_packed_sequence_has_known_padding():
    model = nn.GRU(F, H, batch_first=True)
    packed = pack_padded_sequence(X, torch.tensor(LENGTHS), batch_first=True)
    (finding,) = doctor(model, packed).findings
    assert finding.runs_on == "PyTorch's own kernel (ATen), on a PackedSequence"
    assert finding.padding == KNOWN
    assert finding.changes == ("model = unspool.accelerate(model)",)
    diagnosis = doctor(accelerate(model), packed)
    assert diagnosis.findings[0].padding == KNOWN
    assert diagnosis.changes == ("in place of packing: model(x, lengths=lengths)",)
    assert fine(doctor(model, X, lengths=LENGTHS))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(
    "layer",
    [nn.RNN(F, H), nn.LSTM(F, H), nn.GRU(F, H), nn.LSTM(F, H, proj_size=2), nn.LSTM(F, H, dtype=torch.float64)],
    ids=["RNN", "LSTM", "GRU", "LSTM-projection", "LSTM-float64"],
)
def test_the_kernel_is_the_one_that_the_profiler_sees(layer, packed):
    x = X.transpose(0, 1).to(layer.weight_hh_l0.dtype)
    x = pack_padded_sequence(x, torch.tensor(LENGTHS)) if packed else x
    profiler: Any = torch.autograd.profiler.profile()
    with profiler:
        layer(x)
    onednn = any("mkldnn_rnn" in event.name for event in profiler.function_events)
    assert ("oneDNN" in kernel_of(layer, x)) == onednn


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (LSTM(F, H, 2, batch_first=True, bidirectional=True), "unspool.LSTM"),
        (GRU(F, H, batch_first=True, reset_after=False), "unspool.GRU"),
        (RNN(GRUCell(F, H), batch_first=True), "unspool.RNN(unspool.GRUCell)"),
        (Bidirectional(GRU(F, H, batch_first=True)), "unspool.Bidirectional(unspool.GRU)"),
    ],
    ids=["LSTM", "GRU", "RNN", "Bidirectional"],
)
def test_our_layers_compute_no_padding_that_they_are_told_of(layer, kind):
    known: list[dict[str, Any]] = [{"lengths": LENGTHS}, {"mask": torch.arange(T) < torch.tensor(LENGTHS)[:, None]}]
    for given in known:
        diagnosis = doctor(layer, X, **given)
        (finding,) = diagnosis.findings
        assert (finding.kind, finding.runs_on, finding.padding) == (kind, "native", KNOWN)
        assert fine(diagnosis)
    values = torch.cat([row[:n] for row, n in zip(X, LENGTHS, strict=True)])
    ragged = RaggedBatch(values, torch.tensor(LENGTHS), None, torch.arange(B))
    assert doctor(layer, ragged).findings[0].padding == KNOWN
    diagnosis = doctor(layer, X)
    assert diagnosis.findings[0].padding == GUESS
    assert diagnosis.changes == ("model(x, lengths=lengths)",)
    follow(diagnosis, layer)


def test_a_backend_that_was_asked_for_by_name_is_to_be_left_to_auto():
    model = nn.Sequential(
        LSTM(F, H, batch_first=True, backend="reference", return_state=False),
        Bidirectional(GRU(H, H, batch_first=True, backend="reference")),
    )
    full = torch.randn(B, T, F)
    diagnosis = doctor(model, full)
    assert diagnosis.changes == (
        "model[0].backend = 'auto'",
        "model[1].forward_layer.backend = model[1].backward_layer.backend = 'auto'",
    )
    assert diagnosis.findings[0].held_up_by == ("native could run it, but reference was asked for",)
    assert fine(doctor(follow(diagnosis, model, full), full))


def test_runs_of_one_layer_on_different_backends_are_counted():
    layer = Bidirectional(GRU(F, H, backend="reference"), GRU(F, H, reverse=True))
    (finding,) = doctor(layer, torch.randn(T, B, F)).findings
    assert finding.runs_on == "reference (1 of 2 runs), native (1 of 2 runs)"


@pytest.mark.parametrize(
    "cell", [nn.GRUCell(F, H), nn.RNNCell(F, H), GRUCell(F, H)], ids=["GRUCell", "RNNCell", "unspool.GRUCell"]
)
def test_a_loop_over_a_cell_is_to_become_a_run(cell):
    model = Loop(cell)
    diagnosis = doctor(model, X)
    (finding,) = diagnosis.findings
    assert (finding.path, finding.calls, finding.runs_on) == ("cell", T, "PyTorch, step by step")
    assert finding.padding is None
    assert diagnosis.changes == ("in place of the loop: outputs, state = unspool.dynamic_rnn(model.cell, x)",)
    follow(diagnosis, model)
    diagnosis = doctor(Loop(cell, unspool.dynamic_rnn), X)
    assert diagnosis.findings[0].kind.startswith("dynamic_rnn over ")
    assert diagnosis.changes == ("unspool.dynamic_rnn(model.cell, x, sequence_length=lengths)",)
    follow(diagnosis, model)
    diagnosis = doctor(Loop(cell, unspool.dynamic_rnn), X, sequence_length=LENGTHS)
    assert diagnosis.findings[0].padding == KNOWN
    assert fine(diagnosis)


def test_dynamic_rnn_on_the_reference_is_to_be_left_to_auto():
    model = Loop(GRUCell(F, H), unspool.dynamic_rnn)
    diagnosis = doctor(model, X, sequence_length=LENGTHS, backend="reference")
    assert diagnosis.changes == ("unspool.dynamic_rnn(model.cell, x, backend='auto')",)
    follow(diagnosis, model)


def test_a_cell_of_a_single_step_is_no_loop():
    diagnosis = doctor(Loop(nn.GRUCell(F, H)), X[:, :1])
    assert diagnosis.findings[0].runs_on == "PyTorch, one step"
    assert fine(diagnosis)


def test_a_cell_that_is_no_part_of_the_model():
    class Hidden(nn.Module):
        def forward(self, x):
            return unspool.dynamic_rnn(GRUCell(F, H), x)

    (finding,) = doctor(Hidden(), X).findings
    assert (finding.path, finding.kind) == ("", "dynamic_rnn over unspool.GRUCell")
    assert finding.changes == ("unspool.dynamic_rnn(cell, x, sequence_length=lengths)",)


def test_a_cell_alone_is_run_by_dynamic_rnn():
    diagnosis = doctor(nn.LSTMCell(F, H), X, lengths=LENGTHS)
    (finding,) = diagnosis.findings
    assert (finding.kind, finding.runs_on, finding.padding) == ("dynamic_rnn over torch.nn.LSTMCell", "native", KNOWN)
    assert fine(diagnosis)


def test_a_model_with_a_method_initial_state_is_no_cell():
    class Decoder(Loop):
        def initial_state(self, batch_size):
            return torch.zeros(batch_size, H)

    (finding,) = doctor(Decoder(nn.GRUCell(F, H)), X).findings
    assert (finding.path, finding.calls) == ("cell", T)


def test_cells_within_cells_and_layers_are_not_listed():
    stacked = unspool.StackedRNNCells([GRUCell(F, H), GRUCell(H, H)])

    class TwoLoops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stacked, self.layer = stacked, RNN(GRUCell(F, H), batch_first=True)

        def forward(self, x):
            state = self.stacked.initial_state(B)
            for step in x.unbind(1):
                _, state = self.stacked(step, state)
            return self.layer(x, lengths=LENGTHS)

    diagnosis = doctor(TwoLoops(), X)
    assert [(f.path, f.calls) for f in diagnosis.findings] == [("stacked", T), ("layer", 1)]
    assert diagnosis.not_called == ()


def test_several_calls_add_up_and_what_is_not_called_is_named():
    class Twice(Wrap):
        def forward(self, x):  # type: ignore[override]
            return self.encoder["a"](x, lengths=LENGTHS), self.encoder["a"](x[:, :2], lengths=[2, 1, 0])

    diagnosis = doctor(Twice(a=LSTM(F, H, batch_first=True), b=nn.GRU(F, H), c=RNN(GRUCell(F, H))), X)
    (finding,) = diagnosis.findings
    assert (finding.calls, finding.padding) == (2, Padding(21, 10, known=True, computed=False))
    assert diagnosis.not_called == (
        "encoder.b (torch.nn.GRU) was not called",
        "encoder.c (unspool.RNN(unspool.GRUCell)) was not called",
    )
    assert diagnosis.summary == "nothing to change"


def test_nothing_recurrent_is_said_to_be_so():
    diagnosis = doctor(nn.Linear(3, 4), torch.zeros(2, 3))
    assert str(diagnosis) == repr(diagnosis) == "nothing recurrent was called"


def test_a_layer_with_a_forward_of_its_own_is_left_alone():
    class Packing(nn.LSTM):
        def forward(self, rows, lengths):  # type: ignore[override]
            return super().forward(pack_padded_sequence(rows, lengths, batch_first=True))

    (finding,) = doctor(Packing(F, H, batch_first=True), X, torch.tensor(LENGTHS)).findings
    assert (finding.kind, finding.runs_on, finding.padding) == ("Packing", "PyTorch", None)
    assert finding.held_up_by == ("it has a forward of its own, which may compute something else",)
    assert finding.changes == ("let Packing hold a layer of torch.nn in place of being one, and accelerate that",)


def test_scripted_layers_are_said_to_be_out_of_sight():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(F, H)

        def forward(self, x):
            return self.rnn(x)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(Plain())
    diagnosis = doctor(scripted, X)  # type: ignore[arg-type]
    assert diagnosis.not_called == ("rnn (scripted GRU) is inside of scripted code, where nothing is seen",)


class Elsewhere:
    """A backend for another kind of device, or one of a vendor's."""

    def __init__(self, name: str, *reasons: Reason) -> None:
        self.name, self.device, self._reasons = name, None, list(reasons)

    def prepare(self, call: Any) -> Any:
        return Refusal(self._reasons) if self._reasons else ReferenceBackend().prepare(call)


def test_what_acceleration_would_not_gain_is_not_advised(monkeypatch):
    reference = ReferenceBackend()
    model, full, padded = nn.LSTM(F, H, batch_first=True), torch.randn(B, T, F), X
    assert doctor(model, full).changes == ("model = unspool.accelerate(model)",)
    monkeypatch.setattr(dispatch, "BACKENDS", (Elsewhere("far", Reason("on cpu", of_device=True)), reference))
    (finding,) = doctor(model, padded).findings
    assert finding.held_up_by == ("accelerated, it would run on reference, which is no gain",)
    assert finding.changes == ()
    monkeypatch.setattr(dispatch, "BACKENDS", (Elsewhere("vendor"), reference))
    assert doctor(model, full).changes == ()
    assert doctor(model, padded).changes == ("model = unspool.accelerate(model)", "model(x, lengths=lengths)")


@pytest.mark.parametrize("training", [True, False])
def test_measuring_tells_a_ratio_and_leaves_no_gradient(training):
    model = Wrap(rnn=nn.LSTM(F, H, batch_first=True)).train(training)
    (finding,) = doctor(model, X, measure=True).findings
    assert finding.timing is not None
    assert finding.timing.training == training
    assert finding.timing.before > 0
    assert finding.timing.after > 0
    text = dict(finding.rows())["measured"]
    assert text == str(finding.timing)
    assert bool(finding.changes) == (finding.timing.after < finding.timing.before)
    assert text.endswith("(forward and backward)" if training else "(forward)")
    assert all(p.grad is None for p in model.parameters())
    assert doctor(model, X).findings[0].timing is None


def hooks(model: nn.Module) -> list[Any]:
    tables = [table for name, table in vars(torch_module).items() if name.startswith("_global_")]
    return [*map(repr, tables), *(len(m._forward_hooks) for m in model.modules())]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails):
    class Model(Wrap):
        def __init__(self) -> None:
            super().__init__(rnn=nn.LSTM(F, H, 2, batch_first=True, dropout=0.5))
            self.norm, self.heard = nn.BatchNorm1d(H), 0
            self.encoder["rnn"].register_forward_hook(self.hear)

        def hear(self, *_):
            self.heard += 1

        def forward(self, x):  # type: ignore[override]
            y = self.norm(self.encoder["rnn"](x)[0].mean(1))
            if fails:
                raise RuntimeError("the model's own error")
            return y

    model = Model()
    table = hooks(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(SampleError, match="the model's own error") as error:
            doctor(model, X)
        assert isinstance(error.value.__cause__, RuntimeError)
    else:
        doctor(model, X)
    assert model.heard == 0
    assert model.training
    assert hooks(model) == table
    assert torch.equal(torch.get_rng_state(), random)
    assert type(model.encoder["rnn"]) is nn.LSTM
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with recording() as decisions:
        model.encoder["rnn"](X)
    assert decisions == []


def test_a_layer_that_fails_in_a_model_that_goes_on():
    class Trying(Wrap):
        def forward(self, x):  # type: ignore[override]
            with pytest.raises(ValueError, match="received an input"):
                self.encoder["a"](x[..., :1])
            return self.encoder["b"](x, lengths=LENGTHS)

    diagnosis = doctor(Trying(a=LSTM(F, H), b=LSTM(F, H, batch_first=True)), X)
    assert [(f.path, f.runs_on, f.padding) for f in diagnosis.findings] == [
        ("encoder.a", "nothing: every call raised an error", None),
        ("encoder.b", "native", KNOWN),
    ]


def test_a_compiled_model_is_looked_into():
    compiled = torch.compile(Wrap(rnn=nn.GRU(F, H, batch_first=True)), backend="eager")
    (finding,) = doctor(compiled, X).findings  # type: ignore[arg-type]
    assert (finding.path, finding.kind) == ("_orig_mod.encoder.rnn", "torch.nn.GRU")


def test_paths_are_python():
    model = nn.Sequential(nn.ModuleDict({"a-b": nn.GRU(F, H, batch_first=True)}))
    model.forward = lambda x: model[0]["a-b"](x)  # type: ignore[method-assign,operator,index]
    diagnosis = doctor(model, X)
    assert diagnosis.changes[1] == "model[0].get_submodule('a-b')(x, lengths=lengths)"
    assert fine(doctor(Wrap(gru=follow(diagnosis, model)[0]["a-b"]), X, lengths=LENGTHS))  # type: ignore[index]


def test_it_prints_a_table():
    model = Wrap(rnn=nn.GRU(F, H, batch_first=True), ours=LSTM(F, H, batch_first=True))
    assert str(doctor(model, torch.ones(B, T, F))).splitlines() == [
        "encoder.rnn: torch.nn.GRU, called once",
        "  runs on         PyTorch's own kernel (ATen), on padded input",
        "  why not faster  it is not accelerated",
        "  padding         none to be seen in 15 steps",
        "  change          model = unspool.accelerate(model)",
        "encoder.ours: unspool.LSTM, called once",
        "  runs on         native",
        "  why not faster  nothing here is faster",
        "  padding         none to be seen in 15 steps",
        "  change          nothing",
        "1 thing to change",
    ]


def test_what_is_no_module_is_refused():
    with refused(TypeError, "model is function", "expected a torch.nn.Module"):
        doctor(sample, X)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["native", "cudnn"])
def test_what_pytorch_runs_itself_has_its_reason_whatever_the_device(backend):
    assert _who([Decision("GRU", "torch.nn", {backend: ["it is faster"]})]) == "torch.nn; it is faster"
