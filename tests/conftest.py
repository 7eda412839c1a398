"""What all tests share."""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.tensor  # which `torch.testing` imports at its first comparison, with a warning
from hypothesis import settings

from unspool.backends._buffers import BufferPool
from unspool.backends.native import missing

if missing:  # most tests would test something else
    raise pytest.UsageError(f"the tests need the engine, and {missing}")

# The same examples everywhere, nothing kept between runs, and no limit of time: a busy machine is no failure.
settings.register_profile("unspool", deadline=None, derandomize=True, database=None)
settings.load_profile("unspool")

gc.disable()  # until everything is collected: next to nothing of what is imported and collected is ever let go


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # As where a shell has started the tests in the background: processes of tests would inherit it, and hear no Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what stands now out of every search for garbage: there are millions of objects, and some tests search."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # compilers make many objects that stay: Python would look through them all along
    gc.enable()


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


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for UNSPOOL_CACHE_DIR where data sets as they are, which take seconds, are decoded once for all."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "decoded"


@pytest.fixture(scope="module")
def memory_of_nan() -> Iterator[None]:
    """Fill with NaN what PyTorch and the library hand out as empty memory: what nobody has written shows then."""

    def empty(pool: BufferPool, *arguments: Any) -> torch.Tensor:
        found = undefined(pool, *arguments)
        return found.fill_(float("nan")) if found.is_floating_point() else found

    undefined = BufferPool.empty
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BufferPool, "empty", empty)
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)
