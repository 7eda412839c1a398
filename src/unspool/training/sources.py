"""Where the recipes' data come from: one `Source` for each data set that a recipe names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from unspool._reading import brief
from unspool.data import (
    LabelledTexts,
    MissingDataError,
    SequenceDataset,
    TagDataset,
    TaggedSentences,
    TextTokenizer,
    WordEncoder,
    encode_names,
    encode_nucleotides,
    load_chorales,
    load_imdb,
    load_imdb_word_index,
    load_japanese_vowels,
    load_mnist,
    load_names,
    load_promoters,
    load_splice,
    load_spoken_digits,
    load_tiny_shakespeare,
    read_character_text,
    token_dataset,
)
from unspool.data.datasets import NAME_CHARACTERS, NUCLEOTIDES
from unspool.training import sequence_parts
from unspool.training.errors import RunError
from unspool.training.recipes import Recipe
from unspool.training.recipes._recipe import PER_SEQUENCE, Objective
from unspool.training.tag_parts import OPTIONS as TAG_OPTIONS
from unspool.training.tag_parts import load_parts as load_tags
from unspool.training.tag_parts import train_encoder
from unspool.training.text_parts import OPTIONS, find_file, load_parts, train_tokenizer

Part = Literal["train", "validation", "test"]
DataDir = str | Path | None


class Rows(Protocol):
    """What a part of a data set has: sequences, or the tokens of one long text."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each class, label or token is called."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...

    def subset(self, indices: list[int], /) -> "Rows":
        """Return the data set of the given rows."""
        ...


class Sequences(Rows, Protocol):
    """Sequences with what is to be said of them, which a sampler can batch by their lengths."""

    @property
    def lengths(self) -> Tensor:
        """The number of steps of each sequence, (R,)."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Any]: ...

    def subset(self, indices: list[int], /) -> "Sequences":
        """Return the data set of the given rows."""
        ...


class LabelledSequences(Sequences, Protocol):
    """Sequences with one class each."""

    @property
    def labels(self) -> Tensor:
        """The class of each sequence, (R,)."""
        ...

    def subset(self, indices: list[int], /) -> "LabelledSequences":
        """Return the data set of the given rows."""
        ...


@dataclass(frozen=True)
class Stream:
    """One long text: `tokens`, int64 of shape (N,), and what each is called."""

    tokens: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int, /) -> Tensor:
        return self.tokens[index]

    def subset(self, indices: list[int], /) -> "Stream":
        """Return the text of the given tokens.

        Parameters
        ----------
        indices : list of int
            Their places.
        """
        return Stream(self.tokens[indices], self.class_names)


class Source(NamedTuple):
    """How a data set's parts are loaded.

    Attributes
    ----------
    load : callable
        Gets the recipe, the part ("train", "test", and "validation" where `has_validation`) and the directory of the
        data; returns what the recipe's objective needs, `LabelledSequences` for classes, `Sequences` with a target for
        every step, or a `Stream`; or texts, which `tokenize` makes these of.
    has_validation : bool
        Whether the data set has a part of its own for validation; otherwise rows of the training part are held out.
    repeats : bool
        Whether the same sequence occurs several times. All its copies are held out then, or none.
    normalise : callable
        Gets the training rows; returns the mean and the scale, each of shape (I,), that features are normalised by.
        None where steps are tokens, or features are left as they are.
    tokenizer : callable
        Gets the recipe and the directory of the data; returns what makes tokens of a text, as JSON. None where
        there is no such thing.
    read_tokenizer : callable
        Gets that JSON; returns what makes tokens of a text.
    tokenize : callable
        Gets what `load` returned, what `read_tokenizer` returned, and the recipe; returns the rows. None where `load`
        returns rows.
    encode : callable
        Gets texts; returns the tokens of each, where these are the same for every model. None where models have
        tokenizers, or there are no texts.
    characters : str
        Those that `encode` knows, each with a number of its own.
    has_characters : bool
        Whether a step is a word's number and those of its characters.
    options : mapping of str to tuple of type
        What `load` and `tokenizer` read of the recipe's options.
    objectives : tuple of str
        What its targets may be for.
    notes : callable
        Gets the recipe and the directory of the data; returns lines to tell the user of the data.
    split : callable
        Gets the same; returns what went into which part, by id. None where the data set or the file says so.
    """

    load: Callable[[Recipe, Part, DataDir], Rows | LabelledTexts | TaggedSentences | sequence_parts.Sequences]
    has_validation: bool = False
    repeats: bool = False
    normalise: Callable[[Any], tuple[Tensor, Tensor]] | None = None
    tokenizer: Callable[[Recipe, DataDir], str | None] | None = None
    read_tokenizer: Callable[[str], TextTokenizer | WordEncoder | sequence_parts.SequenceEncoder] = (
        TextTokenizer.from_json
    )
    tokenize: Callable[[Any, Any, Recipe], Rows] | None = None
    encode: Callable[[Sequence[str]], list[Tensor]] | None = None
    characters: str = ""
    has_characters: bool = False
    options: Mapping[str, tuple[type, ...]] = MappingProxyType({})
    objectives: tuple[Objective, ...] = ("classes",)
    notes: Callable[[Recipe, DataDir], list[str]] = lambda _recipe, _data_dir: []
    split: Callable[[Recipe, DataDir], dict[str, list[str]]] | None = None


def standardise(rows: Sequences) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each feature over all steps.

    Parameters
    ----------
    rows : Sequences
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


def _pixels(_rows: Sequences) -> tuple[Tensor, Tensor]:
    return torch.zeros(28), torch.full((28,), 255.0)


def _imdb(recipe: Recipe, part: Part, data_dir: DataDir) -> LabelledSequences:
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


def _digits(recipe: Recipe, part: Part, data_dir: DataDir) -> SequenceDataset:
    return load_spoken_digits(_as_in_files(part), features=recipe.options["features"], data_dir=data_dir)


def _names(_recipe: Recipe, part: Part, data_dir: DataDir) -> LabelledSequences:
    return load_names(_as_in_files(part), data_dir=data_dir)


def _splice(_recipe: Recipe, part: Part, data_dir: DataDir) -> LabelledSequences:
    return load_splice(_as_in_files(part), data_dir=data_dir)


def _promoters(recipe: Recipe, part: Part, data_dir: DataDir) -> LabelledSequences:
    fold, folds = recipe.options["fold"], recipe.options["folds"]
    return load_promoters(_as_in_files(part), fold=fold, folds=folds, data_dir=data_dir)


def _chorales(_recipe: Recipe, part: Part, data_dir: DataDir) -> Sequences:
    return load_chorales(part, data_dir=data_dir)


def _shakespeare(_recipe: Recipe, part: Part, data_dir: DataDir) -> Stream:
    text = load_tiny_shakespeare(part, data_dir=data_dir)
    return Stream(text.tokens, tuple(text.characters))


def _tags(recipe: Recipe, part: Part, data_dir: DataDir) -> TaggedSentences:
    return load_tags(recipe.options, recipe.held_out, recipe.limit_train, data_dir)[part]


def _tags_encoder(recipe: Recipe, data_dir: DataDir) -> str:
    return train_encoder(recipe.options, _tags(recipe, "train", data_dir)).to_json()


def _own(recipe: Recipe, part: Part, data_dir: DataDir) -> sequence_parts.Sequences:
    return sequence_parts.load_parts(recipe.options, recipe.held_out, data_dir)[part]


def _own_encoder(recipe: Recipe, data_dir: DataDir) -> str:
    return sequence_parts.SequenceEncoder.fit(_own(recipe, "train", data_dir), recipe.options).to_json()


def _own_notes(recipe: Recipe, data_dir: DataDir) -> list[str]:
    return sequence_parts.notes(
        sequence_parts.load_parts(recipe.options, recipe.held_out, data_dir),
        recipe.options,
        recipe.layers[0].hidden_size,
        recipe.limit_train,
    )


def _own_split(recipe: Recipe, data_dir: DataDir) -> dict[str, list[str]]:
    parts = sequence_parts.load_parts(recipe.options, recipe.held_out, data_dir)
    return {name: list(part.ids) for name, part in parts.items()}


def _lm(recipe: Recipe, part: Part, data_dir: DataDir) -> Stream:
    options = recipe.options
    path = find_file(Path(options["data"]), options["sha256"], data_dir)
    text = read_character_text(path, encoding=options["encoding"])
    first, last = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}[part]
    size = len(text.tokens)
    return Stream(text.tokens[size * first // 100 : size * last // 100], tuple(text.characters))


SOURCES: dict[str, Source] = {
    "vowels": Source(_vowels, normalise=standardise),
    "mnist": Source(_mnist, normalise=_pixels),
    "imdb": Source(_imdb, tokenizer=_imdb_tokenizer),
    "text": Source(
        _texts,
        has_validation=True,
        tokenizer=_texts_tokenizer,
        tokenize=lambda rows, tokenizer, recipe: token_dataset(rows, tokenizer, maxlen=recipe.num_steps),
        options=OPTIONS,
    ),
    "digits": Source(_digits, normalise=standardise, options={"features": (str,)}),
    "names": Source(_names, repeats=True, encode=encode_names, characters=NAME_CHARACTERS),
    "splice": Source(_splice, repeats=True, encode=encode_nucleotides, characters=NUCLEOTIDES),
    "promoters": Source(
        _promoters,
        encode=encode_nucleotides,
        characters=NUCLEOTIDES,
        options={"fold": (int,), "folds": (int,)},
    ),
    "chorales": Source(_chorales, has_validation=True, objectives=("labels-per-step",)),
    "shakespeare": Source(_shakespeare, has_validation=True, objectives=("next-token",)),
    "tags": Source(
        _tags,
        has_validation=True,
        tokenizer=_tags_encoder,
        read_tokenizer=WordEncoder.from_json,
        tokenize=lambda rows, encoder, _recipe: TagDataset(rows, encoder),
        has_characters=True,
        options=TAG_OPTIONS,
        objectives=("class-per-step",),
    ),
    "sequences": Source(
        _own,
        has_validation=True,
        tokenizer=_own_encoder,
        read_tokenizer=sequence_parts.SequenceEncoder.from_json,
        tokenize=lambda rows, encoder, _recipe: sequence_parts.encode_rows(rows, encoder),
        options=sequence_parts.OPTIONS,
        objectives=("classes", "numbers", "class-per-step", "numbers-per-step"),
        notes=_own_notes,
        split=_own_split,
    ),
    "lm": Source(
        _lm,
        has_validation=True,
        options=dict.fromkeys(("data", "sha256", "encoding"), (str,)),
        objectives=("next-token",),
    ),
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
        If there is none of this name, or the recipe has not the options, the objective, the pooling or the characters
        for it.
    """
    if recipe.dataset not in SOURCES:
        raise RunError(f"received dataset {recipe.dataset!r}; expected one of {', '.join(sorted(SOURCES))}")
    source = SOURCES[recipe.dataset]
    one_each = recipe.objective in PER_SEQUENCE
    if recipe.objective not in source.objectives or (recipe.pooling == "none") == one_each:
        pooling = "last, mean or max" if source.objectives[0] in PER_SEQUENCE else "none"
        raise RunError(
            f"received a recipe for {recipe.dataset} with objective={recipe.objective} and pooling={recipe.pooling}; "
            f"expected {' or '.join(source.objectives)} and {pooling}"
        )
    if source.has_characters != (recipe.character_size > 0):
        expected = "1 or more" if source.has_characters else "0"
        raise RunError(
            f"received a recipe for {recipe.dataset} with character_size={recipe.character_size}; expected {expected}"
        )
    for name, kinds in source.options.items():
        if type(recipe.options.get(name)) not in kinds:
            words = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            raise RunError(
                f"received a recipe for {recipe.dataset} whose option {name} is {brief(recipe.options.get(name))}; "
                f"expected {words}"
            )
    return source
