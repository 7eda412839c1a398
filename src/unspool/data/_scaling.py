"""Features and targets brought to one scale, and missing values filled, by what the training part says alone."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from unspool.data._errors import DataError
from unspool.data._sequences import Sequences, listed

Missing = Literal["zero", "mean", "forward", "mask"]


@dataclass(frozen=True)
class Scaling:
    """How features and targets are scaled and missing values filled; made by `fit`.

    Parameters
    ----------
    features : tuple of str
        The C features, in their order.
    means, scales : tuple of float
        What is subtracted from each feature, and what it is divided by then; 0 and 1 for a categorical one, and the
        scale of a constant one is 1.
    numeric : tuple of str
        The features that are numbers.
    missing : {"zero", "mean", "forward", "mask"}
        What stands for a missing number: 0, the mean, the last one of the sequence before it (the mean where there is
        none), or the mean beside a feature of its own that is 1 where it is missing.
    masked : tuple of str
        With "mask", the features that have such a feature: those of which values are missing in the training part.
    constant : tuple of str
        The features that are the same at all steps of the training part.
    target_means, target_scales : tuple of float
        Likewise for each target; empty where targets are classes.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    numeric: tuple[str, ...]
    missing: Missing = "mean"
    masked: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    target_means: tuple[float, ...] = ()
    target_scales: tuple[float, ...] = ()

    @classmethod
    def fit(cls, train: Sequences, missing: Missing = "mean") -> Scaling:
        """Return the scaling of a training part: mean 0 and standard deviation 1 over all its valid steps.

        Parameters
        ----------
        train : Sequences
            The training part, and nothing else.
        missing : {"zero", "mean", "forward", "mask"}
            What stands for a missing number.

        Raises
        ------
        DataError
            If `missing` is none of these, or no feature has more than one value.
        """
        if missing not in get_args(Missing):
            raise DataError(f"received missing={missing!r}; expected one of {', '.join(get_args(Missing))}")
        means, scales, counts = _moments(train.values)
        numeric = tuple(train.features[place] for place in train.numeric)
        constant = tuple(name for name, scale in zip(train.features, scales, strict=True) if scale == 0)
        if len(constant) == len(train.features) and sum(map(len, train.values)) > 1:
            raise DataError(
                f"every feature is constant in the training part ({listed(constant)}); expected one that differs "
                "between steps"
            )
        means[[name not in numeric for name in train.features]] = 0
        scales[[name not in numeric or name in constant for name in train.features]] = 1
        steps = sum(map(len, train.values))
        gaps = tuple(
            name for name, count in zip(train.features, counts, strict=True) if name in numeric and count < steps
        )
        target_means = target_scales = np.empty(0)
        if train.targets is not None and not train.class_names:
            parts = train.targets if isinstance(train.targets, list) else [train.targets]
            target_means, target_scales, _ = _moments([part.reshape(len(part), -1) for part in parts])
            target_scales[target_scales == 0] = 1
        return cls(
            train.features,
            tuple(means.tolist()),
            tuple(scales.tolist()),
            numeric,
            missing,
            gaps if missing == "mask" else (),
            constant,
            tuple(target_means.tolist()),
            tuple(target_scales.tolist()),
        )

    @property
    def output_features(self) -> tuple[str, ...]:
        """The names of the features after `apply`: those of `masked` come last, as "missing" and their name."""
        return (*self.features, *(f"missing {name}" for name in self.masked))

    def apply(self, sequences: Sequences) -> Sequences:
        """Return sequences with scaled features without gaps, and scaled targets.

        Parameters
        ----------
        sequences : Sequences
            Of the same features as those of the training part.

        Raises
        ------
        DataError
            If the features are others, or others of them are categories.
        """
        if sequences.features != self.features:
            raise DataError(
                f"received the features {listed(sequences.features)}; expected {listed(self.features)}, those of the "
                "training part"
            )
        numeric = tuple(sequences.features[place] for place in sequences.numeric)
        if numeric != self.numeric:
            raise DataError(
                f"received {listed(numeric)} as numbers; expected {listed(self.numeric)}, as in the training part. "
                "Read the sequences with the categories of the training data"
            )
        scaled = copy.copy(sequences)
        scaled.features = self.output_features
        scaled.values = [self._filled(array) for array in sequences.values]
        if sequences.targets is not None and self.target_means:
            means, scales = self._target_numbers(sequences.targets)
            if isinstance(sequences.targets, list):
                scaled.targets = [(part - means) / scales for part in sequences.targets]
            else:
                scaled.targets = (sequences.targets - means) / scales
        return scaled

    def restore_targets(self, predicted: np.ndarray) -> np.ndarray:
        """Return predicted targets in the units of the source.

        Parameters
        ----------
        predicted : ndarray of shape (...,) for one target, or (..., K)
            Scaled targets, as a model that was trained on them predicts.

        Raises
        ------
        DataError
            If the targets of the training part are classes, or there are none.
        """
        if not self.target_means:
            raise DataError("the targets of the training part are no numbers; there is nothing to restore")
        means, scales = self._target_numbers(None if len(self.target_means) == 1 else predicted)
        return predicted * scales + means

    def to_dict(self) -> dict[str, Any]:
        """Return the scaling as lists, numbers and strings, for a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Scaling:
        """Return the scaling that `to_dict` returned.

        Parameters
        ----------
        content : dict
            What it returned.

        Raises
        ------
        DataError
            If it is something else.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(content, dict) or set(content) != names:
            raise DataError(f"received no scaling; expected a dict of {listed(sorted(names), len(names))}")
        held: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
        scaling = cls(**held)
        if not len(scaling.features) == len(scaling.means) == len(scaling.scales):
            raise DataError("received a damaged scaling; expected a mean and a scale for each feature")
        return scaling

    def _target_numbers(self, targets: Any) -> tuple[Any, Any]:
        first = targets[0] if isinstance(targets, list) else targets
        if first is None or first.ndim == 1:
            return self.target_means[0], self.target_scales[0]
        return np.array(self.target_means), np.array(self.target_scales)

    def _filled(self, array: np.ndarray) -> np.ndarray:
        means, scales = np.array(self.means), np.array(self.scales)
        gaps = np.isnan(array)
        if self.missing == "forward" and gaps.any():
            steps = np.arange(len(array))[:, None]
            last = np.maximum.accumulate(np.where(gaps, -1, steps), axis=0)
            array = np.where(last >= 0, np.take_along_axis(array, np.maximum(last, 0), axis=0), np.nan)
        blank = np.zeros_like(means) if self.missing == "zero" else means
        scaled = (np.where(np.isnan(array), blank, array) - means) / scales
        marks = gaps[:, [self.features.index(name) for name in self.masked]]
        return np.concatenate([scaled, marks], axis=1).astype(np.float32)


def _moments(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, standard deviation and number of all values that are not NaN, each (C,); 0 where there is none.

    In two passes, part by part: the parts are never put together.
    """
    counts = sum((~np.isnan(part)).sum(0) for part in parts)
    some = np.maximum(counts, 1)
    means = sum(np.nansum(part, 0, dtype=np.float64) for part in parts) / some
    squares = sum(np.nansum(np.square(part - means), 0, dtype=np.float64) for part in parts) / some
    # A constant may differ from its own mean by rounding.
    deviations = np.sqrt(squares)
    deviations[deviations <= 1e-12 * np.abs(means)] = 0
    return np.asarray(means), np.asarray(deviations), np.asarray(counts)
