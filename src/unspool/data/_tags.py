"""Sentences whose words have tags, from files with a word a line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unspool.data._collate import StepSample
from unspool.data._errors import DataError
from unspool.data._text_rows import listed, read_plain_text
from unspool.data._word_encoder import WordEncoder

CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True, eq=False)
class TaggedSentences:
    """Sentences with a tag for every word.

    Parameters
    ----------
    words, tags : list of list of str
        R sentences: the words of each, at least one, and the tag of every word.
    class_names : tuple of str
        All tags that there may be.
    """

    words: list[list[str]]
    tags: list[list[str]]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    def subset(self, indices: Sequence[int]) -> "TaggedSentences":
        """Return the sentences of the given rows, in the given order, with all tags.

        Parameters
        ----------
        indices : sequence of int
            Rows of these sentences.
        """
        rows = list(indices)
        return TaggedSentences([self.words[i] for i in rows], [self.tags[i] for i in rows], self.class_names)


def read_tagged(
    path: str | Path, *, tag_column: str = "upos", class_names: Sequence[str] | None = None, encoding: str = "utf-8"
) -> TaggedSentences:
    """Read sentences whose words have tags, in the format given by the file's extension.

    Parameters
    ----------
    path : str or Path
        ``.conllu``, the format of Universal Dependencies [1]_; any other file has two columns, a word and its tag,
        with a tab or blanks between them, and an empty line after every sentence. Each also with ``.gz`` or ``.xz``.
    tag_column : str
        The column of the tags in a ``.conllu`` file: ``upos``, ``xpos``, ``deprel`` and so on.
    class_names : sequence of str, optional
        The allowed tags: pass those of the training sentences when reading test sentences. By default the tags of the
        file, sorted.
    encoding : str
        The file's character encoding.

    Returns
    -------
    TaggedSentences
        In the order of the file. The words of a multiword token count, not the token; empty nodes do not.

    Raises
    ------
    DataError
        If the file is missing, damaged or in another encoding, a line has other columns, a tag is none of
        `class_names`, or all tags are the same; the message says where.

    References
    ----------
    .. [1] https://universaldependencies.org/format.html
    """
    path = Path(path).expanduser()
    if tag_column not in CONLLU_COLUMNS[2:]:
        raise DataError(f"received tag_column={tag_column!r}; expected one of {', '.join(CONLLU_COLUMNS[2:])}")
    words, tags = [], []
    known = None if class_names is None else set(class_names)
    for sentence in _sentences(path, encoding, tag_column, tagged=True):
        for number, _, tag in sentence:
            if known is not None and tag not in known:
                raise DataError(f"{path}, line {number}: the tag {tag!r:.60}; expected one of {_few(sorted(known))}")
        words.append([word for _, word, _ in sentence])
        tags.append([tag for _, _, tag in sentence])
    names = tuple(sorted({tag for sentence in tags for tag in sentence}) if class_names is None else class_names)
    if len(names) < 2:
        column = f" in the column {tag_column}" if _is_conllu(path) else ""
        raise DataError(f"{path}: every tag{column} is {listed(names)}; expected at least two different ones")
    return TaggedSentences(words, tags, names)


def read_words(path: str | Path, *, encoding: str = "utf-8") -> list[list[str]]:
    """Read sentences without their tags, in the format given by the file's extension.

    Parameters
    ----------
    path : str or Path
        ``.txt`` with a sentence per line, whose words have blanks between them; or a file as in `read_tagged`, in
        which tags may be missing.
    encoding : str
        The file's character encoding.

    Returns
    -------
    list of list of str
        The words of each sentence, in the order of the file.

    Raises
    ------
    DataError
        If the file is missing, damaged or in another encoding, or a line has other columns.
    """
    path = Path(path).expanduser()
    if _ending(path) == ".txt":
        return [line.split() for line in read_plain_text(path, encoding).split("\n") if line.strip()]
    return [[word for _, word, _ in sentence] for sentence in _sentences(path, encoding, "upos", tagged=False)]


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz").removesuffix(".xz")).suffix


def _is_conllu(path: Path) -> bool:
    return _ending(path) == ".conllu"


def _few(names: Sequence[str]) -> str:
    return listed(names[:20]) + (f" and {len(names) - 20:,} others" if len(names) > 20 else "")


def _sentences(path: Path, encoding: str, column: str, *, tagged: bool) -> Iterator[list[tuple[int, str, str]]]:
    """Yield sentences as lists of line number, word and tag."""
    conllu = _is_conllu(path)
    sentence: list[tuple[int, str, str]] = []
    for number, line in enumerate(read_plain_text(path, encoding).split("\n"), start=1):
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
        elif conllu and line.startswith("#"):
            continue
        elif conllu:
            fields = line.split("\t")
            if len(fields) != len(CONLLU_COLUMNS):
                raise DataError(
                    f"{path}, line {number}: {len(fields)} columns; expected {len(CONLLU_COLUMNS)} with tabs between "
                    "them, as CoNLL-U has. For a word and a tag per line, use another extension"
                )
            if fields[0].isdecimal():  # not a multiword token (1-2), nor an empty node (1.1)
                sentence.append((number, fields[1], fields[CONLLU_COLUMNS.index(column)]))
        elif not line.startswith(_DOCUMENT):
            fields = line.split("\t") if "\t" in line else line.split()
            if len(fields) not in ((2,) if tagged else (1, 2)) or not all(field.strip() for field in fields):
                expected = "two, a word and its tag" if tagged else "a word, and a tag after it if there is one"
                raise DataError(
                    f"{path}, line {number}: {len(fields)} columns; expected {expected}. Separate them with a tab, and "
                    "sentences with an empty line; a file in CoNLL-U has a name that ends in .conllu"
                )
            sentence.append((number, fields[0].strip(), fields[-1].strip()))
    if sentence:
        yield sentence


class TagDataset:
    """Sentences as numbers, with the number of every word's tag.

    Parameters
    ----------
    sentences : TaggedSentences
        Words and tags.
    encoder : WordEncoder
        What makes numbers of words.
    """

    def __init__(self, sentences: TaggedSentences, encoder: WordEncoder) -> None:
        numbers = {name: number for number, name in enumerate(sentences.class_names)}
        self.class_names = sentences.class_names
        self.inputs = [encoder.encode(words) for words in sentences.words]
        self.targets = [torch.tensor([[numbers[tag]] for tag in tags]) for tags in sentences.tags]

    @property
    def lengths(self) -> Tensor:
        """Number of words of each sentence, int64 of shape (R,): what samplers batch by."""
        return torch.tensor([len(words) for words in self.inputs])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int, /) -> StepSample:
        return StepSample(self.inputs[index], self.targets[index])

    def subset(self, indices: Sequence[int], /) -> "TagDataset":
        """Return the data set of the given rows, in the given order.

        Parameters
        ----------
        indices : sequence of int
            Rows of this data set.
        """
        picked = object.__new__(TagDataset)
        picked.class_names = self.class_names
        picked.inputs = [self.inputs[row] for row in indices]
        picked.targets = [self.targets[row] for row in indices]
        return picked
