"""Where the recipes' data come from: one `Source` for each data set that a recipe names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from unspool.data import (
    LabelledTexts,
    MissingDataError,
    SequenceDataset,
    TextTokenizer,
    load_imdb,
    load_imdb_word_index,
    load_japanese_vowels,
    load_mnist,
)

from .errors import RunError
from .recipes import Recipe
from .text_parts import load_parts, train_tokenizer

Part = Literal["train", "validation", "test"]
DataDir = str | Path | None


class Rows(Protocol):
    """Labelled sequences: (inputs, label) pairs that a sampler can batch by their lengths."""

    class_names: tuple[str, ...]

    @property
    def labels(self) -> Tensor:
        """The class of each sequence, (R,)."""
        ...

    @property
    def lengths(self) -> Tensor:
        """The number of steps of each sequence, (R,)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]: ...

    def subset(self, indices: list[int], /) -> "Rows":
        """Return the data set of the given rows."""
        ...


class Source(NamedTuple):
    """How a data set's parts are loaded.

    Attributes
    ----------
    load : callable
        Gets the recipe, the part ("train", "test", and "validation" where `has_validation`) and the directory of the
        data; returns the rows, or texts, which `tokenizer` is for.
    has_validation : bool
        Whether the data set has a part of its own for validation; otherwise rows of the training part are held out.
    normalise : callable
        Gets the training rows; returns the mean and the scale, each of shape (I,), that features are normalised by.
        None where steps are tokens.
    tokenizer : callable
        Gets the recipe and the directory of the data; returns what makes tokens of a text, as JSON. None where
        there is no such thing.
    """

    load: Callable[[Recipe, Part, DataDir], Rows | LabelledTexts]
    has_validation: bool = False
    normalise: Callable[[Rows], tuple[Tensor, Tensor]] | None = None
    tokenizer: Callable[[Recipe, DataDir], str | None] | None = None


def standardise(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each feature over all steps.

    Parameters
    ----------
    rows : Rows
        Sequences of shape (T, I).
    """
    steps = torch.cat([rows[index][0] for index in range(len(rows))])
    return steps.mean(0), steps.std(0)


def _as_in_files(part: Part) -> Literal["train", "test"]:
    if part == "validation":
        raise RunError("this data set has no part for validation; hold rows of the training part out")
    return part


def _vowels(_recipe: Recipe, part: Part, _data_dir: DataDir) -> SequenceDataset:
    return load_japanese_vowels(_as_in_files(part))


def _mnist(_recipe: Recipe, part: Part, data_dir: DataDir) -> SequenceDataset:
    return load_mnist(_as_in_files(part), data_dir=data_dir)


def _pixels(_rows: Rows) -> tuple[Tensor, Tensor]:
    return torch.zeros(28), torch.full((28,), 255.0)


def _imdb(recipe: Recipe, part: Part, data_dir: DataDir) -> Rows:
    return load_imdb(_as_in_files(part), num_words=recipe.input_size, maxlen=recipe.num_steps, data_dir=data_dir)


def _imdb_tokenizer(recipe: Recipe, data_dir: DataDir) -> str | None:
    try:
        index = load_imdb_word_index(data_dir=data_dir)
    except MissingDataError:
        return None  # training has no need of it
    return TextTokenizer.from_word_index(index, num_words=recipe.input_size).to_json()


def _texts(recipe: Recipe, part: Part, data_dir: DataDir) -> LabelledTexts:
    return load_parts(recipe.options, recipe.held_out, recipe.limit_train, data_dir)[part]


def _texts_tokenizer(recipe: Recipe, data_dir: DataDir) -> str:
    return train_tokenizer(recipe.options, _texts(recipe, "train", data_dir)).to_json()


SOURCES: dict[str, Source] = {
    "vowels": Source(_vowels, normalise=standardise),
    "mnist": Source(_mnist, normalise=_pixels),
    "imdb": Source(_imdb, tokenizer=_imdb_tokenizer),
    "text": Source(_texts, has_validation=True, tokenizer=_texts_tokenizer),
}


def source_of(recipe: Recipe) -> Source:
    """Return the source of a recipe's data.

    Parameters
    ----------
    recipe : Recipe
        Its `dataset` is the source's name.

    Raises
    ------
    RunError
        If there is none of this name.
    """
    if recipe.dataset not in SOURCES:
        raise RunError(f"received dataset {recipe.dataset!r}; expected one of {', '.join(sorted(SOURCES))}")
    return SOURCES[recipe.dataset]
