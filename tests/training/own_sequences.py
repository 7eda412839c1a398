"""Sequences of one's own, small: machines that swing faster the more they are worn."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable
from pathlib import Path

Row = dict[str, object]


def machines(count: int = 48, seed: int = 0) -> list[Row]:
    """Return the rows of a long table: 8 to 19 minutes of each machine, four machines a site."""
    draw, rows = random.Random(seed), []
    for number in range(count):
        kind, start = number % 3, 6 * draw.random()
        for minute in range(draw.randint(8, 19)):
            swing = math.sin(start + minute * (0.3 + 0.6 * kind))
            rows.append(
                {
                    "machine": f"m{number:03d}",
                    "minute": minute,
                    "vibration": round(swing + draw.gauss(0, 0.05), 4),
                    "temperature": "" if draw.random() < 0.1 else round(40 + draw.gauss(kind, 1), 2),
                    "site": f"site {number // 4}",
                    "state": ["ok", "worn", "broken"][kind],
                    "hours": 100 * kind + number % 7,
                    "phase": "" if draw.random() < 0.1 else "up" if swing > 0 else "down",
                }
            )
    return rows


def write_rows(path: Path, rows: list[Row], without: tuple[str, ...] = ()) -> None:
    """Write rows as CSV, without some columns."""
    names = [name for name in rows[0] if name not in without]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_files(folder: Path, rows: list[Row], place: Callable[[Row], str]) -> None:
    """Write a file of each machine's vibration and temperature to where `place` says."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(place(row), []).append(row)
    for name, group in groups.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_rows(folder / name, group, ("machine", "minute", "site", "state", "hours", "phase"))
