"""Signals during a long run of the engine: Ctrl-C ends it soon, other handlers run and it goes on.

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
from tests.backends.processes import run_python

SIGNALS = """
import os, signal, sys, threading, time
import torch
import unspool as us

SECONDS = 0.6  # of one processor, so that a busy machine is no failure
torch.set_num_threads(1)


def layer_of(steps, backend="native"):
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` imports the compiler
    return us.LSTM(4, 384, batch_first=True, unroll=True, num_steps=steps, backend=backend)


def run(layer, x, lengths):
    with torch.no_grad():
        return layer(x, lengths=lengths)


def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start


probe, x = layer_of(400), torch.randn(1, 400, 4)
run(probe, x, None)
steps = int(400 * SECONDS / seconds(lambda: run(probe, x, None))) + 1
layer, plain = layer_of(steps), layer_of(steps, "reference")


def check():
    x = torch.randn(3, 5, 4)
    found = []
    for each in (layer, plain):
        y, _ = each(x, lengths=[5, 0, 2])
        found.append([y, *torch.autograd.grad(y.square().sum(), list(each.parameters()))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def interrupted(call):
    sent = []

    def interrupt():
        sent.append(time.process_time())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(SECONDS / 5, interrupt)
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        after = time.process_time() - sent[0]
    else:
        timer.cancel()
        sys.exit("the run ended before it was interrupted, or was not")
    assert after < SECONDS / 2, f"heard after {after:.2f} s of work"
    check()


def interrupts():
    x = torch.randn(2, steps, 4)
    check()
    interrupted(lambda: run(layer, x[:1], None))
    interrupted(lambda: run(layer, x, [steps, 2]))  # with two threads, one of them is soon done
    interrupted(lambda: run(layer, x, [2, steps]))
    y, _ = layer(x[:1, : steps // 2])
    interrupted(lambda: y.sum().backward())


def handlers(*batches):
    def handle(number, frame):
        heard.append(time.monotonic())
        assert torch.equal(run(layer, inner, [6, 3])[0], expected_inner)
        signal.setitimer(signal.ITIMER_REAL, 0.05 if at_work else 0)  # not while this runs, which may take long

    heard, inner = [], torch.randn(2, 6, 4)
    expected_inner = run(layer, inner, [6, 3])[0]
    x = torch.randn(2, steps // 2, 4)
    for lengths in batches:
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


def in_a_thread():
    heard = []
    signal.signal(signal.SIGALRM, lambda number, frame: heard.append(threading.current_thread()))
    thread = threading.Thread(target=run, args=(layer, torch.randn(1, steps // 3, 4), None))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    thread.start()
    thread.join()
    assert heard == [threading.main_thread()]


interrupts()
handlers([steps // 2, 2])
in_a_thread()
torch.set_num_threads(2)
interrupts()
handlers([steps // 2, 2], [steps // 2, steps // 2])
"""


def test_signals_in_a_process_of_its_own():
    """An interrupt ends a run, forward and backward, by blocks and by columns; kept plans and the next run stay right.

    A handler that does not raise runs, may run the engine itself, and the run goes on. Only the main thread looks for
    signals: elsewhere Python runs no handlers, so there a run must not wait for the interpreter.
    """
    run_python(SIGNALS)


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
