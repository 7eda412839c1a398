"""What is to be compared, and with how much effort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from unspool.comparison._contenders import COMPILED, select
from unspool.comparison._errors import ComparisonError


class SettingsValues(TypedDict):
    """What of `Settings` decides the figures, as plain values; and which cell it is."""

    batch: int
    input_size: int
    hidden_size: int
    limit_s: float
    seed: int
    built_for: int
    least: int
    most: int
    repeat_s: float
    cell: str
    steps: list[int]
    quick: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a comparison.

    Attributes
    ----------
    steps : tuple of int
        Numbers of steps T.
    batch, input_size, hidden_size : int
        B, I and H.
    limit_s : float
        Seconds after which a stage of a measurement (build, first call, repetitions) is given up.
    seed : int
        Of weights, inputs and the order of batches.
    least, most : int
        How often a training step is repeated.
    repeat_s : float
        Between these bounds it is repeated until this time is over.
    built_for : int
        One of `steps`: contenders built for it get a sequence that is half as long again.
    most_steps : dict of str to int
        Contenders that are not tried with more steps than this.
    only : tuple of str
        Names of contenders; all by default.
    pythons : dict of str to Path
        The Pythons that have "tensorflow" and "jax"; see `find_python`.
    batching : bool
        Whether to compare ways of batching.
    data_dir : Path, optional
        Where IMDB is; without it reviews are random words of the known lengths.
    sampled_batches : int
        How many batches of an epoch are measured, for each way of batching.
    quick : bool
        Told of in messages.

    Raises
    ------
    ComparisonError
        If a value is out of range.
    """

    steps: tuple[int, ...] = (10, 25, 50, 100, 200, 400)
    batch: int = 32
    input_size: int = 128
    hidden_size: int = 128
    limit_s: float = 180.0
    seed: int = 0
    least: int = 7
    most: int = 51
    repeat_s: float = 3.0
    built_for: int = 100
    most_steps: Mapping[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    pythons: Mapping[str, Path] = field(default_factory=dict)
    batching: bool = True
    data_dir: Path | None = None
    sampled_batches: int = 40
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1 or list(self.steps) != sorted(set(self.steps)):
            raise ComparisonError(f"received steps {list(self.steps)}; expected ascending numbers from 1")
        if self.built_for not in self.steps:
            raise ComparisonError(f"received built_for={self.built_for}; expected one of the steps {list(self.steps)}")
        for name in ("batch", "input_size", "hidden_size", "limit_s", "least", "most", "sampled_batches"):
            if not getattr(self, name) > 0:
                raise ComparisonError(f"received {name}={getattr(self, name)}; expected more than 0")
        select(self.only)

    @classmethod
    def of(cls, *, quick: bool = False, steps: tuple[int, ...] | None = None, **others: Any) -> Settings:
        """Return the usual settings, or those of a quick run.

        Parameters
        ----------
        quick : bool
            Fewer and smaller cases, fewer repetitions.
        steps : tuple of int, optional
            Instead of the usual ones; the longer sequence then comes to what is built for the largest number that is
            not above the usual one.
        **others
            See the attributes.

        Raises
        ------
        ComparisonError
            If a value is out of range.
        """
        settings = cls()
        if quick:
            settings = replace(
                settings,
                steps=(10, 25, 50), built_for=25, most_steps={COMPILED: 10},
                repeat_s=0.3, sampled_batches=4, quick=True,
            )  # fmt: skip
        if steps is not None:
            if not steps:
                raise ComparisonError("received no steps; expected at least one number")
            usual = [number for number in steps if number <= settings.built_for]
            settings = replace(settings, steps=steps, built_for=max(usual, default=min(steps)))
        return replace(settings, **others)

    @property
    def longer(self) -> int:
        """The steps of the longer sequence."""
        return self.built_for + -(-self.built_for // 2)

    def to_dict(self) -> SettingsValues:
        """Return what decides the figures, as plain values."""
        return {
            "batch": self.batch, "input_size": self.input_size, "hidden_size": self.hidden_size,
            "limit_s": self.limit_s, "seed": self.seed, "built_for": self.built_for,
            "least": self.least, "most": self.most, "repeat_s": self.repeat_s,
            "cell": "lstm", "steps": list(self.steps), "quick": self.quick,
        }  # fmt: skip


def parse_steps(text: str | None) -> tuple[int, ...] | None:
    """Read numbers of steps that are separated by commas.

    Parameters
    ----------
    text : str, optional
        None stays None.

    Raises
    ------
    ComparisonError
        If it is something else.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ComparisonError(f"received --steps {text}; expected numbers such as 10,25,50") from None
