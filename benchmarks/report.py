"""A report as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any


def as_text(report: dict[str, Any]) -> str:
    """Return a report as JSON: numbers with four digits, a line for each entry and each case.

    Parameters
    ----------
    report : dict
    """

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tidy(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [tidy(item) for item in value]
        if isinstance(value, float):
            return float(f"{value:.4g}") if math.isfinite(value) else None
        return value

    def line(value: Any) -> str:
        return json.dumps(tidy(value))

    def lines(items: Iterable[Any]) -> str:
        return "[\n  " + ",\n  ".join(line(item) for item in items) + "\n ]"

    body = [
        f" {json.dumps(key)}: {lines(value) if key == 'results' and value else line(value)}"
        for key, value in report.items()
    ]
    return "{\n" + ",\n".join(body) + "\n}\n"
