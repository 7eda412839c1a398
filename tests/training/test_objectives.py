"""What batches score, against sums worked out one by one."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from unspool.data import SequenceBatch, StepBatch, StreamBatch, collate_ragged
from unspool.training import Recipe, imdb_recipe
from unspool.training.models import NetworkOutput, SequenceNetwork
from unspool.training.objectives import objective
from unspool.training.recipes import LayerSpec

TOKENS = [[1, 5, 3], [1, 4], [1]]


def tokens_recipe(**changes) -> Recipe:
    return imdb_recipe("gru", input_size=7, embedding_size=4, num_steps=5, **changes)


def network(recipe: Recipe) -> SequenceNetwork:
    torch.manual_seed(0)
    return SequenceNetwork(recipe).eval()


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_ragged_and_padded_batches_score_the_same(pooling):
    net = network(tokens_recipe(pooling=pooling))
    samples = [(torch.tensor(row), label) for row, label in zip(TOKENS, (0, 1, 1), strict=True)]
    ragged = collate_ragged(samples)
    inputs, lengths = ragged.to_padded()
    padded = SequenceBatch(inputs, lengths, torch.tensor([0, 1, 1]))
    first, _ = objective(tokens_recipe()).score(net, ragged, None)
    second, _ = objective(tokens_recipe()).score(net, padded, None)
    torch.testing.assert_close(first, second)
    alone = torch.stack([net(row[None], torch.tensor([len(row)]))[0] for row, _ in samples])
    torch.testing.assert_close(first.loss, cross_entropy(alone, padded.labels))
    assert first.predicted.tolist() == alone.argmax(1).tolist()
    assert first.correct.tolist() == [float(p == t) for p, t in zip(first.predicted.tolist(), [0, 1, 1], strict=True)]
    assert float(first.accuracy) == pytest.approx(sum(first.correct.tolist()) / 3)


def test_one_output_for_two_classes_is_the_sigmoids_cross_entropy():
    net = network(tokens_recipe())
    assert net.head.out_features == 1
    inputs, lengths = torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1])
    logits = net(inputs, lengths)
    expected = binary_cross_entropy_with_logits(logits[:, 1], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([1, 0])), expected)


class Fixed(SequenceNetwork):
    """A network whose logits are given."""

    def __init__(self, recipe, logits):
        super().__init__(recipe)
        self.given = logits
        self.received = []

    def run(self, inputs, lengths=None, states=None):
        self.received.append(states)
        return NetworkOutput(self.given, (torch.ones(1, requires_grad=True) * (len(self.received)),))


def test_labels_of_padding_count_for_nothing():
    recipe = tokens_recipe(objective="labels-per-step", num_classes=3, pooling="none", binary_head=False)
    logits = torch.tensor([[[2.0, -1.0, 3.0], [1.0, 1.0, -9.0]], [[-2.0, 2.0, 2.0], [9.0, 9.0, 9.0]]])
    targets = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    batch = StepBatch(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([2, 1]), targets)
    scored, _ = objective(recipe).score(Fixed(recipe, logits), batch, None)
    steps = [(0, 0), (0, 1), (1, 0)]
    expected = sum(float(binary_cross_entropy_with_logits(logits[s], targets[s], reduction="sum")) for s in steps) / 3
    assert float(scored.loss) == pytest.approx(expected)
    assert scored.weight == 3
    # Right, missed and wrong labels: (1, 0, 1), (2, 0, 0) and (1, 0, 1).
    assert (scored.answers, float(scored.accuracy)) == (6, pytest.approx(4 / 6))
    assert scored.correct.tolist() == pytest.approx([3 / 4, 1 / 2])


def test_streams_carry_their_state_until_they_begin_anew():
    recipe = tokens_recipe(objective="next-token", num_classes=4, pooling="none", binary_head=False)
    net = Fixed(recipe, torch.eye(4)[None, :2])
    tokens = torch.tensor([[2, 0]])
    goal = objective(recipe)
    carried = None
    for first in (True, False, True):
        scored, carried = goal.score(net, StreamBatch(tokens, torch.tensor([[0, 3]]), first), carried)
        assert not carried[0].requires_grad
    assert net.received[0] is None
    assert [state.item() for state in net.received[1] or ()] == [1]
    assert net.received[2] is None
    # The logits are 1 for tokens 0 and 1, else 0: the first target is hit.
    total = math.log(math.e + 3)
    assert float(scored.loss) == pytest.approx(((total - 1) + total) / 2)
    assert (scored.weight, float(scored.accuracy)) == (2, 0.5)


def test_layers_run_on_from_carried_states():
    layer = LayerSpec(kind="lstm", hidden_size=3)
    recipe = tokens_recipe(
        objective="next-token", num_classes=7, pooling="none", binary_head=False, layers=(layer, layer)
    )
    net = network(recipe)
    tokens = torch.randint(7, (2, 6))
    whole = net.run(tokens, None)
    first = net.run(tokens[:, :4], None)
    second = net.run(tokens[:, 4:], None, first.states)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole.logits)
    torch.testing.assert_close(second.states, whole.states)
