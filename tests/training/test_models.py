import pytest
import torch

from unspool.training import SequenceNetwork, mnist_recipe, parameter_count, vowels_recipe


@pytest.mark.parametrize("execution", ["dynamic", "static"])
@pytest.mark.parametrize(("model", "count"), [("simple_rnn", 206_858), ("lstm", 819_722), ("gru", 369_162)])
def test_the_mnist_models_have_the_published_numbers_of_parameters(model, count, execution):
    assert parameter_count(SequenceNetwork(mnist_recipe(model, execution))) == count


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("execution", ["dynamic", "static"])
@pytest.mark.parametrize("name", ["lstm", "gru", "simple_rnn"])
def test_padding_has_no_influence(name, execution, pooling):
    torch.manual_seed(0)
    model = SequenceNetwork(vowels_recipe(name, execution, hidden_size=5, pooling=pooling)).eval()
    inputs, lengths = torch.randn(3, 29, 12), torch.tensor([29, 7, 1])
    logits = model(inputs, lengths)
    assert logits.shape == (3, 9)
    changed = inputs.clone()
    for row, length in enumerate(lengths):
        changed[row, length:] = 1e3
    torch.testing.assert_close(model(changed, lengths), logits)
    alone = model(inputs[1:2, : 29 if execution == "static" else 7], lengths[1:2])
    torch.testing.assert_close(alone, logits[1:2])


def test_static_and_dynamic_are_the_same_function():
    dynamic = SequenceNetwork(vowels_recipe("lstm", "dynamic", hidden_size=5)).eval()
    static = SequenceNetwork(vowels_recipe("lstm", "static", hidden_size=5)).eval()
    static.load_state_dict(dynamic.state_dict())
    inputs, lengths = torch.randn(3, 29, 12), torch.tensor([29, 7, 1])
    torch.testing.assert_close(static(inputs, lengths), dynamic(inputs, lengths))


def test_inputs_are_raw_and_normalised_within():
    model = SequenceNetwork(vowels_recipe("gru", hidden_size=5)).eval()
    inputs, lengths = torch.randn(2, 4, 12), torch.tensor([4, 3])
    logits = model(inputs, lengths)
    model.normalise_by(torch.full((12,), 3.0), torch.full((12,), 2.0))
    torch.testing.assert_close(model(inputs * 2 + 3, lengths), logits)
    pixels = torch.randint(0, 256, (2, 28, 28), dtype=torch.uint8)
    digits = SequenceNetwork(mnist_recipe("simple_rnn")).eval()
    assert digits(pixels, torch.tensor([28, 28])).dtype == torch.float32


def test_noise_is_there_in_training_only():
    model = SequenceNetwork(vowels_recipe("gru", hidden_size=5))
    inputs, lengths = torch.randn(2, 4, 12), torch.tensor([4, 3])
    assert not torch.equal(model(inputs, lengths), model(inputs, lengths))
    model.eval()
    assert torch.equal(model(inputs, lengths), model(inputs, lengths))
