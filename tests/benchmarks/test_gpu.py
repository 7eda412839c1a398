"""The benchmark on a CUDA device, run on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import gpu


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_all_contenders_are_timed(kind: str, train: bool):
    row = gpu.measure(kind, 3, 5, 4, train, device="cpu", rounds=1)
    assert list(row["ms"]) == ["ours", "packed", "padded"]
    assert all(ms > 0 for ms in row["ms"].values())
    assert row["backend"] == "native" or row["backend"] == "reference"
    assert 0 < row["real"] < 1


def test_wrong_numbers_are_not_timed(monkeypatch: pytest.MonkeyPatch):
    right = gpu.forward

    def wrong(name: str, *arguments: Any) -> torch.Tensor:
        return right(name, *arguments) * (2 if name == "ours" else 1)

    monkeypatch.setattr(gpu, "forward", wrong)
    with pytest.raises(ValueError, match=r"LSTM differs from torch.nn's by 1 of the largest value"):
        gpu.measure("LSTM", 3, 5, 4, False, device="cpu", rounds=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so():
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main()
