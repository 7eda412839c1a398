"""Recipes: every number of a training run, in one frozen object that a checkpoint carries."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from unspool.training.errors import RunError
from unspool.training.recipes._form import check_fields, check_list

ModelName = Literal["simple_rnn", "lstm", "gru"]
Execution = Literal["dynamic", "static"]
Batching = Literal["ragged", "padded", "bucketed", "same-length", "single"]
Objective = Literal["classes", "numbers", "class-per-step", "numbers-per-step", "labels-per-step", "next-token"]
PER_SEQUENCE: tuple[Objective, ...] = ("classes", "numbers")
"""Objectives with one target for each sequence."""
NUMBERS: tuple[Objective, ...] = ("numbers", "numbers-per-step")
"""Objectives whose targets are numbers, not classes."""


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One recurrent layer and the dropout after it.

    `kind`, `hidden_size`, `activation` (``None``: the layer's own), `bidirectional`, `recurrent_bias`, `init`,
    `input_dropout` and `recurrent_dropout` are those of the layers; `dropout_after` is the probability of the dropout
    on the layer's outputs. `cell`, as ``module:Class``, is a cell of one's own in the place of the layer's: a module
    that is made by ``Class(input_size, hidden_size)`` and whose outputs are of the hidden size.
    """

    kind: ModelName
    hidden_size: int
    activation: str | None = None
    bidirectional: bool = False
    recurrent_bias: bool = True
    init: str = "torch"
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    dropout_after: float = 0.0
    cell: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the numbers of a run, apart from the machine.

    Attributes
    ----------
    dataset, model, execution : str
        What is trained, on what, and whether the time loop is looped (dynamic) or unrolled (static).
    options : dict
        What the data set's source wants to know besides; plain values.
    objective : {"classes", "numbers", "class-per-step", "numbers-per-step", "labels-per-step", "next-token"}
        What is predicted: one class, or numbers, per sequence or after every step, a set of labels after every step, or
        the next token of a stream whose state is carried from batch to batch.
    layers : tuple of LayerSpec
        The recurrent layers, first to last.
    pooling : {"last", "mean", "max", "none"}
        What the dense layer sees of the last layer: its last output, the mean or the maximum of its outputs, or the
        output of each step.
    input_size : int
        Features of a step, or the number of different tokens.
    embedding_size : int or None
        Features of a token's vector, where steps are tokens; None where they are features.
    embedding_range : float
        Tokens' vectors start with numbers between minus and plus this. Keras's by default; an alphabet learns faster
        from larger ones.
    embedding_dropout : float
        Probability of the dropout on the tokens' vectors.
    alphabet_size, character_size : int
        Where a step is a word's number and those of its characters, how many different characters there are, and the
        features that are read of a word's characters in each direction; 0 where it is not.
    num_classes, num_steps : int
        Classes (or labels of a step, or tokens, or numbers to predict), and the longest sequence; the static mode has
        exactly `num_steps` steps. A stream is read in windows of `num_steps`.
    binary_head : bool
        Whether two classes have one output, whose sigmoid is the probability of the second, instead of two.
    input_noise, input_offset : float
        Standard deviations of what is added to the normalised inputs in training: a number of its own for every step
        and feature, and one for every feature of a whole sequence.
    class_weights : tuple of float
        How much an error of each class counts; all the same where it is empty.
    epochs, batch_size : int
        How long and in what portions; a stream is cut into `batch_size` streams, which are read side by side.
    batching : {"ragged", "padded", "bucketed", "same-length", "single"}
        Rows drawn at random, without padding or padded to the longest; rows of similar length, of one length, or a
        row at a time, all three without padding. The static mode pads all to `num_steps`. Of no meaning for streams.
    learning_rate, weight_decay : float
        Of Adam; the decay is decoupled (AdamW).
    schedule : {"constant", "one_cycle"}
        The learning rate over the run: fixed, or up to `learning_rate` and down to nothing.
    gradient_clip : float or None
        Largest norm of the gradient.
    held_out : int
        Training rows held out for validation, from each class its share; 0 where the data set has a part for it. The
        checkpoint "best" is chosen on them.
    patience : int or None
        Epochs without a smaller loss on the rows held out after which training ends early.
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

    dataset: str
    model: ModelName
    execution: Execution
    options: dict[str, Any] = field(default_factory=dict)
    objective: Objective = "classes"
    layers: tuple[LayerSpec, ...]
    pooling: Literal["last", "mean", "max", "none"] = "last"
    input_size: int
    embedding_size: int | None = None
    embedding_range: float = 0.05
    embedding_dropout: float = 0.0
    alphabet_size: int = 0
    character_size: int = 0
    num_classes: int
    num_steps: int
    binary_head: bool = False
    input_noise: float = 0.0
    input_offset: float = 0.0
    class_weights: tuple[float, ...] = ()
    epochs: int
    batch_size: int
    batching: Batching = "padded"
    learning_rate: float
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    gradient_clip: float | None = None
    held_out: int
    patience: int | None = None
    tested: Literal["best", "last"] = "best"
    limit_train: int | None = None
    seed: int = 0
    checkpoint_every: int
    log_every: int
    precision: str = "32-true"
    threads: int | None = None

    @property
    def name(self) -> str:
        """What a run of the recipe is called: data set, variant, model, execution, batching where it is not padded."""
        variant = [str(self.options[option]) for option in ("variant", "features") if option in self.options]
        variant += [f"fold{self.options['fold']}"] if "fold" in self.options else []
        batching = [self.batching] if self.batching != "padded" else []
        return "-".join([self.dataset, *variant, self.model, self.execution, *batching, f"seed{self.seed}"])

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain dicts, lists, strings and numbers."""
        fields = dataclasses.asdict(self)
        return {**fields, "layers": list(fields["layers"]), "class_weights": list(fields["class_weights"])}

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
            check_fields(cls, fields)
            layers = tuple(_layer(fields) for fields in check_list("layers", fields))
            return cls(**{**fields, "layers": layers, "class_weights": tuple(fields.get("class_weights", ()))})
        except (TypeError, RunError) as error:  # TypeError: a field is absent
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
        """Say in which fields, or options, another recipe differs, one line each: ``name: its there, mine here``.

        Parameters
        ----------
        other : Recipe
            The recipe to compare with.
        """
        mine, its = _flat(self), _flat(other)
        return [
            f"{name}: {its.get(name)} there, {mine.get(name)} here"
            for name in dict.fromkeys([*mine, *its])
            if mine.get(name) != its.get(name)
        ]


def _layer(fields: Any) -> LayerSpec:
    check_fields(LayerSpec, fields)
    return LayerSpec(**fields)


def _flat(recipe: Recipe) -> dict[str, Any]:
    fields = recipe.to_dict()
    options = fields.pop("options")
    return fields | {f"options.{name}": value for name, value in options.items()}


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is none of a `Literal`'s.

    Parameters
    ----------
    name, value : str
        What it is and what was received.
    choices : Literal type
        What is known.

    Raises
    ------
    RunError
        If the value is another one.
    """
    if value not in get_args(choices):
        raise RunError(f"received {name} {value!r}; expected one of {', '.join(get_args(choices))}")


def vary(
    recipe: Recipe,
    model: ModelName,
    execution: Execution,
    batching: Batching | None = None,
    hidden_size: int | None = None,
    batchings: Any = Batching,
) -> Recipe:
    """Return a recipe with another recurrent layer, execution, batching or hidden size.

    Parameters
    ----------
    recipe : Recipe
        The one to change.
    model, execution, batching
        See `Recipe`; without `batching` the recipe's own.
    hidden_size : int, optional
        Units of every recurrent layer; the recipe's own by default.
    batchings : Literal type
        What `batching` may be.

    Raises
    ------
    RunError
        If a name is not known.
    """
    check_choice("model", model, ModelName)
    check_choice("execution", execution, Execution)
    check_choice("batching", batching or recipe.batching, batchings)
    size = {} if hidden_size is None else {"hidden_size": hidden_size}
    layers = tuple(dataclasses.replace(layer, kind=model, **size) for layer in recipe.layers)
    return recipe.replace(model=model, execution=execution, batching=batching or None, layers=layers)
