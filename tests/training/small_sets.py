"""Small files in the layouts of the classic data sets, which the loaders then take for the whole ones."""

import hashlib
import json
from functools import partial
from pathlib import Path

import torch

from tests.data import test_names, test_spoken_digits
from unspool.data.datasets import chorales, dna, names, tiny_shakespeare
from unspool.training import (
    Recipe,
    chorales_recipe,
    digits_recipe,
    names_recipe,
    promoters_recipe,
    shakespeare_recipe,
    splice_recipe,
)

TEXT = "To be, or not to be: that is the question.\n" * 30


def write_digits(_monkeypatch, directory: Path) -> None:
    test_spoken_digits.save(directory / "fsdd")


def write_names(monkeypatch, directory: Path) -> None:
    """Write names of two languages, some of them several times."""
    czech = [f"Nov{a}{b}" for a in "aeiou" for b in ("k", "tny", "otnik")]
    dutch = [f"{a}{b}" for a in ("Van", "De") for b in ("Berg", "Berg", "Berg", "Boer", "Dijk", "Wit", "Jong", "Ho")]
    monkeypatch.setattr(names, "LANGUAGES", {"Czech": len(czech), "Dutch": len(dutch)})
    monkeypatch.setattr(names, "WANTED", names.WANTED._replace(names=["Czech.txt"]))
    test_names.write(directory / "names", {"Czech": "\n".join(czech), "Dutch": "\n".join(dutch)})


def write_dna(monkeypatch, directory: Path) -> None:
    """Write stretches of six bases: 30 splice junctions, ten of them twice, and 20 promoters."""
    generator = torch.Generator().manual_seed(0)

    def line(label: str, middle: str) -> str:
        letters = ["ACGT"[number] for number in torch.randint(4, (4,), generator=generator)]
        return f"{label},X,{''.join(letters[:2])}{middle}{''.join(letters[2:])}"

    splice = [line(label, middle) for label, middle in (("EI", "GT"), ("IE", "AG"), ("N", "CC")) for _ in range(10)]
    splice += splice[::3]
    promoters = [line(label, middle) for label, middle in (("+", "TA"), ("-", "CG")) for _ in range(10)]
    counts = {label: sum(row.startswith(f"{label},") for row in splice) for label in ("EI", "IE", "N")}
    monkeypatch.setattr(dna, "SPLICE_SITES", counts)
    monkeypatch.setattr(dna, "PROMOTERS", {"-": 10, "+": 10})
    monkeypatch.setattr(dna, "_read", partial(_read_six, dna._read))
    for name, rows in (("splice", splice), ("promoters", promoters)):
        (directory / name).mkdir(parents=True)
        (directory / name / f"{name}.data").write_text("\n".join(rows))


def _read_six(read, path, classes, _length):
    return read(path, classes, 6)


def write_chorales(monkeypatch, directory: Path) -> None:
    """Write pieces of three to nine chords that go up step by step."""

    def piece(index: int) -> list[list[int]]:
        return [[60 + (index + step) % 5, 67 + (index + step) % 5] for step in range(3 + index % 7)]

    pieces = {
        name: [piece(first + index) for index in range(count)]
        for first, (name, count) in enumerate({"train": 14, "valid": 5, "test": 6}.items())
    }
    path = directory / "jsb_chorales" / chorales.FILE
    _write(monkeypatch, chorales, path, json.dumps(pieces).encode())


def write_shakespeare(monkeypatch, directory: Path) -> None:
    _write(monkeypatch, tiny_shakespeare, directory / "tinyshakespeare" / "input.txt", TEXT.encode())


def _write(monkeypatch, loader, path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(
        loader, "ADDRESS", loader.ADDRESS._replace(checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    )


WRITERS = {
    "digits": write_digits,
    "names": write_names,
    "splice": write_dna,
    "promoters": write_dna,
    "chorales": write_chorales,
    "shakespeare": write_shakespeare,
}
MAKERS = {
    "digits": digits_recipe,
    "names": names_recipe,
    "splice": splice_recipe,
    "promoters": promoters_recipe,
    "chorales": chorales_recipe,
    "shakespeare": shakespeare_recipe,
}
SIZES = {
    "digits": {"limit_train": 60, "held_out": 40, "num_steps": 4},
    "names": {"held_out": 6},
    "splice": {"held_out": 6, "num_steps": 6},
    "promoters": {"held_out": 4, "num_steps": 6},
    "chorales": {"num_steps": 10},
    "shakespeare": {"steps": 16, "batch_size": 6, "input_size": len(set(TEXT)), "num_classes": len(set(TEXT))},
}


def small_recipe(name: str, **changes) -> Recipe:
    """Return the recipe of a set, small enough for the files above: an epoch of a few steps."""
    options = {"hidden_size": 6, "epochs": 1, "batch_size": 4, "threads": 1}
    return MAKERS[name](**{**options, **SIZES[name], **changes})
