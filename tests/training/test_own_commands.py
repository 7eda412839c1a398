"""Tagged words, and a text, from the command line: train, resume, evaluate, predict, generate, report."""

from __future__ import annotations

import csv
import json
import random
import shlex

import pytest
import torch

from tests.test_cli import run, words
from tests.training.own_sentences import tagged, write_columns, write_conllu
from tests.training.own_texts import write_table
from tests.training.test_resume import Killed
from unspool.training import RunResult, SequenceModule, lm_recipe, tags_recipe

QUICK = ["--accelerator", "cpu", "--seed", "1"]
TAGS = ["train", "tags", "--data", "w.tsv", "--epochs", "6", "--hidden-size", "8", "--batch-size", "8", *QUICK]
LM = ["train", "lm", "--data", "my.txt", "--epochs", "2", "--hidden-size", "8", "--steps", "16", *QUICK]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    write_columns(tmp_path / "w.tsv", tagged())
    draw = random.Random(0)
    text = "".join(draw.choice(["ab", "cde\n"]) for _ in range(1000))
    (tmp_path / "my.txt").write_text(text)
    return tmp_path


def result_in(directory):
    result = RunResult.read(directory)
    assert result is not None
    return result


def next_commands(output):
    _, _, after = output.partition("next:\n")
    return [shlex.split(line)[1:] for line in after.splitlines()]


def test_tags_are_learnt_and_the_commands_that_are_printed_run(place):
    output = run(*TAGS).stdout
    directory = place / "runs/tags-w-lstm-dynamic-bucketed-seed1"
    assert result_in(directory).test_accuracy > 0.9
    predict, evaluate, report = next_commands(output)
    assert predict == ["predict", "runs/tags-w-lstm-dynamic-bucketed-seed1/best.ckpt", "--text", "TEXT"]
    assert "on 8 sequences" in run(*evaluate).stdout
    assert "report.html" in run(*report).stdout
    (place / "w.tsv").unlink()  # a checkpoint has all that new words need
    table = words(run(*predict[:-1], "Zoa is readjumping 7 .").stdout)
    for word, tag in [("Zoa", "PROPN"), ("is", "AUX"), ("readjumping", "VERB"), (".", "PUNCT")]:
        assert f"0 {word} {tag}" in table


def test_tags_are_predicted_from_files_of_each_form(place):
    run(*TAGS, "--output-dir", "run")
    sentences = tagged(3, seed=5)
    write_columns(place / "new.tsv", sentences)
    write_conllu(place / "new.conllu", sentences)
    (place / "new.txt").write_text("\n".join(" ".join(word for word, _ in sentence) for sentence in sentences))
    run("predict", "run/best.ckpt", "--input", "new.tsv", "new.conllu", "new.txt", "--output", "out.csv")
    with (place / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    number = sum(map(len, sentences))
    assert [row["file"] for row in rows] == ["new.tsv"] * number + ["new.conllu"] * number + ["new.txt"] * number
    parts = [[{k: row[k] for k in row if k != "file"} for row in rows[i * number :][:number]] for i in range(3)]
    assert parts[0] == parts[1] == parts[2]
    for row in rows:
        shares = {name.removeprefix("p_"): float(share) for name, share in row.items() if name.startswith("p_")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert max(shares, key=lambda name: shares[name]) == row["label"]
    assert [int(row["step"]) for row in parts[0][: len(sentences[0])]] == list(range(len(sentences[0])))


@pytest.mark.parametrize(("execution", "batching"), [("static", "padded"), ("dynamic", "single")])
def test_tags_in_other_executions_and_on_another_file(execution, batching, place):
    write_conllu(place / "w.conllu", tagged(20))
    write_conllu(place / "t.conllu", tagged(5, seed=3))
    options = ["--data", "w.conllu", "--test", "t.conllu", "--tag-column", "xpos", "--epochs", "1"]
    run(*TAGS, *options, "--execution", execution, "--batching", batching, "--output-dir", "run")
    assert "on 5 sequences" in run("evaluate", "run/best.ckpt").stdout
    if execution == "static":
        outcome = run("predict", "run/best.ckpt", "--text", "a " * 50, code=2)
        assert "text 0 has 50 steps; this model is unrolled for at most" in outcome.stderr


@pytest.mark.parametrize("command", [TAGS, LM], ids=["tags", "lm"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(command, place, monkeypatch):
    run(*command, "--output-dir", "whole")
    step = SequenceModule.training_step

    def killed(self, batch, batch_idx):
        if self.global_step == 13:
            raise Killed
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", killed)
        with pytest.raises(Killed):
            run(*command, "--checkpoint-every", "5", "--output-dir", "run")
    name = command[3]
    content = (place / name).read_text()
    (place / name).write_text(content + "\nx\tVERB\n")
    changed = run(*command, "--checkpoint-every", "5", "--output-dir", "run", "--resume", code=2)
    assert f"{place / name} has changed since the run in run was started" in changed.stderr
    (place / name).write_text(content)
    run(*command, "--checkpoint-every", "5", "--output-dir", "run", "--resume")
    whole, resumed = result_in(place / "whole"), result_in(place / "run")
    assert resumed.test_loss == whole.test_loss
    for key, weights in torch.load(whole.checkpoint)["state_dict"].items():
        assert torch.equal(weights, torch.load(resumed.checkpoint)["state_dict"][key]), key


def test_a_text_is_learnt_and_gone_on_with(place):
    output = run(*LM).stdout
    generate, evaluate, report = next_commands(output)
    assert generate[:2] == ["generate", "runs/lm-my-lstm-dynamic-seed1/best.ckpt"]
    assert "steps" in run(*evaluate).stdout
    assert "report.html" in run(*report).stdout
    text = run("generate", generate[1], "--prompt", "ab", "--length", "20").stdout
    assert set(text) <= set("abcde\n")
    assert len(text) == 23
    outcome = run("predict", generate[1], "--text", "ab", code=2)
    assert "unspool generate goes on with a text" in outcome.stderr
    outcome = run("generate", generate[1], "--prompt", "xyz", code=2)
    assert "expected one character or more of '\\nabcde'" in outcome.stderr


def test_sizes_follow_from_the_text(place):
    small = lm_recipe(place / "my.txt")
    assert (small.layers[0].hidden_size, small.batch_size, small.input_size, small.epochs) == (128, 1, 6, 36)
    (place / "long.txt").write_text("abcdefgh\n" * 120_000)
    long = lm_recipe(place / "long.txt", "gru")
    assert (long.layers[0].hidden_size, long.batch_size, long.epochs) == (512, 32, 4)
    tags = tags_recipe(place / "w.tsv")
    assert (tags.num_classes, tags.num_steps, tags.epochs, tags.held_out) == (6, 7, 100, 7)
    assert tags_recipe(place / "w.tsv", limit_train=10).alphabet_size < tags.alphabet_size


def test_names_by_their_characters(place):
    endings = {"it": ["rini", "lotti", "nelli"], "pl": ["owski", "ewicz", "czyk"]}
    starts = ["Ba", "Co", "Da", "Fe", "Ga", "Ma", "Na", "Pe"]
    rows = [(f"{start}{end}", label) for label, ends in endings.items() for end in ends for start in starts]
    write_table(place / "n.csv", rows)
    command = ["train", "text", "--data", "n.csv", "--tokenizer", "char", "--epochs", "15", "--batch-size", "8", *QUICK]
    run(*command, "--output-dir", "run")
    predicted = run("predict", "run/best.ckpt", "--text", "Zelotti", "--text", "Zelewicz", "--output", "o.json").stdout
    assert "wrote 2 predictions" in predicted
    objects = json.loads((place / "o.json").read_text())
    assert [one["label"] for one in objects] == ["it", "pl"]
    assert objects[0]["probabilities"].keys() == {"it", "pl"}


def test_checkpoints_whose_parts_do_not_fit_are_refused(place):
    run(*TAGS, "--epochs", "1", "--output-dir", "run")
    stored = torch.load(place / "run/best.ckpt", weights_only=True)
    fields = stored["hyper_parameters"]
    encoder = json.loads(fields["tokenizer"])

    def refusal(**changes):
        torch.save({**stored, "hyper_parameters": {**fields, **changes}}, place / "other.ckpt")
        return run("predict", "other.ckpt", "--text", "a b", code=2).stderr

    assert "expected one for a model of" in refusal(
        tokenizer=json.dumps({**encoder, "characters": "".join(map(chr, range(65, 300)))})
    )
    assert "no word encoder of unspool" in refusal(tokenizer="{}")
    assert "with character_size=0; expected 1 or more" in refusal(recipe={**fields["recipe"], "character_size": 0})
    assert "not those of its recipe's model" in refusal(recipe={**fields["recipe"], "alphabet_size": 5})


def test_a_model_of_tags_is_looked_at_by_the_doctor(place):
    run(*TAGS, "--epochs", "1", "--output-dir", "run")
    output = run("doctor", "run/best.ckpt").stdout
    assert "characters.layer: unspool.GRU" in output
    assert "recurrent.0: unspool.LSTM" in output


MISTAKES = {
    "no file": (["train", "tags", "--data", "none.tsv"], "none.tsv: no such file"),
    "three columns": (["train", "tags", "--data", "three.tsv"], "line 1: 3 columns; expected two"),
    "one sentence": (["train", "tags", "--data", "one.tsv"], "one.tsv: 1 different sentences; expected 3 or more"),
    "no column": (["train", "tags", "--data", "w.tsv", "--tag-column", "pos"], "received tag_column='pos'"),
    "another tag": (["train", "tags", "--data", "w.tsv", "--test", "one.tsv"], "line 1: the tag 'X'; expected one of"),
    "a short text": (["train", "lm", "--data", "one.tsv"], "8 characters, 6 of them different; expected 500"),
    "too many streams": (["train", "lm", "--data", "my.txt", "--batch-size", "400"], "for 400 streams; expected at"),
    "no window": (["train", "lm", "--data", "my.txt", "--steps", "0"], "Invalid value for '--steps'"),
    "a directory": (["train", "lm", "--data", "."], "a directory; expected a text file"),
    "an encoding": (["train", "lm", "--data", "my.txt", "--encoding", "utf-7000"], "received encoding='utf-7000'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_message_and_leave_nothing(mistake, place):
    (place / "three.tsv").write_text("a\tb\tc\n")
    (place / "one.tsv").write_text("a\tX\nb\tY\n")
    command, message = MISTAKES[mistake]
    before = sorted(path.name for path in place.iterdir())
    outcome = run(*command, code=2)
    if mistake != "no window":  # which typer finds
        assert outcome.stderr.startswith("error: ")
        assert outcome.stderr.count("error: ") == 1
    assert message in words(outcome.stderr)
    assert sorted(path.name for path in place.iterdir()) == before
