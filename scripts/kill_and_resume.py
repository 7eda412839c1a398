"""Kill a training run at random moments, resume it each time, and compare its end with that of an undisturbed run.

    python scripts/kill_and_resume.py [--kills 10] [--seed 0] -- train imdb --model gru --limit-train 6000

Everything after ``--`` is what `unspool` is called with. The undisturbed run comes first; moments are drawn over all of
its steps: a run is killed some time after its log has a step. What was found is written to docs/results/kills/.
"""

import argparse
import json
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[1] / "docs" / "results" / "kills" / "imdb.json"
FIGURES = ("test_accuracy", "test_loss", "val_accuracy", "val_loss", "epoch")


def start(words: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start or resume a run.

    Parameters
    ----------
    words : list of str
        The arguments of `unspool`.
    directory : Path
        Where the run writes.
    """
    command = [sys.executable, "-c", "from unspool.cli import main; main()", *words]
    with told(directory).open("wb") as log:  # a pipe that nobody reads would stop the run when it is full
        return subprocess.Popen(
            [*command, "--output-dir", str(directory), "--resume"], stdout=log, stderr=subprocess.STDOUT
        )


def told(directory: Path) -> Path:
    """Return the file of what a run prints.

    Parameters
    ----------
    directory : Path
        The run's directory.
    """
    return directory.with_suffix(".log")


def finish(words: list[str], directory: Path) -> dict[str, Any]:
    """Let a run go to its end and return its figures.

    Parameters
    ----------
    words, directory
        As in `start`.
    """
    process = start(words, directory)
    if process.wait():
        raise SystemExit(f"the run ended with code {process.returncode}:\n{told(directory).read_text()}")
    result = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    return {name: result[name] for name in FIGURES}


def step_of(directory: Path) -> int:
    """Return the last step in a run's log, 0 where there is none.

    Parameters
    ----------
    directory : Path
        The run's directory.
    """
    log = directory / "metrics.csv"
    rows = log.read_text(encoding="utf-8").splitlines()[1:] if log.is_file() else []
    return int(rows[-1].split(",")[1]) if rows else 0


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("words", nargs="+", help="what unspool is called with")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        expected = finish(given.words, Path(folder) / "undisturbed")
        steps = step_of(Path(folder) / "undisturbed")
        directory, kills = Path(folder) / "killed", []
        for moment in sorted(moments.randrange(steps) for _ in range(given.kills)):
            process = start(given.words, directory)
            while step_of(directory) < moment and process.poll() is None:
                time.sleep(0.05)
            time.sleep(moments.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.returncode != -signal.SIGKILL:
                raise SystemExit(f"the run had ended before it was killed after step {moment}; try another --seed")
            kills.append({"after_step": moment, "last_logged_step": step_of(directory)})
            print(kills[-1], flush=True)
        received = finish(given.words, directory)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    same = received == expected
    OUTPUT.write_text(
        json.dumps(
            {
                "command": f"python scripts/kill_and_resume.py -- {shlex.join(given.words)}",
                "kills": kills,
                "undisturbed": expected,
                "killed_and_resumed": received,
                "same": same,
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    print("the same figures" if same else f"other figures: {received}, expected {expected}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
