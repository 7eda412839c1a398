"""A call of the same form as the last one is run again as that was: unless anything has changed meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import unspool as us
from tests.conformance.oracle import assert_close
from unspool._nest import leaves_of, map_leaves
from unspool.backends._repeat import Repeatable
from unspool.execution import Steps

H = 6
GAIN = {"of": 1.0}


class Gated(us.Cell):
    """A cell that reads numbers from everywhere."""

    def __init__(self) -> None:
        super().__init__(state_size=H)
        self.forget, self.new = nn.Linear(2 * H, H), nn.Linear(2 * H, H)
        self.scale, self.listed = 1.0, [0.5]

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f = torch.sigmoid(self.forget(torch.cat([x, state], -1)) * self.scale)
        n = torch.tanh(self.new(torch.cat([x, f * state], -1)) + self.listed[0])
        h = ((1 - f) * state + f * n) * GAIN["of"]
        return h, h


class Pair(nn.Module):
    """A cell that starts as it likes, with a pair as its state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.start = nn.Linear(2 * H, H), nn.Parameter(torch.randn(H))

    def initial_state(self, batch_size: int, *, dtype: Any = None, device: Any = None) -> tuple[Tensor, Tensor]:
        h = self.start.to(device, dtype).expand(batch_size, H)
        return h, h * 0

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        c = c + torch.tanh(self.linear(torch.cat([x, h], -1)))
        return c * 0.5, (torch.sin(c), c)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "GRU": lambda: us.GRU(H, H),
    "LSTM of two layers both ways": lambda: us.LSTM(H, H, num_layers=2, bidirectional=True, dropout=0.5).eval(),
    "LSTM with a projection": lambda: us.LSTM(H, H, proj_size=4),
    "SimpleRNN": lambda: us.SimpleRNN(H, H, nonlinearity="relu"),
    "own cell": lambda: us.RNN(Gated()),
    "own start": lambda: us.RNN(Pair()),
    "torch's cell": lambda: us.RNN(nn.LSTMCell(H, H)),
    "accelerated": lambda: us.accelerate(nn.GRU(H, H), backend="native"),
}


def flat(result: Any) -> dict[str, Tensor]:
    return {str(i): leaf for i, leaf in enumerate(leaves_of(result))}


@pytest.fixture(params=[False, True], ids=["no gradients", "gradients"])
def grad(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run a test without gradients and with them."""
    with torch.set_grad_enabled(request.param):
        yield request.param


def numbers(module: Any, *arguments: Any, of: nn.Module | None = None, **options: Any) -> dict[str, Tensor]:
    """Return the results of a call and, where they are on, all gradients."""
    result = module(*arguments, **options)
    if not torch.is_grad_enabled():
        return flat(result)
    given: tuple[Any, ...] = (*leaves_of(arguments), *(of or module).parameters())
    wanted = [t for t in given if isinstance(t, Tensor)]
    wanted = [t for t in wanted if t.requires_grad]
    loss = torch.stack([((k + 1) * leaf).sum() for k, leaf in enumerate(leaves_of(result))]).sum()
    return flat((result, torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)))


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


def inputs(steps: int = 1, batch: int = 2) -> Tensor:
    return torch.randn(steps, batch, H)


def expected(module: nn.Module, *arguments: Any, **options: Any) -> dict[str, Tensor]:
    """Return what the loop over the cell of another module gives, which has never been called."""
    if hasattr(module, "_unspool_options"):
        return numbers(lambda *given: module.torch_class.forward(module, *given), *arguments, of=module)  # type: ignore[operator, attr-defined]
    return numbers(never_called(module), *arguments, **options)


def never_called(module: nn.Module) -> nn.Module:
    """Return a copy of a module, which nothing is known of, and whose cell is not read."""
    fresh = copy.deepcopy(module)
    fresh.backend = "reference"  # type: ignore[assignment]
    return fresh


def alone(module: nn.Module, x: Tensor, state: Any, b: int, steps: Iterable[int], resets: Any = None) -> Any:
    """Return outputs and the final state of one sequence, called step by step, from no state where it is reset."""
    one, outputs = map_leaves(lambda leaf: leaf.narrow(leaf.dim() - 2, b, 1), state), []
    for t in steps:
        start = None if resets is not None and bool(resets[t][b]) else one
        output, one = never_called(module)(x[t : t + 1, b : b + 1], start)
        outputs.append(output)
    return outputs, one


@pytest.mark.parametrize("name", MODULES)
def test_calls_of_one_form_are_repeated_and_give_what_the_loop_gives(name, grad, repeats):
    module = MODULES[name]()
    state = None
    for steps in (1, 1, 1, 4, 4, 1):
        x = inputs(steps).requires_grad_(grad)
        assert_close(numbers(module, x, state), expected(module, x, state), torch.float32)
        state = map_leaves(lambda leaf: leaf.detach().requires_grad_(grad), module(x, state)[1])
    assert repeats.count(True) >= 6
    assert all(repeats)


def in_place(m: nn.Module) -> None:
    next(m.parameters()).mul_(-1.5)


def by_data(m: nn.Module) -> None:
    next(m.parameters()).data.mul_(-1.5)


def other_data(m: nn.Module) -> None:
    p = next(m.parameters())
    p.data = (torch.randn_like(p.t()) if p.dim() > 1 else torch.randn_like(p)).t() if p.dim() > 1 else -p.data


def other_parameter(m: nn.Module) -> None:
    name, p = next(iter(m.named_parameters()))
    owner = m.get_submodule(name.rpartition(".")[0])
    setattr(owner, name.rpartition(".")[2], nn.Parameter(torch.randn_like(p)))


def parametrised(m: nn.Module) -> None:
    class Halved(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 0.5 * w

    name, _ = next(iter(m.named_parameters()))
    parametrize.register_parametrization(m.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], Halved())


@pytest.mark.parametrize("change", [in_place, by_data, other_data, other_parameter, parametrised])
@pytest.mark.parametrize("name", MODULES)
def test_changed_weights_are_obeyed(name, change, grad):
    module, x = MODULES[name](), inputs().requires_grad_(grad)
    before = [module(x)[0] for _ in range(3)][-1]
    with torch.no_grad():
        change(module)
    if name == "accelerated" and change is parametrised:
        return  # a module of another class now: see test_accelerate_modules
    for _ in range(3):
        after = numbers(module, x)
        assert_close(after, expected(module, x), torch.float32)
        assert not torch.equal(after["0"], before)


def patched_forward(c: Gated) -> None:
    c.forward = lambda x, state: (x + state, state)  # type: ignore[method-assign]


def hooked(c: Gated) -> None:
    def less(module: nn.Module, args: Any, out: Any) -> Tensor:
        del module, args
        return out * 0.1

    c.new.register_forward_hook(less)


def other_scale(c: Gated) -> None:
    c.scale = 3.0


def other_item(c: Gated) -> None:
    c.listed[0] = -2.0


def other_part(c: Gated) -> None:
    c.new = nn.Linear(2 * H, H)


@pytest.mark.parametrize("change", [patched_forward, hooked, other_scale, other_item, other_part])
def test_a_changed_cell_is_obeyed(change, grad):
    cell, x, h = Gated(), inputs().transpose(0, 1).requires_grad_(grad), torch.randn(2, H)
    before = [us.dynamic_rnn(cell, x, None, h)[0] for _ in range(3)][-1]
    change(cell)
    for _ in range(3):
        fresh = copy.deepcopy(cell)
        want = numbers(us.dynamic_rnn, fresh, x, None, h, backend="reference", of=fresh)
        assert_close(numbers(us.dynamic_rnn, cell, x, None, h, of=cell), want, torch.float32)
        assert not torch.equal(want["0"], before)


@torch.no_grad()
def test_a_changed_global_is_obeyed(monkeypatch):
    cell, x = Gated(), inputs(3)
    for gain in (1.0, 1.0, 1.0, 2.0, 2.0, 1.0):
        monkeypatch.setitem(GAIN, "of", gain)
        want = us.dynamic_rnn(copy.deepcopy(cell), x, time_major=True, backend="reference")
        assert_close(flat(us.dynamic_rnn(cell, x, time_major=True)), flat(want), torch.float32)


@torch.no_grad()
def test_another_start_is_obeyed():
    cell, x = us.GRUCell(H, H), inputs()
    for _ in range(3):
        us.dynamic_rnn(cell, x)
    cell.initial_state = lambda batch_size, **options: torch.ones(batch_size, H)  # type: ignore[method-assign]
    want = us.dynamic_rnn(copy.deepcopy(cell), x, None, torch.ones(1, H))
    for _ in range(2):
        assert_close(flat(us.dynamic_rnn(cell, x)), flat(want), torch.float32)


@pytest.mark.parametrize(
    ("option", "value"),
    [("reverse", True), ("batch_first", True), ("return_sequences", False), ("pad_output", "repeat"), ("dropout", 0.9)],
)
@torch.no_grad()
def test_changed_options_are_obeyed(option, value):
    module, x = us.GRU(H, H, num_layers=2, dropout=0.1), torch.randn(2, 2, H)
    module.eval()
    for _ in range(3):
        module(x)
    setattr(module, option, value)
    for _ in range(3):
        assert_close(flat(module(x)), expected(module, x), torch.float32)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_draws_in_training_and_not_in_evaluation(layers, grad):
    between = {"num_layers": 2, "dropout": 0.5} if layers == 2 else {}
    module, x = us.LSTM(H, H, recurrent_dropout=0.5, **between), inputs(3)
    for training in (False, False, False, True, True, False, False):
        module.train(training)
        torch.manual_seed(1)
        result = numbers(module, x)
        torch.manual_seed(1)
        assert_close(result, expected(module, x), torch.float32)


def test_tensors_in_any_form_are_taken(grad):
    module = us.LSTM(H, H)
    state = (torch.randn(1, 2, H), torch.randn(1, 2, H))
    turned, same = torch.randn(1, H, 2).transpose(1, 2), torch.ones(1).expand(1, 2, H)
    negated = torch.complex(inputs(), inputs()).conj().imag
    assert negated.is_neg()
    forms = {
        "plain": (inputs(), state),
        "not contiguous": (turned, (turned, 2 * turned)),
        "one value throughout": (same, (same, same)),
        "negated when it is read": (negated, (negated, state[1])),
        "one tensor for both states": (inputs(), (state[0], state[0])),
        "a NamedTuple": (inputs(), us.LSTMState(*state)),
    }  # fmt: skip
    for _ in range(3):
        module(*forms["plain"])
    for form in forms.values():
        given = [leaf.clone() for leaf in form[1]]
        assert_close(numbers(module, *form), expected(module, *form), torch.float32)
        assert all(map(torch.equal, form[1], given)), "a state was written into"


@torch.no_grad()
def test_results_are_the_callers():
    module, x = us.GRU(H, H), inputs()
    results = [module(x, torch.full((1, 2, H), 0.1 * k)) for k in range(5)]
    want = [expected(module, x, torch.full((1, 2, H), 0.1 * k)) for k in range(5)]
    for result, right in zip(results, want, strict=True):
        assert_close(flat(result), right, torch.float32)
    kept = results[0][0].clone()
    for leaf in results[-1]:
        leaf.fill_(9.0)
    module(x)
    assert torch.equal(results[0][0], kept)


WRONG: dict[str, Callable[[Tensor], tuple[Any, Any]]] = {
    "features": lambda x: (torch.randn(1, 2, H + 1), None),
    "dtype": lambda x: (x.double(), None),
    "batch of the state": lambda x: (x, torch.zeros(1, 3, H)),
    "axes of the state": lambda x: (x, torch.zeros(2, H)),
    "dtype of the state": lambda x: (x, torch.zeros(1, 2, H, dtype=torch.float64)),
    "a pair": lambda x: (x, (torch.zeros(1, 2, H), torch.zeros(1, 2, H))),
    "a tuple": lambda x: (x, (torch.zeros(1, 2, H),)),
    "no tensor": lambda x: (x.numpy(), None),
}


@pytest.mark.parametrize("what", WRONG)
@torch.no_grad()
def test_what_is_wrong_is_refused_as_in_a_first_call(what):
    module, fresh, x = us.GRU(H, H), us.GRU(H, H), inputs()
    for _ in range(3):
        module(x, torch.zeros(1, 2, H))
    with pytest.raises((TypeError, ValueError)) as first:
        fresh(*WRONG[what](x))
    with pytest.raises(first.type) as again:
        module(*WRONG[what](x))
    assert str(again.value) == str(first.value)


class Exchanged(NamedTuple):
    """The state of an LSTM as TensorFlow 1 has it."""

    c: Tensor
    h: Tensor


class Other(NamedTuple):
    """A state of as many tensors that mean something else."""

    h: Tensor
    m: Tensor


@torch.no_grad()
def test_a_state_of_another_kind_is_taken_by_its_names_or_refused():
    module, x, h, c = us.LSTM(H, H), inputs(), torch.randn(1, 2, H), torch.randn(1, 2, H)
    for _ in range(3):
        want = flat(module(x, (h, c)))
        assert_close(flat(module(x, Exchanged(c=c, h=h))), want, torch.float32)
        assert_close(flat(module(x, [h, c])), want, torch.float32)
        for wrong in (Other(h, c), {"h": h, "c": c}, (h,), h):
            with pytest.raises(ValueError, match="hx has the structure"):
                module(x, wrong)


def test_gradients_are_computed_where_they_are_wanted():
    module, x = us.GRU(H, H), inputs()
    with torch.no_grad():
        for _ in range(3):
            module(x)
    output, _ = module(x)
    assert output.requires_grad
    with torch.no_grad():
        assert not module(x)[0].requires_grad
    module.requires_grad_(False)
    h = torch.zeros(1, 2, H, requires_grad=True)
    assert module(x, h)[0].requires_grad
    with torch.inference_mode():
        assert module(x)[0].is_inference()
    assert not module(x)[0].is_inference()


@torch.no_grad()
def test_surroundings_are_seen(monkeypatch):
    module, x = us.GRU(H, H), inputs()
    for _ in range(3):
        module(x)
    assert [d.chosen for d in us.explain(module, x).decisions] == ["native"]
    with us.verified():
        module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(x)[1].dtype == torch.float32
    doubled = torch.func.vmap(lambda one: module(one)[0])(torch.stack([x, 2 * x]))
    assert_close({"0": doubled[1]}, {"0": expected(module, 2 * x)["0"]}, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_close(flat(module(x)), expected(module, x), torch.float32)
    finally:
        torch.set_num_threads(before)
    with torch.device("meta"):  # new tensors of the run's own are on the CPU all the same
        assert module(x)[0].is_cpu


@torch.no_grad()
def test_other_tensors_may_stand_for_the_parameters():
    module, x = us.GRU(H, H), inputs()
    others = {name: torch.randn_like(p) for name, p in module.named_parameters()}
    for _ in range(3):
        module(x)
    found = torch.func.functional_call(module, others, (x,))
    other = us.GRU(H, H)
    other.load_state_dict(others)
    assert_close(flat(found), expected(other, x), torch.float32)
    assert_close(flat(module.run_with(others, x, None, Steps(), None)), expected(other, x), torch.float32)
    assert_close(flat(module(x)), expected(module, x), torch.float32)


@torch.no_grad()
def test_two_modules_with_one_cell_are_two():
    cell, x = us.GRUCell(H, H), torch.randn(2, 2, H)
    forward, backward = us.RNN(cell), us.RNN(cell, reverse=True)
    for _ in range(3):
        for module in (forward, backward):
            assert_close(flat(module(x)), expected(module, x), torch.float32)


FLAGS = {"none": [False, False], "one": [False, True], "all": [True, True]}


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", [name for name in MODULES if name != "accelerated"])
def test_a_reset_before_the_only_step_is_another_start(name, flags, grad):
    """With gradients too: to the inputs, to the state where there is no reset, and to a start that is learned."""
    module, x = MODULES[name](), inputs().requires_grad_(grad)
    resets = torch.tensor([FLAGS[flags]])
    with torch.no_grad():
        state = module(inputs())[1]
    state = map_leaves(lambda leaf: leaf.requires_grad_(grad), state)

    def rows(x: Tensor, state: Any) -> Any:
        rows = [alone(module, x, state, b, [0], resets) for b in range(2)]
        output = torch.cat([outputs[0] for outputs, _ in rows], 1)
        return output, map_leaves(lambda *leaves: torch.cat(leaves, leaves[0].dim() - 2), *(s for _, s in rows))

    def measured(result: Any) -> dict[str, Tensor]:
        if not grad:
            return flat(result)
        loss = torch.stack([((k + 1) * leaf).sum() for k, leaf in enumerate(leaves_of(result))]).sum()
        wanted = [x, *leaves_of(state)]
        return flat((result, torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)))

    want = measured(rows(x, state))
    for _ in range(3):
        assert_close(measured(module(x, state, resets=resets)), want, torch.float32)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("about", ["full lengths", "other lengths", "resets", "full lengths and resets", "mask"])
@torch.no_grad()
def test_what_is_said_of_steps_is_obeyed(about, steps):
    module, x, state = us.GRU(H, H), inputs(steps, 3), torch.randn(1, 3, H)
    resets, mask = torch.zeros(steps, 3, dtype=torch.bool), torch.ones(steps, 3, dtype=torch.bool)
    resets[-1, 1] = resets[0, 2] = True
    mask[0, 1] = False
    options: dict[str, Any] = {
        "full lengths": {"lengths": [steps] * 3},
        "other lengths": {"lengths": [steps, 0, steps]},
        "resets": {"resets": resets},
        "full lengths and resets": {"lengths": [steps] * 3, "resets": resets},
        "mask": {"mask": mask, "lengths": [steps] * 3},
    }[about]
    for _ in range(3):
        module(x, state)
    results = [module(x, state, **options) for _ in range(2)]
    for b in range(3):
        valid = [t for t in range(steps) if bool(mask[t, b]) or "mask" not in options]
        valid = valid[: options.get("lengths", [steps] * 3)[b]]
        outputs, one = alone(module, x, state, b, valid, options.get("resets"))
        wanted = [outputs[valid.index(t)][0, 0] if t in valid else torch.zeros(H) for t in range(steps)]
        for output, final in results:
            assert_close({"": output[:, b]}, {"": torch.stack(wanted)}, torch.float32)
            assert_close({"": final[:, b : b + 1]}, {"": one}, torch.float32)


def test_a_state_gets_its_gradient():
    module, x = us.GRU(H, H).requires_grad_(False), inputs()
    for _ in range(3):
        module(x, torch.zeros(1, 2, H))
    with torch.no_grad():
        for _ in range(3):
            module(x, torch.zeros(1, 2, H))
    state = torch.zeros(1, 2, H, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x, state)[0].sum(), [state])
    assert bool(gradient.abs().sum() > 0)


def test_what_was_found_in_inference_mode_serves_nobody_else():
    module, x = us.GRU(H, H), inputs(2).requires_grad_()
    with torch.inference_mode():
        for _ in range(3):
            module(inputs(2))
    first = torch.autograd.grad(module(x)[0].square().sum(), [x], create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), [x])[0]
    module.backend = "reference"  # type: ignore[assignment]
    want = torch.autograd.grad(module(x)[0].square().sum(), [x], create_graph=True)[0]
    want = torch.autograd.grad(want.square().sum(), [x])[0]
    assert_close({"": second}, {"": want}, torch.float32)


def test_threads_share_a_layer():
    module = us.LSTM(H, H)
    xs = [inputs() for _ in range(4)]
    with torch.no_grad():
        want = [expected(module, x) for x in xs]
        module(xs[0])

    def run(x: Tensor) -> list[dict[str, Tensor]]:
        with torch.no_grad():
            return [flat(module(x)) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(run, xs), want, strict=True):
            for one in found:
                assert_close(one, right, torch.float32)


def test_a_cell_that_has_changed_is_repeated_again(grad, repeats):
    cell, x = Gated(), inputs().transpose(0, 1).requires_grad_(grad)
    for scale in (1.0, 2.0, 3.0):
        cell.scale = scale
        for _ in range(3):
            us.dynamic_rnn(cell, x)
        assert repeats[-1]


@torch.no_grad()
def test_a_start_of_its_own_is_asked_for_once_a_call():
    cell, x, asked = Pair(), inputs().transpose(0, 1), []
    start = cell.initial_state
    cell.initial_state = lambda *args, **options: asked.append(1) or start(*args, **options)  # type: ignore[method-assign, func-returns-value]
    state = start(2)
    for _ in range(3):
        us.dynamic_rnn(cell, x, None, state)
    del asked[:]
    us.dynamic_rnn(cell, x, None, state, resets=[[True], [False]])
    assert len(asked) == 1
