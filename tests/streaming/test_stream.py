"""A stream gives, step by step and chunk by chunk, what the model gives for whole sequences."""

from __future__ import annotations

import copy
import io
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import unspool as us
from tests.backends.native_cells import HighwayRecurrentCell, LayerNormGRUCell
from tests.streaming.models import MODELS, Counting, I, Mixed, whole
from unspool._nest import leaves_of, map_leaves
from unspool.backends._repeat import Repeatable

CLOSE = {torch.float32: 1e-6, torch.float64: 1e-13}


def close(got: Any, want: Any) -> None:
    """Compare leaf by leaf, relative to the largest value."""
    got, want = leaves_of(got), leaves_of(want)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if one.dtype.is_floating_point:
            assert float((one - other).detach().abs().max()) <= CLOSE[one.dtype] * max(
                1.0, float(other.detach().abs().max())
            )
        else:
            assert torch.equal(one, other)


def sequences(name: str, steps: int, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return inputs of shape (T, B, ...)."""
    if name.startswith("ids"):
        return torch.randint(0, 7, (steps, batch))
    return torch.randn(steps, batch, I, dtype=dtype)


def in_layout(model: Any, x: Any) -> Any:
    return map_leaves(lambda leaf: leaf.transpose(0, 1), x) if batch_first(model) else x


def batch_first(model: Any) -> bool:
    return us.stream(model)._chain.batch_first


@pytest.fixture
def repeats(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Collect for each cell that is asked to be run again whether it was."""
    found: list[bool] = []
    run = Repeatable.run

    def see(self: Repeatable, *arguments: Any) -> Any:
        result = run(self, *arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(Repeatable, "run", see)
    return found


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_steps_and_chunks_give_what_the_whole_gives(name, dtype):
    model = MODELS[name]().to(dtype)
    steps, batch = 18, 3
    x = sequences(name, steps, batch, dtype)
    want, final = whole(model, in_layout(model, x))
    stream, outputs, t = us.stream(model, batch), [], 0
    for chunk in (0, 0, 0, 4, 0, 5, 0, 1):  # steps alone, and chunks
        if chunk == 0:
            outputs.append(stream.step(x[t]))
        else:
            y = in_layout(model, stream(in_layout(model, x[t : t + chunk])))
            outputs += list(y) if stream._chain.keeps_time else [y]
        t += chunk or 1
    outputs += [stream.step(x[s]) for s in range(t, steps)]
    if stream._chain.keeps_time:
        close(torch.stack(outputs), in_layout(model, want))
    else:
        close(outputs[-1], want)
    if final is not None:
        close(stream.state, final)


@pytest.mark.parametrize(
    "name", ["LSTM of two layers", "own cell", "torch's GRU", "accelerated LSTM", "stack of cells"]
)
def test_steps_are_repeated(name, repeats):
    model = MODELS[name]()
    stream = us.stream(model, 2)
    for x in sequences(name, 6, 2):
        stream.step(x)
    assert all(repeats)
    assert len(repeats) >= 4


def test_a_step_takes_and_gives_any_nesting():
    cell = Mixed()
    x = {"a": torch.randn(5, 2, I), "k": torch.randint(0, 4, (5, 2))}
    want, final = us.dynamic_rnn(cell, x, time_major=True, backend="reference")
    stream = us.stream(cell, 2)
    got = [stream.step(map_leaves(lambda leaf, t=t: leaf[t], x)) for t in range(5)]
    close(map_leaves(lambda *steps: torch.stack(steps), *got), want)
    close(stream.state, final)


def test_constants_are_handed_on():
    class Told(us.Cell):
        def __init__(self) -> None:
            super().__init__(I)

        def forward(self, x: Tensor, state: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
            state = torch.tanh(x + state + told)
            return state, state

    x, told = torch.randn(2, 6, I), torch.randn(2, I)
    want, _ = us.dynamic_rnn(Told(), x, constants=told)
    stream = us.stream(Told(), 2)
    close(torch.stack([stream.step(x[:, t], constants=told) for t in range(6)], 1), want)
    with pytest.raises(TypeError):
        stream.step(x[:, 0])


@pytest.mark.parametrize("change", ["in place", "data", "replaced", "parametrised", "attribute", "training"])
def test_what_changes_between_steps_is_obeyed(change):
    cell = LayerNormGRUCell(I, 4)
    model: Any = nn.Sequential(us.RNN(cell, return_state=False), us.GRU(4, 4, return_state=False), nn.Linear(4, 2))
    stream, x = us.stream(model, 2), torch.randn(9, 2, I)
    for t in range(4):
        stream.step(x[t])
    before = stream.state
    with torch.no_grad():
        if change == "in place":
            model[1].weight_hh_l0.mul_(-2.0)
        elif change == "data":
            cell.product_h.weight.data = torch.randn_like(cell.product_h.weight)
        elif change == "replaced":
            model[1].weight_ih_l0 = nn.Parameter(torch.randn(12, 4))
        elif change == "parametrised":
            parametrize.register_parametrization(model[1], "weight_hh_l0", nn.Tanh())
        elif change == "attribute":
            cell.norm_h.eps = 0.7
        else:
            model.train(False)
    fresh: Any = copy.deepcopy(model)
    hidden, first = us.dynamic_rnn(fresh[0].cell, x[4:8], None, before["0"], time_major=True, backend="reference")
    got = [stream.step(x[t]) for t in range(4, 8)]
    fresh[1].return_state, fresh[1].backend = True, "reference"
    want = fresh[2](fresh[1](hidden, before["1"])[0])
    close(torch.stack(got), want)
    close(stream.state["0"], first)


def test_a_module_that_is_replaced_is_noticed():
    model = nn.Sequential(us.GRU(I, 4, return_state=False), nn.Linear(4, 2))
    stream, x = us.stream(model), torch.randn(1, I)
    stream.step(x)
    model[1] = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="replaced since the stream was made"):
        stream.step(x)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("reverse", True, "backward"), ("bidirectional", True, "bidirectional"), ("forward", lambda x: x, "a forward of")],
)
def test_a_layer_that_cannot_stream_any_more_is_noticed(option, value, says):
    model = us.GRU(I, 4)
    stream = us.stream(model)
    stream.step(torch.randn(1, I))
    setattr(model, option, value)
    with pytest.raises(ValueError, match=says):
        stream.step(torch.randn(1, I))


LEARNING = {
    "LSTM": lambda: us.LSTM(I, 4, 2, learn_initial_state=True),
    "RNN": lambda: us.RNN(LayerNormGRUCell(I, 4), learn_initial_state=True),
}


@pytest.mark.parametrize("make", LEARNING.values(), ids=LEARNING)
def test_a_start_that_is_learned_is_where_sequences_start(make):
    model, x = make(), torch.randn(6, 2, I)
    stream = us.stream(model, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("initial_"):
                parameter.uniform_(-1, 1)
    for rows in (None, [1, 0]):
        stream.reset(rows)
        close(torch.stack([stream.step(frame) for frame in x]), model(x)[0])


def test_a_layer_that_keeps_a_state_of_its_own_is_refused():
    with pytest.raises(ValueError, match="stateful=False"):
        us.stream(us.GRU(I, 4, stateful=True))


def test_what_surrounds_a_step_is_obeyed(repeats):
    model, x = us.GRU(I, 4), torch.randn(9, 2, I)
    stream = us.stream(model, 2)
    for t in range(3):
        stream.step(x[t])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = stream.state
        want, _ = model(x[3:6], state)
        before = len(repeats)
        got = torch.stack([stream.step(frame) for frame in x[3:6]])
        assert got.dtype == want.dtype
        assert torch.allclose(got.float(), want.float(), atol=2e-2)
    model.backend = "reference"
    stream.step(x[6])
    assert len(repeats) == before, "the engine ran a step that was for another backend"
    model.backend = "auto"
    stream.step(x[7])
    assert len(repeats) > before


def test_a_cell_may_keep_its_state():
    class Momentum(us.Cell):
        before: Tensor | None = None

        def __init__(self) -> None:
            super().__init__(I)

        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            momentum = 0.0 if self.before is None else self.before
            self.before = state
            state = torch.tanh(x + state + momentum)
            return state, state

    x = torch.randn(6, 2, I)
    want, _ = us.dynamic_rnn(Momentum(), x, time_major=True, backend="reference")
    stream = us.stream(Momentum(), 2)
    close(torch.stack([stream.step(frame) for frame in x]), want)


def test_another_kind_of_torchs_module_is_obeyed():
    model, x = nn.RNN(I, 4), torch.randn(8, 2, I)
    stream = us.stream(model, 2)
    for t in range(4):
        stream.step(x[t])
    model.mode = "RNN_RELU"
    state = stream.state
    want, _ = nn.RNN.forward(model, x[4:], state)
    close(torch.stack([stream.step(frame) for frame in x[4:]]), want)


def test_hooks_are_noticed():
    model = nn.Sequential(us.GRU(I, 4, return_state=False))
    stream = us.stream(model)
    for module in (model, model[0]):
        handle = module.register_forward_hook(lambda module, args, out: out)
        with pytest.raises(ValueError, match="hooks"):
            stream.step(torch.randn(1, I))
        handle.remove()
    stream.step(torch.randn(1, I))


def test_dropout_in_training_is_refused_and_not_in_evaluation():
    for model in (
        us.GRU(I, 4, num_layers=2, dropout=0.5), us.GRU(I, 4, recurrent_dropout=0.5),
        us.StackedRNNCells([us.DropoutCell(us.GRUCell(I, 4), state=0.5, variational=True)]),
        nn.GRU(I, 4, 2, dropout=0.5), nn.Sequential(us.GRU(I, 4, return_state=False), nn.Dropout(0.5)),
    ):  # fmt: skip
        x = torch.randn(1, I)
        with pytest.raises(ValueError, match=r"eval\(\)"):
            us.stream(model).step(x)
        stream = us.stream(model.eval())
        stream.step(x)
        model.train()
        before = stream.state
        with pytest.raises(ValueError, match=r"eval\(\)"):
            stream.step(x)
        close(stream.state, before)


class Fails(nn.Module):
    """A module that raises when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise RuntimeError("told to")
        return x


def test_a_step_that_fails_leaves_the_state_as_it_was():
    failing = Fails()
    model = nn.Sequential(us.LSTM(I, 4, 2, return_state=False), failing, us.GRU(4, 4, return_state=False))
    stream, x = us.stream(model, 2, stepwise=(Fails,)), torch.randn(8, 2, I)
    other = us.stream(model, 2, stepwise=(Fails,))
    for t in range(8):
        failing.fails = True
        with pytest.raises(RuntimeError, match="told to"):
            stream.step(x[t])
        failing.fails = False
        close(stream.step(x[t]), other.step(x[t]))
    close(stream.state, other.state)


def test_a_cell_that_changes_half_way_leaves_the_state_as_it_was(monkeypatch):
    """Of several cells the first has stepped when another turns out to have changed: it must not step twice."""
    model = us.LSTM(I, 4, num_layers=3)
    stream, x = us.stream(model, 2), torch.randn(8, 2, I)
    for t in range(4):
        stream.step(x[t])
    run, calls = Repeatable.run, []

    def third_is_changed(self: Repeatable, *arguments: Any) -> Any:
        calls.append(self)
        return None if len(calls) % 3 == 0 else run(self, *arguments)

    monkeypatch.setattr(Repeatable, "run", third_is_changed)
    for t in range(4, 8):
        stream.step(x[t])
    assert len(calls) == 12
    close(stream.state, model(x)[1])


@pytest.mark.parametrize(("batch", "steps"), [(2, 400_000), (100_000, None)], ids=["a chunk", "a step of many"])
def test_a_run_that_is_interrupted_leaves_the_state_as_it_was(batch, steps):
    model = us.GRU(I, 16 if steps else 64)
    stream = us.stream(model, batch)
    x = torch.randn(batch, I) if steps is None else torch.randn(steps, batch, I)
    run = stream.step if steps is None else stream
    run(x if steps is None else x[:2])
    before, other = stream.state, us.stream(model, batch)

    def run_on() -> None:
        nonlocal before
        for _ in range(100):
            before = stream.state
            run(x)

    def stop(signum: int, frame: Any) -> None:
        del signum, frame
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.12)
        with pytest.raises(KeyboardInterrupt):
            run_on()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    other.state = before
    (other.step if steps is None else other)(x)  # where it came after a run
    assert torch.equal(stream.state, before) or torch.equal(stream.state, other.state)


@pytest.mark.parametrize("model", [us.LSTM(I, 4), us.RNN(LayerNormGRUCell(I, 4))], ids=["layer", "own cell"])
def test_inputs_in_any_form_are_taken(model):
    negated = torch.complex(torch.randn(2, I), torch.randn(2, I)).conj().imag
    assert negated.is_neg()
    forms = [
        torch.randn(2, I), torch.randn(I, 2).T, torch.ones(1).expand(2, I), negated, torch.randn(2, 2 * I)[:, ::2],
        torch.randn(4, I)[::2], torch.randn(2, I, requires_grad=True).detach(),
    ]  # fmt: skip
    stream, plain = us.stream(model, 2), us.stream(model, 2)
    for form in 3 * forms:
        close(stream.step(form), plain(form.contiguous().resolve_neg().clone().unsqueeze(0))[0])


def test_states_and_outputs_are_the_callers():
    model = us.GRU(I, 4)
    stream, x = us.stream(model, 2), torch.randn(6, 2, I)
    outputs, states = [], []
    for t in range(6):
        outputs.append(stream.step(x[t]))
        states.append(stream.state)
    want, _ = model(x)
    close(torch.stack(outputs), want)
    close(torch.cat(states), want)
    states[-1].fill_(9.0)
    outputs[-1].fill_(9.0)
    close(stream.state, want[-1:])
    mine = torch.randn(1, 2, 4)
    stream.state = mine
    mine.fill_(9.0)
    assert not bool((stream.state == 9.0).any())


def test_gradients_are_never_recorded_nor_lost_without_a_word():
    model = us.GRU(I, 4)
    stream, x = us.stream(model), torch.randn(1, I)
    for _ in range(3):
        assert not stream.step(x).requires_grad
        assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="requires gradients"):
        stream.step(x.requires_grad_())
    with torch.no_grad():
        stream.step(x)


def test_inference_mode_comes_and_goes():
    model = us.LSTM(I, 4)
    x = torch.randn(9, 1, I)
    with torch.inference_mode():
        stream = us.stream(model)
        outputs = [stream.step(x[t]) for t in range(3)]
    outputs += [stream.step(x[t]) for t in range(3, 6)]
    with torch.inference_mode():
        stream.rows.attach()
        stream.rows.detach(1)
        outputs += [stream.step(x[t]) for t in range(6, 8)]
    outputs.append(stream.step(x[8]))
    close(torch.stack(outputs), model(x)[0])
    stream.reset()


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (torch.randn(I), r"expected \[1, ...\]"),
        (torch.randn(2, I), r"expected \[1, ...\]"),
        (torch.randn(1, I + 1), "input_size=3"),
        (torch.randn(1, I, dtype=torch.float64), "float"),
        (torch.randn(1, 1, I), "expected"),
        ([1.0, 2.0, 3.0], "expected a tensor"),
        (torch.tensor(1.0), r"expected \[1, ...\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, says):
    stream = us.stream(us.GRU(I, 4))
    right = torch.randn(4, 1, I)
    for t in range(3):
        stream.step(right[t])
    before = stream.state
    with pytest.raises((TypeError, ValueError, RuntimeError), match=says):
        stream.step(x)
    close(stream.state, before)


def test_a_chunk_of_one_axis_is_refused():
    with pytest.raises(ValueError, match="For one step call step"):
        us.stream(us.GRU(I, 4))(torch.randn(I))


def test_no_sequences_and_no_steps_are_allowed():
    stream = us.stream(us.GRU(I, 4), 0)
    assert stream.step(torch.randn(0, I)).shape == (0, 4)
    stream.rows.attach("a")
    assert stream(torch.randn(0, 1, I)).shape == (0, 1, 4)
    assert not bool(stream.state.any())


def test_a_state_dict_goes_round(tmp_path):
    model = nn.Sequential(us.LSTM(I, 4, 2, return_state=False), nn.Tanh(), us.RNN(Counting(), return_state=False))
    stream, x = us.stream(model, 2), torch.randn(8, 2, I)
    for t in range(4):
        stream.step(x[t])
    file = io.BytesIO()
    torch.save(stream.state_dict(), file)
    file.seek(0)
    other = us.stream(model, 5)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert list(other.rows) == [0, 1]
    for t in range(4, 8):
        close(other.step(x[t]), stream.step(x[t]))
    close(other.state, stream.state)


def test_state_dicts_that_do_not_fit_are_refused_whole():
    stream = us.stream(us.LSTM(I, 4), 2)
    stream.step(torch.randn(2, I))
    before, good = stream.state, stream.state_dict()
    bads: Any = (
        {**good, "state.c": torch.zeros(1, 3, 4)}, {**good, "state.c": torch.zeros(1, 2, 4).double()},
        {**good, "more": torch.zeros(1)}, {k: v for k, v in good.items() if k != "state.c"}, {**good, "rows": [0, 0]},
        {k: v for k, v in good.items() if k != "rows"}, [],
    )  # fmt: skip
    for bad in bads:
        with pytest.raises((TypeError, ValueError)):
            stream.load_state_dict(bad)
        close(stream.state, before)
    with pytest.raises(ValueError, match="shapes"):
        stream.state = us.LSTMState(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4))


def test_one_stream_for_each_thread():
    model = us.LSTM(I, 4, num_layers=2)
    x = torch.randn(8, 30, 2, I)

    def run(k: int) -> Tensor:
        stream = us.stream(model, 2)
        return torch.stack([stream.step(frame) for frame in x[k]])

    with ThreadPoolExecutor(4) as pool:
        for k, y in enumerate(pool.map(run, range(8))):
            close(y, model(x[k])[0])


def test_a_stream_in_two_threads_is_refused():
    entered, leave = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            entered.set()
            assert leave.wait(60)
            return x

    stream = us.stream([us.GRU(I, 4), Waits()], stepwise=(Waits,))
    thread = threading.Thread(target=stream.step, args=(torch.randn(1, I),))
    thread.start()
    assert entered.wait(60)
    for use in (lambda: stream.step(torch.randn(1, I)), stream.reset, stream.rows.attach):
        with pytest.raises(RuntimeError, match="another thread"):
            use()
    leave.set()
    thread.join()
    stream.step(torch.randn(1, I))


def test_a_copy_goes_its_own_way():
    stream, x = us.stream(us.GRU(I, 4)), torch.randn(5, 1, I)
    stream.step(x[0])
    other = copy.deepcopy(stream)
    close(other.step(x[1]), stream.step(x[1]))
    other.step(x[2])
    assert not torch.equal(other.state, stream.state)
    assert list(other.rows) == [0]


def test_a_module_moved_to_another_dtype_needs_another_stream():
    model = us.GRU(I, 4)
    stream = us.stream(model)
    stream.step(torch.randn(1, I))
    model.double()
    with pytest.raises(TypeError, match="float"):
        stream.step(torch.randn(1, I).double())
    assert us.stream(model).step(torch.randn(1, I).double()).dtype == torch.float64


def test_the_dtype_of_a_cell_without_parameters_can_be_told():
    cell = Counting()
    x = torch.randn(1, 4, dtype=torch.float64)
    with pytest.raises(TypeError):
        us.stream(cell).step(x)
    assert us.stream(cell, dtype=torch.float64).step(x).dtype == torch.float64


def test_memory_stays_flat():
    model = us.LSTM(I, 64, num_layers=2)
    stream, x = us.stream(model, 2), torch.randn(2, I)
    places = [leaf.data_ptr() for held in stream._states for leaf in held.leaves]
    for _ in range(50):
        stream.step(x)
    assert places == [leaf.data_ptr() for held in stream._states for leaf in held.leaves]


@pytest.mark.parametrize("make", [lambda: HighwayRecurrentCell(I, 4), Counting], ids=["native", "python"])
def test_autocast_gives_what_the_layer_gives(make: Callable[[], nn.Module]):
    layer, x = us.RNN(make()), torch.randn(4, 2, 4 if make is Counting else I)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want, _ = layer(x)
        stream = us.stream(layer, 2)
        got = torch.stack([stream.step(frame) for frame in x])
    assert got.dtype == want.dtype
    assert torch.allclose(got.float(), want.float(), atol=2e-2)
