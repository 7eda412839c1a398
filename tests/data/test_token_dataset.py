import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from unspool.data import (
    BatchLoader,
    BucketBatchSampler,
    DataError,
    LabelledTexts,
    TextTokenizer,
    _token_cache,
    token_dataset,
)

pytest.importorskip("tokenizers", reason="tokenizers is not installed")

TEXTS = LabelledTexts(["the cat sat", "the dog", "a cat a dog the"], torch.tensor([1, 0, 1]), ("no", "yes"))
TOKENIZER = TextTokenizer.train(TEXTS.texts)  # the a cat dog sat
SEQUENCES = [[1, 4, 6, 8], [1, 4, 7], [1, 5, 6, 5, 7, 4]]


def sequences(dataset):
    return [dataset[index][0].tolist() for index in range(len(dataset))]


@pytest.fixture
def make(tmp_path):
    def make(texts=TEXTS, tokenizer=TOKENIZER, **named):
        return token_dataset(texts, tokenizer, cache_dir=tmp_path, **named)

    return make


def folders(tmp_path):
    return list((tmp_path / "tokens").iterdir())


def test_numbers_labels_and_cuts(make):
    dataset = make()
    assert sequences(dataset) == SEQUENCES
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset[1][1] == 0
    assert dataset.class_names == ("no", "yes")
    assert dataset.lengths.tolist() == [4, 3, 6]
    assert dataset.num_words == 9
    assert sequences(make(maxlen=3)) == [[4, 6, 8], [1, 4, 7], [5, 7, 4]]
    assert sequences(make(maxlen=3, truncation="post")) == [[1, 4, 6], [1, 4, 7], [1, 5, 6]]
    loader = BatchLoader(dataset, BucketBatchSampler(dataset.lengths, [5], 2, shuffle=False))
    assert [batch.inputs.tolist() for batch in loader] == [[[1, 4, 6, 8], [1, 4, 7, 0]], [[1, 5, 6, 5, 7, 4]]]


def test_texts_are_tokenised_once_and_then_mapped(make, tmp_path, monkeypatch):
    make()
    assert len(folders(tmp_path)) == 1
    monkeypatch.setattr(TextTokenizer, "encode_batch", None)
    for dataset in (make(), make(maxlen=3), make(tokenizer=TextTokenizer.from_json(TOKENIZER.to_json()))):
        assert isinstance(dataset._tokens, np.memmap)
    assert sequences(make()) == SEQUENCES


def test_other_texts_labels_or_tokenizers_have_another_folder(make, tmp_path):
    make()
    make(LabelledTexts(TEXTS.texts, torch.tensor([1, 1, 0]), TEXTS.class_names))
    make(LabelledTexts(["the catsat", "the dog", "a cat a dog the"], TEXTS.labels, TEXTS.class_names))
    make(LabelledTexts(["the cat sat", "thedog ", "a cat a dog the"], TEXTS.labels, TEXTS.class_names))
    make(tokenizer=TextTokenizer.train(TEXTS.texts, num_words=6))
    assert len(folders(tmp_path)) == 5


def test_many_texts(make, monkeypatch):
    texts = LabelledTexts([f"the {'cat ' * (i % 7)}dog" for i in range(2500)], torch.arange(2500) % 2, ("no", "yes"))
    dataset = make(texts)
    assert dataset.lengths.tolist() == [3 + i % 7 for i in range(2500)]
    assert dataset[2499][0].tolist() == [1, 4, *[6] * (2499 % 7), 7]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError("no space left on device")], ids=["key", "disk"])
def test_an_interruption_leaves_nothing(make, tmp_path, monkeypatch, interruption):
    save = np.save

    def fail(path, array, **named):
        save(path, array, **named)
        if path.name == "texts_offsets.npy":
            raise interruption

    monkeypatch.setattr(_token_cache.np, "save", fail)
    expected = DataError if isinstance(interruption, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        make()
    assert folders(tmp_path) == []
    monkeypatch.undo()
    assert sequences(make()) == SEQUENCES


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_killed_process_leaves_no_folder_that_is_taken_for_whole(make, tmp_path, monkeypatch):
    save = np.save

    def fail(path, array, **named):
        save(path, array, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(_token_cache.np, "save", fail)
        process = multiprocessing.get_context("fork").Process(target=make)
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [folder.name[:12] for folder in folders(tmp_path)] == [".unfinished-"]
    assert sequences(make()) == SEQUENCES


def test_a_damaged_cache_is_named(make, tmp_path):
    make()
    (folders(tmp_path)[0] / "texts_tokens.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged cache .*; remove this folder"):
        make()


def test_a_cache_that_cannot_be_written_is_named(make, tmp_path):
    (tmp_path / "tokens").write_text("a file, no directory")
    with pytest.raises(DataError, match=r"cannot keep the numbers of texts in .*\n.*UNSPOOL_CACHE_DIR"):
        make()


def test_the_cache_is_the_users_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path))
    assert sequences(token_dataset(TEXTS, TOKENIZER)) == SEQUENCES
    assert len(folders(tmp_path)) == 1


def test_bad_arguments_are_refused(make):
    with pytest.raises(DataError, match="maxlen=0"):
        make(maxlen=0)
    with pytest.raises(DataError, match="truncation='middle'"):
        make(truncation="middle")
