"""One's own sequences: the files of a run, found again and compared, divided into parts, and made inputs of a model."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unspool._reading import damage_as, parsed_json
from unspool.data import (
    DataError,
    Scaling,
    Sequences,
    StepSample,
    counts_of,
    read_source,
    split_by_time,
    split_sequences,
)
from unspool.training.text_parts import sha256

OPTIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("data", "sha256", "task", "missing", "encoding"), (str,)),
    **dict.fromkeys(("test", "test_sha256", "labels", "target_kind"), (str, NoneType)),
    **dict.fromkeys(("sequence_column", "time_column", "group_column"), (str, NoneType)),
    **dict.fromkeys(("features", "categorical", "target", "classes"), (list, tuple)),
    **dict.fromkeys(("test_sequences", "stride", "window"), (int,)),
    **dict.fromkeys(("sort", "wide"), (bool,)),
}
"""What is read of a recipe's options."""
FOLDER = "folder"
_FAR_OUT = 15
"""Standard deviations."""


@dataclass(frozen=True)
class SequenceEncoder:
    """Makes inputs of a model of sequences that were read: fills and scales features, and shortens long sequences.

    A category becomes a feature of zeros and ones for each of its values: the first layer's weights of them are its
    embedding. Where a feature has values far out, such as counts of very different places, its inverse hyperbolic sine
    is scaled in its stead: about the logarithm of large values, of both signs. With `stride` above 1, so many steps
    become one, with the mean and the standard deviation of each feature.

    Parameters
    ----------
    scaling : Scaling
        That of the training part.
    categories : dict of str to tuple of str
        Those of each categorical feature, in the order of their codes.
    stride : int
        Steps that become one.
    units : dict of str to float
        Features with values far out, and what each is divided by before: the median of its sizes that are not 0.
    """

    scaling: Scaling
    categories: dict[str, tuple[str, ...]]
    stride: int = 1
    units: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, train: Sequences, options: Mapping[str, Any]) -> SequenceEncoder:
        """Return the encoder for a training part.

        Parameters
        ----------
        train : Sequences
            The training part.
        options : mapping
            The recipe's: `missing` and `stride`.

        Raises
        ------
        DataError
            As `Scaling.fit` does.
        """
        units = _units(train)
        scaling = Scaling.fit(_compressed(train, units), options["missing"])
        categories = {name: tuple(known) for name, known in train.categories.items()}
        return cls(scaling, categories, options["stride"], units)

    @property
    def input_size(self) -> int:
        """Features of a step of the model's inputs."""
        coded = sum(len(known) - 1 for known in self.categories.values())
        return (len(self.scaling.output_features) + coded) * (2 if self.stride > 1 else 1)

    def inputs(self, sequences: Sequences) -> list[Tensor]:
        """Return the inputs of a model, float32 of shape (T, I) each.

        Parameters
        ----------
        sequences : Sequences
            Of the same features as those of the training part.

        Raises
        ------
        DataError
            If the features are others.
        """
        scaled = self.scaling.apply(_compressed(sequences, self.units))
        return [torch.from_numpy(self._strided(self._coded(array))) for array in scaled.values]

    def targets(self, sequences: Sequences) -> Tensor | list[Tensor]:
        """Return what is to be predicted: classes (S,), numbers (S, K), or per step (T, 1) or (T, K) each.

        Parameters
        ----------
        sequences : Sequences
            With targets.
        """
        wanted = self.scaling.apply(sequences).targets
        if isinstance(wanted, list):
            return [_tensor(array.reshape(len(array), -1)) for array in wanted]
        assert wanted is not None
        return _tensor(wanted) if sequences.class_names else _tensor(wanted.reshape(len(wanted), -1))

    def _coded(self, array: np.ndarray) -> np.ndarray:
        if not self.categories:
            return array
        names = self.scaling.output_features
        columns = [
            array[:, [place]] == np.arange(1, len(self.categories[name]) + 1)
            if name in self.categories
            else array[:, [place]]
            for place, name in enumerate(names)
        ]
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _strided(self, array: np.ndarray) -> np.ndarray:
        if self.stride == 1:
            return array
        starts = np.arange(0, len(array), self.stride)
        counts = np.diff(starts, append=len(array))[:, None]
        means = np.add.reduceat(array, starts, axis=0, dtype=np.float64) / counts
        squares = np.add.reduceat(np.square(array, dtype=np.float64), starts, axis=0) / counts
        deviations = np.sqrt(np.maximum(squares - np.square(means), 0))
        return np.concatenate([means, deviations], axis=1).astype(np.float32)

    def to_json(self) -> str:
        """Return the encoder as JSON, for a checkpoint."""
        return json.dumps({**asdict(self), "scaling": self.scaling.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> SequenceEncoder:
        """Return the encoder that `to_json` returned.

        Parameters
        ----------
        text : str
            What it returned.

        Raises
        ------
        DataError
            If it is something else.
        """
        with damage_as(DataError, "no encoder of sequences"):
            held: Any = parsed_json(text)
            categories = {str(name): tuple(map(str, known)) for name, known in held["categories"].items()}
            stride, units = held["stride"], {str(name): float(unit) for name, unit in held["units"].items()}
            if type(stride) is not int or stride < 1 or not all(0 < unit < math.inf for unit in units.values()):
                raise ValueError(f"its stride is {stride!r}, its units are {list(units.values())!r:.80}")
            return cls(Scaling.from_dict(held["scaling"]), categories, stride, units)


def _units(train: Sequences) -> dict[str, float]:
    """Return the units of the features with values far out."""
    units = {}
    for place in train.numeric:
        values = np.concatenate([array[:, place] for array in train.values])
        sizes = np.abs(values[np.isfinite(values) & (values != 0)])
        spread = np.nanstd(values) if len(sizes) else 0
        if spread > 0 and np.nanmax(np.abs(values - np.nanmean(values))) > _FAR_OUT * spread:
            units[train.features[place]] = float(np.median(sizes))
    return units


def _compressed(sequences: Sequences, units: Mapping[str, float]) -> Sequences:
    places = [(sequences.features.index(name), unit) for name, unit in units.items() if name in sequences.features]
    if not places:
        return sequences
    compressed = copy.copy(sequences)
    compressed.values = [array.copy() for array in sequences.values]
    for array in compressed.values:
        for place, unit in places:
            array[:, place] = np.arcsinh(array[:, place] / unit)
    return compressed


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


@dataclass(frozen=True)
class SequenceRows:
    """Sequences as a model takes them, and what is to be predicted; `class_names` are of the classes or the numbers."""

    inputs: list[Tensor]
    targets: Tensor | list[Tensor]
    class_names: tuple[str, ...]

    @property
    def labels(self) -> Any:
        """The class of each sequence, (R,)."""
        return self.targets

    @property
    def lengths(self) -> Tensor:
        """The number of steps of each sequence, (R,)."""
        return torch.tensor([len(one) for one in self.inputs])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]:
        if isinstance(self.targets, list):
            return StepSample(self.inputs[index], self.targets[index])
        target = self.targets[index]
        return self.inputs[index], target if target.is_floating_point() else int(target)

    def subset(self, indices: list[int], /) -> SequenceRows:
        """Return the rows of the given places.

        Parameters
        ----------
        indices : list of int
            Their places.
        """
        targets = self.targets
        picked = [targets[row] for row in indices] if isinstance(targets, list) else targets[indices]
        return SequenceRows([self.inputs[row] for row in indices], picked, self.class_names)


def encode_rows(sequences: Sequences, encoder: SequenceEncoder) -> SequenceRows:
    """Return sequences as the rows of a part.

    Parameters
    ----------
    sequences : Sequences
        With targets.
    encoder : SequenceEncoder
        That of the training part.
    """
    names = sequences.class_names or sequences.target_names
    return SequenceRows(encoder.inputs(sequences), encoder.targets(sequences), names)


def files_of(source: str) -> list[Path]:
    """Return the files of a source: itself, those that a pattern names, or all of a folder that are not hidden.

    Parameters
    ----------
    source : str
        A path, or a pattern.

    Raises
    ------
    DataError
        If there are none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = [file for file in sorted(path.rglob("[!.]*")) if file.is_file()]
    elif path.is_file():
        found = [path]
    else:
        pattern = path.absolute().relative_to(path.absolute().anchor)
        found = [file for file in sorted(Path(path.absolute().anchor).glob(str(pattern))) if file.is_file()]
    if not found:
        raise DataError(f"{source}: no such file, and no files that a pattern of this name finds")
    return found


def is_table(source: str | Path) -> bool:
    """Tell whether a source has columns with names.

    Parameters
    ----------
    source : str or Path
        As in `read_own`.
    """
    return files_of(str(source))[0].suffix not in (".ts", ".tsf", ".npy", ".npz")


def checksum(source: str, labels: str | None = None) -> str:
    """Return the checksum of a source and of its table of labels, if it has one.

    Parameters
    ----------
    source, labels : str
        As in `read_own`.

    Raises
    ------
    DataError
        If there are no such files, or they cannot be read.
    """
    files = files_of(source) + ([] if labels in (None, FOLDER) else files_of(str(labels)))
    try:
        sums = [sha256(file) for file in files]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def read_own(source: str | Path, options: Mapping[str, Any], *, labelled: bool = True, **known: Any) -> Sequences:
    """Read sequences as a recipe's options say.

    Parameters
    ----------
    source : str or Path
        A file, a folder or a pattern.
    options : mapping
        The recipe's.
    labelled : bool
        Whether the targets are read.
    **known
        Further arguments of `unspool.data.read_source`.

    Raises
    ------
    DataError
        As `unspool.data.read_source` does, or if there is nothing to predict where there should be.
    """
    given: dict[str, Any] = {name: options[name] for name in ("sequence_column", "time_column", "sort", "wide")}
    given |= {name: options[name] for name in ("features", "categorical")}
    given |= {"encoding": options["encoding"], **known}
    if labelled:
        given |= {"labels": options["labels"], "target": options["target"], "group_column": options["group_column"]}
        given["target_kind"] = options["target_kind"]
        given["per_step"] = options["task"] == "label-steps"
    if not is_table(source):
        del given["features"]
    sequences = read_source(
        source, **{name: value for name, value in given.items() if value not in (None, [], (), False)}
    )
    if labelled and sequences.targets is None:
        raise DataError(
            f"{source}: nothing says what is to be predicted; name a column with --target, a table of labels with "
            "--labels, or with --labels folder the folders of the files"
        )
    return sequences


def load_parts(options: Mapping[str, Any], held_out: int, data_dir: str | Path | None) -> dict[str, Sequences]:
    """Return the parts "train", "validation" and "test" of a recipe's sources. They are the same for every seed.

    Parameters
    ----------
    options : mapping
        The recipe's: see `OPTIONS`; ``test_sequences`` is how many sequences, or groups, to test on where there is no
        other source for that. Of a single sequence these are steps.
    held_out : int
        How many of the others to hold out for validation.
    data_dir : str or Path, optional
        Where the files are looked for too.

    Raises
    ------
    DataError
        If files are missing, have changed, or cannot be read.
    """
    places = {"data": _find(options, "data", "sha256", data_dir)}
    if options["test"] is not None:
        places["test"] = _find(options, "test", "test_sha256", data_dir)
    return _load_parts(json.dumps({**options, **places}), held_out)


@lru_cache(maxsize=1)  # the parts are asked for one by one
def _load_parts(options_json: str, held_out: int) -> dict[str, Sequences]:
    options = json.loads(options_json)
    whole = read_own(options["data"], options)
    held = {"validation": held_out}
    if options["test"] is None:
        held["test"] = options["test_sequences"]
    parts = divide(whole, held)
    if options["test"] is not None:
        parts["test"] = read_own(options["test"], {**options, "features": list(whole.features)}, **known_of(whole))
    if options["window"]:
        parts["train"] = windows(parts["train"], options["window"])
    return parts


def known_of(sequences: Sequences) -> dict[str, Any]:
    """Return what the training data know, for reading others: the categories and the classes.

    Parameters
    ----------
    sequences : Sequences
        Of the training data.
    """
    known: dict[str, Any] = {"categories": dict(sequences.categories), "class_names": list(sequences.class_names)}
    return {name: value for name, value in known.items() if value}


def by_time(sequences: Sequences) -> bool:
    """Tell whether sequences are divided in time: there are targets of steps, and too few sequences to divide.

    Parameters
    ----------
    sequences : Sequences
        What there is.
    """
    return sequences.per_step and len(set(sequences.groups or sequences.ids)) < 5


def divide(sequences: Sequences, held: Mapping[str, int]) -> dict[str, Sequences]:
    """Divide sequences, or a single one in time, into parts.

    Parameters
    ----------
    sequences : Sequences
        All there are.
    held : mapping of str to int
        How many sequences or groups, or steps of a single sequence, each part but that for training gets.

    Raises
    ------
    DataError
        If there are too few, or a class has no sequence for training.
    """
    if by_time(sequences):
        return split_by_time(sequences, held)
    total = len(set(sequences.groups or sequences.ids))
    parts = split_sequences(sequences, {name: count / total for name, count in held.items()})
    if sequences.class_names:
        here, all_of = counts_of(parts["train"]), counts_of(sequences)
        without = [name for name, count in here.items() if not count]
        if without:
            raise DataError(
                f"none of the {all_of[without[0]]} sequences of the class {without[0]!r} is left for training after "
                f"{' and '.join(held)} have theirs; expected {len(held) + 1} or more of each class. Add some, or "
                "remove the class"
            )
    return parts


def windows(sequences: Sequences, steps: int) -> Sequences:
    """Return sequences cut into pieces, to train on: gradients stop at their starts.

    Parameters
    ----------
    sequences : Sequences
        With a target for every step.
    steps : int
        The longest piece.
    """
    pieces = [(row, start) for row, values in enumerate(sequences.values) for start in range(0, len(values), steps)]

    def cut(arrays: Any) -> list[np.ndarray]:
        return [arrays[row][start : start + steps] for row, start in pieces]

    return replace(
        sequences,
        values=cut(sequences.values),
        ids=tuple(f"{sequences.ids[row]}, step {start + 1}" for row, start in pieces),
        times=None if sequences.times is None else cut(sequences.times),
        targets=cut(sequences.targets),
        groups=None,
    )


def _find(options: Mapping[str, Any], name: str, sum_name: str, data_dir: str | Path | None) -> str:
    source, expected = options[name], options[sum_name]
    places = [source] if data_dir is None else [source, str(Path(data_dir).expanduser() / Path(source).name)]
    failures = []
    for place in places:
        try:
            if checksum(place, options["labels"]) == expected:
                return place
            failures.append(f"{place}: not what the run was trained on: its sha256 is not {expected}")
        except DataError as error:
            failures.append(str(error))
    raise DataError("\n".join(failures) + "\nPut the former content back, or train again")


def notes(parts: Mapping[str, Sequences], options: Mapping[str, Any], size: int, limit: int | None) -> list[str]:
    """Return what to tell of the parts: how many sequences each has, what is missing, what is shortened.

    Parameters
    ----------
    parts : mapping of str to Sequences
        As `load_parts` returned them.
    options : mapping
        The recipe's.
    size : int
        Units of a layer.
    limit : int, optional
        How many of the training part are used.
    """
    train = parts["train"]
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    shortest, longest = int(train.lengths.min()), int(train.lengths.max())
    steps = f"{longest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    lines = [f"sequences: {sizes}; {steps} steps of {len(train.features)} features; {size} units"]
    if options["window"]:
        lines.append(f"training sequences are cut into windows of {options['window']} steps")
    if limit is not None and limit < len(train):
        lines.append(f"{limit:,} of the {len(train):,} training sequences are used (--limit-train says how many)")
    gaps = {name: count for part in parts.values() for name, count in part.missing.items()}
    if gaps:
        total = {name: sum(part.missing.get(name, 0) for part in parts.values()) for name in gaps}
        named = ", ".join(f"{name!r} {count:,}" for name, count in list(total.items())[:8])
        lines.append(
            f"missing values: {named}{' and others' if len(total) > 8 else ''} (--missing {options['missing']})"
        )
    constant = Scaling.fit(train).constant
    if constant:
        lines.append(f"constant in the training part: {', '.join(map(repr, constant[:8]))}; these tell nothing")
    if options["stride"] > 1:
        lines.append(
            f"every {options['stride']} steps become one, with their mean and standard deviation (--stride 1 keeps all)"
        )
    return lines
