"""The README's figures are those of the committed run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.configurations import SHAPES

ROOT = Path(__file__).parents[2]
NAMES = {(s.batch, s.steps, s.inputs, s.hidden): s.name for s in reversed(SHAPES)}
CELLS = {"LSTM": "LSTM", "GRU": "GRU", "a custom layer-norm LSTM": "layer-norm LSTM"}


def rows(path: str, first: str) -> list[list[str]]:
    text = (ROOT / path).read_text(encoding="utf-8")
    lines = text[text.index(first) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", rows("README.md", "| B, T, I, H;"), ids=lambda row: row[0])
def test_training_times_are_measured_ones(row):
    what, ours, padded, packed = row
    cell = next(name for name in CELLS if what.startswith(name + " ") or what.startswith(name + ","))
    batch, steps, inputs, hidden = (int(n) for n in what.removeprefix(cell).strip(", ").split(", "))
    config = NAMES[batch, steps, inputs, hidden]
    table = rows("docs/benchmarks.md", "| config | cell | lengths | mode | ours ms | static ms")
    (measured,) = (m for m in table if m[:4] == [config, CELLS[cell], "ragged", "train"])
    others = [measured[8], measured[9]] if packed else [measured[10], ""]
    assert [measured[4], *others] == [ours, padded.removesuffix(" (a Python loop)"), packed]


@pytest.mark.parametrize("row", rows("README.md", "| one step"), ids=lambda row: row[0])
def test_times_of_one_step_are_measured_ones(row):
    what, stream, call, torchs, onnx = row
    cases = json.loads((ROOT / "benchmarks" / "results" / "steps.json").read_text(encoding="utf-8"))["results"]
    own = what.startswith("the cell above")
    names = "RNN(own cell)" if own else what, f"stream of {'own cell' if own else what}"
    found = {
        (c["name"], c["against"]): c for c in cases if (c["mode"], c["T"], c["B"], c["H"]) == ("forward", 1, 1, 256)
    }
    other = "the cell" if own else "torch.nn"
    called, streamed, exported = found[names[0], other], found[names[1], other], found[names[1], "ONNX Runtime"]
    measured = [streamed["ours_us"], called["ours_us"], called["theirs_us"], exported["theirs_us"]]
    assert [f"{us:.0f}" for us in measured] == [stream, call, torchs.removesuffix(" (calling it)"), onnx]
