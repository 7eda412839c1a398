"""One's own sequences, from the command line: train, resume, evaluate, predict, report, and what is refused."""

from __future__ import annotations

import csv
import json
import shlex

import numpy as np
import pytest
import torch

from tests.docs.pages import PAGES, blocks
from tests.test_cli import run, words
from tests.training.own_sequences import machines, write_files, write_rows
from tests.training.test_resume import Killed
from unspool.data import DataError, Sequences
from unspool.training import RunResult, SequenceModule, fit, sequences_recipe
from unspool.training.sequence_parts import SequenceEncoder, divide

QUICK = ["--epochs", "4", "--hidden", "8", "--accelerator", "cpu", "--seed", "1"]
LONG = ["--data", "machines.csv", "--sequence-column", "machine", "--features", "vibration,temperature"]
TRAIN = ["train", "sequences", *LONG, "--target", "state", *QUICK, "--output-dir"]

LEAKY = """import torch


class Leaky(torch.nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.size = hidden_size
        self.enter = torch.nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, batch_size, *, device=None, dtype=None):
        return torch.zeros(batch_size, self.size, device=device, dtype=dtype)

    def forward(self, x, state):
        state = 0.5 * state + 0.5 * torch.tanh(self.enter(torch.cat([x, state], -1)))
        return state, state
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = machines()
    write_rows(tmp_path / "machines.csv", rows)
    write_rows(tmp_path / "new.csv", machines(4, seed=1), ("site", "state", "hours", "phase"))
    write_files(tmp_path / "recordings", rows, lambda row: f"{row['state']}/{row['machine']}.csv")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("machine", "state"), *sorted({(f"{row['machine']}.csv", row["state"]) for row in rows})]
        )
    (tmp_path / "my_cells.py").write_text(LEAKY)
    return tmp_path


def result_in(directory):
    result = RunResult.read(directory)
    assert result is not None
    return result


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def page_commands():
    for block in blocks(PAGES["docs/own-data.md"]):
        if block.language == "bash":
            for line in block.code.replace("\\\n", " ").splitlines():
                yield shlex.split(line)[1:]


def test_commands_of_the_page(place):
    for command in page_commands():
        short = ["--epochs", "2"] if command[0] == "train" and "--epochs" not in command else []
        output = run(*command, *short).stdout
        if command[0] == "train":
            _, _, after = output.partition("next:\n")
            predict, evaluate, report = (shlex.split(line)[1:] for line in after.splitlines())
            assert (predict[0], evaluate[0], report[0]) == ("predict", "evaluate", "report")
    split = json.loads((place / "runs/machines/split.json").read_text())
    assert sorted(name for part in split.values() for name in part) == [f"m{number:03d}" for number in range(48)]
    sites = [{int(name[1:]) // 4 for name in part} for part in split.values()]
    assert not sites[0] & sites[1] | sites[0] & sites[2] | sites[1] & sites[2]
    for row in table(place / "classes.csv"):
        shares = {name[2:]: float(share) for name, share in row.items() if name.startswith("p_")}
        assert row["label"] == max(shares, key=shares.__getitem__)
        assert abs(sum(shares.values()) - 1) < 1e-5
        assert row["id"].startswith("m00")
    assert len(table(place / "phases.csv")) == len(machines())
    assert (place / "runs/phases/report.html").exists() or run("report", "runs/phases")
    run("report", "runs/hours")
    assert set(result_in(place / "runs/hours").metrics) == {"MSE", "RMSE", "MAE", "R2"}
    run("predict", "runs/own/last.ckpt", "--input", "recordings")


def test_classes_are_learnt_and_evaluated(place):
    output = words(run(*TRAIN, "run", "--epochs", "60").stdout)
    assert "sequences: 30 train, 8 validation, 10 test; 8 to 19 steps of 2 features" in output
    assert "missing values: 'temperature'" in output
    result = result_in(place / "run")
    assert result.test_accuracy > 0.8
    assert "macro F1" in words(run("evaluate", "run/last.ckpt").stdout)
    assert f"{result.metrics['macro F1']:.4g}" in words(run("evaluate", "run/last.ckpt").stdout)


def test_numbers_come_back_in_their_units(place):
    command = ["train", "sequences", *LONG, "--task", "regress", "--target", "hours", *QUICK, "--epochs", "60"]
    run(*command, "--output-dir", "run")
    result = result_in(place / "run")
    assert result.metrics["R2"] > 0.7
    assert result.metrics["RMSE"] == pytest.approx(result.metrics["MSE"] ** 0.5)
    run("predict", "run/last.ckpt", "--input", "machines.csv", "--output", "p.csv")
    found = {row["id"]: float(row["value"]) for row in table(place / "p.csv")}
    tested = json.loads((place / "run/split.json").read_text())["test"]
    true = {row["machine"]: row["hours"] for row in machines()}
    errors = [abs(found[name] - float(str(true[name]))) for name in tested]
    assert np.mean(errors) == pytest.approx(result.metrics["MAE"], rel=1e-4)


def test_a_run_that_was_killed_goes_on_to_the_same_end(place, monkeypatch):
    run(*TRAIN, "whole")
    step = SequenceModule.training_step

    def killed(self, batch, batch_idx):
        if self.global_step == 6:
            raise Killed
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceModule, "training_step", killed)
        with pytest.raises(Killed):
            run(*TRAIN, "run", "--checkpoint-every", "2")
    content = (place / "machines.csv").read_text()
    (place / "machines.csv").write_text(content + "m999,0,1,1,site 1,ok,1,up\n")
    assert "has changed since" in run(*TRAIN, "run", "--checkpoint-every", "2", "--resume", code=2).stderr
    (place / "machines.csv").write_text(content)
    run(*TRAIN, "run", "--checkpoint-every", "2", "--resume")
    whole, resumed = result_in(place / "whole"), result_in(place / "run")
    assert resumed.test_loss == whole.test_loss
    assert resumed.metrics == whole.metrics
    weights = torch.load(whole.checkpoint)["state_dict"]
    for name, value in torch.load(resumed.checkpoint)["state_dict"].items():
        assert torch.equal(value, weights[name]), name


def test_training_ends_early_and_stays_ended(place):
    recipe = sequences_recipe("machines.csv", sequence_column="machine", features="vibration", target="state")
    recipe = recipe.replace(patience=2, epochs=40, learning_rate=0.0, tested="best")
    result = fit(recipe, "run", show=False, accelerator="cpu")
    assert len((place / "run/metrics.csv").read_text().splitlines()) < 20
    assert result.epoch == 1
    (place / "run/result.json").unlink()
    again = fit(recipe, "run", resume=True, show=False, accelerator="cpu")
    assert (again.test_loss, again.epoch) == (result.test_loss, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--target", "stat"], "state"),
        (["--data", "none.csv"], "no such file"),
        (["--features", "vibration,minut"], "minute"),
        (["--target", "minute", "--task", "classify", "--features", "vibration"], "expected one for all of its rows"),
        (["--test", "new.csv"], "state"),
        (["--cell", "nothing:Here"], "nothing:Here"),
        (["--cell", "os:abort"], "expected a class of torch.nn.Module"),
        (["--labels", "none.csv"], "none.csv"),
    ],
)
def test_bad_input_is_refused_with_one_message_and_nothing_written(place, change, expected):
    outcome = run(*TRAIN, "run", *change, code=2)
    assert expected in words(outcome.stderr)
    assert outcome.stderr.count("error: ") == 1
    assert not (place / "run").exists()


def test_a_class_that_would_not_be_trained_on_is_refused():
    targets = np.array([0, 1] * 10 + [2])
    names = tuple(f"s{place}" for place in range(len(targets)))
    sequences = Sequences(
        [np.ones((2, 1)) for _ in names], ("x",), names, targets=targets, class_names=("a", "b", "rare")
    )
    held = {"validation": 19}  # all but one of each of the others
    with pytest.raises(DataError, match="none of the 1 sequences of the class 'rare' is left for training"):
        divide(sequences, held)


def test_long_sequences_are_shortened_with_a_notice(place):
    draw = np.random.default_rng(0)
    arrays = {f"s{i}": draw.normal(i % 2, 1, (2500 + i, 1)).astype("float32") for i in range(12)}
    np.savez(place / "long.npz", labels=np.array(["a", "b"] * 6), **arrays)  # pyright: ignore[reportArgumentType]
    output = run("train", "sequences", "--data", "long.npz", *QUICK, "--output-dir", "run").stdout
    assert "every 3 steps become one" in words(output)
    run("predict", "run/last.ckpt", "--input", "long.npz")


def test_the_encoder_keeps_means_and_deviations_of_strides_and_compresses_what_is_far_out():
    draw = np.random.default_rng(0)
    values = draw.normal(0, 1, (1000, 2))
    values[3, 1] = 1e6
    train = Sequences([values], ("plain", "wild"), ("a",))
    encoder = SequenceEncoder.fit(train, {"missing": "mean", "stride": 3})
    encoder = SequenceEncoder.from_json(encoder.to_json())
    assert list(encoder.units) == ["wild"]
    (inputs,) = encoder.inputs(train)
    scaled = (values[:, 0] - values[:, 0].mean()) / values[:, 0].std()
    wild = np.arcsinh(values[:, 1] / np.median(np.abs(values[:, 1])))
    wild = (wild - wild.mean()) / wild.std()
    assert inputs.shape == (334, 4) == (334, encoder.input_size)
    for step in (0, 1, 333):
        span = slice(3 * step, 3 * step + 3)
        expected = [scaled[span].mean(), wild[span].mean(), scaled[span].std(), wild[span].std()]
        np.testing.assert_allclose(inputs[step], expected, rtol=1e-4, atol=1e-5)


def test_a_single_sequence_with_targets_of_steps_is_divided_in_time(place):
    rows = [row | {"machine": "one", "minute": place} for place, row in enumerate(machines())]
    write_rows(place / "one.csv", rows)
    command = ["train", "sequences", "--data", "one.csv", "--task", "label-steps", "--time-column", "minute"]
    run(*command, "--features", "vibration", "--target", "phase", *QUICK, "--epochs", "60", "--output-dir", "run")
    split = json.loads((place / "run/split.json").read_text())
    assert split["validation"] == split["test"]
    assert len(split["train"]) > 1
    assert result_in(place / "run").test_accuracy > 0.8
