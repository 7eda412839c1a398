"""One's own sequences: what class is each, what number, or what of each step?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unspool.training.errors import RunError
from unspool.training.recipes._recipe import Batching, Execution, LayerSpec, ModelName, Recipe, check_choice, vary

if TYPE_CHECKING:
    from unspool.data import Sequences

Task = Literal["classify", "regress", "label-steps"]
Missing = Literal["mean", "zero", "forward", "mask"]
ClassWeights = Literal["none", "balanced"]
MOST_EPOCHS = 200
MOST_STEPS = 1000
"""Steps of a sequence that a model reads; longer ones are shortened."""
LEAST_SIZE = 32
_UPDATES, _UPDATES_OF_NUMBERS = 1500, 600
"""Steps of the optimizer; numbers are learnt, and then noise, sooner than classes."""
_WORK, _LEAST_EPOCHS = 1.2e12, 3
"""Multiplications of a whole training that are some minutes on two cores, and epochs that it should have for these."""
_POOLING: dict[str, Literal["max", "last"]] = {"classes": "max", "numbers": "last"}
_RANKED = 40
"""Sequences held out that are enough to rank epochs."""
SEQUENCES = Recipe(
    dataset="sequences",
    model="lstm",
    execution="dynamic",
    options={"variant": "FILE"},
    objective="classes",
    layers=(LayerSpec(kind="lstm", hidden_size=128, dropout_after=0.2),),
    pooling="max",
    input_size=1,
    num_classes=2,
    num_steps=1,
    input_noise=0.1,
    epochs=10,
    batch_size=32,
    batching="bucketed",
    learning_rate=5e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    gradient_clip=1.0,
    held_out=0,
    checkpoint_every=200,
    log_every=20,
)
"""What does not depend on the sequences."""


def sequences_recipe(
    data: str | Path,
    task: Task = "classify",
    model: ModelName = "lstm",
    execution: Execution = "dynamic",
    batching: Batching | None = None,
    *,
    sequence_column: str | None = None,
    time_column: str | None = None,
    features: Sequence[str] | str | None = None,
    categorical: Sequence[str] | str = (),
    target: Sequence[str] | str | None = None,
    labels: str | Path | None = None,
    group_column: str | None = None,
    sort: bool = False,
    wide: bool = False,
    test: str | Path | None = None,
    missing: Missing = "mask",
    class_weights: ClassWeights = "none",
    encoding: str = "utf-8",
    layers: int = 1,
    hidden_size: int | None = None,
    bidirectional: bool | None = None,
    cell: str | None = None,
    stride: int | None = None,
    **changes: Any,
) -> Recipe:
    """Return the recipe for one's own sequences of numbers.

    The source is read, because sizes follow from it: a training should take minutes on two cores, and of very many
    sequences some are left out. Without `test` a tenth of the sequences is kept for the test, of
    few a fifth; of the others as many are held out. Sequences of one group stay together. Fewer than five sequences
    with a target for every step are divided in time.

    Parameters
    ----------
    data : str or Path
        A table, a folder or a pattern of files, or a file of sequences: see `unspool.data.read_source`.
    task : {"classify", "regress", "label-steps"}
        Whether a class or numbers are predicted for each sequence, or one of both for each step: a class where the
        target holds text.
    model, execution, batching, **changes
        Fields of `Recipe`; None keeps the recipe's own value. `batching` is "padded" for sequences of one length, else
        "bucketed". `held_out` counts sequences, or groups.
    sequence_column, time_column, features, categorical, target, labels, group_column, sort, wide, encoding
        As in `unspool.data.read_source`; several columns may be a list, or a text with commas.
    test : str or Path, optional
        Another source of the same form, to test on.
    missing : {"mask", "mean", "zero", "forward"}
        What stands for missing numbers: see `unspool.data.Scaling`.
    class_weights : {"none", "balanced"}
        Whether errors of rare classes count for more, so that all classes count for the same.
    layers : int
        How many recurrent layers.
    hidden_size : int, optional
        Units of each in each direction; by default the more, the more data there are.
    bidirectional : bool, optional
        Whether layers read sequences in both directions; by default they do, unless in time a step comes before what is
        to be said of it.
    cell : str, optional
        A cell of one's own, as ``module:Class``, in the place of the model's: see `LayerSpec`.
    stride : int, optional
        Steps that become one, with the mean and the standard deviation of each feature; by default so many that no
        sequence has more than 1,000 of them, and 1 where each step has a target.

    Raises
    ------
    RunError
        If a name is not known, or options do not go together.
    DataError
        If a source cannot be read, or there are too few sequences.
    """
    # Here, because the command line shows this recipe's values without importing PyTorch.
    from unspool.training.sequence_parts import (
        FOLDER,
        SequenceEncoder,
        by_time,
        checksum,
        is_table,
        load_parts,
        read_own,
    )

    check_choice("task", task, Task)
    check_choice("missing", missing, Missing)
    check_choice("class_weights", class_weights, ClassWeights)
    base = vary(SEQUENCES, model, execution, batching)
    if task == "label-steps" and stride not in (None, 1):
        raise RunError(f"received stride={stride} and task={task}; every step has a target, so leave the stride out")
    source, test_source = _absolute(data), None if test is None else _absolute(test)
    labels_file = None if labels is None else FOLDER if str(labels) == FOLDER else _absolute(labels)
    options: dict[str, Any] = {
        "variant": Path(source).name.partition(".")[0].strip("*") or "data",
        "task": task,
        "data": source,
        "sha256": checksum(source, labels_file),
        "test": test_source,
        "test_sha256": None if test_source is None else checksum(test_source, labels_file),
        "labels": labels_file,
        "sequence_column": sequence_column,
        "time_column": time_column,
        "features": _names(features),
        "categorical": _names(categorical),
        "target": _names(target),
        "target_kind": {"classify": "classes", "regress": "numbers", "label-steps": None}[task],
        "group_column": group_column,
        "sort": sort,
        "wide": wide,
        "encoding": encoding,
        "missing": missing,
        "window": 0,
        "stride": 1,
    }
    whole = read_own(source, options)
    if task == "classify" and not whole.class_names:
        raise RunError(f"{source}: its targets are numbers; expected classes. Use --task regress for numbers")
    options |= {
        "features": list(whole.features) if is_table(source) else [],
        "categorical": list(whole.categories),
        "target": list(whole.target_names) if labels_file is None and is_table(source) else options["target"],
        "target_kind": "classes" if whole.class_names else "numbers",
        "classes": list(whole.class_names),
    }
    options["test_sequences"], held_out = _held(whole, in_time=by_time(whole), with_test=test is None)
    held_out = changes.get("held_out") or held_out
    options |= _shortened(whole, stride, in_time=by_time(whole))
    parts = load_parts(options, held_out, None)
    encoder = SequenceEncoder.fit(parts["train"], options)
    train = parts["train"]
    one_way = by_time(whole) if bidirectional is None else not bidirectional
    trained = sum(-(-len(values) // options["stride"]) for values in train.values)

    def work(size: int) -> float:
        return 6 * trained * _multiplications(encoder.input_size, size, layers, both=not one_way)

    size = hidden_size or _size(train)
    if hidden_size is None and _LEAST_EPOCHS * work(size) > _WORK:
        size = min(size, 64)
    share = min(1.0, _WORK / (_LEAST_EPOCHS * work(size)))
    limit = None if share == 1 else max(int(share * len(train)), 100)
    layer = replace(base.layers[0], hidden_size=size, bidirectional=not one_way, cell=cell)
    lengths = [-(-len(values) // options["stride"]) for part in parts.values() for values in part.values]
    batch_size = changes.get("batch_size") or min(max(len(train) // 20, 8), 64 if trained < 1e6 else 256)
    batches = -(-min(len(train), limit or len(train)) // batch_size)
    updates = _UPDATES if options["target_kind"] == "classes" else _UPDATES_OF_NUMBERS
    epochs = min(max(-(-updates // batches), 10), MOST_EPOCHS, max(int(_WORK / (share * work(size))), _LEAST_EPOCHS))
    per_sequence = task != "label-steps"
    kind = "classes" if per_sequence else "class-per-step"
    if options["target_kind"] == "numbers":
        kind = "numbers" if per_sequence else "numbers-per-step"
    ranked = held_out >= _RANKED
    equal = len(set(lengths)) == 1
    return base.replace(
        options=options,
        objective=kind,
        pooling=_POOLING[kind] if per_sequence else "none",
        layers=(layer,) * layers,
        input_size=encoder.input_size,
        num_classes=len(whole.class_names or whole.target_names),
        num_steps=max(lengths),
        batching=batching or ("padded" if equal else "bucketed"),
        class_weights=_balance(train) if class_weights == "balanced" and whole.class_names else (),
        epochs=epochs,
        batch_size=batch_size,
        held_out=held_out,
        limit_train=limit,
        patience=max(epochs // 3, 5) if ranked else None,
        tested="best" if ranked else "last",
    ).replace(**changes)


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().absolute())


def _names(given: Sequence[str] | str | None) -> list[str]:
    if isinstance(given, str):
        return [name.strip() for name in given.split(",") if name.strip()]
    return list(given or ())


def _held(sequences: Sequences, *, in_time: bool, with_test: bool) -> tuple[int, int]:
    """Return how many sequences, groups or steps to test on and to hold out."""
    total = int(sequences.lengths.max()) if in_time else len(set(sequences.groups or sequences.ids))
    if total < 5:
        what = "steps" if in_time else "sequences" if sequences.groups is None else "groups"
        raise RunError(f"received {total} {what}; expected 5 or more, to train on, to choose and to test")
    test = max(1, round(total * (0.2 if total < 500 else 0.1))) if with_test else 0
    rest = total - test
    return test, max(1, round(rest * (0.2 if rest < 1000 else 0.1)))


def _shortened(sequences: Sequences, stride: int | None, *, in_time: bool) -> dict[str, int]:
    """Return how many steps become one; where each has a target, how many are in a window, 0 for all."""
    longest = int(sequences.lengths.max())
    if not sequences.per_step:
        return {"stride": stride or -(-longest // MOST_STEPS), "window": 0}
    window = min(500, max(20, longest // 40)) if in_time else 500
    return {"stride": 1, "window": window if longest > window else 0}


def _size(train: Sequences) -> int:
    """Return the units of a layer: the more sequences, and steps of these, the more."""
    known = max(len(train), sum(map(len, train.values)) // 100)
    return LEAST_SIZE if known < 100 else 64 if known < 1000 else SEQUENCES.layers[0].hidden_size


def _multiplications(inputs: int, size: int, layers: int, *, both: bool) -> int:
    """Return those of a step of an LSTM, the largest of the models, forward."""
    ways = 2 if both else 1
    return 4 * ways * size * (inputs + size + (layers - 1) * (ways + 1) * size)


def _balance(train: Sequences) -> tuple[float, ...]:
    from unspool.data import counts_of

    counts = list(counts_of(train).values())
    return tuple(sum(counts) / (len(counts) * max(count, 1)) for count in counts)
