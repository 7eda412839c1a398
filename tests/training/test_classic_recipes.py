"""The recipes for the classic data sets, on small files of the same layout."""

import json
from functools import cache

import pytest
import torch

from tests.training.small_sets import MAKERS, TEXT, WRITERS, small_recipe
from tests.training.test_resume import Killed, assert_same_run, kill_at_step
from unspool.data.datasets.chorales import PITCHES
from unspool.training import (
    Recipe,
    RunError,
    SequenceData,
    SequenceNetwork,
    digits_recipe,
    evaluate,
    fit,
    generate,
    load_module,
    parameter_count,
    predict,
    promoters_recipe,
)
from unspool.training.objectives import objective

CLASSIFIERS = ("digits", "names", "splice", "promoters")


@pytest.fixture
def data_dir(request, monkeypatch, tmp_path):
    """A directory with the small files of the data set that the test is about."""
    WRITERS[request.param](monkeypatch, tmp_path / "data")
    return tmp_path / "data"


def of(*names):
    """Run a test for several data sets."""
    return pytest.mark.parametrize(("name", "data_dir"), [(name, name) for name in names], indirect=["data_dir"])


BATCHINGS = ("ragged", "padded", "bucketed", "same-length", "single")
WAYS = [(batching, execution) for batching in BATCHINGS for execution in ("dynamic", "static")]
"""Of batching and running; data sets take turns."""


def run(recipe, directory, data_dir, **options):
    return fit(recipe, directory, data_dir=data_dir, accelerator="cpu", show=False, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the checkpoint of a model of a data set, which is trained once."""

    @cache
    def train(name):
        directory = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            WRITERS[name](patch, directory / "data")
            return run(small_recipe(name), directory / "run", directory / "data").checkpoint

    return train


def sequences(rows):
    return [tuple(rows[index][0].tolist()) for index in range(len(rows))]


@pytest.mark.parametrize("model", ["lstm", "gru", "simple_rnn"])
@pytest.mark.parametrize("execution", ["dynamic", "static"])
@pytest.mark.parametrize("name", MAKERS)
def test_recipes_are_plain_values(name, model, execution):
    recipe = MAKERS[name](model, execution)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert parameter_count(SequenceNetwork(recipe)) > 0
    with pytest.raises(RunError, match="received model 'tcn'"):
        MAKERS[name]("tcn")
    with pytest.raises(RunError, match="received execution 'eager'"):
        MAKERS[name](model, "eager")


def test_runs_of_different_tasks_have_different_names():
    assert digits_recipe(batching="padded").name == "digits-log_mel-gru-dynamic-seed0"
    assert digits_recipe(features="frames").name == "digits-frames-gru-dynamic-bucketed-seed0"
    assert promoters_recipe(fold=3).name == "promoters-fold3-gru-dynamic-seed0"


@pytest.mark.parametrize(
    ("name", "data_dir", "batching", "execution"),
    [(name, name, *way) for k, way in enumerate(WAYS) for name in [CLASSIFIERS[k % 4]]],
    indirect=["data_dir"],
)
def test_classifiers_train_however_rows_are_batched(name, batching, execution, data_dir, tmp_path):
    recipe = small_recipe(name, execution=execution, batching=batching, limit_train=12)
    result = run(recipe, tmp_path / "run", data_dir)
    again = evaluate(result.checkpoint, data_dir=data_dir, accelerator="cpu")
    assert (again.accuracy, again.loss) == (result.test_accuracy, pytest.approx(result.test_loss, rel=1e-5))
    assert again.confusion is not None
    assert sum(map(sum, again.confusion)) == again.sequences


@of("names")
def test_a_few_epochs_learn_the_small_names(name, data_dir, tmp_path):
    result = run(small_recipe(name, epochs=5, hidden_size=16), tmp_path / "run", data_dir)
    assert result.class_names == ("Czech", "Dutch")
    assert result.test_accuracy == 1.0


@of("digits")
def test_frames_are_other_features(name, data_dir, tmp_path):
    result = run(small_recipe(name, features="frames", limit_train=12), tmp_path / "run", data_dir)
    assert load_module(result.checkpoint).model.input_mean.shape == (200,)
    with pytest.raises(RunError, match="received features 'mfcc'; expected one of log_mel, frames"):
        digits_recipe(features="mfcc")  # pyright: ignore[reportArgumentType]


@of("names", "splice")
def test_equal_rows_are_held_out_together(name, data_dir):
    data = SequenceData(small_recipe(name), data_dir)
    parts = [sequences(rows) for rows in (data.train, data.validation, data.test)]
    assert len(set(parts[0])) < len(parts[0]), "there are equal rows"
    seen = [set(part) for part in parts]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]
    assert len(parts[1]) >= 4


@of("promoters")
def test_each_fold_tests_other_rows(name, data_dir):
    tested = []
    for fold in range(4):
        data = SequenceData(small_recipe(name, fold=fold, folds=4), data_dir)
        assert (len(data.train), len(data.validation), len(data.test)) == (11, 4, 5)
        tested += sequences(data.test)
    assert len(tested) == len(set(tested)) == 20


@pytest.mark.parametrize(("fold", "folds"), [(10, 10), (-1, 10), (0, 107)])
def test_folds_that_there_are_not_are_refused(fold, folds):
    with pytest.raises(RunError, match=rf"received fold {fold} of {folds}; expected 0 to {folds - 1}"):
        promoters_recipe(fold=fold, folds=folds)


@pytest.mark.parametrize(("batching", "execution"), [("padded", "static"), ("bucketed", "dynamic")])
@of("chorales")
def test_chorales_train_however_they_are_batched(name, batching, execution, data_dir, tmp_path):
    result = run(small_recipe(name, execution=execution, batching=batching), tmp_path / "run", data_dir)
    assert result.class_names == PITCHES
    again = evaluate(result.checkpoint, data_dir=data_dir, accelerator="cpu")
    assert (again.accuracy, again.loss) == (result.test_accuracy, pytest.approx(result.test_loss, rel=1e-5))
    assert (again.confusion, again.sequences, again.steps) == (None, 6, 4 + 5 + 6 + 7 + 8 + 2)


@of("chorales")
def test_the_loss_of_a_chord_is_that_of_all_its_keys(name, data_dir, tmp_path):
    """A model that knows nothing pays 88 ln 2 for a chord; after some epochs it is much less."""
    recipe = small_recipe(name, hidden_size=32, epochs=10, learning_rate=2e-2)
    torch.manual_seed(0)
    network = SequenceNetwork(recipe)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.zero_()
    data = SequenceData(recipe, data_dir)
    batch = next(iter(data.val_dataloader()))
    scored, _ = objective(recipe).score(network, batch, None)
    assert float(scored.loss.detach()) == pytest.approx(88 * torch.log(torch.tensor(2.0)).item(), rel=1e-5)
    result = run(recipe, tmp_path / "run", data_dir)
    assert result.test_loss < 10


def test_chorales_are_not_ragged():
    with pytest.raises(RunError, match="received batching 'ragged'; expected one of bucketed, padded"):
        MAKERS["chorales"](batching="ragged")
    with pytest.raises(RunError, match="'ragged' for chorales, which has a target for every step"):
        SequenceData(MAKERS["chorales"]().replace(batching="ragged"))


@of("shakespeare")
def test_shakespeare_learns_a_line_by_heart_and_goes_on_with_it(name, data_dir, tmp_path):
    recipe = small_recipe(name, execution="static", hidden_size=32, epochs=10, learning_rate=3e-2)
    result = run(recipe, tmp_path / "run", data_dir)
    assert result.class_names == tuple(sorted(set(TEXT)))
    assert result.test_accuracy > 0.8
    again = evaluate(result.checkpoint, data_dir=data_dir, accelerator="cpu")
    assert again.accuracy == result.test_accuracy
    assert again.steps == 6 * ((len(TEXT) - len(TEXT) * 95 // 100 - 1) // 6)
    prompt = TEXT[:30]
    added = "".join(generate(result.checkpoint, prompt, length=20, temperature=0))
    assert prompt + added == TEXT[:50]


def test_generated_text_depends_on_the_seed_and_the_whole_prompt(trained):
    checkpoint = trained("shakespeare")

    def text(prompt="To be", **options):
        return "".join(generate(checkpoint, prompt, length=30, **options))

    assert text() == text()
    assert len({text(seed=seed) for seed in range(3)}) == 3
    assert text(temperature=1e-4) == text(temperature=0)
    module = load_module(checkpoint)
    numbers = torch.tensor([[module.class_names.index(character) for character in "To be, or"]])
    with torch.inference_mode():
        for _ in range(3):
            logits = module.model.run(numbers, None).logits
            numbers = torch.cat([numbers, logits[:, -1:].argmax(-1)], 1)
    expected = "".join(module.class_names[number] for number in numbers[0].tolist())
    assert "To be, or" + "".join(generate(checkpoint, "To be, or", length=3, temperature=0)) == expected
    for arguments, message in [
        (("",), "received the prompt ''; expected one character or more of"),
        (("Ω",), "received the prompt 'Ω'"),
        (("To", 0), "received length=0"),
        (("To", 3, -1.0), "temperature=-1.0; expected at least 1 and 0"),
    ]:
        with pytest.raises(RunError, match=message):
            generate(checkpoint, arguments[0], **dict(zip(("length", "temperature"), arguments[1:], strict=False)))


@of("shakespeare")
def test_streams_have_their_limits(name, data_dir, tmp_path):
    recipe = small_recipe(name)
    data = SequenceData(recipe.replace(limit_train=200), data_dir)
    assert len(data.train) == 200
    assert [batch.first for batch in data.train_dataloader()] == [True, False, False]
    with pytest.raises(RunError, match=r"shakespeare: received \d+ tokens for 5000 streams; .* Use fewer streams"):
        run(recipe.replace(batch_size=5000), tmp_path / "run", data_dir)
    with pytest.raises(RunError, match="received devices=2; shakespeare is read as streams, on one device"):
        run(recipe, tmp_path / "run", data_dir, devices=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["chorales", "shakespeare"])
def test_a_model_without_classes_is_not_asked_for_one(name, trained, tmp_path):
    with pytest.raises(RunError, match=rf"the model \({name}, lstm\) predicts something after every step"):
        predict(trained(name), tmp_path / "x.npy")


def test_only_language_models_go_on_with_a_text(trained):
    with pytest.raises(RunError, match=r"\(chorales, lstm\) does not predict the next token"):
        generate(trained("chorales"), "To be")


@pytest.mark.parametrize(
    ("name", "data_dir", "model", "limit"),
    [("chorales", "chorales", "gru", None), ("shakespeare", "shakespeare", "lstm", 400)],
    indirect=["data_dir"],
)
def test_killed_runs_resume_to_the_same_end(name, model, limit, data_dir, tmp_path, monkeypatch):
    """Killed between checkpoints, where streams carry a state, and again where an epoch begins."""
    recipe = small_recipe(name, model=model, epochs=2, checkpoint_every=2, log_every=1, limit_train=limit)
    reference = run(recipe, tmp_path / "reference", data_dir)
    steps = torch.load(tmp_path / "reference" / "last.ckpt", weights_only=True)["global_step"]
    assert steps % 2 == 0
    for step in (3, steps // 2, steps // 2 + 3):
        with monkeypatch.context() as patch:
            kill_at_step(step)(patch)
            with pytest.raises(Killed):
                run(recipe, tmp_path / "run", data_dir, resume=True)
    if name == "shakespeare":
        carried = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["carried"]
        assert float(torch.as_tensor(carried[0][0]).abs().sum()) > 0, "the test must be about a carried state"
    run(recipe, tmp_path / "run", data_dir, resume=True)
    assert_same_run(tmp_path / "run", reference)
