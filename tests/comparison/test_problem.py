"""Numbers are checked before figures are shown."""

import numpy as np
import pytest
import torch
from torch import nn

from unspool.comparison import ComparisonError, Settings, spread_lengths
from unspool.comparison._problem import CHECKED, Problem
from unspool.comparison.peers.protocol import read

SETTINGS = Settings.of(steps=(5,), batch=4, input_size=2, hidden_size=3)


@pytest.fixture
def problem(tmp_path):
    return Problem(SETTINGS, 5, tmp_path)


@pytest.fixture
def right(problem):
    """Outputs and gradients by PyTorch's LSTM, which is not ours."""
    weights, (batch,) = read(problem.file)
    layer = nn.LSTM(2, 3)
    layer.load_state_dict({f"{name}_l0": torch.from_numpy(value) for name, value in weights.items()})
    x = torch.from_numpy(batch.inputs).requires_grad_()
    outputs, _ = layer(x)
    outputs.backward(torch.from_numpy(batch.grad))
    grads = {name: getattr(layer, f"{name}_l0").grad for name in weights}
    return {f"0 {name}": v.detach().numpy() for name, v in {"outputs": outputs, "inputs": x.grad, **grads}.items()}


def test_pytorch_solves_it_whatever_stands_in_padding(problem, right, tmp_path):
    np.savez(tmp_path / "answer.npz", **right)
    assert problem.error_of(tmp_path / "answer.npz") < 1e-5
    padded = np.arange(5)[:, None] >= np.load(problem.file)["lengths"][0]
    assert padded.any()
    right["0 outputs"][padded] = np.nan
    np.savez(tmp_path / "answer.npz", **right)
    assert problem.error_of(tmp_path / "answer.npz") < 1e-5


@pytest.mark.parametrize("name", CHECKED)
def test_every_wrong_number_is_found(problem, right, tmp_path, name):
    row = np.load(problem.file)["lengths"][0].argmax()
    place = (0, row, 0) if name in ("outputs", "inputs") else (0, ...)
    for wrong in (1e-3 * np.abs(right[f"0 {name}"]).max(), np.nan):
        changed = right[f"0 {name}"].copy()
        changed[place] += wrong
        np.savez(tmp_path / "answer.npz", **{**right, f"0 {name}": changed})
        with pytest.raises(ComparisonError, match=f"wrong numbers: (the gradient of )?{name} is off by"):
            problem.error_of(tmp_path / "answer.npz")


def test_answers_of_another_form(problem, right, tmp_path):
    answer = tmp_path / "answer.npz"
    with pytest.raises(ComparisonError, match="cannot be read"):
        problem.error_of(answer)
    answer.write_bytes(b"garbage")
    with pytest.raises(ComparisonError, match="cannot be read"):
        problem.error_of(answer)
    np.savez(answer, **{"0 outputs": right["0 outputs"]})
    with pytest.raises(ComparisonError, match="cannot be read"):
        problem.error_of(answer)
    np.savez(answer, **{**right, "0 inputs": right["0 inputs"][:2]})
    with pytest.raises(ComparisonError, match=r"inputs of shape \(2, 4, 2\), expected \(5, 4, 2\)"):
        problem.error_of(answer)


def test_it_depends_on_the_seed_alone(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
    one, two = Problem(SETTINGS, 5, tmp_path / "a"), Problem(SETTINGS, 5, tmp_path / "b")
    other = Problem(Settings.of(steps=(5,), batch=4, input_size=2, hidden_size=3, seed=1), 5, tmp_path / "c")
    a, b, c = (dict(np.load(p.file)) for p in (one, two, other))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert [key for key in a if np.array_equal(a[key], c[key])] == ["lengths"]


def test_lengths_are_spread_from_15_percent_to_all_steps():
    assert sorted(spread_lengths(100, 18).tolist()) == list(range(15, 101, 5))
    assert spread_lengths(1, 3).tolist() == [1, 1, 1]
