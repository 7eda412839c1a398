"""What functions read, by their instructions, and whose they are."""

from __future__ import annotations

import ast
import collections
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

import unspool
from unspool.program.code import owner, owner_of, owner_of_module, reads_of, with_nested


def looks_around(self: Any, other: Any) -> Any:
    import math

    global _COUNT
    _COUNT = self.count + math.pi
    del self.gone
    self.put = [inner.deep for inner in other.many]
    return len(other)


_COUNT = 0.0


def test_all_names_that_stand_in_a_function():
    reads = reads_of(looks_around.__code__)
    assert {"count", "pi", "gone", "put", "many"} <= reads.attributes
    assert reads.globals == {"len"}
    assert reads.imports == {"math"}
    assert reads.written == ("_COUNT",)
    assert not any((reads.by_pattern, reads.by_identity, reads.by_value, reads.catches))
    everything = frozenset().union(*(reads_of(code).attributes for code in with_nested(looks_around.__code__)))
    assert "deep" in everything


def catches(a: Any) -> Any:
    try:
        return a.b
    except AttributeError:
        return None


def matches(a: Any) -> Any:
    match a:
        case ast.Name(id=name):
            return name


def compares(a: Any, b: Any) -> bool:
    return a is not b


def compares_with_nothing(a: Any) -> bool:
    return a is None


def test_ways_of_reading_that_names_do_not_tell():
    found = {f: reads_of(f.__code__) for f in (catches, matches, compares, compares_with_nothing)}
    assert [f for f in found if found[f].catches] == [catches]
    assert [f for f in found if found[f].by_pattern] == [matches]
    assert [f for f in found if found[f].by_identity] == [compares]


@dataclasses.dataclass
class Made:
    """Its `__init__` stands in no file."""

    x: int


def test_whose_code_is():
    assert owner(looks_around.__code__.co_filename) == "user"
    for function, whose in (
        (nn.Linear.forward, "torch"),
        (np.mean.__wrapped__, "numpy"),  # type: ignore[attr-defined]
        (unspool.LSTMCell.forward, "unspool"),
        (collections.Counter.update, "python"),
        (Made.__init__, "user"),
        (collections.namedtuple("Pair", "a b").__new__, "python"),
    ):
        assert owner_of(function.__code__, function.__globals__) == whose, function
    assert owner_of_module("__main__") == owner_of_module("tests.program") == "user"
    assert owner_of_module("torch.nn") == "torch"
    assert owner_of(compile("0", "<a cell of a notebook>", "exec"), {"__name__": "__main__"}) == "user"


def test_installed_packages_are_not_python():
    assert owner(torch.__file__) == "torch"
    assert owner(torch.__file__.replace("/torch/", "/somebody/")) == "user"
