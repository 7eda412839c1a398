"""Help: 80 columns, flags as flags, defaults as they are; and it does not wait for PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.test_cli import words

PROGRAM = """
import json, sys
sys.argv = ["unspool"]  # as the script of that name does
import typer.main, typer.testing
from unspool.cli import app

def commands(command, path):
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, [*path, name])

paths = list(commands(typer.main.get_command(app), []))
pages = {" ".join(path): typer.testing.CliRunner().invoke(app, [*path, "--help"]).stdout for path in paths}
imported = [name for name in ("torch", "lightning", "numpy") if name in sys.modules]
import unspool
now = [type(getattr(unspool, name)).__name__ for name in ("GRU", "doctor", "program")]
print(json.dumps({"pages": pages, "imported": imported, "now": now, "torch": "torch" in sys.modules}))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_help_does_not_wait_for_pytorch_and_the_library_is_there_when_it_is_asked_for(found):
    assert len(found["pages"]) > 15
    assert found["imported"] == []
    assert found["now"] == ["ABCMeta", "function", "function"]
    assert found["torch"]


def test_the_package_as_a_command_does_not_wait_either():
    command = [sys.executable, "-X", "importtime", "-m", "unspool", "train", "vowels", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "unspool.cli.train" in imported
    assert "torch" not in imported


def test_pages_are_narrow_and_whole(found):
    for command, page in found["pages"].items():
        assert max(map(len, page.splitlines())) <= 80, command
        for part in ("…", "<bool>", "range>", "recipe's"):
            assert part not in page, command


def test_defaults_are_shown_as_they_are(found):
    pages = {command: words(page) for command, page in found["pages"].items()}
    for command, shown in {
        "train vowels": ["data. [default: 30]", "direction. [default: 128]", "[default: 0.005]", "vowels-lstm-dynamic"],
        "train imdb": ["[default: ragged; bucketed if improved]", "[default: 0.001; 0.005 if improved]"],
        "train text": ["[default: 6, or up to 100 for few texts]", "[default: a tenth of the data]"],
        "train shakespeare": ["start. [default: 64]", "direction. [default: 512]"],
    }.items():
        for part in shown:
            assert part in pages[command]
    assert "--resume Continue the run" in pages["train vowels"]
