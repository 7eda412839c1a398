"""Count the Python calls and files of unspool that a warm forward call of `dynamic_rnn` enters.

    python scripts/profile_call.py [--list]

A call that is not traced yet costs more: the second one and all later ones of the same form are meant.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import unspool

PLACE = str(Path(unspool.__file__).parent)


class Own(unspool.Cell):
    """Elman's cell."""

    def __init__(self) -> None:
        super().__init__(state_size=16)
        self.linear = torch.nn.Linear(32, 16)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output and the new state of a step."""
        h = torch.tanh(self.linear(torch.cat([x, state], -1)))
        return h, h


def calls_of(run: Any) -> list[tuple[str, str]]:
    """Return file and function of every call of the package's code, in order."""
    found = []

    def see(frame: FrameType, event: str, _arg: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PLACE):
            found.append((code.co_filename[len(PLACE) + 1 :], code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


def main() -> None:
    """Print a line for each kind of cell and of batch."""
    torch.manual_seed(0)
    x, lengths = torch.randn(4, 10, 16), torch.tensor([10, 3, 5, 7])
    for kind, cell in {"own cell": Own(), "LSTMCell": unspool.LSTMCell(16, 16)}.items():
        for batch, given in {"whole": None, "with lengths": lengths}.items():
            with torch.no_grad():
                for _ in range(3):
                    unspool.dynamic_rnn(cell, x, given)
                calls = calls_of(lambda cell=cell, given=given: unspool.dynamic_rnn(cell, x, given))
            files = [file for file, _ in calls]
            changes = sum(a != b for a, b in itertools.pairwise(files))
            print(f"{kind}, {batch}: {len(calls)} calls in {len(set(files))} files, {changes} changes of file")
            if "--list" in sys.argv:
                print("\n".join(f"  {file}: {function}" for file, function in calls))


if __name__ == "__main__":
    main()
