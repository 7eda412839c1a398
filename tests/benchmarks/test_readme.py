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
    name, ours, theirs = row
    cases = json.loads((ROOT / "benchmarks" / "results" / "steps.json").read_text(encoding="utf-8"))["results"]
    name = "RNN(own cell)" if name.startswith("the cell above") else name
    (case,) = (c for c in cases if (c["name"], c["mode"], c["T"], c["B"], c["H"]) == (name, "forward", 1, 1, 256))
    assert [f"{case['ours_us']:.0f}", f"{case['theirs_us']:.0f}"] == [ours, theirs.removesuffix(" (calling it)")]
