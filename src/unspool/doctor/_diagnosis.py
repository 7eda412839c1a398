"""What the doctor has found, and how it prints."""

from __future__ import annotations

from dataclasses import dataclass

from unspool._html import html_table
from unspool.doctor._padding import Padding


@dataclass(frozen=True)
class Timing:
    """How long a layer took, alone on its part of the sample: medians in seconds.

    Attributes
    ----------
    before, after : float
        As it is, and with what the doctor would change: accelerated, with the lengths that its input seems to have.
    training : bool
        Whether forward and backward were timed, or forward alone.
    """

    before: float
    after: float
    training: bool

    def __str__(self) -> str:
        passes = "forward and backward" if self.training else "forward"
        ratio = f"{self.before / self.after:.2f} times as fast"
        return f"{1e3 * self.before:.2f} ms as it is, {1e3 * self.after:.2f} ms changed: {ratio} ({passes})"


@dataclass(frozen=True)
class Finding:
    """One recurrent part of a model.

    Attributes
    ----------
    path : str
        Its name in the model, such as `encoder.rnn`; empty for the model itself and for what is no part of it.
    kind : str
        What it is: `torch.nn.LSTM`, `unspool.GRU`, ...
    calls : int
        How often the model called it.
    runs_on : str
        What runs it.
    held_up_by : tuple of str
        Why it is not something faster; empty where there is nothing faster.
    padding : Padding or None
        What it saw; None where that is not to be seen: a cell is called with single steps.
    changes : tuple of str
        What to change, one line each, in this order; in code `model` is what the doctor was given, `x` and `lengths`
        are what the part is called with. Empty where nothing is to be changed.
    timing : Timing or None
        Where it was measured.
    """

    path: str
    kind: str
    calls: int
    runs_on: str
    held_up_by: tuple[str, ...]
    padding: Padding | None
    changes: tuple[str, ...]
    timing: Timing | None = None

    @property
    def title(self) -> str:
        """Name, kind and number of calls."""
        calls = "called once" if self.calls == 1 else f"called {self.calls} times"
        return f"{self.path}: {self.kind}, {calls}" if self.path else f"{self.kind}, {calls}"

    def rows(self) -> list[tuple[str, str]]:
        """Return what is to be printed below the title: labels and texts; a label is empty where it goes on."""
        blocks = {
            "runs on": (self.runs_on,),
            "why not faster": self.held_up_by or ("nothing here is faster",),
            "padding": ("not to be seen" if self.padding is None else str(self.padding),),
            "measured": () if self.timing is None else (str(self.timing),),
            "change": self.changes or ("nothing",),
        }
        return [(label if k == 0 else "", text) for label, block in blocks.items() for k, text in enumerate(block)]


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor has found in one forward pass; `str()` gives a table.

    Attributes
    ----------
    findings : tuple of Finding
        One per recurrent part, in the order of their first calls.
    not_called : tuple of str
        A sentence for each recurrent module that this forward pass did not call.
    """

    findings: tuple[Finding, ...]
    not_called: tuple[str, ...]

    @property
    def changes(self) -> tuple[str, ...]:
        """What to change, all findings together, each line once."""
        return tuple(dict.fromkeys(line for finding in self.findings for line in finding.changes))

    @property
    def summary(self) -> str:
        """One line to end with."""
        if not self.findings:
            return "nothing recurrent was called"
        if not self.changes:
            return "nothing to change"
        return f"{len(self.changes)} {'thing' if len(self.changes) == 1 else 'things'} to change"

    def __str__(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(finding.title)
            lines += [f"  {label:<14}  {text}" for label, text in finding.rows()]
        return "\n".join([*lines, *self.not_called, self.summary])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [html_table(finding.title, finding.rows()) for finding in self.findings]
        return "".join([*tables, html_table(self.summary, [(sentence,) for sentence in self.not_called])])
