"""Sequences from files of any kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unspool._reading import damage_as, read_array, read_arrays
from unspool.data._errors import DataError
from unspool.data._sequences import Sequences
from unspool.data._table import common_names, label_table, read_table
from unspool.data._table_columns import numbered, parsed_times
from unspool.data._table_rows import TargetKind
from unspool.data._table_scan import TABLES, ending_of
from unspool.data._ts import parse_ts
from unspool.data._tsf import read_tsf

_ARRAYS = (".npy", ".npz")
KINDS = (*TABLES, ".ts", ".tsf", *_ARRAYS)
FOLDER = "folder"


def read_source(
    source: str | Path | Sequence[str | Path],
    *,
    labels: str | Path | None = None,
    target: str | Sequence[str] | None = None,
    target_kind: TargetKind | None = None,
    class_names: Sequence[str] | None = None,
    group_column: str | None = None,
    encoding: str = "utf-8",
    **columns: Any,
) -> Sequences:
    """Read sequences from a file, a folder, several files, or all that a pattern names.

    Parameters
    ----------
    source : str or Path, or sequence of them
        A table (see `read_table`), ``.ts`` (see `read_ts`), ``.tsf`` (see `read_tsf`), ``.npy`` (an array of shape
        (T, C), (T,) or (S, T, C)), or ``.npz``: an array of shape (T, C) per sequence, or one of shape (S, T, C) and
        ``lengths`` (S,) where they differ; beside these ``labels`` (S,) of classes, or ``targets`` (S,) or (S, K) of
        numbers, ``ids``, ``groups`` and ``features``. Several tables and ``.npy`` files, a folder with its subfolders,
        or a pattern such as ``day-*.csv`` are one sequence per file, called by its path within the folder, unless
        `sequence_column` is given.
    labels : str or Path, optional
        A table whose first column has the ids of the sequences (or the names of their files, with or without the
        ending) and whose column `target`, the only other one by default, says what is to be predicted for each; or
        "folder" where that is the folder that a file is in.
    target, target_kind, class_names, group_column, encoding
        As in `read_table`; the columns are those of `labels` if that is given.
    **columns
        What else `read_table` takes, for tables.

    Raises
    ------
    DataError
        If a file is missing, damaged or of an unknown kind, kinds are mixed, a sequence has no label, or as
        `read_table` does.
    """
    files = _expanded(source, labels)
    kind = ending_of(files[0])
    named: dict[str, Any] = {"target": target, "group_column": group_column}
    chosen: dict[str, Any] = {"target_kind": target_kind, "class_names": class_names}
    if kind in TABLES:
        here = {} if labels is not None else {**named, **chosen}
        sequences = read_table(files, encoding=encoding, **here, **columns)
    else:
        wrong = [name for name, value in {**columns, **({} if labels else named)}.items() if value]
        if wrong:
            raise DataError(f"{files[0]}: received {', '.join(wrong)}; a {kind} file has no columns to name")
        sequences = _READERS[kind](files, target_kind, class_names)
    if labels is None:
        return sequences
    if str(labels) == FOLDER:
        folders = [Path(name).parent.name for name in sequences.ids]
        if not all(folders):
            raise DataError(
                f"{files[folders.index('')]}: not in a folder beside others; expected one folder for each class"
            )
        numbers, names = numbered(folders, class_names, source, "folder")
        return replace(sequences, targets=numbers, target_names=(FOLDER,), class_names=names)
    return label_table(sequences, Path(labels).expanduser(), encoding=encoding, **named, **chosen)


def _expanded(source: str | Path | Sequence[str | Path], labels: str | Path | None) -> list[Path]:
    """Return the files of a source, all of one kind."""
    if not isinstance(source, str | Path):
        files = [Path(path).expanduser() for path in source]
    else:
        path = Path(source).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("[!.]*") if file.is_file() and ending_of(file) in KINDS)
            if labels is not None:
                files = [file for file in files if file.resolve() != Path(labels).expanduser().resolve()]
        elif not path.exists() and set("*?[") & set(str(path)):
            files = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        else:
            files = [path]
    if not files:
        raise DataError(f"{source}: no files of data there; expected names that end in {', '.join(KINDS)}")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: no such file")
        if ending_of(file) not in KINDS:
            raise DataError(f"{file}: unknown kind of file; expected a name that ends in {', '.join(KINDS)}")
    kinds = Counter(map(ending_of, files))
    if len(kinds) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise DataError(f"{source}: files of several kinds ({counts}); expected one. Name them by a pattern as '*.csv'")
    return files


def _only(files: list[Path]) -> Path:
    if len(files) > 1:
        raise DataError(f"{files[0]} and {len(files) - 1} more; expected one file that has all sequences")
    return files[0]


def _from_ts(files: list[Path], kind: TargetKind | None, class_names: Sequence[str] | None) -> Sequences:
    path = _only(files)
    found = parse_ts(path)
    channels = found.values[0].shape[1]
    for place, array in enumerate(found.values, start=1):
        if array.shape[1] != channels:
            raise DataError(f"{path}: series {place} has {array.shape[1]} channels; expected {channels}, as the first")
    times = None
    if found.times is not None:
        times = parsed_times(found.times, path)
    sequences = Sequences(found.values, _channels(channels), _numbers_from_one(len(found.values)), times=times)
    if found.labels is None:
        return sequences
    numbers = found.numbers if kind is None else kind == "numbers"
    return _with_targets(sequences, found.labels, numbers, class_names, path)


def _with_targets(
    sequences: Sequences, labels: Any, numbers: bool, class_names: Sequence[str] | None, path: Path
) -> Sequences:
    if not numbers:
        classes, names = numbered(list(map(str, labels)), class_names, path, "label")
        return replace(sequences, targets=classes, target_names=("label",), class_names=names)
    with damage_as(DataError, f"{path}: targets that are no numbers"):
        targets = np.array(labels, dtype=np.float64)
    if not np.isfinite(targets).all():
        raise DataError(f"{path}: a target that is no finite number; expected one for each sequence")
    width = 1 if targets.ndim == 1 else targets.shape[1]
    return replace(
        sequences,
        targets=targets,
        target_names=("target",) if width == 1 else _channels(width, "target"),
        class_names=(),
    )


def _from_arrays(files: list[Path], kind: TargetKind | None, class_names: Sequence[str] | None) -> Sequences:
    if ending_of(files[0]) == ".npy":
        arrays = [_array(path) for path in files]
        if len(arrays) == 1 and arrays[0].ndim == 3:
            return _plain(list(arrays[0]), _numbers_from_one(len(arrays[0])), files[0])
        return _plain([array[:, None] if array.ndim == 1 else array for array in arrays], common_names(files), files[0])
    path = _only(files)
    with _opened(path) as file, damage_as(DataError, f"{path}: no NumPy archive of arrays"):
        held = read_arrays(file, kinds="biufU")
    about = {
        name: held.pop(name) for name in ("labels", "targets", "lengths", "ids", "groups", "features") if name in held
    }
    arrays, ids = list(held.values()), tuple(held)
    if len(arrays) == 1 and arrays[0].ndim == 3:
        steps = arrays[0].shape[1]
        lengths = about.get("lengths", np.full(len(arrays[0]), steps))
        fits = lengths.shape == arrays[0].shape[:1] and lengths.dtype.kind in "iu"
        if not fits or lengths.min(initial=0) < 0 or lengths.max(initial=0) > steps:
            raise DataError(
                f"{path}: lengths of shape {lengths.shape} and type {lengths.dtype}; expected a whole number from 1 to "
                f"{steps} for each of the {len(arrays[0])} sequences"
            )
        arrays = [array[:length] for array, length in zip(arrays[0], lengths.tolist(), strict=True)]
        ids = _numbers_from_one(len(arrays))
    ids = tuple(map(str, about["ids"])) if "ids" in about else ids
    sequences = _plain(arrays, ids, path, about.get("features"))
    if "groups" in about:
        sequences = replace(sequences, groups=tuple(map(str, about["groups"])))
    if "labels" in about and kind != "numbers":
        return _with_targets(sequences, about["labels"], False, class_names, path)
    if "targets" in about or "labels" in about:
        return _with_targets(sequences, about.get("targets", about.get("labels")), True, None, path)
    return sequences


def _plain(arrays: list[np.ndarray], ids: tuple[str, ...], path: Path, features: Any = None) -> Sequences:
    for name, array in zip(ids, arrays, strict=False):
        if array.ndim != 2 or array.shape[1:] != arrays[0].shape[1:] or array.dtype.kind not in "biuf":
            raise DataError(
                f"{path}: sequence {name!r} has shape {array.shape} and type {array.dtype}; expected (steps, channels) "
                f"of numbers, with as many channels as the first, of shape {arrays[0].shape}"
            )
    if not arrays:
        raise DataError(f"{path}: no sequences; expected at least one array of shape (steps, channels)")
    narrow = all(np.can_cast(array.dtype, np.float32) for array in arrays)
    names = _channels(arrays[0].shape[1]) if features is None else tuple(map(str, features))
    return Sequences([array.astype(np.float32 if narrow else np.float64) for array in arrays], names, ids)


def _array(path: Path) -> np.ndarray:
    with _opened(path) as file, damage_as(DataError, f"{path}: no NumPy array of numbers"):
        return read_array(file, path.stat().st_size)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _channels(count: int, called: str = "channel") -> tuple[str, ...]:
    return (
        ("value",)
        if count == 1 and called == "channel"
        else tuple(f"{called} {place}" for place in range(1, count + 1))
    )


def _numbers_from_one(count: int) -> tuple[str, ...]:
    return tuple(str(place) for place in range(1, count + 1))


_READERS = {
    ".ts": _from_ts,
    ".tsf": lambda files, _kind, _names: read_tsf(_only(files)),
    ".npy": _from_arrays,
    ".npz": _from_arrays,
}
