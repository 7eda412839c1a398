"""Small files of labelled texts, which a small model learns."""

import csv
import itertools
from typing import Any

from unspool.training import LayerSpec, Recipe, text_recipe

GOOD, BAD = ("fine", "lovely", "great", "superb", "warm", "bright"), ("dull", "awful", "poor", "grey", "flat", "stale")
NOUNS = ("film", "story", "end", "music", "cast")


def reviews():
    """Return 60 texts of two classes: ("The film was fine.", "good") and so on."""
    return [
        (f"The {noun} was {word}.", label)
        for (label, words), noun in itertools.product((("good", GOOD), ("bad", BAD)), NOUNS)
        for word in words
    ]


def write_table(path, rows, names=("text", "label")):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
    return path


def small(path, **changes: Any) -> Recipe:
    """Return a recipe for one epoch of a small model."""
    model = changes.pop("model", "gru")
    return text_recipe(
        path,
        **{
            "model": model,
            "max_length": 10,
            "embedding_size": 6,
            "layers": (LayerSpec(kind=model, hidden_size=6, dropout_after=0.2),),
            "epochs": 1,
            "batch_size": 8,
            **changes,
        },
    )
