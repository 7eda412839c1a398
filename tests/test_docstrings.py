"""Every public name is documented: parameters, shapes, errors, papers; and the examples run."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

import unspool

PACKAGES = [
    "unspool",
    "unspool.cells",
    "unspool.execution",
    "unspool.backends",
    "unspool.layers",
    "unspool.program",
    "unspool.doctor",
    "unspool.data",
    "unspool.comparison",
    "unspool.report",
    "unspool.exporting",
    "unspool.interop",
    "unspool.training",
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


def test_everything_has_a_docstring():
    things = {**{name: importlib.import_module(name) for name in PACKAGES}, **PUBLIC, **methods}
    own = {name: vars(t).get("__doc__") if inspect.isclass(t) else t.__doc__ for name, t in things.items()}
    assert [name for name, text in own.items() if len((text or "").split()) < 3] == []


def parameters(thing: Any) -> list[str]:
    try:
        signature = inspect.signature(thing)
    except ValueError:  # classes without a signature of their own
        return []
    found = [p.name for p in signature.parameters.values() if p.name not in ("self", "args", "kwargs")]
    return [] if inspect.isclass(thing) and issubclass(thing, BaseException) else found


def test_every_parameter_is_mentioned():
    texts = {name: inspect.getdoc(thing) or "" for name, thing in PUBLIC.items()}
    named = [(name, p) for name, thing in PUBLIC.items() for p in parameters(thing)]
    assert [(name, p) for name, p in named if not re.search(rf"\b{re.escape(p)}\b", texts[name])] == []


def section(text: str, title: str) -> list[str]:
    """Return the names that a section of a docstring describes."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    lines = [line for line in found[1].splitlines() if line and not line[0].isspace()] if found else []
    return [name.strip().lstrip("*") for line in lines for name in line.split(" : ")[0].split(",")]


def test_nothing_is_described_that_is_no_parameter():
    """Of private functions either."""
    strange, described = [], 0
    for path in Path(unspool.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                names = section(ast.get_docstring(node) or "", "Parameters")
                taken = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                taken += [a for a in (node.args.vararg, node.args.kwarg) if a]
                described += len(names)
                strange += [(path.name, node.name, name) for name in names if name not in {a.arg for a in taken}]
    assert described > 500
    assert strange == []


def is_ours(thing: Any) -> bool:
    """Tell whether a class or function was written here; methods of dataclasses and NamedTuples are generated."""
    written = inspect.isclass(thing) or Path(inspect.unwrap(thing).__code__.co_filename).exists()
    return thing.__module__.startswith("unspool") and written


OURS = {name: thing for name, thing in {**PUBLIC, **methods}.items() if is_ours(thing)}
TENSOR = re.compile(r"^[\w*, ()\[\]]+ : .*\b(Tensor|ndarray|Parameter)\b|^(nesting of )?Tensor\b")
ANY_SHAPE = re.compile(r"\b(dict|mapping|nesting)( of|\b.* to)|\[k\]")  # of these each has a shape of its own


def test_every_tensor_has_a_shape():
    lines = [(name, line) for name, thing in OURS.items() for line in (inspect.getdoc(thing) or "").splitlines()]
    tensors = [(name, line) for name, line in lines if TENSOR.match(line)]
    assert [(name, line) for name, line in tensors if "shape" not in line and not ANY_SHAPE.search(line)] == []


def damage_error(node: ast.AST) -> str | None:
    """Return what becomes of all errors within a `with damage_as(...)`."""
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.With) else []
    names = [ast.unparse(c.args[0]) for c in calls if isinstance(c, ast.Call) and ast.unparse(c.func) == "damage_as"]
    return names[0] if names else None


@cache
def raised(function: FunctionType, depth: int = 2) -> set[type]:
    """Return the errors that a function raises: itself, and in the functions that it calls by name, and these."""
    function = inspect.unwrap(function)
    around = vars(sys.modules[function.__module__])
    found = set()
    source = inspect.getsource(function)
    nodes: list[ast.AST] = [ast.parse(f"if True:\n{source}" if source[0] == " " else source)]
    while nodes:
        node = nodes.pop()
        boundary = damage_error(node)
        nodes += [] if boundary else list(ast.iter_child_nodes(node))
        if boundary or (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            error = {**vars(builtins), **around}.get(boundary or ast.unparse(node.exc.func))  # type: ignore[union-attr]
            found |= {error} if inspect.isclass(error) else set()
        elif depth and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = around.get(node.func.id)
            if inspect.isfunction(helper) and helper.__module__.startswith("unspool"):
                found |= raised(helper, depth - 1)
    return found


def body(thing: Any) -> Any:
    """Return the function that runs when a public thing is called; None where that is not of this library."""
    if inspect.isclass(thing):
        thing = next((vars(thing)[name] for name in ("__post_init__", "__init__") if name in vars(thing)), None)
    return thing if thing is not None and is_ours(thing) else None


@cache  # not made where tests are only collected: it takes seconds
def raising() -> dict[str, set[type]]:
    return {name: errors for name, thing in OURS.items() if body(thing) and (errors := raised(body(thing)))}


def test_every_error_is_documented():
    silent = []
    for name, errors in raising().items():
        section = (inspect.getdoc(OURS[name]) or "").partition("Raises\n------")[2]
        for error in errors:
            kinds = {kind.__name__ for kind in error.__mro__} - {"Exception", "BaseException", "object"}
            silent += [] if kinds & set(re.findall(r"\w+", section)) else [(name, error.__name__)]
    assert silent == []


def test_errors_are_described_at_length():
    errors = [name for name, kind in PUBLIC.items() if inspect.isclass(kind) and issubclass(kind, Exception)]
    assert [name for name in errors if len((PUBLIC[name].__doc__ or "").split()) < 25] == []


CITING = [name for name in vars(unspool) if name.endswith("Cell") and name != "Cell"]


def test_cells_have_their_equations_and_papers():
    for name in CITING:
        text = inspect.getdoc(vars(unspool)[name]) or ""
        papers = text.partition("References\n----------\n")[2]
        assert ".. math::" in text, name
        assert re.search(r"\b(19|20)\d\d,\s+(arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/\S+)", papers), name


def test_there_are_errors_and_papers_to_check():
    assert {"unspool.dynamic_rnn", "unspool.LSTMCell.forward", "unspool.data.pad_sequences"} <= set(raising())
    assert {"LSTMCell", "GRUCell", "SimpleRNNCell", "ZoneoutCell"} <= set(CITING)


def modules() -> list[ModuleType]:
    places = {value.__module__ for value in PUBLIC.values() if value.__module__.startswith("unspool")}
    return [importlib.import_module(place) for place in sorted(places | set(PACKAGES))]


NAMES = {"torch": torch, "nn": nn, **{name: value for name, value in vars(unspool).items() if not name.startswith("_")}}


def test_the_examples_run():
    finder, report = doctest.DocTestFinder(exclude_empty=True), list[str]()
    found = [example for module in modules() for example in finder.find(module, extraglobs=NAMES) if example.examples]
    assert {"unspool.execution._run.dynamic_rnn", "unspool.cells._contract.Cell"} <= {e.name for e in found}
    results = [doctest.DocTestRunner().run(example, out=report.append) for example in found]
    assert all(result.attempted for result in results)
    assert not any(result.failed for result in results), "".join(report)
