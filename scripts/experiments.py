"""Run the experiments of the documentation and write their figures to docs/results/*.json.

    python scripts/experiments.py NAME ... [--seeds 3] [--runs-dir runs/experiments]
    python scripts/experiments.py --list

Data are looked for where `unspool train` looks: name their directory with UNSPOOL_DATA_DIR. What was run before is not
run again: every run continues where it was, and a finished one only gives its figures.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unspool.data import load_imdb_texts

RESULTS = Path(__file__).parents[1] / "docs" / "results"


@dataclass(frozen=True)
class Experiment:
    """A training command, how many seeds it is run with, and what was published for the same model.

    With `folds`, a seed's figures are those of all folds together: each row is tested once. `prepare` makes what the
    command reads.
    """

    command: str
    seeds: int = 1
    published: dict[str, float] | None = None
    folds: int | None = None
    prepare: Callable[[], None] | None = None


def _reviews_as_tables() -> None:
    """Write 4,000 of IMDB's training reviews and 5,000 of its test reviews as files of one's own would be."""
    Path("runs").mkdir(exist_ok=True)
    for texts, name, rows in ((load_imdb_texts("train"), "reviews", 4000), (load_imdb_texts("test"), "test", 5000)):
        with Path(f"runs/{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["review", "sentiment"])
            for row in np.random.default_rng(0).permutation(len(texts))[:rows]:
                table.writerow([texts.texts[row], texts.class_names[int(texts.labels[row])]])


def _published(accuracy: float, **more: float) -> dict[str, float]:
    return {"test_accuracy": accuracy, **more}


EXPERIMENTS = {
    "vowels-lstm": Experiment("train vowels --model lstm", 3),
    "vowels-gru": Experiment("train vowels --model gru", 3),
    "vowels-simple_rnn": Experiment("train vowels --model simple_rnn", 3),
    "mnist-simple_rnn": Experiment("train mnist --model simple_rnn", 1, _published(0.9568, seconds_per_epoch=98)),
    "mnist-lstm": Experiment("train mnist --model lstm", 1, _published(0.9880, seconds_per_epoch=272)),
    "mnist-gru": Experiment("train mnist --model gru", 1, _published(0.9900, seconds_per_epoch=168)),
    "imdb-simple_rnn": Experiment("train imdb --model simple_rnn", 3, _published(0.739, test_loss=0.528)),
    "imdb-lstm": Experiment("train imdb --model lstm", 3, _published(0.828, test_loss=0.391)),
    "imdb-gru": Experiment("train imdb --model gru", 3, _published(0.838, test_loss=0.370)),
    "imdb-improved": Experiment("train imdb --model gru --variant improved", 3),
    "digits": Experiment("train digits", 1),
    "digits-frames": Experiment("train digits --features frames", 1),
    "names": Experiment("train names", 1),
    "splice": Experiment("train splice", 3),
    "promoters": Experiment("train promoters", 1, folds=10),
    "chorales": Experiment("train chorales", 1),
    "shakespeare": Experiment("train shakespeare", 1),
    "text": Experiment(
        "train text --data runs/reviews.csv --test runs/test.csv --text-column review --label-column sentiment",
        prepare=_reviews_as_tables,
    ),
}


def run(name: str, experiment: Experiment, seeds: int, directory: Path) -> dict[str, Any]:
    """Run an experiment once for each seed and return its figures.

    Parameters
    ----------
    name : str
        What its runs' directories are called.
    experiment : Experiment
        What to run.
    seeds : int
        How many seeds, from 0.
    directory : Path
        Where the runs go.
    """
    runs, last = [], {}
    if experiment.prepare is not None:
        experiment.prepare()
    for seed in range(seeds):
        folds = []
        for fold in [None] if experiment.folds is None else range(experiment.folds):
            place = directory / (f"{name}-seed{seed}" if fold is None else f"{name}-fold{fold}-seed{seed}")
            which = [] if fold is None else ["--fold", str(fold), "--folds", str(experiment.folds)]
            words = [*shlex.split(experiment.command), *which, "--seed", str(seed)]
            words += ["--output-dir", str(place), "--resume"]
            subprocess.run([sys.executable, "-c", "from unspool.cli import main; main()", *words], check=True)
            last = json.loads((place / "result.json").read_text(encoding="utf-8"))
            folds.append((_figures(last, place), _test_rows(place)))
        runs.append({"seed": seed, **_together(folds)})
    return {
        "name": name,
        "recipe": last["recipe"]["dataset"],
        "command": f"unspool {experiment.command} --seed SEED",
        "parameters": last["parameters"],
        "published": experiment.published,
        "runs": runs,
        "versions": last["versions"],
        "machine": last["machine"],
    } | ({} if experiment.folds is None else {"folds": experiment.folds})


def _figures(result: dict[str, Any], directory: Path) -> dict[str, Any]:
    names = ("epoch", "val_loss", "val_accuracy", "test_loss", "test_accuracy", "seconds_per_epoch")
    return {**{name: result[name] for name in names}, "epochs": _epochs(directory)}


def _test_rows(directory: Path) -> int:
    with np.load(directory / "test.npz", allow_pickle=False) as archive:
        return len(archive["lengths"])


def _together(folds: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
    """Return the figures of several folds as one: means over their test rows; epochs are averaged one by one."""
    figures, rows = zip(*folds, strict=True)
    if len(folds) == 1:
        return figures[0]

    def mean(of: list[dict[str, Any]]) -> dict[str, float]:
        return {
            name: sum(one[name] * count for one, count in zip(of, rows, strict=True)) / sum(rows)
            for name in of[0]
            if name != "epochs"
        }

    epochs = [mean(list(same)) for same in zip(*(one["epochs"] for one in figures), strict=True)]
    whole = [{**epoch, "epoch": number} for number, epoch in enumerate(epochs, start=1)]
    return {**mean(list(figures)), "epochs": whole}


def _epochs(directory: Path) -> list[dict[str, float]]:
    """Return the rows of a run's log that end an epoch."""
    with (directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seconds"]]
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
    return [{"epoch": int(row["epoch"]), **{name: float(row[name]) for name in names}} for row in rows]


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *EXPERIMENTS])
    parser.add_argument("--list", action="store_true", help="print the names and their commands")
    parser.add_argument("--seeds", type=int, help="how many seeds, instead of the experiment's own number")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/experiments"))
    given = parser.parse_args()
    if given.list or not given.names:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:20} unspool {experiment.command}   ({experiment.seeds} seeds)")
        return
    RESULTS.mkdir(exist_ok=True)
    for name in given.names:
        experiment = EXPERIMENTS[name]
        figures = run(name, experiment, given.seeds or experiment.seeds, given.runs_dir)
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
