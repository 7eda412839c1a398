"""Telling whether what a step has read still stands, and where its tensors are now.

While a step is read, the code that runs is known (`observe`), and so are the names of all attributes and globals that
it looks up. Whatever it can have read is what can be reached from the cell, and from the globals and outer variables of
that code, by attributes of these names. A guard holds that: for each such place what stood there. Values that cannot
change count by what they are equal to, classes and functions in C by identity, functions by their code and variables,
everything else by its type and by what it holds, read again in the same way. Tensors are not compared: a program takes
them from their places at each run, and only what it has taken over from them counts, their shape and dtype.

A guard is straight code, written once and compiled: it is asked before every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from types import CodeType
from typing import Any

from torch import Tensor

from unspool._reason import Reason
from unspool.program.code import with_nested
from unspool.program.guard_code import Look, Writer
from unspool.program.observe import Observer
from unspool.program.source import TraceError

Found = tuple[Tensor, ...]


class Guard:
    """Asks whether what a step has read still stands.

    Attributes
    ----------
    places : list of str
        What is looked at, as the user reaches it.
    source : str
        The code that is run.
    ask : callable
        Takes a cell, and gives the tensors that the program takes, or the number of the first place where something
        else stands now.
    """

    def __init__(self, writer: Writer, tensors: Iterable[Tensor]) -> None:
        self.places = writer.places
        self.source = writer.source(tensors)
        namespace = dict(writer.constants)
        exec(_compiled(self.source), namespace)
        self.ask: Callable[[Any], Found | int] = namespace["guard"]

    def __call__(self, cell: Any) -> Found | None:
        """Return the tensors that the program takes, in order, or None where something else stands now.

        Parameters
        ----------
        cell : cell
        """
        found = self.ask(cell)
        return None if type(found) is int else found  # type: ignore[return-value]

    def changed(self, cell: Any) -> str:
        """Return the first place where something else stands now, or "".

        Parameters
        ----------
        cell : cell
        """
        found = self.ask(cell)
        return self.places[found] if isinstance(found, int) else ""


@lru_cache(maxsize=256)
def _compiled(source: str) -> CodeType:
    """Compile the code of a guard, which cells of one kind have in common: what it compares with are its constants."""
    return compile(source, "<guard of a step>", "exec")


def guard_of(
    cell: Any,
    observer: Observer,
    tensors: list[Tensor],
    shaped: Iterable[Tensor] = (),
    contents: Iterable[Tensor] = (),
    looks: Iterable[Look] = (),
    written: Iterable[str] = (),
) -> Guard:
    """Write the guard of a step that was watched.

    Parameters
    ----------
    cell : cell
    observer : Observer
    tensors : list of Tensor
        What the program takes, in order.
    shaped : iterable of Tensor
        Tensors of which the step has asked the form only.
    contents : iterable of Tensor
        Tensors whose values the step has read.
    looks : iterable of Look
        What else the step has asked of tensors.
    written : iterable of str
        Places that do not count, since the step itself writes there.

    Returns
    -------
    Guard

    Raises
    ------
    TraceError
        If the step has reached something in a way that cannot be followed.
    """
    codes, taken = observer.codes.items(), {id(t): t for t in (*tensors, *shaped)}
    writer = Writer(codes, observer.by_name, written, taken, contents, looks)
    writer.write(cell)
    if taken.keys() - writer.reached.keys():  # by names that do not stand in the code, of parameters say
        writer = Writer(codes, True, written, taken, contents, looks)
        writer.write(cell)
    lost = [tensor for key, tensor in taken.items() if key not in writer.reached]
    if lost:
        what = f"a tensor of shape {list(lost[0].shape)} is reached in a way that cannot be followed"
        raise TraceError(what, "keep the tensor in an attribute of the cell")
    nested = set().union(*map(with_nested, writer.codes))
    for code, (_, whose) in codes:
        if whose == "user" and code not in nested:
            where = f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"
            what = Reason("is called in a way that cannot be followed", "keep it in an attribute of the cell")
            raise TraceError(what.about(code.co_qualname, where))
    return Guard(writer, tensors)
