"""Telling which backend runs a model, and why each other one does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unspool._html import html_table
from unspool._nest import describe
from unspool.backends import Decision, recording
from unspool.cells import is_cell
from unspool.execution._run import dynamic_rnn
from unspool.program.rehearse import rehearsed


@dataclass(frozen=True)
class Explanation:
    """The decisions that one forward pass has taken; `str()` gives a table.

    Attributes
    ----------
    decisions : tuple of Decision
        One per run of a cell over time: per layer and direction.
    """

    decisions: tuple[Decision, ...]

    def __str__(self) -> str:
        if not self.decisions:
            return "no cell was run over time; of PyTorch's own recurrent modules unspool.doctor(model, ...) tells more"
        lines = []
        for decision in self.decisions:
            lines.append(f"{decision.call}\n  runs on {decision.chosen}")
            for name, reasons in decision.reasons.items():
                if name != decision.chosen:
                    auto = decision.asked == "auto"
                    able = "others come first" if auto else f"backend={decision.asked!r} was asked for"
                    lines.append(f"  not on {name}: " + ("; ".join(reasons) or able))
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.decisions:
            return html_table(str(self), [])
        rows = []
        for decision in self.decisions:
            others = {name: reasons for name, reasons in decision.reasons.items() if name != decision.chosen}
            why = "; ".join(f"not on {name}: {', '.join(reasons)}" for name, reasons in others.items() if reasons)
            rows.append((decision.call, decision.chosen, why))
        return html_table("which backend runs what", rows, ("call", "runs on", "why"))


def explain(model: Any, *args: Any, **kwargs: Any) -> Explanation:
    """Tell which backend runs a cell, a layer or a whole model on these inputs.

    The model is run once, so the answer is what happens, not a guess; what the run changes (attributes, buffers, random
    states) is put back. What the model prints, writes to files or takes from iterators stays done. What runs an
    accelerated module may depend on whether gradients are recorded: call this under `torch.no_grad()` for inference.

    Parameters
    ----------
    model : cell, layer or Module
        A cell is run by `dynamic_rnn`.
    *args, **kwargs
        What the model is called with. For a cell, the arguments of `dynamic_rnn`; `lengths` may be written for
        `sequence_length`.

    Returns
    -------
    Explanation
        Prints as a table: for each run of a cell over time the backend, and the reasons of every other one.

    Raises
    ------
    TypeError
        If the model is a class, or cannot be called.
    Exception
        Whatever the call itself raises on these inputs.

    Examples
    --------
    >>> print(explain(GRU(3, 5), torch.randn(4, 2, 3), lengths=[4, 1]))  # doctest: +ELLIPSIS
    GRUCell over [4, 2, 3] (T, B, ...), dynamic, ragged
      runs on ...
      not on ...
    """
    if isinstance(model, type) or not callable(model):
        what = f"the class {model.__name__}" if isinstance(model, type) else describe(model)
        raise TypeError(f"model is {what}; expected a cell, a layer, a model or a function that runs them.")
    call = model
    if is_cell(model):
        if "lengths" in kwargs:
            kwargs["sequence_length"] = kwargs.pop("lengths")
        args = (model, *args)
        call = dynamic_rnn
    with rehearsed(model), recording() as decisions:
        call(*args, **kwargs)
    return Explanation(tuple(decisions))
