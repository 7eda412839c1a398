"""The native backend in a process's life: thousands of calls, many threads, worker processes.

Letters: B batch, T steps, I input size, H hidden size.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import unspool as US
from tests.backends import native_cells as N
from tests.backends.processes import run_python
from tests.conformance.oracle import leaves_of

# A process of its own: in this one, memory that other tests gave back would hide what leaks. Each round runs the
# engine forward and backward.
LEAK = """
import ctypes, gc, os
import torch, unspool

cell = unspool.LSTMCell(2, 3)
x = torch.randn(3, 4, 2)

def rounds(count):
    for k in range(count):
        y, s = unspool.dynamic_rnn(cell, x, [4, k % 5, 0], backend="native")
        (y.sum() + s.c.sum()).backward()
        cell.zero_grad()

class Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in _names]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo

def used():
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    info = mallinfo()
    return resident, info.uordblks + info.hblkhd

rounds(300)
before = used()
rounds(1000)
print(*(b - a for a, b in zip(before, used())))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc says what is allocated")
def test_thousands_of_runs_keep_no_memory():
    """Neither pages, nor pieces that fit into what other calls gave back."""
    resident, allocated = map(int, run_python(LEAK).split())
    assert resident < 512 * 1024, f"{resident} bytes more of memory, {resident / 1_000:.1f} a round"
    assert allocated < 24 * 1024, f"{allocated} bytes more allocated, {allocated / 1_000:.1f} a round"


def results(cell: Any, x: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    y, s = US.dynamic_rnn(cell, x, lengths, backend="native")
    loss = y.square().sum() + sum(leaf.sum() for leaf in leaves_of(s))
    return [y.detach(), *torch.autograd.grad(loss, list(cell.parameters()))]


def test_threads_with_cells_of_their_own():
    """At the same time: cells that are read for the first time, training, refused calls, and several threads inside."""
    cells = [US.LSTMCell, US.GRUCell, N.AttendingCell, N.NASCell, N.ScalarLSTMCell, N.LayerNormGRUCell]
    x, lengths = torch.randn(7, 6, 3), [6, 1, 0, 4, 6, 2, 3]
    made = [cell(3, 17) for cell in cells]
    found: list[Any] = [None] * len(made)
    go = threading.Barrier(len(made))

    def work(k: int) -> None:
        torch.set_num_threads(1 + k % 3)
        go.wait()
        for _ in range(10):
            found[k] = results(made[k], x, lengths)
            with pytest.raises(US.BackendError):
                US.dynamic_rnn(made[k], x.to(torch.bfloat16), lengths, backend="native")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cell, tensors in zip(made, found, strict=True):
        assert tensors is not None, f"{cell} failed"
        for a, b in zip(tensors, results(cell, x, lengths), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


class Encoded(Dataset[list[float]]):
    """Runs a cell where its items are asked for: in the workers of a `DataLoader`."""

    def __init__(self) -> None:
        self.cell = US.GRUCell(3, 5)
        self.x = torch.randn(8, 6, 3, generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> list[float]:
        with torch.no_grad():
            y, _ = US.dynamic_rnn(self.cell, self.x[index : index + 1], [1 + index % 6], backend="native")
        return y.flatten().tolist()  # plain numbers: tensors would need shared memory


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_workers_of_a_data_loader(threads):
    """Forked while the parent's threads are there, twice, and the parent goes on with them afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        data = Encoded()
        expected = [data[k] for k in range(len(data))]
        for _ in range(2):
            loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
            torch.testing.assert_close(list(loader), expected, rtol=0, atol=1e-6)
            assert [data[k] for k in range(len(data))] == expected
    finally:
        torch.set_num_threads(before)
