"""One's own texts: which class?"""

from pathlib import Path
from typing import Any, Literal

from unspool.training.errors import RunError
from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice, vary

TokenizerKind = Literal["word", "bpe", "char"]

MOST_EPOCHS = 100
_LEAST_STEPS = 300
TEXT = Recipe(
    dataset="text",
    model="gru",
    execution="dynamic",
    options={"variant": "FILE"},
    layers=(LayerSpec(kind="gru", hidden_size=64, dropout_after=0.3),),
    pooling="max",
    input_size=10_000,
    embedding_size=64,
    embedding_dropout=0.5,
    num_classes=2,
    num_steps=400,
    epochs=6,
    batch_size=32,
    batching="ragged",
    learning_rate=2e-3,
    weight_decay=1e-2,
    gradient_clip=1.0,
    held_out=0,
    checkpoint_every=200,
    log_every=20,
)
"""What does not depend on the texts; of a small file there are more epochs."""

_CHARACTERS = TEXT.replace(
    layers=(LayerSpec(kind="gru", hidden_size=64, bidirectional=True, dropout_after=0.3),),
    embedding_size=32,
    embedding_range=1.0,
    embedding_dropout=0.1,
    learning_rate=3e-3,
)
"""The same for characters, of which there are few: none is dropped for long."""


def text_recipe(
    data: str | Path,
    model: ModelName = "gru",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    *,
    text_column: str = "text",
    label_column: str = "label",
    test: str | Path | None = None,
    encoding: str = "utf-8",
    tokenizer: TokenizerKind = "word",
    num_words: int = 10_000,
    max_length: int = 400,
    **changes: Any,
) -> Recipe:
    """Return the recipe for a file of one's own texts and their classes.

    The file is read, because sizes follow from it: the classes, the words, and the epochs, of which a small file gets
    more. Without `test` a tenth of the different texts is kept for the test; of the others a tenth is held out.

    Parameters
    ----------
    data : str or Path
        The file, which `unspool.data.read_labelled_texts` reads.
    model : {"gru", "lstm", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped, or unrolled over `max_length` steps.
    batching : {"ragged", "padded", "bucketed", "same-length", "single"}, optional
        How texts are put together; "ragged" by default.
    text_column, label_column : str
        The columns of the texts and the labels.
    test : str or Path, optional
        Another file of the same columns, to test on.
    encoding : str
        How the files' characters are written.
    tokenizer : {"word", "bpe", "char"}
        What texts are divided into: words, pieces of words, or characters.
    num_words : int
        The most words, pieces or characters, that the model knows; those that are frequent in the training texts.
    max_length : int
        The most steps of a text; a longer one loses its beginning.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own. `held_out` counts different texts.

    Raises
    ------
    RunError
        If a name is not known, or `max_length` is not positive.
    DataError
        If a file cannot be read, or there are too few texts of a class.
    """
    # Here, because the command line shows this recipe's values without importing PyTorch.
    from unspool.data import read_labelled_texts
    from unspool.training.text_parts import load_parts, parts_sizes, sha256, train_tokenizer

    check_choice("tokenizer", tokenizer, TokenizerKind)
    base = vary(_CHARACTERS if tokenizer == "char" else TEXT, model, execution, batching)
    if max_length < 1:
        raise RunError(f"received max_length={max_length}; expected 1 or more")
    path = Path(data).expanduser().absolute()
    test_path = None if test is None else Path(test).expanduser().absolute()
    columns = {"text_column": text_column, "label_column": label_column, "encoding": encoding}
    texts = read_labelled_texts(path, **columns)
    test_texts, held_out = parts_sizes(texts, path, with_test=test_path is None)
    options = {
        "variant": path.name.partition(".")[0],
        "data": str(path),
        "sha256": sha256(path),
        "test": None if test_path is None else str(test_path),
        "test_sha256": None,
        "test_texts": test_texts,
        "classes": list(texts.class_names),
        "tokenizer": tokenizer,
        "num_words": num_words,
        **columns,
    }
    if test_path is not None:
        read_labelled_texts(test_path, **columns, class_names=texts.class_names)
        options["test_sha256"] = sha256(test_path)
    recipe = base.replace(
        options=options,
        input_size=num_words,
        num_classes=len(texts.class_names),
        num_steps=max_length,
        held_out=held_out,
    ).replace(**changes)
    train = load_parts(options, recipe.held_out, recipe.limit_train, None)["train"]
    steps = -(-len(train) // recipe.batch_size)
    return recipe.replace(
        input_size=train_tokenizer(options, train).vocabulary_size,
        epochs=changes.get("epochs") or min(max(recipe.epochs, -(-_LEAST_STEPS // steps)), MOST_EPOCHS),
    )
