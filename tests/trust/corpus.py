"""All cases, by kind: a new one is a function in one of these files."""

from tests.trust import cells_code as cells_code
from tests.trust import cells_draws as cells_draws
from tests.trust import cells_effects as cells_effects
from tests.trust import cells_gradients as cells_gradients
from tests.trust import cells_stale as cells_stale
from tests.trust import cells_tensors as cells_tensors
from tests.trust.worlds import CASES as CASES
