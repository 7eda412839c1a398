"""The commands that pages name are there, with the options that they are given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer

from tests.docs.pages import PAGES, ROOT, command_lines
from unspool.cli import app

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
UNSPOOL: Any = typer.main.get_command(app)
EXTRAS = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE))


def commands(first: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the pages' commands that begin with these words, as page and the words after them."""
    for page, text in PAGES.items():
        for line in command_lines(text):
            if line == first or line.startswith(first + " "):
                yield page, shlex.split(line.removeprefix(first))


def once(first: str) -> list[Any]:
    """Return each of these commands once, as a test's parameter."""
    return [
        pytest.param(words, id=" ".join([first, *words])[:80])
        for words in sorted({tuple(words) for _, words in commands(first)})
    ]


def options(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


@pytest.mark.parametrize("words", once("unspool"))
def test_commands_of_unspool(words):
    command, rest = UNSPOOL, list(words)
    while rest and re.fullmatch(r"\w+", rest[0]) and hasattr(command, "commands"):
        for name in rest.pop(0).split("|"):
            assert name in command.commands, f"unspool has no command {name}"
            command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert not set(options(words)) - known


@pytest.mark.parametrize("words", once("make"))
def test_targets_of_make(words):
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    assert not [target for target in targets if not re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE)]


@pytest.mark.parametrize("words", once("python"))
def test_scripts_and_their_options(words):
    words = [word for word in words if word != "-"]
    if not words:
        return  # reads a program from the lines after it
    module = words[0] == "-m"
    path = words[1].replace(".", "/") + ".py" if module else words[0]
    path = "src/unspool/__main__.py" if path == "unspool.py" else path
    assert (ROOT / path).exists()
    own = words[2 if module else 1 :]
    own = own[: own.index("--")] if "--" in own else own  # after it come another command's
    text = (ROOT / path).read_text(encoding="utf-8")
    for option in options(own):  # as argparse has it, or as a parameter of a typer command
        assert f'"{option}"' in text or f"{option[2:].replace('-', '_')}: Annotated" in text, f"{path} has no {option}"


@pytest.mark.parametrize("words", once("pip"))
def test_extras_are_there(words):
    assert words[0] == "install"
    for word in words:
        if extras := re.search(r"\[(.+)\]", word):
            assert not set(extras[1].split(",")) - EXTRAS


def test_there_is_something_to_check():
    assert all(len(once(first)) > 1 for first in ("unspool", "make", "python", "pip"))
