"""Signals during a long run of the engine: Ctrl-C ends it within a second, other handlers run and it goes on.

Letters: B batch, T steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import unspool as us
from tests.backends.test_native_process import run_python

LONG = """
import os, signal, sys, threading, time
import torch
import unspool as us

SECONDS = 3.0  # on one thread
torch.set_num_threads(1)


def layer_of(steps, backend="native"):
    torch.manual_seed(0)
    return us.LSTM(4, 384, batch_first=True, unroll=True, num_steps=steps, backend=backend)


def seconds(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


probe = layer_of(400)
with torch.no_grad():
    probe(torch.randn(1, 400, 4))
    steps = int(400 * SECONDS / seconds(lambda: probe(torch.randn(1, 400, 4)))) + 1
layer, plain = layer_of(steps), layer_of(steps, "reference")
torch.set_num_threads(int(sys.argv[1]))


def run(layer, x, lengths):
    with torch.no_grad():
        return layer(x, lengths=lengths)


def check():
    x = torch.randn(3, 5, 4)
    found = []
    for each in (layer, plain):
        y, _ = each(x, lengths=[5, 0, 2])
        found.append([y, *torch.autograd.grad(y.square().sum(), list(each.parameters()))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
"""

INTERRUPTED = """
def interrupted(call):
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, interrupt)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        after = time.monotonic() - sent[0]
    else:
        timer.cancel()
        sys.exit("the run ended before it was interrupted, or was not")
    assert after < 1.5, f"heard after {after:.2f} s"  # 0.1 s, but on a busy machine
    check()


x = torch.randn(2, steps, 4)
check()
interrupted(lambda: run(layer, x[:1], None))
interrupted(lambda: run(layer, x, [steps, 2]))  # with two threads, one of them is soon done
interrupted(lambda: run(layer, x, [2, steps]))
y, _ = layer(x[:1, : steps // 2])
interrupted(lambda: y.sum().backward())
"""

HANDLED = """
heard, inner = [], torch.randn(2, 6, 4)
expected_inner = run(layer, inner, [6, 3])[0]


def handle(number, frame):
    heard.append(time.monotonic())
    assert torch.equal(run(layer, inner, [6, 3])[0], expected_inner)
    signal.setitimer(signal.ITIMER_REAL, 0.05 if at_work else 0)  # not while this runs: on a busy machine that is long


x = torch.randn(2, steps, 4)[:, : steps // 3]
for lengths in ([steps // 3, 2], [steps // 3, steps // 3]):
    expected = run(layer, x, lengths)[0]
    heard.clear()
    signal.signal(signal.SIGALRM, handle)
    at_work = True
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    received = run(layer, x, lengths)[0]
    at_work = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    end = time.monotonic()
    assert sum(at < end - 0.1 for at in heard) > 1, (heard, end)
    assert torch.equal(received, expected)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_interrupt_ends_a_run_within_a_second(threads):
    """Forward and backward, by blocks and by columns; kept plans and the next run stay right."""
    run_python("-c", LONG + INTERRUPTED, threads)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_handler_that_does_not_raise_runs_and_the_run_goes_on(threads):
    """It may run the engine itself."""
    run_python("-c", LONG + HANDLED, threads)


def test_only_the_main_thread_looks_for_signals():
    """Elsewhere Python runs no handlers, so there a run must not wait for the interpreter."""
    run_python(
        "-c",
        LONG
        + """
heard = []
signal.signal(signal.SIGALRM, lambda number, frame: heard.append(threading.current_thread()))
thread = threading.Thread(target=run, args=(layer, torch.randn(1, steps // 3, 4), None))
signal.setitimer(signal.ITIMER_REAL, 0.3)
thread.start()
thread.join()
assert heard == [threading.main_thread()]
""",
        "1",
    )


def between_lines(call: Callable[[], Any], other: Callable[[], None]) -> tuple[Any, int]:
    """Call one function, and another between any two lines of it that are this package's; count how often."""
    package, times = str(Path(us.__file__).parent), 0

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal times
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            sys.settrace(None)
            other()
            times += 1
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(before)
    return result, times


@pytest.mark.parametrize("unroll", [False, True])
def test_a_handler_may_run_the_same_layer_between_any_two_lines_of_a_run(unroll):
    """Where a handler meets a lock that its own thread holds, both wait for ever."""
    torch.manual_seed(0)
    layer = us.LSTM(3, 40, unroll=unroll, num_steps=70 if unroll else None, backend="native")
    outer, inner = torch.randn(70, 130, 3), torch.randn(5, 2, 3)

    def run(x: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
        with torch.enable_grad():  # it may be off between these lines
            output, (h, c) = layer(x, lengths=torch.tensor(lengths))
            return [output, h, c, *torch.autograd.grad(output.square().sum(), list(layer.parameters()))]

    def handler() -> None:
        for received, wanted in zip(run(inner, [5, 2]), wanted_inner, strict=True):
            assert torch.equal(received, wanted)

    lengths = [70] * 100 + [3] * 30
    wanted_inner, wanted = run(inner, [5, 2]), run(outer, lengths)
    received, times = between_lines(lambda: run(outer, lengths), handler)
    assert times > 100
    for one, other in zip(received, wanted, strict=True):
        assert torch.equal(one, other)
