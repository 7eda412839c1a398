"""Recipes: every number of a training run, in one frozen object that a checkpoint carries."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .errors import RunError

Dataset = Literal["vowels", "mnist"]
ModelName = Literal["simple_rnn", "lstm", "gru"]
Execution = Literal["dynamic", "static"]


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One recurrent layer and the dropout after it.

    `kind`, `hidden_size`, `activation` (``None``: the layer's own), `bidirectional`, `recurrent_bias` and `init`
    are those of the layers; `dropout_after` is the probability of the dropout on the layer's outputs.
    """

    kind: ModelName
    hidden_size: int
    activation: str | None = None
    bidirectional: bool = False
    recurrent_bias: bool = True
    init: str = "torch"
    dropout_after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the numbers of a run, apart from the machine.

    Attributes
    ----------
    dataset, model, execution : str
        What is trained, on what, and whether the time loop is looped (dynamic) or unrolled (static).
    layers : tuple of LayerSpec
        The recurrent layers, first to last.
    pooling : {"last", "mean"}
        What the classifier sees of the last layer: its last output, or the mean of its outputs.
    input_size, num_classes, num_steps : int
        Features of a step, classes, and the longest sequence; the static mode has exactly `num_steps` steps.
    input_noise, input_offset : float
        Standard deviations of what is added to the normalised inputs in training: a number of its own for every step
        and feature, and one for every feature of a whole sequence.
    epochs, batch_size : int
        How long and in what portions.
    learning_rate, weight_decay : float
        Of Adam; the decay is decoupled (AdamW).
    schedule : {"constant", "one_cycle"}
        The learning rate over the run: fixed, or up to `learning_rate` and down to nothing.
    gradient_clip : float or None
        Largest norm of the gradient.
    held_out : int
        Training rows held out for validation, from each class its share. The checkpoint "best" is chosen on them.
    tested : {"best", "last"}
        Whose test figures are the run's: the checkpoint "best", or the last one, where the schedule ends with a
        learning rate of nothing and the rows held out are too few to rank epochs.
    limit_train : int or None
        Number of training rows to use of those that are left.
    seed : int
        What the initial weights, the order of the batches and all random draws come from.
    checkpoint_every : int
        Steps between two checkpoints within an epoch; each epoch's end has one besides.
    log_every : int
        Steps between two rows of the log within an epoch; each epoch's end has one besides.
    precision : str
        Lightning's name of the precision.
    threads : int or None
        PyTorch's threads on a CPU during the run; None leaves them as they are.
    """

    dataset: Dataset
    model: ModelName
    execution: Execution
    layers: tuple[LayerSpec, ...]
    pooling: Literal["last", "mean"]
    input_size: int
    num_classes: int
    num_steps: int
    input_noise: float = 0.0
    input_offset: float = 0.0
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    gradient_clip: float | None = None
    held_out: int
    tested: Literal["best", "last"] = "best"
    limit_train: int | None = None
    seed: int = 0
    checkpoint_every: int
    log_every: int
    precision: str = "32-true"
    threads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain dicts, lists, strings and numbers."""
        fields = dataclasses.asdict(self)
        return {**fields, "layers": list(fields["layers"])}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Recipe":
        """Return the recipe that `to_dict` wrote down.

        Parameters
        ----------
        fields : dict
            What `to_dict` returned.

        Raises
        ------
        RunError
            If the fields are not those of a recipe.
        """
        try:
            return cls(**{**fields, "layers": tuple(LayerSpec(**layer) for layer in fields["layers"])})
        except (TypeError, KeyError) as error:
            raise RunError(f"no recipe of this version of unspool: {error}") from error

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with other values.

        Parameters
        ----------
        **changes
            Fields and their new values; those that are None are left as they are.
        """
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})

    def differences(self, other: "Recipe") -> list[str]:
        """Say in which fields another recipe differs, one line each: ``name: mine here, its there``.

        Parameters
        ----------
        other : Recipe
            The recipe to compare with.
        """
        mine, its = self.to_dict(), other.to_dict()
        return [f"{name}: {its[name]} there, {mine[name]} here" for name in mine if mine[name] != its[name]]


def vowels_recipe(
    model: ModelName = "lstm", execution: Execution = "dynamic", *, hidden_size: int | None = None, **changes: Any
) -> Recipe:
    """Return the recipe for Japanese Vowels: utterances of 7 to 29 steps of 12 channels, nine speakers.

    Parameters
    ----------
    model : {"lstm", "gru", "simple_rnn"}
        The recurrent layer.
    execution : {"dynamic", "static"}
        Whether its time loop is looped or unrolled over 29 steps.
    hidden_size : int, optional
        Units of the layer; the recipe's own by default.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If the model or the execution is not known.
    """
    _check(model, execution)
    recipe = Recipe(
        dataset="vowels",
        model=model,
        execution=execution,
        layers=(LayerSpec(kind=model, hidden_size=128 if hidden_size is None else hidden_size, dropout_after=0.2),),
        pooling="last",
        input_size=12,
        num_classes=9,
        num_steps=29,
        input_noise=0.5,
        input_offset=0.3,
        epochs=30,
        batch_size=16,
        learning_rate=5e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        gradient_clip=1.0,
        held_out=27,
        tested="last",
        checkpoint_every=50,
        log_every=5,
        threads=1,  # the products of a step are too small to divide
    )
    return recipe.replace(**changes)


def mnist_recipe(model: ModelName = "lstm", execution: Execution = "dynamic", **changes: Any) -> Recipe:
    """Return the recipe for MNIST read row by row: 28 steps of 28 pixels, ten digits.

    The models are the published ones, with their numbers of parameters: SimpleRNN 206,858, LSTM 819,722 and GRU
    369,162. SimpleRNN and LSTM have one bias per gate, as in Keras; GRU has both.

    Parameters
    ----------
    model : {"simple_rnn", "lstm", "gru"}
        Which of the three.
    execution : {"dynamic", "static"}
        Whether the time loop is looped or unrolled over 28 steps.
    **changes
        Other values for fields of `Recipe`; None keeps the recipe's own.

    Raises
    ------
    RunError
        If the model or the execution is not known.
    """
    _check(model, execution)
    keras = {"kind": model, "init": "keras", "recurrent_bias": model == "gru"}
    layers = {
        "simple_rnn": (LayerSpec(**keras, hidden_size=256), LayerSpec(**keras, hidden_size=256)),
        "lstm": (
            LayerSpec(**keras, hidden_size=256, activation="relu", dropout_after=0.2),
            LayerSpec(**keras, hidden_size=256, dropout_after=0.2),
        ),
        "gru": (
            LayerSpec(**keras, hidden_size=256, activation="relu", dropout_after=0.3),
            LayerSpec(**keras, hidden_size=128),
        ),
    }
    recipe = Recipe(
        dataset="mnist",
        model=model,
        execution=execution,
        layers=layers[model],
        pooling="last",
        input_size=28,
        num_classes=10,
        num_steps=28,
        epochs=10,
        batch_size=64,
        learning_rate=1e-3,
        held_out=5000,
        checkpoint_every=100,
        log_every=50,
    )
    return recipe.replace(**changes)


def _check(model: str, execution: str) -> None:
    if model not in get_args(ModelName):
        raise RunError(f"received model {model!r}; expected one of {', '.join(get_args(ModelName))}")
    if execution not in get_args(Execution):
        raise RunError(f"received execution {execution!r}; expected dynamic or static")
