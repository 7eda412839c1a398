"""Some cases of every fuzzer of readers, always the same: see `readers.py` for as many as one likes."""

import pytest

from tests.fuzz.readers import Case
from tests.fuzz.targets import TARGETS

SLOW = 3  # those that build a model, train or draw
FAST = 15


@pytest.mark.filterwarnings("ignore")  # of Lightning about short runs; of what a damaged file may bring with it
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    case = Case(name, tmp_path)
    outcomes = [case.run(seed) for seed in range(SLOW if TARGETS[name].slow else FAST)]
    assert "refused" in outcomes
