"""Hands damaged files to every reader: each is read, or ends in the reader's one documented error.

``python -m tests.fuzz.readers --minutes 5`` goes through all readers again and again; ``--only NAME`` and ``--seed N``
repeat one case. It ends with 1 at the first case that ends otherwise, takes over a minute, or over 512 MiB of memory.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.targets import TARGETS, Target

SECONDS, BYTES = 60.0, 512 << 20


class Case:
    """One reader with its good file in a directory.

    Parameters
    ----------
    name : str
    directory : Path
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.target: Target = TARGETS[name]
        self.good = directory / f"good {name}" / self.target.file
        self.good.parent.mkdir()
        self.target.make(self.good)
        self.place = directory / name / self.target.file
        self.place.parent.mkdir()
        self.target.read(self._placed(), None)  # warms up, and shows that it can be read

    def _placed(self) -> Path:
        if self.good.is_dir():
            shutil.rmtree(self.place, ignore_errors=True)
            shutil.copytree(self.good, self.place)
        else:
            shutil.copy(self.good, self.place)
        return self.place

    def run(self, seed: int) -> str:
        """Read the file with the damage of a seed; return "read" or "refused".

        Raises
        ------
        AssertionError
            If too much time or memory was taken.
        Exception
            What the reader raised, if it is not documented.
        """
        rng = Random(f"{self.name} {seed}")
        path = self._placed()
        file = path / self.target.inside if self.target.inside else path
        file.write_bytes(rng.choice(self.target.mutations)(rng, file.read_bytes()))
        before, started, outcome = _most_memory(), time.monotonic(), "read"
        try:
            self.target.read(path, rng)
        except Exception as error:
            if type(error) not in self.target.errors:
                raise
            outcome = "refused"
        taken, grown = time.monotonic() - started, _most_memory() - before
        assert taken < SECONDS, f"took {taken:.0f} s"
        assert grown < BYTES, f"took {grown:,} bytes"
        return outcome


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Fuzz until the time is over; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long")
    parser.add_argument("--only", choices=TARGETS, action="append", help="a reader; may be repeated")
    parser.add_argument("--seed", type=int, help="one case alone")
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    end, seed, counts = time.monotonic() + 60 * options.minutes, options.seed or 0, Counter()
    with tempfile.TemporaryDirectory() as folder:
        cases = [Case(name, Path(folder)) for name in options.only or TARGETS]
        while True:
            for case in cases:
                try:
                    counts[case.name, case.run(seed)] += 1
                except Exception:  # noqa: BLE001  (whatever it is, it is what is looked for)
                    traceback.print_exc()
                    print(f"\npython -m tests.fuzz.readers --only {case.name!r} --seed {seed}", file=sys.stderr)
                    return 1
            seed += 1
            if options.seed is not None or time.monotonic() > end:
                break
    for case in cases:
        print(f"{case.name:22} {counts[case.name, 'read']:7,} read {counts[case.name, 'refused']:7,} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
