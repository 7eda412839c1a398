"""Modules in files: bit for bit, whole or not there, and refused where they are not understood."""

import inspect
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

import unspool as us
from tests.refusal import refused
from unspool.interop import load, save
from unspool.interop._describe import CLASSES, describe_module
from unspool.layers import LayerOptions, RunOptions

MODULES = {
    "rnn cell": lambda: us.SimpleRNNCell(3, 5, activation="silu", recurrent_bias=False),
    "lstm cell": lambda: us.LSTMCell(3, 5, peephole=True, proj_size=2, cell_clip=0.5, proj_clip=0.1, forget_bias=1.0),
    "coupled": lambda: us.LSTMCell(3, 5, coupled=True, shared_over_batch=True, dropout=0.1, dtype=torch.float64),
    "gru cell": lambda: us.GRUCell(3, 5, reset_after=False, recurrent_activation="hard_sigmoid", init="keras"),
    "stack": lambda: us.StackedRNNCells([us.GRUCell(3, 5), us.ResidualCell(us.LSTMCell(5, 5))]),
    "highway": lambda: us.HighwayCell(us.GRUCell(5, 5), carry_bias=2.0),
    "simple": lambda: us.SimpleRNN(3, 5, nonlinearity="relu", bias=False),
    "lstm": lambda: us.LSTM(3, 5, num_layers=2, dropout=0.5, bidirectional=True, proj_size=2, batch_first=True),
    "gru": lambda: us.GRU(3, 5, input_dropout=0.1, recurrent_dropout=0.2, reset_after=False, dtype=torch.bfloat16),
    "unrolled": lambda: us.LSTM(3, 5, unroll=True, num_steps=4, pad_output="repeat", backend="reference"),
    "backwards": lambda: us.GRU(3, 5, go_backwards=True, return_sequences=False, return_state=False),
    "rnn": lambda: us.RNN(us.LSTMCell(3, 5), batch_first=True, reverse=True),
    "bidirectional": lambda: us.Bidirectional(us.GRU(3, 5), us.GRU(3, 2, reverse=True), merge_mode=None),
}


@pytest.mark.parametrize("name", MODULES)
def test_there_and_back(name, tmp_path):
    module, path = MODULES[name](), tmp_path / "module.safetensors"
    save(module, path)
    back = load(path)
    assert type(back) is type(module)
    assert str(back) == str(module)
    assert describe_module(back) == describe_module(module)
    assert back.state_dict().keys() == module.state_dict().keys()
    for received, expected in zip(back.state_dict().values(), module.state_dict().values(), strict=True):
        assert received.dtype == expected.dtype
        assert torch.equal(received, expected)
    assert [file.name for file in tmp_path.iterdir()] == ["module.safetensors"]


def test_every_class_has_a_case():
    made = {type(part).__name__ for make in MODULES.values() for part in make().modules()}
    assert CLASSES.keys() <= made


@pytest.mark.parametrize("name", MODULES)
def test_every_argument_is_described(name):
    module = MODULES[name]()
    described = describe_module(module)["arguments"].keys()
    wanted = inspect.signature(type(module)).parameters.keys() - {"device", "dtype", "nonlinearity", "options"}
    wanted |= RunOptions.__annotations__.keys() if isinstance(module, us.RNN) else set()
    wanted |= LayerOptions.__annotations__.keys() if isinstance(module, us.LSTM | us.GRU | us.SimpleRNN) else set()
    assert wanted <= described


def test_results_are_the_same_and_training_goes_on(tmp_path):
    layer, x = us.LSTM(3, 5), torch.randn(4, 2, 3)
    save(layer, tmp_path / "lstm.safetensors")
    back = load(tmp_path / "lstm.safetensors")
    assert torch.equal(back(x)[0], layer(x)[0])
    back(x)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in back.parameters())


def test_other_readers_find_the_state_dict(tmp_path):
    layer = us.GRU(3, 5)
    save(layer, tmp_path / "gru.safetensors")
    other, x = nn.GRU(3, 5), torch.randn(4, 2, 3)
    other.load_state_dict(load_file(tmp_path / "gru.safetensors"))
    torch.testing.assert_close(other(x)[0], layer(x)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("error", "make", "parts"),
    [
        (TypeError, lambda: nn.LSTM(3, 5), ("received LSTM", "expected SimpleRNNCell")),
        (TypeError, lambda: us.RNN(nn.LSTMCell(3, 5)), ("received LSTMCell", "state dict")),
        (TypeError, lambda: us.LSTM(3, 5, activation=torch.sin), ("activation is the function", "expected a name")),
        (ValueError, lambda: us.StackedRNNCells([us.GRUCell(5, 5)] * 2), ("cells.1.weight_ih", "one parameter")),
        (TypeError, lambda: parametrizations.weight_norm(us.GRU(3, 5), "weight_hh_l0"), ("ParametrizedGRU",)),
        (ValueError, lambda: prune.l1_unstructured(us.GRU(3, 5), "weight_hh_l0", 0.5), ("weight_hh_l0 missing",)),
    ],
)
@pytest.mark.filterwarnings("ignore:cells.0. and cells.1. of StackedRNNCells:UserWarning")
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(error, make, parts, tmp_path):
    with pytest.raises(error) as caught:
        save(make(), tmp_path / "module.safetensors")
    assert all(part in str(caught.value) for part in parts)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "module.safetensors"
    save(us.GRU(3, 5), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", _fail)
    with pytest.raises(OSError, match="no space"):
        save(us.LSTM(3, 5), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def _fail(_: int) -> None:
    raise OSError("no space")


def written(path, **changes):
    """A file with other metadata."""
    described = describe_module(us.GRUCell(3, 5))
    metadata = {"unspool": "1", "module": json.dumps(described), **changes}
    save_file(dict(us.GRUCell(3, 5).state_dict()), path, {k: v for k, v in metadata.items() if v is not None})
    return path


def test_files_that_are_not_understood_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    assert isinstance(load(written(path)), us.GRUCell)
    arguments = {"input_size": 3, "hidden_size": 5}
    for changes, parts in {
        ("unspool", "2"): ("has the format '2'", "expected '1'"),
        ("unspool", None): ("'of another program'", "load_file"),
        ("module", None): ("does not describe a module", "'module'"),
        ("module", "{"): ("does not describe a module",),
        ("module", json.dumps({"class": "Linear", "arguments": {}})): ("the class 'Linear'", "expected one of"),
        ("module", json.dumps({"class": "GRUCell", "arguments": {"gates": 3}})): ("arguments that GRUCell does not",),
        ("module", json.dumps({"class": "LSTMCell", "arguments": arguments})): (
            "weight_ih [15, 3] (expected [20, 3])",
        ),
        ("module", "[]"): ("does not describe a module",),
        ("module", json.dumps({"class": "GRUCell", "arguments": {"input_size": "3", "hidden_size": [5]}})): (
            "does not describe a module",
        ),
        ("module", json.dumps({"class": "LSTM", "arguments": {**arguments, "num_layers": 200_000}})): (
            "more than 4 layers and cells, and there are 4 tensors",
        ),
        ("module", json.dumps({"class": "GRUCell", "arguments": {**arguments, "hidden_size": 10**15}})): (
            "does not describe a module",
        ),
    }.items():
        with refused(ValueError, "m.safetensors", *parts):
            load(written(path, **dict([changes])))


def test_damaged_files_are_refused(tmp_path):
    path = written(tmp_path / "m.safetensors")
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100], b"", b"text"):
        path.write_bytes(damaged)
        with refused(ValueError, "m.safetensors", "not a whole safetensors file"):
            load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.safetensors")
