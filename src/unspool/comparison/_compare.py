"""The whole comparison."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import unspool as us
from unspool.comparison._batching import compare_batching
from unspool.comparison._classifiers import ways
from unspool.comparison._contenders import find_python, missing, select
from unspool.comparison._machine import busy, describe_machine
from unspool.comparison._results import Comparison, ContenderResult, rounded, skipped
from unspool.comparison._reviews import load_reviews
from unspool.comparison._scaling import Scaling
from unspool.comparison._settings import Settings


def compare(
    settings: Settings, report: Callable[[str], None] = lambda _: None, *, arguments: Sequence[str] | None = None
) -> Comparison:
    """Measure static against dynamic, here and in other libraries.

    Parameters
    ----------
    settings : Settings
    report : callable (str)
        Told what is being measured, and of what goes wrong, in lines.
    arguments : sequence of str, optional
        The command that repeats the comparison; that of this process by default.

    Returns
    -------
    Comparison
        A contender that is not installed, fails, takes too long or computes wrong numbers is in it with its reason,
        and without figures.

    Raises
    ------
    ComparisonError
        If a Python is named that is not there.
    DataError
        If a directory of data is named that has no IMDB.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    machine, versions = describe_machine(), us.info().versions
    if busy(machine):
        report(busy(machine))
    with_reviews = settings.batching and ways("padded", settings.only)
    reviews, source = load_reviews(settings.data_dir, settings.seed) if with_reviews else (None, "")
    pythons, entries = {}, []
    for contender in select(settings.only):
        python = find_python(contender.environment, settings.pythons.get(contender.environment))
        reason = None if python else missing(contender.environment)
        if python:
            pythons[contender] = python
        status = "skipped" if reason else "measured"
        entries.append(ContenderResult(contender.name, contender.kind, contender.library, status, reason))
    for line in skipped(entries):
        report(line)
    scaling = Scaling(settings, pythons, report)
    scaling.run()
    batching = None
    if reviews is not None:
        batching = compare_batching(
            reviews, source, report,
            batch=settings.batch, size=settings.hidden_size, sampled=settings.sampled_batches, seed=settings.seed,
            only=settings.only,
        )  # fmt: skip
    command = list(arguments) if arguments is not None else ["python", Path(sys.argv[0]).name, *sys.argv[1:]]
    return Comparison(
        command=shlex.join(command),
        created=started.isoformat(timespec="seconds"),
        seconds=rounded(time.perf_counter() - clock),
        machine=machine,
        versions=versions | scaling.versions | versions,  # not NumPy and Python of other environments
        settings=settings.to_dict(),
        contenders=entries,
        scaling=scaling.results,
        longer=scaling.longer,
        batching=batching,
    )
