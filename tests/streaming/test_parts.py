"""What a model that streams may be made of, and why others may not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import unspool as us
from tests.streaming.models import I
from unspool.streaming import parts_of


class Own(nn.Module):
    """A module that nobody knows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(0)


class OwnLinear(nn.Linear):
    """Looks like PyTorch's, and is not."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flip(0)


class OwnLayer(us.GRU):
    """A layer with a forward of its own."""

    def forward(self, *args: object, **kwargs: object) -> object:
        return super().forward(*args, **kwargs)  # type: ignore[arg-type]


class OwnSequential(nn.Sequential):
    """A sequence with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flip(0)


GRU = us.GRU(I, 4, return_state=False)
REFUSED = {
    "a class": (us.GRU, TypeError, "expected a cell"),
    "no module": (3, TypeError, "expected a cell"),
    "nothing recurrent": (nn.Sequential(nn.Linear(3, 3)), TypeError, "no recurrent part"),
    "an unknown module": ([GRU, Own()], TypeError, r"stepwise=\(Own,\)"),
    "a subclass with its own forward": ([GRU, OwnLinear(4, 4)], TypeError, "OwnLinear"),
    "a layer with its own forward": (OwnLayer(I, 4), TypeError, "OwnLayer"),
    "a sequential with its own forward": (OwnSequential(GRU), TypeError, "OwnSequential"),
    "convolution": ([nn.Conv1d(3, 3, 2), GRU], TypeError, "Conv1d"),
    "batch norm": ([GRU, nn.BatchNorm1d(4)], TypeError, "BatchNorm1d"),
    "bidirectional": (us.LSTM(I, 4, bidirectional=True), ValueError, "later steps"),
    "torch's bidirectional": (nn.LSTM(I, 4, bidirectional=True), ValueError, "later steps"),
    "the wrapper": ([us.Bidirectional(us.GRU(I, 4))], ValueError, "later steps"),
    "reverse": (us.GRU(I, 4, reverse=True), ValueError, "backward in time"),
    "go_backwards": (us.GRU(I, 4, go_backwards=True), ValueError, "backward in time"),
    "a norm over the batch": ([GRU, nn.LayerNorm([2, 4])], ValueError, "several axes"),
    "softmax over time": ([GRU, nn.Softmax(0)], ValueError, "dim=0"),
    "softmax over an axis by number": ([GRU, nn.LogSoftmax(2)], ValueError, "dim=2"),
    "slopes for an axis": ([GRU, nn.PReLU(4)], ValueError, "second axis"),
    "mixed layouts": ([GRU, us.GRU(4, 4, batch_first=True)], ValueError, "batch_first"),
    "last output in between": ([us.GRU(I, 4, return_sequences=False), us.GRU(4, 4)], ValueError, "last output alone"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_stream_is_refused_with_the_reason(name):
    model, error, says = REFUSED[name]
    with pytest.raises(error, match=says):
        us.stream(model)


def test_a_module_of_the_users_is_called_with_an_axis_of_time():
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dim() == 3
            return x * torch.arange(1.0, 5.0).view(1, 1, 4)

    model, x = nn.Sequential(GRU, Scaled()), torch.randn(5, 2, I)
    stream = us.stream(model, 2, stepwise=(Scaled,))
    got = torch.cat([torch.stack([stream.step(x[0]), stream.step(x[1])]), stream(x[2:])])
    torch.testing.assert_close(got, model(x), rtol=0, atol=1e-6)


def test_parametrised_modules_are_known_by_the_forward_they_have():
    linear = nn.Linear(4, 4)
    parametrize.register_parametrization(linear, "weight", nn.Tanh())
    assert type(linear) is not nn.Linear
    model, x = nn.Sequential(GRU, linear), torch.randn(5, 2, I)
    stream = us.stream(model, 2)
    torch.testing.assert_close(torch.stack([stream.step(f) for f in x]), model(x), rtol=0, atol=1e-6)


def test_parts_are_named_as_the_model_names_them():
    model = nn.Sequential(nn.Linear(I, I), nn.Sequential(us.GRU(I, 4, return_state=False), nn.ReLU()), nn.GRUCell(4, 4))
    assert [part.name for part in parts_of(model)] == ["0", "1.0", "1.1", "2"]
    stream = us.stream(model)
    assert list(stream.state) == ["1.0", "2"]
    assert str(stream) == "Stream('0' (Linear), '1.0' (GRU), '1.1' (ReLU), '2' (GRUCell); 1 sequences)"


def test_a_module_that_occurs_twice_runs_twice():
    twice, linear = us.GRU(4, 4, return_state=False), nn.Linear(4, 4)
    model, x = nn.Sequential(twice, linear, twice, linear), torch.randn(5, 2, 4)
    stream = us.stream(model, 2)
    torch.testing.assert_close(torch.stack([stream.step(f) for f in x]), model(x), rtol=0, atol=1e-6)
    assert list(stream.state) == ["0", "2"]


def test_a_layout_that_changes_is_obeyed():
    model, x = nn.Sequential(us.GRU(I, 4, return_state=False), us.GRU(4, 4, return_state=False)), torch.randn(3, 3, I)
    stream = us.stream(model, 3)
    stream(x)
    for layer in model:
        layer.batch_first = True  # type: ignore[assignment]
    stream.reset()
    torch.testing.assert_close(stream(x), model(x), rtol=0, atol=1e-6)
    model[1].return_sequences = False  # type: ignore[assignment]
    stream.reset()
    torch.testing.assert_close(stream(x), model(x), rtol=0, atol=1e-6)
    model[0].return_sequences = False  # type: ignore[assignment]
    with pytest.raises(ValueError, match="last output alone"):
        stream(x)
