"""Classify the sequences of files, or texts, with a checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unspool.data import (
    DataError,
    TextTokenizer,
    WordEncoder,
    check_text,
    pad_sequences,
    read_sequences,
    read_texts,
    read_words,
)
from unspool.training.errors import RunError
from unspool.training.evaluate import load_module
from unspool.training.module import SequenceModule
from unspool.training.recipes import Recipe
from unspool.training.results import Prediction
from unspool.training.sequence_predict import predict_own
from unspool.training.sources import source_of

_BATCH = 256


def predict(
    checkpoint: str | Path,
    source: str | Path | Sequence[str | Path] | None = None,
    *,
    texts: Sequence[str] | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
) -> list[Prediction]:
    """Classify the sequences of files, or texts, on the CPU.

    Parameters
    ----------
    checkpoint : str or Path
        A file that `fit` wrote.
    source : str or Path, or a sequence of these, optional
        For a model of texts, a file that `unspool.data.read_texts` knows; for one that tags words, one that
        `unspool.data.read_words` knows. For other models, sequences in a format that `unspool.data.read_sequences`
        knows, as raw as those that the model was trained on: 12 coefficients a step for Japanese Vowels, pixels from 0
        to 255 in rows of 28 for MNIST.
    texts : sequence of str, optional
        Texts, in place of files; surnames or DNA for the models of those, sentences for one that tags words, with
        blanks between these. A text of words that is too long is cut as in training.
    text_column : str, optional
        The column of the texts in a table; by default that of the training file, or "text".
    encoding : str, optional
        How the characters of a file of texts are written; UTF-8 by default.

    Returns
    -------
    list of Prediction
        One for each sequence or text, or each word of them, in their order, file by file.

    Raises
    ------
    RunError
        If the checkpoint is none, or its model does not tell classes apart, both or none of `source` and `texts` are
        given, or texts for a model of others.
    DataError
        If a file cannot be read, its sequences do not fit the model, or a text is empty.
    """
    files = [source] if isinstance(source, str | Path) else list(source or ())
    if bool(files) == (texts is not None):
        received = "neither" if texts is None else "both of them"
        raise RunError(f"received {received}; expected either --text, with a text to classify, or --input, with a file")
    module = load_module(checkpoint)
    recipe = module.recipe
    if recipe.dataset == "sequences":
        if not files or text_column or encoding:
            raise RunError(f"{checkpoint}: {_no_tokenizer(recipe)}")
        return list(predict_own(module, files))
    if recipe.objective not in ("classes", "class-per-step"):
        other = "unspool evaluate tests it"
        if recipe.objective == "next-token":
            other += ", and unspool generate goes on with a text"
        raise RunError(
            f"{checkpoint}: the model ({recipe.dataset}, {recipe.model}) predicts something after every step, not a "
            f"class per sequence; {other}"
        )
    encode = _encoder(module)
    if encode is None and (texts is not None or text_column or encoding or recipe.embedding_size is not None):
        raise RunError(f"{checkpoint}: {_no_tokenizer(recipe)}")
    predictions: list[Prediction] = []
    for file in files or [None]:
        words: Sequence[Sequence[str]] | None = None
        if encode is None:
            assert file is not None
            read = read_sequences(file)
            _check(read, recipe, Path(file))
            sequences = [sequence.float() for sequence in read]
        else:
            given = texts
            if file is not None and recipe.objective == "classes":
                column = text_column or recipe.options.get("text_column", "text")
                given = read_texts(file, text_column=column, encoding=encoding or "utf-8")
            for index, text in enumerate(given or ()):
                check_text(text, f"text {index}")
            if recipe.objective == "class-per-step":
                words = [text.split() for text in given or ()]
                if file is not None:
                    words = read_words(file, encoding=encoding or "utf-8")
            sequences = encode(given if words is None else words)
            for index, sequence in enumerate(sequences):
                _check_steps(len(sequence), recipe, f"text {index}" if file is None else f"{file}: text {index}")
        predictions += _classify(module, sequences, None if file is None else str(file), words)
    return predictions


def _encoder(module: SequenceModule) -> Callable[[Any], list[Tensor]] | None:
    """Return what makes tokens of texts, or of lists of words, as in training; None where nothing is known to."""
    source = source_of(module.recipe)
    if module.tokenizer is None:
        return source.encode
    tokenizer, longest = source.read_tokenizer(module.tokenizer), module.recipe.num_steps
    if isinstance(tokenizer, WordEncoder):
        return lambda sentences: [tokenizer.encode(words) for words in sentences]
    assert isinstance(tokenizer, TextTokenizer)
    # As `TokenDataset` cuts the texts of the training.
    return lambda texts: [sequence[-longest:] for sequence in tokenizer.encode_batch(texts)]


def _classify(
    module: SequenceModule, sequences: list[Tensor], file: str | None, words: Sequence[Sequence[str]] | None
) -> list[Prediction]:
    recipe = module.recipe
    pad_to = recipe.num_steps if recipe.execution == "static" else None
    predictions: list[Prediction] = []

    def add(shares: Tensor, index: int, step: int | None = None, word: str | None = None) -> None:
        best, values = int(shares.argmax()), shares.tolist()
        label = module.name_of(best)
        named = dict(zip(module.class_names, values, strict=False))  # an output of no class may have no name
        predictions.append(Prediction(index, label, values[best], named, file, step, word))

    with torch.inference_mode():
        for first in range(0, len(sequences), _BATCH):
            inputs, lengths = pad_sequences(sequences[first : first + _BATCH], pad_to=pad_to)
            for index, shares in enumerate(module(inputs, lengths).softmax(-1), start=first):
                if words is None:
                    add(shares, index)
                else:
                    for step, word in enumerate(words[index]):
                        add(shares[step], index, step, word)
    return predictions


def _no_tokenizer(recipe: Recipe) -> str:
    if recipe.embedding_size is None:
        return f"a model of sequences of numbers ({recipe.dataset}), which has no use for texts; pass --input FILE"
    missing = ""
    if recipe.dataset == "imdb":
        missing = " Training puts it there where the directory of the data has imdb_word_index.json; train it again"
    return f"no tokenizer in this checkpoint ({recipe.dataset}), so a text cannot be turned into numbers.{missing}"


def _check(sequences: list[Tensor], recipe: Recipe, source: Path) -> None:
    for index, sequence in enumerate(sequences):
        steps, width = sequence.shape
        if width != recipe.input_size:
            raise DataError(
                f"{source}: sequence {index} has {width} values a step ({steps} steps); the model of this checkpoint "
                f"({recipe.dataset}, {recipe.model}) expects {recipe.input_size}"
            )
        _check_steps(steps, recipe, f"{source}: sequence {index}")
        if recipe.dataset == "mnist" and (float(sequence.min()) < 0 or float(sequence.max()) > 255):
            raise DataError(
                f"{source}: sequence {index} has values from {float(sequence.min()):g} to "
                f"{float(sequence.max()):g}; expected pixels from 0 to 255"
            )
    if recipe.dataset == "mnist" and 0 < max(float(sequence.max()) for sequence in sequences) <= 1:
        raise DataError(f"{source}: no pixel is above 1; expected pixels from 0 to 255. Multiply them by 255")


def _check_steps(steps: int, recipe: Recipe, called: str) -> None:
    if recipe.execution == "static" and steps > recipe.num_steps:
        raise DataError(
            f"{called} has {steps} steps; this model is unrolled for at most {recipe.num_steps}. Shorten it, or train "
            "with --execution dynamic"
        )
