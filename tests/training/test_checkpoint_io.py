import errno
import json
import os
import random
from pathlib import Path

import pytest
import torch

from tests.training.conftest import tiny
from unspool.training import AtomicCheckpointIO, RunError, fit, load_module
from unspool.training.checkpoint_io import read_checkpoint, write_text


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_write_that_fails_leaves_the_former_checkpoint(owner, name, tmp_path, monkeypatch):
    def fill_the_disk(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "folder" / "x.ckpt"
    plugin = AtomicCheckpointIO()
    plugin.save_checkpoint({"step": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fill_the_disk)
        with pytest.raises(RunError, match=r"cannot write .*x\.ckpt: No space left on device"):
            plugin.save_checkpoint({"step": 2}, path)
    assert [file.name for file in path.parent.iterdir()] == ["x.ckpt"]
    assert torch.load(path, weights_only=True) == {"step": 1}
    plugin.save_checkpoint({"step": 3}, str(path))
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert [file.name for file in path.parent.iterdir()] == ["x.ckpt"]


def test_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"received storage_options={}; expected None"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "x.ckpt", storage_options={})


def test_text_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "x.csv"
    write_text(path, "a\n")
    write_text(path, "b\n")
    assert path.read_bytes() == b"b\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_checkpoint_is_never_read(finished, tmp_path):
    content = (finished.directory / "last.ckpt").read_bytes()
    path = tmp_path / "x.ckpt"
    moments = random.Random(0)
    directory = content.rindex(b"PK\x01\x02") - 3000  # where most of what is no number lies
    places = [moments.randrange(len(content)) for _ in range(30)]
    places += [moments.randrange(directory, len(content)) for _ in range(60)]
    expected = torch.load(finished.directory / "last.ckpt", weights_only=True)["state_dict"]
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            weights = read_checkpoint(path)["state_dict"]
        except RunError as error:
            refused += str(error).startswith(f"{path}: ")
        else:  # bytes between the files, or times of theirs
            assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert refused > 30
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match="no checkpoint, or a damaged one"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it carries no recipe"),
        ({"hyper_parameters": None}, "it carries no recipe"),
        ({"hyper_parameters": {"recipe": {}, "class_names": []}}, "it carries no state_dict"),
        (torch.nn.Linear(1, 1), "it holds more than plain values"),
    ],
    ids=["a list", "no hyperparameters", "no weights", "a module"],
)
def test_checkpoints_of_others_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(RunError, match=rf"x\.ckpt: no checkpoint of `unspool train`: {message}"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_text_is_no_checkpoint(tmp_path):
    (tmp_path / "x.ckpt").write_text("hello\n")
    with pytest.raises(RunError, match=r"x\.ckpt: no checkpoint, or a damaged one"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": 5}, r"weights are not those of its recipe's model: input_mean is \[12\]; expected \[5\]"),
        ({"of_the_future": 1}, "no recipe of this version of unspool.*of_the_future"),
    ],
)
def test_checkpoints_of_other_versions_are_refused(change, message, finished, tmp_path):
    content = torch.load(finished.directory / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["recipe"].update(change)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(RunError, match=rf"x\.ckpt: .*{message}"):
        load_module(tmp_path / "x.ckpt")


def test_a_run_with_a_damaged_checkpoint_is_not_continued(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"half")
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(RunError, match=r"recipe\.json: no recipe, or a damaged one .*; start again with --overwrite"):
        fit(tiny(), tmp_path, resume=True)
    (tmp_path / "recipe.json").write_text(json.dumps(tiny().to_dict()))
    with pytest.raises(RunError, match=r"last\.ckpt: no checkpoint, or a damaged one .*; start again with --overwrite"):
        fit(tiny(), tmp_path, resume=True)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result\.json: no result of this version of unspool, or a damaged one"):
        fit(tiny(), tmp_path, resume=True)
