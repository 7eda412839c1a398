"""The readers of files: for each a good file, ways to damage it, and the one error that it may raise."""

from __future__ import annotations

import encodings.aliases
import gzip
import json
import lzma
import shutil
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl

import unspool as us
from tests.conformance.golden_cases import GOLDEN
from tests.fuzz.mutations import Mutation, altered, altered_tensors, damaged, in_archive
from tests.report.samples import comparison
from unspool import interop
from unspool.data import (
    DataError,
    TextTokenizer,
    read_idx,
    read_labelled_texts,
    read_sequences,
    read_source,
    read_texts,
)
from unspool.data._token_cache import TokenArrays, keep, map_arrays
from unspool.data.datasets import load_imdb_word_index
from unspool.data.datasets._keras_archive import read_archive
from unspool.data.datasets._recordings import _read_wav, read_recordings
from unspool.report import read_comparison, write_comparison_report, write_run_report
from unspool.training import RunError, evaluate, fit, predict, vowels_recipe

ENCODINGS = sorted({*encodings.aliases.aliases.values(), "idna", "punycode", "undefined", "unicode_escape", "no such"})
RECIPE = vowels_recipe("gru", hidden_size=4, epochs=1, limit_train=45)


@dataclass(frozen=True)
class Target:
    """A reader.

    `make` writes the good file at a path, or a directory whose file `inside` is damaged; `read` gets the path and a
    generator for what else there is to choose.
    """

    make: Callable[[Path], object]
    read: Callable[[Path, Random | None], object]
    errors: tuple[type[Exception], ...]
    mutations: tuple[Mutation, ...] = (damaged,)
    file: str = "file"
    inside: str = ""
    slow: bool = False


def _text(value: Any) -> str:
    return json.dumps(value, default=str)  # among the values that are put in are tensors


def _json(rng: Random, content: bytes) -> bytes:
    lines = [json.loads(line) for line in content.decode().splitlines()] if b"\n{" in content else [json.loads(content)]
    lines[0] = altered(rng, lines[0])
    return "\n".join(map(_text, lines)).encode()


def _header(rng: Random, content: bytes) -> bytes:
    """Alter the header of a safetensors file, with the description in it."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    if rng.random() < 0.6:
        module = json.loads(header["__metadata__"]["module"])
        header["__metadata__"]["module"] = _text(altered(rng, module))
    else:
        header = altered(rng, header)
    written = _text(header).encode()
    return struct.pack("<Q", len(written)) + written + content[8 + size :]


def _npz(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _idx(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24)))


def _reviews(path: Path) -> None:
    lists = np.empty(2, dtype=object)
    lists[:] = [[1, 2, 3], [4, 5]]
    _npz(path, x_train=lists, y_train=np.array([0, 1]))


def _recordings(path: Path) -> None:
    _npz(
        path,
        samples=np.arange(1000, dtype=np.int16),
        offsets=np.arange(0, 1001, 2),
        labels=np.repeat(np.arange(10), 50),
        speakers=np.zeros(500, np.int64),
        index=np.arange(500),
        rate=np.array(8000),
    )


def _wave(path: Path) -> None:
    path.mkdir()
    with wave.open(str(path / "7_theo_1.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(200))


def _cache(path: Path) -> None:
    keep({"train": TokenArrays(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.array([0, 1]))}, path, called="x")


_RUNS: dict[str, Path] = {}


def _finished(path: Path) -> None:
    """Copy a run, which is trained once for all targets."""
    if "run" not in _RUNS:
        _RUNS["run"] = path.with_name("trained")
        fit(RECIPE, _RUNS["run"], accelerator="cpu", show=False)
    shutil.copytree(_RUNS["run"], path)


def _run(path: Path) -> None:
    """Copy a run without its result: it can be resumed then."""
    _finished(path)
    (path / "result.json").unlink()


def _report(path: Path, _rng: Random | None) -> None:
    write_run_report(path)


def _checkpoint(path: Path) -> None:
    folder = path.with_name("copied")
    _run(folder)
    (folder / "last.ckpt").replace(path)
    shutil.rmtree(folder)


def _predict(path: Path, _rng: Random | None) -> None:
    source = path.with_name("x.npy")
    if not source.exists():
        np.save(source, np.ones((3, 12), np.float32))
    predict(path, source)


def _comparison(path: Path) -> None:
    path.write_text(json.dumps(comparison()))


def _steps(path: Path, _rng: Random | None) -> None:
    read_source(path, sequence_column="id", time_column="day", features=["a", "kind"], target="y")


TABLE = "text,label\ngood film,1\nbad film,0\nnice one,1\n"
ROWS = '{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n'
SERIES = "@problemName x\n@timeStamps false\n@classLabel true a b\n@data\n1,2,3:4,5,6:a\n7,8:9,10:b\n"
TIMED = "@timeStamps true\n@targetLabel true\n@data\n" + (
    "(2024-01-01,1),(2024-01-02,2):(2024-01-01,?):0.5\n(1999-01-01,7):(1999-01-01,8):1\n"
)
SERIES_FILE = "@attribute series_name string\n@attribute start date\n@frequency monthly\n@data\n" + (
    "a:1979-11-01 00-00-00:1,?,3\nb:1980-01-01 00-00-00:5\n"
)
STEPS = "id,day,a,kind,y\nu,2024-01-01,1,low,0.5\nu,2024-01-02,,high,0.5\nv,2024-01-01,3.5,low,1\n"
ZIPPED = (damaged, in_archive())

TARGETS: dict[str, Target] = {
    "npy": Target(lambda p: np.save(p, np.ones((2, 3))), lambda p, _: read_sequences(p), (DataError,), file="x.npy"),
    "npz": Target(
        lambda p: _npz(p, a=np.ones((2, 3)), b=np.arange(6).reshape(3, 2)),
        lambda p, _: read_sequences(p), (DataError,), ZIPPED, "x.npz",
    ),
    "jsonl of sequences": Target(
        lambda p: p.write_text('{"sequence": [[1, 2.5], [3, 4]]}\n{"sequence": [[1e3, 0]]}\n'),
        lambda p, _: read_sequences(p), (DataError,), (damaged, _json), "x.jsonl",
    ),
    "csv of steps": Target(
        lambda p: p.write_text("a,b\n1,2\n3,4.5\n"), lambda p, _: read_sequences(p), (DataError,), file="x.csv"
    ),
    "ts": Target(lambda p: p.write_text(SERIES), lambda p, _: read_sequences(p), (DataError,), file="x.ts"),
    "ts with times": Target(lambda p: p.write_text(TIMED), lambda p, _: read_source(p), (DataError,), file="x.ts"),
    "tsf": Target(lambda p: p.write_text(SERIES_FILE), lambda p, _: read_source(p), (DataError,), file="x.tsf"),
    "csv of sequences": Target(lambda p: p.write_text(STEPS), _steps, (DataError,), file="x.csv"),
    "xz of sequences": Target(
        lambda p: p.write_bytes(lzma.compress(STEPS.replace(",", "\t").encode())), _steps, (DataError,), file="x.tsv.xz"
    ),
    "jsonl of steps": Target(
        lambda p: pl.read_csv(STEPS.encode()).write_ndjson(p), _steps, (DataError,), (damaged, _json), "x.jsonl"
    ),
    "parquet": Target(lambda p: pl.read_csv(STEPS.encode()).write_parquet(p), _steps, (DataError,), file="x.parquet"),
    "npz of sequences": Target(
        lambda p: _npz(p, x=np.ones((2, 3, 1)), lengths=np.array([3, 2]), labels=np.array(["a", "b"])),
        lambda p, _: read_source(p), (DataError,), ZIPPED, "x.npz",
    ),
    "idx": Target(_idx, lambda p, _: (read_idx(p), read_sequences(p)), (DataError,), file="x.idx"),
    "gzip": Target(
        lambda p: p.write_bytes(gzip.compress(ROWS.encode())), lambda p, _: read_texts(p), (DataError,),
        file="x.jsonl.gz",
    ),
    "xz": Target(
        lambda p: p.write_bytes(lzma.compress(ROWS.encode())), lambda p, _: read_texts(p), (DataError,),
        file="x.jsonl.xz",
    ),
    "texts": Target(
        lambda p: p.write_text(TABLE),
        lambda p, rng: read_labelled_texts(p, encoding=rng.choice(ENCODINGS) if rng else "utf-8"),
        (DataError,), file="x.csv",
    ),
    "jsonl of texts": Target(
        lambda p: p.write_text(ROWS), lambda p, _: read_labelled_texts(p), (DataError,), (damaged, _json), "x.jsonl"
    ),
    "tokenizer": Target(
        lambda p: p.write_text(TextTokenizer.train(["a good film", "a bad one"]).to_json()),
        lambda p, _: TextTokenizer.from_json(p.read_text(errors="replace")).encode("a good one"),
        (DataError,), (damaged, _json),
    ),
    "byte pairs": Target(
        lambda p: p.write_text(TextTokenizer.train(["a good film"] * 4, kind="bpe", num_words=270).to_json()),
        lambda p, _: TextTokenizer.from_json(p.read_text(errors="replace")).encode("a good one"),
        (DataError,), (damaged, _json),
    ),
    "word index": Target(
        lambda p: (p.mkdir(), (p / "imdb_word_index.json").write_text('{"the": 1, "film": 2}')),
        lambda p, _: load_imdb_word_index(data_dir=p, md5=None), (DataError,), (damaged, _json),
        inside="imdb_word_index.json",
    ),
    "reviews": Target(_reviews, lambda p, _: read_archive(p, "train"), (DataError,), ZIPPED, "imdb.npz"),
    "recordings": Target(_recordings, lambda p, _: read_recordings(p), (DataError,), ZIPPED, "fsdd.npz"),
    "wav": Target(_wave, lambda p, _: _read_wav(p / "7_theo_1.wav"), (DataError,), inside="7_theo_1.wav"),
    "token cache": Target(_cache, lambda p, _: map_arrays(p, "train"), (DataError,), inside="train_offsets.npy"),
    "keras": Target(
        lambda p: shutil.copy(GOLDEN / "model.keras", p),
        lambda p, _: interop.load_keras(p), (ValueError, TypeError), (damaged, in_archive(), in_archive()), "m.keras",
    ),
    "safetensors": Target(
        lambda p: interop.save(us.GRU(3, 5), p),
        lambda p, _: interop.load(p), (ValueError, TypeError), (damaged, _header, _header), "m.safetensors",
    ),
    "checkpoint": Target(
        _checkpoint, _predict, (RunError,), (damaged, in_archive(), altered_tensors, altered_tensors), "last.ckpt",
        slow=True,
    ),
    "checkpoint to test": Target(
        _checkpoint, lambda p, _: evaluate(p), (RunError, DataError), (altered_tensors,), "last.ckpt", slow=True
    ),
    "checkpoint to go on": Target(
        _run, lambda p, _: fit(RECIPE, p, resume=True, accelerator="cpu", show=False),
        (RunError,), (altered_tensors,), inside="last.ckpt", slow=True,
    ),
    "recipe of a run": Target(
        _run, lambda p, _: fit(RECIPE, p, resume=True, accelerator="cpu", show=False),
        (RunError,), (damaged, _json), inside="recipe.json", slow=True,
    ),
    "log of a run": Target(_run, _report, (RunError,), inside="metrics.csv", slow=True),
    "tests of a run": Target(_run, _report, (RunError,), ZIPPED, inside="test.npz", slow=True),
    "result of a run": Target(
        _finished, _report, (RunError,), (damaged, _json, _json), inside="result.json", slow=True
    ),
    "result again": Target(
        _finished, lambda p, _: fit(RECIPE, p, resume=True), (RunError,), (damaged, _json, _json), inside="result.json"
    ),
    "comparison": Target(_comparison,
        lambda p, _: write_comparison_report(read_comparison(p), p.with_suffix(".html")),
        (RunError,), (damaged, _json), "c.json", slow=True,
    ),
}  # fmt: skip
