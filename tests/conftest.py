"""What all tests share."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed.tensor  # which `torch.testing` imports at its first comparison, with a warning
from hypothesis import settings

# The same examples everywhere, nothing kept between runs, and no limit of time: a busy machine is no failure.
settings.register_profile("unspool", deadline=None, derandomize=True, database=None)
settings.load_profile("unspool")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Let a failure repeat, whichever tests ran before."""
    # Where there is no GPU, `torch.manual_seed` writes down who has called it for when there is one: for 3 ms.
    (torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed)(0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread: at these sizes threads cost more than they bring, up to ten times on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
