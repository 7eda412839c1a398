"""Functions that no program has, and what to write in their place: rules that refuse with a reason.

Below the level of the state they stay calls to PyTorch, as every function without a rule.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unspool._reason import Reason
from unspool.program.rules.build import BRANCH, PLACES, CannotRead, axes_of
from unspool.program.rules.registry import Recorder, Rule, rule

_REASONS = {
    "argmax argmin": Reason(
        "gives the place of a feature, which no program has; h == h.amax(1, keepdim=True) marks it",
        "mark the place with h == h.amax(1, keepdim=True)",
    ),
    "topk kthvalue median nanmedian mode quantile": Reason(
        "orders features by their values, which no program has; amax, amin and comparisons are read",
        "use amax, amin and comparisons",
    ),
    "index_select gather take take_along_dim index_fill index_copy index_add index_put scatter scatter_add "
    "masked_scatter": PLACES,
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d unfold avg_pool1d max_pool1d": Reason(
        "runs over places of the state, which no program does; on the step's input it is read, and on the state as a "
        "product with a matrix",
        "apply it to the step's input, or write it as a product with a matrix",
    ),
    "equal allclose is_nonzero": Reason(
        "compares all rows at once for Python to branch on; torch.where chooses by row", BRANCH
    ),
    "long int short char half bfloat16": Reason(
        "changes the dtype, and a program has that of the state alone", "compute in the dtype of the state"
    ),
}


def _refusing(reason: Reason) -> Rule:
    def apply(rec: Recorder, result: Any, *args: Any, **kwargs: Any) -> None:
        raise CannotRead(reason)

    return apply


for _names, _reason in _REASONS.items():
    rule(*_names.split())(_refusing(_reason))


@rule("sort", "argsort", "msort")
def _sort(
    rec: Recorder, result: Any, x: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> None:
    if axes_of(rec.value(x), dim) is not None:  # else it lets sequences influence each other
        raise CannotRead(
            "orders features by their values, which no program has; amax and amin are read", "use amax and amin"
        )
