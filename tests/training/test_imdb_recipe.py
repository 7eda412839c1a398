"""The recipe for film reviews, on a small archive of the same layout."""

from functools import partial

import pytest
import torch

from tests.data.test_imdb import archive, ranks
from unspool.data import RaggedBatch, load_imdb
from unspool.training import (
    RunError,
    SequenceData,
    SequenceNetwork,
    evaluate,
    fit,
    imdb_recipe,
    parameter_count,
    sources,
)

LENGTHS = [3, 9, 4, 4, 12, 6, 7, 3, 5, 9, 8, 4]


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """Reviews in which word 1 stands for one class and word 2 for the other."""
    generator = torch.Generator().manual_seed(0)
    reviews = [
        [1 + index % 2, *torch.randint(3, 40, (length - 1,), generator=generator).tolist()]
        for index, length in enumerate(LENGTHS * 4)
    ]
    labels = [index % 2 for index in range(len(reviews))]
    archive(tmp_path / "data", reviews, labels, x_test=ranks(reviews[:10]), y_test=torch.tensor(labels[:10]).numpy())
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "load_imdb", partial(load_imdb, sha256=None))
    return tmp_path / "data"


def small(**changes):
    return imdb_recipe(
        **{
            "input_size": 50,
            "embedding_size": 6,
            "num_steps": 10,
            "held_out": 8,
            "batch_size": 8,
            "epochs": 1,
            **changes,
        }
    )


@pytest.mark.parametrize(("model", "count"), [("lstm", 131_584), ("gru", 99_072), ("simple_rnn", 32_896)])
@pytest.mark.parametrize("execution", ["dynamic", "static"])
def test_the_published_numbers_of_parameters(model, count, execution):
    network = SequenceNetwork(imdb_recipe(model, execution))
    assert network.embedding is not None
    assert parameter_count(network.embedding) == 1_280_000
    assert parameter_count(network.recurrent) == count
    assert parameter_count(network.head) == 129


def test_the_published_training():
    recipe = imdb_recipe("lstm")
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (2, 32, 1e-3)
    assert (recipe.layers[0].input_dropout, recipe.layers[0].recurrent_dropout) == (0.2, 0.2)


@pytest.mark.parametrize(("batching", "execution"), [("ragged", "dynamic"), ("bucketed", "static")])
def test_every_way_of_batching_trains(batching, execution, data_dir, tmp_path):
    recipe = small(model="gru", execution=execution, batching=batching, checkpoint_every=3)
    result = fit(recipe, tmp_path / "run", data_dir=data_dir, accelerator="cpu", show=False)
    assert result.class_names == ("negative", "positive")
    again = evaluate(result.checkpoint, data_dir=data_dir, accelerator="cpu")
    assert again.accuracy == result.test_accuracy
    assert again.sequences == 10


@pytest.mark.parametrize(
    ("batching", "rows"), [("ragged", 8), ("padded", 8), ("bucketed", 8), ("same-length", 8), ("single", 1)]
)
def test_batches_are_what_their_name_says(batching, rows, data_dir):
    data = SequenceData(small(batching=batching), data_dir)
    batches = list(data.train_dataloader())
    assert sum(len(batch.lengths) for batch in batches) == 40
    assert max(len(batch.lengths) for batch in batches) == rows
    assert max(int(batch.lengths.max()) for batch in batches) == 10
    if batching == "same-length":
        assert all(len(batch.lengths.unique()) == 1 for batch in batches)
    if batching == "bucketed":
        spread = [int(batch.lengths.max() - batch.lengths.min()) for batch in batches]
        assert max(spread) <= 2
    assert all(isinstance(batch, RaggedBatch) == (batching != "padded") for batch in batches)


def test_static_batches_have_the_planned_number_of_steps(data_dir):
    data = SequenceData(small(execution="static", batching="bucketed"), data_dir)
    assert {batch.inputs.shape[1] for batch in data.train_dataloader()} == {10}


def test_static_and_dynamic_runs_end_with_the_same_figures(data_dir, tmp_path):
    runs = [
        fit(small(execution=execution), tmp_path / execution, data_dir=data_dir, accelerator="cpu", show=False)
        for execution in ("dynamic", "static")
    ]
    assert runs[0].val_loss == pytest.approx(runs[1].val_loss, rel=1e-4)
    assert runs[0].test_accuracy == runs[1].test_accuracy


def test_unknown_names_are_refused():
    with pytest.raises(RunError, match="received batching 'sorted'; expected one of ragged, padded, bucketed"):
        imdb_recipe(batching="sorted")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RunError, match="received variant 'best'; expected one of published, improved"):
        imdb_recipe(variant="best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(RunError, match="received dataset 'reuters'; expected one of"):
        SequenceData(imdb_recipe(dataset="reuters"))
