"""unspool doctor: what it can be given, what it prints, what it refuses."""

import sys

import pytest
import torch
from typer.testing import CliRunner

from tests.training.small_sets import WRITERS, small_recipe
from unspool.cli import app
from unspool.data import load_japanese_vowels
from unspool.training import SequenceModule, vowels_recipe

MODEL = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self, size=4):
        super().__init__()
        self.rnn = nn.GRU(3, size, batch_first=True)

    def forward(self, x, scale=1.0):
        return self.rnn(scale * x)[0]

model = Tagger()
needy = lambda size: Tagger(size)
number = 3

class Zoo:
    tagger = model

def sample():
    x = torch.ones(2, 10, 3)
    x[:, 0], x[1, 5:] = 2, 0
    return x

def named():
    return (torch.ones(1, 7, 3),), {"scale": 2.0}

def several():
    return torch.ones(1, 3, 3), 0.5

def broken():
    raise KeyError("the user's own error")
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_models.py"
    path.write_text(MODEL)
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        if name.endswith(("my_models", "plain", "failing")):
            del sys.modules[name]


def run(*arguments, code=0, columns="80"):
    outcome = CliRunner(env={"COLUMNS": columns}).invoke(app, ["doctor", *map(str, arguments)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.output
    return outcome


@pytest.mark.parametrize("name", ["model", "Tagger", "Zoo.tagger"])
@pytest.mark.parametrize("place", ["my_models", "my_models.py"])
def test_a_model_is_found_by_module_or_file_with_its_sample_beside_it(file, place, name):
    lines = run(f"{place}:{name}", columns="200").stdout.splitlines()
    assert lines == [
        "rnn: torch.nn.GRU, called once",
        "  runs on         PyTorch's own kernel (ATen), on padded input",
        "  why not faster  it is not accelerated",
        "                  what looks like padding is computed, since no lengths are given",
        "  padding         looks like padding: 25 % of 20 steps, all of it computed (a guess: rows end in zeros or in "
        "repeated steps)",
        "  change          model = unspool.accelerate(model)",
        "                  model.rnn(x, lengths=lengths)",
        "2 things to change",
    ]


def test_it_fits_into_eighty_columns_but_for_code(file):
    assert max(map(len, run(f"{file}:model").stdout.splitlines())) <= 80
    lines = run(f"{file}:model", columns="30").stdout.splitlines()
    assert "  change          model = unspool.accelerate(model)" in lines
    assert not any(line.endswith(" ") for line in lines)


def test_a_sample_may_be_a_tensor(file):
    file.write_text("import torch\nmodel = torch.nn.GRU(3, 4)\nsample = torch.ones(5, 2, 3)\n")
    for options in ((), ("--sample", f"{file}:sample")):
        assert "change" in run(f"{file}:model", *options).stdout


@pytest.mark.parametrize(("name", "steps"), [("named", 7), ("several", 3)])
def test_a_sample_may_be_named(file, name, steps):
    assert f"none to be seen in {steps} steps" in run(f"{file}:model", "--sample", f"my_models:{name}").stdout


def test_measuring_prints_a_ratio(file):
    assert "times as fast" in run(f"{file}:model", "--measure", columns="200").stdout


def test_a_file_is_imported_once(file):
    file.write_text(MODEL + "\nimport builtins\nbuiltins.print('imported')\n")
    outcome = run(f"{file}:model", "--sample", f"{file}:named")
    assert outcome.stdout.count("imported") == 1


@pytest.mark.parametrize(
    ("target", "sample", "message"),
    [
        ("my_models", None, "received 'my_models'; expected package.module:name or path/to/file.py:name"),
        ("absent.py:model", None, "there is no file absent.py"),
        ("absent.inner:model", None, "there is no module absent"),
        ("my_models.inner:model", None, "there is no module my_models.inner"),
        ("my_models:absent", None, "my_models has no absent; it has"),
        ("my_models:number", None, "my_models:number is int; expected a torch.nn.Module"),
        ("my_models:needy", None, "cannot be called without arguments (missing a required argument: 'size')"),
        ("my_models:model", "my_models:absent", "my_models has no absent"),
        ("plain.py:model", None, "there is no sample batch; name a function that returns the arguments"),
        ("absent.ckpt", None, "absent.ckpt"),
    ],
)
def test_what_cannot_be_used_is_one_message(file, target, sample, message):
    (file.parent / "plain.py").write_text("from torch import nn\nmodel = nn.GRU(3, 4)\n")
    outcome = run(target, *(["--sample", sample] if sample else []), code=2)
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("error: ")
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "error"),
    [("import absent_package", ModuleNotFoundError), ("1 / 0", ZeroDivisionError)],
    ids=["import", "division"],
)
@pytest.mark.parametrize("place", ["failing", "failing.py"])
def test_errors_of_the_users_own_code_are_the_users_to_see(file, place, source, error):
    (file.parent / "failing.py").write_text(source)
    with pytest.raises(error):
        run(f"{place}:model")
    assert not any(name.endswith("failing") for name in sys.modules)
    with pytest.raises(KeyError, match="the user's own error"):
        run("my_models:model", "--sample", "my_models:broken")


def test_a_sample_that_does_not_fit_is_one_message(file):
    file.write_text(MODEL + "\ndef wide():\n    return torch.ones(2, 5, 7), 1.0\n")
    output = " ".join(run(f"{file}:model", "--sample", f"{file}:wide", code=2).output.split())
    assert output.startswith("error: the model fails on the sample batch, with RuntimeError: input.size(-1)")
    assert f"{file}, line 11: return self.rnn(scale * x)[0]" in output
    assert "It was called with (float32 of shape (2, 5, 7), float)" in output
    assert "Traceback" not in output


def test_files_of_one_name_are_told_apart(file):
    other = file.parent / "other"
    other.mkdir()
    (other / "my_models.py").write_text(MODEL.replace("2, 10, 3", "2, 8, 3"))
    assert "of 20 steps" in run(f"{file}:model", columns="200").stdout
    assert "of 16 steps" in run(f"{other / 'my_models.py'}:model", columns="200").stdout


def checkpoint(path, recipe):
    module = SequenceModule(recipe.to_dict(), [str(k) for k in range(recipe.num_classes)])
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, path)
    return path


@pytest.mark.parametrize("batching", ["padded", "ragged"])
def test_a_checkpoint_is_run_on_its_test_data(tmp_path, batching):
    path = checkpoint(tmp_path / "vowels.ckpt", vowels_recipe(hidden_size=4, batch_size=2, batching=batching))
    lines = [line.rstrip() for line in run(path).stdout.splitlines()]
    lengths = load_japanese_vowels("test").lengths[:256]
    steps, real = 256 * int(lengths.max()), int(lengths.sum())
    assert lines == [
        "recurrent.0: unspool.LSTM, called once",
        "  runs on         native",
        "  why not faster  nothing here is faster",
        f"  padding         {100 - 100 * real / steps:.0f} % of {steps:,} steps, none of it computed",
        "  change          nothing",
        "nothing to change",
    ]


def test_a_checkpoint_of_streams_is_run_too(tmp_path, monkeypatch):
    WRITERS["shakespeare"](monkeypatch, tmp_path / "data")
    path = checkpoint(tmp_path / "text.ckpt", small_recipe("shakespeare"))
    outcome = run(path, "--data-dir", tmp_path / "data")
    assert "nothing to change" in outcome.stdout
    assert "none to be seen in" in outcome.stdout
