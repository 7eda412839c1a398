"""Networks of checkpoints as ONNX files: from raw sequences to the classes that `predict` names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from rich.console import Console

import unspool as us
from tests.training.conftest import tiny
from unspool.data import encode_names, load_japanese_vowels
from unspool.exporting import OnnxFile
from unspool.training import (
    RunError,
    SequenceModule,
    SequenceNetwork,
    export,
    fit,
    names_recipe,
    vowels_recipe,
)
from unspool.training.export import Normalise, WithZero, chain
from unspool.training.tables import print_export


def read(path: Any, name: str) -> Any:
    return json.loads(onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map[name])


@torch.no_grad()
def test_a_file_reads_raw_utterances_step_by_step(finished, tmp_path):
    file = export(finished.checkpoint, tmp_path / "vowels.onnx", streaming=True)
    engine = onnxruntime.InferenceSession(str(file.path))
    test = load_japanese_vowels("test")
    assert read(file.path, "class_names") == list(test.class_names)
    assert read(file.path, "recipe") == finished.recipe.to_dict()
    module = SequenceModule.load_from_checkpoint(finished.checkpoint).eval()
    for sequence in test.sequences[:3]:
        state, logits = file.initial_state(1), np.empty(0)
        for step in sequence.float():
            logits, *new = engine.run(None, {"input": step[None].numpy(), **state})
            state = dict(zip(state, new, strict=True))
        torch.testing.assert_close(torch.from_numpy(logits), module(sequence[None].float().cpu(), None).cpu())


@torch.no_grad()
def test_an_unrolled_model_takes_any_number_of_steps(tmp_path):
    result = fit(tiny(execution="static", epochs=1), tmp_path / "run", accelerator="cpu", show=False)
    file = export(result.checkpoint)
    assert file.path == result.checkpoint.with_suffix(".onnx")
    assert file.inputs == {"input": ["batch", "steps", 12], "lengths": ["batch"]}
    assert file.outputs == {"output": ["batch", 9]}


def network(**changes: Any) -> SequenceNetwork:
    torch.manual_seed(0)
    return SequenceNetwork(vowels_recipe("lstm", hidden_size=5).replace(**changes)).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "last"},
        {"pooling": "mean"},
        {"pooling": "max", "embedding_size": 4, "input_size": 12},
        {"pooling": "none"},
        {"pooling": "last", "binary_head": True, "num_classes": 2},
    ],
)
@torch.no_grad()
def test_a_chain_says_at_every_step_what_the_network_says_of_all_steps_so_far(changes):
    model = network(**changes)
    x = torch.randint(12, (3, 7)) if "embedding_size" in changes else torch.randn(3, 7, 12)
    expected = [model(x[:, : steps + 1]) for steps in range(7)]
    stream = us.stream(chain(model), 3, stepwise=(Normalise, WithZero))
    for step, logits in zip(x.unbind(1), expected, strict=True):
        last = logits[:, -1] if changes["pooling"] == "none" else logits
        torch.testing.assert_close(stream.step(step), last)


def test_what_a_user_of_a_model_of_characters_needs_is_in_the_file(tmp_path, monkeypatch):
    recipe = names_recipe("gru", hidden_size=4)
    module = SequenceModule(recipe.to_dict(), [f"language {k}" for k in range(recipe.num_classes)])
    monkeypatch.setattr(sys.modules[chain.__module__], "load_module", lambda checkpoint: module.eval())
    file = export("names.ckpt", tmp_path / "names.onnx", int8=True)
    vocabulary = read(file.path, "vocabulary")
    (expected,) = encode_names(["O' Żoß"])
    assert [vocabulary[character] for character in "O' Żoß"] == expected.tolist()
    with pytest.raises(RunError, match=r"names.ckpt: its layers are bidirectional \(names\).* without --streaming"):
        export("names.ckpt", tmp_path / "names.onnx", streaming=True)


def test_what_cannot_be_written_is_refused(finished, tmp_path):
    with pytest.raises(RunError, match=r"\.ckpt: there is no directory .*missing"):
        export(finished.checkpoint, tmp_path / "missing" / "a.onnx")
    with pytest.raises(RunError, match="no such checkpoint"):
        export(tmp_path / "a.ckpt")
    with pytest.raises(RunError, match="received to='tflite'; expected 'onnx'"):
        export(finished.checkpoint, to="tflite")  # type: ignore[arg-type]


def test_a_file_that_was_not_compared_says_so():
    console = Console(record=True, width=200)
    print_export(console, OnnxFile(Path("[b]a.onnx"), 12345, {"input": ["batch", 3]}, {"output": [1]}, None, {}))
    text = console.export_text()
    assert "not compared with the model: onnxruntime is not installed" in text
    assert "wrote [b]a.onnx (12,345 bytes)" in text
