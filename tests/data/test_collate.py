from typing import Any

import numpy as np
import pytest
import torch

from unspool.data import DataError, SequenceDataset, collate, pad_sequences, sequence_mask, stratified_split


def ragged(*lengths, width=3):
    return [torch.arange(1.0, 1 + length * width).reshape(length, width) for length in lengths]


def test_padding_follows_each_sequence_and_nothing_else_changes():
    sequences = ragged(2, 4, 1)
    batch = collate(zip(sequences, [5, 6, 7], strict=True))
    assert batch.inputs.shape == (3, 4, 3)
    assert batch.lengths.tolist() == [2, 4, 1]
    assert batch.labels.tolist() == [5, 6, 7]
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(batch.inputs[row, : len(sequence)], sequence, rtol=0, atol=0)
        assert not batch.inputs[row, len(sequence) :].any()


@pytest.mark.parametrize("lengths", [(2, 4), (3, 3)])
def test_pad_to_fixes_the_number_of_steps(lengths):
    inputs, received = pad_sequences(ragged(*lengths), pad_to=6)
    assert inputs.shape == (2, 6, 3)
    assert received.tolist() == list(lengths)
    assert not inputs[0, lengths[0] :].any()


def test_bytes_stay_bytes():
    inputs, _ = pad_sequences([torch.ones(2, 1, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.uint8)])
    assert inputs.dtype == torch.uint8


def test_a_sequence_longer_than_pad_to_is_refused():
    with pytest.raises(DataError, match="received a sequence of 4 steps; expected at most 3"):
        pad_sequences(ragged(2, 4), pad_to=3)


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="received no sequences"):
        pad_sequences([])


def test_data_set_gives_sequences_and_labels():
    dataset = SequenceDataset(ragged(2, 4), torch.tensor([1, 0]), ["a", "b"])
    assert len(dataset) == 2
    assert dataset.input_size == 3
    assert dataset[1][0].shape == (4, 3)
    assert dataset[1][1] == 0
    assert dataset.subset([1]).labels.tolist() == [0]


def test_subset_of_one_array():
    images = torch.arange(24).reshape(4, 3, 2)
    subset = SequenceDataset(images, torch.tensor([0, 1, 0, 1]), ["a", "b"]).subset([3, 0])
    assert subset[0][0].tolist() == images[3].tolist()
    assert subset.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        (ragged(2, 4), [0], "2 sequences and 1 labels"),
        ([], [], "received no sequences"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], [0, 1], r"sequence 1 has shape \(2, 4\); expected \(steps, 3\)"),
        (ragged(2, 4), [0, 2], "labels run from 0 to 2; expected 0 to 1"),
    ],
)
def test_data_set_refuses_what_does_not_fit(sequences, labels, message):
    with pytest.raises(DataError, match=message):
        SequenceDataset(sequences, torch.tensor(labels), ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "names", "kept", "sample"),
    [
        (np.array([1, 0], np.uint8), "ab", torch.tensor([1, 0]), 1),
        (["b", "a"], "abc", torch.tensor([1, 0]), 1),
        (np.array(["late", "early"]), None, torch.tensor([1, 0]), 1),
        ([1.5, 2.0], None, torch.tensor([1.5, 2.0]), torch.tensor(1.5)),
        (np.array([[1.0, 2], [3, 4]]), None, torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64), None),
        (None, None, None, None),
    ],
)
def test_labels_are_classes_names_numbers_or_nothing(labels, names, kept, sample):
    dataset = SequenceDataset(ragged(2, 4), labels, names)
    batch = collate([dataset[0], dataset[1]])
    if kept is None:
        assert dataset.labels is batch.labels is dataset[0][1] is None
    else:
        torch.testing.assert_close(dataset.labels, kept, rtol=0, atol=0)
        torch.testing.assert_close(batch.labels, kept, rtol=0, atol=0)
    assert sample is None or dataset[0][1] == sample
    assert len(dataset[-1:]) == 1
    assert torch.equal(dataset[-1:].sequences[0], dataset[1][0])


def test_targets_for_every_step_are_padded_with_what_losses_leave_out():
    dataset = SequenceDataset(ragged(2, 3), targets=[["b", "a"], ["a", "a", "b"]])
    batch: Any = collate([dataset[0], dataset[1]], pad_to=4)
    assert dataset.class_names == ("a", "b")
    assert batch.targets.tolist() == [[1, 0, -100, -100], [0, 0, 1, -100]]
    assert (batch.targets != -100).equal(sequence_mask(batch.lengths, 4))
    numbers = SequenceDataset(ragged(2, 3), targets=[torch.ones(2), torch.ones(3)])
    padded: Any = collate(numbers[row] for row in (0, 1))
    assert padded.targets.tolist() == [[1, 1, 0], [1, 1, 1]]
    with pytest.raises(DataError, match="received a length of 3; expected at most 2"):
        sequence_mask(batch.lengths, 2)


@pytest.mark.parametrize(
    ("labels", "named", "message"),
    [
        ([0.0, 1.7], {"class_names": "ab"}, r"labels .* type torch.float32 for 2 classes; expected one whole number"),
        ([0, 1], {}, "labels of type torch.int64 and no class_names; expected the names"),
        (["a", "x"], {"class_names": "ab"}, "labels have the class 'x'; expected one of 'a', 'b'"),
        ([None, "a"], {}, "labels of type object"),
        ([0.5, float("nan")], {}, "received a label that is no finite number"),
        (None, {"targets": [[0, 1], [0, 1]], "class_names": "ab"}, r"sequence 1 have shape \(2,\); .* its 4 steps"),
        (
            None,
            {"targets": [[0, -1], [0] * 4], "class_names": "ab"},
            "targets of sequence 0 run from -1 to 0; expected",
        ),
        ([0, 1], {"targets": [[0, 1], [0] * 4], "class_names": "ab"}, "received labels and targets"),
    ],
)
def test_what_would_have_to_be_cut_or_guessed_is_refused(labels, named, message):
    with pytest.raises(DataError, match=message):
        SequenceDataset(ragged(2, 4), labels, **named)


def test_a_batch_has_labels_for_all_or_none():
    with pytest.raises(DataError, match="received 1 samples of 2 without a target"):
        collate([(torch.zeros(1, 1), 0), (torch.zeros(1, 1), None)])


def test_stratified_split_takes_every_class_its_share():
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 30)
    kept, held = stratified_split(labels, 12)
    assert sorted(kept + held) == list(range(60))
    assert torch.bincount(labels[held]).tolist() == [2, 4, 6]
    assert stratified_split(labels, 12) == (kept, held)
    assert stratified_split(labels, 12, seed=1) != (kept, held)


def test_stratified_split_gives_exactly_as_many_as_asked():
    labels = torch.tensor([0] * 7 + [1] * 5 + [2] * 3)
    for held_out in range(1, 15):
        assert len(stratified_split(labels, held_out)[1]) == held_out
    with pytest.raises(DataError, match="expected 1 to 14 of 15 rows"):
        stratified_split(labels, 15)
