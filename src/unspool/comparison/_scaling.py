"""Every contender at every number of steps, each in a process of its own; and a longer sequence for those built."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ._child import STAGES, Report, run_child, write_task
from ._contenders import Contender
from ._errors import ComparisonError
from ._problem import Problem
from ._results import CaseStatus, LongerResult, ScalingResult, rounded
from ._settings import Settings


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
        with tempfile.TemporaryDirectory(prefix="unspool-compare-") as name:
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
            if longer is not None:
                self._add_longer(contender, "failed", message=f"not built for {steps} steps: {result.reason}")
        else:
            self.report(f"T = {steps}: {contender.name}")
            told = self._measure(contender, problem, longer, folder)
            result = self._judge(contender, problem, told, folder)
            if longer is not None:
                self._judge_longer(contender, longer, told, result, folder)
        self.results.append(result)
        if result.status in ("over_limit", "failed"):
            self.report(f"T = {steps}: {contender.name}: {result.reason}")
            self._stopped[contender] = f"at {steps} steps: {result.reason}"

    def _measure(self, contender: Contender, problem: Problem, longer: Problem | None, folder: Path) -> Report:
        settings = self.settings
        more = {} if longer is None else {"longer": longer.batch_file, "longer_answer": folder / "longer.npz"}
        task = write_task(
            folder / "task.json",
            variant=contender.variant,
            weights=problem.weights_file,
            batch=problem.batch_file,
            effort=[settings.least, settings.most, settings.repeat_s],
            answer=folder / "answer.npz",
            **more,
        )
        for old in ("answer.npz", "longer.npz"):
            (folder / old).unlink(missing_ok=True)
        stages = STAGES if longer is not None else STAGES[:-1]
        command = [*contender.command(self.contenders[contender]), str(task)]
        told = run_child(command, stages, settings.limit_s, torch.get_num_threads())
        self.versions |= told.stages.get("ready", {}).get("versions", {})
        return told

    def _judge(self, contender: Contender, problem: Problem, told: Report, folder: Path) -> ScalingResult:
        """Return the figures of a case, if its numbers are right."""

        def without(status: CaseStatus, reason: str) -> ScalingResult:
            return ScalingResult(contender.name, problem.steps, status, reason)

        if "answer" not in told.stages:
            return without("over_limit" if told.status == "over_limit" else "failed", told.reason)
        try:
            error = problem.error_of(folder / "answer.npz")
            times, nodes = told.stages["steps"]["seconds"], told.stages["answer"]["nodes"]
            low, median, high = quartiles(times)
            peak = told.stages["steps"]["peak_mb"]
            return ScalingResult(
                contender.name,
                problem.steps,
                "measured",
                build_s=rounded(told.stages["build"]["seconds"]),
                first_call_s=rounded(told.stages["first"]["seconds"]),
                step_s=rounded(median),
                step_low_s=rounded(low),
                step_high_s=rounded(high),
                peak_mb=None if peak is None else rounded(peak),
                graph_nodes=nodes,
                max_error=rounded(error),
            )
        except ComparisonError as error:
            return without("failed", str(error))

    def _judge_longer(
        self, contender: Contender, longer: Problem, told: Report, result: ScalingResult, folder: Path
    ) -> None:
        if result.status != "measured":
            self._add_longer(contender, "failed", message=f"not built for {result.steps} steps: {result.reason}")
            return
        if "longer" not in told.stages:
            self._add_longer(contender, "failed", message=told.reason)
            return
        found = told.stages["longer"]
        if found["outcome"] != "refused":
            try:
                longer.error_of(folder / "longer.npz")
            except ComparisonError as error:
                self._add_longer(contender, "failed", message=str(error))
                return
        seconds = found["seconds"]
        self._add_longer(contender, found["outcome"], None if seconds is None else rounded(seconds), found["message"])

    def _add_longer(
        self, contender: Contender, outcome: Any, seconds: float | None = None, message: str | None = None
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
