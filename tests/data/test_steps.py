import pytest
import torch

from unspool.data import BatchLoader, BucketBatchSampler, DataError, StepLabelledDataset, collate


def dataset(lengths=(3, 1, 2)):
    return StepLabelledDataset(
        [torch.full((length, 2), 1.0 + row) for row, length in enumerate(lengths)],
        [torch.full((length, 3), -1.0 - row) for row, length in enumerate(lengths)],
    )


def test_sizes_and_items():
    data = dataset()
    assert (len(data), data.input_size, data.target_size) == (3, 2, 3)
    assert data.lengths.tolist() == [3, 1, 2]
    inputs, targets = data[2]
    assert inputs.tolist() == [[3, 3]] * 2
    assert targets.tolist() == [[-3] * 3] * 2


def test_batches_are_padded_with_zeros():
    data = dataset()
    batch = collate(data[row] for row in range(3))
    assert batch.lengths.tolist() == [3, 1, 2]
    assert batch.inputs[:, :, 0].tolist() == [[1, 1, 1], [2, 0, 0], [3, 3, 0]]
    assert batch.targets[:, :, 2].tolist() == [[-1, -1, -1], [-2, 0, 0], [-3, -3, 0]]
    longer = collate([data[0]], pad_to=5)
    assert (longer.inputs.shape, longer.targets.shape) == ((1, 5, 2), (1, 5, 3))
    with pytest.raises(DataError, match="a sequence of 3 steps; expected at most 2"):
        collate([data[0]], pad_to=2)


def test_a_loader_makes_batches_of_like_length():
    data = dataset((5, 1, 6, 2))
    loader = BatchLoader(data, BucketBatchSampler(data.lengths, [4], 2, shuffle=False), collate)
    assert [batch.lengths.tolist() for batch in loader] == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ([], [], "received 0 inputs and 0 targets"),
        ([(2, 3)], [(2, 1), (2, 1)], "received 1 inputs and 2 targets"),
        ([(2, 3), (2, 4)], [(2, 1), (2, 1)], r"inputs 1 have shape \(2, 4\)"),
        ([(2,)], [(2, 1)], r"inputs 0 have shape \(2,\)"),
        ([(2, 3), (2, 3)], [(2, 1), (3, 1)], r"targets 1 have shape \(3, 1\); expected \(2, values\)"),
        ([(2, 3), (2, 3)], [(2, 1), (2, 2)], r"targets 1 have shape \(2, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, targets, message):
    with pytest.raises(DataError, match=message):
        StepLabelledDataset([torch.zeros(shape) for shape in inputs], [torch.zeros(shape) for shape in targets])
