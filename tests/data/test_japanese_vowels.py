import os
from pathlib import Path

import numpy as np
import pytest
import torch

from unspool.data import DataError, load_japanese_vowels, read_ts
from unspool.data.datasets import japanese_vowels


def test_the_shipped_data_are_the_archives():
    train, test = load_japanese_vowels("train"), load_japanese_vowels("test")
    assert (len(train), len(test)) == (270, 370)
    assert torch.bincount(train.labels).tolist() == [30] * 9
    assert torch.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(sequence) for sequence in [*train.sequences, *test.sequences]]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert train.input_size == test.input_size == 12
    assert train.class_names == tuple("123456789")
    assert all(sequence.dtype == torch.float32 for sequence in train.sequences)


def test_another_split_is_refused():
    with pytest.raises(DataError, match="received split='dev'; expected 'train' or 'test'"):
        load_japanese_vowels("dev")  # pyright: ignore[reportArgumentType]


def test_the_attribution_lies_beside_the_data():
    text = japanese_vowels.SHIPPED.with_name("japanese_vowels.ATTRIBUTION.txt").read_text(encoding="utf-8")
    for name in ("Kudo", "Toyama", "Shimbo", "UCI", "CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"):
        assert name in text
    assert "Changes:" in text


@pytest.mark.skipif("UNSPOOL_DATA_DIR" not in os.environ, reason="UNSPOOL_DATA_DIR names no directory of data sets")
def test_the_shipped_data_are_the_sources(tmp_path):
    source = Path(os.environ["UNSPOOL_DATA_DIR"]) / "japanese_vowels"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    for split in ("train", "test"):
        sequences, labels = read_ts(source / f"JapaneseVowels_{split.upper()}.ts")
        dataset = load_japanese_vowels(split)
        assert labels == [dataset.class_names[label] for label in dataset.labels.tolist()]
        for shipped, original in zip(dataset.sequences, sequences, strict=True):
            np.testing.assert_array_equal(shipped.numpy(), original.astype(np.float32))
            assert [[f"{value:.6f}" for value in step] for step in shipped.tolist()] == [
                [f"{value:.6f}" for value in step] for step in original.tolist()
            ]
