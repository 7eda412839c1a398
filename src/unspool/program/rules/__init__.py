"""What PyTorch's functions mean in terms of a program: one rule per function name.

A rule takes the recorder, the result that PyTorch gave, and the call's arguments; it returns the value of the result, a
list of values where there are several results, or None where the call is beyond it. The same rule serves
`torch.f`, `torch.nn.functional.f` and `Tensor.f`.

`registry` is the table, `build` the words that rules are written in; `pointwise`, `functions`, `reductions`, `norms`,
`products`, `contractions`, `moves`, `cells` and `repeated` are the rules; `kinds` names the functions that are more, or
less, than a
computation; `unread` says of others what to write in their place.
"""

from unspool.program.rules import (  # noqa: F401
    cells,
    contractions,
    functions,
    moves,
    norms,
    pointwise,
    products,
    reductions,
    repeated,
    unread,
)
from unspool.program.rules.build import BRANCH as BRANCH
from unspool.program.rules.build import BROADCAST as BROADCAST
from unspool.program.rules.build import CannotRead as CannotRead
from unspool.program.rules.contractions import is_per_row as is_per_row
from unspool.program.rules.registry import BROADCASTS as BROADCASTS
from unspool.program.rules.registry import RULES as RULES
from unspool.program.rules.registry import apply as apply
