"""A small run directory and a small comparison, as `unspool train` and `unspool compare` leave them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from unspool.training.callbacks import COLUMNS

HOSTILE = "<b>torch</b> & <script>alert(1)</script>"
"""A name that is to be shown as it stands."""

RECIPE = {
    "dataset": "vowels",
    "model": "gru",
    "execution": "dynamic",
    "layers": [{"kind": "gru", "hidden_size": 8, "activation": None}],
    "epochs": 3,
    "learning_rate": 0.005,
    "limit_train": None,
    "options": {},
}
RESULT = {
    "recipe": RECIPE,
    "parameters": 12345,
    "epoch": 3,
    "val_loss": 0.5,
    "val_accuracy": 0.75,
    "test_loss": 0.25,
    "test_accuracy": 0.875,
    "seconds_per_epoch": 0.125,
    "command": "unspool train vowels --model gru",
    "machine": {"cpu": "a processor", "cores": 2},
    "versions": {"torch": "2.13.0"},
    "class_names": ["one", "two", HOSTILE],
}
LABELS = (0, 0, 0, 1, 1, 1, 2, 2)
PREDICTED = (0, 0, 1, 1, 1, 1, 2, 0)


def log_rows(epochs: int = 3) -> list[dict[str, float]]:
    """Epochs of 10 steps, a row in the middle of each and one at its end; the learning rate falls."""
    rows = []
    for epoch in range(1, epochs + 1):
        rate = 0.01 / epoch
        rows.append({"epoch": epoch, "step": 10 * epoch - 5, "loss": 2 / epoch, "learning_rate": rate})
        averages = {"train_loss": 1.5 / epoch, "train_accuracy": 0.25 * epoch}
        held_out = {"val_loss": 1.25 / epoch, "val_accuracy": 0.2 * epoch, "seconds": 0.125}
        rows.append({"epoch": epoch, "step": 10 * epoch, "learning_rate": rate, **averages, **held_out})
    return rows


def write_log(directory: Path, rows: list[dict[str, float]]) -> None:
    with (directory / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_predictions(directory: Path, **changes: Any) -> None:
    """Write the predictions of eight rows; a change that is None leaves an array out."""
    arrays = {
        "lengths": np.array([3, 3, 4, 5, 5, 7, 7, 9]),
        "correct": np.equal(LABELS, PREDICTED).astype(np.float32),
        "labels": np.array(LABELS),
        "predicted": np.array(PREDICTED),
        **changes,
    }
    np.savez(directory / "test.npz", **{name: array for name, array in arrays.items() if array is not None})


def write_run(directory: Path) -> Path:
    """Write a finished run and return its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.json").write_text(json.dumps(RECIPE))
    (directory / "result.json").write_text(json.dumps(RESULT))
    write_log(directory, log_rows())
    write_predictions(directory)
    return directory


def case(contender: str, steps: int, status: str = "measured", reason: str | None = None, **values: Any) -> dict:
    names = ("build_s", "first_call_s", "step_s", "step_low_s", "step_high_s", "peak_mb", "graph_nodes", "max_error")
    return {"contender": contender, "steps": steps, "status": status, "reason": reason} | dict.fromkeys(names) | values


def measured(contender: str, steps: int, factor: float, nodes: int | None) -> dict:
    return case(
        contender, steps, build_s=0.002 * factor, first_call_s=0.05 * factor, step_s=1e-4 * steps * factor,
        step_low_s=0.9e-4 * steps * factor, step_high_s=1.5e-4 * steps * factor, peak_mb=1.5 * steps * factor,
        graph_nodes=nodes, max_error=3e-7,
    )  # fmt: skip


def comparison() -> dict[str, Any]:
    """Three contenders at two lengths: one measured, one over the limit, one without a graph; and one skipped."""
    names = (("unspool dynamic", "dynamic", "unspool"), ("unrolled", "static", "jax"), (HOSTILE, "dynamic", "torch"))
    contenders = [
        {"name": name, "kind": kind, "library": library, "status": "measured", "reason": None}
        for name, kind, library in names
    ]
    reason = "no Python with Keras; make one with `make peers`"
    skipped = {"name": "Keras", "kind": "static", "library": "keras", "status": "skipped", "reason": reason}
    modes = [
        ("padded", "unspool dynamic", 31.25, 0.53),
        ("padded", HOSTILE, 76.0, 0.53),
        ("ragged", "unspool dynamic", 18.0, 1.0),
    ]
    return {
        "format": 1,
        "command": "unspool compare --quick",
        "created": "2026-01-02T03:04:05+00:00",
        "seconds": 61.5,
        "machine": {"cpu": "a processor", "cores": 2},
        "versions": {"torch": "2.13.0"},
        "settings": {
            "batch": 32, "input_size": 128, "hidden_size": 64, "cell": "lstm", "steps": [10, 400], "limit_s": 180,
            "seed": 0, "built_for": 10, "least": 7, "most": 51, "repeat_s": 3.0, "quick": True,
        },
        "contenders": [*contenders, skipped],
        "scaling": [
            measured("unspool dynamic", 10, 1, 21),
            measured("unspool dynamic", 400, 1, 21),
            measured("unrolled", 10, 3, 500),
            case("unrolled", 400, "over_limit", "the first call took more than 180 s"),
            measured(HOSTILE, 10, 10, None),
            case(HOSTILE, 400, "failed", "out of memory"),
        ],
        "longer": [
            {"contender": "unspool dynamic", "built_for": 100, "given": 150, "outcome": "runs", "seconds": 0.0123,
             "message": None},
            {"contender": "unrolled", "built_for": 100, "given": 150, "outcome": "refused", "seconds": None,
             "message": "150 steps <given>"},
        ],
        "batching": {
            "source": "made-up reviews", "rows": 64, "maxlen": 400,
            "modes": [
                {"mode": mode, "contender": contender, "epoch_s": seconds, "batches": 2, "measured_batches": 2,
                 "real_share": share}
                for mode, contender, seconds, share in modes
            ],
            "left_out": [],
        },
    }  # fmt: skip
