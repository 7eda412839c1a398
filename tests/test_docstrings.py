"""Every public name is documented, with all of its parameters, and the examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import unspool

PACKAGES = [
    "unspool",
    "unspool.cells",
    "unspool.execution",
    "unspool.backends",
    "unspool.layers",
    "unspool.doctor",
    "unspool.data",
    "unspool.comparison",
    "unspool.report",
    "unspool.interop",
]


def exports(package: str) -> dict[str, Any]:
    """Return what a package re-exports, by its full name: classes and functions."""
    module = importlib.import_module(package)
    return {
        f"{package}.{name}": value
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    }


PUBLIC: dict[str, Any] = {}
for package in PACKAGES:  # a thing that is exported twice is checked once
    PUBLIC |= {name: value for name, value in exports(package).items() if value not in PUBLIC.values()}

methods = {
    f"{name}.{member}": function
    for name, kind in PUBLIC.items()
    if inspect.isclass(kind) and kind.__module__.startswith("unspool.")
    for member, function in vars(kind).items()
    if not member.startswith("_") and inspect.isfunction(function)
}


def test_there_is_something_to_check():
    assert len(PUBLIC) > 40
    assert "unspool.dynamic_rnn" in PUBLIC
    assert "unspool.LSTM.forward" not in methods  # inherited
    assert "unspool.LSTMCell.forward" in methods


@pytest.mark.parametrize("name", [*PACKAGES, *PUBLIC, *methods])
def test_it_has_a_docstring(name):
    thing = importlib.import_module(name) if name in PACKAGES else PUBLIC.get(name, methods.get(name))
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert text, f"{name} has no docstring of its own"
    assert len(text.split()) >= 3


def parameters(thing: Any) -> list[str]:
    try:
        signature = inspect.signature(thing)
    except ValueError:  # classes without a signature of their own
        return []
    found = [p.name for p in signature.parameters.values() if p.name not in ("self", "args", "kwargs")]
    return [] if inspect.isclass(thing) and issubclass(thing, BaseException) else found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_parameter_is_mentioned(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    missing = [p for p in parameters(PUBLIC[name]) if not re.search(rf"\b{re.escape(p)}\b", text)]
    assert not missing, f"{name} does not mention {missing}"


def modules() -> list[ModuleType]:
    places = {value.__module__ for value in PUBLIC.values() if value.__module__.startswith("unspool")}
    return [importlib.import_module(place) for place in sorted(places | set(PACKAGES))]


NAMES = {"torch": torch, "nn": nn, **{name: value for name, value in vars(unspool).items() if not name.startswith("_")}}
EXAMPLES = [
    example
    for module in modules()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=NAMES)
    if example.examples
]


def test_there_are_examples():
    assert {"unspool.execution._dynamic.dynamic_rnn", "unspool.cells._contract.Cell"} <= {e.name for e in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_examples_run(example):
    report: list[str] = []
    result = doctest.DocTestRunner().run(example, out=report.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)
