"""Memory of a training step: what it takes at its peak, against what backward must keep for the real tokens.

    kept    = 4 bytes * N * (features of `saved`, `output` and `state_tokens`, in the forward plan for training)
    results = 4 bytes * (T B I + parameters [+ T B H where lengths are not full])

`kept` is what the plan saves for every real token. `results` is what the step hands to its caller in any case: the
gradients of inputs and parameters and, where padding makes them another array than the outputs that are kept, the
padded outputs. `growth` is the peak of resident memory during the step less what was resident before it: inputs,
weights, the gradient of the outputs, and whatever a first step of the same layer over two time steps has left (code,
threads, plans). It is measured in a process of its own. A step is judged by (growth - results) / kept.

Letters: B rows, T steps, I input features, H hidden features, N real tokens.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.configurations import KINDS, SHAPES, Case, Kind, Lengths
from benchmarks.contenders import Data
from benchmarks.layers import layers
from unspool.comparison.peers.protocol import CLEAR, memory, reset_peak
from unspool.program.read import read_step
from unspool.program.step import StepProgram, forward_plan

NUMBER = 4
"""Bytes of a float32."""

ROLES = ("ours", "padded", "packed")
MIB = 2**20


def kept_features(kind: Kind, inputs: int, hidden: int) -> int:
    """Return how many numbers a training plan keeps for every real token.

    Parameters
    ----------
    kind : Kind
    inputs, hidden : int
        I and H.
    """
    cell = kind.cell(inputs, hidden)
    state = cell.initial_state(1)  # type: ignore[operator]
    plan = forward_plan(StepProgram.of(read_step(cell, torch.zeros(1, inputs), state, None)), True)
    return sum(width for (role, _), width in plan.arrays.items() if role.giver == "forward")


def kept_bytes(case: Case) -> int:
    """Return `kept`.

    Parameters
    ----------
    case : Case
        Of one batch.
    """
    return NUMBER * case.tokens * kept_features(case.kind, case.shape.inputs, case.shape.hidden)


def results_bytes(case: Case) -> int:
    """Return `results`.

    Parameters
    ----------
    case : Case
        Of one batch.
    """
    shape = case.shape
    places = int(shape.lengths(case.lengths).max()) * shape.batch
    features = shape.inputs if case.lengths == "full" else shape.inputs + shape.hidden
    parameters = sum(p.numel() for p in case.kind.cell(shape.inputs, shape.hidden).parameters())
    return NUMBER * (places * features + parameters)


def unmeasurable() -> str:
    """Return why memory cannot be measured; empty if it can."""
    return "" if os.access(CLEAR, os.W_OK) else f"{CLEAR} cannot be written; it is there on Linux only"


def measure_memory(case: Case) -> dict[str, float]:
    """Measure the memory of a training step of ours and of PyTorch's.

    Parameters
    ----------
    case : Case
        Of several batches, one is taken.

    Returns
    -------
    dict of str to float
        MiB: `kept`, `results`, and the growth by role; without those whose process was ended by the system.
    """
    case = one_batch(case)
    found = {"kept": kept_bytes(case), "results": results_bytes(case)}
    names = (case.shape.name, case.kind.name, case.lengths)
    for role in [layer.role for layer in layers(case) if layer.role in ROLES]:
        with suppress(BrokenExecutor):
            found[role] = in_fresh_process(growth, *names, role, torch.get_num_threads())
    return {name: value / MIB for name, value in found.items()}


def one_batch(case: Case) -> Case:
    """Return a case with at most one batch of reviews.

    Parameters
    ----------
    case : Case
    """
    return replace(case, shape=replace(case.shape, reviews=min(1, case.shape.reviews)))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process that is forked from one that has imported PyTorch and computed nothing.

    Parameters
    ----------
    function : callable
    *arguments
        Of the call.

    Raises
    ------
    BrokenExecutor
        If the process ends before the call does.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure", "benchmarks.table"])  # what a child would import itself
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def growth(shape_name: str, kind_name: str, lengths: Lengths, role: str, threads: int) -> int:
    """Return by how many bytes resident memory grows at the peak of a training step; to be called in a fresh process.

    Parameters
    ----------
    shape_name, kind_name, lengths : str
        The case, by names, since cells cannot be sent to another process.
    role : {"ours", "padded", "packed"}
    threads : int
    """
    torch.set_num_threads(threads)
    shape = next(shape for shape in SHAPES if shape.name == shape_name)
    case = one_batch(Case(shape, next(kind for kind in KINDS if kind.name == kind_name), lengths, "train"))
    layer = next(layer for layer in layers(case) if layer.role == role)
    Data(case.shortened(2)).runner(layer)()
    return peak_over(Data(case).runner(layer))


def peak_over(run: Callable[[], Any]) -> int:
    """Return by how many bytes resident memory grows at the peak of a call whose results are kept until its end.

    Parameters
    ----------
    run : callable
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # what is free goes back to the system, so that what is resident is in use
    before = reset_peak()
    assert before is not None, unmeasurable()
    results = run()
    after = memory("VmHWM")
    del results
    return after - before
