"""All cases, by kind: a new one is a function in one of these files."""

from tests.trust import (
    cells_effects as cells_effects,
)
from tests.trust import (
    cells_stale as cells_stale,
)
from tests.trust.worlds import CASES as CASES
