"""From a backend's reason against a call to the line that removes it."""

from __future__ import annotations

import re

REMEDIES = (
    ("_zoneout.py:", "take recurrent_dropout, which draws once per sequence, in place of ZoneoutCell"),
    ("draws random numbers", "{line}: draw once per sequence, in the cell's row_inputs"),
    (
        "depend on the values|branch or a loop",
        "{line}: choose with torch.where in place of branching on values or taking them out",
    ),
    ("takes the value of a parameter", "{line}: keep it a tensor, or let it be an attribute that is a number"),
    (
        "batch_norm|, (Sync|Lazy)?BatchNorm",
        "{line}: normalise with the running statistics (model.eval()), or take LayerNorm or GroupNorm",
    ),
    ("into a parameter or buffer", "{line}: keep what changes from step to step in the cell's state"),
    ("writes in", "{line}: compute a new tensor in place of writing into one"),
    ("influence each other", "{line}: reduce over features and not over the batch, as layer_norm does"),
    ("repeats a parameter", "{line}: let the parameter be broadcast"),
    ("keep the batch as the first axis", "{line}: keep the batch as the first axis"),
    (
        r"sample rows: RuntimeError\(.The size of tensor a",
        "pass what the cell holds for each row of a batch, if it does, to {code} as constants=",
    ),
    (r"\(\S+:\d+ in [^()]+\)", "{line}: use what is read natively (docs/backends.md)"),
    ("changes attributes of the cell", "keep what changes from step to step in the cell's state, not in attributes"),
    ("hold integers", "compute what depends on integers before {code}, and pass it floating-point numbers or booleans"),
    ("float32 and float64", "model, x = model.float(), x.float()"),
    ("several dtypes", "model = model.to(x.dtype)"),
    ("autocast", "call {code} with torch.autocast off: torch.autocast('cpu', enabled=False)"),
    ("torch.func", "call {code} outside of torch.func's transforms and of function modes"),
    ("torch.nn.utils.(weight|spectral)_norm", "use torch.nn.utils.parametrizations in place of torch.nn.utils"),
    ("torch.nn.utils.prune", "make the pruning permanent with torch.nn.utils.prune.remove"),
    (
        "has hooks| a (forward|backward) (pre-)?hook",
        "remove the hooks of the cell in {code}, or let them listen to {code} itself",
    ),
    ("reinstall", "reinstall unspool with its engine"),
    (
        "activation is|has no bias|reset_after is|; cuDNN has none",
        "build {code} with what cuDNN has: tanh, sigmoid, biases, reset_after=True, nothing more",
    ),
    ("recurrent_dropout is", "build {code} without recurrent_dropout"),
    ("unrolled", "build {code} with unroll=False"),
    ("not right-padded", "give {code} lengths in place of a mask with gaps"),
)
"""What a reason matches, and what to do; the first one counts. Not in it: what another device alone would change."""

_OTHER_DEVICE = re.compile(r"tensors are on \S+, not on")


def is_of_other_device(reason: str) -> bool:
    """Tell whether a backend is for another kind of device than the one that the call is on.

    Parameters
    ----------
    reason : str
        A backend's reason against a call.
    """
    return _OTHER_DEVICE.search(reason) is not None


def remedy(reason: str, code: str) -> str | None:
    """Return what to change, in one line, so that a reason goes; None where there is no such line.

    Parameters
    ----------
    reason : str
        A backend's reason against a call.
    code : str
        How the part that was called is written in Python.
    """
    found = next((text for pattern, text in REMEDIES if re.search(pattern, reason)), None)
    if found is None:
        return None
    where = re.search(r"\(([^()\s]+:\d+) in [^()]+\)", reason)
    return found.format(line="" if where is None else where[1], code=code)
