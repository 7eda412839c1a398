"""What was measured: plain values, for a table, a report or a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from unspool.comparison._errors import ComparisonError
from unspool.comparison._settings import SettingsValues

FORMAT = 1

CaseStatus = Literal["measured", "over_limit", "failed", "not_tried"]
Outcome = Literal["runs", "rebuilds", "refused", "failed"]
Mode = Literal["padded", "bucketed", "same-length", "single", "ragged"]


@dataclass(frozen=True)
class ContenderResult:
    """Who took part.

    Attributes
    ----------
    name : str
    kind : {"dynamic", "static"}
        Whether the number of steps is data, or part of what is built.
    library : str
    status : {"measured", "skipped"}
    reason : str or None
        Why it was skipped.
    """

    name: str
    kind: Literal["dynamic", "static"]
    library: str
    status: Literal["measured", "skipped"]
    reason: str | None = None


@dataclass(frozen=True)
class ScalingResult:
    """One contender at one number of steps; no figures unless `status` is "measured".

    Attributes
    ----------
    contender : str
    steps : int
        T.
    status : {"measured", "over_limit", "failed", "not_tried"}
    reason : str or None
        Why there are no figures.
    build_s, first_call_s : float or None
        Seconds to construct the layer or graph, and of the first training step.
    step_s, step_low_s, step_high_s : float or None
        Seconds of a training step after that: median and quartiles.
    peak_mb : float or None
        How far resident memory grew above what it was before the build, in MB; None where that cannot be measured.
    graph_nodes : int or None
        None where no graph is kept.
    max_error : float or None
        Largest difference from the reference in outputs and gradients, each relative to its largest value.
    """

    contender: str
    steps: int
    status: CaseStatus
    reason: str | None = None
    build_s: float | None = None
    first_call_s: float | None = None
    step_s: float | None = None
    step_low_s: float | None = None
    step_high_s: float | None = None
    peak_mb: float | None = None
    graph_nodes: int | None = None
    max_error: float | None = None


@dataclass(frozen=True)
class LongerResult:
    """What a contender that was built for some steps does when a longer sequence comes.

    Attributes
    ----------
    contender : str
    built_for, given : int
        Steps.
    outcome : {"runs", "rebuilds", "refused", "failed"}
    seconds : float or None
        Of the call with the longer sequence.
    message : str or None
        With what words it was refused, or why nothing is known.
    """

    contender: str
    built_for: int
    given: int
    outcome: Outcome
    seconds: float | None = None
    message: str | None = None


@dataclass(frozen=True)
class ModeResult:
    """One way of batching, with one contender.

    Attributes
    ----------
    mode : {"padded", "bucketed", "same-length", "single", "ragged"}
    contender : str
    epoch_s : float
        Seconds of all batches of an epoch, scaled up from those measured.
    batches, measured_batches : int
    real_share : float
        How many of the computed tokens are real, 0 to 1, over the whole epoch.
    """

    mode: Mode
    contender: str
    epoch_s: float
    batches: int
    measured_batches: int
    real_share: float


@dataclass(frozen=True)
class BatchingResult:
    """Ways of batching rows of very different lengths.

    Attributes
    ----------
    source : str
        Where the lengths are from.
    rows, maxlen : int
    modes : list of ModeResult
    left_out : list of str
        Ways whose numbers were wrong.
    """

    source: str
    rows: int
    maxlen: int
    modes: list[ModeResult]
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """All that `compare` has measured.

    Attributes
    ----------
    command : str
        What repeats it.
    created : str
        Date and time, ISO 8601.
    seconds : float
        How long it took.
    machine, versions, settings : dict
    contenders : list of ContenderResult
    scaling : list of ScalingResult
    longer : list of LongerResult
    batching : BatchingResult or None
    """

    command: str
    created: str
    seconds: float
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: SettingsValues
    contenders: list[ContenderResult]
    scaling: list[ScalingResult] = field(default_factory=list)
    longer: list[LongerResult] = field(default_factory=list)
    batching: BatchingResult | None = None

    def to_json(self) -> str:
        """Return the comparison as JSON text that `from_json` reads."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Comparison:
        """Read what `to_json` has written.

        Parameters
        ----------
        text : str

        Raises
        ------
        ComparisonError
            If it is something else, or of a later format.
        """
        try:
            values = json.loads(text)
            found = values.pop("format")
            if found != FORMAT:
                raise ComparisonError(f"received a comparison of format {found!r}; expected {FORMAT}")
            for name, kind in (("contenders", ContenderResult), ("scaling", ScalingResult), ("longer", LongerResult)):
                values[name] = [kind(**entry) for entry in values[name]]
            if values["batching"] is not None:
                modes = [ModeResult(**entry) for entry in values["batching"]["modes"]]
                values["batching"] = BatchingResult(**{**values["batching"], "modes": modes})
            return Comparison(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ComparisonError(f"not a comparison that `unspool compare` has written: {error!r}") from error


def rounded(value: float) -> float:
    """Return a figure with four digits; more say nothing.

    Parameters
    ----------
    value : float
    """
    return float(f"{value:.4g}")


def skipped(contenders: Sequence[ContenderResult]) -> list[str]:
    """Return a line for each reason why contenders were skipped.

    Parameters
    ----------
    contenders : sequence of ContenderResult
    """
    names: dict[str, list[str]] = {}
    for entry in contenders:
        if entry.reason:
            names.setdefault(entry.reason, []).append(entry.name)
    return [f"skipped, {reason}: {'; '.join(some)}" for reason, some in names.items()]
