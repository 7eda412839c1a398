"""One's own sentences: which tag has each word?"""

from pathlib import Path
from typing import Any

from unspool.training.recipes._recipe import Execution, LayerSpec, ModelName, Recipe, vary
from unspool.training.recipes.chorales import StepBatching

MOST_EPOCHS = 100
_LEAST_STEPS = 600
TAGS = Recipe(
    dataset="tags",
    model="lstm",
    execution="dynamic",
    options={"variant": "FILE"},
    objective="class-per-step",
    layers=(LayerSpec(kind="lstm", hidden_size=128, bidirectional=True, dropout_after=0.5),),
    pooling="none",
    input_size=20_000,
    embedding_size=64,
    embedding_range=1.0,
    embedding_dropout=0.3,
    alphabet_size=100,
    character_size=32,
    num_classes=2,
    num_steps=1,
    epochs=6,
    batch_size=32,
    batching="bucketed",
    learning_rate=4e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=0,
    checkpoint_every=200,
    log_every=20,
)
"""What does not depend on the sentences; of a small file there are more epochs."""


def tags_recipe(
    data: str | Path,
    model: ModelName = "lstm",
    execution: Execution = "dynamic",
    batching: StepBatching | None = None,
    *,
    tag_column: str = "upos",
    test: str | Path | None = None,
    encoding: str = "utf-8",
    num_words: int = 20_000,
    hidden_size: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for a file of one's own sentences whose words have tags.

    A word becomes a vector of 64 numbers that belongs to it, and one that is read from its characters, so that words
    that were never seen have tags too; one bidirectional layer reads the sentence. The file is read, because sizes
    follow from it. Without `test` a tenth of the different sentences is kept for the test; of the others a tenth is
    held out.

    Parameters
    ----------
    data : str or Path
        The file, which `unspool.data.read_tagged` reads.
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "bucketed" by default. `held_out` counts
        different sentences.
    tag_column : str
        The column of the tags, where the file is in CoNLL-U.
    test : str or Path, optional
        Another file of the same columns, to test on.
    encoding : str
        How the files' characters are written.
    num_words : int
        The most words that the model knows by themselves, of those that are more than once in the training sentences.
    hidden_size : int, optional
        Units of the layer in each direction; the recipe's own by default.

    Raises
    ------
    RunError
        If a name is not known.
    DataError
        If a file cannot be read, or there are too few sentences.
    """
    # Here, because the command line shows this recipe's values without importing PyTorch.
    from unspool.data import read_tagged
    from unspool.training.tag_parts import load_parts, parts_sizes, train_encoder
    from unspool.training.text_parts import sha256

    base = vary(TAGS, model, execution, batching, hidden_size, StepBatching)
    path = Path(data).expanduser().absolute()
    test_path = None if test is None else Path(test).expanduser().absolute()
    columns = {"tag_column": tag_column, "encoding": encoding}
    sentences = read_tagged(path, **columns)
    longest = max(map(len, sentences.words))
    test_sentences, held_out = parts_sizes(sentences, path, with_test=test_path is None)
    options = {
        "variant": path.name.partition(".")[0],
        "data": str(path),
        "sha256": sha256(path),
        "test": None if test_path is None else str(test_path),
        "test_sha256": None,
        "test_sentences": test_sentences,
        "tags": list(sentences.class_names),
        "num_words": num_words,
        **columns,
    }
    if test_path is not None:
        tested = read_tagged(test_path, **columns, class_names=sentences.class_names)
        longest = max(longest, *map(len, tested.words))
        options["test_sha256"] = sha256(test_path)
    recipe = base.replace(
        options=options, num_classes=len(sentences.class_names), num_steps=longest, held_out=held_out
    ).replace(**changes)
    train = load_parts(options, recipe.held_out, recipe.limit_train, None)["train"]
    encoder = train_encoder(options, train)
    steps = -(-len(train) // recipe.batch_size)
    return recipe.replace(
        input_size=encoder.vocabulary_size,
        alphabet_size=encoder.alphabet_size,
        epochs=changes.get("epochs") or min(max(recipe.epochs, -(-_LEAST_STEPS // steps)), MOST_EPOCHS),
    )
