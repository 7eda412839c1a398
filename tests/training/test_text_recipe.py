"""The recipe for one's own texts."""

import json

import pytest
import torch

from tests.refusal import refused
from tests.training.own_texts import reviews, small, write_table
from unspool.data import DataError, TextTokenizer
from unspool.training import Recipe, RunError, SequenceData, SequenceModule, evaluate, fit, text_parts, text_recipe


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)


@pytest.fixture
def path(tmp_path):
    return write_table(tmp_path / "reviews.csv", reviews())


def parts(recipe, data_dir=None):
    return text_parts.load_parts(recipe.options, recipe.held_out, recipe.limit_train, data_dir)


def run(recipe, directory, **named):
    return fit(recipe, directory, accelerator="cpu", show=False, **named)


def test_a_tenth_is_for_the_test_and_a_tenth_of_the_rest_is_held_out(path):
    divided = parts(text_recipe(path))
    assert {part: torch.bincount(texts.labels).tolist() for part, texts in divided.items()} == {
        "train": [24, 25],
        "validation": [3, 2],
        "test": [3, 3],
    }
    together = [text for texts in divided.values() for text in texts.texts]
    assert sorted(together) == sorted(text for text, _ in reviews())
    again = parts(text_recipe(path, seed=5, model="lstm"))
    assert [texts.texts for texts in again.values()] == [texts.texts for texts in divided.values()]


def test_equal_texts_are_in_one_part(tmp_path):
    divided = parts(text_recipe(write_table(tmp_path / "x.csv", reviews() * 3)))
    kinds = [set(texts.texts) for texts in divided.values()]
    assert sum(map(len, kinds)) == len(set.union(*kinds)) == 60
    assert [len(texts) for texts in divided.values()] == [147, 15, 18]


def test_the_tokenizer_knows_the_training_texts_alone(tmp_path):
    rows = [(f"{label} word{number}{label}", label) for number in range(10) for label in ("yes", "no")]
    path = write_table(tmp_path / "x.csv", rows)
    for limit in (None, 4):
        recipe = text_recipe(path, limit_train=limit)
        data = SequenceData(recipe)
        data.load()
        train = parts(recipe)["train"]
        assert len(data.train) == len(train) == (limit or 16)
        # Each text has two words: one of its class, and one of its own.
        assert recipe.input_size == 4 + 2 + len(train)
        assert all(2 in inputs for inputs, _ in (data.test[0], data.validation[0]))
        assert not any(2 in data.train[index][0] for index in range(len(train)))


def test_sizes_follow_from_the_file(path):
    recipe = text_recipe(path)
    assert recipe.name == "text-reviews-gru-dynamic-ragged-seed0"
    assert recipe.options["classes"] == ["bad", "good"]
    assert (recipe.num_classes, recipe.held_out, recipe.options["test_texts"]) == (2, 5, 6)
    assert recipe.epochs == 100
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert text_recipe(path, tokenizer="bpe", num_words=270).input_size == 270
    assert text_recipe(path, num_words=7).input_size == 7


@pytest.mark.parametrize(("batching", "execution"), [("ragged", "static"), ("padded", "dynamic")])
def test_ragged_and_padded_batches_train(batching, execution, path, tmp_path):
    result = run(small(path, execution=execution, batching=batching), tmp_path / "run")
    assert result.class_names == ("bad", "good")
    again = evaluate(result.checkpoint, accelerator="cpu")
    assert (again.accuracy, again.sequences) == (result.test_accuracy, 6)


@pytest.mark.parametrize(("tokenizer", "num_words"), [("word", 100), ("bpe", 300)])
def test_it_learns(tokenizer, num_words, path, tmp_path):
    recipe = small(path, tokenizer=tokenizer, num_words=num_words, max_length=30, epochs=12, learning_rate=2e-2)
    assert run(recipe, tmp_path / "run").test_accuracy >= 0.8


def test_another_file_to_test_on(path, tmp_path):
    test = write_table(tmp_path / "test.csv", [("A fine end", "good"), ("A fine cast", "good")])
    result = run(small(path, test=test), tmp_path / "run")
    assert result.recipe.options["test_texts"] == 0
    evaluation = evaluate(result.checkpoint, accelerator="cpu")
    assert evaluation.confusion is not None
    assert [sum(row) for row in evaluation.confusion] == [0, 2]
    assert len(parts(result.recipe)["train"]) == 54
    write_table(test, [("A fine end", "great")])
    with refused(DataError, "test.csv, row 1", "the label 'great'; expected one of 'bad', 'good'"):
        small(path, test=test)


def test_a_checkpoint_carries_the_tokenizer_and_the_classes(path, tmp_path, monkeypatch):
    result = run(small(path), tmp_path / "run")
    stored = torch.load(result.checkpoint, weights_only=True)["hyper_parameters"]
    assert stored["class_names"] == ["bad", "good"]
    assert TextTokenizer.from_json(stored["tokenizer"]).vocabulary_size == result.recipe.input_size
    monkeypatch.setattr(text_parts.TextTokenizer, "train", None)  # evaluation makes none of its own
    assert evaluate(result.checkpoint, accelerator="cpu").accuracy == result.test_accuracy


def test_a_file_that_has_moved_is_found_again(path, tmp_path):
    result = run(small(path), tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / path.name)
    with refused(DataError, f"{path}: no such file; the run was trained on it", "--data-dir"):
        evaluate(result.checkpoint, accelerator="cpu")
    again = evaluate(result.checkpoint, data_dir=moved.parent, accelerator="cpu")
    assert again.accuracy == result.test_accuracy
    write_table(path, reviews()[:20])  # another file in the old place is passed over
    assert evaluate(result.checkpoint, data_dir=moved.parent, accelerator="cpu").sequences == 6
    with refused(DataError, f"{path}: not what the run was trained on", "sha256", "Put the former content back"):
        evaluate(result.checkpoint, accelerator="cpu")


def test_a_run_goes_on_with_the_data_it_began_with(path, tmp_path, monkeypatch):
    whole = run(small(path, epochs=2), tmp_path / "whole")
    step = SequenceModule.training_step

    class Killed(BaseException):
        pass

    def killed(self, batch, batch_idx):
        if self.global_step == 10:  # in the second epoch
            raise Killed
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", killed)
        with pytest.raises(Killed):
            run(small(path, epochs=2), tmp_path / "run")
    content = path.read_bytes()
    path.write_bytes(content + b"One more.,good\n")
    with refused(RunError, f"{path} has changed since the run in", "Put the former content back", "--output-dir"):
        run(small(path, epochs=2), tmp_path / "run", resume=True)
    path.write_bytes(content)
    with refused(RunError, "has other settings (num_steps: 10 there, 9 here)"):
        run(small(path, epochs=2, max_length=9), tmp_path / "run", resume=True)
    resumed = run(small(path, epochs=2), tmp_path / "run", resume=True)
    for name, weights in torch.load(whole.checkpoint)["state_dict"].items():
        assert torch.equal(weights, torch.load(resumed.checkpoint)["state_dict"][name]), name


def test_too_few_texts_are_refused(tmp_path):
    rows = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y")]
    path = write_table(tmp_path / "few.csv", rows)
    with refused(DataError, "few.csv: too few different texts of the class 'y': 2; expected 3 or more", "and test"):
        text_recipe(path)
    test = write_table(tmp_path / "test.csv", rows)
    assert len(parts(text_recipe(path, test=test))["train"]) == 3
    write_table(path, [*rows[:4], ("d", "y")])
    with refused(DataError, "texts of the class 'y': 1; expected 2 or more, for training and validation"):
        text_recipe(path, test=test)


@pytest.mark.parametrize("counts", [(3, 3), (3, 3, 3, 3, 3), (40, 3), (3, 200, 5), (9, 4, 3)])
def test_every_class_is_trained_on(counts, tmp_path):
    rows = [(f"text {label} {number}", f"c{label}") for label, count in enumerate(counts) for number in range(count)]
    divided = parts(text_recipe(write_table(tmp_path / "x.csv", rows)))
    assert min(torch.bincount(divided["train"].labels, minlength=len(counts)).tolist()) > 0
    assert min(map(len, divided.values())) >= len(counts)


def test_unknown_names_are_refused(path):
    with refused(RunError, "received tokenizer 'letters'; expected one of word, bpe"):
        text_recipe(path, tokenizer="letters")  # pyright: ignore[reportArgumentType]
    with refused(RunError, "received model 'tcn'"):
        text_recipe(path, "tcn")  # pyright: ignore[reportArgumentType]
    with refused(RunError, "received max_length=0; expected 1 or more"):
        text_recipe(path, max_length=0)
    with refused(DataError, "num_words=259; expected num_words from 260 on"):
        text_recipe(path, tokenizer="bpe", num_words=259)


def test_any_script_line_end_and_byte_order_mark(tmp_path):
    words = {"καλό 👍": "Ήταν μια ωραία ταινία", "[bold]スキ": "とても いい 映画 でした", "سيئ": "كان فيلما سيئا"}
    rows = [f"{text} {number},{name}" for name, text in words.items() for number in range(6)]
    path = tmp_path / "κριτικές.csv"
    path.write_bytes("\r\n".join(["\ufefftext,label", *rows, ""]).encode())
    result = run(small(path), tmp_path / "run")
    assert result.class_names == ("[bold]スキ", "καλό 👍", "سيئ")
    tokenizer = TextTokenizer.from_json(str(torch.load(result.checkpoint)["hyper_parameters"]["tokenizer"]))
    assert 2 not in tokenizer.encode("ήταν, μια Ωραία! كان とても")
