"""Every contender at every number of steps, each in a process of its own; and a longer sequence for those built."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from unspool.comparison._contenders import Contender
from unspool.comparison._errors import ComparisonError
from unspool.comparison._problem import Problem
from unspool.comparison._process import PeerError, PeerProcess, signals_as_exit
from unspool.comparison._results import LongerResult, Outcome, ScalingResult, rounded
from unspool.comparison._settings import Settings


class Scaling:
    """Measures contenders as the number of steps grows.

    Parameters
    ----------
    settings : Settings
    contenders : dict of Contender to str
        With the Python that runs each.
    report : callable
        Told of each case in a line.

    Attributes
    ----------
    results : list of ScalingResult
    longer : list of LongerResult
    versions : dict of str to str
        Of the libraries that were met.
    """

    def __init__(self, settings: Settings, contenders: Mapping[Contender, str], report: Callable[[str], None]) -> None:
        self.settings, self.contenders, self.report = settings, contenders, report
        self.results: list[ScalingResult] = []
        self.longer: list[LongerResult] = []
        self.versions: dict[str, str] = {}
        self._stopped: dict[Contender, str] = {}

    def run(self) -> None:
        """Measure all cases: at each number of steps all contenders, so that what is compared is near in time."""
        with signals_as_exit(), tempfile.TemporaryDirectory(prefix="unspool-compare-") as name:
            folder = Path(name)
            for steps in self.settings.steps:
                problem = Problem(self.settings, steps, folder)
                longer = None
                if steps == self.settings.built_for:
                    longer = Problem(self.settings, self.settings.longer, folder)
                for contender in self.contenders:
                    self._case(contender, problem, longer, folder)

    def _case(self, contender: Contender, problem: Problem, longer: Problem | None, folder: Path) -> None:
        settings, steps = self.settings, problem.steps
        most = settings.most_steps.get(contender.name, steps)
        if steps > most:
            reason = f"left out of a quick run above {most} steps"
            self.results.append(ScalingResult(contender.name, steps, "not_tried", reason))
            return
        if contender in self._stopped:
            result = ScalingResult(contender.name, steps, "not_tried", self._stopped[contender])
        else:
            self.report(f"T = {steps}: {contender.name}")
            result = self._measure(contender, problem, longer, folder)
        self.results.append(result)
        if longer is not None and result.status != "measured":
            self._add_longer(contender, "failed", message=f"not built for {steps} steps: {result.reason}")
        if result.status in ("over_limit", "failed"):
            self.report(f"T = {steps}: {contender.name}: {result.reason}")
            self._stopped[contender] = f"at {steps} steps: {result.reason}"

    def _measure(self, contender: Contender, problem: Problem, longer: Problem | None, folder: Path) -> ScalingResult:
        """Return the figures of a case, if its numbers are right."""
        settings, answer = self.settings, folder / "answer.npz"
        answer.unlink(missing_ok=True)
        command = contender.command(self.contenders[contender])
        try:
            with PeerProcess(command, settings.limit_s, torch.get_num_threads()) as peer:
                self.versions |= peer.versions
                build = peer.ask("to build", "prepare", arrays=problem.file, variant=contender.variant, **problem.task)
                first = peer.ask("for the first call", "run")
                peer.ask("for the second call", "run")  # whatever is set up then
                effort = {"least": settings.least, "most": settings.most, "seconds": settings.repeat_s}
                steps = peer.ask("for the repetitions", "run", **effort)
                nodes = peer.ask("to write its numbers", "answer", file=answer)["nodes"]
                error = problem.error_of(answer)
                if longer is not None:
                    self._measure_longer(contender, peer, longer, steps["graphs"], answer)
        except PeerError as failure:
            status = "over_limit" if failure.over_limit else "failed"
            return ScalingResult(contender.name, problem.steps, status, str(failure))
        except ComparisonError as wrong:
            return ScalingResult(contender.name, problem.steps, "failed", str(wrong))
        low, median, high = quartiles(steps["seconds"])
        return ScalingResult(
            contender.name,
            problem.steps,
            "measured",
            build_s=rounded(build["seconds"]),
            first_call_s=rounded(first["seconds"][0]),
            step_s=rounded(median),
            step_low_s=rounded(low),
            step_high_s=rounded(high),
            peak_mb=None if steps["peak_mb"] is None else rounded(steps["peak_mb"]),
            graph_nodes=nodes,
            max_error=rounded(error),
        )

    def _measure_longer(
        self, contender: Contender, peer: PeerProcess, longer: Problem, graphs: int, answer: Path
    ) -> None:
        """Give a longer sequence to a peer that was built for a shorter one."""
        answer.unlink()
        try:
            found = peer.ask("for the longer sequence", "run", arrays=longer.file)
        except PeerError as error:
            self._add_longer(contender, "refused" if error.told else "failed", message=error.told or str(error))
            return
        try:
            peer.ask("to write its numbers", "answer", file=answer)
            longer.error_of(answer)
        except (PeerError, ComparisonError) as error:
            self._add_longer(contender, "failed", message=str(error))
            return
        outcome = "rebuilds" if found["graphs"] > graphs else "runs"
        self._add_longer(contender, outcome, rounded(found["seconds"][0]))

    def _add_longer(
        self, contender: Contender, outcome: Outcome, seconds: float | None = None, message: str | None = None
    ) -> None:
        settings = self.settings
        self.longer.append(LongerResult(contender.name, settings.built_for, settings.longer, outcome, seconds, message))


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; of one value, three times that.

    Parameters
    ----------
    values : sequence of float
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
